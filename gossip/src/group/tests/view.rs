//! What a member says of how far the group agrees.

use super::cluster::Cluster;
use super::*;

/// What member `at` says of member `of`.
fn seen(cluster: &Cluster, at: usize, of: usize) -> PeerView {
    let view = cluster.group(at).view();
    let node = NodeId(of as u64 + 1);
    view.peers.iter().find(|peer| peer.node == node).expect("it is a member").clone()
}

#[test]
fn what_differs_is_seen_while_it_does() {
    let mut cluster = Cluster::new(11, 3);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.run_ms(10_000);
    let before = seen(&cluster, 0, 2);
    let compared = before.compared.unwrap();
    assert!(compared.roots_agree && compared.ago_ms < 9_000, "{compared:?}");
    assert_eq!((compared.lacked_here, compared.lacked_there), (0, 0));
    assert_eq!((before.blocks, before.lag_ms, before.is_linked), (0, 0, true));

    cluster.cut(2);
    for number in 0..5 {
        cluster.write(0, &format!("k{number}"), put("v", Basis::Held), 1);
    }
    cluster.write(0, "k", (Body::Certificate, Basis::Held), 1);
    cluster.write(2, "k1", put("alone", Basis::Held), 1);
    assert_eq!(cluster.group(0).unreplicated(), 6, "nobody was told yet");
    cluster.run_ms(6_000);
    let away = seen(&cluster, 0, 2);
    assert!((4_900..=6_100).contains(&away.lag_ms), "{away:?}");
    assert_eq!((away.blocks, away.is_linked), (1, false), "{away:?}");
    assert_eq!(seen(&cluster, 0, 1).blocks, 0, "who has it holds up nothing");
    assert_eq!(cluster.group(0).view().certificates, 1);
    assert_eq!(cluster.group(0).unreplicated(), 0, "member 1 has all of it");
    assert_eq!(cluster.group(2).unreplicated(), 1, "nobody has it");

    cluster.heal();
    cluster.run_ms(10_000);
    let after = seen(&cluster, 0, 2);
    assert_eq!((after.blocks, after.lag_ms), (0, 0));
    assert!(after.level_ms.unwrap() < 9_000, "{after:?}");
    assert_eq!(cluster.group(2).unreplicated(), 0);
    let view = cluster.group(0).view();
    assert_eq!((view.certificates, view.conflicts, view.lag_ms()), (0, 1, 0), "{view:?}");
}

#[test]
fn what_the_other_lacked_is_counted_when_clocks_are_compared() {
    let mut cluster = Cluster::new(12, 2);
    cluster.run_ms(5_000);
    cluster.cut(1);
    for number in 0..7 {
        cluster.write(0, &format!("k{number}"), put("v", Basis::Held), 1);
    }
    cluster.run_ms(1_000);
    cluster.heal();
    // One round: the Hello of the other comes, and nothing of a session yet.
    cluster.group_mut(0).exchange_with_all();
    cluster.settle(2);
    cluster.group_mut(0).tick(10_000_000);
    let compared = seen(&cluster, 0, 1).compared.unwrap();
    assert_eq!((compared.lacked_here, compared.lacked_there), (0, 7));
    assert!(!compared.roots_agree);
}

#[test]
fn an_exchange_with_all_tells_at_once_what_they_have() {
    let mut cluster = Cluster::new(13, 3);
    cluster.run_ms(3_000);
    for number in 0..3 {
        cluster.write(0, &format!("k{number}"), put("v", Basis::Held), 1);
    }
    cluster.settle(50);
    assert_eq!(cluster.group(0).unreplicated(), 3, "it was mailed, and nobody said so");
    for _ in 0..2 {
        cluster.group_mut(0).exchange_with_all();
        cluster.settle(50);
    }
    assert_eq!(cluster.group(0).unreplicated(), 0);
}

/// What one says to the other is what the other hears.
#[test]
fn bytes_are_counted_on_both_sides() {
    let mut cluster = Cluster::new(14, 2);
    for number in 0..20 {
        cluster.write(0, &format!("k{number}"), put("v", Basis::Held), 2);
    }
    cluster.run_ms(5_000);
    cluster.settle(50);
    let (one, other) = (cluster.group(0).counts().traffic, cluster.group(1).counts().traffic);
    assert!(one.rumors_sent > 100 && one.sessions_sent > 0, "{one:?}");
    assert!(other.rumors_sent > 0, "acknowledgements: {other:?}");
    assert_eq!(one.rumors_sent, other.rumors_received);
    assert_eq!(one.rumors_received, other.rumors_sent);
    assert_eq!(one.sessions_sent, other.sessions_received);
    assert_eq!(one.sessions_received, other.sessions_sent);
}

#[test]
fn a_group_of_one_has_nobody_to_tell() {
    let mut cluster = Cluster::new(15, 1);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.run_ms(2_000);
    assert_eq!(cluster.group(0).unreplicated(), 0);
    assert_eq!(cluster.group(0).view().peers, []);
}
