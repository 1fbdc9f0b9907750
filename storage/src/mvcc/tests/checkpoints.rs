//! Checkpoints, and crashes between any two of their steps.

use std::sync::Arc;

use proto::{KeyspaceId, LogIndex, log, v1};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use v1::compare::Target;

use super::super::{CheckpointJob, CheckpointProgress, Machine, MachineOptions, Recall};
use super::build::{command, compare, delete, named, put, txn, write};
use super::{Bench, replay, run_checkpoint};
use crate::state::{
    BatchItem, ITEM_BYTES_MAX, MemoryStore, Scan, SledStore, StateError, StateStore, StoredItem,
};

/// A history that touches everything a checkpoint writes.
fn entry(n: u64) -> log::Write {
    let key = format!("k{:02}", n * 7 % 40);
    let client = (n % 5) as u8;
    let seq = 1 + n / 5;
    match n % 6 {
        0 => write([delete(&key)]),
        1 => named(write([put(&key, vec![n as u8; 20_000])]), client, seq, seq, n),
        2 => named(write([put(&key, "x"), put("hot", n.to_string())]), client, seq, 1, n),
        _ => named(write([put(&key, n.to_string())]), client, seq, seq.saturating_sub(1), n),
    }
}

const OPTIONS: MachineOptions = MachineOptions { outcomes_max: 12, outcome_bytes_max: 1 << 20 };

/// Digest after each prefix of the history, by a machine that never takes a checkpoint.
fn digests(count: u64) -> Vec<[u8; 32]> {
    let mut bench = Bench::with(OPTIONS);
    let mut digests = vec![bench.machine.digest().unwrap()];
    for n in 1..=count {
        bench.write(entry(n));
        digests.push(bench.machine.digest().unwrap());
    }
    digests
}

