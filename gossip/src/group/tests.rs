//! Members of a group and a network that loses, doubles and delays.

mod catalogue;
mod cluster;
mod cover;
mod damage;
mod drain;
mod offer;
mod reads;
mod retirement;
mod view;

use std::collections::BTreeSet;

use proto::NodeId;

use self::cluster::{Cluster, KEYSPACE, configuration};
use super::message::Refusal;
use super::*;
use crate::record::Body;
use crate::replica::Basis;

fn put(value: &'static str, basis: Basis) -> (Body, Basis) {
    (Body::Value(value.into()), basis)
}

#[test]
fn a_write_reaches_all_by_mail_and_is_forgotten_when_all_have_it() {
    let mut cluster = Cluster::new(1, 3);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.settle(50);
    for at in 0..3 {
        assert_eq!(cluster.values(at, "k"), ["v"], "member {at}");
    }
    let stored: u64 = (0..3).map(|at| cluster.group(at).counts().stored).sum();
    assert_eq!(stored, 2, "by mail alone");
    cluster.run_ms(20_000);
    for at in 0..3 {
        let state = cluster.group(at).replica().state();
        assert_eq!(state.remembered(state.clock(), None).count(), 0, "member {at}");
    }
    cluster.write(1, "k", (Body::Certificate, Basis::Held), 1);
    cluster.run_ms(20_000);
    for at in 0..3 {
        assert!(cluster.group(at).replica().state().entries().next().is_none(), "member {at}");
    }
}

#[test]
fn what_the_mail_lost_comes_by_exchanges() {
    let mut cluster = Cluster::new(2, 3);
    cluster.cut(0);
    for number in 0..200 {
        let value = put("v", Basis::Held);
        cluster.write(0, &format!("alone-{number}"), value.clone(), 1);
        cluster.write(1, &format!("others-{number}"), value, 1);
    }
    cluster.run_ms(5_000);
    assert!(cluster.values(1, "alone-7").is_empty());
    cluster.heal();
    cluster.run_ms(10_000);
    cluster.assert_equal();
    assert_eq!(cluster.values(2, "alone-199"), ["v"]);
    assert_eq!(cluster.values(0, "others-0"), ["v"]);
    assert_eq!(cluster.flagged(), 0);
}

/// The links of nodes come up before their replicas begin.
#[test]
fn who_begins_last_is_met_at_once_though_nobody_heard_the_first_hellos() {
    let mut cluster = Cluster::new(4, 2);
    cluster.lose(100);
    cluster.run_ms(3_000);
    assert!((0..2).all(|at| cluster.group(at).counts().exchanges > 0), "both have asked");
    cluster.lose(0);
    // The second begins only now. For the first the link never broke.
    cluster.group_mut(1).link(NodeId(1), false);
    cluster.group_mut(1).link(NodeId(1), true);
    cluster.run_ms(400);
    for at in 0..2 {
        assert!(cluster.group(at).has_met_all(), "member {at}");
    }
}

#[test]
fn b59_who_was_away_while_deletes_were_forgotten_walks_the_tree() {
    let mut cluster = Cluster::new(3, 3);
    for number in 0..300 {
        cluster.write(0, &format!("k{number}"), put("v", Basis::Held), 1);
    }
    cluster.run_ms(5_000);
    cluster.cut(2);
    for number in 0..300 {
        if number % 3 == 0 {
            cluster.write(1, &format!("k{number}"), (Body::Certificate, Basis::Held), 1);
        }
    }
    cluster.write(2, "k1", put("alone", Basis::Held), 1);
    // Long enough that the others forget by age what member 2 was never told.
    cluster.jump_ms(2 * forgetting::KEEP_MS);
    let (aged, away) = (cluster.group(0).counts().aged, cluster.group(2).counts());
    assert!(aged >= 100, "{aged}");
    assert_eq!(away.flagged, 0);
    cluster.heal();
    cluster.run_ms(10_000);
    cluster.assert_equal();
    assert!(cluster.group(2).counts().flagged > 0);
    assert!(cluster.values(2, "k0").is_empty(), "a delete stays");
    assert_eq!(cluster.values(0, "k1"), ["alone"], "what was written alone stays");
    assert_eq!(cluster.values(2, "k2"), ["v"]);
}

/// More keys differ than a sender remembers, and writes go on.
#[test]
fn b58_a_walk_of_many_keys_ends_under_writes_and_no_delete_comes_back() {
    let mut cluster = Cluster::new(7, 3);
    for number in 0..6_000 {
        cluster.write(0, &format!("k{number}"), put("v", Basis::Held), 1);
    }
    cluster.run_ms(5_000);
    cluster.cut(2);
    for number in 0..6_000 {
        let what =
            if number % 3 == 0 { (Body::Certificate, Basis::Held) } else { put("w", Basis::Held) };
        cluster.write(1, &format!("k{number}"), what, 1);
    }
    cluster.jump_ms(2 * forgetting::KEEP_MS);
    cluster.heal();
    for round in 0..100 {
        cluster.write(0, &format!("k{}", 6_000 + round), put("x", Basis::Held), 1);
        cluster.run_ms(100);
    }
    cluster.run_ms(10_000);
    cluster.assert_equal();
    assert!(cluster.group(2).counts().flagged > 0);
    assert!(cluster.values(2, "k0").is_empty() && cluster.values(2, "k5997").is_empty());
    assert_eq!(cluster.values(2, "k1"), ["w"]);
}

