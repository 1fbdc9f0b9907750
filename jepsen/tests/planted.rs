//! Histories with exactly one violation, planted by hand of a program, and histories without any.

use jepsen::checker::{LinearizableChecker, ModelOptions, RegisterChecker, Sequential};
use jepsen::simulated::{Simulation, Values};
use jepsen::{Call, Checker, Function, Operation, Outcome, Verdict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Histories of each kind.
const HISTORIES: u64 = 1_000;

fn simulation(seed: u64) -> Simulation {
    Simulation {
        seed,
        operations: 150,
        clients: 4,
        keys: 2,
        values: if seed.is_multiple_of(2) { Values::Unique } else { Values::Few(4) },
        cas: 15,
        deletes: 5,
        crashes: 3,
        ..Simulation::default()
    }
}

/// Adds two writes after everything else has returned, and a read that misses the second one.
fn plant_stale_read(history: &mut Vec<Operation>, rng: &mut ChaCha8Rng) {
    let place = rng.random_range(0..history.len());
    let key = history[place].key.clone();
    let end = history.iter().filter_map(|operation| operation.return_ns).max().unwrap_or(0);
    let process = 1_000_000;
    let mut add = |call: Call, value: Option<&str>, at: u64| {
        let mut operation = Operation::invoked(process, call, at);
        operation.return_ns = Some(at + 1);
        operation.outcome = Outcome::Ok;
        if operation.function == Function::Read {
            operation.value = value.map(Into::into);
        }
        history.push(operation);
    };
    add(Call::write(&*key, "planted-1"), None, end + 10);
    add(Call::write(&*key, "planted-2"), None, end + 20);
    // What crashed may still take effect, but nothing can bring this value back.
    add(Call::read(&*key), Some("planted-1"), end + 30);
}

#[test]
fn one_planted_violation_is_always_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for seed in 0..HISTORIES {
        let good = simulation(seed).run();
        let verdict = RegisterChecker::default().check(&good);
        assert_eq!(verdict, Verdict::Valid, "seed {seed}");
        let mut bad = good;
        plant_stale_read(&mut bad, &mut rng);
        let verdict = RegisterChecker::default().check(&bad);
        let Verdict::Invalid(violation) = &verdict else { panic!("seed {seed}: {verdict}") };
        let planted = violation.operations.iter().filter(|o| o.process == 1_000_000).count();
        assert!(planted >= 1, "seed {seed}: another violation was found: {verdict}");
        assert!(violation.operations.len() <= 6, "seed {seed}: {verdict}");
    }
}

/// Clients that append to, put and get few strings, each operation taking effect in the middle. With
/// a flaw one append late in the history is acknowledged and lost, and everything is read at the end.
fn strings(seed: u64, lose_one: bool) -> Vec<Operation> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut held = [const { String::new() }; 2];
    let mut free_at = [0_u64; 5];
    let mut planned: Vec<(u64, Operation)> = Vec::new();
    for number in 0..120_u64 {
        let client = (number % 5) as usize;
        let key = ["x", "y"][rng.random_range(0..2)];
        let call = match rng.random_range(0..20) {
            0..10 => Call::read(key),
            10 => Call::write(key, format!("[{number}]")),
            _ => Call { function: Function::Append, ..Call::write(key, format!(" {number}")) },
        };
        let start = free_at[client] + rng.random_range(1..50);
        let effect = start + rng.random_range(0..100);
        let mut operation = Operation::invoked(client as u64, call, start);
        let end = effect + rng.random_range(0..100);
        operation.return_ns = Some(end);
        operation.outcome = Outcome::Ok;
        free_at[client] = end + 1;
        planned.push((effect, operation));
    }
    for (number, key) in (0_u64..).zip(["x", "y"]) {
        let start = 1_000_000 + 10 * number;
        let mut operation = Operation::invoked(9, Call::read(key), start);
        operation.return_ns = Some(start + 1);
        operation.outcome = Outcome::Ok;
        planned.push((start, operation));
    }
    planned.sort_by_key(|(effect, operation)| (*effect, operation.process));
    // It must not be possible that a put came after it and overwrote it.
    let lost = planned.iter().rposition(|(_, o)| o.function == Function::Append);
    let put_ends = planned.iter().filter(|(_, o)| o.function == Function::Write);
    let last_put = put_ends.map(|(_, put)| put.end_ns()).max().unwrap_or(0);
    let lost = lost.filter(|&lost| lose_one && last_put < planned[lost].1.invoke_ns);
    for (place, (_, operation)) in planned.iter_mut().enumerate() {
        let string = &mut held[usize::from(operation.key == "y")];
        match operation.function {
            Function::Read => operation.value = Some(string.as_str().into()),
            Function::Append if lost == Some(place) => {}
            Function::Append => string.push_str(operation.text().unwrap()),
            _ => operation.text().unwrap().clone_into(string),
        }
    }
    if lose_one && lost.is_none() {
        // A put came last, so the final read is made to miss it.
        let read = planned.last_mut().map(|(_, read)| read).unwrap();
        read.value = Some("never there".into());
    }
    let mut history: Vec<Operation> = planned.into_iter().map(|(_, operation)| operation).collect();
    history.sort_by_key(|operation| operation.invoke_ns);
    history
}

#[test]
fn one_lost_append_is_always_found() {
    let checker = LinearizableChecker::new(Sequential::Kv, &ModelOptions::default());
    for seed in 0..HISTORIES {
        let verdict = checker.check(&strings(seed, false));
        assert_eq!(verdict, Verdict::Valid, "seed {seed}");
        let verdict = checker.check(&strings(seed, true));
        assert!(verdict.is_invalid(), "seed {seed}: {verdict}");
    }
}

/// Clients that take and give back one lock, one at a time; with a flaw one of them gets it while
/// another has it.
fn locks(seed: u64, give_twice: bool) -> Vec<Operation> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut history = Vec::new();
    let mut done = |process, function, effect: u64, rng: &mut ChaCha8Rng| {
        let call = Call { key: "l".into(), function, value: None, expected: None };
        let begin = effect - rng.random_range(0..30);
        let mut operation = Operation::invoked(process, call, begin);
        operation.return_ns = Some(effect + rng.random_range(0..4));
        operation.outcome = Outcome::Ok;
        history.push(operation);
    };
    let twice_at = rng.random_range(0..50);
    let mut now = 100;
    for turn in 0..50_u64 {
        let process = turn % 7;
        done(process, Function::Acquire, now, &mut rng);
        if give_twice && turn == twice_at {
            done(100, Function::Acquire, now + 8, &mut rng);
        }
        // Later than anything that was called before it returned can have waited for.
        now += 60;
        done(process, Function::Release, now, &mut rng);
        now += rng.random_range(10..60);
    }
    history.sort_by_key(|operation| operation.invoke_ns);
    history
}

#[test]
fn a_lock_given_twice_is_always_found() {
    let checker = LinearizableChecker::new(Sequential::Mutex, &ModelOptions::default());
    for seed in 0..HISTORIES {
        let verdict = checker.check(&locks(seed, false));
        assert_eq!(verdict, Verdict::Valid, "seed {seed}");
        let verdict = checker.check(&locks(seed, true));
        assert!(verdict.is_invalid(), "seed {seed}: {verdict}");
    }
}
