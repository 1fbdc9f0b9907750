//! Replicas that lose something of what they store.

use super::*;

/// Removes an item from the store of a node behind its back.
fn lose(bench: &mut Bench, node: u64, key: &Bytes) {
    let one = bench.one(node);
    one.tickets += 1;
    let mut out = Outbox::new(Ticket(one.tickets));
    let removed = log::Item { key: key.clone(), value: None };
    one.replica.own_mut().append(vec![removed], &mut out);
    one.frames.append(&mut out.frames);
    one.replica.durable(Ticket(one.tickets));
}

fn items(bench: &mut Bench, node: u64) -> Vec<Bytes> {
    let items = bench.one(node).replica.own().items();
    items.map(|item| item.unwrap().key).collect()
}

fn restart(bench: &mut Bench, node: u64, start: u32) {
    let one = bench.nodes.remove(&NodeId(node)).unwrap();
    bench.nodes.insert(NodeId(node), one.restarted(NodeId(node), start));
}

/// Values, deletes, and what is concurrent; some only at the first node.
fn fill(bench: &mut Bench) {
    for key in ["a", "b", "c", "gone"] {
        bench.put(2, key, key);
    }
    bench.put(3, "large", &"x".repeat(3_000));
    let id = bench.send(3, SIBLINGS.0, delete("gone"), EventualOptions::default());
    bench.answer(id).unwrap();
    // Long enough for all to forget contexts.
    bench.pass(80);
    bench.put(1, "b", "newer");
    bench.cut(1, true);
    bench.put(1, "alone", "1");
    bench.put(3, "c", "elsewhere");
}

#[test]
fn any_one_item_may_be_gone_at_a_start() {
    let mut sample = Bench::new();
    fill(&mut sample);
    let kinds = items(&mut sample, 1);
    assert!(kinds.len() > 8, "{kinds:?}");
    for gone in &kinds {
        let mut bench = Bench::new();
        fill(&mut bench);
        // Actors are the same in each run.
        assert_eq!(items(&mut bench, 1), kinds);
        lose(&mut bench, 1, gone);
        restart(&mut bench, 1, 1);
        // Without the sums all that they are of is whole.
        let is_of_replica = !matches!(gone[0], b'w' | b'W' | b'R' | b'n');
        let counts = bench.one(1).replica.counts().unwrap();
        assert_eq!(counts.started_over, u64::from(is_of_replica), "without {gone:?}");
        if is_of_replica {
            let refused = bench.get(1, SIBLINGS.1, "a").unwrap_err();
            assert_eq!(refused.code, Code::Recovering, "without {gone:?}");
        }
        bench.pass(5);
        bench.cut(1, false);
        bench.pass(120);
        for node in 1..=NODES {
            assert_eq!(bench.values(node, "a"), ["a"], "at {node} without {gone:?}");
            assert_eq!(bench.values(node, "b"), ["newer"], "at {node} without {gone:?}");
            assert_eq!(bench.values(node, "c"), ["elsewhere"], "at {node} without {gone:?}");
            assert_eq!(bench.values(node, "large").len(), 1, "at {node} without {gone:?}");
            assert!(bench.values(node, "gone").is_empty(), "at {node} without {gone:?}");
            let is_lost = gone[0] == b'e' && gone.ends_with(b"alone");
            let alone = bench.values(node, "alone");
            assert_eq!(alone.is_empty(), is_lost, "at {node} without {gone:?}");
        }
        // What it began with is whole.
        restart(&mut bench, 1, 2);
        assert_eq!(bench.one(1).replica.counts().unwrap().started_over, 0);
        assert_eq!(bench.values(1, "b"), ["newer"]);
    }
}

/// Its own actor is a new one, and what it had acknowledged is there.
#[test]
fn who_started_over_writes_with_another_actor_and_keeps_what_it_acknowledged() {
    let mut bench = Bench::new();
    bench.cut(1, true);
    let before = bench.put(1, "k", "kept");
    lose(&mut bench, 1, &Bytes::from_static(b"c"));
    restart(&mut bench, 1, 1);
    let after = bench.put(1, "other", "x");
    assert_ne!(before.dot.unwrap().actor, after.dot.unwrap().actor);
    assert_eq!(bench.get(1, SIBLINGS.1, "k").unwrap_err().code, Code::Recovering);
    // A restart does not open the gate, and finds the store whole.
    restart(&mut bench, 1, 2);
    assert_eq!(bench.get(1, SIBLINGS.1, "k").unwrap_err().code, Code::Recovering);
    bench.cut(1, false);
    bench.pass(80);
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "k"), ["kept"], "at {node}");
        assert_eq!(bench.values(node, "other"), ["x"], "at {node}");
    }
}

