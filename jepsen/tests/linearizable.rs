//! The models `kv`, `multi-register` and `mutex` against judges that share no code with them.

use std::collections::BTreeMap;

use jepsen::checker::{LinearizableChecker, ModelOptions, Sequential};
use jepsen::{Call, Checker, Function, Operation, Outcome, Value, Verdict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Histories that each model is tried on; the ignored test takes more.
const HISTORIES: u64 = 10_000;
const HISTORIES_MANY: u64 = 200_000;

/// What all keys hold; a lock that is held holds something.
type State = BTreeMap<String, String>;

/// Runs an operation on real values; `None` if it cannot have returned what it returned. With `fill`
/// reads return what is there.
fn step(state: &mut State, operation: &mut Operation, fill: bool) -> Option<()> {
    let known = operation.outcome == Outcome::Ok;
    let key = operation.key.clone();
    let text = |value: &Option<Value>| value.as_ref().map(|value| value.name().into_owned());
    let there = state.get(&key).cloned();
    match operation.function {
        Function::Read if fill => operation.value = there.map(Value::from),
        Function::Read => {
            let same = there == text(&operation.value)
                // An absent string is an empty one.
                || (there.is_none() && text(&operation.value).as_deref() == Some(""));
            if known && !same {
                return None;
            }
        }
        Function::Write => drop(state.insert(key, text(&operation.value)?)),
        Function::Append => {
            state.entry(key).or_default().push_str(&text(&operation.value)?);
        }
        Function::Acquire if there.is_some() => return None,
        Function::Acquire => drop(state.insert(key, "held".to_owned())),
        Function::Release => return state.remove(&key).map(drop),
        Function::Txn => {
            let Some(Value::List(steps)) = &mut operation.value else { return None };
            for micro in steps {
                let Some(Value::List(micro)) = micro else { return None };
                let key = micro[1].as_ref()?.name().into_owned();
                let there = state.get(&key).cloned();
                match micro[0].as_ref()?.as_text()? {
                    "r" if fill => micro[2] = there.map(Value::from),
                    "r" if known && there != text(&micro[2]) => return None,
                    "r" => {}
                    "w" => drop(state.insert(key, text(&micro[2])?)),
                    _ => {
                        let pair = micro[2].as_ref()?.as_list()?;
                        if there != text(&pair[0]) {
                            return None;
                        }
                        state.insert(key, text(&pair[1])?);
                    }
                }
            }
        }
        _ => return None,
    }
    Some(())
}

/// Tries all orders.
fn brute_force(open: &[&Operation], state: &State) -> bool {
    if open.iter().all(|operation| operation.outcome == Outcome::Info) {
        return true;
    }
    let first_end = open.iter().map(|operation| operation.end_ns()).min().unwrap_or(u64::MAX);
    (0..open.len()).filter(|&place| open[place].invoke_ns <= first_end).any(|place| {
        let mut rest = open.to_vec();
        let mut operation = rest.remove(place).clone();
        let mut next = state.clone();
        step(&mut next, &mut operation, false).is_some() && brute_force(&rest, &next)
    })
}

fn is_linearizable(history: &[Operation]) -> bool {
    let open: Vec<&Operation> = history.iter().filter(|o| o.outcome != Outcome::Fail).collect();
    brute_force(&open, &State::new())
}

/// Executes an order, as plainly as possible.
fn replay(history: &[Operation], order: &[usize]) -> Result<(), String> {
    // Independent parts follow one another, so calls are compared within a key or a group of keys.
    let mut state = State::new();
    let mut done = vec![false; history.len()];
    for (at, &place) in order.iter().enumerate() {
        let mut operation = history[place].clone();
        if std::mem::replace(&mut done[place], true) || operation.outcome == Outcome::Fail {
            return Err(format!("must not take effect (again): {operation}"));
        }
        step(&mut state, &mut operation, false).ok_or(format!("cannot be: {operation}"))?;
        let overtaken = order[..at].iter().map(|&before| &history[before]).find(|before| {
            operation.end_ns() < before.invoke_ns && shares_a_key(before, &operation)
        });
        if let Some(before) = overtaken {
            return Err(format!("{operation} returned before {before}"));
        }
    }
    let missing = history.iter().zip(&done).find(|(o, done)| o.outcome == Outcome::Ok && !**done);
    missing.map_or(Ok(()), |(operation, _)| Err(format!("is missing: {operation}")))
}

fn keys(operation: &Operation) -> Vec<String> {
    match (&operation.function, &operation.value) {
        (Function::Txn, Some(Value::List(steps))) => steps
            .iter()
            .filter_map(|step| step.as_ref()?.as_list()?[1].as_ref())
            .map(|key| key.name().into_owned())
            .collect(),
        _ => vec![operation.key.clone()],
    }
}

fn shares_a_key(one: &Operation, other: &Operation) -> bool {
    keys(one).iter().any(|key| keys(other).contains(key))
}

fn micro(function: &str, key: &str, value: Option<Value>) -> Option<Value> {
    Some(Value::List(vec![Some(function.into()), Some(key.into()), value]))
}

/// What a process might ask for.
fn call(sequential: Sequential, rng: &mut ChaCha8Rng, number: u64) -> Call {
    let key = if rng.random_bool(0.8) { "x" } else { "y" };
    let few = rng.random_range(1..=2_i64);
    let with =
        |function, value: Option<Value>| Call { key: key.into(), function, value, expected: None };
    match sequential {
        Sequential::Mutex if rng.random_bool(0.5) => with(Function::Acquire, None),
        Sequential::Mutex => with(Function::Release, None),
        Sequential::Kv => match rng.random_range(0..9) {
            0..4 => Call::read(key),
            4 => Call::write(key, few),
            5..8 => with(
                Function::Append,
                Some(if number.is_multiple_of(2) { "a" } else { "b" }.into()),
            ),
            _ => {
                let steps = [micro("r", "x", None), micro("w", "y", Some(few.into()))];
                Call { key: String::new(), ..with(Function::Txn, Some(Value::List(steps.into()))) }
            }
        },
        Sequential::Registers => {
            let mut steps = Vec::new();
            for key in ["x", "y"] {
                match rng.random_range(0..6) {
                    0..2 => steps.push(micro("r", key, None)),
                    2..4 => steps.push(micro("w", key, Some(rng.random_range(1..=2_i64).into()))),
                    4 => {
                        let old = rng.random_bool(0.7).then(|| rng.random_range(1..=2_i64).into());
                        let pair = Value::List(vec![old, Some(few.into())]);
                        steps.push(micro("cas", key, Some(pair)));
                    }
                    _ => {}
                }
            }
            if steps.is_empty() {
                steps.push(micro("r", "y", None));
            }
            Call { key: String::new(), ..with(Function::Txn, Some(Value::List(steps))) }
        }
    }
}

/// A few operations that took effect at random moments, in whole ticks so that many times are equal.
/// Then some details are changed, which may break it.
fn tiny(sequential: Sequential, rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let span = rng.random_range(4..=24);
    let mut effects = Vec::new();
    for process in 0..rng.random_range(3..=8) {
        let call = call(sequential, rng, process);
        let mut operation = Operation::invoked(process, call, rng.random_range(0..span));
        let effect = operation.invoke_ns + rng.random_range(0..=3);
        operation.return_ns = Some(effect + rng.random_range(0..=3));
        let crashed = rng.random_ratio(1, 6);
        operation.outcome = if crashed { Outcome::Info } else { Outcome::Ok };
        let lost = crashed && rng.random_bool(0.4);
        effects.push((if lost { u64::MAX } else { effect }, operation));
    }
    effects.sort_by_key(|(effect, _)| *effect);
    let mut state = State::new();
    let mut history = Vec::new();
    for (effect, mut operation) in effects {
        let mut next = state.clone();
        if effect < u64::MAX {
            let fill = operation.outcome == Outcome::Ok;
            match step(&mut next, &mut operation, fill) {
                Some(()) => state = next,
                None => operation.outcome = Outcome::Fail,
            }
        }
        history.push(operation);
    }
    for _ in 0..rng.random_range(0..5) {
        let other = history[rng.random_range(0..history.len())].clone();
        let place = rng.random_range(0..history.len());
        let operation = &mut history[place];
        match rng.random_range(0..6) {
            0 => operation.invoke_ns = operation.return_ns.unwrap_or_default(),
            1 => operation.return_ns = Some(operation.invoke_ns),
            2 => operation.outcome = Outcome::Ok,
            3 => operation.outcome = Outcome::Fail,
            _ if operation.function == other.function && operation.outcome == Outcome::Ok => {
                operation.value = other.value;
            }
            _ => {}
        }
    }
    history.sort_by_key(|operation| operation.invoke_ns);
    history
}

fn show(history: &[Operation]) -> String {
    history.iter().map(|operation| format!("{operation}\n")).collect()
}

fn compare(sequential: Sequential, seed: u64, histories: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let checker = LinearizableChecker::new(sequential, &ModelOptions::default());
    let (mut valid, mut invalid) = (0, 0);
    while valid + invalid < histories {
        let history = tiny(sequential, &mut rng);
        let truth = is_linearizable(&history);
        // About one in three is to be bad.
        if truth && valid > 2 * invalid + 10 {
            continue;
        }
        if truth {
            valid += 1
        } else {
            invalid += 1
        }
        let verdict = checker.check(&history);
        assert_eq!(verdict.is_valid(), truth, "{verdict}\n{}", show(&history));
        match (checker.linearize(&history), verdict) {
            (Ok(order), Verdict::Valid) => {
                assert_eq!(replay(&history, &order), Ok(()), "{order:?}\n{}", show(&history));
            }
            (Err(_), Verdict::Invalid(violation)) => {
                let part = &violation.operations;
                assert!(!is_linearizable(part), "{}of\n{}", show(part), show(&history));
                assert!(!violation.explanation.is_empty());
            }
            (order, verdict) => panic!("{verdict} but {order:?}\n{}", show(&history)),
        }
    }
    println!("{sequential:?}: {valid} valid, {invalid} invalid");
    let least = histories / 4;
    assert!(valid > least && invalid > least, "{valid} valid, {invalid} invalid");
}

#[test]
fn strings_agree_with_brute_force() {
    compare(Sequential::Kv, 1, HISTORIES);
}

#[test]
fn several_registers_agree_with_brute_force() {
    compare(Sequential::Registers, 2, HISTORIES);
}

#[test]
fn locks_agree_with_brute_force() {
    compare(Sequential::Mutex, 3, HISTORIES);
}

#[test]
#[ignore = "minutes; make lab-verify"]
fn all_agree_with_brute_force_on_many_histories() {
    for (seed, sequential) in
        [(4, Sequential::Kv), (5, Sequential::Registers), (6, Sequential::Mutex)]
    {
        compare(sequential, seed, HISTORIES_MANY);
    }
}

fn done(process: u64, function: Function, value: Option<Value>, times: (u64, u64)) -> Operation {
    let call = Call { key: "k".into(), function, value, expected: None };
    let mut operation = Operation::invoked(process, call, times.0);
    operation.return_ns = Some(times.1);
    operation.outcome = Outcome::Ok;
    operation
}

fn verdict(sequential: Sequential, history: &[Operation]) -> Verdict {
    LinearizableChecker::new(sequential, &ModelOptions::default()).check(history)
}

#[test]
fn an_absent_string_is_empty_and_an_absent_register_is_not() {
    let read = done(0, Function::Read, Some("".into()), (0, 1));
    assert!(verdict(Sequential::Kv, std::slice::from_ref(&read)).is_valid());
    assert!(verdict(Sequential::Registers, &[read]).is_invalid());
}

#[test]
fn a_list_is_not_the_text_that_looks_like_it() {
    let list: Value = ["1"].into_iter().collect();
    let text = Value::from(list.to_string());
    let write = done(0, Function::Write, Some(list.clone()), (0, 1));
    let read = |value| done(0, Function::Read, Some(value), (2, 3));
    assert!(verdict(Sequential::Registers, &[write.clone(), read(list)]).is_valid());
    assert!(verdict(Sequential::Registers, &[write.clone(), read(text.clone())]).is_invalid());
    let strings = verdict(Sequential::Kv, &[write, read(text)]);
    assert!(strings.to_string().contains("no values but texts"), "{strings}");
}

#[test]
fn explanations_name_the_operation_and_what_is_there() {
    let append = |text: &str, times| done(1, Function::Append, Some(text.into()), times);
    let read = |text: &str, times| done(0, Function::Read, Some(text.into()), times);
    let history = [
        append("a", (0, 1)),
        read("a", (2, 3)),
        append("b", (4, 5)),
        read("ba", (6, 7)),
        read("ab", (8, 9)),
    ];
    let Verdict::Invalid(violation) = verdict(Sequential::Kv, &history) else { panic!() };
    let expected = "key \"k\" is not linearizable: read k -> \"ba\" [ok of process 0, 0.000006 ms to \
                    0.000007 ms] has no place: after all that returned before, there can only be";
    assert!(violation.explanation.starts_with(expected), "{}", violation.explanation);
    // The first read says nothing here, and the last one comes later.
    assert_eq!(violation.operations.len(), 3, "{}", show(&violation.operations));

    let history = [
        done(0, Function::Acquire, None, (0, 1)),
        done(0, Function::Release, None, (2, 3)),
        done(0, Function::Acquire, None, (4, 5)),
        done(1, Function::Acquire, None, (6, 7)),
    ];
    let Verdict::Invalid(violation) = verdict(Sequential::Mutex, &history) else { panic!() };
    assert!(violation.explanation.ends_with("there can only be held"), "{}", violation.explanation);
    assert_eq!(violation.operations.len(), 2, "{}", show(&violation.operations));
}

/// What is about other values is left out, though it is of the same keys and before the last put.
#[test]
fn whole_values_are_left_out() {
    let txn = |process, steps: Vec<Option<Value>>, times| {
        done(process, Function::Txn, Some(Value::List(steps)), times)
    };
    let number = |n: i64| Some(Value::from(n));
    let mut history = Vec::new();
    for n in 0..10 {
        let at = n as u64 * 4;
        let pair = vec![micro("w", "x", number(n)), micro("w", "y", number(n))];
        history.push(txn(1, pair, (at, at + 1)));
        let seen = vec![micro("r", "x", number(n)), micro("r", "y", number(n))];
        history.push(txn(2, seen, (at + 2, at + 3)));
    }
    history.push(txn(3, vec![micro("r", "x", number(8))], (50, 51)));
    let Verdict::Invalid(violation) = verdict(Sequential::Registers, &history) else { panic!() };
    // The write of 8, the write of 9, and the read of 8.
    assert_eq!(violation.operations.len(), 3, "{}", show(&violation.operations));
    assert!(!is_linearizable(&violation.operations));

    let append = |text: &str, times| done(1, Function::Append, Some(text.into()), times);
    let mut history: Vec<Operation> = (0..8)
        .map(|n| append(["a", "b", "c", "d", "e", "f", "g", "h"][n], (n as u64, 20)))
        .collect();
    history.push(done(0, Function::Read, Some("ca".into()), (21, 22)));
    history.push(done(0, Function::Read, Some("ac".into()), (23, 24)));
    let Verdict::Invalid(violation) = verdict(Sequential::Kv, &history) else { panic!() };
    assert!(!is_linearizable(&violation.operations));
    // One append that was done must be in what is read; the others say nothing new.
    assert!(violation.operations.len() <= 4, "{}", show(&violation.operations));
}

#[test]
fn what_the_models_do_not_know_is_unknown() {
    let strange = done(0, Function::Txn, Some("no list".into()), (0, 1));
    assert!(matches!(verdict(Sequential::Kv, &[strange]), Verdict::Unknown { .. }));
    let nothing = done(0, Function::Txn, Some(Value::List(Vec::new())), (0, 1));
    assert!(verdict(Sequential::Kv, &[nothing]).is_valid());
    let step = Value::List(vec![Some("push".into()), Some("k".into()), None]);
    let strange = done(0, Function::Txn, Some(Value::List(vec![Some(step)])), (0, 1));
    assert!(matches!(verdict(Sequential::Kv, &[strange]), Verdict::Unknown { .. }));
    let foreign = done(0, Function::Watch, None, (0, 1));
    assert!(matches!(verdict(Sequential::Mutex, &[foreign]), Verdict::Unknown { .. }));
}
