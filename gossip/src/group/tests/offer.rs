//! Large values: offered, and fetched once.

use super::cluster::Cluster;
use super::*;
use crate::group::message::Message;
use crate::group::reads::TOLD_BYTES_MAX;

const LARGE: usize = 100_000;

fn large() -> (Body, Basis) {
    (Body::Value(vec![7; LARGE].into()), Basis::Held)
}

/// Bytes of rumors that all members have sent.
fn rumor_bytes(cluster: &Cluster) -> usize {
    let sent = (0..cluster.size()).map(|at| cluster.group(at).counts().traffic.rumors_sent);
    sent.sum::<u64>() as usize
}

fn fetched(cluster: &Cluster) -> u64 {
    (0..cluster.size()).map(|at| cluster.group(at).counts().fetched).sum()
}

#[test]
fn a_large_value_crosses_each_link_once() {
    let mut cluster = Cluster::new(21, 3);
    cluster.run_ms(3_000);
    let before = rumor_bytes(&cluster);
    let dot = cluster.write(0, "k", large(), 3);
    cluster.settle(50);
    for at in 1..3 {
        assert_eq!(cluster.values(at, "k")[0].len(), LARGE, "member {at}");
    }
    assert_eq!(fetched(&cluster), 2);
    let bytes = rumor_bytes(&cluster) - before;
    assert!((2 * LARGE..2 * LARGE + 1_000).contains(&bytes), "{bytes}");
    assert_eq!(cluster.acked(0), [Acked { dot, by: vec![NodeId(2), NodeId(3)] }]);
}

/// Pushed rumors tell some members several times; the value goes to each once.
#[test]
fn in_a_large_group_each_member_fetches_it_once() {
    let mut cluster = Cluster::new(22, 20);
    cluster.run_ms(3_000);
    let before = rumor_bytes(&cluster);
    cluster.write(0, "k", large(), 1);
    cluster.run_ms(15_000);
    cluster.assert_equal();
    assert_eq!(cluster.values(19, "k")[0].len(), LARGE);
    let (bytes, fetched) = (rumor_bytes(&cluster) - before, fetched(&cluster) as usize);
    // Some may have it by an exchange.
    assert!((5..=19).contains(&fetched), "{fetched}");
    assert!(bytes < (fetched + 10) * LARGE, "{fetched} times, and {bytes} bytes");
}

#[test]
fn small_values_are_not_offered() {
    let mut cluster = Cluster::new(23, 2);
    cluster.run_ms(3_000);
    let value = (Body::Value(vec![7; OFFERED_BYTES].into()), Basis::Held);
    cluster.write(0, "k", value, 2);
    cluster.settle(50);
    assert_eq!(cluster.values(1, "k")[0].len(), OFFERED_BYTES);
    assert_eq!(fetched(&cluster), 0);
    let over = (Body::Value(vec![7; OFFERED_BYTES + 1].into()), Basis::Held);
    cluster.write(0, "k", over, 2);
    cluster.settle(50);
    assert_eq!(fetched(&cluster), 1);
    assert_eq!(cluster.acked(0).len(), 2);
}

/// More than are fetched at a time, and all of them at once.
#[test]
fn many_offers_wait_their_turn() {
    let mut cluster = Cluster::new(24, 2);
    cluster.run_ms(3_000);
    for number in 0..5 * FETCHES_MAX {
        cluster.write(0, &format!("k{number}"), large(), 2);
    }
    cluster.settle(200);
    assert_eq!(fetched(&cluster), 5 * FETCHES_MAX as u64);
    assert_eq!(cluster.acked(0).len(), 5 * FETCHES_MAX);
    assert_eq!(cluster.group(1).counts().offers_left, 0);
}

#[test]
fn no_more_values_are_asked_for_at_a_time() {
    let mut cluster = Cluster::new(27, 2);
    cluster.run_ms(3_000);
    for number in 0..2 * FETCHES_MAX {
        cluster.write(0, &format!("k{number}"), large(), 1);
    }
    for (from, to, offer) in cluster.keep_back() {
        cluster.group_mut(to).receive(NodeId(from as u64 + 1), &offer);
    }
    assert_eq!(cluster.keep_back().len(), FETCHES_MAX);
}

