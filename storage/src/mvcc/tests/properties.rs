//! Random histories, checkpoints and crashes: the machine against the model, on both engines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proto::{Code, KeyspaceId, LogIndex, Revision, Term, log, v1};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use v1::compare::Target;

use super::super::held::Held;
use super::super::key::{self, KeyPrefix, VersionKey};
use super::super::{
    CheckpointJob, CheckpointProgress, ExportProgress, ImportJob, Machine, MachineOptions,
    RangeQuery, ReadError, Recall, RenewProgress, item,
};
use super::build::{self, bytes, command, compare, delete, delete_range, get, prev, put, txn};
use super::model::Model;
use crate::state::{MemoryStore, SledStore, StateStore};

/// Small, so that evictions are frequent.
const OPTIONS: MachineOptions = MachineOptions { outcomes_max: 6, outcome_bytes_max: usize::MAX };

#[derive(Clone, Debug)]
enum Event {
    Write(log::Write),
    /// A write by one of a few clients, `behind` numbers above its lowest unanswered one.
    Named {
        write: log::Write,
        client: usize,
        behind: u64,
    },
    /// Sends an earlier named write again.
    Retry(usize),
    /// Items, a key twice perhaps.
    Items(Vec<(Bytes, Option<Bytes>)>),
    NoOp,
    Begin,
    Steps(usize),
    /// Runs the checkpoint to its end.
    Finish,
    Crash(u64),
    Open {
        id: u64,
        name: &'static str,
        keys_max: u64,
        bytes_max: u64,
    },
    Close(u64),
    /// Compacts a keyspace by a part of its history, in percent.
    Compact {
        id: u64,
        percent: u64,
    },
    /// Exports the last checkpoint, drops the job after some steps, or imports what it gave.
    Export {
        steps: usize,
    },
    /// Copies the store, and goes on with the copy unless it is given up after so many steps.
    Renew {
        steps: usize,
    },
    /// Compares reads with the model, chosen by the seed.
    Read(u64),
}

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => proptest::sample::select(vec!["a", "ab", "a\0", "b", "c", "cc"]).prop_map(bytes),
        1 => Just(bytes(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
        1 => Just(bytes(vec![0; 4096])),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => "[xyz]{0,2}".prop_map(bytes),
        1 => (0_u8..4).prop_map(|n| bytes(vec![n; 7_000])),
        1 => (0_u8..4).prop_map(|n| bytes(vec![n; 25_000])),
    ]
}

/// Writes to very few keys, of values that fill packs, between checkpoints, compactions and crashes:
/// most versions end up in packs, at whatever place.
fn hot_event() -> impl Strategy<Value = Event> {
    let key = || proptest::sample::select(vec!["a", "b"]).prop_map(bytes);
    let value = prop_oneof![
        4 => (0_u8..4).prop_map(|n| bytes(vec![n; 9])),
        4 => (0_u8..4).prop_map(|n| bytes(vec![n; 1_900])),
        1 => (0_u8..4).prop_map(|n| bytes(vec![n; 7_000])),
    ];
    let one = |op| log::Write { keyspace: 1, ..txn(Vec::new(), vec![op], Vec::new()) };
    prop_oneof![
        40 => (key(), value).prop_map(move |(key, value)| Event::Write(one(put(key, value)))),
        4 => key().prop_map(move |key| Event::Write(one(delete(key)))),
        3 => Just(Event::Begin),
        3 => (1_usize..8).prop_map(Event::Steps),
        3 => Just(Event::Finish),
        2 => any::<u64>().prop_map(Event::Crash),
        6 => (1_u64..60).prop_map(|percent| Event::Compact { id: 1, percent }),
        1 => (0_usize..12).prop_map(|steps| Event::Export { steps }),
        2 => (2_usize..24).prop_map(|steps| Event::Renew { steps }),
        3 => any::<u64>().prop_map(Event::Read),
    ]
}

