//! Reads of level `quorum`: what they see through any member, and when there is none.

use super::*;

const QUORUM: (Level, ReadPlan) = (Level::Quorum, ReadPlan::AskMajority);

/// What a quorum read found, and who answered.
type Joined = Result<(Found, Vec<NodeId>), Failure>;

impl Bench {
    fn ask_quorum(&mut self, node: u64, query: Query) -> RequestId {
        self.ask(node, SIBLINGS.1, query, QUORUM)
    }

    /// The answer to a quorum read, if there is one without time passing.
    fn joined(&mut self, id: RequestId) -> Option<Joined> {
        self.settle();
        Some(match self.answers.remove(&id)? {
            Ok(Answered::Read { found, level, answered_by, .. }) => {
                assert_eq!(level, Level::Quorum);
                Ok((found, answered_by))
            }
            Ok(other) => panic!("{other:?}"),
            Err(failure) => Err(failure),
        })
    }

    fn quorum_get(&mut self, node: u64, key: &str) -> Result<(v1::GetReply, Vec<NodeId>), Failure> {
        let id = self.ask_quorum(node, get(key));
        match self.joined(id).expect("it is answered")? {
            (Found::Siblings(reply), by) => Ok((*reply, by)),
            other => panic!("{other:?}"),
        }
    }

    fn quorum_values(&mut self, node: u64, key: &str) -> Vec<String> {
        let (reply, by) = self.quorum_get(node, key).unwrap();
        assert!(by.len() >= 2, "{by:?}");
        texts(&reply.siblings)
    }

    fn quorum_page(&mut self, node: u64, query: RangeQuery) -> v1::RangeReply {
        let id = self.ask_quorum(node, Query::Range(query));
        match self.joined(id).expect("it is answered").unwrap() {
            (Found::Entries(reply), _) => *reply,
            other => panic!("{other:?}"),
        }
    }

    fn put_quorum(&mut self, node: u64, key: &str, value: &str) -> v1::Written {
        let id = self.send(node, SIBLINGS.0, put(key, value), ack(Ack::Quorum));
        written(self.answer(id).unwrap())
    }

    /// A node follows a configuration of these nodes.
    fn configure(&mut self, node: u64, epoch: u64, members: &[u64]) {
        let others: BTreeSet<NodeId> = members.iter().copied().map(NodeId).collect();
        let others: BTreeSet<NodeId> = others.into_iter().filter(|n| n.get() != node).collect();
        let counts_itself = members.contains(&node);
        let configuration = Configuration { epoch, others: others.clone(), counts_itself };
        self.one(node).replica.set_members(others, configuration, counts_itself);
    }
}

fn get(key: &str) -> Query {
    Query::Get { key: Bytes::copy_from_slice(key.as_bytes()), at: None }
}

fn texts(siblings: &[v1::Sibling]) -> Vec<String> {
    let text = |sibling: &v1::Sibling| String::from_utf8(sibling.value.to_vec()).unwrap();
    let mut values: Vec<String> = siblings.iter().map(text).collect();
    values.sort();
    values
}

#[test]
fn what_a_majority_acknowledged_is_seen_through_any_member() {
    let mut bench = Bench::new();
    for cut in 1..=NODES {
        bench.cut(cut, true);
        let at = if cut == 1 { 2 } else { 1 };
        let (key, value) = (format!("k{cut}"), format!("v{cut}"));
        bench.put_quorum(at, &key, &value);
        bench.cut(cut, false);
        // The one that was cut off has not heard of it by itself.
        assert!(bench.values(cut, &key).is_empty());
        for node in (1..=NODES).rev() {
            assert_eq!(bench.quorum_values(node, &key), [value.as_str()], "{key} at {node}");
        }
        assert_eq!(bench.values(cut, &key), [value.as_str()], "and now it has it");
    }
    let counts = bench.one(3).replica.serving.as_ref().unwrap().group.counts();
    assert!(counts.repaired > 0, "{counts:?}");
}

