//! Known accidents of other systems, played on the shipped core. B numbers are rows of the catalogue of failures; the
//! same on the model: `tests/catalogue.rs`.

use std::collections::{BTreeMap, BTreeSet};

use proto::NodeId;

use super::cluster::Cluster;
use super::put;
use crate::dot::Dot;
use crate::group::forgetting::KEEP_MS;
use crate::record::Body;
use crate::replica::Basis;

fn delete() -> (Body, Basis) {
    (Body::Certificate, Basis::Held)
}

/// Contexts and certificates that a member remembers.
fn remembered(cluster: &Cluster, at: usize) -> usize {
    let state = cluster.group(at).replica().state();
    state.remembered(state.clock(), None).count()
}

fn assert_values(cluster: &Cluster, key: &str, values: &[&str]) {
    for at in 0..cluster.size() {
        let mut found = cluster.values(at, key);
        found.sort();
        assert_eq!(found, values, "{key} at member {at}");
    }
}

#[test]
fn b52_b54_a_disk_that_was_rolled_back_or_copied_issues_no_dot_twice() {
    let mut cluster = Cluster::new(52, 3);
    let first = cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.settle(50);
    let disk = cluster.disk(0);
    let beyond = cluster.write(0, "beyond", put("beyond", Basis::Held), 1);
    cluster.settle(50);
    // Rolled back: the others know of a dot that this disk never issued.
    cluster.start_from(0, disk.clone());
    let after = cluster.write(0, "after", put("after", Basis::Held), 1);
    // Copied: two members have one disk.
    cluster.start_from(1, disk);
    let copied = cluster.write(1, "copied", put("copied", Basis::Held), 1);
    let dots: BTreeSet<Dot> = [first, beyond, after, copied].into();
    assert_eq!(dots.len(), 4, "no dot twice");
    let actors: BTreeSet<_> = [first, after, copied].map(|dot| dot.actor).into();
    assert_eq!(actors.len(), 3, "each start has an actor of its own");
    cluster.run_ms(20_000);
    cluster.assert_equal();
    for key in ["beyond", "after", "copied"] {
        assert_values(&cluster, key, &[key]);
    }
}

#[test]
fn b52_what_a_member_writes_after_it_lost_its_disk_stays() {
    let mut cluster = Cluster::new(152, 3);
    for number in 0..50 {
        cluster.write(0, &format!("k{number}"), put("old", Basis::Held), 1);
    }
    cluster.settle(50);
    cluster.start_from(0, BTreeMap::new());
    for number in 0..50 {
        // It holds nothing, so these supersede nothing.
        cluster.write(0, &format!("k{number}"), put("new", Basis::Held), 1);
    }
    cluster.run_ms(20_000);
    cluster.assert_equal();
    for number in 0..50 {
        assert_values(&cluster, &format!("k{number}"), &["new", "old"]);
    }
}

#[test]
fn b53_a_certificate_that_comes_after_it_was_forgotten_ends_nothing_new() {
    let mut cluster = Cluster::new(53, 3);
    cluster.write(0, "k", put("old", Basis::Held), 1);
    let old = cluster.keep_back();
    cluster.arrive(&old);
    cluster.write(0, "k", delete(), 1);
    let late = cluster.keep_back();
    assert_eq!(late.len(), 2, "the mail to both others");
    cluster.run_ms(30_000);
    assert_eq!([0, 1, 2].map(|at| remembered(&cluster, at)), [0; 3], "it is forgotten everywhere");
    cluster.write(1, "k", put("new", Basis::Held), 1);
    cluster.settle(50);
    cluster.arrive(&late);
    assert_values(&cluster, "k", &["new"]);
    // Nor does the mail of the deleted value bring it back.
    cluster.arrive(&old);
    cluster.run_ms(20_000);
    assert_values(&cluster, "k", &["new"]);
    cluster.assert_equal();
}

#[test]
fn b55_ten_thousand_puts_of_two_writers_leave_as_many_siblings_as_were_written_at_once() {
    let mut cluster = Cluster::new(55, 2);
    for round in 0..5_000 {
        for at in 0..2 {
            cluster.write(at, "k", put("v", Basis::Held), 1);
            assert_eq!(cluster.values(at, "k").len(), 1, "round {round}: over all that is held");
        }
        cluster.settle(50);
        for at in 0..2 {
            assert_eq!(cluster.values(at, "k").len(), 2, "round {round}: written at the same time");
        }
    }
    cluster.write(0, "k", put("last", Basis::Held), 1);
    cluster.run_ms(10_000);
    assert_values(&cluster, "k", &["last"]);
}

#[test]
fn b57_nothing_is_forgotten_before_all_members_have_said_that_they_have_it() {
    let mut cluster = Cluster::new(57, 3);
    cluster.cut(2);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.write(0, "k", delete(), 1);
    let mail = cluster.keep_back();
    // What a member said comes back to itself, as if from another: that is no word of another's.
    for (_, _, bytes) in &mail {
        cluster.group_mut(0).receive(NodeId(1), bytes);
        cluster.group_mut(0).receive(NodeId(2), bytes);
    }
    cluster.run_ms(30_000);
    assert!(cluster.values(1, "k").is_empty());
    assert_eq!(remembered(&cluster, 0), 1, "one member has not said that it has it");
    cluster.heal();
    cluster.run_ms(30_000);
    assert_eq!([0, 1, 2].map(|at| remembered(&cluster, at)), [0; 3]);
    assert_values(&cluster, "k", &[]);
    cluster.assert_equal();
}