/// etcd-io/etcd#13766: a crash between any two steps, with any part of the unflushed writes
/// surviving, leaves the state of an index the machine knows it is at.
#[test]
fn a_crash_between_any_two_steps_leaves_a_consistent_state() {
    const FIRST: u64 = 60;
    const SECOND: u64 = 120;
    const LAST: u64 = 150;
    let expected = digests(LAST);
    let mut outcomes = [0, 0];
    for steps in 0.. {
        let mut finished = false;
        for seed in 0..6 {
            let mut bench = Bench::with(OPTIONS);
            (1..=FIRST).for_each(|n| drop(bench.write(entry(n))));
            bench.checkpoint();
            (FIRST + 1..=SECOND).for_each(|n| drop(bench.write(entry(n))));
            let mut job = bench.machine.begin_checkpoint().unwrap();
            assert_eq!(job.index(), LogIndex(SECOND));
            (SECOND + 1..=LAST).for_each(|n| drop(bench.write(entry(n))));
            finished =
                (0..steps).any(|_| job.step(&bench.store).unwrap() == CheckpointProgress::Done);
            bench.store.crash(&mut ChaCha8Rng::seed_from_u64(seed * 1000 + steps));
            bench.reopen();
            let at = bench.machine.applied().get();
            assert!(at == FIRST || at == SECOND, "at {at} after {steps} steps");
            assert!(!finished || at == SECOND, "a finished checkpoint is there");
            outcomes[usize::from(at == SECOND)] += 1;
            assert_eq!(bench.machine.digest().unwrap(), expected[at as usize], "{steps} {seed}");
            bench.machine.verify().unwrap();
            for n in at + 1..=LAST {
                // Nothing of a lost checkpoint shows before the replay reaches it.
                let index = bench.machine.applied().next();
                assert_eq!(index, LogIndex(n));
                let command = bench.log[n as usize - 1].clone();
                bench.machine.apply(index, proto::Term(1), Some(&command)).unwrap();
                if n % 10 == 0 {
                    assert_eq!(bench.machine.digest().unwrap(), expected[n as usize]);
                }
            }
            bench.checkpoint();
            bench.reopen();
            assert_eq!(bench.machine.digest().unwrap(), expected[LAST as usize]);
            bench.machine.verify().unwrap();
        }
        if finished {
            break;
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "both outcomes were seen: {outcomes:?}");
}

/// etcd-io/etcd#17780.
#[test]
fn the_revision_never_falls_behind_what_a_checkpoint_promised() {
    let mut bench = Bench::with(OPTIONS);
    let mut promised = 1;
    for n in 1..=200 {
        bench.write(entry(n));
        if n % 20 == 0 {
            bench.checkpoint();
            promised = bench.revision();
        }
        if n % 33 == 0 {
            let before = bench.revision();
            bench.store.crash(&mut ChaCha8Rng::seed_from_u64(n));
            bench.reopen();
            assert!(bench.revision() >= promised);
            bench.replay();
            assert_eq!(bench.revision(), before);
        }
    }
}

#[test]
fn one_checkpoint_at_a_time_and_only_when_something_is_new() {
    let mut bench = Bench::new();
    assert!(bench.machine.begin_checkpoint().is_none(), "nothing is new");
    bench.write(write([put("a", "1")]));
    assert!(bench.machine.layer_bytes() > 0);
    let mut job = bench.machine.begin_checkpoint().unwrap();
    assert!(bench.machine.begin_checkpoint().is_none(), "one runs");
    bench.write(write([put("a", "2")]));
    assert!(bench.machine.begin_checkpoint().is_none(), "one runs still");
    while job.step(&bench.store).unwrap() == CheckpointProgress::Continue {}
    assert_eq!(job.step(&bench.store).unwrap(), CheckpointProgress::Done, "done stays done");
    assert_eq!(bench.machine.checkpointed(), LogIndex(0));
    bench.machine.finish_checkpoint(job.index());
    assert_eq!(bench.machine.checkpointed(), LogIndex(1));
    let job = bench.machine.begin_checkpoint().unwrap();
    assert_eq!((job.index(), job.term()), (LogIndex(2), proto::Term(1)));
}

#[test]
#[should_panic(expected = "the store holds the checkpoint that is finished")]
fn an_unfinished_checkpoint_cannot_be_finished() {
    let mut bench = Bench::new();
    bench.write(write([put("a", "1")]));
    let mut job = bench.machine.begin_checkpoint().unwrap();
    job.step(&bench.store).unwrap();
    bench.machine.finish_checkpoint(job.index());
}

#[test]
fn a_checkpoint_runs_on_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<CheckpointJob>();
    assert_send::<Machine>();
    let mut bench = Bench::with(OPTIONS);
    (1..=500).for_each(|n| drop(bench.write(entry(n))));
    let mut job = bench.machine.begin_checkpoint().unwrap();
    let store = bench.store.clone();
    let writer = std::thread::spawn(move || {
        while job.step(&store).unwrap() == CheckpointProgress::Continue {}
        job
    });
    for n in 501..=600 {
        bench.write(entry(n));
        assert_eq!(bench.get_at("hot", 3).unwrap().value, "2");
    }
    let job = writer.join().unwrap();
    bench.machine.finish_checkpoint(job.index());
    assert_eq!(bench.machine.digest().unwrap(), digests(600)[600]);
}

#[test]
fn dropped_outcomes_leave_the_store_in_the_end() {
    let mut bench = Bench::new();
    let outcomes = |bench: &Bench| {
        let (from, to) = super::super::key::outcome_bounds();
        bench.store.scan(&from, &to).count()
    };
    for seq in 1..=200 {
        bench.write(named(write([put("k", "v")]), 1, seq, 1, 0));
    }
    bench.checkpoint();
    assert_eq!(outcomes(&bench), 200);
    bench.write(named(write([put("k", "v")]), 1, 201, 201, 0));
    let mut job = bench.machine.begin_checkpoint().unwrap();
    while outcomes(&bench) >= 200 {
        assert_eq!(job.step(&bench.store).unwrap(), CheckpointProgress::Continue);
    }
    // The first ones are deleted: the checkpoint must be durable by now. The deletes are not
    // flushed, so after a crash some records may be back, and go again.
    bench.store.crash(&mut ChaCha8Rng::seed_from_u64(1));
    bench.reopen();
    assert_eq!(bench.machine.applied(), LogIndex(201));
    assert_eq!(bench.machine.outcomes_kept(), 1);
    bench.write(write([put("k", "v")]));
    bench.checkpoint();
    assert_eq!(outcomes(&bench), 1);
}

