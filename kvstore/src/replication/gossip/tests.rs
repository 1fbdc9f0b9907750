//! Some replicas, their logs in memory, their clocks, and the messages between them.

mod expiry;
mod quorum;

mod damage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use gossip::token::TokenKeys;
use gossip::tree::TreeKey;
use prost::Message;
use proto::peer::peer_message::Body;
use proto::v1::{self, Ack, Level, keyspace, op::Op};
use proto::{Applied, Code, Failure, NodeId, log};
use storage::mvcc::{Machine, MachineOptions, RangeQuery};
use storage::state::MemoryStore;
use storage::wal::RecoveredGroup;

mod actors;

use super::alive::tests::TwoIsDown;
use super::*;
use crate::consistency::ReadPlan;
use crate::replication::own_log::OwnStart;
use crate::replication::{Answered, EventualOptions, Found, Origin, Query};

const NODES: u64 = 3;
const SIBLINGS: (u64, &str) = (5, "s");
const LWW: (u64, &str) = (6, "l");

/// The wall clock at the beginning, in microseconds since 1970.
const START_US: u64 = 100_000_000_000;

type Reply = Result<Answered, Failure>;

struct Bench {
    nodes: BTreeMap<NodeId, One>,
    wire: VecDeque<(NodeId, NodeId, Body)>,
    cut: BTreeSet<NodeId>,
    ticks: u64,
    requests: u64,
    answers: BTreeMap<RequestId, Reply>,
    clocks: BTreeMap<NodeId, Wrong>,
}

/// What is wrong with the clocks of a node.
#[derive(Clone, Copy, Default)]
struct Wrong {
    /// Both clocks go too fast, by so many microseconds a second.
    drift: u64,
    /// The wall clock is ahead by so much.
    ahead_us: i64,
}

struct One {
    replica: GossipReplica,
    tickets: u64,
    /// Its log is not synced at the moment.
    is_slow: bool,
    unsynced: Vec<Ticket>,
    frames: Vec<log::Frame>,
}

fn secrets() -> GroupSecrets {
    GroupSecrets { tree: TreeKey::new(&[3; 32]), tokens: TokenKeys::new(1, &[4; 32]) }
}

fn keyspaces() -> CataloguedKeyspaces {
    let keyspace = |(id, name): (u64, &str), policy: keyspace::Policy| v1::Keyspace {
        id,
        name: name.to_owned(),
        policy: policy.into(),
        ..v1::Keyspace::default()
    };
    let open =
        vec![keyspace(SIBLINGS, keyspace::Policy::Siblings), keyspace(LWW, keyspace::Policy::Lww)];
    CataloguedKeyspaces { open, next: 7 }
}

fn others(node: NodeId) -> BTreeSet<NodeId> {
    (1..=NODES).map(NodeId).filter(|other| *other != node).collect()
}

fn configuration(node: NodeId, epoch: u64) -> Configuration {
    Configuration { epoch, others: others(node), counts_itself: true }
}

impl One {
    /// A node whose directory began before there was any keyspace; `is_late`: after that.
    fn new(node: NodeId, start: u32, is_late: bool) -> Self {
        let store = MemoryStore::new();
        let group = RecoveredGroup { state_dir: "2-0".into(), ..RecoveredGroup::default() };
        let mut one = Self::over(store, group, true, node, (start, START_US));
        if is_late {
            one.replica.set_keyspaces(&keyspaces());
        }
        one.replica.join(secrets(), true).unwrap();
        one.replica.set_keyspaces(&keyspaces());
        one
    }

    fn over(
        store: MemoryStore,
        group: RecoveredGroup,
        begins: bool,
        node: NodeId,
        (start, wall_us): (u32, u64),
    ) -> Self {
        let machine = Machine::open(Arc::new(store.clone()), MachineOptions::default()).unwrap();
        let mut out = Outbox::new(Ticket(1));
        let own = OwnLog::new(OwnStart { machine, group, begins }, 64 * 1024, &mut out);
        let mut seed = [u8::try_from(node.get()).unwrap(); 32];
        seed[..4].copy_from_slice(&start.to_be_bytes());
        let config = GossipConfig { node, name: format!("n{node}"), epoch: 0, seed };
        let mut replica = GossipReplica::new(config, own);
        replica.set_time(0, wall_us);
        replica.set_members(others(node), configuration(node, 0), true);
        for other in others(node) {
            replica.link(other, true, &mut out);
        }
        let (frames, unsynced) = (Vec::new(), Vec::new());
        Self { replica, tickets: 1, is_slow: false, unsynced, frames }
    }

