//! What is done with every model.

use jepsen::{Checker, Operation, Verdict};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Random histories that each model is compared on.
pub const HISTORIES: usize = 10_000;

/// Larger histories with one violation each, and without any.
pub const PLANTED: u64 = 1_000;

/// Operations of a history that are printed at most.
const SHOWN_MAX: usize = 40;

/// A history as it is printed when something is wrong with it.
pub fn show(history: &[Operation]) -> String {
    let shown = history.iter().take(SHOWN_MAX).map(|operation| format!("{operation}\n"));
    format!("{}({} operations)\n", shown.collect::<String>(), history.len())
}

/// Compares a checker with a definition on random histories. Both verdicts must be well
/// represented, and what is reported as the failing part must fail by itself.
pub fn compare(
    checker: &dyn Checker,
    make: impl Fn(&mut ChaCha8Rng) -> Vec<Operation>,
    definition: impl Fn(&[Operation]) -> bool,
) {
    compare_some(checker, HISTORIES, make, |history| Some(definition(history)));
}

/// The same with a number of histories; where the definition says nothing, any verdict is good.
pub fn compare_some(
    checker: &dyn Checker,
    histories: usize,
    make: impl Fn(&mut ChaCha8Rng) -> Vec<Operation>,
    definition: impl Fn(&[Operation]) -> Option<bool>,
) {
    let model = checker.model();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut good, mut bad) = (0, 0);
    let mut tries = 0;
    while good + bad < histories {
        tries += 1;
        assert!(tries < 100 * histories, "{model}: {good} valid, {bad} invalid");
        let history = make(&mut rng);
        let Some(truth) = definition(&history) else { continue };
        let count = if truth { &mut good } else { &mut bad };
        // Two thirds of one kind are enough.
        if *count > histories * 2 / 3 {
            continue;
        }
        *count += 1;
        let verdict = checker.check(&history);
        let agrees = if truth { verdict.is_valid() } else { verdict.is_invalid() };
        assert!(agrees, "{model}: {verdict}, but {truth} for\n{}", show(&history));
        if let Verdict::Invalid(violation) = verdict {
            let part = &violation.operations;
            let why = &violation.explanation;
            assert!(!why.is_empty() && !part.is_empty(), "{model}: {why}");
            assert_ne!(
                definition(part),
                Some(true),
                "{model}: {why}\n{}of\n{}",
                show(part),
                show(&history)
            );
        }
    }
}

/// Asserts that each history without a violation is valid, and each with one is not.
pub fn planted(checker: &dyn Checker, make: impl Fn(&mut ChaCha8Rng, bool) -> Vec<Operation>) {
    let model = checker.model();
    for seed in 0..PLANTED {
        let history = make(&mut ChaCha8Rng::seed_from_u64(seed), false);
        let verdict = checker.check(&history);
        assert!(verdict.is_valid(), "{model}, seed {seed}: {verdict}\n{}", show(&history));
        let history = make(&mut ChaCha8Rng::seed_from_u64(seed), true);
        let verdict = checker.check(&history);
        let Verdict::Invalid(violation) = verdict else {
            panic!("{model}, seed {seed}: {verdict}\n{}", show(&history));
        };
        let again = checker.check(&violation.operations);
        let part = show(&violation.operations);
        assert!(
            again.is_invalid(),
            "{model}, seed {seed}: {again}, but {}\n{part}",
            violation.explanation
        );
    }
}

/// Asserts that a history is valid.
pub fn valid(checker: &dyn Checker, history: &[Operation]) {
    let verdict = checker.check(history);
    assert!(verdict.is_valid(), "{verdict}\n{}", show(history));
}

/// Asserts that a history is invalid, for a reason that says `sentence`.
pub fn invalid(checker: &dyn Checker, history: &[Operation], sentence: &str) {
    let verdict = checker.check(history);
    let text = verdict.to_string();
    assert!(verdict.is_invalid() && text.contains(sentence), "{text}\n{}", show(history));
}

/// Asserts that a history is not judged, for a reason that says `sentence`.
pub fn unknown(checker: &dyn Checker, history: &[Operation], sentence: &str) {
    match checker.check(history) {
        Verdict::Unknown { why } if why.contains(sentence) => {}
        verdict => panic!("{verdict}\n{}", show(history)),
    }
}
