//! What transactions do, rule by rule.

use proto::limits::{RANGE_DELETE_KEYS_MAX, TXN_OPERATIONS_MAX, VALUE_BYTES_MAX};
use proto::{Code, KeyspaceId, Term, log, v1};

use v1::compare::Target;
use v1::op_result::Result as OpResult;

use super::super::RangeQuery;
use super::super::transaction::TOMBSTONES_MAX;
use super::Bench;
use super::build::{
    bytes, command, compact, compare, delete, delete_range, get, prev, put, txn, write,
};

/// What the results of a write say, in short.
fn told(outcome: &log::WriteOutcome) -> Vec<String> {
    let item = |item: &v1::Item| {
        let value = String::from_utf8_lossy(&item.value);
        let v1::Item { create_rev, mod_rev, version, .. } = item;
        format!("{}={value}@{create_rev},{mod_rev},{version}", item.key.escape_ascii())
    };
    let result = |result: &v1::OpResult| match result.result.as_ref().unwrap() {
        OpResult::Put(put) => format!("put {}", put.prev.iter().map(item).collect::<String>()),
        OpResult::Get(get) => format!("get {}", get.item.iter().map(item).collect::<String>()),
        OpResult::Delete(delete) => {
            let prev: Vec<String> = delete.prev.iter().map(item).collect();
            format!("delete {} {}", delete.deleted, prev.join(" "))
        }
    };
    outcome.results.iter().map(|r| result(r).trim_end().to_owned()).collect()
}

/// Revision 2: a=1. Revision 3: a=2, b=1. Revision 4: c=1. Revision 5: c deleted.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.write(write([put("a", "1")]));
    bench.write(write([put("a", "2"), put("b", "1")]));
    bench.write(write([put("c", "1")]));
    bench.write(write([delete("c")]));
    assert_eq!(bench.revision(), 5);
    bench
}

#[test]
fn an_empty_keyspace_is_at_revision_one_and_its_first_write_is_two() {
    let mut bench = Bench::new();
    assert_eq!(bench.revision(), 1);
    assert_eq!(bench.machine.keyspace("default"), Some(KeyspaceId::DEFAULT));
    assert_eq!(bench.machine.keyspace("other"), None);
    assert_eq!(bench.write(write([put("a", "1")])).revision, 2);
    let item = bench.get("a").unwrap();
    assert_eq!((item.create_rev, item.mod_rev, item.version, item.value_size), (2, 2, 1, 1));
}

#[test]
fn compares() {
    let cases = [
        ("a", Target::ModRev(3), true),
        ("a", Target::ModRev(2), false),
        ("a", Target::ModRev(0), false),
        ("absent", Target::ModRev(0), true),
        ("c", Target::ModRev(0), true),
        ("c", Target::ModRev(5), false),
        ("a", Target::CreateRev(2), true),
        ("a", Target::CreateRev(3), false),
        ("absent", Target::CreateRev(0), true),
        ("c", Target::CreateRev(0), true),
        ("a", Target::Version(2), true),
        ("b", Target::Version(1), true),
        ("b", Target::Version(2), false),
        ("c", Target::Version(0), true),
        ("absent", Target::Version(0), true),
        ("absent", Target::Version(1), false),
        ("a", Target::Value(bytes("2")), true),
        ("a", Target::Value(bytes("1")), false),
        ("a", Target::Value(bytes("22")), false),
        ("a", Target::Value(bytes("")), false),
        ("absent", Target::Value(bytes("")), false),
        ("c", Target::Value(bytes("")), false),
        ("a", Target::Absent(false), true),
        ("a", Target::Absent(true), false),
        ("absent", Target::Absent(true), true),
        ("c", Target::Absent(true), true),
        ("c", Target::Absent(false), false),
    ];
    for checkpoint in [false, true] {
        let mut bench = bench();
        if checkpoint {
            bench.checkpoint();
            bench.reopen();
        }
        for (key, target, holds) in cases.clone() {
            let outcome = bench.write(txn([compare(key, target.clone())], [], []));
            assert_eq!(outcome.succeeded, holds, "{key} {target:?}");
            assert_eq!((outcome.revision, outcome.refused), (5, 0));
        }
    }
}

