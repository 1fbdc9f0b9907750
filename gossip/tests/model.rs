//! The rules in millions of schedules, and every broken variant of them found.

use std::ops::Range;
use std::time::Instant;

use gossip::model::replica::Replica;
use gossip::model::{Baseline, Event, Mutant, Outcome, Runner, Schedule, Script, Search, World};

/// Schedules of the default run; `SCHEDULES` overrides it.
const SCHEDULES: u64 = 2_000_000;
/// Schedules in which a broken rule has to be found, unless a script is written for it.
const PER_MUTANT: u64 = 20_000;
/// Seeds that a thread takes at once.
const CHUNK: u64 = 5_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a whole number"))
}

/// Plays seeds on all cores.
fn play(mutant: Option<Mutant>, seeds: Range<u64>) -> Outcome {
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
            total.add(part.join().expect("a thread that plays schedules does not panic"));
        }
    });
    total.findings.sort_by_key(|finding| finding.seed);
    total
}

#[test]
fn no_schedule_breaks_a_promise_and_everything_occurs() {
    let first = number("FIRST", 0);
    let count = number("SCHEDULES", SCHEDULES);
    let start = Instant::now();
    let outcome = play(None, first..first + count);
    let seconds = start.elapsed().as_secs_f64();
    for (name, times) in outcome.counters.rows() {
        println!("{name:24} {times:>12}");
    }
    println!("{count} schedules in {seconds:.1} s: {:.0} a second", count as f64 / seconds);
    for finding in &outcome.findings {
        println!("{finding:?}");
    }
    if let Some(finding) = outcome.findings.first() {
        panic!("{} of {count} broken\n{}", outcome.broken, Runner::trace(None, finding.seed));
    }
    if count >= SCHEDULES {
        for (name, times) in outcome.counters.rows() {
            assert!(times > 0, "{name} never occurred");
        }
    }
}

#[test]
fn every_broken_rule_is_found() {
    let scripts = Script::all();
    println!("| rule broken | of {PER_MUTANT} schedules | first seed | as | script |");
    println!("|---|---|---|---|---|");
    for mutant in Mutant::ALL {
        let outcome = play(Some(mutant), 0..PER_MUTANT);
        let script = scripts.iter().find(|script| script.mutant == mutant);
        let (seed, found) = match outcome.findings.first() {
            Some(finding) => (finding.seed.to_string(), format!("{:?}", finding.violation)),
            None => ("-".into(), "-".into()),
        };
        let by_script = if script.is_some() { "yes" } else { "" };
        println!("| `{mutant:?}` | {} | {seed} | {found} | {by_script} |", outcome.broken);
        assert!(
            outcome.broken > 0 || script.is_some(),
            "{mutant:?}: not in {PER_MUTANT} schedules, and no script"
        );
    }
}

#[test]
fn scripts_break_the_broken_rule_only() {
    for script in Script::all() {
        let kept = Runner::play_script(None, script.setting, &script.operations);
        assert_eq!(kept, Ok(()), "{:?}: {}", script.mutant, script.story);
        let found = Runner::play_script(Some(script.mutant), script.setting, &script.operations);
        println!("{:?}: {found:?}", script.mutant);
        assert!(found.is_err(), "{:?}: {}", script.mutant, script.story);
    }
}

#[test]
fn small_settings_are_searched_in_breadth() {
    let states = number("STATES", 150_000) as usize;
    for disks_fail in [false, true] {
        let start = Instant::now();
        let reached = Search::new(None, disks_fail, states).run();
        println!(
            "2 replicas, 1 key, 3 writes, disks {}: {} states, all up to depth {}{}, {:.1} s",
            if disks_fail { "fail" } else { "last" },
            reached.states,
            reached.depth,
            if reached.is_exhausted { " (all there are)" } else { "" },
            start.elapsed().as_secs_f64()
        );
        assert_eq!(reached.finding, None);
        assert!(reached.depth >= 4, "only up to depth {}", reached.depth);
    }
    for mutant in [Mutant::PendingNotStored, Mutant::FlagIgnored, Mutant::DotReused] {
        let reached = Search::new(Some(mutant), true, states).run();
        let (path, violation) = reached.finding.unwrap_or_else(|| panic!("{mutant:?} not found"));
        println!("{mutant:?} after {} states: {violation:?} by {path:?}", reached.states);
    }
}

#[test]
fn deletes_that_are_remembered_for_a_time_come_back() {
    let seeds = 0..PER_MUTANT;
    let mut last = u64::MAX;
    for threshold in [10, 20, 40] {
        let hit =
            seeds.clone().filter(|&seed| Baseline::resurrections(seed, threshold) > 0).count();
        println!("certificates dropped after {threshold} steps: {hit} of {PER_MUTANT} schedules");
        assert!(hit > 0 && (hit as u64) < last, "longer memory does not help: {hit}");
        last = hit as u64;
    }
    let never = seeds.clone().filter(|&seed| Baseline::resurrections(seed, u16::MAX) > 0).count();
    assert_eq!(never, 0, "kept for ever, certificates bring nothing back");
    let ours = play(None, seeds);
    assert_eq!(ours.broken, 0);
    assert!(ours.counters.of(Event::DroppedCertificate) > 0);
}

#[test]
fn records_make_the_same_replica_in_any_order() {
    let mut random = 1u64;
    for seed in 0..2_000 {
        let mut schedule = Schedule::new(seed);
        let mut world = World::new(None, schedule.setting());
        while let Some(operation) = schedule.next_operation() {
            world.step(operation).expect("the rules break no promise");
        }
        let truth = &world.truth;
        let mut order: Vec<u8> = (0..truth.count as u8).collect();
        let mut first: Option<Replica> = None;
        for _ in 0..3 {
            let mut replica = Replica::default();
            for &dot in order.iter().chain(&order[order.len() / 2..]) {
                replica.apply(truth, None, dot);
            }
            let expected = first.get_or_insert(replica);
            assert_eq!(replica.clock, expected.clock, "seed {seed}");
            assert_eq!(replica.stored, expected.stored, "seed {seed}: {order:?}");
            assert_eq!(replica.pending, expected.pending, "seed {seed}: {order:?}");
            for place in (1..order.len()).rev() {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                order.swap(place, (random >> 33) as usize % (place + 1));
            }
        }
    }
}

#[test]
fn a_seed_is_a_whole_schedule() {
    for seed in [0, 1, 2, 77] {
        assert_eq!(Runner::trace(None, seed), Runner::trace(None, seed));
    }
    let mutant = Some(Mutant::PendingNotStored);
    let first = Runner::new(mutant).first(0..PER_MUTANT).expect("it is found often");
    let mut again = Runner::new(mutant);
    assert_eq!(again.play(first.seed), Err(first));
    let trace = Runner::trace(mutant, first.seed);
    assert!(trace.contains(&format!("{:?}", first.violation)), "{trace}");
    assert!(trace.lines().count() > first.step, "{trace}");
}
