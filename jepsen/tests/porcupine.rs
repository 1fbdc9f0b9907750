//! The checkers against porcupine, an independent checker, on random histories.

use std::time::Duration;

use jepsen::checker::{LinearizableChecker, ModelOptions, RegisterChecker, Sequential};
use jepsen::simulated::{Flaw, Simulation, Values};
use jepsen::{Call, Checker, Function, Operation, Outcome, Verdict};
use porcupine_rs::{CheckResult, Model, check_operations, check_operations_timeout};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Histories of registers, and of strings; the ignored test takes more.
const HISTORIES: u64 = 5_000;
const STRINGS: u64 = 1_500;
const HISTORIES_MANY: u64 = 50_000;
const STRINGS_MANY: u64 = 10_000;

/// Time after which porcupine is given up: a few smallest failing parts of strings, which have lost
/// their reads, take it minutes.
const PATIENCE: Duration = Duration::from_secs(3);

/// One operation as porcupine sees it. Values are their text; absence is `None`.
#[derive(Clone, Debug)]
enum Doing {
    Read(Option<String>),
    Write(Option<String>),
    Cas(Option<String>, Option<String>),
    /// A cas of which nobody knows whether it took effect.
    PerhapsCas(Option<String>, Option<String>),
}

/// A register.
#[derive(Clone)]
struct Register;

impl Model for Register {
    type State = Option<String>;
    type Op = Doing;
    type Metadata = ();

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, op: &Doing) -> (bool, Self::State) {
        match op {
            Doing::Read(value) => (state == value, state.clone()),
            Doing::Write(value) => (true, value.clone()),
            Doing::Cas(old, new) => (state == old, new.clone()),
            Doing::PerhapsCas(old, new) if state == old => (true, new.clone()),
            Doing::PerhapsCas(..) => (true, state.clone()),
        }
    }
}

/// What porcupine says of the operations on one key.
fn judged(history: &[Operation], key: &str) -> bool {
    let operations: Vec<porcupine_rs::Operation<Register>> = history
        .iter()
        .filter(|o| o.key == key && o.outcome != Outcome::Fail)
        .filter(|o| o.outcome == Outcome::Ok || o.function != Function::Read)
        .map(|o| {
            let text = o.text().map(str::to_owned);
            let expected = o.expected_text().map(str::to_owned);
            let op = match (o.function, o.outcome) {
                (Function::Read, _) => Doing::Read(text),
                (Function::Cas, Outcome::Ok) => Doing::Cas(expected, text),
                // It has to be placed somewhere, be it at the end, be it without effect.
                (Function::Cas, _) => Doing::PerhapsCas(expected, text),
                _ => Doing::Write(text),
            };
            porcupine_rs::Operation {
                client_id: None,
                call_time: i64::try_from(o.invoke_ns).unwrap(),
                return_time: i64::try_from(o.end_ns()).unwrap_or(i64::MAX),
                op,
                metadata: None,
            }
        })
        .collect();
    check_operations(&operations)
}

