//! The register checker against judges that share no code with it.

use jepsen::checker::register::{Engine, RegisterChecker};
use jepsen::checker::replay::{brute_force, replay};
use jepsen::simulated::{Flaw, Simulation, Values};
use jepsen::{Call, Checker, Function, Operation, Outcome, Value, Verdict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A few operations on one key that took effect at random moments, in whole ticks so that many
/// times are equal. Then some details are changed, which may break it.
fn tiny(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let few = rng.random_bool(0.5);
    let count = rng.random_range(3..=8);
    let span = rng.random_range(6..=30);
    let mut effects = Vec::new();
    for process in 0..count {
        let fresh = if few { rng.random_range(1..=2) } else { process + 10 };
        let any = if few { rng.random_range(1..=2) } else { rng.random_range(10..10 + count) };
        let call = match rng.random_range(0..8) {
            0..4 => Call::read("k"),
            4..6 => Call::write("k", fresh.to_string()),
            6 => Call::cas(
                "k",
                rng.random_bool(0.7).then(|| any.to_string().into()),
                fresh.to_string(),
            ),
            _ => Call::delete("k"),
        };
        let mut operation = Operation::invoked(process, call, rng.random_range(0..span));
        let effect = operation.invoke_ns + rng.random_range(0..=2);
        operation.return_ns = Some(effect + rng.random_range(0..=2));
        let crashed = rng.random_ratio(1, 5);
        operation.outcome = if crashed { Outcome::Info } else { Outcome::Ok };
        if !crashed || rng.random_bool(0.6) {
            effects.push((effect, operation));
        } else {
            effects.push((u64::MAX, operation));
        }
    }
    effects.sort_by_key(|(effect, _)| *effect);
    let mut value: Option<Value> = None;
    for (effect, operation) in &mut effects {
        if *effect == u64::MAX {
            continue;
        }
        match operation.function {
            Function::Read if operation.outcome == Outcome::Ok => {
                operation.value.clone_from(&value)
            }
            Function::Read => {}
            Function::Write | Function::Delete => value.clone_from(&operation.value),
            Function::Cas if operation.expected == value => value.clone_from(&operation.value),
            Function::Cas if operation.outcome == Outcome::Ok => operation.outcome = Outcome::Fail,
            _ => {}
        }
    }
    let mut history: Vec<Operation> = effects.into_iter().map(|(_, operation)| operation).collect();
    for _ in 0..rng.random_range(0..14) {
        let place = rng.random_range(0..history.len());
        let other = rng.random_range(0..history.len());
        let borrowed = history[other].value.clone();
        let operation = &mut history[place];
        match rng.random_range(0..6) {
            0 => operation.invoke_ns = operation.return_ns.unwrap_or_default(),
            1 => operation.return_ns = Some(operation.invoke_ns),
            2 if operation.function == Function::Cas => operation.outcome = Outcome::Ok,
            3 if operation.function != Function::Read => operation.outcome = Outcome::Fail,
            _ if operation.function == Function::Read => operation.value = borrowed,
            _ => {}
        }
    }
    history.sort_by_key(|operation| operation.invoke_ns);
    history
}

fn show(history: &[Operation]) -> String {
    history.iter().map(|operation| format!("{operation}\n")).collect()
}

#[test]
fn the_engines_agree_with_brute_force() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut valid, mut invalid, mut by_zones) = (0, 0, 0);
    while valid + invalid < 20_000 {
        let history = tiny(&mut rng);
        let truth = brute_force(&history);
        if truth {
            valid += 1
        } else {
            invalid += 1
        }
        for engine in [Engine::Automatic, Engine::Zones, Engine::Frontier, Engine::Depth] {
            let checker = RegisterChecker { engine, ..RegisterChecker::default() };
            let verdict = checker.check(&history);
            if engine == Engine::Zones {
                if matches!(verdict, Verdict::Unknown { .. }) {
                    continue;
                }
                by_zones += 1;
            }
            assert_eq!(verdict.is_valid(), truth, "{engine:?}: {verdict}\n{}", show(&history));
            match (checker.linearize(&history), verdict) {
                (Ok(order), Verdict::Valid) => {
                    let replayed = replay(&history, &order);
                    assert_eq!(replayed, Ok(()), "{engine:?} {order:?}\n{}", show(&history));
                }
                (Err(_), Verdict::Invalid(violation)) => {
                    let part = &violation.operations;
                    assert!(!brute_force(part), "{engine:?}\n{}of\n{}", show(part), show(&history));
                }
                (linearized, verdict) => panic!("{engine:?}: {verdict} but {linearized:?}"),
            }
        }
    }
    assert!(valid > 5_000 && invalid > 5_000, "{valid} valid, {invalid} invalid");
    assert!(by_zones > 6_000, "{by_zones} decided by zones");
}

