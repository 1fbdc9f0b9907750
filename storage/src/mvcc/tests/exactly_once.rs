//! Named writes run once, whatever is forgotten in between.

use proto::{Code, KeyspaceId, log};

use super::super::MachineOptions;
use super::Bench;
use super::build::{delete_range, get, named, prev, put, txn, write};

fn refused(outcome: &log::WriteOutcome) -> Option<Code> {
    assert!(!outcome.replayed);
    Code::from_number(outcome.refused)
}

/// etcd-io/etcd#18424.
#[test]
fn a_retry_applies_once_and_gets_the_same_answer_without_values() {
    let mut bench = Bench::new();
    bench.write(write([put("a", "0"), put("b", "0")]));
    let ops = [prev(put("a", "1")), get("b"), prev(delete_range("b", "c"))];
    let append = || named(write(ops.clone()), 1, 1, 1, 1);
    let first = bench.write(append());
    assert_eq!((first.revision, first.succeeded, first.replayed), (3, true, false));
    bench.write(write([put("a", "2")]));
    for round in 0..3 {
        let again = bench.write(append());
        assert_eq!((again.revision, again.succeeded, again.replayed), (3, true, true));
        let stripped =
            named(write([put("a", "1"), get("absent"), delete_range("x", "y")]), 9, 1, 1, 1);
        let shape = Bench::new().write(stripped);
        let kinds = |outcome: &log::WriteOutcome| -> Vec<_> {
            outcome
                .results
                .iter()
                .map(|r| std::mem::discriminant(r.result.as_ref().unwrap()))
                .collect()
        };
        assert_eq!(kinds(&again), kinds(&shape));
        assert!(!format!("{again:?}").contains("Item {"), "no values are kept: {again:?}");
        assert_eq!(bench.value("a").as_deref(), Some("2"), "round {round} changed nothing");
        if round == 1 {
            bench.checkpoint();
            bench.reopen();
        }
    }
    assert_eq!(bench.revision(), 4);
}

#[test]
fn a_failed_condition_is_an_outcome_too() {
    let mut bench = Bench::new();
    let absent = |key| super::build::compare(key, proto::v1::compare::Target::Absent(true));
    let create = |seq| named(txn([absent("k")], [put("k", "1")], []), 1, seq, 1, 0);
    assert!(bench.write(create(1)).succeeded);
    assert!(!bench.write(create(2)).succeeded);
    bench.write(write([super::build::delete("k")]));
    let again = bench.write(create(2));
    assert_eq!((again.succeeded, again.replayed), (false, true), "although it would hold now");
    assert!(bench.write(create(1)).succeeded, "although it would fail after the first");
    assert_eq!(bench.get("k"), None);
}

#[test]
fn a_refusal_is_an_outcome_too() {
    let mut bench = Bench::new();
    let unknown = named(log::Write { keyspace: 9, ..write([put("a", "1")]) }, 1, 1, 1, 0);
    assert_eq!(refused(&bench.write(unknown.clone())), Some(Code::KeyspaceNotFound));
    let again = bench.write(unknown);
    assert_eq!((again.refused, again.replayed), (Code::KeyspaceNotFound.number(), true));
}

#[test]
fn an_answered_write_is_refused() {
    let mut bench = Bench::new();
    bench.write(named(write([put("a", "1")]), 1, 1, 1, 0));
    bench.write(named(write([put("a", "2")]), 1, 2, 2, 0));
    for _ in 0..2 {
        let late = bench.write(named(write([put("a", "1")]), 1, 1, 1, 0));
        assert_eq!(refused(&late), Some(Code::WriteAnswered));
        assert_eq!((bench.value("a").as_deref(), bench.revision()), (Some("2"), 3));
        bench.checkpoint();
        bench.reopen();
    }
}

#[test]
fn a_write_without_a_name_runs_each_time() {
    let mut bench = Bench::new();
    for revision in 2..5 {
        let mut anonymous = named(write([put("a", "1")]), 1, 1, 1, 0);
        if let Some(id) = &mut anonymous.id {
            id.client_id.clear();
        }
        let outcome = bench.write(anonymous);
        assert_eq!((outcome.revision, outcome.replayed), (revision, false));
    }
    assert_eq!(bench.machine.outcomes_kept(), 0);
}

/// curvine#676, iggy#3934: an evicted outcome leaves a fence, also over a checkpoint.
#[test]
fn a_retry_whose_outcome_was_evicted_is_refused() {
    let mut bench = Bench::with(MachineOptions { outcomes_max: 4, ..Default::default() });
    let first = || named(write([put("a", "1")]), 1, 1, 1, 0);
    bench.write(first());
    for client in 2..=5 {
        bench.write(named(write([put("b", "1")]), client, 1, 1, 1));
    }
    assert_eq!(bench.machine.outcomes_floor().get(), 1);
    bench.write(write([put("a", "2")]));
    for _ in 0..2 {
        assert_eq!(refused(&bench.write(first())), Some(Code::OutcomeForgotten));
        assert_eq!(bench.value("a").as_deref(), Some("2"));
        let kept = bench.write(named(write([put("b", "1")]), 5, 1, 1, 1));
        assert!(kept.replayed);
        bench.checkpoint();
        bench.reopen();
    }
    let born_at_floor = bench.write(named(write([put("c", "1")]), 7, 1, 1, 1));
    assert_eq!(born_at_floor.refused, 0);
}

/// What the table does must not depend on when it was written out.
#[test]
fn evictions_are_the_same_with_and_without_checkpoints() {
    let options = MachineOptions { outcomes_max: 5, outcome_bytes_max: 900 };
    let mut plain = Bench::with(options);
    let mut checkpointed = Bench::with(options);
    for n in 0..400_u64 {
        let client = (n * n % 7) as u8;
        let (seq, first_open) = (1 + n / 9, (n / 9).saturating_sub(n % 3));
        let write = named(write([put("k", n.to_string())]), client, seq, first_open, n);
        assert_eq!(plain.write(write.clone()), checkpointed.write(write));
        if n % 17 == 0 {
            checkpointed.checkpoint();
        }
        if n % 51 == 0 {
            checkpointed.reopen();
        }
    }
    assert!(plain.machine.outcomes_floor().get() > 0, "some were evicted");
    assert_eq!(plain.machine.outcomes_floor(), checkpointed.machine.outcomes_floor());
    assert_eq!(plain.machine.digest().unwrap(), checkpointed.machine.digest().unwrap());
    assert_eq!(checkpointed.machine.revision(KeyspaceId::DEFAULT).get(), plain.revision());
}