/// The token of a quorum read covers what any of those who answered had, also for a write elsewhere.
#[test]
fn the_context_of_a_quorum_read_supersedes_all_that_was_read() {
    let mut bench = Bench::new();
    bench.cut(3, true);
    bench.put(1, "k", "left");
    bench.put(3, "k", "right");
    bench.cut(3, false);
    bench.cut(2, true);
    let (reply, by) = bench.quorum_get(3, "k").unwrap();
    assert_eq!(texts(&reply.siblings), ["left", "right"]);
    assert_eq!(by, [NodeId(3), NodeId(1)]);
    let id = bench.send(3, SIBLINGS.0, put("k", "both"), causal(&reply.context));
    bench.answer(id).unwrap();
    assert_eq!(bench.values(1, "k"), ["both"]);
    assert_eq!(bench.quorum_values(1, "k"), ["both"]);
}

#[test]
fn a_minority_is_an_error_at_once_or_when_the_client_waits_no_longer() {
    let mut bench = Bench::new();
    bench.put_quorum(1, "k", "v");
    for node in [2, 3] {
        bench.cut(node, true);
    }
    let failure = bench.quorum_get(1, "k").unwrap_err();
    assert_eq!(failure.code, Code::ReplicasMissing);
    assert!(failure.why.contains("1 of 2 replicas"), "{}", failure.why);
    // What this replica has is still read.
    assert_eq!(bench.values(1, "k"), ["v"]);
    // The links are up, and nobody answers.
    for node in [2, 3] {
        bench.cut(node, false);
    }
    bench.cut.extend([NodeId(2), NodeId(3)]);
    let id = bench.ask_quorum(1, get("k"));
    assert!(bench.joined(id).is_none());
    bench.pass(30);
    let failure = bench.one(1).replica.forget(id).unwrap();
    assert_eq!(failure.code, Code::ReadTimedOut);
    assert!(failure.why.contains("1 of 2 replicas"), "{}", failure.why);
    assert!(bench.one(1).replica.forget(id).is_none(), "nothing is left of it");
    // A question that was lost is asked again.
    let id = bench.ask_quorum(1, get("k"));
    assert!(bench.joined(id).is_none());
    bench.cut.clear();
    bench.pass(15);
    assert!(bench.answers.remove(&id).unwrap().is_ok());
}

#[test]
fn a_recovering_replica_does_not_count_and_may_ask() {
    let mut bench = Bench::new();
    bench.put_quorum(1, "k", "v");
    bench.nodes.insert(NodeId(3), One::new(NodeId(3), 3, true));
    bench.cut(2, true);
    let failure = bench.quorum_get(1, "k").unwrap_err();
    assert_eq!(failure.code, Code::ReplicasMissing);
    assert!(failure.why.contains("1 recovering"), "{}", failure.why);
    assert_eq!(bench.quorum_get(3, "k").unwrap_err().code, Code::ReplicasMissing);
    bench.cut(2, false);
    let (reply, by) = bench.quorum_get(3, "k").unwrap();
    assert_eq!(texts(&reply.siblings), ["v"]);
    assert_eq!(by, [NodeId(1), NodeId(2)], "its own answer is not among them");
    assert_eq!(bench.get(3, SIBLINGS.1, "k").unwrap_err().code, Code::Recovering);
    bench.pass(80);
    bench.cut(2, true);
    assert_eq!(bench.quorum_values(1, "k"), ["v"], "it has met all and counts");
}

/// Members of two configurations neither acknowledge nor read together; the newer one goes on when it has a majority.
#[test]
fn configurations_are_not_mixed() {
    let mut bench = Bench::new();
    bench.put_quorum(1, "k", "v");
    bench.configure(1, 1, &[1, 2, 3]);
    let read = bench.ask_quorum(1, get("k"));
    assert!(bench.joined(read).is_none(), "the others do not follow it");
    let write = bench.send(1, SIBLINGS.0, put("k", "w"), ack(Ack::Quorum));
    bench.settle();
    assert!(!bench.answers.contains_key(&write));
    let followed =
        |bench: &mut Bench| bench.one(1).replica.is_followed_by(&others(NodeId(1)), true);
    assert!(!followed(&mut bench));
    assert_eq!(bench.quorum_values(2, "k"), ["w"], "the old one has a majority still");
    bench.configure(2, 1, &[1, 2, 3]);
    bench.settle();
    assert!(followed(&mut bench));
    bench.pass(60);
    assert_eq!(bench.joined(read).unwrap().unwrap().1, [NodeId(1), NodeId(2)]);
    assert!(bench.answers.remove(&write).unwrap().is_ok(), "it was acknowledged by its clock");
    // Who lags behind waits until it follows as well.
    let late = bench.ask_quorum(3, get("k"));
    assert!(bench.joined(late).is_none());
    bench.configure(3, 1, &[1, 2, 3]);
    assert!(bench.joined(late).unwrap().is_ok());
}

