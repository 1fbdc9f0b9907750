//! Exports and imports, and giving either up at any step.

use std::sync::Arc;

use bytes::Bytes;
use log::export_record::Body;
use proto::v1::keyspace::Settings;
use proto::{Code, KeyspaceId, LogIndex, Term, log};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::super::{
    CheckpointProgress, ExportProgress, ExportStepError, ImportError, ImportJob, Machine,
    MachineOptions,
};
use super::build::{close, compact, delete, in_keyspace, named, open, put, write};
use super::{Bench, export, import};
use crate::state::{MemoryStore, StateError, StateStore};

const OPTIONS: MachineOptions = MachineOptions { outcomes_max: 10, outcome_bytes_max: 1 << 20 };

/// Several keyspaces, one of them closed, large values, history, tombstones, evicted outcomes.
fn bench() -> Bench {
    let mut bench = Bench::with(OPTIONS);
    bench.apply(open(3, "three", Settings { keys_max: 1000, ..Default::default() }));
    bench.apply(open(5, "five", Settings::default()));
    for n in 0..150_u64 {
        let key = format!("k{:02}", n % 13);
        let write = match n % 5 {
            0 => write([delete(&key)]),
            1 => write([put(&key, vec![n as u8; 30_000])]),
            _ => write([put(&key, n.to_string())]),
        };
        let write = in_keyspace([1, 3, 5][n as usize % 3], write);
        bench.write(named(write, (n % 20) as u8, 1 + n / 20, 1, n.saturating_sub(2)));
    }
    bench.apply(compact(1, 20));
    bench.apply(compact(3, 7));
    bench.apply(close(5));
    assert!(bench.machine.outcomes_floor() > LogIndex(0));
    bench
}

fn opened(store: MemoryStore) -> Machine {
    Machine::open(Arc::new(store), OPTIONS).unwrap()
}

#[test]
fn an_import_is_the_machine_that_was_exported() {
    let mut bench = bench();
    assert!(bench.machine.begin_export().is_none(), "nothing was ever checkpointed");
    let conf = log::ConfState { voters: vec![3, 5], learners: vec![9], ..Default::default() };
    let index = bench.machine.applied().next();
    bench.machine.apply_conf(index, Term(4), &conf, 17);
    let digest = bench.machine.digest().unwrap();
    bench.checkpoint();
    bench.reopen();
    assert_eq!(bench.machine.conf(), Some((&conf, 17)));
    let job = bench.machine.begin_export().unwrap();
    assert_eq!((job.index(), job.term(), job.conf()), (index, Term(4), Some((&conf, 17))));
    assert!(bench.machine.begin_export().is_none(), "one runs");
    bench.machine.end_export();
    let records = export(&mut bench.machine, &bench.store);
    let store = MemoryStore::new();
    let mut job = ImportJob::new(index, Term(4), conf.clone(), 17);
    for record in records {
        job.push(&store, record).unwrap();
    }
    job.finish(&store).unwrap();
    store.crash(&mut ChaCha8Rng::seed_from_u64(1));
    let copy = opened(store);
    copy.verify().unwrap();
    assert_eq!(
        (copy.applied(), copy.applied_term(), copy.conf()),
        (index, Term(4), Some((&conf, 17)))
    );
    assert_eq!(copy.digest().unwrap(), digest);
    assert_eq!(copy.outcomes_floor(), bench.machine.outcomes_floor());
    assert_eq!(copy.outcomes_kept(), bench.machine.outcomes_kept());
    assert_eq!(copy.superseded_versions(), bench.machine.superseded_versions());
    assert_eq!(copy.max_id(), KeyspaceId(5));
}

