//! Compaction: what dies, when it leaves memory and store, and what nobody can tell.

use std::collections::BTreeSet;

use proto::{Code, KeyspaceId, LogIndex, Revision, log, v1};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use v1::keyspace::Settings;

use super::super::held::Held;
use super::super::{
    CheckpointProgress, HistoryClock, MachineOptions, RangeQuery, ReadError, SCAN_ENTRIES_MAX,
    item, key,
};
use super::build::{bytes, command, compact, delete, delete_range, named, open, put, write};
use super::{Bench, export};
use crate::state::{StateError, StateStore};

const ID: KeyspaceId = KeyspaceId::DEFAULT;

fn refused(outcome: &log::WriteOutcome) -> Option<Code> {
    Code::from_number(outcome.refused)
}

/// The versions in the store, living or not, as (key, revision).
fn stored(bench: &Bench) -> BTreeSet<(String, u64)> {
    let (from, to) = key::keyspace_bounds(ID, ID.next());
    let parse = |found: Result<(bytes::Bytes, bytes::Bytes), StateError>| {
        let (state_key, content) = found.unwrap();
        let key::VersionKey { prefix, revision, chunk } =
            key::VersionKey::parse(&state_key).unwrap();
        let key = String::from_utf8(prefix.user_key().unwrap().to_vec()).unwrap();
        let revisions = if chunk == 0 {
            let held = Held::decode(prefix, revision, content).unwrap();
            held.heads().iter().map(|head| head.revision.get()).collect()
        } else {
            vec![revision.get()]
        };
        revisions.into_iter().map(move |revision| (key.clone(), revision))
    };
    item::scan(&bench.store, &from, &to).flat_map(parse).collect()
}

/// Number of items in the store that belong to versions.
fn items(bench: &Bench) -> usize {
    let (from, to) = key::keyspace_bounds(ID, ID.next());
    bench.store.scan(&from, &to).count()
}

fn versions(expected: &[(&str, u64)]) -> BTreeSet<(String, u64)> {
    expected.iter().map(|(key, revision)| ((*key).to_owned(), *revision)).collect()
}

#[test]
fn only_what_no_revision_shows_goes() {
    let mut bench = Bench::new();
    for n in 2..=9_u64 {
        bench.write(write([put("hot", n.to_string())]));
    }
    bench.write(write([put("cold", "1")]));
    assert_eq!(refused(&bench.apply(compact(1, 11))), Some(Code::CompactionAhead));
    assert_eq!(refused(&bench.apply(compact(7, 1))), Some(Code::KeyspaceNotFound));
    let layer = bench.machine.layer_bytes();
    assert_eq!(bench.apply(compact(1, 6)).revision, 10);
    assert!(bench.machine.layer_bytes() < layer, "the dead leave the memory at once");
    let digest = bench.machine.digest().unwrap();
    assert!(bench.apply(compact(1, 3)).succeeded, "lower is no error and nothing happens");
    assert_eq!(bench.machine.digest().unwrap(), digest);
    assert_eq!(bench.machine.compacted(ID), Revision(6));
    for at in 6..=9 {
        assert_eq!(bench.get_at("hot", at).unwrap().value, at.to_string());
    }
    bench.checkpoint();
    let living = [("hot", 6), ("hot", 7), ("hot", 8), ("hot", 9), ("cold", 10)];
    assert_eq!(stored(&bench), versions(&living), "the dead never reach the store");
    assert_eq!(items(&bench), 3, "6 to 8 are a pack, the newest stand alone");
    bench.apply(compact(1, 8));
    bench.checkpoint();
    assert_eq!(stored(&bench), versions(&living), "a pack goes when its newest version is dead");
    bench.reopen();
    assert_eq!(bench.machine.superseded_versions(), 1, "what is dead in a pack is not counted");
    bench.apply(compact(1, 10));
    assert_eq!(stored(&bench), versions(&living), "nothing goes before a checkpoint");
    bench.checkpoint();
    assert_eq!(stored(&bench), versions(&[("hot", 9), ("cold", 10)]));
    bench.reopen();
    bench.machine.verify().unwrap();
    assert_eq!(bench.value("hot").as_deref(), Some("9"));
    assert_eq!(bench.machine.superseded_versions(), 0);
}