#[test]
fn all_compares_must_hold_and_choose_the_branch() {
    let holds = || compare("a", Target::Version(2));
    let fails = || compare("b", Target::Version(2));
    let cases = [
        (vec![], true),
        (vec![holds()], true),
        (vec![holds(), holds()], true),
        (vec![holds(), fails()], false),
        (vec![fails(), holds()], false),
    ];
    for (compares, succeeded) in cases {
        let mut bench = bench();
        let outcome = bench.write(txn(compares, [put("x", "then")], [put("x", "else")]));
        assert_eq!((outcome.succeeded, outcome.revision), (succeeded, 6));
        assert_eq!(bench.value("x").unwrap(), if succeeded { "then" } else { "else" });
    }
}

#[test]
fn what_changes_nothing_adds_no_revision() {
    let fails = || compare("a", Target::Version(9));
    let cases = [
        (write([]), true),
        (write([get("a")]), true),
        (write([delete("absent")]), true),
        (write([delete("c")]), true),
        (write([delete_range("x", "z")]), true),
        (txn([fails()], [put("a", "9")], []), false),
        (txn([fails()], [put("a", "9")], [get("a"), delete("c")]), false),
    ];
    for (write, succeeded) in cases {
        let mut bench = bench();
        let outcome = bench.write(write.clone());
        assert_eq!((outcome.revision, outcome.succeeded), (5, succeeded), "{write:?}");
        assert_eq!(outcome.refused, 0);
        assert_eq!(bench.revision(), 5);
    }
    let same = bench().write(write([put("b", "1")]));
    assert_eq!(same.revision, 6, "a put of the same value is a change");
}

#[test]
fn one_revision_for_all_writes_of_a_transaction() {
    let mut bench = bench();
    let ops = [put("a", "9"), put("new", "1"), delete("b"), put("c", "2"), get("a"), get("b")];
    let outcome = bench.write(write(ops));
    assert_eq!(outcome.revision, 6);
    assert_eq!(
        told(&outcome),
        ["put", "put", "delete 1", "put", "get a=9@2,6,3", "get"],
        "gets see the branch so far"
    );
    let seen: Vec<_> = ["a", "new", "b", "c"]
        .map(|key| bench.get(key).map(|item| (item.create_rev, item.mod_rev, item.version)))
        .into();
    let expected = [Some((2, 6, 3)), Some((6, 6, 1)), None, Some((6, 6, 1))];
    assert_eq!(seen, expected, "the key created anew begins at version 1");
}

#[test]
fn gets_see_the_state_before_and_earlier_operations_only() {
    let mut bench = bench();
    let ops = [get("a"), put("a", "9"), get("a"), delete_range("b", "d"), get("b"), get("c")];
    let outcome = bench.write(write(ops));
    let expected = ["get a=2@2,3,2", "put", "get a=9@2,6,3", "delete 1", "get", "get"];
    assert_eq!(told(&outcome), expected);
}

#[test]
fn prev_returns_what_was_replaced() {
    for checkpoint in [false, true] {
        let mut bench = bench();
        if checkpoint {
            bench.checkpoint();
            bench.reopen();
        }
        let outcome = bench.write(write([prev(put("a", "9")), prev(put("c", "9")), put("b", "9")]));
        assert_eq!(told(&outcome), ["put a=2@2,3,2", "put", "put"]);
        let outcome = bench.write(write([prev(delete("a")), prev(delete("absent"))]));
        assert_eq!(told(&outcome), ["delete 1 a=9@2,6,3", "delete 0"]);
        let outcome = bench.write(write([prev(delete_range("a", "z"))]));
        assert_eq!(told(&outcome), ["delete 2 b=9@3,6,2 c=9@6,6,1"]);
    }
}