/// curvine#676, iggy#3934: the table travels with the state, and so does the fence that an
/// eviction leaves.
#[test]
fn b65_the_exactly_once_table_and_its_fence_are_in_an_export() {
    let mut bench = Bench::with(MachineOptions { outcomes_max: 3, ..OPTIONS });
    let add = |client: u8| {
        named(write([put("k", client.to_string())]), client, 1, 1, u64::from(client) - 1)
    };
    for client in 1..=5 {
        bench.write(add(client));
    }
    bench.checkpoint();
    let index = bench.machine.applied();
    let store = import(index, &export(&mut bench.machine, &bench.store)).unwrap();
    let mut copy = Bench { machine: opened(store.clone()), store, ..Bench::with(OPTIONS) };
    assert_eq!(copy.machine.applied(), index);
    for client in 1..=2 {
        let late = copy.write(add(client));
        assert_eq!(Code::from_number(late.refused), Some(Code::OutcomeForgotten));
    }
    for client in 3..=5 {
        assert!(copy.write(add(client)).replayed);
    }
    assert_eq!(copy.value("k").as_deref(), Some("5"));
}

/// Ten million clients that write once each cost no more than the table may take.
#[test]
fn b65_one_shot_clients_leave_a_bounded_table() {
    const BYTES: usize = 256 * 1024;
    let options = MachineOptions { outcomes_max: 1 << 20, outcome_bytes_max: BYTES };
    let mut bench = Bench::with(options);
    let mut kept = 0;
    for n in 1..=10_000_u64 {
        let mut once = named(write([put("k", "v")]), 0, 1, 1, n - 1);
        let id = [[7; 8], n.to_be_bytes()].concat();
        once.id.as_mut().unwrap().client_id = id.into();
        assert_eq!(bench.write(once).refused, 0);
        kept = bench.machine.outcomes_kept();
    }
    assert!(kept > 500 && kept < BYTES / 200, "{kept} outcomes take at least 200 bytes each");
    assert_eq!(bench.machine.outcomes_floor(), LogIndex(10_000 - kept as u64));
    bench.checkpoint();
    bench.reopen();
    assert_eq!(bench.machine.outcomes_kept(), kept);
}

/// etcd-io/etcd#14685: an export, an import and a crash during either change nothing.
#[test]
fn b02_exports_and_imports_can_be_given_up_at_any_step() {
    let mut bench = bench();
    bench.checkpoint();
    let expected = bench.machine.digest().unwrap();
    let index = bench.machine.applied();
    for steps in 0.. {
        let mut job = bench.machine.begin_export().unwrap();
        let store = MemoryStore::new();
        let mut import = ImportJob::new(index, Term(1), log::ConfState::default(), 0);
        let mut given = 0;
        let mut give = |record: &log::ExportRecord| {
            given += usize::from(matches!(record.body, Some(Body::Outcome(_))));
            import.push(&store, record.clone())
        };
        let done =
            (0..steps).any(|_| job.step(&bench.store, &mut give).unwrap() == ExportProgress::Done);
        drop(job);
        bench.machine.end_export();
        assert_eq!(bench.machine.digest().unwrap(), expected);
        if done {
            import.finish(&store).unwrap();
            assert_eq!(opened(store).digest().unwrap(), expected);
            assert!(steps > 5, "an export of several steps");
            break;
        }
        if given == 0 {
            let short = import.finish(&store);
            assert!(matches!(short, Err(ImportError::Incomplete { .. })), "after {steps} steps");
        }
        store.crash(&mut ChaCha8Rng::seed_from_u64(steps));
        let machine = Machine::open(Arc::new(store), OPTIONS).unwrap();
        assert_eq!(machine.applied(), LogIndex(0), "what was not finished is nothing");
    }
    bench.write(write([put("a", "1")]));
    bench.checkpoint();
    bench.machine.verify().unwrap();
}