fn op() -> impl Strategy<Value = v1::Op> {
    let op = prop_oneof![
        5 => (key(), value()).prop_map(|(key, value)| put(key, value)),
        2 => key().prop_map(delete),
        1 => (key(), key()).prop_map(|(a, b)| if a < b { delete_range(a, b) } else { delete(b) }),
        2 => key().prop_map(get),
    ];
    (op, any::<bool>()).prop_map(|(op, with_prev)| match &op.op {
        Some(v1::op::Op::Put(_) | v1::op::Op::Delete(_)) if with_prev => prev(op),
        _ => op,
    })
}

fn condition() -> impl Strategy<Value = v1::Compare> {
    let target = prop_oneof![
        (0_u64..30).prop_map(Target::ModRev),
        (0_u64..30).prop_map(Target::CreateRev),
        (0_u64..5).prop_map(Target::Version),
        value().prop_map(Target::Value),
        any::<bool>().prop_map(Target::Absent),
    ];
    (key(), target).prop_map(|(key, target)| compare(key, target))
}

fn transaction() -> impl Strategy<Value = log::Write> {
    let ops = || proptest::collection::vec(op(), 0..4);
    let conditions = prop_oneof![
        3 => Just(Vec::new()),
        1 => proptest::collection::vec(condition(), 1..3),
    ];
    let keyspace = prop_oneof![12 => Just(KeyspaceId::DEFAULT.get()), 6 => 2_u64..6];
    (conditions, ops(), ops(), keyspace).prop_map(|(conditions, then_ops, else_ops, keyspace)| {
        log::Write { keyspace, ..txn(conditions, then_ops, else_ops) }
    })
}

fn items() -> impl Strategy<Value = Vec<(Bytes, Option<Bytes>)>> {
    proptest::collection::vec((key(), proptest::option::weighted(0.7, value())), 0..4)
}

/// Nothing but items, as in the log of one node alone.
fn item_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => items().prop_map(Event::Items),
        3 => Just(Event::Begin),
        5 => (1_usize..8).prop_map(Event::Steps),
        3 => Just(Event::Finish),
        2 => any::<u64>().prop_map(Event::Crash),
        2 => (0_usize..12).prop_map(|steps| Event::Export { steps }),
        2 => (2_usize..24).prop_map(|steps| Event::Renew { steps }),
        5 => any::<u64>().prop_map(Event::Read),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => transaction().prop_map(Event::Write),
        12 => (transaction(), 0_usize..4, 0_u64..4)
            .prop_map(|(write, client, behind)| Event::Named { write, client, behind }),
        5 => any::<usize>().prop_map(Event::Retry),
        2 => items().prop_map(Event::Items),
        1 => Just(Event::NoOp),
        3 => Just(Event::Begin),
        4 => (1_usize..6).prop_map(Event::Steps),
        2 => Just(Event::Finish),
        2 => any::<u64>().prop_map(Event::Crash),
        3 => (2_u64..6, proptest::sample::select(vec!["x", "y", "z", "default"]), limit(3), limit(60))
            .prop_map(|(id, name, keys_max, bytes_max)| {
                Event::Open { id, name, keys_max, bytes_max }
            }),
        1 => (1_u64..6).prop_map(Event::Close),
        5 => (1_u64..4, 1_u64..=110).prop_map(|(id, percent)| Event::Compact { id, percent }),
        2 => (0_usize..12).prop_map(|steps| Event::Export { steps }),
        3 => (2_usize..24).prop_map(|steps| Event::Renew { steps }),
        3 => any::<u64>().prop_map(Event::Read),
    ]
}

fn limit(max: u64) -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => 1..=max]
}

/// A store that can be opened again after a crash.
trait Engine {
    fn open(&mut self) -> Arc<dyn StateStore>;
    /// Called when no other handle is left.
    fn crash(&mut self, seed: u64);
    /// An empty store beside the one that [`Engine::open`] opens.
    fn beside(&mut self) -> Arc<dyn StateStore>;
    /// From now on the store beside is the one that is opened.
    fn switch(&mut self);
}