#[test]
fn who_asks_for_a_value_again_and_again_is_not_answered_for_ever() {
    let mut cluster = Cluster::new(28, 2);
    cluster.run_ms(3_000);
    let dot = cluster.write(0, "k", large(), 2);
    cluster.settle(50);
    let fetch = Message::Fetch { dot }.encode(FoldNumber::ALL);
    for _ in 0..2 * TOLD_BYTES_MAX / LARGE {
        cluster.group_mut(0).receive(NodeId(2), &fetch);
    }
    let sent: usize = cluster.keep_back().iter().map(|(_, _, message)| message.len()).sum();
    assert!((TOLD_BYTES_MAX..TOLD_BYTES_MAX + 2 * LARGE).contains(&sent), "{sent}");
}

/// A write that ends a large one before that was fetched: the value goes nowhere, and both agree.
#[test]
fn what_was_superseded_is_not_fetched() {
    let mut cluster = Cluster::new(25, 2);
    cluster.run_ms(3_000);
    let before = rumor_bytes(&cluster);
    cluster.write(0, "k", large(), 1);
    cluster.write(0, "k", put("small", Basis::Held), 1);
    cluster.run_ms(5_000);
    cluster.assert_equal();
    assert_eq!(cluster.values(1, "k"), ["small"]);
    assert!(rumor_bytes(&cluster) - before < 1_000);
}

/// The offer, the question or the value got lost: an exchange brings it, and who waits hears of it.
#[test]
fn what_is_lost_comes_by_exchanges() {
    for seed in 0..30 {
        let mut cluster = Cluster::new(2_600 + seed, 3);
        cluster.run_ms(3_000);
        cluster.lose(50);
        for number in 0..4 {
            cluster.write(0, &format!("k{number}"), large(), 3);
        }
        cluster.run_ms(4_000);
        cluster.heal();
        cluster.run_ms(20_000);
        cluster.assert_equal();
        assert_eq!(cluster.values(2, "k3")[0].len(), LARGE);
        assert_eq!(cluster.acked(0).len(), 4, "seed {seed}");
    }
}

#[test]
fn strange_offers_change_nothing() {
    let mut cluster = Cluster::new(27, 2);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.run_ms(3_000);
    let before = cluster.group(0).replica().state().clone();
    let malformed = cluster.group(0).counts().malformed;
    let dot = Dot::new(ActorId::from_bytes([9; 16]), 4);
    let record = |body: Body| crate::record::Record {
        key: EntryKey::new(KEYSPACE, "k"),
        dot,
        stamp: Stamp::ZERO,
        rank: dot,
        body,
        deadline: None,
        context: crate::context::Context::new(Arc::default()),
    };
    let offer = |records: &[crate::record::Record]| {
        let (batch, _) = crate::batch::encode(records, usize::MAX, FoldNumber::ALL);
        Message::Offer { id: 5, batch: batch.into() }.encode(FoldNumber::ALL)
    };
    let bare = || record(Body::Value(Bytes::new()));
    let group = cluster.group_mut(0);
    for bytes in [
        offer(&[]),
        offer(&[record(Body::Value("v".into()))]),
        offer(&[record(Body::Certificate)]),
        offer(&[bare(), bare()]),
        Message::Offer { id: 5, batch: "strange".into() }.encode(FoldNumber::ALL),
    ] {
        group.receive(NodeId(2), &bytes);
    }
    assert_eq!(group.counts().malformed, malformed + 5);
    // Nobody has it, and it is asked for once.
    for _ in 0..3 {
        group.receive(NodeId(2), &offer(&[bare()]));
    }
    assert_eq!(group.poll().sends.len(), 1);
    // What is not here is not answered.
    group.receive(NodeId(2), &Message::Fetch { dot }.encode(FoldNumber::ALL));
    assert_eq!(group.poll().sends.len(), 0);
    assert_eq!(*group.replica().state(), before);
    cluster.run_ms(10_000);
    assert_eq!(cluster.group(0).counts().offers_left, 1);
}