/// After a crash some deletions are undone; an export knows what does not belong to it.
#[test]
fn exports_leave_out_what_a_crash_has_left_in_the_store() {
    for seed in 0..30 {
        let mut bench = bench();
        bench.checkpoint();
        bench.apply(compact(1, 30));
        for n in 0..30 {
            bench.write(named(write([put("k", "v")]), n, 9, 9, 500));
        }
        let mut job = bench.machine.begin_checkpoint().unwrap();
        while job.step(&bench.store).unwrap() == CheckpointProgress::Continue {}
        bench.machine.finish_checkpoint(job.index());
        bench.write(write([put("k", "lost")]));
        let mut lost = bench.machine.begin_checkpoint().unwrap();
        for _ in 0..5 {
            lost.step(&bench.store).unwrap();
        }
        bench.store.crash(&mut ChaCha8Rng::seed_from_u64(seed));
        bench.reopen();
        assert_eq!(bench.machine.applied(), job.index());
        let records = export(&mut bench.machine, &bench.store);
        let copy = opened(import(job.index(), &records).unwrap());
        assert_eq!(copy.digest().unwrap(), bench.machine.digest().unwrap(), "{seed}");
    }
}

#[test]
fn an_export_of_a_damaged_store_never_finishes() {
    let mut bench = bench();
    bench.checkpoint();
    let items: Vec<(Bytes, Bytes)> = bench.store.scan(&[0], &[0xff]).map(Result::unwrap).collect();
    let damaging = items.iter().filter(|(key, _)| key[7] != 0 || key[8] == b'O');
    let mut damaged = 0;
    for (key, value) in damaging.step_by(9) {
        bench.store.write(&[(key.clone(), None)]).unwrap();
        let mut job = bench.machine.begin_export().unwrap();
        let mut ignore = |_: &log::ExportRecord| Ok::<(), ()>(());
        let failed = loop {
            match job.step(&bench.store, &mut ignore) {
                Ok(ExportProgress::Continue) => {}
                other => break other,
            }
        };
        assert!(matches!(failed, Err(ExportStepError::State(StateError::Damaged { .. }))));
        bench.machine.end_export();
        bench.store.write(&[(key.clone(), Some(value.clone()))]).unwrap();
        damaged += 1;
    }
    assert!(damaged > 10);
    let mut job = bench.machine.begin_export().unwrap();
    let failed = job.step(&bench.store, &mut |_| Err("the disk is full"));
    assert!(matches!(failed, Err(ExportStepError::Out("the disk is full"))));
}

/// What the kinds of refusal are for one changed record.
#[test]
fn imports_refuse_what_no_export_holds() {
    let mut bench = bench();
    bench.checkpoint();
    let index = bench.machine.applied();
    let records = export(&mut bench.machine, &bench.store);
    import(index, &records).unwrap();
    let position = |wanted: fn(&Body) -> bool| {
        records.iter().position(|record| wanted(record.body.as_ref().unwrap())).unwrap()
    };
    let keyspace = position(|body| matches!(body, Body::Keyspace(_)));
    let version =
        position(|body| matches!(body, Body::Version(v) if !v.tombstone && v.version > 1));
    let outcome = position(|body| matches!(body, Body::Outcome(o) if !o.record.is_empty()));
    let floor = outcome - 1;
    let refused = |records: &[log::ExportRecord]| import(index, records).unwrap_err();
    for first in [keyspace, version, floor, outcome] {
        let mut swapped = records.clone();
        swapped.swap(first, first + 1);
        let error = refused(&swapped);
        assert!(
            matches!(error, ImportError::OutOfOrder { .. } | ImportError::Implausible { .. }),
            "{error}"
        );
        let mut twice = records.clone();
        twice.insert(first, records[first].clone());
        assert!(matches!(refused(&twice), ImportError::OutOfOrder { .. }));
    }
    for missing in [keyspace, version, floor] {
        let mut short = records.clone();
        short.remove(missing);
        let error = refused(&short);
        assert!(
            matches!(error, ImportError::Incomplete { .. } | ImportError::OutOfOrder { .. }),
            "{error}"
        );
    }
    assert!(matches!(refused(&[]), ImportError::Incomplete { .. }));
    let change = |at: usize, change: fn(&mut Body)| {
        let mut changed = records.clone();
        change(changed[at].body.as_mut().unwrap());
        refused(&changed)
    };
    fn of(body: &mut Body) -> &mut log::VersionState {
        match body {
            Body::Version(version) => version,
            other => panic!("{other:?} is no version"),
        }
    }
    let versions: [fn(&mut Body); 7] = [
        |body| of(body).key = Bytes::new(),
        |body| of(body).mod_rev = 1_000,
        |body| of(body).create_rev = 0,
        |body| of(body).version = 0,
        |body| of(body).index = 1_000,
        |body| of(body).tombstone = true,
        |body| of(body).value = vec![0; proto::limits::ITEM_VALUE_BYTES_MAX + 1].into(),
    ];
    for damage in versions {
        let error = change(version, damage);
        assert!(matches!(error, ImportError::Implausible { .. }), "{error}");
    }
    let error = change(version, |body| of(body).value = "another".into());
    assert!(matches!(error, ImportError::Incomplete { .. } | ImportError::State(_)), "{error}");
    let error = change(outcome, |body| {
        if let Body::Outcome(outcome) = body {
            outcome.record = "none".into();
        }
    });
    assert!(matches!(error, ImportError::Implausible { .. }), "{error}");
    let catalogue = Body::Catalogue(log::CatalogueState::default());
    let error = refused(&[log::ExportRecord { body: Some(catalogue) }]);
    assert!(matches!(error, ImportError::OutOfOrder { .. }));
    let mut job = ImportJob::new(index, Term(1), log::ConfState::default(), 0);
    let taken = job.push(&bench.store, records[0].clone());
    assert!(matches!(taken, Err(ImportError::NotEmpty)));
}