/// The values of a single node have lost their contexts, and it has nobody to ask.
#[test]
fn a_replica_alone_takes_back_all_that_it_can_read() {
    let mut bench = Bench::new();
    bench.cut(1, true);
    let alone = || Configuration { epoch: 0, others: BTreeSet::new(), counts_itself: true };
    bench.one(1).replica.set_members(BTreeSet::new(), alone(), true);
    for key in ["a", "b", "c"] {
        bench.put(1, key, key);
    }
    bench.pass(80);
    lose(&mut bench, 1, &Bytes::from_static(b"c"));
    let one = bench.nodes.remove(&NodeId(1)).unwrap();
    let mut one = one.restarted(NodeId(1), 1);
    one.replica.set_members(BTreeSet::new(), alone(), true);
    bench.nodes.insert(NodeId(1), one);
    bench.pass(3);
    for key in ["a", "b", "c"] {
        assert_eq!(bench.values(1, key), [key]);
    }
    let counts = bench.one(1).replica.counts().unwrap();
    assert_eq!((counts.started_over, counts.rewritten), (1, 3));
}

/// Memory loses something, and what is stored is whole: the replica is read again, and refuses nothing for long.
#[test]
fn what_is_lost_in_memory_is_read_again() {
    let mut bench = Bench::new();
    bench.put(1, "k", "a");
    let group = &mut bench.one(1).replica.serving.as_mut().unwrap().group;
    let key = gossip::record::EntryKey::new(proto::KeyspaceId(SIBLINGS.0), "k");
    let of = group.entry(&key).unwrap().siblings().keys().next().copied().unwrap();
    group.lose(&key, of);
    let refused = bench.get(1, SIBLINGS.1, "k").unwrap_err();
    assert_eq!(refused.code, Code::Recovering);
    assert!(!bench.one(1).replica.serves());
    let id = bench.send(1, SIBLINGS.0, put("k", "b"), EventualOptions::default());
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::Recovering, Some(Applied::No)));
    assert!(bench.one(1).replica.may_join());
    bench.one(1).replica.join(secrets(), true).unwrap();
    assert_eq!(bench.values(1, "k"), ["a"], "nothing was lost");
    let counts = bench.one(1).replica.counts().unwrap();
    assert_eq!((counts.damaged, counts.started_over), (1, 0));
    bench.put(1, "k", "b");
    assert_eq!(bench.values(3, "k"), ["b"]);
}

/// Clients of a replica that ends hear what became of their writes.
#[test]
fn a_write_that_waits_for_others_is_answered_when_its_replica_ends() {
    let mut bench = Bench::new();
    bench.put(1, "k", "a");
    bench.one(3).is_slow = true;
    let waits = bench.send(1, SIBLINGS.0, put("all", "x"), ack(Ack::All));
    bench.settle();
    assert!(!bench.answers.contains_key(&waits));
    let group = &mut bench.one(1).replica.serving.as_mut().unwrap().group;
    let key = gossip::record::EntryKey::new(proto::KeyspaceId(SIBLINGS.0), "k");
    let of = group.entry(&key).unwrap().siblings().keys().next().copied().unwrap();
    group.lose(&key, of);
    bench.get(1, SIBLINGS.1, "k").unwrap_err();
    let reply = bench.answer(waits);
    assert_eq!(refusal(reply), (Code::AckMissed, Some(Applied::Yes)));
    bench.one(1).replica.join(secrets(), true).unwrap();
    assert_eq!(bench.values(1, "all"), ["x"]);
}

/// What the store has lost under a running node is found by the scrub and put again, and nothing else is noticed.
#[test]
fn the_scrub_puts_again_what_the_store_has_lost() {
    let mut sample = Bench::new();
    fill(&mut sample);
    for gone in items(&mut sample, 1) {
        if matches!(gone[0], b'w' | b'W' | b'R') {
            continue;
        }
        let mut bench = Bench::new();
        fill(&mut bench);
        let before = items(&mut bench, 1);
        lose(&mut bench, 1, &gone);
        let serving = bench.one(1).replica.serving.as_mut().unwrap();
        serving.scrub.begin();
        bench.pass(10);
        let counts = bench.one(1).replica.counts().unwrap();
        assert_eq!((counts.mended, counts.store_scrubs), (1, 1), "without {gone:?}");
        assert_eq!(items(&mut bench, 1), before);
        restart(&mut bench, 1, 1);
        assert_eq!(bench.one(1).replica.counts().unwrap().started_over, 0, "without {gone:?}");
        assert_eq!(bench.values(1, "alone"), ["1"]);
    }
}