    /// The node after a crash: what was synced, and nothing else.
    fn restarted(self, node: NodeId, start: u32) -> Self {
        self.restarted_at(node, start, START_US)
    }

    /// The same, by a clock that said this at the beginning.
    fn restarted_at(self, node: NodeId, start: u32, wall_us: u64) -> Self {
        let mut one = self.before_it_joins(node, start, wall_us);
        one.replica.join(secrets(), true).unwrap();
        one
    }

    fn before_it_joins(self, node: NodeId, start: u32, wall_us: u64) -> Self {
        let frames = self.frames;
        let entries = frames.iter().filter_map(|frame| match &frame.body {
            Some(log::frame::Body::Entries(entries)) => Some(entries.entries.clone()),
            _ => None,
        });
        let group = RecoveredGroup {
            state_dir: "2-0".into(),
            entries: entries.flatten().collect(),
            ..RecoveredGroup::default()
        };
        let mut one = Self::over(MemoryStore::new(), group, false, node, (start, wall_us));
        one.replica.set_keyspaces(&keyspaces());
        one.frames = frames;
        one
    }

    fn poll(&mut self) -> Outbox {
        self.tickets += 1;
        let mut out = Outbox::new(Ticket(self.tickets));
        self.replica.poll(&mut out);
        assert_eq!(out.fatal, None);
        if !out.frames.is_empty() {
            assert!(out.sync);
            self.unsynced.push(out.ticket);
            // What was not synced is gone after a crash.
            if !self.is_slow {
                self.frames.append(&mut out.frames);
            }
        }
        if !self.is_slow {
            for ticket in std::mem::take(&mut self.unsynced) {
                self.replica.durable(ticket);
            }
        }
        out
    }
}

impl Bench {
    fn new() -> Self {
        let node = |id| (NodeId(id), One::new(NodeId(id), 0, false));
        Self {
            nodes: (1..=NODES).map(node).collect(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            ticks: 0,
            requests: 0,
            answers: BTreeMap::new(),
            clocks: BTreeMap::new(),
        }
    }

    fn one(&mut self, node: u64) -> &mut One {
        self.nodes.get_mut(&NodeId(node)).unwrap()
    }

    /// Lets everything happen that can without time passing.
    fn settle(&mut self) {
        let mut silent = 0;
        for _ in 0..40 {
            silent += 1;
            for (from, one) in &mut self.nodes {
                let out = one.poll();
                if out.again || !(out.answers.is_empty() && out.sends.is_empty()) {
                    silent = 0;
                }
                self.answers.extend(out.answers);
                let sends = out.sends.into_iter();
                self.wire.extend(sends.map(|(to, message)| (*from, to, message.body.unwrap())));
            }
            while let Some((from, to, body)) = self.wire.pop_front() {
                if self.cut.contains(&from) || self.cut.contains(&to) {
                    continue;
                }
                let mut out = Outbox::new(Ticket(0));
                self.nodes.get_mut(&to).unwrap().replica.receive(from, body, &mut out);
            }
            // What one poll made durable, the next one tells.
            if silent > 2 {
                break;
            }
        }
    }

    fn pass(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.ticks += 1;
            let (now, passed_us) = (Ticks(self.ticks), self.ticks * TICK_MS * 1_000);
            for (node, one) in &mut self.nodes {
                let Wrong { drift, ahead_us } = self.clocks.get(node).copied().unwrap_or_default();
                let monotonic_us = passed_us + passed_us * drift / 1_000_000;
                let wall_us = (START_US + monotonic_us).saturating_add_signed(ahead_us);
                one.replica.set_time(monotonic_us, wall_us);
                one.replica.tick(now, &mut Outbox::new(Ticket(0)));
            }
            self.settle();
        }
    }

    fn cut(&mut self, node: u64, is_cut: bool) {
        if is_cut {
            self.cut.insert(NodeId(node));
        } else {
            self.cut.remove(&NodeId(node));
        }
        for other in others(NodeId(node)) {
            let mut out = Outbox::new(Ticket(0));
            self.one(node).replica.link(other, !is_cut, &mut out);
            self.one(other.get()).replica.link(NodeId(node), !is_cut, &mut out);
        }
    }