fn keys(history: &[Operation]) -> Vec<&str> {
    let mut keys: Vec<&str> = history.iter().map(|operation| operation.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Small enough for porcupine, which takes exponential time where we do not.
fn simulation(seed: u64) -> Simulation {
    Simulation {
        seed,
        operations: 60,
        clients: 3 + (seed % 3) as usize,
        keys: 1 + (seed / 3 % 2) as usize,
        values: if seed.is_multiple_of(4) {
            Values::Unique
        } else {
            Values::Few(3 + (seed % 3) as u32)
        },
        cas: 20,
        deletes: if seed.is_multiple_of(5) { 10 } else { 0 },
        crashes: (seed % 4) as u32 * 2,
        flaw: match seed % 5 {
            0 | 1 => Flaw::StaleReads(3),
            2 => Flaw::LostWrites(3),
            _ => Flaw::None,
        },
        ..Simulation::default()
    }
}

fn compare(seeds: std::ops::Range<u64>) {
    let (mut valid, mut invalid) = (0, 0);
    let registers = LinearizableChecker::new(Sequential::Registers, &ModelOptions::default());
    for seed in seeds.clone() {
        let history = simulation(seed).run();
        let truth = keys(&history).into_iter().all(|key| judged(&history, key));
        if truth {
            valid += 1
        } else {
            invalid += 1
        }
        let verdict = RegisterChecker::default().check(&history);
        assert_eq!(verdict.as_str(), if truth { "valid" } else { "invalid" }, "seed {seed}");
        if let Verdict::Invalid(violation) = &verdict {
            assert!(!judged(&violation.operations, &violation.key), "seed {seed}: {verdict}");
        }
        // The same by the engine for all objects.
        let verdict = registers.check(&history);
        assert_eq!(verdict.is_valid(), truth, "seed {seed}: {verdict}");
        if let Verdict::Invalid(violation) = &verdict {
            assert!(!judged(&violation.operations, &violation.key), "seed {seed}: {verdict}");
        }
    }
    println!("seeds {seeds:?}: {valid} valid, {invalid} invalid");
    let all = seeds.end - seeds.start;
    assert!(valid > all / 4 && invalid > all / 4, "{valid} valid, {invalid} invalid");
}

#[test]
fn verdicts_are_porcupines() {
    compare(0..HISTORIES);
}

#[test]
#[ignore = "minutes; make lab-verify"]
fn verdicts_are_porcupines_on_many_histories() {
    compare(HISTORIES..HISTORIES_MANY);
    compare_strings(STRINGS..STRINGS_MANY);
}

/// Strings with get, put and append.
#[derive(Clone)]
struct Strings;

impl Model for Strings {
    type State = String;
    type Op = (Function, String);
    type Metadata = ();

    fn init() -> String {
        String::new()
    }

    fn step(state: &String, (function, text): &(Function, String)) -> (bool, String) {
        match function {
            Function::Read => (state == text, state.clone()),
            Function::Append => (true, format!("{state}{text}")),
            _ => (true, text.clone()),
        }
    }
}

/// Clients on one string; each operation takes effect at a random moment. Texts are short and few, so
/// that many strings are beginnings of others. Then some reads are changed, which may break it.
fn strings(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let clients = rng.random_range(2..=6_usize);
    let mut free_at = vec![0_u64; clients];
    let mut planned: Vec<(u64, Operation)> = Vec::new();
    for number in 0..rng.random_range(10..50_usize) {
        let client = number % clients;
        let text = ["a", "b", "ab", "ba", ""][rng.random_range(0..5)];
        let call = match rng.random_range(0..10) {
            0..5 => Call::read("k"),
            5 => Call::write("k", text),
            _ => Call { function: Function::Append, ..Call::write("k", text) },
        };
        let start = free_at[client] + rng.random_range(0..8);
        let effect = start + rng.random_range(0..12);
        let end = effect + rng.random_range(0..12);
        let mut operation = Operation::invoked(number as u64, call, start);
        operation.return_ns = Some(end);
        let crashed = rng.random_ratio(1, 15);
        operation.outcome = if crashed { Outcome::Info } else { Outcome::Ok };
        free_at[client] = end + 1;
        let lost = crashed && rng.random_bool(0.5);
        planned.push((if lost { u64::MAX } else { effect }, operation));
    }
    planned.sort_by_key(|(effect, operation)| (*effect, operation.process));
    let mut string = String::new();
    for (effect, operation) in &mut planned {
        match operation.function {
            _ if *effect == u64::MAX => {}
            Function::Read => operation.value = Some(string.as_str().into()),
            Function::Append => string.push_str(operation.text().unwrap()),
            _ => operation.text().unwrap().clone_into(&mut string),
        }
    }
    let mut history: Vec<Operation> = planned.into_iter().map(|(_, operation)| operation).collect();
    for _ in 0..rng.random_range(0..3) {
        let from = history[rng.random_range(0..history.len())].clone();
        let place = rng.random_range(0..history.len());
        let operation = &mut history[place];
        match (operation.function, from.function) {
            (Function::Read, Function::Read) => operation.value = from.value,
            (Function::Append, _) if operation.outcome == Outcome::Ok => {
                operation.value = Some("c".into());
            }
            _ => {}
        }
    }
    history.sort_by_key(|operation| operation.invoke_ns);
    history
}

fn compare_strings(seeds: std::ops::Range<u64>) {
    let checker = LinearizableChecker::new(Sequential::Kv, &ModelOptions::default());
    let (mut valid, mut invalid, mut left_out) = (0, 0, 0);
    for seed in seeds.clone() {
        let history = strings(&mut ChaCha8Rng::seed_from_u64(seed));
        let judged = |history: &[Operation]| {
            let known = |o: &&Operation| o.outcome == Outcome::Ok || o.function != Function::Read;
            let operations: Vec<_> = history
                .iter()
                .filter(known)
                .map(|o| porcupine_rs::Operation::<Strings> {
                    client_id: None,
                    call_time: i64::try_from(o.invoke_ns).unwrap(),
                    return_time: i64::try_from(o.end_ns()).unwrap_or(i64::MAX),
                    op: (o.function, o.text().unwrap_or_default().to_owned()),
                    metadata: None,
                })
                .collect();
            match check_operations_timeout(&operations, PATIENCE) {
                CheckResult::Ok => Some(true),
                CheckResult::Illegal => Some(false),
                CheckResult::Unknown => None,
            }
        };
        let verdict = checker.check(&history);
        assert!(!matches!(verdict, Verdict::Unknown { .. }), "seed {seed}: {verdict}");
        let Some(truth) = judged(&history) else {
            left_out += 1;
            continue;
        };
        if truth {
            valid += 1
        } else {
            invalid += 1
        }
        assert_eq!(verdict.as_str(), if truth { "valid" } else { "invalid" }, "seed {seed}");
        if let Verdict::Invalid(violation) = &verdict {
            match judged(&violation.operations) {
                Some(part) => assert!(!part, "seed {seed}: {verdict}"),
                None => left_out += 1,
            }
        }
    }
    println!("strings, seeds {seeds:?}: {valid} valid, {invalid} invalid, {left_out} left out");
    let all = seeds.end - seeds.start;
    assert!(left_out <= all / 100, "porcupine left {left_out} undecided");
    assert!(valid > all / 4 && invalid > all / 4, "{valid} valid, {invalid} invalid");
}

#[test]
fn verdicts_on_strings_are_porcupines() {
    compare_strings(0..STRINGS);
}