/// Replicas that checkpoint, reopen, and are replaced by imports at different times.
#[test]
fn b01_digests_are_equal_at_equal_index_whatever_a_replica_did_meanwhile() {
    let source = bench();
    let mut replicas: Vec<Bench> = (0..4).map(|_| Bench::with(OPTIONS)).collect();
    for (n, command) in source.log.iter().enumerate() {
        for (which, bench) in replicas.iter_mut().enumerate() {
            bench.apply(command.clone());
            if which > 0 && n % (5 * which) == 0 {
                bench.checkpoint();
            }
            if which == 2 && n % 23 == 0 {
                bench.reopen();
                bench.replay();
            }
            if which == 3 && n % 31 == 0 {
                let Some(job) = bench.machine.begin_export() else { continue };
                let index = job.index();
                bench.machine.end_export();
                let records = export(&mut bench.machine, &bench.store);
                bench.store = import(index, &records).unwrap();
                bench.reopen();
                bench.replay();
            }
        }
        let digest = replicas[0].machine.digest().unwrap();
        for bench in &replicas {
            assert_eq!(bench.machine.digest().unwrap(), digest, "after entry {}", n + 1);
        }
    }
}

#[test]
fn an_abandoned_checkpoint_leaves_a_machine_that_reads_and_applies() {
    let mut bench = bench();
    bench.checkpoint();
    bench.write(write([put("frozen", "1")]));
    let mut job = bench.machine.begin_checkpoint().unwrap();
    job.step(&bench.store).unwrap();
    drop(job);
    bench.machine.abandon_checkpoint();
    bench.write(write([put("after", "1"), delete("k01")]));
    assert!(bench.machine.begin_checkpoint().is_none() && bench.machine.begin_export().is_none());
    assert_eq!(bench.value("frozen").as_deref(), Some("1"));
    assert_eq!(bench.value("after").as_deref(), Some("1"));
    assert!(bench.machine.layer_bytes() > 0);
    let digest = bench.machine.digest().unwrap();
    bench.store = MemoryStore::new();
    bench.reopen();
    bench.replay();
    assert_eq!(bench.machine.digest().unwrap(), digest, "rebuilt in a new store");
    bench.checkpoint();
}