    fn send(&mut self, node: u64, keyspace: u64, op: Op, options: EventualOptions) -> RequestId {
        self.requests += 1;
        let seq = self.requests;
        self.send_as(seq, node, keyspace, op, options)
    }

    fn send_as(
        &mut self,
        seq: u64,
        node: u64,
        keyspace: u64,
        op: Op,
        options: EventualOptions,
    ) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests + 1_000);
        let client_id = vec![9; 16].into();
        let write = log::Write {
            keyspace,
            id: Some(v1::WriteId { client_id, seq, ..v1::WriteId::default() }),
            then_ops: vec![v1::Op { op: Some(op) }],
            ..log::Write::default()
        };
        let command = log::Command { body: Some(log::command::Body::Write(write)) };
        let submission = Submission { origin: Origin::Local(id), command, options };
        let mut out = Outbox::new(Ticket(0));
        self.one(node).replica.write(submission, &mut out);
        self.answers.extend(out.answers);
        id
    }

    fn answer(&mut self, id: RequestId) -> Reply {
        self.settle();
        self.answers.remove(&id).expect("it is answered")
    }

    fn put(&mut self, node: u64, key: &str, value: &str) -> v1::Written {
        let id = self.send(node, SIBLINGS.0, put(key, value), EventualOptions::default());
        written(self.answer(id).unwrap())
    }

    /// Hands a read to a replica.
    fn ask(
        &mut self,
        node: u64,
        keyspace: &str,
        query: Query,
        (level, plan): (Level, ReadPlan),
    ) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests + 1_000);
        let read = Read { id, keyspace: keyspace.to_owned(), query, level, plan };
        let mut out = Outbox::new(Ticket(0));
        self.one(node).replica.read(read, &mut out);
        self.answers.extend(out.answers);
        id
    }

    fn read(&mut self, node: u64, keyspace: &str, query: Query) -> Result<Found, Failure> {
        let id = self.ask(node, keyspace, query, (Level::Eventual, ReadPlan::Local));
        match self.answer(id)? {
            Answered::Read { found, .. } => Ok(found),
            other => panic!("{other:?}"),
        }
    }

    fn get(&mut self, node: u64, keyspace: &str, key: &str) -> Result<v1::GetReply, Failure> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        match self.read(node, keyspace, Query::Get { key, at: None })? {
            Found::Siblings(reply) => Ok(*reply),
            other => panic!("{other:?}"),
        }
    }

    fn values(&mut self, node: u64, key: &str) -> Vec<String> {
        let reply = self.get(node, SIBLINGS.1, key).unwrap();
        let text = |sibling: &v1::Sibling| String::from_utf8(sibling.value.to_vec()).unwrap();
        let mut values: Vec<String> = reply.siblings.iter().map(text).collect();
        values.sort();
        values
    }
}

fn put(key: &str, value: &str) -> Op {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Op::Put(v1::PutOp { key: bytes(key), value: bytes(value), prev: false })
}

fn delete(key: &str) -> Op {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Op::Delete(v1::DeleteOp { key, ..v1::DeleteOp::default() })
}

fn causal(token: &Bytes) -> EventualOptions {
    EventualOptions { causal: token.clone(), ..EventualOptions::default() }
}

fn ack(ack: Ack) -> EventualOptions {
    EventualOptions { ack, ..EventualOptions::default() }
}

fn written(answered: Answered) -> v1::Written {
    match answered {
        Answered::Write { written: Some(written), .. } => written,
        other => panic!("{other:?}"),
    }
}

fn refusal(reply: Reply) -> (Code, Option<Applied>) {
    let failure = reply.unwrap_err();
    (failure.code, failure.applied)
}

#[test]
fn a_write_at_one_replica_is_read_at_all() {
    let mut bench = Bench::new();
    bench.put(1, "k", "a");
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "k"), ["a"], "at {node}");
    }
    let reply = bench.get(2, SIBLINGS.1, "k").unwrap();
    assert_eq!(reply.item.unwrap().value, "a");
    bench.put(2, "k", "b");
    assert_eq!(bench.values(3, "k"), ["b"], "it superseded what its replica held");
}