/// A day passes, and each of the two scrubs is done once.
#[test]
fn everything_is_verified_once_a_day() {
    let mut bench = Bench::new();
    fill(&mut bench);
    let one = bench.one(1);
    for tick in [2, 3, scrub::SCRUB_TICKS + 100] {
        one.replica.tick(Ticks(1_000 + tick), &mut Outbox::new(Ticket(0)));
    }
    let first = 1_000 + scrub::SCRUB_TICKS + 100;
    for tick in first..first + 20 {
        one.replica.tick(Ticks(tick), &mut Outbox::new(Ticket(0)));
    }
    let counts = one.replica.counts().unwrap();
    assert_eq!((counts.scrubs, counts.store_scrubs), (1, 1));
    assert_eq!((counts.damaged, counts.mended), (0, 0));
}

/// Memory has lost a delete, or holds another value than was put: the store is left as it is, and read again.
#[test]
fn the_scrub_puts_nothing_over_what_the_store_has_otherwise() {
    let mut bench = Bench::new();
    bench.put(1, "k", "a");
    let beside = EventualOptions { beside: true, ..EventualOptions::default() };
    let id = bench.send(1, SIBLINGS.0, put("k", "b"), beside);
    bench.answer(id).unwrap();
    bench.put(1, "gone", "c");
    let id = bench.send(1, SIBLINGS.0, delete("gone"), EventualOptions::default());
    bench.answer(id).unwrap();
    for key in ["k", "gone"] {
        let before: Vec<_> = stored(&mut bench, 1);
        let serving = bench.one(1).replica.serving.as_mut().unwrap();
        let key = gossip::record::EntryKey::new(proto::KeyspaceId(SIBLINGS.0), key);
        let dot = *serving.group.entry(&key).unwrap().siblings().keys().next().unwrap();
        serving.group.lose(&key, dot);
        serving.scrub.begin();
        bench.pass(10);
        let counts = bench.one(1).replica.counts().unwrap();
        assert_eq!((counts.mended, counts.started_over), (0, 0));
        assert!(counts.damaged > 0);
        let after = stored(&mut bench, 1);
        assert!(before.iter().all(|item| after.contains(item)), "{key:?}");
        bench.one(1).replica.join(secrets(), true).unwrap();
        bench.pass(1);
    }
    assert_eq!(bench.values(1, "k"), ["a", "b"]);
    assert!(bench.values(1, "gone").is_empty());
}

/// The entries that are stored.
fn stored(bench: &mut Bench, node: u64) -> Vec<log::Item> {
    let items = bench.one(node).replica.own().items();
    items.map(|item| item.unwrap()).filter(|item| item.key[0] == b'e').collect()
}

/// A client that repeats a write that its node has lost is not told that it was applied.
#[test]
fn a_repeated_write_that_is_lost_is_not_acknowledged() {
    let mut bench = Bench::new();
    bench.cut(1, true);
    let (lost, kept) = (put("lost", "1"), put("kept", "2"));
    let id = bench.send_as(501, 1, SIBLINGS.0, lost.clone(), EventualOptions::default());
    bench.answer(id).unwrap();
    let id = bench.send_as(502, 1, SIBLINGS.0, kept.clone(), EventualOptions::default());
    bench.answer(id).unwrap();
    let gone =
        items(&mut bench, 1).into_iter().find(|key| key[0] == b'e' && key.ends_with(b"lost"));
    lose(&mut bench, 1, &gone.unwrap());
    restart(&mut bench, 1, 1);
    let id = bench.send_as(501, 1, SIBLINGS.0, lost, EventualOptions::default());
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::OutcomeForgotten, Some(Applied::Unknown)));
    let id = bench.send_as(502, 1, SIBLINGS.0, kept, EventualOptions::default());
    bench.answer(id).unwrap();
}

/// Who others are and which keyspaces there are has to be known before a replica begins with nothing.
#[test]
fn a_damaged_replica_waits_for_the_catalogue() {
    let mut bench = Bench::new();
    bench.put(1, "k", "a");
    lose(&mut bench, 1, &Bytes::from_static(b"c"));
    let one = bench.nodes.remove(&NodeId(1)).unwrap();
    let One { mut replica, .. } = one.before_it_joins(NodeId(1), 1, START_US);
    assert!(!replica.is_new(), "it looks as always");
    replica.join(secrets(), false).unwrap();
    assert!(replica.is_new() && !replica.serves());
    replica.join(secrets(), true).unwrap();
    assert!(replica.serves() && replica.is_recovering());
    assert_eq!(replica.counts().unwrap().started_over, 1);
}