#[test]
fn damage_in_the_store_is_found() {
    let mut bench = Bench::with(OPTIONS);
    (1..=60).for_each(|n| drop(bench.write(entry(n))));
    bench.checkpoint();
    bench.machine.verify().unwrap();
    let items: Vec<StoredItem> = bench.store.scan(&[0], &[0xff]).map(Result::unwrap).collect();
    for (key, value) in &items {
        let mut changed = value.to_vec();
        match changed.last_mut() {
            Some(byte) => *byte ^= 1,
            None => changed.push(0),
        }
        for damage in [None, Some(changed.into())] {
            bench.store.write(&[(key.clone(), damage)]).unwrap();
            let found = bench.machine.verify();
            assert!(matches!(found, Err(StateError::Damaged { .. })), "{}", key.escape_ascii());
            let opened = Machine::open(Arc::new(bench.store.clone()), OPTIONS);
            let empty = opened.as_ref().is_ok_and(|machine| machine.applied() == LogIndex(0));
            assert_eq!(opened.is_err(), !empty, "without its base record it holds nothing");
        }
        bench.store.write(&[(key.clone(), Some(value.clone()))]).unwrap();
    }
    bench.machine.verify().unwrap();
    let checkpoint = super::super::key::checkpoint();
    bench.store.write(&[(checkpoint, Some("no such record".into()))]).unwrap();
    let opened = Machine::open(Arc::new(bench.store.clone()), OPTIONS);
    assert!(matches!(opened, Err(StateError::Damaged { .. })));
}

/// A store whose reads fail on demand.
#[derive(Debug, Default)]
struct FailingStore {
    inner: MemoryStore,
    failing: std::sync::atomic::AtomicBool,
}

impl FailingStore {
    fn fail(&self, failing: bool) {
        self.failing.store(failing, std::sync::atomic::Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), StateError> {
        if self.failing.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(StateError::Poisoned);
        }
        Ok(())
    }
}