#[test]
fn b55_concurrent_writes_stay_beside_each_other_until_one_supersedes_them() {
    let mut bench = Bench::new();
    bench.cut(3, true);
    bench.put(1, "k", "left");
    bench.put(3, "k", "right");
    bench.cut(3, false);
    bench.pass(60);
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "k"), ["left", "right"], "at {node}");
    }
    let reply = bench.get(2, SIBLINGS.1, "k").unwrap();
    assert!(reply.item.is_none(), "there is no one value");
    let id = bench.send(2, SIBLINGS.0, put("k", "both"), causal(&reply.context));
    bench.answer(id).unwrap();
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "k"), ["both"], "at {node}");
    }
    // One that has seen neither stands beside it.
    let beside = EventualOptions { beside: true, ..EventualOptions::default() };
    let id = bench.send(1, SIBLINGS.0, put("k", "late"), beside);
    bench.answer(id).unwrap();
    assert_eq!(bench.values(3, "k"), ["both", "late"]);
}

#[test]
fn a_delete_ends_what_it_has_seen_and_has_a_token() {
    let mut bench = Bench::new();
    let first = bench.put(1, "k", "a");
    let id = bench.send(2, SIBLINGS.0, delete("k"), causal(&first.context));
    let Answered::Write { outcome, written, .. } = bench.answer(id).unwrap() else { panic!() };
    let deleted = v1::DeleteResult { deleted: 1, prev: Vec::new() };
    assert_eq!(outcome.results[0].result, Some(v1::op_result::Result::Delete(deleted)));
    assert!(!written.unwrap().context.is_empty());
    for node in 1..=NODES {
        let reply = bench.get(node, SIBLINGS.1, "k").unwrap();
        assert!(reply.siblings.is_empty() && !reply.context.is_empty(), "at {node}");
    }
    // A write with the token of before the delete does not supersede it, nor the delete the write.
    let id = bench.send(3, SIBLINGS.0, put("k", "b"), causal(&first.context));
    bench.answer(id).unwrap();
    assert_eq!(bench.values(1, "k"), ["b"]);
}

#[test]
fn acknowledgements_of_others_are_waited_for_and_what_is_missing_is_said() {
    let mut bench = Bench::new();
    let id = bench.send(1, SIBLINGS.0, put("k", "a"), ack(Ack::All));
    let Answered::Write { acknowledged_by, .. } = bench.answer(id).unwrap() else { panic!() };
    assert_eq!(acknowledged_by, [NodeId(1), NodeId(2), NodeId(3)]);
    // The third has a link and does not sync.
    bench.one(3).is_slow = true;
    let quorum = bench.send(1, SIBLINGS.0, put("q", "a"), ack(Ack::Quorum));
    bench.answer(quorum).unwrap();
    let all = bench.send(1, SIBLINGS.0, put("a", "a"), ack(Ack::All));
    bench.settle();
    assert!(!bench.answers.contains_key(&all));
    let failure = bench.one(1).replica.forget(all).unwrap();
    assert_eq!((failure.code, failure.applied), (Code::AckMissed, Some(Applied::Yes)));
    let partial = failure.partial.unwrap();
    assert_eq!((partial.durable_on, partial.wanted), (2, 3));
    assert!(!partial.context.is_empty());
    bench.cut(3, true);
    let id = bench.send(1, SIBLINGS.0, put("a", "b"), ack(Ack::All));
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::ReplicasMissing, Some(Applied::No)));
    assert_eq!(bench.values(1, "a"), ["a"], "nothing was written");
}

#[test]
fn nothing_is_answered_or_told_before_it_is_durable_here() {
    let mut bench = Bench::new();
    bench.one(1).is_slow = true;
    let id = bench.send(1, SIBLINGS.0, put("k", "a"), EventualOptions::default());
    bench.settle();
    assert!(bench.answers.is_empty());
    assert!(bench.values(2, "k").is_empty());
    // What is not durable here may not be said elsewhere either, so a read waits as well.
    let one = bench.one(1);
    let read = Read {
        id: RequestId(7),
        keyspace: SIBLINGS.1.to_owned(),
        query: Query::Get { key: Bytes::from_static(b"k"), at: None },
        level: Level::Eventual,
        plan: ReadPlan::Local,
    };
    one.replica.read(read, &mut Outbox::new(Ticket(0)));
    bench.settle();
    assert!(bench.answers.is_empty());
    bench.one(1).is_slow = false;
    bench.answer(id).unwrap();
    assert!(bench.answers.remove(&RequestId(7)).unwrap().is_ok());
    assert_eq!(bench.values(2, "k"), ["a"]);
}

