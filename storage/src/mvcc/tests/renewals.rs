//! Stores copied into new ones, under machines that go on.

use std::sync::Arc;

use proto::v1::keyspace::Settings;
use proto::{LogIndex, Term};

use super::super::key::{self, KeyPrefix};
use super::super::{Machine, MachineOptions, RenewError, RenewJob, RenewProgress};
use super::build::{close, compact, delete, in_keyspace, named, open, put, write};
use super::{Bench, run_checkpoint};
use crate::state::{BATCH_ITEMS_MAX, MemoryStore, SledStore, StateError, StateStore, StoredItem};

const OPTIONS: MachineOptions = MachineOptions { outcomes_max: 10, outcome_bytes_max: 1 << 20 };

/// Checkpoints with packs, large values, tombstones, evicted outcomes, and a keyspace that is closed
/// after the last of them.
fn bench() -> Bench {
    let mut bench = Bench::with(OPTIONS);
    bench.apply(open(3, "three", Settings::default()));
    churn(&mut bench, 0..300);
    bench.checkpoint();
    bench.apply(compact(1, 40));
    churn(&mut bench, 300..400);
    bench.checkpoint();
    bench.apply(compact(1, 60));
    bench.apply(close(3));
    bench
}

fn churn(bench: &mut Bench, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let key = format!("k{:02}", n % 13);
        let write = match n % 7 {
            0 => write([delete(&key)]),
            1 => write([put(&key, vec![n as u8; 30_000])]),
            _ => write([put(&key, n.to_string())]),
        };
        let write = in_keyspace([1, 3][n as usize % 2], write);
        bench.write(named(write, (n % 20) as u8, 1 + n / 20, 1, n.saturating_sub(2)));
    }
}

fn items(store: &dyn StateStore) -> Vec<StoredItem> {
    store.scan(&[0; 8], &[0xff; 8]).map(|item| item.unwrap()).collect()
}

fn finish(
    job: &mut RenewJob,
    from: &dyn StateStore,
    to: &dyn StateStore,
) -> Result<(), RenewError> {
    while job.step(from, to)? == RenewProgress::Continue {}
    Ok(())
}

#[test]
fn a_copy_is_the_store_item_by_item_and_the_machine_goes_on_with_it() {
    let mut bench = bench();
    let digest = bench.machine.digest().unwrap();
    let old = items(&bench.store);
    assert!(old.len() > 3 * BATCH_ITEMS_MAX, "{} items make several batches", old.len());

    let mut job = bench.machine.begin_renewal().unwrap();
    assert!(bench.machine.begin_renewal().is_none(), "one at a time");
    assert!(bench.machine.begin_checkpoint().is_none(), "the store is being copied");
    assert!(bench.machine.begin_export().is_none(), "the store is being copied");
    let renewed = MemoryStore::new();
    finish(&mut job, &bench.store, &renewed).unwrap();
    assert_eq!(job.items(), old.len() as u64);
    assert_eq!(items(&renewed), old);
    assert!(renewed.size_bytes() < bench.store.size_bytes(), "only what lives is in it");

    // What is applied meanwhile is in memory.
    bench.write(write([put("meanwhile", "1")]));
    let replaced = bench.machine.end_renewal(Some(Arc::new(renewed.clone()))).unwrap();
    assert_eq!(items(&*replaced), old);
    assert_ne!(bench.machine.digest().unwrap(), digest);
    bench.machine.verify().unwrap();

    // The next checkpoint deletes what is dead, by the keys that the machine remembers.
    let before = bench.machine.digest().unwrap();
    run_checkpoint(&mut bench.machine, &renewed);
    bench.machine.verify().unwrap();
    assert_eq!(bench.machine.digest().unwrap(), before);
    assert_eq!(items(&bench.store), old, "the old store is not touched");
    let closed = key::keyspace_bounds(proto::KeyspaceId(3), proto::KeyspaceId(4));
    assert_eq!(renewed.scan(&closed.0, &closed.1).count(), 0, "the closed keyspace is gone");
    let opened = Machine::open(Arc::new(renewed), OPTIONS).unwrap();
    assert_eq!(opened.digest().unwrap(), before);
}

#[test]
fn one_that_is_given_up_at_any_step_changes_nothing() {
    let mut bench = bench();
    let (digest, old) = (bench.machine.digest().unwrap(), items(&bench.store));
    for steps in 0.. {
        let renewed = MemoryStore::new();
        let mut job = bench.machine.begin_renewal().unwrap();
        let done =
            (0..steps).any(|_| job.step(&bench.store, &renewed).unwrap() == RenewProgress::Done);
        assert!(bench.machine.end_renewal(None).is_none());
        assert_eq!(items(&bench.store), old);
        assert_eq!(bench.machine.digest().unwrap(), digest);
        if done {
            break;
        }
        // A machine that finds it takes it for empty, or for what it is.
        if let Ok(machine) = Machine::open(Arc::new(renewed), OPTIONS) {
            let applied = machine.applied();
            assert!(applied == LogIndex(0) || applied == bench.machine.checkpointed());
        }
    }
    bench.checkpoint();
    assert_eq!(bench.machine.digest().unwrap(), digest);
}

