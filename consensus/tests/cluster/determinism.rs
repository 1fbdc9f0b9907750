//! A seed replays byte for byte, although the library draws from the thread's generator and visits
//! members in the order of a hash map.

use crate::random::Schedule;

const STEPS: usize = 5000;

fn trace(seed: u64) -> Vec<String> {
    let mut schedule = Schedule::new(5, 1, seed);
    schedule.cluster.trace = Some(Vec::new());
    for _ in 0..STEPS {
        schedule.step();
    }
    assert!(schedule.cluster.history.leaders() > 3, "the run has elections in it");
    schedule.cluster.trace.unwrap()
}

#[test]
fn equal_seeds_have_equal_effects() {
    for seed in [1, 2, 3] {
        let (first, second) = (trace(seed), trace(seed));
        assert!(first.len() > STEPS / 10);
        for (position, (one, other)) in first.iter().zip(&second).enumerate() {
            assert_eq!(one, other, "seed {seed}, effect {position}");
        }
        assert_eq!(first.len(), second.len());
    }
}

#[test]
fn different_seeds_have_different_effects() {
    assert_ne!(trace(1), trace(2));
}
