//! The revision checker on simulated keyspaces.

use jepsen::checker::{RegisterChecker, RevisionChecker};
use jepsen::simulated::{Flaw, Simulation, Values};
use jepsen::{Checker, Function, Operation, Outcome, Verdict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn simulation(seed: u64) -> Simulation {
    Simulation {
        seed,
        operations: 400,
        clients: 6,
        keys: 3,
        values: if seed.is_multiple_of(2) { Values::Unique } else { Values::Few(4) },
        cas: 15,
        deletes: 10,
        crashes: 5,
        ..Simulation::default()
    }
}

#[test]
fn good_keyspaces_pass() {
    for seed in 0..600 {
        let history = simulation(seed).run();
        let verdict = RevisionChecker.check(&history);
        assert_eq!(verdict, Verdict::Valid, "seed {seed}");
    }
}

#[test]
fn stale_reads_and_lost_writes_are_found() {
    let mut found = [0, 0];
    for seed in 0..200 {
        for (kind, flaw) in [Flaw::StaleReads(4), Flaw::LostWrites(4)].into_iter().enumerate() {
            let history = Simulation { crashes: 0, flaw, ..simulation(seed) }.run();
            let verdict = RevisionChecker.check(&history);
            found[kind] += u32::from(verdict.is_invalid());
            // Whatever breaks a register breaks the order of its revisions.
            if RegisterChecker::default().check(&history).is_invalid() {
                assert!(verdict.is_invalid(), "seed {seed}, {flaw:?}");
            }
        }
    }
    assert!(found.iter().all(|&found| found > 190), "{found:?} of 200");
}

/// One revision that an answer named is changed; whatever the change, the answer was not given
/// then and the checker must notice.
#[test]
fn a_single_wrong_revision_is_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut changed = 0;
    for seed in 0..300 {
        let base = Simulation { crashes: 0, ..simulation(seed) };
        let mut history = base.run();
        let wrong = |operation: &Operation| {
            operation.outcome == Outcome::Ok
                && operation.function == Function::Read
                && operation.value.is_some()
        };
        let reads: Vec<usize> =
            (0..history.len()).filter(|&place| wrong(&history[place])).collect();
        let read = &mut history[reads[rng.random_range(0..reads.len())]];
        let seen = read.revision.unwrap();
        read.revision = Some(if rng.random_bool(0.5) { seen + 1 } else { seen - 1 });
        let verdict = RevisionChecker.check(&history);
        assert!(verdict.is_invalid(), "seed {seed}: {verdict}");
        changed += 1;
    }
    assert_eq!(changed, 300);
}