#[test]
fn the_engines_agree_with_each_other_on_larger_histories() {
    let (mut valid, mut invalid) = (0, 0);
    for seed in 0..400 {
        let flaw = match seed % 4 {
            0 => Flaw::StaleReads(8),
            1 => Flaw::LostWrites(8),
            _ => Flaw::None,
        };
        let simulation = Simulation {
            seed,
            operations: 120,
            clients: 4,
            keys: 2,
            cas: 20,
            crashes: 3,
            flaw,
            ..Simulation::default()
        };
        let history = simulation.run();
        let check =
            |engine| RegisterChecker { engine, ..RegisterChecker::default() }.check(&history);
        let (zones, frontier) = (check(Engine::Zones), check(Engine::Frontier));
        assert_eq!(zones.as_str(), frontier.as_str(), "seed {seed}: {zones} or {frontier}");
        assert!(flaw != Flaw::None || zones.is_valid(), "seed {seed}: {zones}");
        match zones {
            Verdict::Valid => valid += 1,
            Verdict::Invalid(violation) => {
                invalid += 1;
                assert!(
                    violation.operations.len() <= 12,
                    "seed {seed}\n{}",
                    show(&violation.operations)
                );
            }
            Verdict::Unknown { why } => panic!("seed {seed}: {why}"),
        }
    }
    assert!(valid >= 200 && invalid >= 100, "{valid} valid, {invalid} invalid");
}

#[test]
fn few_values_and_deletes_are_decided_with_a_replayable_order() {
    for seed in 0..60 {
        let simulation = Simulation {
            seed,
            operations: 500,
            values: Values::Few(4),
            cas: 20,
            deletes: 10,
            crashes: 5,
            ..Simulation::default()
        };
        let history = simulation.run();
        let order = RegisterChecker::default().linearize(&history);
        let order = order.unwrap_or_else(|verdict| panic!("seed {seed}: {verdict}"));
        assert_eq!(replay(&history, &order), Ok(()), "seed {seed}");
    }
}

#[test]
fn a_spent_budget_is_unknown() {
    let history = Simulation {
        operations: 400,
        clients: 12,
        values: Values::Few(5),
        cas: 20,
        crashes: 10,
        ..Simulation::default()
    }
    .run();
    let checker =
        RegisterChecker { engine: Engine::Frontier, budget: 50, ..RegisterChecker::default() };
    let verdict = checker.check(&history);
    assert!(matches!(verdict, Verdict::Unknown { .. }), "{verdict}");
}

#[test]
fn too_many_open_operations_are_unknown() {
    let history: Vec<Operation> = (0..200)
        .map(|process| {
            let mut operation = Operation::invoked(process, Call::write("k", "same"), process);
            operation.return_ns = Some(1_000);
            operation.outcome = Outcome::Ok;
            operation
        })
        .chain([{
            let mut read = Operation::invoked(200, Call::read("k"), 2_000);
            read.value = Some("same".into());
            read.return_ns = Some(3_000);
            read.outcome = Outcome::Ok;
            read
        }])
        .collect();
    let verdict = RegisterChecker::default().check(&history);
    assert!(verdict.to_string().contains("more than 128 operations"), "{verdict}");
}

fn done(process: u64, call: Call, times: (u64, u64), outcome: Outcome) -> Operation {
    let mut operation = Operation::invoked(process, call, times.0);
    operation.return_ns = Some(times.1);
    operation.outcome = outcome;
    operation
}