#[test]
fn acknowledgements_are_counted_when_they_are_durable() {
    let mut cluster = Cluster::new(4, 5);
    let dot = cluster.write(0, "k", put("v", Basis::Held), 3);
    assert_eq!(cluster.acked(0), []);
    cluster.settle(50);
    let acked = cluster.acked(0);
    assert_eq!(acked.len(), 1);
    assert_eq!(acked[0].dot, dot);
    assert!(acked[0].by.len() >= 2, "{acked:?}");
    // With one other member at most there is no third.
    cluster.cut_pair(3, 0);
    cluster.cut_pair(4, 0);
    cluster.cut_pair(2, 0);
    let dot = cluster.write(0, "k", put("w", Basis::Held), 3);
    cluster.settle(50);
    assert_eq!(cluster.acked(0), []);
    assert_eq!(cluster.group(0).holders(dot), [NodeId(2)]);
    cluster.group_mut(0).give_up(dot);
    assert_eq!(cluster.group(0).holders(dot), []);
}

#[test]
fn who_has_met_all_has_what_all_had() {
    let mut cluster = Cluster::new(8, 3);
    cluster.cut(2);
    cluster.write(1, "k", put("v", Basis::Held), 1);
    cluster.run_ms(10_000);
    assert!(!cluster.group(2).has_met_all());
    assert!(!cluster.group(0).has_met_all(), "two are not all");
    cluster.heal();
    cluster.cut_pair(1, 2);
    cluster.run_ms(10_000);
    assert!(cluster.group(0).has_met_all());
    assert!(!cluster.group(2).has_met_all());
    cluster.heal();
    cluster.run_ms(20_000);
    assert!(cluster.group(2).has_met_all());
    // A member that comes was not met.
    let others: BTreeSet<NodeId> = [1, 2, 9].map(NodeId).into();
    cluster.group_mut(2).configure(&others, configuration(&others, 1));
    assert!(!cluster.group(2).has_met_all());
}

/// A client may know what the disk does not: it was rolled back, or copied. The write is taken all the same, by
/// another actor, so no dot is issued twice.
#[test]
fn a_context_that_knows_more_than_the_disk_mints_another_actor() {
    let mut cluster = Cluster::new(9, 2);
    let first = cluster.write(0, "k", put("v", Basis::Held), 1);
    let mut known = Clock::default();
    for counter in 1..=first.counter + 5 {
        known.add(Dot { counter, ..first });
    }
    let seen = Basis::Seen { context: Arc::new(known), stamp: Stamp::ZERO };
    let second = cluster.write(0, "k", put("w", seen), 1);
    assert_ne!(second.actor, first.actor);
    assert_eq!(cluster.group(0).counts().minted, 1);
    cluster.run_ms(5_000);
    assert_eq!(cluster.values(1, "k"), ["w"]);
}

#[test]
fn strange_messages_change_nothing() {
    let mut cluster = Cluster::new(5, 2);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.run_ms(3_000);
    let before = cluster.group(0).replica().state().clone();
    let group = cluster.group_mut(0);
    let node = NodeId(2);
    let strange = [
        Message::Taken { session: 9, number: u64::MAX },
        Message::Walked { session: 9, tells: 0 },
        Message::Tell { session: 9, number: 0, keys: vec![EntryKey::new(KEYSPACE, "k")] },
        Message::Stored { id: 7, epoch: 0 },
        Message::Answer { id: 7, epoch: 0, told: Err(Unread::Damaged) },
        Message::Rumor { id: 7, batch: "strange".into() },
        Message::Refused { session: 9, why: Refusal::Unknown },
        Message::Ask { session: 9, nodes: Vec::new() },
        Message::Below { session: 9, nodes: Vec::new() },
        Message::Stands { id: 9, actor: ActorId::from_bytes([1; 16]), is_whole: true },
    ];
    for message in strange {
        let bytes = message.encode(FoldNumber::ALL);
        group.receive(node, &bytes);
        group.receive(NodeId(77), &bytes);
        group.receive(node, &bytes[..bytes.len() - 1]);
    }
    assert_eq!(group.counts().malformed, 11);
    assert_eq!(*group.replica().state(), before);
}

/// Writes, deletes, values that expire, cuts, losses, restarts; then all links, and everybody has the same.
#[test]
fn random_schedules_converge() {
    let mut sum = Counts::default();
    for seed in 0..150 {
        let mut cluster = Cluster::new(seed, 2 + (seed as usize % 4));
        cluster.play(120);
        cluster.heal();
        cluster.run_ms(60_000);
        cluster.assert_equal();
        for at in 0..cluster.size() {
            let counts = cluster.group(at).counts();
            assert_eq!(cluster.group(at).deadlines(), 0, "seed {seed}: what expired has ended");
            sum.expired += counts.expired;
            sum.expired_for_others += counts.expired_for_others;
            sum.closed += counts.closed;
            sum.flagged += counts.flagged;
            sum.not_closed += counts.not_closed;
            sum.silent += counts.silent;
            sum.aged += counts.aged;
        }
    }
    assert!(sum.expired > 100 && sum.expired_for_others > 10, "{sum:?}");
    assert!(sum.closed > 100 && sum.flagged > 20 && sum.not_closed + sum.silent > 10, "{sum:?}");
}

#[test]
fn large_groups_push_rumors() {
    let mut cluster = Cluster::new(6, 20);
    let others: BTreeSet<NodeId> = (2..=20).map(NodeId).collect();
    cluster.group_mut(0).configure(&others, configuration(&others, 0));
    cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.run_ms(15_000);
    cluster.assert_equal();
    assert_eq!(cluster.values(19, "k"), ["v"]);
}