/// The one deletion that order matters for: a tombstone hides what lies below it.
#[test]
fn tombstones_go_last() {
    let mut seen = BTreeSet::new();
    for steps in 0.. {
        for seed in 0..6 {
            let mut bench = Bench::new();
            bench.write(write([put("a", vec![1; 400_000]), put("b", "1")]));
            bench.checkpoint();
            bench.write(write([delete("a")]));
            bench.write(write([put("b", "2")]));
            bench.write(write([delete("b")]));
            bench.apply(compact(1, 5));
            assert_eq!((bench.get("a"), bench.get("b")), (None, None));
            let expected = bench.machine.digest().unwrap();
            let mut job = bench.machine.begin_checkpoint().unwrap();
            let mut done = false;
            for _ in 0..steps {
                assert_eq!((bench.get("a"), bench.get("b")), (None, None), "while records go");
                done = job.step(&bench.store).unwrap() == CheckpointProgress::Done;
            }
            if done {
                bench.machine.finish_checkpoint(job.index());
                assert_eq!(stored(&bench), versions(&[]));
            }
            bench.store.crash(&mut ChaCha8Rng::seed_from_u64(steps * 100 + seed));
            bench.reopen();
            seen.insert((bench.machine.applied(), stored(&bench).len()));
            bench.machine.verify().unwrap();
            bench.replay();
            assert_eq!((bench.get("a"), bench.get("b")), (None, None), "{steps} {seed}");
            assert_eq!(bench.machine.digest().unwrap(), expected);
            bench.write(write([put("c", "1")]));
            bench.checkpoint();
            assert_eq!(stored(&bench), versions(&[("c", 6)]), "{steps} {seed}");
            if done && seed == 5 {
                assert!(seen.len() >= 4, "states that a crash leaves: {seen:?}");
                return;
            }
        }
    }
}

/// A version goes in several batches, and reads and writes go on between them.
#[test]
fn nobody_looks_at_what_is_half_deleted() {
    let large = || put("k", vec![1; 400_000]);
    // What a first checkpoint covers, and what makes the large value dead where that does not.
    let cases = [
        (vec![large()], Some(put("k", "2"))),
        (vec![large()], Some(delete("k"))),
        (vec![large(), put("k", "2")], Some(put("k", "3"))),
        (vec![large(), put("k", "2")], None),
    ];
    for (case, (before, after)) in cases.into_iter().enumerate() {
        let lives = case != 1;
        for steps in 0.. {
            let mut bench = Bench::new();
            before.iter().for_each(|op| drop(bench.write(write([op.clone()]))));
            bench.checkpoint();
            after.iter().for_each(|op| drop(bench.write(write([op.clone()]))));
            bench.apply(compact(1, bench.revision()));
            let newest: Vec<u64> = lives.then_some(bench.revision()).into_iter().collect();
            let check = |bench: &Bench, what: &str| {
                let page = bench.machine.range(ID, &RangeQuery::default());
                let page = page.unwrap_or_else(|error| panic!("{case} {steps} {what}: {error}"));
                assert!(page.items.iter().map(|item| item.mod_rev).eq(newest.iter().copied()));
                let page = bench.machine.history(ID, b"k", None, 0, false);
                let page = page.unwrap_or_else(|error| panic!("{case} {steps} {what}: {error}"));
                let told = page.versions.iter().map(|v| v.item.as_ref().unwrap().mod_rev);
                assert!(told.eq(newest.iter().copied()), "{case} {steps} {what}");
            };
            let mut job = bench.machine.begin_checkpoint().unwrap();
            let done = (0..steps).any(|_| {
                let done = job.step(&bench.store).unwrap() == CheckpointProgress::Done;
                check(&bench, "while it is deleted");
                done
            });
            for seed in 0..8 {
                let mut crashed = Bench::new();
                crashed.store = bench.store.fork();
                crashed.log = bench.log.clone();
                crashed.store.crash(&mut ChaCha8Rng::seed_from_u64(steps * 100 + seed));
                crashed.reopen();
                crashed.replay();
                check(&crashed, "after a crash");
            }
            let revision = bench.revision();
            bench.write(write([delete_range("a", "z")]));
            assert_eq!(bench.revision(), revision + u64::from(lives));
            if done {
                break;
            }
        }
    }
}