/// A member that is leaving is heard and does not count.
#[test]
fn who_leaves_counts_for_nothing() {
    let mut bench = Bench::new();
    for node in [1, 2] {
        let others = others(NodeId(node));
        let stays = [NodeId(3 - node)].into();
        let configuration = Configuration { epoch: 1, others: stays, counts_itself: true };
        bench.one(node).replica.set_members(others, configuration, true);
    }
    bench.cut(2, true);
    let failure = bench.quorum_get(1, "k").unwrap_err();
    assert!(failure.why.contains("1 of 2 replicas"), "{}", failure.why);
    let id = bench.send(1, SIBLINGS.0, put("k", "v"), ack(Ack::All));
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::ReplicasMissing, Some(Applied::No)));
    bench.cut(2, false);
    let id = bench.send(1, SIBLINGS.0, put("k", "v"), ack(Ack::All));
    let Answered::Write { acknowledged_by, .. } = bench.answer(id).unwrap() else { panic!() };
    assert_eq!(acknowledged_by, [NodeId(1), NodeId(2)]);
    assert_eq!(bench.values(3, "k"), ["v"], "it is told all the same");
}

#[test]
fn a_listing_joins_the_keys_of_a_majority() {
    let mut bench = Bench::new();
    bench.put(1, "old", "v");
    bench.pass(60);
    bench.cut(3, true);
    for key in ["a", "c", "e"] {
        bench.put(1, key, "left");
    }
    for key in ["b", "c"] {
        bench.put(3, key, "right");
    }
    let id = bench.send(1, SIBLINGS.0, delete("old"), EventualOptions::default());
    bench.answer(id).unwrap();
    bench.cut(3, false);
    bench.cut(2, true);
    let page = |from: &'static str, limit| RangeQuery {
        from: Bytes::from_static(from.as_bytes()),
        limit,
        ..RangeQuery::default()
    };
    let keys = |reply: &v1::RangeReply| -> Vec<Bytes> {
        reply.entries.iter().map(|entry| entry.key.clone()).collect()
    };
    let whole = bench.quorum_page(3, page("", 100));
    assert_eq!((keys(&whole).concat(), whole.more), (b"abce".to_vec(), false));
    assert_eq!(texts(&whole.entries[2].siblings), ["left", "right"]);
    let both = whole.entries[2].context.clone();
    let (mut found, mut from) = (Vec::new(), Bytes::new());
    loop {
        let query = RangeQuery { from: from.clone(), ..page("", 2) };
        let reply = bench.quorum_page(3, query);
        assert!(reply.entries.len() <= 2);
        found.extend(keys(&reply));
        if !reply.more {
            break;
        }
        from = reply.next;
    }
    assert_eq!(found.concat(), b"abce");
    let count = RangeQuery { count_only: true, ..page("", 100) };
    let counted = bench.quorum_page(3, count);
    assert_eq!((counted.count, counted.entries.len()), (4, 0));
    let keys_only = bench.quorum_page(3, RangeQuery { keys_only: true, ..page("a", 100) });
    assert_eq!(keys(&keys_only).concat(), b"abce");
    assert!(keys_only.entries.iter().all(|entry| entry.siblings[0].value.is_empty()));
    assert!(keys_only.entries.iter().all(|entry| entry.siblings[0].value_size > 3));
    let id = bench.send(3, SIBLINGS.0, put("c", "one"), causal(&both));
    bench.answer(id).unwrap();
    assert_eq!(bench.quorum_values(1, "c"), ["one"]);
}

