//! Packs: what lies in them, how it is read, when they go, and what is damage.

use std::collections::BTreeSet;

use bytes::Bytes;
use log::export_record::Body;
use proto::{KeyspaceId, LogIndex, Revision, log};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::super::held::Held;
use super::super::key::{self, KeyPrefix, VersionKey};
use super::super::version::{Head, Version};
use super::super::{CheckpointProgress, RangeQuery, ReadError, item, pack};
use super::build::{compact, delete, put, write};
use super::{Bench, export, import};
use crate::state::{MemoryStore, StateError, StateStore};

const ID: KeyspaceId = KeyspaceId::DEFAULT;

/// Fills a pack with 20 of them.
const VALUE_BYTES: usize = 256;

fn value(revision: u64) -> Vec<u8> {
    vec![revision as u8; VALUE_BYTES]
}

/// A machine with `k` written at the revisions 2 to `last`.
fn bench(last: u64) -> Bench {
    let mut bench = Bench::new();
    (2..=last).for_each(|revision| drop(bench.write(write([put("k", value(revision))]))));
    bench
}

/// What each item of a keyspace holds: revisions, newest first.
fn items(store: &MemoryStore) -> Vec<Vec<u64>> {
    let (from, to) = key::keyspace_bounds(ID, ID.next());
    let held = item::scan(store, &from, &to).map(Result::unwrap).filter_map(|(key, content)| {
        let VersionKey { prefix, revision, chunk } = VersionKey::parse(&key).unwrap();
        (chunk == 0).then(|| Held::decode(prefix, revision, content).unwrap())
    });
    held.map(|held| held.heads().iter().map(|head| head.revision.get()).collect()).collect()
}

fn falling(from: u64, to: u64) -> Vec<u64> {
    (to..=from).rev().collect()
}

/// Compares every revision that can be read with what was written.
fn check_reads(bench: &Bench, last: u64) {
    for at in bench.machine.compacted(ID).get().max(2)..=last {
        assert_eq!(bench.get_at("k", at).unwrap().value, value(at), "at {at}");
        let query = RangeQuery { at: Some(Revision(at)), ..Default::default() };
        let page = bench.machine.range(ID, &query).unwrap();
        assert_eq!(page.items.len(), 1);
        assert_eq!(page.items[0].mod_rev, at);
    }
    let page = bench.machine.history(ID, b"k", None, 0, false).unwrap();
    let told: Vec<u64> = page.versions.iter().map(|v| v.item.as_ref().unwrap().mod_rev).collect();
    assert_eq!(told, falling(last, bench.machine.compacted(ID).get().max(2)));
}

#[test]
fn what_was_replaced_before_a_checkpoint_shares_items() {
    let mut bench = bench(52);
    bench.checkpoint();
    let first = [vec![52], falling(51, 42), falling(41, 22), falling(21, 2)];
    assert_eq!(items(&bench.store), first);
    bench.reopen();
    check_reads(&bench, 52);
    (53..=60).for_each(|revision| drop(bench.write(write([put("k", value(revision))]))));
    bench.checkpoint();
    let second = [vec![60], falling(59, 53)];
    assert_eq!(items(&bench.store), [&second[..], &first].concat(), "what is there stays");
    bench.reopen();
    check_reads(&bench, 60);
    assert_eq!(bench.machine.superseded_versions(), 58);
}

#[test]
fn tombstones_and_large_values_stand_alone_between_packs() {
    let mut bench = bench(4);
    bench.write(write([delete("k")]));
    for revision in 6..=8 {
        bench.write(write([put("k", value(revision))]));
    }
    bench.write(write([put("k", vec![9; 20_000])]));
    bench.write(write([put("k", value(10))]));
    bench.write(write([delete("k")]));
    bench.write(write([put("l", value(12))]));
    bench.checkpoint();
    bench.reopen();
    let expected = [vec![11], vec![10], vec![9], vec![8, 7, 6], vec![5], vec![4, 3, 2], vec![12]];
    assert_eq!(items(&bench.store), expected);
    let values = (2..=12).map(|at| bench.get_at("k", at).map(|item| item.value.len()));
    let expected = [256, 256, 256, 0, 256, 256, 256, 20_000, 256, 0, 0];
    assert!(values.eq(expected.map(|bytes| Some(bytes).filter(|bytes| *bytes > 0))));
    let digest = bench.machine.digest().unwrap();
    bench.replay();
    assert_eq!(bench.machine.digest().unwrap(), digest);
}