fn read(process: u64, times: (u64, u64), value: Option<&str>) -> Operation {
    let mut operation = done(process, Call::read("k"), times, Outcome::Ok);
    operation.value = value.map(Value::from);
    operation
}

#[test]
fn a_failed_cas_is_no_observation() {
    let history = [
        done(0, Call::write("k", "1"), (0, 1), Outcome::Ok),
        done(0, Call::cas("k", Some("1".into()), "2"), (2, 3), Outcome::Fail),
        read(0, (4, 5), Some("1")),
    ];
    assert_eq!(RegisterChecker::default().check(&history), Verdict::Valid);
}

#[test]
fn a_read_of_nothing_observed_absence() {
    let history = [done(0, Call::write("k", "1"), (0, 1), Outcome::Ok), read(0, (2, 3), None)];
    let verdict = RegisterChecker::default().check(&history);
    assert!(verdict.is_invalid());
    let unknown = [history[0].clone(), Operation { outcome: Outcome::Info, ..history[1].clone() }];
    assert_eq!(RegisterChecker::default().check(&unknown), Verdict::Valid);
}

#[test]
fn an_unknown_write_may_take_effect_long_after() {
    let history = [
        done(0, Call::write("k", "late"), (0, 1), Outcome::Info),
        done(1, Call::write("k", "1"), (2, 3), Outcome::Ok),
        read(1, (4, 5), Some("1")),
        read(1, (6, 7), Some("late")),
    ];
    assert_eq!(RegisterChecker::default().check(&history), Verdict::Valid);
    let back = [&history[..], &[read(1, (8, 9), Some("1"))]].concat();
    assert!(RegisterChecker::default().check(&back).is_invalid());
}

#[test]
fn an_unknown_write_may_set_what_was_there_before() {
    // Write 10, which nobody reads, fits only between the beginning and the unknown delete.
    let history = [
        done(3, Call::delete("k"), (0, 1), Outcome::Info),
        read(7, (0, 2), Some("15")),
        done(0, Call::write("k", "10"), (1, 3), Outcome::Ok),
        done(5, Call::cas("k", None, "15"), (1, 1), Outcome::Ok),
        read(1, (5, 5), Some("15")),
    ];
    assert!(brute_force(&history));
    assert_eq!(RegisterChecker::default().check(&history), Verdict::Valid);
}

#[test]
fn explanations_name_the_operations() {
    let write = |value: &str, times| done(0, Call::write("k", value), times, Outcome::Ok);
    let cas = |process, from: &str, to: &str, times| {
        done(process, Call::cas("k", Some(from.into()), to), times, Outcome::Ok)
    };
    let cases: [(Vec<Operation>, usize, &str); 6] = [
        (vec![read(1, (0, 1), Some("x"))], 1, "which no operation wrote"),
        (
            vec![done(0, Call::write("k", "x"), (0, 1), Outcome::Fail), read(1, (2, 3), Some("x"))],
            1,
            "whose write certainly failed: write k \"x\"",
        ),
        (
            vec![read(1, (0, 1), Some("x")), write("x", (2, 3))],
            1,
            "before its write was called: write k \"x\"",
        ),
        (
            vec![write("x", (0, 1)), cas(1, "x", "y", (2, 3)), cas(2, "x", "z", (2, 3))],
            3,
            "was there only once, but two cas found it",
        ),
        (
            vec![write("x", (0, 1)), write("y", (2, 3)), read(1, (4, 5), Some("x"))],
            2,
            "but nothing wrote that any more after write k \"y\"",
        ),
        (
            vec![cas(1, "x", "y", (0, 9)), cas(2, "y", "x", (0, 9))],
            2,
            "needs the one before it, in a circle",
        ),
    ];
    for (history, size, sentence) in cases {
        let verdict = RegisterChecker::default().check(&history);
        let Verdict::Invalid(violation) = &verdict else { panic!("{verdict}") };
        assert!(violation.explanation.contains(sentence), "{verdict}");
        assert_eq!(violation.operations.len(), size, "{verdict}\n{}", show(&violation.operations));
    }
}