/// The disk fills between a write and the poll that follows: what was taken waits for room, and so does its client.
#[test]
fn a_write_taken_just_before_the_disk_was_full_is_answered_when_there_is_room() {
    let mut bench = Bench::new();
    let id = bench.send(1, SIBLINGS.0, put("k", "a"), EventualOptions::default());
    let one = bench.one(1);
    one.replica.own_mut().set_read_only(true);
    one.is_slow = true;
    bench.pass(5);
    assert!(bench.answers.is_empty() && bench.values(2, "k").is_empty());
    let refused = bench.send(1, SIBLINGS.0, put("k", "b"), EventualOptions::default());
    let refused = bench.answers.remove(&refused).unwrap();
    assert_eq!(refusal(refused), (Code::ReadOnly, Some(Applied::No)));
    let one = bench.one(1);
    one.replica.own_mut().set_read_only(false);
    one.is_slow = false;
    bench.answer(id).unwrap();
    assert_eq!(bench.values(2, "k"), ["a"]);
}

#[test]
fn a_member_that_is_leaving_takes_no_writes() {
    let mut bench = Bench::new();
    let leaving = Configuration { counts_itself: false, ..configuration(NodeId(3), 1) };
    bench.one(3).replica.set_members(others(NodeId(3)), leaving, false);
    let id = bench.send(3, SIBLINGS.0, put("k", "a"), EventualOptions::default());
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::NotReady, Some(Applied::No)));
}

/// A node that joins a restored cluster begins with epoch 0 and learns the cluster's from a snapshot.
#[test]
fn a_replica_that_learns_the_epoch_takes_part() {
    let mut bench = Bench::new();
    for node in [1, 2] {
        bench.one(node).replica.set_epoch(1);
    }
    let token = bench.put(1, "k", "a").context;
    let id = bench.send(3, SIBLINGS.0, put("k", "b"), causal(&token));
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::TokenExpired, Some(Applied::No)));
    bench.one(3).replica.set_epoch(1);
    let id = bench.send(3, SIBLINGS.0, put("k", "b"), causal(&token));
    bench.answer(id).unwrap();
    assert_eq!(bench.values(1, "k"), ["b"]);
}

#[test]
fn ids_of_no_eventual_keyspace_are_known_as_removed() {
    let mut bench = Bench::new();
    let group = &bench.one(1).replica.serving.as_ref().unwrap().group;
    let standing = |id| group.replica().keyspace(proto::KeyspaceId(id));
    assert_eq!(standing(4), Some(gossip::replica::Standing::Removed));
    assert!(matches!(standing(SIBLINGS.0), Some(gossip::replica::Standing::Open(_))));
    assert_eq!(standing(7), None, "it may come yet");
}

#[test]
fn a_write_id_is_taken_once_also_after_a_restart() {
    let mut bench = Bench::new();
    let first = bench.send_as(77, 1, SIBLINGS.0, put("k", "a"), EventualOptions::default());
    let first = written(bench.answer(first).unwrap());
    bench.put(2, "k", "b");
    let one = bench.nodes.remove(&NodeId(1)).unwrap();
    bench.nodes.insert(NodeId(1), one.restarted(NodeId(1), 1));
    bench.pass(40);
    let again = bench.send_as(77, 1, SIBLINGS.0, put("k", "a"), EventualOptions::default());
    let answered = bench.answer(again).unwrap();
    let Answered::Write { outcome, .. } = &answered else { panic!() };
    assert!(outcome.replayed);
    assert_eq!(written(answered).dot, first.dot);
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "k"), ["b"], "at {node}");
    }
}

#[test]
fn b52_a_restart_has_what_was_acknowledged_and_a_new_actor() {
    let mut bench = Bench::new();
    let before = bench.put(1, "k", "a");
    bench.one(1).is_slow = true;
    bench.send(1, SIBLINGS.0, put("k", "lost"), EventualOptions::default());
    bench.settle();
    let one = bench.nodes.remove(&NodeId(1)).unwrap();
    bench.nodes.insert(NodeId(1), one.restarted(NodeId(1), 2));
    assert_eq!(bench.values(1, "k"), ["a"]);
    let after = bench.put(1, "k", "c");
    assert_ne!(after.dot.unwrap().actor, before.dot.unwrap().actor);
    bench.pass(40);
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "k"), ["c"], "at {node}");
    }
}