#[test]
fn a_key_that_comes_back_after_its_tombstone_is_one_living_version() {
    let mut bench = Bench::new();
    bench.write(write([put("k", "1")]));
    bench.checkpoint();
    for n in 0..5 {
        bench.write(write([delete("k")]));
        bench.write(write([put("k", n.to_string())]));
        let now = bench.revision();
        bench.apply(compact(1, now - 1));
        assert_eq!(bench.get_at("k", now - 1), None);
        bench.apply(compact(1, now));
    }
    assert_eq!(bench.value("k").as_deref(), Some("4"));
    bench.checkpoint();
    assert_eq!(stored(&bench), versions(&[("k", 12)]));
    bench.reopen();
    bench.machine.verify().unwrap();
    let info = bench.machine.keyspace_info(ID).unwrap();
    assert_eq!((info.live_keys, info.live_bytes), (1, 2));
}

/// What a lost checkpoint wrote must not come to light when replay, at another checkpoint, has
/// no reason to write it again.
#[test]
fn remains_of_a_lost_checkpoint_never_come_back() {
    for seed in 0..40 {
        let mut bench = Bench::new();
        bench.write(write([put("base", "1")]));
        bench.checkpoint();
        bench.write(write([put("k", vec![1; 50_000]), put("l", "1")]));
        bench.apply(open(2, "two", Settings::default()));
        bench.write(super::build::in_keyspace(2, write([put("x", "1")])));
        let mut job = bench.machine.begin_checkpoint().unwrap();
        for _ in 0..6 {
            job.step(&bench.store).unwrap();
        }
        let kept = bench.log.len();
        bench.store.crash(&mut ChaCha8Rng::seed_from_u64(seed));
        bench.reopen();
        assert_eq!(bench.machine.applied(), LogIndex(1));
        bench.replay();
        assert_eq!(bench.log.len(), kept);
        bench.write(write([delete_range("k", "m")]));
        bench.apply(super::build::close(2));
        bench.apply(compact(1, 4));
        bench.checkpoint();
        assert_eq!(stored(&bench), versions(&[("base", 2)]), "{seed}");
        let (from, to) = key::keyspace_bounds(KeyspaceId(2), KeyspaceId(3));
        assert_eq!(bench.store.scan(&from, &to).count(), 0);
        bench.reopen();
        assert_eq!((bench.get("k"), bench.get("l")), (None, None));
        bench.machine.verify().unwrap();
    }
}

/// A history with everything in it, compacted again and again.
fn entry(n: u64) -> log::Command {
    let key = format!("k{:02}", n * 7 % 30);
    let (client, seq) = ((n % 5) as u8, 1 + n / 5);
    match n % 8 {
        0 => command(write([delete(&key)])),
        1 => command(named(write([put(&key, vec![n as u8; 9_000])]), client, seq, 1, n)),
        2 => compact(1, n / 3),
        3 => command(write([delete_range("k03", "k09")])),
        _ => command(named(write([put(&key, n.to_string())]), client, seq, seq, n)),
    }
}

const OPTIONS: MachineOptions = MachineOptions { outcomes_max: 12, outcome_bytes_max: 1 << 20 };

