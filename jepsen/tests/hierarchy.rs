//! Models that imply one another, on histories that are a little wrong.
//!
//! What a model accepts, no weaker one may refuse: else one of the two is wrong. Each history is that of
//! a good simulated keyspace in which single answers were changed, so that most are wrong in one place.

use std::collections::BTreeMap;

use jepsen::checker::{ModelOptions, by_model};
use jepsen::simulated::{Simulation, Values};
use jepsen::{Function, Operation, Outcome, Verdict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Histories for each kind of simulation.
const HISTORIES: u64 = 4_000;

/// A model, and one that it implies.
const IMPLIED: [(&str, &str); 14] = [
    ("revision", "register"),
    ("revision", "sequential"),
    ("register", "multi-register"),
    ("multi-register", "register"),
    ("sequential", "read-your-writes"),
    ("sequential", "monotonic-reads"),
    ("sequential", "monotonic-writes"),
    ("sequential", "writes-follow-reads"),
    ("sequential", "causal"),
    ("sequential", "causal-convergence"),
    ("sequential", "causal-memory"),
    ("causal-convergence", "causal"),
    ("causal-memory", "causal"),
    ("register", "kv"),
];

fn is_read(operation: &Operation) -> bool {
    operation.function == Function::Read && operation.outcome == Outcome::Ok
}

/// Changes one operation.
fn disturb(history: &mut [Operation], rng: &mut ChaCha8Rng) {
    let (place, other) = (rng.random_range(0..history.len()), rng.random_range(0..history.len()));
    let from = history[other].clone();
    let by = if rng.random_bool(0.5) { 1 } else { u64::MAX };
    let operation = &mut history[place];
    match rng.random_range(0..7) {
        // Another answer, with or without the revision that belongs to it.
        0 if is_read(operation) && is_read(&from) => {
            operation.value = from.value;
            operation.revision = from.revision;
        }
        1 if is_read(operation) => operation.value = from.value,
        2 if is_read(operation) => operation.revision = None,
        3 => operation.revision = operation.revision.map(|revision| revision.wrapping_add(by)),
        4 => operation.at_revision = operation.at_revision.map(|at| at.wrapping_add(by)),
        5 if operation.outcome == Outcome::Ok => operation.outcome = Outcome::Info,
        6 if operation.outcome == Outcome::Ok => operation.outcome = Outcome::Fail,
        _ => {}
    }
    if operation.outcome != Outcome::Ok {
        (operation.revision, operation.at_revision) = (None, None);
    }
}

fn compare(simulation: Simulation) {
    let mut accepted: BTreeMap<&str, u32> = BTreeMap::new();
    let mut refused: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..HISTORIES {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut history = Simulation { seed, ..simulation }.run();
        for _ in 0..rng.random_range(0..=2) {
            disturb(&mut history, &mut rng);
        }
        let check = |model| by_model(model, &ModelOptions::default()).unwrap().check(&history);
        for (strong, weak) in IMPLIED {
            let (strongly, weakly) = (check(strong), check(weak));
            *accepted.entry(strong).or_default() += u32::from(strongly.is_valid());
            *refused.entry(weak).or_default() += u32::from(weakly.is_invalid());
            let Verdict::Invalid(violation) = weakly else { continue };
            let shown: String = history.iter().map(|operation| format!("{operation}\n")).collect();
            assert!(
                !strongly.is_valid(),
                "seed {seed}: {strong} accepts what {weak} refuses: {}\n{shown}",
                violation.explanation
            );
        }
    }
    println!("accepted {accepted:?}, refused {refused:?}");
    let many = |counts: &BTreeMap<&str, u32>, model| counts[model] > 100;
    assert!(many(&accepted, "revision") && many(&refused, "register"), "{accepted:?} {refused:?}");
}

#[test]
fn of_unique_values() {
    let keys = 2;
    compare(Simulation { operations: 14, clients: 3, keys, crashes: 15, ..Simulation::default() });
}

#[test]
fn of_few_values_with_cas_and_deletes() {
    compare(Simulation {
        operations: 14,
        clients: 3,
        values: Values::Few(3),
        reads: 35,
        cas: 30,
        deletes: 10,
        crashes: 20,
        ..Simulation::default()
    });
}

#[test]
fn of_unique_values_with_cas_and_deletes() {
    let base = Simulation { operations: 14, clients: 3, keys: 2, ..Simulation::default() };
    compare(Simulation { reads: 40, cas: 20, deletes: 10, crashes: 20, ..base });
}
