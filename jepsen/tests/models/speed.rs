//! Large histories, one model after the other; prints how long each took: `make lab-verify`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jepsen::checker::{MODELS, ModelOptions, by_model};
use jepsen::{Function, Operation, Outcome, Value};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::causal_store::Store;
use crate::script::STEP_NS;

const OPERATIONS: u64 = 200_000;

/// What any model may take; they need a second or two.
const TIME_MAX: Duration = Duration::from_secs(60);

fn operation(number: u64, function: Function, key: &str, value: Option<Value>) -> Operation {
    let call = jepsen::Call { key: key.to_owned(), function, value, expected: None };
    let mut operation = Operation::invoked(number % 10, call, number * STEP_NS);
    operation.return_ns = Some(number * STEP_NS + STEP_NS - 1);
    operation.outcome = Outcome::Ok;
    operation
}

fn registers(rng: &mut ChaCha8Rng, single_writer: bool, converges: bool) -> Vec<Operation> {
    let operations = OPERATIONS as usize;
    Store { processes: 10, keys: 100, operations, single_writer, converges, crashes: 0 }.run(rng)
}

/// One register a key whose replies name revisions, with a bound on each read.
fn keyspace(rng: &mut ChaCha8Rng, function: Function) -> Vec<Operation> {
    let mut newest: BTreeMap<u64, (u64, Value)> = BTreeMap::new();
    // What the watcher was not told yet.
    let mut untold: Vec<Option<Value>> = Vec::new();
    let mut reached = 0;
    (1..=OPERATIONS)
        .map(|number| {
            let key = rng.random_range(0..100);
            let value = Value::from(number as i64);
            if rng.random_bool(0.5) {
                newest.insert(key, (number, value.clone()));
                untold.push(event(number, key, value.clone()));
                let mut write = operation(number, Function::Write, &key.to_string(), Some(value));
                write.revision = Some(number);
                return write;
            }
            let mut read = operation(number, function, &key.to_string(), None);
            read.at_revision = Some(number - 1);
            read.level = Some("bounded=1us".to_owned());
            if function == Function::Watch {
                read.process = 99;
                read.key = String::new();
                read.at_revision = Some(reached);
                reached = number;
                read.value = Some(Value::List(std::mem::take(&mut untold)));
            } else if let Some((revision, value)) = newest.get(&key) {
                read.revision = Some(*revision);
                read.value = Some(value.clone());
            }
            read
        })
        .collect()
}

fn event(revision: u64, key: u64, value: Value) -> Option<Value> {
    Some(Value::Map(BTreeMap::from([
        ("key".to_owned(), Some(Value::from(key.to_string()))),
        ("rev".to_owned(), Some(Value::from(revision as i64))),
        ("value".to_owned(), Some(value)),
    ])))
}

fn lists(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let mut lists: BTreeMap<u64, Vec<Option<Value>>> = BTreeMap::new();
    (0..OPERATIONS)
        .map(|number| {
            let steps = (0..3).map(|step| {
                let key = rng.random_range(0..50) + number / 500 * 50;
                let list = lists.entry(key).or_default();
                let element = Some(Value::from((number * 10 + step) as i64));
                let append = rng.random_bool(0.5);
                if append {
                    list.push(element.clone());
                }
                let value = if append { element } else { Some(Value::List(list.clone())) };
                let function = if append { "append" } else { "r" };
                Some(Value::List(vec![Some(function.into()), Some(key.to_string().into()), value]))
            });
            let steps = Value::List(steps.collect());
            operation(number, Function::Txn, "", Some(steps))
        })
        .collect()
}

/// Adds with a read of all, or of the sum, here and there.
fn added(numbers: bool) -> Vec<Operation> {
    let every = if numbers { 2 } else { OPERATIONS / 50 };
    let mut all: Vec<Option<Value>> = Vec::new();
    let mut sum = 0;
    (1..=OPERATIONS)
        .map(|number| {
            let value = Value::from(number as i64);
            if number % every != 0 {
                sum += number as i64;
                all.push(Some(value.clone()));
                return operation(number, Function::Add, "k", Some(value));
            }
            let read = if numbers { Value::from(sum) } else { Value::List(all.clone()) };
            operation(number, Function::Read, "k", Some(read))
        })
        .collect()
}

fn bank() -> Vec<Operation> {
    let balance = |account: u64| (account.to_string(), Some(Value::from(10)));
    let balances = Value::Map((0..10).map(balance).collect());
    (0..OPERATIONS)
        .map(|number| operation(number, Function::Read, "", Some(balances.clone())))
        .collect()
}

fn locks() -> Vec<Operation> {
    (0..OPERATIONS)
        .map(|number| {
            let token = number / 3 + 1;
            let function =
                [Function::Acquire, Function::Write, Function::Release][number as usize % 3];
            let mut operation = operation(number, function, "k", None);
            operation.revision = (function == Function::Acquire).then_some(token);
            operation.expected = (function != Function::Acquire).then(|| Value::from(token as i64));
            operation
        })
        .collect()
}