/// etcd-io/etcd#13766, #14685, #17780: a crash at any step of a checkpoint that compacts, with any
/// part of the unflushed writes surviving, loses nothing and repeats nothing, and the revision
/// that a checkpoint has promised never falls.
#[test]
fn b01_b02_b08_revision_and_content_survive_a_crash_in_compaction() {
    const FIRST: u64 = 80;
    const SECOND: u64 = 160;
    const LAST: u64 = 200;
    let mut plain = Bench::with(OPTIONS);
    let mut expected = vec![(plain.machine.digest().unwrap(), 1)];
    for n in 1..=LAST {
        plain.apply(entry(n));
        expected.push((plain.machine.digest().unwrap(), plain.revision()));
    }
    let mut outcomes = [0, 0];
    for steps in 0.. {
        let mut done = false;
        for seed in 0..3 {
            let mut bench = Bench::with(OPTIONS);
            (1..=FIRST).for_each(|n| drop(bench.apply(entry(n))));
            bench.checkpoint();
            (FIRST + 1..=SECOND).for_each(|n| drop(bench.apply(entry(n))));
            let mut job = bench.machine.begin_checkpoint().unwrap();
            (SECOND + 1..=LAST).for_each(|n| drop(bench.apply(entry(n))));
            done = (0..steps).any(|_| job.step(&bench.store).unwrap() == CheckpointProgress::Done);
            bench.store.crash(&mut ChaCha8Rng::seed_from_u64(seed * 1000 + steps));
            bench.reopen();
            let at = bench.machine.applied().get();
            assert!(at == FIRST || at == SECOND, "at {at} after {steps} steps");
            assert!(!done || at == SECOND, "a finished checkpoint is there");
            outcomes[usize::from(at == SECOND)] += 1;
            let now = (bench.machine.digest().unwrap(), bench.revision());
            assert_eq!(now, expected[at as usize], "{steps} {seed}");
            bench.replay();
            let now = (bench.machine.digest().unwrap(), bench.revision());
            assert_eq!(now, expected[LAST as usize], "{steps} {seed}");
            bench.checkpoint();
            bench.reopen();
            assert_eq!(bench.machine.digest().unwrap(), expected[LAST as usize].0);
            bench.machine.verify().unwrap();
        }
        if done {
            break;
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "both outcomes were seen: {outcomes:?}");
}

/// etcd-io/etcd#18667: whether a revision can be read, and what is read, is the same on replicas
/// that took their checkpoints at different times, and writes do not depend on it.
#[test]
fn b14_a_compacted_revision_is_refused_alike_on_every_replica() {
    let mut replicas: Vec<(u64, Bench)> =
        [u64::MAX, 7, 31].map(|every| (every, Bench::with(OPTIONS))).into();
    for n in 1..=250 {
        let mut told = BTreeSet::new();
        for (every, bench) in &mut replicas {
            let outcome = bench.apply(entry(n));
            if n.is_multiple_of(*every) {
                bench.checkpoint();
            }
            if n.is_multiple_of(every.saturating_mul(3)) {
                bench.reopen();
            }
            let reads: Vec<String> = (0..=bench.revision() + 1)
                .map(|at| {
                    let at = Some(Revision(at));
                    format!("{:?}", bench.machine.get(ID, b"k07", at).map_err(|e| e.to_string()))
                })
                .collect();
            let history = bench.machine.history(ID, b"k07", None, 0, false).unwrap();
            told.insert(format!("{outcome:?} {reads:?} {history:?}"));
        }
        assert_eq!(told.len(), 1, "after entry {n}: {told:#?}");
        if n % 50 == 0 {
            let digests: BTreeSet<[u8; 32]> =
                replicas.iter().map(|(_, bench)| bench.machine.digest().unwrap()).collect();
            assert_eq!(digests.len(), 1);
        }
    }
    let (_, bench) = &replicas[0];
    let oldest = bench.machine.compacted(ID);
    assert!(oldest > Revision(50));
    let asked = Revision(oldest.get() - 1);
    let read = bench.machine.get(ID, b"k07", Some(asked));
    assert!(matches!(read, Err(ReadError::Compacted { oldest: o, .. }) if o == oldest));
}

#[test]
fn a_leader_keeps_the_history_that_the_settings_ask_for() {
    let mut bench = Bench::new();
    bench.apply(open(1, "default", Settings { history_revisions: 50, ..Default::default() }));
    let mut clock = HistoryClock::new();
    let mut proposals = 0;
    for n in 0..1_000_u64 {
        bench.write(write([put(format!("k{}", n % 7), n.to_string())]));
        if let Some(revision) = bench.machine.compaction_due(ID, &mut clock, n) {
            assert_eq!(bench.apply(compact(1, revision.get())).refused, 0);
            proposals += 1;
        }
        let kept = bench.revision() - bench.machine.compacted(ID).get();
        assert!(kept <= 55 && (n < 60 || kept >= 50), "{kept} revisions are kept");
        if n % 100 == 0 {
            bench.checkpoint();
        }
    }
    assert!((150..=200).contains(&proposals), "{proposals}");
    bench.checkpoint();
    let living = export(&mut bench.machine, &bench.store)
        .iter()
        .filter(|record| matches!(record.body, Some(log::export_record::Body::Version(_))))
        .count();
    assert!(living <= 55 + 7);
    assert_eq!(bench.machine.superseded_versions() + 7, living);
    // A pack holds what 7 keys got in 100 writes.
    assert!(stored(&bench).len() <= living + 7 * 100_usize.div_ceil(7));
    let superseded = bench.machine.superseded_versions();
    bench.reopen();
    assert_eq!(bench.machine.superseded_versions(), superseded, "found again by the scan");
    assert_eq!(bench.machine.compaction_due(KeyspaceId(9), &mut clock, 0), None);
}

/// Runs of deleted keys cost a page its budget, and no page looks at more than that.
#[test]
fn pages_look_at_a_bounded_number_of_entries() {
    let mut bench = Bench::new();
    const KEYS: usize = SCAN_ENTRIES_MAX + 1_000;
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(100) {
        bench.write(write(chunk.iter().map(|n| put(format!("k{n:06}"), ""))));
    }
    for from in (0..KEYS - 500).step_by(10_000) {
        let to = (from + 10_000).min(KEYS - 500);
        bench.write(write([delete_range(format!("k{from:06}"), format!("k{to:06}"))]));
    }
    for _ in 0..2 {
        for count_only in [false, true] {
            let mut query = RangeQuery { count_only, ..Default::default() };
            let (mut found, mut pages) = (0, 0);
            loop {
                let page = bench.machine.range(ID, &query).unwrap();
                found += page.count + page.items.len() as u64;
                pages += 1;
                assert_eq!(page.more, !page.next.is_empty());
                if !page.more {
                    break;
                }
                assert!(page.next > query.from);
                query = RangeQuery { from: page.next, at: Some(page.revision), ..query };
            }
            assert_eq!(found, 500);
            assert!(pages > 1, "the first page has met its bound");
        }
        bench.checkpoint();
        bench.reopen();
    }
    bench.apply(compact(1, bench.revision()));
    bench.write(write([put("a", "")]));
    bench.checkpoint();
    let query = RangeQuery { count_only: true, ..Default::default() };
    let page = bench.machine.range(ID, &query).unwrap();
    assert_eq!((page.count, page.more), (501, false), "compaction has taken the tombstones away");
}

#[test]
fn a_history_is_read_in_pages() {
    let mut bench = Bench::new();
    for n in 2..=8_u64 {
        bench.write(write([if n == 5 { delete("k") } else { put("k", n.to_string()) }]));
    }
    bench.write(write([put("large", vec![1; 600_000])]));
    bench.write(write([put("large", vec![2; 600_000])]));
    for _ in 0..2 {
        let page = |before: Option<u64>, limit| {
            let before = before.map(Revision);
            let page = bench.machine.history(ID, b"k", before, limit, false).unwrap();
            let told: Vec<(u64, bool)> = page
                .versions
                .iter()
                .map(|version| (version.item.as_ref().unwrap().mod_rev, version.deleted))
                .collect();
            (told, page.more)
        };
        assert_eq!(page(None, 2), (vec![(8, false), (7, false)], true));
        assert_eq!(page(Some(7), 2), (vec![(6, false), (5, true)], true));
        assert_eq!(page(Some(5), 3), (vec![(4, false), (3, false), (2, false)], false));
        assert_eq!(page(Some(2), 3), (vec![], false));
        assert_eq!(page(Some(0), 3), (vec![], false));
        let large = bench.machine.history(ID, b"large", None, 0, false).unwrap();
        assert_eq!((large.versions.len(), large.more), (1, true), "a page is bounded in bytes");
        let bare = bench.machine.history(ID, b"large", None, 0, true).unwrap();
        assert_eq!((bare.versions.len(), bare.more), (2, false));
        bench.checkpoint();
    }
    bench.apply(compact(1, 4));
    let told = |bench: &Bench, before| {
        let page = bench.machine.history(ID, b"k", before, 0, false).unwrap();
        let revisions = page.versions.iter().map(|v| v.item.as_ref().unwrap().mod_rev);
        (revisions.collect::<Vec<_>>(), page.compacted)
    };
    assert_eq!(told(&bench, None), (vec![8, 7, 6, 5, 4], Revision(4)));
    assert_eq!(told(&bench, Some(Revision(4))), (vec![], Revision(4)), "what is dead is not shown");
    bench.apply(compact(1, 5));
    assert_eq!(told(&bench, None), (vec![8, 7, 6], Revision(5)));
    let unknown = bench.machine.history(KeyspaceId(9), &bytes("k"), None, 0, false);
    assert!(matches!(unknown, Err(ReadError::UnknownKeyspace)));
}