#[test]
fn b58_walks_that_are_cut_off_again_and_again_end_under_writes() {
    let mut cluster = Cluster::new(58, 3);
    for number in 0..2_000 {
        cluster.write(0, &format!("k{number}"), put("v", Basis::Held), 1);
    }
    cluster.run_ms(5_000);
    cluster.cut(2);
    for number in (0..2_000).step_by(2) {
        cluster.write(1, &format!("k{number}"), delete(), 1);
    }
    cluster.jump_ms(2 * KEEP_MS);
    for round in 0..30 {
        cluster.heal();
        // Some messages of a walk, and no more.
        cluster.run_ms(50 * (round % 7));
        cluster.settle(round as usize % 5);
        cluster.write(0, &format!("more-{round}"), put("x", Basis::Held), 1);
        cluster.cut(2);
    }
    cluster.heal();
    cluster.run_ms(30_000);
    cluster.assert_equal();
    assert!(cluster.group(2).counts().flagged > 0);
    assert_values(&cluster, "k0", &[]);
    assert_values(&cluster, "k1", &["v"]);
    assert_values(&cluster, "more-29", &["x"]);
}

#[test]
fn b59_who_was_away_for_long_brings_its_writes_and_no_deleted_value() {
    let mut cluster = Cluster::new(59, 5);
    cluster.write(0, "deleted", put("old", Basis::Held), 1);
    cluster.write(0, "kept", put("old", Basis::Held), 1);
    cluster.settle(50);
    cluster.cut(4);
    cluster.write(1, "deleted", delete(), 1);
    cluster.write(4, "kept", put("alone", Basis::Held), 1);
    cluster.jump_ms(2 * KEEP_MS);
    assert!(cluster.group(1).counts().aged > 0, "the delete is forgotten");
    cluster.heal();
    cluster.run_ms(20_000);
    cluster.assert_equal();
    assert_values(&cluster, "deleted", &[]);
    assert_values(&cluster, "kept", &["alone"]);
}

#[test]
fn b60_a_clock_that_is_wrong_by_an_hour_decides_nothing() {
    const HOUR_MS: i64 = 3_600_000;
    for ahead_ms in [HOUR_MS, -HOUR_MS] {
        let mut cluster = Cluster::new(60, 3);
        cluster.set_ahead_ms(1, ahead_ms);
        for at in [0, 1, 2, 1, 0] {
            cluster.write(at, "k", put(["a", "b", "c"][at], Basis::Held), 1);
            cluster.settle(50);
            assert_values(&cluster, "k", &[["a", "b", "c"][at]]);
        }
        cluster.write(1, "k", delete(), 1);
        cluster.settle(50);
        assert_values(&cluster, "k", &[]);
        cluster.write(2, "k", put("after", Basis::Held), 1);
        cluster.run_ms(10_000);
        assert_values(&cluster, "k", &["after"]);
        cluster.assert_equal();
    }
}

#[test]
fn b61_members_that_forget_at_different_times_and_one_that_starts_empty_bring_nothing_back() {
    let mut cluster = Cluster::new(61, 4);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.settle(50);
    cluster.cut(3);
    cluster.write(0, "k", delete(), 1);
    cluster.run_ms(5_000);
    // One starts over, and has no age of anything; the others forget before it does.
    cluster.jump_ms(KEEP_MS / 2);
    cluster.start_from(1, BTreeMap::new());
    cluster.jump_ms(KEEP_MS * 2 / 3);
    let forgot = [0, 1, 2].map(|at| remembered(&cluster, at) == 0);
    assert!(forgot[0] && forgot[2], "{forgot:?}");
    assert_eq!(cluster.values(3, "k"), ["v"], "it has not heard of the delete");
    // The one that starts over meets the one that was away first.
    cluster.heal();
    for (one, other) in [(0, 3), (2, 3), (0, 1), (1, 2)] {
        cluster.cut_pair(one, other);
    }
    cluster.run_ms(10_000);
    cluster.heal();
    cluster.run_ms(20_000);
    cluster.assert_equal();
    assert_values(&cluster, "k", &[]);
}

#[test]
fn b62_a_member_that_died_and_was_removed_holds_up_nothing_and_its_place_starts_empty() {
    let mut cluster = Cluster::new(62, 3);
    cluster.write(2, "k", put("v", Basis::Held), 1);
    cluster.settle(50);
    cluster.cut(2);
    cluster.write(0, "k", delete(), 1);
    cluster.run_ms(20_000);
    assert_eq!(remembered(&cluster, 0), 1, "the dead one has not heard of it");
    for (at, other) in [(0, 2), (1, 1)] {
        cluster.group_mut(at).set_members(&[NodeId(other)].into());
    }
    cluster.run_ms(20_000);
    assert_eq!([0, 1].map(|at| remembered(&cluster, at)), [0; 2], "nobody waits for it");
    // What it still says is not heard.
    let before = cluster.group(0).counts();
    cluster.heal();
    cluster.run_ms(5_000);
    assert_eq!(cluster.group(0).counts().stored, before.stored);
    // Another one comes in its place, with an empty disk.
    cluster.start_from(2, BTreeMap::new());
    for at in [0, 1] {
        let others = (0..3).filter(|other| *other != at).map(|other| NodeId(other as u64 + 1));
        let others: BTreeSet<NodeId> = others.collect();
        cluster.group_mut(at).set_members(&others);
    }
    cluster.heal();
    cluster.write(2, "new", put("w", Basis::Held), 1);
    cluster.run_ms(20_000);
    cluster.assert_equal();
    assert_values(&cluster, "k", &[]);
    assert_values(&cluster, "new", &["w"]);
}