/// Transactions on three of a hundred registers, one after the other.
fn transactions(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let mut registers: BTreeMap<u64, Value> = BTreeMap::new();
    (0..OPERATIONS)
        .map(|number| {
            let steps = (0..3).map(|step| {
                let key = rng.random_range(0..100);
                let writes = rng.random_bool(0.5);
                if writes {
                    registers.insert(key, Value::from((number * 10 + step) as i64));
                }
                let function = if writes { "w" } else { "r" };
                let value = registers.get(&key).cloned();
                Some(Value::List(vec![Some(function.into()), Some(key.to_string().into()), value]))
            });
            let steps = Value::List(steps.collect());
            operation(number, Function::Txn, "", Some(steps))
        })
        .collect()
}

/// One lock that each process takes and gives back in its turn.
fn mutex() -> Vec<Operation> {
    (0..OPERATIONS)
        .map(|number| {
            let function = [Function::Acquire, Function::Release][number as usize % 2];
            let mut operation = operation(number, function, "k", None);
            operation.process = number / 2 % 10;
            operation
        })
        .collect()
}

/// Two writers that replace what both wrote before.
fn siblings() -> Vec<Operation> {
    let value = |number: u64| Some(Value::from(number as i64));
    let round = |number: u64| vec![value(number / 3 * 3), value(number / 3 * 3 + 1)];
    (0..OPERATIONS / 3 * 3)
        .map(|number| {
            if number % 3 == 2 {
                return operation(number, Function::Read, "k", Some(Value::List(round(number))));
            }
            let mut write = operation(number, Function::Write, "k", value(number));
            let replaced = if number < 3 { Vec::new() } else { round(number - 3) };
            write.expected = Some(Value::List(replaced));
            write
        })
        .collect()
}

#[test]
#[ignore = "a measurement; make lab-verify"]
fn speed() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for model in MODELS {
        let history = match model {
            "register" | "cas-register" | "kv" | "revision" | "sequential"
            | "bounded-staleness" => keyspace(&mut rng, Function::Read),
            "multi-register" => transactions(&mut rng),
            "mutex" => mutex(),
            "watch" => keyspace(&mut rng, Function::Watch),
            "causal" | "causal-convergence" => registers(&mut rng, false, true),
            "causal-memory" => registers(&mut rng, false, false),
            "list-append" | "list-append-process" | "list-append-strict" => lists(&mut rng),
            "set" | "set-full" => added(false),
            "counter" => added(true),
            "bank" => bank(),
            "lock" => locks(),
            "convergence" => siblings(),
            "read-your-writes" | "monotonic-reads" | "monotonic-writes" | "writes-follow-reads" => {
                registers(&mut rng, true, true)
            }
            other => panic!("no history for {other}"),
        };
        let checker = by_model(model, &ModelOptions::default()).unwrap();
        let start = Instant::now();
        let verdict = checker.check(&history);
        let took = start.elapsed();
        let ns = took.as_nanos() / history.len() as u128;
        println!("{model}: {verdict:.60}, {} operations, {took:?}, {ns} ns each", history.len());
        assert!(verdict.is_valid(), "{model}: {verdict}");
        assert!(took < TIME_MAX, "{model}: {took:?}");
    }
}

/// A violation in a large history is found and explained as fast.
#[test]
#[ignore = "a measurement; make lab-verify"]
fn speed_of_violations() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for model in
        ["causal", "causal-convergence", "causal-memory", "list-append", "list-append-strict"]
    {
        let transactions = model.starts_with("list");
        let mut history =
            if transactions { lists(&mut rng) } else { registers(&mut rng, false, true) };
        for operation in history.iter_mut().skip(OPERATIONS as usize / 2) {
            match &mut operation.value {
                Some(Value::List(steps)) if transactions => {
                    // A read misses what it must have seen: its own transaction appends as well.
                    let appends = steps.iter().any(|step| shown(step).starts_with("[\"append"));
                    let longer = |step: &&mut Option<Value>| shown(step).matches(' ').count() > 8;
                    let Some(Some(Value::List(read))) = steps.iter_mut().find(longer) else {
                        continue;
                    };
                    if let Some(Value::List(list)) = &mut read[2] {
                        list.truncate(2);
                        if appends {
                            break;
                        }
                    }
                }
                value if operation.function == Function::Read && value.is_some() => {
                    *value = None;
                    break;
                }
                _ => {}
            }
        }
        let start = Instant::now();
        let verdict = by_model(model, &ModelOptions::default()).unwrap().check(&history);
        let took = start.elapsed();
        println!("{model}: {verdict:.300}, {took:?}");
        assert!(verdict.is_invalid(), "{model}: {verdict}");
        assert!(took < TIME_MAX, "{model}: {took:?}");
    }
}

fn shown(step: &Option<Value>) -> String {
    step.as_ref().map_or_else(String::new, Value::to_string)
}
