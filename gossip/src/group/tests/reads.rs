//! Reads that ask a majority: what they see, whom they mend, and who does not count.

use super::cluster::{Cluster, KEYSPACE, configuration};
use super::*;
use crate::actor::ActorId;
use crate::clock::{Fold, Folds};
use crate::context::Context;
use crate::hlc::Stamp;
use crate::record::{Body, Record};
use crate::replica::Basis;

fn values(gathered: &Gathered) -> Vec<Bytes> {
    let live = gathered.keys.iter().flat_map(|(_, joined)| joined.live.values());
    let values = live.map(|sibling| match &sibling.body {
        Body::Value(value) => value.clone(),
        Body::Certificate => unreachable!("a certificate is not live"),
    });
    values.collect()
}

/// All keys of the keyspace.
fn all(limit: usize) -> ReadRange {
    ReadRange {
        keyspace: KEYSPACE,
        from: Bytes::new(),
        to: Bytes::new(),
        limit,
        values: ReadValues::All,
    }
}

fn nodes(others: &[u64]) -> BTreeSet<NodeId> {
    others.iter().copied().map(NodeId).collect()
}

#[test]
fn a_quorum_read_sees_what_a_majority_acknowledged_and_mends_who_lacks_it() {
    let mut cluster = Cluster::new(1, 3);
    cluster.cut(2);
    let dot = cluster.write(0, "k", put("v", Basis::Held), 2);
    cluster.settle(50);
    assert_eq!(cluster.acked(0).len(), 1);
    cluster.heal();
    // Before any exchange: member 2 asks, and answers itself without it.
    let before = cluster.group(2).counts();
    let gathered = cluster.read(2, "k").unwrap();
    assert_eq!(values(&gathered), ["v"]);
    assert!(gathered.with_own && !gathered.by.is_empty());
    assert!(gathered.keys[0].1.seen.context.contains(dot));
    assert_eq!(cluster.values(2, "k"), ["v"], "it has it now");
    assert_eq!(cluster.group(2).counts().closed, before.closed, "by no session");
    assert!(cluster.group(2).counts().repaired > 0);
}

#[test]
fn who_answers_without_a_write_or_a_delete_is_sent_it() {
    let mut cluster = Cluster::new(2, 3);
    cluster.write(0, "gone", put("v", Basis::Held), 1);
    cluster.run_ms(5_000);
    cluster.cut(2);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.write(0, "gone", (Body::Certificate, Basis::Held), 1);
    cluster.settle(50);
    cluster.heal();
    cluster.cut_pair(0, 1);
    let before = cluster.group(2).counts().closed;
    let id = cluster.group_mut(0).read(all(10));
    cluster.settle(50);
    let (done, gathered) = cluster.group_mut(0).take_read().unwrap();
    let gathered = gathered.unwrap();
    assert_eq!((done, values(&gathered)), (id, vec![Bytes::from("v")]));
    assert_eq!(gathered.by, [NodeId(3)], "the other one that is left");
    assert_eq!(cluster.values(2, "k"), ["v"]);
    assert!(cluster.values(2, "gone").is_empty());
    assert_eq!(cluster.group(2).counts().closed, before);
}

/// With three members the second answer ends the read; the third one is mended all the same.
#[test]
fn an_answer_that_comes_late_is_mended_too() {
    let mut cluster = Cluster::new(3, 3);
    cluster.run_ms(5_000);
    cluster.cut(2);
    cluster.write(0, "k", put("v", Basis::Held), 2);
    cluster.settle(50);
    cluster.heal();
    let before = cluster.group(2).counts().closed;
    cluster.group_mut(0).read(all(10));
    cluster.settle(50);
    assert_eq!(cluster.values(2, "k"), ["v"]);
    assert_eq!(cluster.group(2).counts().closed, before, "by no session");
}

#[test]
fn a_minority_says_so_and_hangs_nowhere() {
    let mut cluster = Cluster::new(4, 5);
    cluster.write(0, "k", put("v", Basis::Held), 3);
    cluster.settle(50);
    for other in [2, 3, 4] {
        cluster.cut_pair(0, other);
    }
    let missed = cluster.read(0, "k").unwrap_err();
    assert_eq!((missed.counted, missed.needed), (1, 3));
    // Links that break while the read waits end it too.
    cluster.heal();
    let id = cluster.group_mut(0).read(all(10));
    for other in [2, 3, 4] {
        cluster.cut_pair(0, other);
    }
    cluster.run_ms(100);
    let (done, read) = cluster.group_mut(0).take_read().unwrap();
    assert_eq!((done, read.unwrap_err().needed), (id, 3));
}