/// Six values of 256 KiB: a message holds four, and so does a reply.
#[test]
fn values_that_have_no_room_come_with_the_next_question() {
    let mut bench = Bench::new();
    bench.cut(3, true);
    let beside = EventualOptions { beside: true, ..EventualOptions::default() };
    let value = |number: u8| String::from_utf8(vec![b'a' + number; 256 * 1024]).unwrap();
    for number in 0..6 {
        let id = bench.send(1, SIBLINGS.0, put("k", &value(number)), beside.clone());
        bench.answer(id).unwrap();
    }
    bench.cut(3, false);
    bench.cut(2, true);
    let (reply, _) = bench.quorum_get(3, "k").unwrap();
    let mut found = reply.siblings;
    assert!(found.len() < 6 && found.len() + reply.more as usize == 6);
    while found.len() < 6 {
        let after = found.last().unwrap().dot.clone().unwrap();
        let query = Query::Siblings { key: Bytes::from_static(b"k"), after };
        let id = bench.ask_quorum(3, query);
        let Found::Siblings(reply) = bench.joined(id).unwrap().unwrap().0 else { panic!() };
        assert!(!reply.siblings.is_empty());
        found.extend(reply.siblings);
    }
    assert_eq!(texts(&found), (0..6).map(value).collect::<Vec<_>>());
}

/// Twelve answers of 512 KiB, of which a poll has room for about eight.
#[test]
fn a_poll_answers_no_more_quorum_reads_than_it_has_room_for() {
    let mut bench = Bench::new();
    bench.put(1, "k", &"v".repeat(512 * 1024));
    let ids: Vec<RequestId> = (0..12).map(|_| bench.ask_quorum(1, get("k"))).collect();
    for (from, to) in [(1, 2), (2, 1)] {
        for (receiver, message) in bench.one(from).poll().sends {
            if receiver == NodeId(to) {
                let (body, mut out) = (message.body.unwrap(), Outbox::new(Ticket(0)));
                bench.one(to).replica.receive(NodeId(from), body, &mut out);
            }
        }
    }
    let out = bench.one(1).poll();
    assert!(out.again && (1..12).contains(&out.answers.len()), "{} answers", out.answers.len());
    bench.answers.extend(out.answers);
    bench.settle();
    assert!(ids.iter().all(|id| bench.answers[id].is_ok()));
}

#[test]
fn the_last_writer_wins_among_those_that_answer() {
    let mut bench = Bench::new();
    bench.cut(3, true);
    let id = bench.send(3, LWW.0, put("k", "early"), EventualOptions::default());
    bench.answer(id).unwrap();
    bench.pass(1);
    let id = bench.send(1, LWW.0, delete("k"), ack(Ack::Quorum));
    bench.answer(id).unwrap();
    bench.cut(3, false);
    bench.cut(2, true);
    let id = bench.ask(3, LWW.1, get("k"), QUORUM);
    let Found::Siblings(reply) = bench.joined(id).unwrap().unwrap().0 else { panic!() };
    assert!(reply.siblings.is_empty(), "it was deleted later: {reply:?}");
}

#[test]
fn a_quorum_read_has_no_revisions() {
    let mut bench = Bench::new();
    let query = Query::Get { key: Bytes::from_static(b"k"), at: Some(proto::Revision(3)) };
    let id = bench.ask_quorum(1, query);
    assert_eq!(bench.joined(id).unwrap().unwrap_err().code, Code::VerbNotOffered);
}

/// A question may be there before the replica is polled for the first time.
#[test]
fn who_lost_its_disk_answers_no_question_as_one_that_has_all() {
    let mut bench = Bench::new();
    bench.put(3, "k", "v");
    bench.pass(40);
    bench.cut(3, true);
    let id = bench.ask_quorum(2, get("k"));
    let asked = bench.one(2).poll().sends;
    bench.nodes.insert(NodeId(1), One::new(NodeId(1), 1, true));
    let asked = asked.into_iter().filter(|(to, _)| *to == NodeId(1));
    for (_, message) in asked {
        let mut out = Outbox::new(Ticket(0));
        bench.one(1).replica.receive(NodeId(2), message.body.unwrap(), &mut out);
    }
    let refused = bench.joined(id).expect("nobody else can be asked").unwrap_err();
    assert_eq!(refused.code, Code::ReplicasMissing);
}
