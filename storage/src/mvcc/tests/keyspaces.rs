//! Keyspaces come and go, and keep to their limits.

use std::collections::BTreeSet;

use proto::{Code, KeyspaceId, Revision, log, v1};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use v1::keyspace::Settings;

use super::super::{CheckpointProgress, ReadError, key};
use super::Bench;
use super::build::{close, delete, in_keyspace, named, open, put, write};
use crate::state::StateStore;

fn refused(outcome: &log::WriteOutcome) -> Option<Code> {
    Code::from_number(outcome.refused)
}

/// Items of a keyspace that lie in the store.
fn stored(bench: &Bench, id: u64) -> usize {
    let (from, to) = key::keyspace_bounds(KeyspaceId(id), KeyspaceId(id + 1));
    bench.store.scan(&from, &to).count()
}

#[test]
fn keyspaces_count_their_own_revisions() {
    let mut bench = Bench::new();
    bench.write(write([put("a", "default")]));
    let opened = bench.apply(open(4, "other", Settings::default()));
    assert_eq!((opened.succeeded, opened.revision, opened.refused), (true, 1, 0));
    assert_eq!(bench.write(in_keyspace(4, write([put("a", "other")]))).revision, 2);
    assert_eq!(bench.write(in_keyspace(4, write([delete("a")]))).revision, 3);
    assert_eq!(bench.value("a").as_deref(), Some("default"));
    assert_eq!(bench.machine.keyspace("other"), Some(KeyspaceId(4)));
    let ids: Vec<u64> = bench.machine.keyspaces().map(|info| info.descriptor.id).collect();
    assert_eq!(ids, [1, 4]);
    let unknown = bench.write(in_keyspace(3, write([put("a", "1")])));
    assert_eq!((refused(&unknown), unknown.revision), (Some(Code::KeyspaceNotFound), 0));
}

#[test]
fn a_closed_keyspace_is_gone_for_good() {
    let mut bench = Bench::new();
    bench.apply(open(2, "two", Settings::default()));
    bench.apply(open(9, "nine", Settings::default()));
    bench.write(in_keyspace(9, write([put("a", "1")])));
    assert!(bench.apply(close(9)).succeeded);
    let check = |bench: &mut Bench| {
        assert_eq!(
            refused(&bench.apply(open(9, "nine", Settings::default()))),
            Some(Code::KeyspaceNotFound)
        );
        let late = bench.write(in_keyspace(9, write([put("a", "2")])));
        assert_eq!(refused(&late), Some(Code::KeyspaceNotFound));
        let read = bench.machine.get(KeyspaceId(9), b"a", None);
        assert!(matches!(read, Err(ReadError::UnknownKeyspace)));
        assert_eq!(bench.machine.keyspace("nine"), None);
        assert_eq!(bench.machine.max_id(), KeyspaceId(9), "its id is not given away again");
    };
    check(&mut bench);
    bench.checkpoint();
    bench.reopen();
    check(&mut bench);
    assert_eq!(refused(&bench.apply(close(1))), Some(Code::KeyspaceProtected));
    assert!(bench.apply(open(10, "nine", Settings::default())).succeeded, "its name is free");
}

/// What a closed keyspace held leaves the store bit by bit, after a durable checkpoint, and the
/// deletion goes on where a crash has stopped it.
#[test]
fn the_content_of_a_closed_keyspace_leaves_the_store_over_crashes() {
    let mut seen = BTreeSet::new();
    for steps in 0.. {
        let mut bench = Bench::new();
        bench.apply(open(2, "two", Settings::default()));
        bench.apply(open(3, "three", Settings::default()));
        for n in 0..40_u8 {
            bench.write(in_keyspace(2, write((0..8).map(|m| put(format!("{n}/{m}"), "v")))));
            bench.write(in_keyspace(3, write([put([n], vec![n; 20_000])])));
        }
        bench.checkpoint();
        let before = (stored(&bench, 2), stored(&bench, 3));
        bench.apply(close(2));
        bench.write(in_keyspace(3, write([put("late", "v")])));
        let expected = bench.machine.digest().unwrap();
        let mut job = bench.machine.begin_checkpoint().unwrap();
        let done = (0..steps).any(|_| job.step(&bench.store).unwrap() == CheckpointProgress::Done);
        let durable = {
            let mut copy = Bench::new();
            copy.store = bench.store.clone();
            copy.store.crash(&mut ChaCha8Rng::seed_from_u64(steps));
            copy.reopen();
            copy.machine.applied().get() == bench.log.len() as u64
        };
        assert!(durable || stored(&bench, 2) == before.0, "nothing goes before its time");
        seen.insert((durable, stored(&bench, 2) == 0));
        bench.reopen();
        bench.replay();
        assert_eq!(bench.machine.digest().unwrap(), expected, "after {steps} steps");
        bench.write(write([put("a", "1")]));
        bench.checkpoint();
        assert_eq!((stored(&bench, 2), stored(&bench, 3)), (0, before.1 + 1));
        bench.reopen();
        bench.machine.verify().unwrap();
        if done {
            break;
        }
    }
    assert_eq!(seen, BTreeSet::from([(false, false), (true, false), (true, true)]));
}

