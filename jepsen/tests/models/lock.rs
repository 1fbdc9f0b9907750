//! Locks. The definition: some order of what succeeded is one of a lock that gives tokens.

use jepsen::checker::LockChecker;
use jepsen::{Call, Function, Operation, Outcome, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::script::history;
use crate::trial::{compare, invalid, planted, unknown, valid};

/// A lock: the newest token, and whether it is still held.
fn possible(open: &[&Operation], newest: u64, held: bool) -> bool {
    open.is_empty()
        || open.iter().any(|next| {
            let early = open.iter().all(|other| other.return_ns.unwrap() >= next.invoke_ns);
            let token = next.expected.as_ref().map(|token| token.as_number().unwrap() as u64);
            let state = match next.function {
                Function::Acquire => next.revision.filter(|&t| t > newest).map(|t| (t, true)),
                _ if token == Some(newest) && held => {
                    Some((newest, next.function == Function::Write))
                }
                _ => None,
            };
            let Some((newest, held)) = state.filter(|_| early) else { return false };
            let rest: Vec<&Operation> =
                open.iter().copied().filter(|other| *other != *next).collect();
            possible(&rest, newest, held)
        })
}

fn definition(history: &[Operation]) -> bool {
    let open: Vec<&Operation> = history.iter().filter(|one| one.outcome == Outcome::Ok).collect();
    possible(&open, 0, false)
}

/// Holders that take the lock one after the other; sometimes one is late.
fn service(rng: &mut ChaCha8Rng, operations: u64, crashes: u32) -> Vec<Operation> {
    let mut token = 1;
    let mut held: Option<u64> = None;
    let mut now = 5;
    let mut all = Vec::new();
    for process in 0..operations {
        let mut call = Call::write("k", process as i64);
        let mut revision = None;
        match held {
            Some(of) if rng.random_bool(0.7) => {
                call.expected = Some(Value::from(of as i64));
                if rng.random_bool(0.4) {
                    call.function = Function::Release;
                    call.value = None;
                    held = None;
                }
            }
            _ => {
                call.function = Function::Acquire;
                call.value = None;
                token += rng.random_range(1..=2);
                held = Some(token);
                revision = held;
            }
        }
        now += rng.random_range(0..4);
        let mut operation = Operation::invoked(process, call, now - rng.random_range(0..5));
        operation.return_ns = Some(now + rng.random_range(0..5));
        operation.revision = revision;
        operation.outcome = Outcome::Ok;
        if operation.function == Function::Write && rng.random_ratio(crashes, 100) {
            operation.outcome = if rng.random() { Outcome::Info } else { Outcome::Fail };
        }
        all.push(operation);
    }
    all
}

#[test]
fn locks_agree_with_their_definition() {
    let make = |rng: &mut ChaCha8Rng| {
        let mut history = service(rng, 8, 10);
        for _ in 0..rng.random_range(0..=2) {
            let place = rng.random_range(0..history.len());
            let operation = &mut history[place];
            let other = rng.random_range(2..8);
            match rng.random_range(0..3) {
                0 if operation.function == Function::Acquire => operation.revision = Some(other),
                1 if operation.function != Function::Acquire => {
                    operation.expected = Some(Value::from(other as i64));
                }
                _ => {
                    let late = rng.random_range(0..8);
                    operation.invoke_ns += late;
                    operation.return_ns = operation.return_ns.map(|time| time + late);
                }
            }
        }
        history
    };
    compare(&LockChecker, make, definition);
}

#[test]
fn planted_old_tokens_are_found() {
    planted(&LockChecker, |rng, bad| {
        let mut history = service(rng, 150, 5);
        if bad {
            // A token from the first half is used in the end.
            let acquire = |one: &&Operation| one.function == Function::Acquire;
            let acquires: Vec<u64> =
                history.iter().filter(acquire).take(20).map(|one| one.revision.unwrap()).collect();
            let token = acquires[rng.random_range(0..acquires.len())];
            let mut late = crate::script::history("999 w k v").swap_remove(0);
            late.expected = Some(Value::from(token as i64));
            late.invoke_ns = 10_000;
            late.return_ns = Some(10_001);
            history.push(late);
        }
        history
    });
}

#[test]
fn anomalies_have_their_sentences() {
    let checker = LockChecker;
    let good = "0 acquire k - rev=2 \n 0 w k a expected=2 \n 0 release k - \n 1 acquire k - rev=3";
    valid(&checker, &history(good));
    let with = |more: &str| history(&format!("{good} \n {more}"));
    invalid(&checker, &with("2 acquire k - rev=3"), "the token 3 was given twice");
    invalid(&checker, &with("0 w k b expected=2"), "a token was used after its lock was released");
    let old = "0 acquire k - rev=2 \n 1 acquire k - rev=3 \n 0 w k b expected=2";
    invalid(&checker, &history(old), "lock \"k\": an old token was accepted: write k \"b\"");
    valid(&checker, &with("0 w k b expected=2 fail"));
    invalid(&checker, &with("2 w k b expected=9"), "used the token 9, which nobody acquired");
    valid(&checker, &with("3 acquire k - info \n 2 w k b expected=9"));
    invalid(&checker, &with("2 acquire k - rev=1"), "tokens do not rise");
    invalid(&checker, &with("0 release k - "), "released twice");
    invalid(&checker, &with("7 release k - "), "gave back what its process never acquired");
    invalid(
        &checker,
        &with("1 release k - \n 1 w k c expected=3"),
        "used after its lock was released",
    );
    let two = "0 acquire k - rev=2 \n 1 acquire k - rev=3 \n 0 release k -";
    invalid(&checker, &history(two), "two held the lock: release k");
    // A lease that ended is none of our business.
    valid(&checker, &history("0 acquire k - rev=2 \n 1 acquire k - rev=3"));
    let early = "0 w k a expected=2 \n 1 acquire k - rev=2";
    invalid(&checker, &history(early), "a token was used before it was given");
    unknown(&checker, &history("0 acquire k -"), "an acquire without a token");
    unknown(&checker, &history("0 w k a expected=x"), "a token that is no number");
}
