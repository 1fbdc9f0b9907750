//! Seeds of the simulation in the default test run.

use std::time::Instant;

use tests::sim::{self, Counters, FAULTS_MIN, Mutant, OPERATIONS, Plan};

/// Seeds of the default run; `make sim SEEDS=N` runs more.
const SEEDS: u64 = 200;
/// Seeds within which a planted bug must be found.
const MUTANT_SEEDS: u64 = 200;

#[test]
fn seeds_hold_every_promise() {
    let begin = Instant::now();
    let outcomes = sim::run_many(0, SEEDS, 2, None);
    let elapsed = begin.elapsed().as_secs_f64();
    let mut total = Counters::default();
    for outcome in &outcomes {
        assert!(outcome.violations.is_empty(), "seed {}: {:#?}", outcome.seed, outcome.violations);
        let counters = &outcome.counters;
        let operations = counters.operations;
        assert!(operations >= u64::from(OPERATIONS), "seed {}: {operations}", outcome.seed);
        assert!(counters.faults >= FAULTS_MIN, "seed {}: {}", outcome.seed, counters.faults);
        total.merge(counters);
    }
    let simulated = total.simulated as f64 / 1e6;
    println!("{total}{simulated:.0} simulated seconds in {elapsed:.1} s");
    assert!(total.missing().is_empty(), "events that never occurred: {:?}", total.missing());
    assert!(total.acknowledged * 2 > total.operations, "most operations must get through: {total}");
    for outcome in outcomes.iter().step_by(100) {
        let again = sim::run(Plan::new(outcome.seed));
        assert_eq!(again, *outcome, "a seed replays byte for byte");
    }
}

/// Finds the planted bug or fails.
fn must_find(mutant: Mutant) {
    let found = (0..MUTANT_SEEDS).find(|seed| {
        let plan = Plan { mutant: Some(mutant), ..Plan::new(*seed) };
        !sim::run(plan).violations.is_empty()
    });
    let seed = found.unwrap_or_else(|| panic!("{mutant} was not found in {MUTANT_SEEDS} seeds"));
    println!("{mutant}: found at seed {seed}");
}

#[test]
fn b03_b27_ack_before_sync_is_found() {
    must_find(Mutant::AckBeforeSync);
}

#[test]
fn forgotten_vote_is_found() {
    must_find(Mutant::VoteForgotten);
}

#[test]
fn b01_applied_index_apart_from_its_effects_is_found() {
    must_find(Mutant::AppliedIndexApart);
}

#[test]
fn read_without_quorum_is_found() {
    must_find(Mutant::ReadWithoutQuorum);
}

#[test]
fn b22_double_apply_is_found() {
    must_find(Mutant::DoubleApply);
}