#[test]
fn b56_the_last_writer_wins_where_the_keyspace_says_so() {
    let mut bench = Bench::new();
    bench.cut(3, true);
    for (node, value) in [(3, "early"), (1, "late")] {
        bench.pass(1);
        let id = bench.send(node, LWW.0, put("k", value), EventualOptions::default());
        bench.answer(id).unwrap();
    }
    bench.cut(3, false);
    bench.pass(60);
    for node in 1..=NODES {
        let reply = bench.get(node, LWW.1, "k").unwrap();
        assert_eq!(reply.item.unwrap().value, "late", "at {node}");
        assert_eq!(reply.siblings.len(), 1);
    }
}

#[test]
fn a_value_is_hidden_after_its_time_to_live() {
    let mut bench = Bench::new();
    let options = EventualOptions { ttl_ms: 500, ..EventualOptions::default() };
    let id = bench.send(1, SIBLINGS.0, put("k", "a"), options);
    bench.answer(id).unwrap();
    bench.pass(5);
    assert_eq!(bench.values(2, "k"), ["a"]);
    bench.pass(10);
    for node in 1..=NODES {
        assert!(bench.values(node, "k").is_empty(), "at {node}");
    }
}

#[test]
fn b52_a_directory_that_began_late_answers_no_read_before_it_has_met_all() {
    let mut bench = Bench::new();
    bench.put(1, "k", "a");
    bench.cut(2, true);
    bench.nodes.insert(NodeId(3), One::new(NodeId(3), 3, true));
    let code = |reply: Result<v1::GetReply, Failure>| reply.unwrap_err().code;
    assert_eq!(code(bench.get(3, SIBLINGS.1, "k")), Code::Recovering);
    bench.pass(60);
    assert_eq!(code(bench.get(3, SIBLINGS.1, "k")), Code::Recovering, "it has not met the second");
    // It takes writes meanwhile, but not where it could have forgotten a later stamp.
    bench.put(3, "other", "b");
    let id = bench.send(3, LWW.0, put("k", "b"), EventualOptions::default());
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::Recovering, Some(Applied::No)));
    let one = bench.nodes.remove(&NodeId(3)).unwrap();
    bench.nodes.insert(NodeId(3), one.restarted(NodeId(3), 4));
    assert_eq!(code(bench.get(3, SIBLINGS.1, "k")), Code::Recovering, "a restart does not open it");
    bench.cut(2, false);
    bench.pass(80);
    assert_eq!(bench.values(3, "k"), ["a"]);
}

/// The state and its export are gone, and the log goes on with its numbers.
#[test]
fn a_log_that_lost_what_it_held_answers_no_read_before_it_has_met_all() {
    let mut bench = Bench::new();
    bench.put(3, "k", "a");
    let removed = log::Item { key: Bytes::from_static(b"gone"), value: None };
    let put = log::PutItems { items: vec![removed], more: false };
    let command = log::Command { body: Some(log::command::Body::PutItems(put)) };
    let entry = log::Entry {
        term: 1,
        index: 1,
        data: command.encode_to_vec().into(),
        ..log::Entry::default()
    };
    let mut one = bench.nodes.remove(&NodeId(3)).unwrap();
    let entries = log::Entries { entries: vec![entry] };
    one.frames = vec![log::Frame { group: 2, body: Some(log::frame::Body::Entries(entries)) }];
    bench.nodes.insert(NodeId(3), one.restarted(NodeId(3), 5));
    let refused = bench.get(3, SIBLINGS.1, "k").unwrap_err();
    assert_eq!(refused.code, Code::Recovering);
    bench.pass(80);
    assert_eq!(bench.values(3, "k"), ["a"]);
}