/// The store that is used, and the one beside it.
#[derive(Default)]
struct MemoryEngine([MemoryStore; 2]);

impl Engine for MemoryEngine {
    fn open(&mut self) -> Arc<dyn StateStore> {
        Arc::new(self.0[0].clone())
    }

    fn crash(&mut self, seed: u64) {
        self.0[0].crash(&mut ChaCha8Rng::seed_from_u64(seed));
    }

    fn beside(&mut self) -> Arc<dyn StateStore> {
        self.0[1] = MemoryStore::new();
        Arc::new(self.0[1].clone())
    }

    fn switch(&mut self) {
        self.0.swap(0, 1);
    }
}

/// sled cannot be made to lose writes here: everything written survives.
struct SledEngine {
    root: tempfile::TempDir,
    /// Directories made, and the one that is used.
    made: u64,
    used: u64,
}

impl SledEngine {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), made: 0, used: 0 }
    }

    fn store(&self, number: u64) -> Arc<dyn StateStore> {
        Arc::new(SledStore::open(&self.root.path().join(number.to_string())).unwrap())
    }
}

impl Engine for SledEngine {
    fn open(&mut self) -> Arc<dyn StateStore> {
        self.store(self.used)
    }

    fn crash(&mut self, _seed: u64) {}

    fn beside(&mut self) -> Arc<dyn StateStore> {
        self.made += 1;
        self.store(self.made)
    }

    fn switch(&mut self) {
        self.used = self.made;
    }
}

#[derive(Default)]
struct Client {
    id: Option<Bytes>,
    born: u64,
    next: u64,
}

struct Run<E> {
    engine: E,
    store: Option<Arc<dyn StateStore>>,
    machine: Option<Machine>,
    job: Option<CheckpointJob>,
    model: Model,
    log: Vec<(Option<log::Command>, Option<log::WriteOutcome>)>,
    clients: [Client; 4],
    minted: u8,
    named: Vec<log::Write>,
}

impl<E: Engine> Run<E> {
    fn new(mut engine: E) -> Self {
        let store = engine.open();
        let machine = Machine::open(Arc::clone(&store), OPTIONS).unwrap();
        Self {
            engine,
            store: Some(store),
            machine: Some(machine),
            job: None,
            model: Model::new(OPTIONS.outcomes_max),
            log: Vec::new(),
            clients: Default::default(),
            minted: 0,
            named: Vec::new(),
        }
    }