impl StateStore for FailingStore {
    fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, StateError> {
        self.check().and_then(|()| self.inner.get(key))
    }
    fn first_in(&self, from: &[u8], to: &[u8]) -> Result<Option<StoredItem>, StateError> {
        self.check().and_then(|()| self.inner.first_in(from, to))
    }
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        match self.check() {
            Ok(()) => self.inner.scan(from, to),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
    fn write(&self, batch: &[BatchItem]) -> Result<(), StateError> {
        self.check().and_then(|()| self.inner.write(batch))
    }
    fn flush(&self) -> Result<(), StateError> {
        self.check().and_then(|()| self.inner.flush())
    }
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
}

#[test]
fn a_failing_store_applies_nothing() {
    let store = Arc::new(FailingStore::default());
    let mut machine = Machine::open(Arc::clone(&store) as Arc<dyn StateStore>, OPTIONS).unwrap();
    let commands: Vec<log::Command> = (1..=60).map(|n| super::build::command(entry(n))).collect();
    replay(&mut machine, &commands);
    run_checkpoint(&mut machine, &*store);
    let digest = machine.digest().unwrap();
    let mut machine = Machine::open(Arc::clone(&store) as Arc<dyn StateStore>, OPTIONS).unwrap();
    let cases = [
        named(write([put("fresh", "1"), put("k00", "2")]), 9, 1, 1, 60),
        named(write([put("fresh", "1"), super::build::delete_range("g", "z")]), 9, 1, 1, 60),
    ];
    for case in cases {
        store.fail(true);
        let command = super::build::command(case);
        let failed = machine.apply(LogIndex(61), proto::Term(1), Some(&command));
        assert!(matches!(failed, Err(StateError::Poisoned)));
        assert!(machine.get(KeyspaceId::DEFAULT, b"k00", None).is_err());
        assert!(machine.digest().is_err() && machine.verify().is_err());
        store.fail(false);
        assert_eq!(machine.applied(), LogIndex(60));
        assert_eq!(machine.digest().unwrap(), digest);
    }
    let rebuilt = MemoryStore::new();
    let mut rebuilt = Machine::open(Arc::new(rebuilt), OPTIONS).unwrap();
    replay(&mut rebuilt, &commands);
    assert_eq!(rebuilt.digest().unwrap(), digest, "an empty store and the log are enough");
}

#[test]
fn keys_that_were_recalled_are_written_without_a_read() {
    let store = Arc::new(FailingStore::default());
    let mut machine = Machine::open(Arc::clone(&store) as Arc<dyn StateStore>, OPTIONS).unwrap();
    let compared = |key: &str, target| txn([compare(key, target)], [put("seen", "1")], []);
    let deleted = command(write([put("gone", "1"), put("kept", "value")]));
    let log = [deleted, command(write([delete("gone")]))];
    replay(&mut machine, &log);
    run_checkpoint(&mut machine, &*store);
    let behind = [
        command(write([put("kept", "2"), put("new", "1"), delete("gone")])),
        command(compared("never", Target::Absent(true))),
        command(compared("kept", Target::Version(2))),
        command(write([delete("absent"), put("gone", "again")])),
    ];
    let all = [&log[..], &behind].concat();
    replay(&mut machine, &all);
    let mut recall = Recall::new();
    behind.iter().for_each(|command| recall.note(command));
    let mut again =
        Machine::open_for(Arc::clone(&store) as Arc<dyn StateStore>, OPTIONS, recall).unwrap();
    store.fail(true);
    replay(&mut again, &all);
    store.fail(false);
    assert_eq!(again.digest().unwrap(), machine.digest().unwrap());

    // What the store holds changes with a checkpoint, and a value is read when it is asked for.
    let mut recall = Recall::new();
    behind.iter().for_each(|command| recall.note(command));
    let mut again =
        Machine::open_for(Arc::clone(&store) as Arc<dyn StateStore>, OPTIONS, recall).unwrap();
    let previous = command(write([super::build::prev(put("kept", "3"))]));
    let outcome = again.apply(LogIndex(3), proto::Term(1), Some(&previous)).unwrap().unwrap();
    let Some(v1::op_result::Result::Put(put)) = &outcome.results[0].result else {
        panic!("{outcome:?}")
    };
    assert_eq!(put.prev.as_ref().map(|item| &item.value[..]), Some(&b"value"[..]));
    run_checkpoint(&mut again, &*store);
    let once_more = command(compared("kept", Target::Version(2)));
    let outcome = again.apply(LogIndex(4), proto::Term(1), Some(&once_more)).unwrap().unwrap();
    assert!(outcome.succeeded);
}

/// sled itself: what it holds when its directory is copied right after a flush of ours is a
/// store that opens at that checkpoint.
#[test]
fn sled_opens_at_the_last_checkpoint_from_a_copy_of_its_files() {
    let root = tempfile::tempdir().unwrap();
    let expected = digests(180);
    let dir = root.path().join("1-0");
    let store = Arc::new(SledStore::open(&dir).unwrap());
    let mut machine = Machine::open(Arc::clone(&store) as Arc<dyn StateStore>, OPTIONS).unwrap();
    let commands: Vec<log::Command> = (1..=180).map(|n| super::build::command(entry(n))).collect();
    for at in [60, 120, 180] {
        replay(&mut machine, &commands[..at]);
        run_checkpoint(&mut machine, &*store);
        let copy = root.path().join(format!("copy-{at}"));
        copy_dir(&dir, &copy);
        let copied = Arc::new(SledStore::open(&copy).unwrap());
        let copied = Machine::open(copied, OPTIONS).unwrap();
        assert_eq!(copied.applied(), LogIndex(at as u64));
        assert_eq!(copied.digest().unwrap(), expected[at]);
        copied.verify().unwrap();
    }
}

/// spacejam/sled never syncs what it moves to `blobs/`: items stay so small that nothing goes there,
/// with the longest keys, values of every length around an item's, and their checksums.
#[test]
fn s02_nothing_of_a_checkpoint_outgrows_an_item() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SledStore::open(dir.path()).unwrap());
    let mut machine = Machine::open(Arc::clone(&store) as Arc<dyn StateStore>, OPTIONS).unwrap();
    let commands: Vec<log::Command> = (0..400_usize)
        .map(|n| {
            let key = vec![n as u8; [1, 8, 500, proto::limits::KEY_BYTES_MAX][n % 4]];
            let value = vec![n as u8; ITEM_BYTES_MAX - 4_800 + n * 13];
            super::build::command(write([put(key, value)]))
        })
        .collect();
    for at in [200, 400] {
        replay(&mut machine, &commands[..at]);
        run_checkpoint(&mut machine, &*store);
    }
    let largest = store.scan(&[0], &[0xff]).map(Result::unwrap).map(|(k, v)| k.len() + v.len());
    assert_eq!(largest.max(), Some(ITEM_BYTES_MAX), "items are filled and not more");
    let blobs = std::fs::read_dir(dir.path().join("blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0);
    drop((machine, store));
    let store = Arc::new(SledStore::open(dir.path()).unwrap());
    Machine::open(store, OPTIONS).unwrap().verify().unwrap();
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
