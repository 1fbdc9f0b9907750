//! Random histories, checkpoints and crashes: the machine against the model, on both engines.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proto::{Code, KeyspaceId, LogIndex, Revision, Term, log, v1};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use v1::compare::Target;

use super::super::{CheckpointJob, CheckpointProgress, Machine, MachineOptions, RangeQuery};
use super::build::{bytes, command, compare, delete, delete_range, get, prev, put, txn};
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
    NoOp,
    Begin,
    Steps(usize),
    /// Runs the checkpoint to its end.
    Finish,
    Crash(u64),
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
    let keyspace = prop_oneof![30 => Just(KeyspaceId::DEFAULT.get()), 1 => Just(2_u64)];
    (conditions, ops(), ops(), keyspace).prop_map(|(conditions, then_ops, else_ops, keyspace)| {
        log::Write { keyspace, ..txn(conditions, then_ops, else_ops) }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => transaction().prop_map(Event::Write),
        12 => (transaction(), 0_usize..4, 0_u64..4)
            .prop_map(|(write, client, behind)| Event::Named { write, client, behind }),
        5 => any::<usize>().prop_map(Event::Retry),
        1 => Just(Event::NoOp),
        3 => Just(Event::Begin),
        4 => (1_usize..6).prop_map(Event::Steps),
        2 => Just(Event::Finish),
        2 => any::<u64>().prop_map(Event::Crash),
        3 => any::<u64>().prop_map(Event::Read),
    ]
}

/// A store that can be opened again after a crash.
trait Engine {
    fn open(&mut self) -> Arc<dyn StateStore>;
    /// Called when no other handle is left.
    fn crash(&mut self, seed: u64);
}

impl Engine for MemoryStore {
    fn open(&mut self) -> Arc<dyn StateStore> {
        Arc::new(self.clone())
    }

    fn crash(&mut self, seed: u64) {
        MemoryStore::crash(self, &mut ChaCha8Rng::seed_from_u64(seed));
    }
}

/// sled cannot be made to lose writes here: everything written survives.
struct SledEngine(tempfile::TempDir);

impl Engine for SledEngine {
    fn open(&mut self) -> Arc<dyn StateStore> {
        Arc::new(SledStore::open(self.0.path()).unwrap())
    }

    fn crash(&mut self, _seed: u64) {}
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
            Event::Crash(seed) => self.crash(seed),
            Event::Read(seed) => self.read(seed),
        }
    }

    fn write(&mut self, write: log::Write) -> log::WriteOutcome {
        let index = self.log.len() as u64 + 1;
        let expected = self.model.apply(index, &write);
        let command = command(write);
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
        let mut machine = Machine::open(Arc::clone(&store), OPTIONS).unwrap();
        assert!(machine.applied() >= checkpointed, "a finished checkpoint is durable");
        machine.verify().unwrap();
        let from = usize::try_from(machine.applied().get()).unwrap();
        for (position, (command, outcome)) in self.log.iter().enumerate().skip(from) {
            let index = LogIndex(position as u64 + 1);
            let replayed = machine.apply(index, Term(1), command.as_ref()).unwrap();
            assert_eq!(replayed, *outcome, "the replay of entry {index}");
        }
        assert_eq!(machine.digest().unwrap(), before);
        (self.machine, self.store) = (Some(machine), Some(store));
    }

    fn read(&mut self, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let revision = rng.random_range(1..=self.model.revision());
        let limit = rng.random_range(0..5);
        let names = ["", "a", "a\0", "aa", "b", "c", "cc", "d"];
        let mut bound = || bytes(names[rng.random_range(0..names.len())]);
        let (from, to) = (bound(), bound());
        let model = self.model.at(revision);
        let expected: Vec<v1::Item> = model
            .values()
            .filter(|item| item.key >= from && (to.is_empty() || item.key < to))
            .cloned()
            .collect();
        let at = Some(Revision(revision));
        let query = RangeQuery { from, to, limit, at, ..Default::default() };
        let machine = self.machine.as_ref().unwrap();
        let page = machine.range(KeyspaceId::DEFAULT, &query).unwrap();
        let shown = if limit == 0 { expected.len() } else { expected.len().min(limit) };
        assert_eq!(page.items, expected[..shown]);
        assert_eq!(page.more, shown < expected.len());
        let counted = RangeQuery { count_only: true, ..query };
        let count = machine.range(KeyspaceId::DEFAULT, &counted).unwrap().count;
        assert_eq!(count, expected.len() as u64);
        for item in &expected {
            let read = machine.get(KeyspaceId::DEFAULT, &item.key, at).unwrap();
            assert_eq!(read.as_ref(), Some(item));
        }
    }

    /// All of the history, and the digest of a machine that never took a checkpoint.
    fn check_everything(&mut self) {
        let mut plain = Machine::open(Arc::new(MemoryStore::new()), OPTIONS).unwrap();
        for (position, (command, _)) in self.log.iter().enumerate() {
            plain.apply(LogIndex(position as u64 + 1), Term(1), command.as_ref()).unwrap();
        }
        let machine = self.machine.as_ref().unwrap();
        assert_eq!(machine.digest().unwrap(), plain.digest().unwrap());
        assert_eq!(machine.outcomes_floor().get(), self.model.floor());
        for revision in 1..=self.model.revision() {
            let query = RangeQuery { at: Some(Revision(revision)), ..Default::default() };
            let page = machine.range(KeyspaceId::DEFAULT, &query).unwrap();
            let found: BTreeMap<Bytes, v1::Item> =
                page.items.into_iter().map(|item| (item.key.clone(), item)).collect();
            assert_eq!(&found, self.model.at(revision), "at {revision}");
        }
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
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_machine_over_memory_agrees_with_the_model(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        run(MemoryStore::new(), events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_machine_over_sled_agrees_with_the_model(
        events in proptest::collection::vec(event(), 60..120),
    ) {
        run(SledEngine(tempfile::tempdir().unwrap()), events);
    }
}
