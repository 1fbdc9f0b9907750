//! The core against the model, step by step.

use std::ops::Range;
use std::time::Instant;

use gossip::follow::{Difference, Followed, Follower, Outcome, Runner};
use gossip::model::{self, Mutant, Script};

/// Schedules of the default run; `FOLLOWED` overrides it.
const FOLLOWED: u64 = 30_000;
/// Schedules in which a broken rule has to show a difference.
const PER_MUTANT: u64 = 600;
/// Seeds that a thread takes at once.
const CHUNK: u64 = 250;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a whole number"))
}

/// Follows seeds on all cores.
fn follow(mutant: Option<Mutant>, seeds: Range<u64>) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let mut total = Outcome::default();
    let seeds = &seeds;
    std::thread::scope(|scope| {
        let part = |thread: u64| {
            let mut runner = Runner::new(mutant);
            let mut mine = Outcome::default();
            let mut first = seeds.start + thread * CHUNK;
            while first < seeds.end {
                mine.add(runner.play_all(first..(first + CHUNK).min(seeds.end)));
                first += threads * CHUNK;
            }
            mine
        };
        let parts: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        for part in parts {
            total.add(part.join().expect("a thread that follows schedules does not panic"));
        }
    });
    total
}

#[test]
fn the_core_does_what_the_model_does() {
    let first = number("FIRST", 0);
    let count = number("FOLLOWED", FOLLOWED);
    let start = Instant::now();
    let outcome = follow(None, first..first + count);
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{count} schedules, {} batches compared, in {seconds:.1} s: {:.0} a second; {} the same, {} stricter, {} not to the end",
        outcome.compared,
        count as f64 / seconds,
        outcome.same,
        outcome.stricter,
        outcome.lost
    );
    for (seed, step, difference) in &outcome.differences {
        println!("seed {seed} step {step}: {difference}");
    }
    if let Some((seed, _, difference)) = outcome.differences.first() {
        let trace = model::Runner::trace_without(None, *seed, &Follower::NOT_FOLLOWED);
        panic!("{} of {count} differ; {difference}\n{trace}", outcome.differing);
    }
    assert_eq!(outcome.broken, 0, "the model broke a promise");
    assert!(
        outcome.stricter * 1_000 <= count + 5_000,
        "the core raises horizons {} times",
        outcome.stricter
    );
    assert_eq!(outcome.lost, 0, "everything is followed");
}

/// Broken rules that the core has right: to follow them has to show a difference, or a horizon that the core raised
/// and the model did not, which is next to never so without a broken rule.
const BROKEN: [Mutant; 27] = [
    Mutant::DamagedLeafServed,
    Mutant::KeptForgotten,
    Mutant::ContextIntoClock,
    Mutant::PendingNotStored,
    Mutant::TokenOfSiblings,
    Mutant::TokenWithoutExceptions,
    Mutant::ClockAsToken,
    Mutant::HorizonNotRaised,
    Mutant::FlagIgnored,
    Mutant::PendingLostWithCertificate,
    Mutant::HorizonNotInherited,
    Mutant::LiveRead,
    Mutant::DotReused,
    Mutant::DropsBeforeClose,
    Mutant::NoClockRule,
    Mutant::SenderClockAsContext,
    Mutant::RefusedButClosed,
    Mutant::IncarnationFromDisk,
    Mutant::RollbackByHandshake,
    Mutant::LwwWithoutCollapse,
    Mutant::CollapseRankedAnew,
    Mutant::ExpiryOfAll,
    Mutant::ExpiryOfOne,
    Mutant::WalkOfDiffering,
    Mutant::VanishedSkipped,
    Mutant::VanishedBySiblings,
    Mutant::DropDuringSession,
];

#[test]
fn the_core_does_not_do_what_a_broken_model_does() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut silent = Vec::new();
    for mutant in BROKEN {
        let outcome = follow(Some(mutant), 0..PER_MUTANT);
        let shown = outcome.differing + outcome.stricter;
        let first = outcome.differences.first();
        let text = |(seed, step, difference): &(u64, usize, Difference)| {
            format!("{seed} step {step}: {difference}")
        };
        let first: String = first.map(text).unwrap_or_default().chars().take(90).collect();
        println!("| `{mutant:?}` | {shown} | {first} |");
        if shown == 0 {
            silent.push(mutant);
        }
    }
    std::panic::set_hook(hook);
    assert_eq!(silent, [], "not shown by {PER_MUTANT} schedules");
}

/// What was written by hand for the model, as far as it changes replicas.
#[test]
fn scripts_are_followed() {
    let mut shown = Vec::new();
    for script in Script::all() {
        let kept = Runner::new(None).play_script(script.setting, &script.operations);
        let is_same = matches!(kept, Followed::Same | Followed::Lost(_));
        assert!(is_same, "{:?}: {kept:?}", script.mutant);
        let mut broken = Runner::new(Some(script.mutant));
        let found = broken.play_script(script.setting, &script.operations);
        println!("{:?}: {found:?}", script.mutant);
        if matches!(found, Followed::Differs(..) | Followed::Stricter(_)) {
            shown.push(script.mutant);
        }
    }
    assert!(shown.contains(&Mutant::WalkOfDiffering), "{shown:?}");
    assert!(shown.contains(&Mutant::WalkDropWithoutHorizon), "{shown:?}");
}