#[test]
fn an_import_packs_again_and_exports_the_same_records() {
    let mut bench = bench(40);
    bench.apply(compact(1, 11));
    bench.checkpoint();
    (41..=50).for_each(|revision| drop(bench.write(write([put("k", value(revision))]))));
    bench.apply(compact(1, 15));
    bench.checkpoint();
    let records = export(&mut bench.machine, &bench.store);
    let versions = records.iter().filter(|r| matches!(r.body, Some(Body::Version(_))));
    assert_eq!(versions.count(), 36, "one record per living version");
    let store = import(bench.machine.applied(), &records).unwrap();
    assert_eq!(items(&store), [vec![50], falling(49, 30), falling(29, 15)]);
    let mut copy = Bench::new();
    copy.store = store;
    copy.reopen();
    check_reads(&copy, 50);
    assert_eq!(copy.machine.digest().unwrap(), bench.machine.digest().unwrap());
    assert_eq!(export(&mut copy.machine, &copy.store), records);
    copy.apply(compact(1, 33));
    copy.checkpoint();
    assert_eq!(items(&copy.store), [vec![50], falling(49, 30)], "it is compacted like any other");
    check_reads(&copy, 50);
}

/// At every revision that a compaction can stop at, and after a crash at every step of the
/// checkpoint that deletes.
#[test]
fn a_pack_goes_with_its_newest_version() {
    const LAST: u64 = 50;
    let mut seen = BTreeSet::new();
    for compacted in 2..=LAST {
        for steps in 0.. {
            let mut bench = bench(LAST);
            bench.checkpoint();
            bench.apply(compact(1, compacted));
            let digest = bench.machine.digest().unwrap();
            let mut job = bench.machine.begin_checkpoint().unwrap();
            let mut step = || job.step(&bench.store).unwrap();
            let done = (0..steps).any(|_| step() == CheckpointProgress::Done);
            bench.store.crash(&mut ChaCha8Rng::seed_from_u64(steps + 100 * compacted));
            bench.reopen();
            bench.machine.verify().unwrap();
            bench.replay();
            assert_eq!(bench.machine.digest().unwrap(), digest);
            check_reads(&bench, LAST);
            bench.write(write([put("l", "1")]));
            bench.checkpoint();
            let expected: Vec<Vec<u64>> = items(&self::bench_store(LAST))
                .into_iter()
                .filter(|held| held[0] >= compacted)
                .chain([vec![LAST + 1]])
                .collect();
            assert_eq!(items(&bench.store), expected, "compacted to {compacted}");
            seen.insert(expected.len());
            if done {
                break;
            }
        }
    }
    assert_eq!(seen, BTreeSet::from([2, 3, 4, 5]), "one pack after the other went");
}

/// The store of [`bench`] after a checkpoint.
fn bench_store(last: u64) -> MemoryStore {
    let mut bench = bench(last);
    bench.checkpoint();
    bench.store
}

/// What dies at once may be many items: they go in batches, whatever they hold.
#[test]
fn many_dead_items_of_a_key_go_in_steps() {
    let mut bench = Bench::new();
    for revision in 2..=200_u64 {
        let bytes = if revision % 10 == 0 { 30_000 } else { 3_000 };
        bench.write(write([put("k", vec![revision as u8; bytes])]));
        if revision % 90 == 0 {
            bench.checkpoint();
        }
    }
    bench.checkpoint();
    let before = items(&bench.store).len();
    bench.apply(compact(1, 199));
    let digest = bench.machine.digest().unwrap();
    bench.checkpoint();
    assert!(before > 100 && items(&bench.store) == [[200], [199]], "{before} items");
    bench.reopen();
    bench.machine.verify().unwrap();
    assert_eq!(bench.machine.digest().unwrap(), digest);
}