    fn machine(&mut self) -> &mut Machine {
        self.machine.as_mut().unwrap()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Write(write) => drop(self.write(write)),
            Event::Named { write, client, behind } => self.named(write, client, behind),
            Event::Retry(which) if !self.named.is_empty() => {
                let write = self.named[which % self.named.len()].clone();
                self.write(write);
            }
            Event::Retry(_) => {}
            Event::NoOp => {
                let index = LogIndex(self.log.len() as u64 + 1);
                assert_eq!(self.machine().apply(index, Term(1), None).unwrap(), None);
                self.log.push((None, None));
            }
            Event::Begin => {
                if self.job.is_none() {
                    self.job = self.machine().begin_checkpoint();
                }
            }
            Event::Steps(count) => self.steps(count),
            Event::Finish => self.steps(usize::MAX),
            Event::Items(items) => drop(self.apply(build::items(items))),
            Event::Crash(seed) => self.crash(seed),
            Event::Open { id, name, keys_max, bytes_max } => {
                let settings = v1::keyspace::Settings { keys_max, bytes_max, ..Default::default() };
                self.apply(build::open(id, name, settings));
            }
            Event::Close(id) => drop(self.apply(build::close(id))),
            Event::Compact { id, percent } => {
                let space = self.model.spaces().get(&id);
                let (now, from) = space.map_or((9, 1), |s| (s.revision(), s.compacted));
                self.apply(build::compact(id, from + (now - from) * percent / 100 + percent / 109));
            }
            Event::Export { steps } => self.export(steps),
            Event::Renew { steps } => self.renew(steps),
            Event::Read(seed) => self.read(seed),
        }
    }

    fn write(&mut self, write: log::Write) -> log::WriteOutcome {
        self.apply(command(write))
    }

    fn apply(&mut self, command: log::Command) -> log::WriteOutcome {
        let index = self.log.len() as u64 + 1;
        let expected = self.model.apply(index, &command);
        let outcome = self.machine().apply(LogIndex(index), Term(1), Some(&command)).unwrap();
        assert_eq!(outcome.as_ref(), Some(&expected), "entry {index}: {command:?}");
        self.log.push((Some(command), outcome));
        expected
    }

    fn named(&mut self, write: log::Write, which: usize, behind: u64) {
        let applied = self.log.len() as u64;
        let client = &mut self.clients[which];
        let id = client.id.get_or_insert_with(|| {
            self.minted += 1;
            client.born = applied;
            client.next = 0;
            bytes([self.minted; 16])
        });
        client.next += 1;
        let id = v1::WriteId {
            client_id: id.clone(),
            seq: client.next,
            first_open: client.next.saturating_sub(behind),
            born: client.born,
        };
        let write = log::Write { id: Some(id), ..write };
        self.named.push(write.clone());
        let outcome = self.write(write);
        if outcome.refused == Code::OutcomeForgotten.number() {
            self.clients[which] = Client::default();
        }
    }

    fn steps(&mut self, count: usize) {
        let Some(job) = &mut self.job else { return };
        let store = self.store.as_ref().unwrap();
        for _ in 0..count {
            if job.step(&**store).unwrap() == CheckpointProgress::Done {
                let index = job.index();
                self.job = None;
                self.machine().finish_checkpoint(index);
                return;
            }
        }
    }

    fn crash(&mut self, seed: u64) {
        let before = self.machine().digest().unwrap();
        let checkpointed = self.machine().checkpointed();
        (self.machine, self.job, self.store) = (None, None, None);
        self.engine.crash(seed);
        let store = self.engine.open();
        let mut recall = Recall::new();
        if seed.is_multiple_of(2) {
            let commands = self.log.iter().filter_map(|(command, _)| command.as_ref());
            commands.for_each(|command| recall.note(command));
        }
        let mut machine = Machine::open_for(Arc::clone(&store), OPTIONS, recall).unwrap();
        assert!(machine.applied() >= checkpointed, "a finished checkpoint is durable");
        machine.verify().unwrap();
        self.replay(&mut machine);
        assert_eq!(machine.digest().unwrap(), before);
        (self.machine, self.store) = (Some(machine), Some(store));
    }

    /// Exports the last checkpoint. After `steps` it may be given up; otherwise a machine opens on
    /// what it gave and catches up.
    fn export(&mut self, steps: usize) {
        let Some(mut job) = self.machine().begin_export() else { return };
        assert!(self.machine().begin_checkpoint().is_none(), "the store is being read");
        let store = self.store.clone().unwrap();
        let (index, conf) = (job.index(), log::ConfState::default());
        let imported = MemoryStore::new();
        let mut import = ImportJob::new(index, job.term(), conf, 0);
        let mut give = |record: &log::ExportRecord| import.push(&imported, record.clone());
        for _ in 0..steps {
            if job.step(&*store, &mut give).unwrap() == ExportProgress::Done {
                import.finish(&imported).unwrap();
                let mut copy = Machine::open(Arc::new(imported), OPTIONS).unwrap();
                copy.verify().unwrap();
                self.replay(&mut copy);
                assert_eq!(copy.digest().unwrap(), self.machine().digest().unwrap());
                assert_eq!(copy.outcomes_floor(), self.machine().outcomes_floor());
                break;
            }
        }
        self.machine().end_export();
    }

    /// Copies the store. After `steps` it may be given up; otherwise the machine goes on with the
    /// copy.
    fn renew(&mut self, steps: usize) {
        let Some(mut job) = self.machine().begin_renewal() else { return };
        assert!(self.machine().begin_checkpoint().is_none(), "the store is being copied");
        let (store, renewed) = (self.store.clone().unwrap(), self.engine.beside());
        let before = self.machine().digest().unwrap();
        let done = (0..steps).any(|_| job.step(&*store, &*renewed).unwrap() == RenewProgress::Done);
        if done {
            self.machine().end_renewal(Some(Arc::clone(&renewed)));
            self.engine.switch();
            self.store = Some(renewed);
        } else {
            self.machine().end_renewal(None);
        }
        let machine = self.machine();
        machine.verify().unwrap();
        assert_eq!(machine.digest().unwrap(), before);
    }

    fn replay(&self, machine: &mut Machine) {
        let from = usize::try_from(machine.applied().get()).unwrap();
        for (position, (command, outcome)) in self.log.iter().enumerate().skip(from) {
            let index = LogIndex(position as u64 + 1);
            let replayed = machine.apply(index, Term(1), command.as_ref()).unwrap();
            assert_eq!(replayed, *outcome, "the replay of entry {index}");
        }
    }

    fn read(&mut self, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let machine = self.machine.as_ref().unwrap();
        let id = rng.random_range(1..6);
        let keyspace = KeyspaceId(id);
        let Some(space) = self.model.spaces().get(&id) else {
            let read = machine.get(keyspace, b"a", None);
            assert!(matches!(read, Err(ReadError::UnknownKeyspace)));
            return;
        };
        let revision = rng.random_range(1..=space.revision());
        let at = Some(Revision(revision));
        if revision < space.compacted {
            let read = machine.get(keyspace, b"a", at);
            assert!(matches!(read, Err(ReadError::Compacted { .. })));
            return;
        }
        let limit = rng.random_range(0..5);
        let names = ["", "a", "a\0", "aa", "b", "c", "cc", "d"];
        let mut bound = || bytes(names[rng.random_range(0..names.len())]);
        let (from, to) = (bound(), bound());
        let expected: Vec<v1::Item> = space
            .at(revision)
            .values()
            .filter(|item| item.key >= from && (to.is_empty() || item.key < to))
            .cloned()
            .collect();
        let query = RangeQuery { from, to, limit, at, ..Default::default() };
        let page = machine.range(keyspace, &query).unwrap();
        let shown = if limit == 0 { expected.len() } else { expected.len().min(limit) };
        assert_eq!(page.items, expected[..shown]);
        assert_eq!(page.more, shown < expected.len());
        assert_eq!(page.next, expected.get(shown).map_or(Bytes::new(), |item| item.key.clone()));
        let counted = RangeQuery { count_only: true, ..query };
        let count = machine.range(keyspace, &counted).unwrap().count;
        assert_eq!(count, expected.len() as u64);
        for item in &expected {
            let read = machine.get(keyspace, &item.key, at).unwrap();
            assert_eq!(read.as_ref(), Some(item));
        }
    }

    /// All of the history, the counters, and the digest of a machine that never took a checkpoint.
    fn check_everything(&mut self) {
        let mut plain = Machine::open(Arc::new(MemoryStore::new()), OPTIONS).unwrap();
        self.replay(&mut plain);
        let machine = self.machine.as_ref().unwrap();
        assert_eq!(machine.digest().unwrap(), plain.digest().unwrap());
        assert_eq!(machine.outcomes_floor().get(), self.model.floor());
        assert_eq!(machine.max_id().get(), self.model.max_id());
        assert_eq!(machine.keyspaces().count(), self.model.spaces().len());
        for (id, space) in self.model.spaces() {
            let keyspace = KeyspaceId(*id);
            assert_eq!(machine.keyspace(&space.name), Some(keyspace));
            let info = machine.keyspace_info(keyspace).unwrap();
            assert_eq!((info.live_keys, info.live_bytes), space.live());
            assert_eq!(info.compacted.get(), space.compacted);
            for revision in space.compacted..=space.revision() {
                let query = RangeQuery { at: Some(Revision(revision)), ..Default::default() };
                let page = machine.range(keyspace, &query).unwrap();
                let found: BTreeMap<Bytes, v1::Item> =
                    page.items.into_iter().map(|item| (item.key.clone(), item)).collect();
                assert_eq!(&found, space.at(revision), "keyspace {id} at {revision}");
            }
            for key in ["a", "ab", "b", "cc"].map(bytes) {
                let expected = space.history(&key);
                let mut before = None;
                let mut read = Vec::new();
                loop {
                    let page = machine.history(keyspace, &key, before, 2, false).unwrap();
                    before =
                        page.versions.last().map(|v| Revision(v.item.as_ref().unwrap().mod_rev));
                    read.extend(page.versions);
                    if !page.more {
                        break;
                    }
                }
                assert_eq!(read, expected, "the history of {key:?} in keyspace {id}");
            }
        }
    }

    /// What lies in the store after a checkpoint: no item without a living version.
    fn check_store(&mut self) {
        self.steps(usize::MAX);
        for _ in 0..2 {
            self.handle(Event::NoOp);
            self.handle(Event::Begin);
            self.handle(Event::Finish);
        }
        let store = self.store.clone().unwrap();
        let mut living: BTreeSet<(Bytes, Revision)> = BTreeSet::new();
        let records = super::export(self.machine(), &*store);
        for record in &records {
            let Some(log::export_record::Body::Version(version)) = &record.body else { continue };
            let prefix = KeyPrefix::new(KeyspaceId(version.keyspace), &version.key);
            living.insert((prefix.version(Revision(0), 0), Revision(version.mod_rev)));
        }
        let (from, to) = key::keyspace_bounds(KeyspaceId(1), KeyspaceId(u64::MAX));
        let mut missing = living.clone();
        let mut last = None;
        for found in item::scan(&*store, &from, &to) {
            let (state_key, content) = found.unwrap();
            let VersionKey { prefix, revision, chunk } = VersionKey::parse(&state_key).unwrap();
            let name = prefix.version(Revision(0), 0);
            if chunk > 0 {
                assert!(living.contains(&(name, revision)), "nothing dead is left");
                continue;
            }
            let held = Held::decode(prefix, revision, content).unwrap();
            let newest = held.newest().revision;
            assert!(living.contains(&(name.clone(), newest)), "nothing dead is left");
            let first = last.replace(name.clone()) != Some(name.clone());
            assert!(!first || held.heads().len() == 1, "the newest version stands alone");
            for head in held.heads() {
                missing.remove(&(name.clone(), head.revision));
            }
        }
        assert!(missing.is_empty(), "nothing that lives is missing");
        let (from, to) = key::all_keyspace_record_bounds();
        let keyspaces = records
            .iter()
            .filter(|record| matches!(record.body, Some(log::export_record::Body::Keyspace(_))));
        assert_eq!(store.scan(&from, &to).count(), keyspaces.count());
    }
}

fn run(engine: impl Engine, events: Vec<Event>) {
    let mut run = Run::new(engine);
    for event in events {
        run.handle(event);
    }
    run.check_everything();
    run.crash(0);
    run.check_everything();
    run.check_store();
    run.check_everything();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_machine_over_memory_agrees_with_the_model(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        run(MemoryEngine::default(), events);
    }

    #[test]
    fn items_over_memory_agree_with_the_model(
        events in proptest::collection::vec(item_event(), 1..120),
    ) {
        run(MemoryEngine::default(), events);
    }

    #[test]
    fn packs_over_memory_agree_with_the_model(
        events in proptest::collection::vec(hot_event(), 1..160),
    ) {
        run(MemoryEngine::default(), events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_machine_over_sled_agrees_with_the_model(
        events in proptest::collection::vec(event(), 60..120),
    ) {
        run(SledEngine::new(), events);
    }

    #[test]
    fn packs_over_sled_agree_with_the_model(
        events in proptest::collection::vec(hot_event(), 60..160),
    ) {
        run(SledEngine::new(), events);
    }
}