#[test]
fn hundreds_of_keyspaces_go_through_a_checkpoint() {
    let mut bench = Bench::new();
    for id in 2..=600_u64 {
        bench.apply(open(id, &format!("{id:0>128}"), Settings::default()));
        bench.write(in_keyspace(id, write([put("a", id.to_string())])));
    }
    (2..=600).step_by(3).for_each(|id| drop(bench.apply(close(id))));
    let digest = bench.machine.digest().unwrap();
    bench.checkpoint();
    bench.write(write([put("a", "1")]));
    bench.checkpoint();
    let (from, to) = key::all_keyspace_record_bounds();
    assert_eq!(bench.store.scan(&from, &to).count(), 600, "earlier records are gone");
    bench.reopen();
    assert_ne!(bench.machine.digest().unwrap(), digest);
    assert_eq!(bench.machine.keyspaces().count(), 400);
    for id in [3, 4, 600] {
        assert_eq!(bench.machine.keyspace(&format!("{id:0>128}")), Some(KeyspaceId(id)));
        assert_eq!(bench.machine.revision(KeyspaceId(id)), Revision(2));
    }
}

#[test]
fn limits_hold_back_what_grows() {
    let mut bench = Bench::new();
    let settings = Settings { keys_max: 2, bytes_max: 12, ..Default::default() };
    bench.apply(open(2, "small", settings));
    let mut run = |ops: Vec<v1::Op>| refused(&bench.write(in_keyspace(2, write(ops))));
    let full = Some(Code::KeyspaceFull);
    assert_eq!(run(vec![put("a", "12345"), put("b", "12345")]), None);
    assert_eq!(run(vec![put("c", "")]), full, "a third key");
    assert_eq!(run(vec![put("a", "123456")]), full, "a byte too many");
    assert_eq!(run(vec![put("a", "54321")]), None);
    assert_eq!(run(vec![put("c", "1"), delete("b")]), None, "the whole transaction counts");
    assert_eq!(run(vec![put("a", "1")]), None);
    let info = bench.machine.keyspace_info(KeyspaceId(2)).unwrap();
    assert_eq!((info.live_keys, info.live_bytes, info.revision), (2, 4, Revision(5)));
    bench.apply(open(2, "small", Settings { keys_max: 1, bytes_max: 1, ..Default::default() }));
    let mut run = |ops: Vec<v1::Op>| refused(&bench.write(in_keyspace(2, write(ops))));
    assert_eq!(run(vec![put("a", "")]), None, "an overwrite that shrinks");
    assert_eq!(run(vec![put("a", "1")]), full);
    assert_eq!(run(vec![delete("a"), delete("c")]), None);
    assert_eq!(run(vec![put("a", "")]), None);
}

/// A refusal for want of room is an outcome like others: it has no effect and is repeated.
#[test]
fn a_full_keyspace_answers_a_retry_alike() {
    let mut bench = Bench::new();
    bench.apply(open(2, "small", Settings { keys_max: 1, ..Default::default() }));
    let two = || named(in_keyspace(2, write([put("a", "1"), put("b", "2")])), 1, 1, 1, 0);
    let first = bench.write(two());
    assert_eq!((refused(&first), first.revision), (Some(Code::KeyspaceFull), 1));
    bench.apply(open(2, "small", Settings::default()));
    let again = bench.write(two());
    assert_eq!((refused(&again), again.replayed), (Some(Code::KeyspaceFull), true));
    assert_eq!(bench.machine.get(KeyspaceId(2), b"a", None).unwrap(), None);
}

#[test]
fn settings_survive_a_checkpoint() {
    let mut bench = Bench::new();
    let settings =
        Settings { history_revisions: 7, history_seconds: 8, keys_max: 9, bytes_max: 10 };
    bench.apply(open(2, "two", settings));
    bench.apply(open(1, "default", settings));
    bench.checkpoint();
    bench.reopen();
    for info in bench.machine.keyspaces() {
        assert_eq!(info.descriptor.settings, Some(settings));
    }
    let empty = log::Command {
        body: Some(log::command::Body::OpenKeyspace(log::OpenKeyspace { keyspace: None })),
    };
    assert_eq!(refused(&bench.apply(empty)), Some(Code::InvalidRequest));
}