#[test]
fn keys_are_listed_page_by_page_without_those_that_are_gone() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c", "d"] {
        bench.put(1, key, "v");
    }
    let id = bench.send(1, SIBLINGS.0, delete("b"), EventualOptions::default());
    bench.answer(id).unwrap();
    let mut page = |from: &'static str, limit| {
        let from = Bytes::from_static(from.as_bytes());
        let query = RangeQuery { from, limit, ..RangeQuery::default() };
        match bench.read(2, SIBLINGS.1, Query::Range(query)).unwrap() {
            Found::Entries(reply) => *reply,
            other => panic!("{other:?}"),
        }
    };
    let keys = |reply: &v1::RangeReply| -> Vec<Bytes> {
        reply.entries.iter().map(|entry| entry.key.clone()).collect()
    };
    let first = page("", 2);
    assert_eq!(keys(&first), ["a", "c"]);
    assert!(first.more);
    assert_eq!(first.next, "d");
    let last = page("d", 2);
    assert_eq!((keys(&last), last.more), (vec![Bytes::from_static(b"d")], false));
}

#[test]
fn what_this_kind_does_not_offer_is_refused_and_nothing_is_written() {
    let mut bench = Bench::new();
    let range = Op::Delete(v1::DeleteOp {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"z"),
        prev: false,
    });
    let id = bench.send(1, SIBLINGS.0, range, EventualOptions::default());
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::VerbNotOffered, Some(Applied::No)));
    let forged = causal(&Bytes::from_static(b"forged token, longer than a MAC is"));
    let id = bench.send(1, SIBLINGS.0, put("k", "a"), forged);
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::TokenInvalid, Some(Applied::No)));
    let of_other = bench.put(1, "other", "a").context;
    let id = bench.send(1, SIBLINGS.0, put("k", "a"), causal(&of_other));
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::TokenInvalid, Some(Applied::No)));
    assert!(bench.values(1, "k").is_empty());
    let old = Query::Get { key: Bytes::from_static(b"k"), at: Some(proto::Revision(3)) };
    assert_eq!(bench.read(1, SIBLINGS.1, old).unwrap_err().code, Code::VerbNotOffered);
    let unknown = bench.get(1, "nowhere", "k").unwrap_err();
    assert_eq!(unknown.code, Code::KeyspaceNotFound);
}

#[test]
fn more_than_thirty_two_siblings_are_refused_where_they_enter() {
    let mut bench = Bench::new();
    let beside = EventualOptions { beside: true, ..EventualOptions::default() };
    for number in 0..proto::limits::SIBLINGS_MAX {
        let id = bench.send(1, SIBLINGS.0, put("k", &number.to_string()), beside.clone());
        bench.answer(id).unwrap();
    }
    let id = bench.send(1, SIBLINGS.0, put("k", "more"), beside);
    let reply = bench.answer(id);
    assert_eq!(refusal(reply), (Code::SiblingsFull, Some(Applied::No)));
    let reply = bench.get(2, SIBLINGS.1, "k").unwrap();
    assert_eq!(reply.siblings.len(), proto::limits::SIBLINGS_MAX);
    let id = bench.send(2, SIBLINGS.0, put("k", "all"), causal(&reply.context));
    bench.answer(id).unwrap();
    assert_eq!(bench.values(3, "k"), ["all"]);
}

/// Of two others each is drawn every other second, and who is said to be down is tried every five seconds beside that.
#[test]
fn all_members_are_exchanged_with_whatever_liveness_says() {
    let mut bench = Bench::new();
    bench.settle();
    let one = bench.one(1);
    one.replica.serving.as_mut().unwrap().alive = Alive::by(Box::new(TwoIsDown));
    let mut asked: BTreeMap<NodeId, u64> = BTreeMap::new();
    for tick in 1..=300_000 / TICK_MS {
        one.replica.tick(Ticks(tick), &mut Outbox::new(Ticket(0)));
        // Questions for the time go to all.
        drop(one.replica.serving.as_mut().unwrap().group.take_urgent());
        for (to, message) in one.poll().sends {
            assert!(matches!(message.body, Some(Body::Gossip(_))));
            *asked.entry(to).or_default() += 1;
        }
        // What was said was not heard. What a link brings up is not counted.
        for other in others(NodeId(1)) {
            one.replica.link(other, false, &mut Outbox::new(Ticket(0)));
            one.replica.link(other, true, &mut Outbox::new(Ticket(0)));
        }
        one.poll();
    }
    assert!(asked[&NodeId(2)] > 120 && asked[&NodeId(3)] > 100, "{asked:?}");
}