#[test]
fn a_recovering_member_does_not_count() {
    let mut cluster = Cluster::new(5, 3);
    cluster.write(0, "k", put("v", Basis::Held), 2);
    cluster.settle(50);
    cluster.group_mut(1).set_recovering(true);
    cluster.cut(2);
    let missed = cluster.read(0, "k").unwrap_err();
    assert_eq!((missed.counted, missed.needed), (1, 2));
    assert_eq!(missed.refused.get(&NodeId(2)), Some(&Unread::Recovering));
    cluster.heal();
    let gathered = cluster.read(0, "k").unwrap();
    assert_eq!(gathered.by, [NodeId(3)]);
    // It may ask others, and is none of them.
    let gathered = cluster.read(1, "k").unwrap();
    assert_eq!((values(&gathered).len(), gathered.with_own, gathered.by.len()), (1, false, 2));
}

#[test]
fn an_answer_of_another_configuration_does_not_count_until_it_follows() {
    let mut cluster = Cluster::new(6, 3);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    let id = cluster.group_mut(0).read(all(10));
    // The reader comes to another one while it waits: its read begins anew.
    let others = nodes(&[2, 3]);
    cluster.group_mut(0).configure(&others, configuration(&others, 1));
    cluster.settle(50);
    assert!(cluster.group_mut(0).take_read().is_none(), "nobody follows it");
    let asked = cluster.group_mut(1).read(all(10));
    cluster.settle(50);
    let (done, read) = cluster.group_mut(1).take_read().unwrap();
    assert_eq!((done, read.unwrap().by), (asked, vec![NodeId(3)]), "the old one goes on");
    let others = nodes(&[1, 3]);
    cluster.group_mut(1).configure(&others, configuration(&others, 1));
    cluster.run_ms(1_000);
    let (done, read) = cluster.group_mut(0).take_read().unwrap();
    assert_eq!((done, read.unwrap().by), (id, vec![NodeId(2)]));
    assert_eq!(cluster.group(0).followers(&nodes(&[2, 3])), 1);
}

/// A member that is asked twice answers twice, and less the second time.
#[test]
fn a_second_answer_takes_the_place_of_the_first_in_what_is_counted() {
    let mut cluster = Cluster::new(8, 5);
    cluster.write(1, "k", put("a value of some length", Basis::Held), 1);
    cluster.settle(50);
    let id = cluster.group_mut(0).read(all(10));
    let answer = |cluster: &Cluster| {
        let group = cluster.group(1);
        let (epoch, told) = (
            group.configuration().epoch,
            Told::of(group.replica(), &all(10), Some(FoldNumber::NONE)),
        );
        Message::Answer { id, epoch, told }.encode(FoldNumber::ALL)
    };
    let long = answer(&cluster);
    cluster.write(1, "k", (Body::Certificate, Basis::Held), 1);
    let short = answer(&cluster);
    assert!(short.len() < long.len());
    for bytes in [&long, &short] {
        cluster.group_mut(0).receive(NodeId(2), bytes);
    }
    assert!(cluster.group(0).reads.bytes > 0, "two more are waited for");
    cluster.settle(50);
    assert!(cluster.group_mut(0).take_read().unwrap().1.is_ok());
    assert_eq!(cluster.group(0).reads.bytes, 0);
}

/// What was said in another configuration does not count for an acknowledgement, and is counted once it is said again.
#[test]
fn acknowledgements_count_in_one_configuration_only() {
    let mut cluster = Cluster::new(7, 3);
    let others = nodes(&[2, 3]);
    cluster.group_mut(0).configure(&others, configuration(&others, 1));
    cluster.write(0, "k", put("v", Basis::Held), 2);
    cluster.settle(50);
    assert_eq!(cluster.acked(0), []);
    assert_eq!(cluster.values(1, "k"), ["v"], "it is there all the same");
    for at in [1_u64, 2] {
        let others: BTreeSet<NodeId> = (1..=3).map(NodeId).collect();
        let others = others.into_iter().filter(|node| node.get() != at + 1).collect();
        cluster.group_mut(at as usize).configure(&others, configuration(&others, 1));
    }
    cluster.run_ms(10_000);
    assert_eq!(cluster.acked(0).len(), 1, "their clocks say so");
}

#[test]
fn a_listing_merges_key_by_key() {
    let mut cluster = Cluster::new(8, 3);
    cluster.write(0, "old", put("v", Basis::Held), 1);
    cluster.run_ms(5_000);
    cluster.cut(2);
    cluster.write(0, "old", (Body::Certificate, Basis::Held), 1);
    cluster.write(0, "both", put("left", Basis::Held), 1);
    cluster.write(2, "both", put("right", Basis::Held), 1);
    cluster.write(2, "right", put("right", Basis::Held), 1);
    cluster.settle(50);
    cluster.heal();
    cluster.cut_pair(1, 2);
    let gathered = cluster.read_range(2, all(10)).unwrap();
    let live =
        |(key, joined): &(EntryKey, crate::quorum::Joined)| (key.key.clone(), joined.live.len());
    let found: Vec<(Bytes, usize)> = gathered.keys.iter().map(live).collect();
    let expected = [("both", 2), ("old", 0), ("right", 1)];
    assert_eq!(found, expected.map(|(key, count)| (Bytes::from(key), count)));
    assert_eq!(gathered.next, None);
}

