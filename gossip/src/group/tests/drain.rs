//! Members that leave.

use super::cluster::Cluster;
use super::*;

#[test]
fn who_leaves_is_drained_once_a_majority_of_those_who_stay_has_all_of_it() {
    // Five members; the last one leaves, and can be heard by the first only.
    let mut cluster = Cluster::new(21, 5);
    cluster.run_ms(10_000);
    let leaving = NodeId(5);
    cluster.cut(4);
    cluster.write(4, "k", put("v", Basis::Held), 1);
    cluster.group_mut(4).set_leaving(true);
    cluster.heal();
    for other in 1..4 {
        cluster.cut_pair(other, 4);
        cluster.cut_pair(0, other);
    }
    cluster.run_ms(20_000);
    assert_eq!(cluster.values(0, "k"), ["v"]);
    assert!(!cluster.group(0).is_drained(leaving), "one of the four who stay has it");
    cluster.heal();
    for other in 1..4 {
        cluster.cut_pair(other, 4);
    }
    cluster.run_ms(30_000);
    assert!(cluster.group(0).is_drained(leaving));
    assert!(!cluster.group(0).is_drained(NodeId(2)), "it does not leave");
    assert!(cluster.group(0).last_known(leaving).is_some_and(|(_, last)| last == 1));
    // After another start it has to say so again.
    cluster.restart(4);
    for other in 1..4 {
        cluster.cut_pair(other, 4);
    }
    cluster.run_ms(20_000);
    assert!(!cluster.group(0).is_drained(leaving));
    cluster.group_mut(4).set_leaving(true);
    cluster.run_ms(20_000);
    assert!(cluster.group(0).is_drained(leaving));
}
