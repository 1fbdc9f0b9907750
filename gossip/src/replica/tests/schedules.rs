//! Random schedules.

use std::ops::Range;

use super::cluster::{Cluster, Seen};
use super::*;

/// Runs schedules and answers what they and those before, `seen`, have seen.
fn run(mut seen: Seen, seeds: Range<u64>, members: usize, keys: &[EntryKey], steps: usize) -> Seen {
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut cluster = Cluster::new(seed, members, keys, seen);
            for _ in 0..steps {
                cluster.step();
            }
            cluster.heal();
            cluster.seen
        });
        seen = outcome.unwrap_or_else(|cause| {
            eprintln!("seed {seed}: {members} members, {} keys, {steps} steps", keys.len());
            std::panic::resume_unwind(cause);
        });
    }
    seen
}

/// After every step each replica is what its changes rebuild, nothing that was removed is back, and
/// equal clocks have equal values; after healing by sessions alone all have the same.
#[test]
fn schedules_of_a_plain_keyspace() {
    let seen = run(Seen::default(), 0..600, 3, &[plain("k")], 60);
    let seen = run(seen, 10_000..10_400, 4, &[plain("k"), plain("l")], 60);
    assert!(seen.flagged > 100 && seen.aborted > 100 && seen.staged > 100, "{seen:?}");
    assert!(seen.obsolete > 100 && seen.pending > 100 && seen.equal_clocks > 100, "{seen:?}");
    assert!(seen.void > 10 && seen.lost > 10 && seen.restarted > 10, "{seen:?}");
    assert!(seen.closed > 1_000, "{seen:?}");
    assert_eq!(seen.collapses, 0);
}

#[test]
fn schedules_of_an_lww_keyspace() {
    let seen = run(Seen::default(), 20_000..20_400, 3, &[lww("k"), plain("l")], 60);
    let seen = run(seen, 30_000..30_600, 2, &[lww("k")], 60);
    assert!(seen.collapses > 100 && seen.flagged > 100 && seen.stable > 100, "{seen:?}");
}

/// As the others, for `SEEDS` seeds from `FIRST` on, with clusters of all sizes and kinds.
#[test]
#[ignore = "minutes; make sim-gossip"]
fn schedules_at_length() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    let (first, seeds) = (number("FIRST").unwrap_or(1 << 20), number("SEEDS").unwrap_or(100_000));
    let mut seen = Seen::default();
    for seed in first..first + seeds {
        let keys = match seed % 4 {
            0 => vec![plain("k")],
            1 => vec![plain("k"), plain("l")],
            2 => vec![lww("k")],
            _ => vec![lww("k"), plain("l"), plain("m")],
        };
        let members = 2 + (seed / 4 % 4) as usize;
        let steps = [40, 80, 120][(seed / 16 % 3) as usize];
        seen = run(seen, seed..seed + 1, members, &keys, steps);
    }
    eprintln!("{seeds} schedules: {seen:?}");
}