/// Pages end where the shortest answer does.
#[test]
fn a_listing_goes_on_behind_what_all_have_told() {
    let mut cluster = Cluster::new(9, 3);
    cluster.cut(2);
    for number in 0..10 {
        cluster.write(number % 2, &format!("k{number}"), put("v", Basis::Held), 1);
        cluster.write(2, &format!("z{number}"), put("v", Basis::Held), 1);
    }
    cluster.settle(50);
    cluster.heal();
    let (mut from, mut found) = (Bytes::new(), Vec::new());
    for _ in 0..20 {
        let range = ReadRange { from: from.clone(), ..all(3) };
        let id = cluster.group_mut(2).read(range);
        cluster.settle(1);
        cluster.settle(1);
        cluster.settle(1);
        let (done, read) = cluster.group_mut(2).take_read().unwrap();
        assert_eq!(done, id);
        let gathered = read.unwrap();
        found.extend(gathered.keys.iter().map(|(key, _)| key.key.clone()));
        match gathered.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(found.len(), 20, "{found:?}");
    assert!(found.is_sorted());
}

/// Values that together are too long for a message are left out, the oldest first, and can be asked for.
#[test]
fn values_that_have_no_room_are_named_and_asked_for() {
    let mut cluster = Cluster::new(10, 3);
    let length = ANSWER_VALUES_MAX / 4;
    cluster.cut(2);
    for number in 0..6_u8 {
        let body = Body::Value(vec![number; length].into());
        cluster.write(0, "k", (body, Basis::Nothing), 1);
    }
    cluster.settle(50);
    cluster.heal();
    cluster.cut_pair(0, 1);
    let gathered = cluster.read(2, "k").unwrap();
    let (_, joined) = &gathered.keys[0];
    assert_eq!((joined.live.len(), gathered.left_out.len()), (6, 2));
    assert!(gathered.left_out.values().all(|left| *left == length as u64));
    let oldest = |number: u8| Bytes::from(vec![number; length]);
    assert!(!values(&gathered).contains(&oldest(0)), "the newest are told first");
    assert!(values(&gathered).contains(&oldest(5)));
    let first = gathered.left_out.keys().map(|dot| value_place(*dot, &joined.live[dot])).max();
    let key = EntryKey::new(KEYSPACE, "k");
    let rest = ReadRange::of_key(&key, ReadValues::From(first.unwrap()));
    let rest = cluster.read_range(2, rest).unwrap();
    assert!(values(&rest).contains(&oldest(0)) && values(&rest).contains(&oldest(1)));
}

/// A fold costs nothing in bytes, and whoever reads a clock has all of its tracks in memory: so there is a limit to these.
#[test]
fn an_answer_has_no_more_tracks_than_its_reader_takes() {
    const FOLDS: u32 = 2_000;
    const KEYS: usize = 600;
    let mut cluster = Cluster::new(21, 1);
    let mut folds = Folds::default();
    for number in 1..=FOLDS {
        let mut id = [9; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let dot = Dot::new(ActorId::from_bytes(id), 1);
        let fold = Fold { number: FoldNumber(number), actor: dot.actor, last: 1 };
        folds.learn(fold);
        let record = Record {
            key: EntryKey::new(KEYSPACE, "former"),
            dot,
            stamp: Stamp::ZERO,
            rank: dot,
            body: Body::Certificate,
            deadline: None,
            context: Context::new(Arc::default()),
        };
        let _ = cluster.group_mut(0).replica.apply(&record).unwrap();
    }
    while cluster.group_mut(0).fold(&folds) {}
    // Each has a token of its own, so no two contexts share a clock.
    for number in 0..KEYS {
        let context = Arc::new(cluster.group(0).replica().state().clock().clone());
        let seen = Basis::Seen { context, stamp: Stamp::ZERO };
        cluster.write(0, &format!("k{number:04}"), put("v", seen), 1);
    }
    let range = ReadRange { from: "k".into(), ..all(KEYS) };
    let told = Told::of(cluster.group(0).replica(), &range, Some(FoldNumber::ALL)).unwrap();
    assert!(told.next.is_some() && told.keys.len() > KEYS / 2, "{}", told.keys.len());
    let answer = Message::Answer { id: 1, epoch: 0, told: Ok(told) }.encode(FoldNumber::ALL);
    let read = Message::decode(&answer, &folds);
    assert!(matches!(read, Ok(Message::Answer { told: Ok(_), .. })), "{:?}", read.err());
}
