//! Bounded staleness. The definition: no pair of a read and an older acknowledged write that it
//! should have seen.

use jepsen::checker::StalenessChecker;
use jepsen::{Function, Operation, Outcome, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::script::{STEP_NS, history};
use crate::trial::{compare, invalid, planted, unknown, valid};

/// One writer a key; reads return the version of some moments ago.
fn register(rng: &mut ChaCha8Rng, operations: usize, behind: u64) -> Vec<Operation> {
    let mut history = history(&"5 r k -\n".repeat(operations));
    // Key, moment, version.
    let mut written: Vec<(u64, u64, i64)> = Vec::new();
    for (number, operation) in history.iter_mut().enumerate() {
        let key = rng.random_range(0..2);
        operation.key = key.to_string();
        operation.return_ns = Some(operation.invoke_ns + rng.random_range(1..30));
        if rng.random_bool(0.4) {
            operation.function = Function::Write;
            operation.process = key;
            operation.value = Some(Value::from(number as i64));
            written.push((key, operation.invoke_ns, number as i64));
            continue;
        }
        operation.process = rng.random_range(5..8);
        let bound = rng.random_range(0..4) * STEP_NS;
        if number == 0 || rng.random_bool(0.9) {
            operation.level = Some(format!("bounded={bound}ns"));
        }
        let age = bound * u64::from(operation.level.is_some()) + rng.random_range(0..=behind);
        let seen = written.iter().rev().find(|(of, moment, _)| {
            *of == key && moment + age.min(operation.invoke_ns) <= operation.invoke_ns
        });
        operation.value = seen.map(|&(_, _, value)| Value::from(value));
    }
    // Calls of one process do not overlap.
    let mut last = [u64::MAX; 2];
    for operation in history.iter_mut().rev().filter(|one| one.function == Function::Write) {
        let next = &mut last[operation.process as usize];
        operation.return_ns = operation.return_ns.map(|end| end.min(next.saturating_sub(1)));
        *next = operation.invoke_ns;
    }
    history
}

fn fresh(history: &[Operation]) -> bool {
    let version = |value: &Option<Value>| value.as_ref().map_or(-1, |v| v.as_number().unwrap());
    history.iter().filter(|read| read.function == Function::Read).all(|read| {
        let Some(bound) = read.level.as_deref().and_then(|level| level.strip_prefix("bounded="))
        else {
            return true;
        };
        let bound: u64 = bound.trim_end_matches("ns").parse().unwrap();
        history.iter().filter(|write| write.function == Function::Write).all(|write| {
            let old = write.return_ns.unwrap() + bound < read.invoke_ns;
            write.key != read.key || !old || version(&read.value) >= version(&write.value)
        })
    })
}

#[test]
fn staleness_agrees_with_its_definition() {
    let make = |rng: &mut ChaCha8Rng| loop {
        let behind = rng.random_range(0..60);
        let history = register(rng, 8, behind);
        if history.iter().any(|operation| operation.level.is_some()) {
            return history;
        }
    };
    compare(&StalenessChecker, make, fresh);
}

#[test]
fn planted_stale_reads_are_found() {
    planted(&StalenessChecker, |rng, bad| {
        let mut history = register(rng, 200, 0);
        if bad {
            let mut late = history.iter_mut().rev().take(150).filter(|one| {
                one.function == Function::Read && one.level.is_some() && one.value.is_some()
            });
            let read = late.nth(rng.random_range(0..20)).unwrap();
            read.value = None;
        }
        history
    });
}

#[test]
fn a_bound_counts_from_the_call() {
    let writes = "0 w k 1 \n 0 w k 2";
    let with = |read: &str| history(&format!("{writes} \n {read}"));
    // The second write returned at 15, the read is called at 20.
    valid(&StalenessChecker, &with("1 r k 1 level=bounded=5ns"));
    let sentence = "is more than 4ns behind: long before its call returned write k \"2\"";
    invalid(&StalenessChecker, &with("1 r k 1 level=bounded=4ns"), sentence);
    invalid(&StalenessChecker, &with("1 r k - level=bounded=14ns"), "returned write k \"1\"");
    valid(&StalenessChecker, &with("1 r k 1 level=bounded=1h"));
    unknown(&StalenessChecker, &with("1 r k 1 level=eventual"), "no successful read names a bound");
    unknown(&StalenessChecker, &with("1 r k 1 level=bounded=soon"), "no duration in the level");
    let mut unacknowledged = with("1 r k 1 level=bounded=0ns");
    unacknowledged[1].outcome = Outcome::Info;
    valid(&StalenessChecker, &unacknowledged);
    // Revisions order the versions of several writers.
    let script = "0 w k 1 rev=2 \n 3 w k 2 rev=3 \n 1 r k 1 rev=2 at=2 level=bounded=0ms";
    invalid(&StalenessChecker, &history(script), "is more than 0s behind");
}