#[test]
fn deletes_leave_tombstones_and_history() {
    let mut bench = bench();
    assert_eq!(bench.get("c"), None);
    assert_eq!(bench.get_at("c", 4).unwrap().value, "1");
    assert_eq!(bench.get_at("c", 5), None);
    let outcome = bench.write(write([delete_range("a", "c")]));
    assert_eq!((outcome.revision, told(&outcome)), (6, vec!["delete 2".to_owned()]));
    assert_eq!(bench.get_at("a", 5).unwrap().version, 2);
    bench.write(write([put("a", "3")]));
    let item = bench.get("a").unwrap();
    assert_eq!((item.create_rev, item.mod_rev, item.version), (7, 7, 1));
}

fn refused(bench: &mut Bench, write: log::Write) -> Option<Code> {
    let digest = bench.machine.digest().unwrap();
    let outcome = bench.write(write);
    if outcome.refused != 0 {
        assert!(!outcome.succeeded && outcome.results.is_empty());
        assert_eq!(bench.machine.digest().unwrap(), digest, "a refusal has no effect");
    }
    Code::from_number(outcome.refused)
}

#[test]
fn what_breaks_a_limit_is_refused() {
    let unknown = log::Write { keyspace: 7, ..write([put("a", "1")]) };
    let zero = log::Write { keyspace: 0, ..write([put("a", "1")]) };
    let no_target = v1::Compare { key: bytes("a"), target: None };
    let long_key = vec![b'k'; 4097];
    let many: Vec<v1::Op> = (0..=TXN_OPERATIONS_MAX).map(|n| put(n.to_string(), "v")).collect();
    let bad_name = v1::WriteId { client_id: bytes("short"), seq: 1, first_open: 1, born: 0 };
    let no_seq = v1::WriteId { client_id: bytes([1; 16]), seq: 0, first_open: 0, born: 0 };
    let cases = [
        (unknown, Code::KeyspaceNotFound),
        (zero, Code::KeyspaceNotFound),
        (write([v1::Op { op: None }]), Code::InvalidRequest),
        (txn([no_target], [put("a", "9")], []), Code::InvalidRequest),
        (write([put("", "v")]), Code::KeyEmpty),
        (write([put(&long_key, "v")]), Code::KeyTooLarge),
        (write([get(&long_key)]), Code::KeyTooLarge),
        (write([put("a", vec![0; VALUE_BYTES_MAX + 1])]), Code::ValueTooLarge),
        (write([delete_range("b", "a")]), Code::InvalidRequest),
        (write([put("a", "9"), put("b", "9"), put("a", "8")]), Code::KeyWrittenTwice),
        (write([put("b", "9"), delete_range("a", "z")]), Code::KeyWrittenTwice),
        (write(many), Code::TooManyOperations),
        (log::Write { id: Some(bad_name), ..write([put("a", "9")]) }, Code::InvalidRequest),
        (log::Write { id: Some(no_seq), ..write([put("a", "9")]) }, Code::InvalidRequest),
    ];
    let mut bench = bench();
    for (write, code) in cases {
        assert_eq!(refused(&mut bench, write.clone()), Some(code), "{write:?}");
    }
    assert_eq!(bench.revision(), 5);
}

#[test]
fn a_limit_holds_for_the_branch_that_does_not_run_too() {
    let fails = compare("a", Target::Version(9));
    let write = txn([fails], [put("", "v")], [put("x", "else")]);
    assert_eq!(refused(&mut bench(), write), Some(Code::KeyEmpty));
}

#[test]
fn range_deletes_are_bounded_by_the_keys_they_meet() {
    let mut bench = Bench::new();
    let key = |n: usize| format!("k{n:05}");
    let keys: Vec<usize> = (0..=RANGE_DELETE_KEYS_MAX).collect();
    for chunk in keys.chunks(TXN_OPERATIONS_MAX) {
        bench.write(write(chunk.iter().map(|n| put(key(*n), "v"))));
    }
    let too_large = || write([put("x", "1"), delete_range("k", "l")]);
    assert_eq!(refused(&mut bench, too_large()), Some(Code::RangeDeleteTooLarge));
    bench.checkpoint();
    assert_eq!(refused(&mut bench, too_large()), Some(Code::RangeDeleteTooLarge));
    assert_eq!(bench.get("x"), None);
    bench.write(write([delete(key(77))]));
    let outcome = bench.write(too_large());
    assert_eq!(outcome.refused, 0, "a tombstone is no key that is met");
    assert_eq!(told(&outcome), ["put".to_owned(), format!("delete {RANGE_DELETE_KEYS_MAX}")]);
    let mut all = RangeQuery { count_only: true, ..Default::default() };
    let mut count = 0;
    loop {
        let page = bench.machine.range(KeyspaceId::DEFAULT, &all).unwrap();
        count += page.count;
        if !page.more {
            break;
        }
        all.from = page.next;
    }
    assert_eq!(count, 1);
}