/// A lost checkpoint may have written packs with other borders than the next one writes.
#[test]
fn packs_of_a_lost_checkpoint_never_meet_those_of_the_next() {
    for seed in 0..30 {
        for steps in [1, 2, 3] {
            let mut bench = bench(10);
            bench.checkpoint();
            (11..=60).for_each(|n| drop(bench.write(write([put("k", value(n))]))));
            let mut job = bench.machine.begin_checkpoint().unwrap();
            for _ in 0..steps {
                job.step(&bench.store).unwrap();
            }
            bench.store.crash(&mut ChaCha8Rng::seed_from_u64(seed * 10 + steps));
            bench.reopen();
            assert_eq!(bench.machine.applied(), LogIndex(9), "it was lost");
            assert_eq!(bench.get_at("k", 10).unwrap().value, value(10));
            bench.replay();
            bench.apply(compact(1, 17 + seed));
            (61..=70).for_each(|n| drop(bench.write(write([put("k", value(n))]))));
            let digest = bench.machine.digest().unwrap();
            bench.checkpoint();
            bench.store.crash(&mut ChaCha8Rng::seed_from_u64(seed));
            bench.reopen();
            bench.machine.verify().unwrap();
            assert_eq!(bench.machine.digest().unwrap(), digest);
            check_reads(&bench, 70);
            bench.write(write([put("l", "1")]));
            bench.checkpoint();
            let held: Vec<u64> = items(&bench.store).concat();
            let expected = [falling(70, 17 + seed), vec![71]].concat();
            assert_eq!(held, expected, "each living version once, and nothing else");
        }
    }
}

fn version(revision: u64, index: u64) -> Version {
    let value = Bytes::from(value(revision));
    Version { head: Head::put(None, Revision(revision), LogIndex(index), &value), value }
}

fn plant(bench: &Bench, key: &[u8], versions: [Version; 2]) {
    let pack = pack::seal(&KeyPrefix::new(ID, key), &[&versions[1], &versions[0]]);
    bench.store.write(&[pack]).unwrap();
}

#[test]
fn a_pack_that_reaches_beyond_its_checkpoint_is_damage() {
    for (revision, index) in [(11, 9), (9, 10)] {
        let mut bench = Bench::new();
        (2..=10).for_each(|n| drop(bench.write(write([put("other", value(n))]))));
        bench.checkpoint();
        bench.reopen();
        plant(&bench, b"k", [version(4, 3), version(revision, index)]);
        for at in [4, 10] {
            let read = bench.machine.get(ID, b"k", Some(Revision(at)));
            assert!(matches!(read, Err(ReadError::State(StateError::Damaged { .. }))), "{at}");
            let query = RangeQuery { at: Some(Revision(at)), ..Default::default() };
            let read = bench.machine.range(ID, &query);
            assert!(matches!(read, Err(ReadError::State(StateError::Damaged { .. }))), "{at}");
        }
        assert!(matches!(bench.machine.digest(), Err(StateError::Damaged { .. })));
        assert!(matches!(bench.machine.verify(), Err(StateError::Damaged { .. })));
    }
}

/// The newest version of a key is deleted by its name alone, so it must never be part of a pack.
#[test]
fn a_key_without_a_version_that_stands_alone_is_damage() {
    let mut bench = bench(10);
    bench.checkpoint();
    let newest = KeyPrefix::new(ID, b"k").version(Revision(10), 0);
    bench.store.write(&[(newest, None)]).unwrap();
    let Err(StateError::Damaged { why }) = bench.machine.verify() else {
        panic!("a version is missing");
    };
    assert!(why.contains("no newer version stands alone"), "{why}");
}

/// Every bit of a pack, and every cut of it, whether it is read or the store is opened.
#[test]
fn a_flipped_bit_in_a_pack_is_never_an_answer() {
    let mut bench = bench(6);
    bench.checkpoint();
    bench.reopen();
    let prefix = KeyPrefix::new(ID, b"k");
    let (key, stored) =
        bench.store.first_in(&prefix.version(Revision(5), 0), &prefix.end()).unwrap().unwrap();
    assert_eq!(key, prefix.version(Revision(2), 0), "2 to 5 are a pack");
    let cuts = (0..stored.len()).step_by(7).map(|bytes| stored.slice(..bytes));
    let flips = (0..stored.len() * 8).step_by(3).map(|bit| {
        let mut flipped = stored.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        Bytes::from(flipped)
    });
    for damaged in flips.chain(cuts) {
        bench.store.write(&[(key.clone(), Some(damaged))]).unwrap();
        let read = bench.machine.get(ID, b"k", Some(Revision(4)));
        assert!(matches!(read, Err(ReadError::State(StateError::Damaged { .. }))));
        assert_eq!(bench.get_at("k", 6).unwrap().value, value(6), "its neighbour is whole");
        assert!(matches!(bench.machine.verify(), Err(StateError::Damaged { .. })));
    }
}