#[test]
fn none_begins_before_a_checkpoint_or_beside_one() {
    let mut bench = Bench::new();
    assert!(bench.machine.begin_renewal().is_none(), "there is nothing to copy");
    bench.write(write([put("a", "1")]));
    let job = bench.machine.begin_checkpoint().unwrap();
    assert!(bench.machine.begin_renewal().is_none(), "the store changes");
    drop(job);
    bench.machine.abandon_checkpoint();
    assert!(bench.machine.begin_renewal().is_none(), "the store has failed");
    let mut bench = Bench::new();
    bench.write(write([put("a", "1")]));
    bench.checkpoint();
    let export = bench.machine.begin_export();
    assert!(export.is_some() && bench.machine.begin_renewal().is_none(), "one at a time");
    bench.machine.end_export();
    assert!(bench.machine.begin_renewal().is_some());
}

#[test]
#[should_panic(expected = "the new store holds everything")]
fn a_copy_that_is_not_finished_is_not_taken() {
    let mut bench = bench();
    let renewed = MemoryStore::new();
    let mut job = bench.machine.begin_renewal().unwrap();
    job.step(&bench.store, &renewed).unwrap();
    job.step(&bench.store, &renewed).unwrap();
    bench.machine.end_renewal(Some(Arc::new(renewed)));
}

#[test]
fn a_store_that_holds_something_is_not_copied_into() {
    let mut bench = bench();
    let renewed = MemoryStore::new();
    let key = KeyPrefix::new(proto::KeyspaceId(1), b"stray").version(proto::Revision(1), 0);
    renewed.write(&[(key, Some("x".into()))]).unwrap();
    let mut job = bench.machine.begin_renewal().unwrap();
    let refused = finish(&mut job, &bench.store, &renewed);
    assert!(matches!(refused, Err(RenewError::NotEmpty)));
}

#[test]
fn a_damaged_item_anywhere_is_found_and_not_copied() {
    let count = items(&bench().store).len();
    for position in (0..count).step_by(7).chain([count - 1]) {
        let mut bench = bench();
        let (key, value) = items(&bench.store).swap_remove(position);
        let mut flipped = value.to_vec();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        bench.store.write(&[(key, Some(flipped.into()))]).unwrap();
        let mut job = bench.machine.begin_renewal().unwrap();
        let failed = finish(&mut job, &bench.store, &MemoryStore::new());
        let Err(RenewError::From(StateError::Damaged { .. })) = failed else {
            panic!("item {position}: {failed:?}")
        };
        bench.machine.end_renewal(None);
    }
}

/// The file of sled grows with every checkpoint and never shrinks; a copy of it does not keep that.
#[test]
fn a_renewed_store_of_sled_is_small_opens_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn StateStore> = Arc::new(SledStore::open(&dir.path().join("1-0")).unwrap());
    let mut machine = Machine::open(Arc::clone(&store), OPTIONS).unwrap();
    for round in 0..30_u8 {
        for n in 0..100_u32 {
            let value = vec![round ^ n as u8; 2_000 + (n as usize * 7) % 900];
            let command = super::build::command(write([put(n.to_be_bytes(), value)]));
            let index = machine.applied().next();
            machine.apply(index, Term(1), Some(&command)).unwrap();
        }
        let revision = machine.revision(proto::KeyspaceId(1)).get();
        let index = machine.applied().next();
        machine.apply(index, Term(1), Some(&compact(1, revision))).unwrap();
        run_checkpoint(&mut machine, &*store);
    }
    let (before, digest) = (machine.store_bytes(), machine.digest().unwrap());
    let renewed: Arc<dyn StateStore> = Arc::new(SledStore::open(&dir.path().join("1-1")).unwrap());
    let mut job = machine.begin_renewal().unwrap();
    finish(&mut job, &*store, &*renewed).unwrap();
    machine.end_renewal(Some(Arc::clone(&renewed)));
    assert!(machine.store_bytes() < before / 2, "{} of {before}", machine.store_bytes());
    assert_eq!(machine.digest().unwrap(), digest);
    drop((machine, store, renewed));
    let store = SledStore::open(&dir.path().join("1-1")).unwrap();
    let machine = Machine::open(Arc::new(store), OPTIONS).unwrap();
    assert_eq!(machine.digest().unwrap(), digest);
}