/// A range that many keys were deleted from cannot be deleted again and again: passing over what is left
/// of them takes time on every replica.
#[test]
fn range_deletes_are_bounded_by_the_tombstones_that_history_keeps() {
    let mut bench = Bench::new();
    for round in 0..=TOMBSTONES_MAX / RANGE_DELETE_KEYS_MAX {
        let keys: Vec<usize> = (0..RANGE_DELETE_KEYS_MAX).collect();
        for chunk in keys.chunks(TXN_OPERATIONS_MAX) {
            bench.write(write(chunk.iter().map(|n| put(format!("k{round:02}-{n:05}"), "v"))));
        }
        let (from, to) = (format!("k{round:02}"), format!("k{:02}", round + 1));
        let outcome = bench.write(write([delete_range(from, to)]));
        assert_eq!(told(&outcome), [format!("delete {RANGE_DELETE_KEYS_MAX}")]);
    }
    let all = || write([delete_range("k", "l")]);
    assert_eq!(refused(&mut bench, all()), Some(Code::RangeDeleteTooLarge));
    let in_two = || write([delete_range("k", "k05"), delete_range("k05", "l")]);
    assert_eq!(refused(&mut bench, in_two()), Some(Code::RangeDeleteTooLarge));
    assert_eq!(refused(&mut bench, write([delete_range("k", "k05")])), None);
    bench.checkpoint();
    bench.reopen();
    assert_eq!(refused(&mut bench, all()), Some(Code::RangeDeleteTooLarge));
    // What no revision shows any more does not count, whether it has left the store or not.
    let revision = bench.revision();
    bench.apply(compact(1, revision));
    assert_eq!(refused(&mut bench, all()), None);
    bench.checkpoint();
    assert_eq!(refused(&mut bench, all()), None);
}

#[test]
fn results_are_bounded() {
    let mut bench = Bench::new();
    let megabyte = vec![7; VALUE_BYTES_MAX];
    bench.write(write([put("a", &megabyte)]));
    bench.write(write([put("b", &megabyte)]));
    assert_eq!(refused(&mut bench, write([get("a")])), None);
    assert_eq!(refused(&mut bench, write([get("a"), get("b")])), Some(Code::RequestTooLarge));
    let delete = || prev(delete_range("a", "c"));
    assert_eq!(refused(&mut bench, write([delete()])), Some(Code::RequestTooLarge));
    assert_eq!(told(&bench.write(write([delete_range("a", "c")]))), ["delete 2"]);
}

#[test]
fn entries_without_a_write_only_move_the_index() {
    let mut bench = bench();
    let digest = bench.machine.digest().unwrap();
    let member = log::SetMember { member: Some(v1::Member { id: 3, ..Default::default() }) };
    let commands = [None, Some(log::Command { body: Some(log::command::Body::SetMember(member)) })];
    for command in commands {
        let index = bench.machine.applied().next();
        assert_eq!(bench.machine.apply(index, Term(2), command.as_ref()).unwrap(), None);
        assert_eq!(bench.machine.applied(), index);
    }
    assert_eq!(bench.machine.applied_term(), Term(2));
    assert_eq!(bench.machine.digest().unwrap(), digest);
}

/// etcd-io/etcd#13766: an entry must be neither skipped nor repeated.
#[test]
fn indexes_follow_each_other() {
    for wrong in [3, 4, 6] {
        let mut bench = bench();
        let next = command(write([put("a", "9")]));
        let applied = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            bench.machine.apply(proto::LogIndex(wrong), Term(1), Some(&next))
        }));
        assert!(applied.is_err(), "entry {wrong} after 4");
    }
}
