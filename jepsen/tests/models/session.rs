//! The session guarantees. The definition: plain loops over all pairs, with versions counted
//! naively.

use jepsen::checker::{Guarantee, SessionChecker};
use jepsen::{Checker, Function, Operation, Outcome, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::causal_store::Store;
use crate::script::{STEP_NS, history};
use crate::trial::{compare, invalid, planted, unknown, valid};

const RYW: SessionChecker = SessionChecker { guarantee: Guarantee::ReadYourWrites };
const MR: SessionChecker = SessionChecker { guarantee: Guarantee::MonotonicReads };
const MW: SessionChecker = SessionChecker { guarantee: Guarantee::MonotonicWrites };
const WFR: SessionChecker = SessionChecker { guarantee: Guarantee::WritesFollowReads };

fn version_by_writer(history: &[Operation], operation: &Operation) -> usize {
    let Some(value) = &operation.value else { return 0 };
    let writes = history.iter().filter(|other| {
        other.function == Function::Write
            && other.outcome == Outcome::Ok
            && other.key == operation.key
    });
    let mut writes: Vec<&Operation> = writes.collect();
    writes.sort_by_key(|write| write.invoke_ns);
    1 + writes.iter().position(|write| write.value.as_ref() == Some(value)).unwrap()
}

fn version_by_revision(history: &[Operation], operation: &Operation) -> usize {
    if operation.value.is_some() || operation.function == Function::Delete {
        return operation.revision.unwrap() as usize;
    }
    let newest = history
        .iter()
        .filter(|other| other.function == Function::Delete && other.key == operation.key)
        .filter_map(|delete| delete.revision)
        .filter(|&revision| revision <= operation.at_revision.unwrap())
        .max();
    newest.unwrap_or(0) as usize
}

type Version = fn(&[Operation], &Operation) -> usize;

/// All quadruples of operations.
fn holds(guarantee: Guarantee, history: &[Operation], version: Version) -> bool {
    let ok: Vec<&Operation> =
        history.iter().filter(|operation| operation.outcome == Outcome::Ok).collect();
    let then = |one: &Operation, other: &Operation| {
        one.process == other.process && one.invoke_ns < other.invoke_ns
    };
    let reads = |operation: &Operation| operation.function == Function::Read;
    let starts = |operation: &Operation| match guarantee {
        Guarantee::ReadYourWrites | Guarantee::MonotonicWrites => !reads(operation),
        Guarantee::MonotonicReads | Guarantee::WritesFollowReads => reads(operation),
    };
    let v = |operation: &Operation| version(history, operation);
    for a in ok.iter().copied().filter(|a| starts(a)) {
        for read in ok.iter().copied().filter(|read| reads(read) && read.key == a.key) {
            if v(read) >= v(a) {
                continue;
            }
            let own = matches!(guarantee, Guarantee::ReadYourWrites | Guarantee::MonotonicReads);
            if own && then(a, read) {
                return false;
            }
            let seen = || {
                ok.iter().any(|b| {
                    !reads(b)
                        && then(a, b)
                        && ok.iter().any(|seen| {
                            reads(seen) && seen.key == b.key && v(seen) >= v(b) && then(seen, read)
                        })
                })
            };
            if !own && seen() {
                return false;
            }
        }
    }
    true
}

/// What breaks a guarantee, if its reads are stale: process, key, whether it writes.
const SKELETONS: [&[(u64, usize, bool)]; 3] = [
    &[],
    &[(0, 0, true), (0, 2, true), (2, 2, false), (2, 0, false)],
    &[(0, 0, true), (1, 0, false), (1, 1, true), (2, 1, false), (2, 0, false)],
];

/// Keys 0 and 2 are written by process 0 and key 1 by process 1; reads return any version.
fn tiny(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let mut steps: Vec<_> =
        SKELETONS[rng.random_range(0..3)].iter().map(|&step| Some(step)).collect();
    for _ in steps.len()..rng.random_range(6..=8) {
        steps.insert(rng.random_range(0..=steps.len()), None);
    }
    let mut written = [0, 0, 0];
    let stale = rng.random_range(0.1..0.9);
    (0..)
        .zip(steps)
        .map(|(number, step)| {
            let (process, key, write) = step.unwrap_or_else(|| {
                let (process, key) = (rng.random_range(0..3), rng.random_range(0..3));
                (process, key, process == key as u64 % 2 && rng.random_bool(0.6))
            });
            let mut operation = at_its_time(number, process, &key.to_string());
            let version = if write {
                operation.function = Function::Write;
                written[key] += 1;
                written[key]
            } else if rng.random_bool(stale) {
                rng.random_range(0..=written[key])
            } else {
                written[key]
            };
            operation.value = (version > 0).then(|| Value::from(version));
            operation
        })
        .collect()
}

/// Any process writes and deletes any key; reads look at any revision.
fn tiny_with_revisions(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let mut revisions: Vec<u64> = (2..10).collect();
    let processes = rng.random_range(2..=3);
    let keys = rng.random_range(1..=2);
    let stale = rng.random_range(0..=8);
    let mut history: Vec<Operation> = Vec::new();
    for number in 0..8 {
        let key = rng.random_range(0..keys).to_string();
        let reader = number > 3 && rng.random_ratio(5, 6);
        let process = if reader { 0 } else { rng.random_range(0..processes) };
        let mut operation = at_its_time(number, process, &key);
        match rng.random_range(0..10) {
            _ if reader && rng.random_ratio(3, 4) => {}
            0..4 => operation.function = Function::Write,
            4 => operation.function = Function::Delete,
            _ => {}
        }
        if operation.function == Function::Read {
            let at = 1 + number.saturating_sub(rng.random_range(0..=stale));
            operation.at_revision = Some(at);
            let newest = history
                .iter()
                .filter(|write| write.function != Function::Read && write.key == key)
                .filter(|write| write.revision <= Some(at))
                .max_by_key(|write| write.revision);
            if let Some(write) = newest.filter(|write| write.function == Function::Write) {
                operation.value.clone_from(&write.value);
                operation.revision = write.revision;
            }
        } else {
            // Mostly the next one.
            let among = if rng.random_bool(0.1) { revisions.len() } else { 1 };
            operation.revision = Some(revisions.remove(rng.random_range(0..among)));
            if operation.function == Function::Write {
                operation.value = Some(Value::from(number as i64));
            }
        }
        history.push(operation);
    }
    history
}

fn at_its_time(number: u64, process: u64, key: &str) -> Operation {
    let mut operation = history(&format!("{process} r {key} -")).swap_remove(0);
    operation.invoke_ns = number * STEP_NS;
    operation.return_ns = Some(number * STEP_NS + 5);
    operation
}

#[test]
fn the_guarantees_agree_with_their_definitions() {
    for checker in [RYW, MR, MW, WFR] {
        compare(&checker, tiny, |history| holds(checker.guarantee, history, version_by_writer));
    }
}

#[test]
fn the_guarantees_agree_with_their_definitions_by_revisions() {
    for checker in [RYW, MR, MW, WFR] {
        compare(&checker, tiny_with_revisions, |history| {
            holds(checker.guarantee, history, version_by_revision)
        });
    }
}

fn larger(rng: &mut ChaCha8Rng, violation: Option<&str>) -> Vec<Operation> {
    let store = Store {
        processes: 5,
        keys: 9,
        operations: 200,
        single_writer: true,
        converges: true,
        crashes: 0,
    };
    let mut base = store.run(rng);
    for operation in &mut base {
        operation.invoke_ns += STEP_NS * 10;
        operation.return_ns = operation.return_ns.map(|time| time + STEP_NS * 10);
    }
    if let Some(script) = violation {
        // Some come first, so that they write version 1; then the rest goes on.
        base.extend(history(script));
    }
    base
}

const PLANTED: [(SessionChecker, &str, &str); 4] = [
    (RYW, "0 w 0 a \n 0 r 0 -", "is older than what its own process wrote before: write 0 \"a\""),
    (
        MR,
        "0 w 0 a \n 0 w 0 b \n 1 r 0 b \n 1 r 0 a",
        "is older than what its own process read before: read 0 -> \"b\"",
    ),
    (
        MW,
        "0 w 0 a \n 0 w 5 b \n 1 r 5 b \n 1 r 0 -",
        "which was written by the process that then wrote write 5 \"b\"",
    ),
    (
        WFR,
        "0 w 0 a \n 1 r 0 a \n 1 w 1 b \n 2 r 1 b \n 2 r 0 -",
        "which was read by the process that then wrote write 1 \"b\"",
    ),
];

#[test]
fn planted_violations_are_found() {
    for (checker, script, sentence) in PLANTED {
        planted(&checker, |rng, bad| larger(rng, bad.then_some(script)));
        invalid(&checker, &history(script), sentence);
        for (other, _, _) in PLANTED.iter().filter(|other| other.0.model() != checker.model()) {
            valid(other, &history(script));
        }
    }
}

#[test]
fn later_versions_carry_what_came_before() {
    // The reader never saw b itself, only what replaced it.
    let script = "0 w a 1 \n 0 w b 1 \n 0 w b 2 \n 1 r b 2 \n 1 r a -";
    invalid(&MW, &history(script), "had seen that before in read b -> \"2\"");
    // Another process wrote a newer version of b, which only revisions can tell.
    let script =
        "0 w a 1 rev=2 \n 0 w b 1 rev=3 \n 2 w b 2 rev=4 \n 1 r b 2 rev=4 at=4 \n 1 r a - at=4";
    invalid(&MW, &history(script), "is older than write a \"1\" rev 2");
}

#[test]
fn a_read_names_the_revision_of_what_it_returned() {
    let writes = "0 w x 1 rev=2 \n 0 w x 2 rev=3 \n 9 w x 3 info";
    let with = |read: &str| history(&format!("{writes} \n {read}"));
    for (checker, _, _) in PLANTED {
        valid(&checker, &with("0 r x 2 rev=3 at=3"));
        valid(&checker, &with("0 r x 3 rev=4 at=4"));
        // An old value under a new revision would pass for fresh.
        invalid(&checker, &with("0 r x 1 rev=3 at=3"), "names the revision of write x \"2\"");
        invalid(&checker, &with("0 r x 1 rev=4 at=4"), "another revision than write x \"1\"");
        invalid(&checker, &with("0 r x 7 rev=4 at=4"), "a value that no operation wrote");
    }
}

#[test]
fn a_write_explains_one_revision() {
    let lost = "9 w x 3 info \n 0 r x 3 rev=4 at=4 \n 0 w x 5 rev=6";
    let with = |more: &str| history(&format!("{lost} \n {more}"));
    for (checker, _, _) in PLANTED {
        valid(&checker, &with("1 r x 3 rev=4 at=4"));
        invalid(&checker, &with("0 r x 3 rev=9 at=9"), "fewer writes may have left this value");
        valid(&checker, &with("8 w x 3 info \n 0 r x 3 rev=9 at=9"));
    }
}

#[test]
fn a_list_is_no_absence() {
    let write = "0 w x [1] rev=2";
    valid(&RYW, &history(&format!("{write} \n 0 r x [1] rev=2 at=2")));
    invalid(&RYW, &history(&format!("{write} \n 0 r x - at=2")), "is older than what its own");
}

#[test]
fn what_has_no_order_is_not_judged() {
    unknown(&MR, &history("0 w x 1 \n 1 w x 2"), "several writing processes");
    unknown(&MR, &history("0 w x 1 \n 0 w x 1"), "is written twice");
    unknown(&MR, &history("0 w x 1 \n 0 del x - \n 0 r x -"), "it is deleted");
    unknown(&MR, &history("0 add x 1"), "the model knows no such operation");
    unknown(&MR, &history("0 w x 1 rev=2 \n 1 w x 2 rev=2"), "two writes have revision 2");
    invalid(&MR, &history("0 r x 1"), "returned a value that no operation wrote");
    // Absence that an unknown delete may have caused says nothing.
    let script = "0 w x 1 rev=2 \n 1 r x 1 rev=2 at=2 \n 2 del x - info \n 1 r x - at=3";
    valid(&MR, &history(script));
    // Unknown writes count once they were seen.
    let script = "0 w x 1 info \n 1 r x 1 \n 1 r x -";
    invalid(&MR, &history(script), "is older than what its own process read before");
}
