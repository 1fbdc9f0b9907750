//! Runs seeds of the simulation.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tests::sim::{self, Counters, Mutant, Outcome, Plan};

/// Seeds between two lines that say how far it is.
const PART_SEEDS: usize = 1_000;

/// Simulates whole clusters, a seed each, and judges what clients saw.
#[derive(Debug, Parser)]
struct Args {
    /// First seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Number of seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Plants this bug.
    #[arg(long, value_parser = parse_mutant)]
    mutant: Option<Mutant>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn parse_mutant(name: &str) -> Result<Mutant, String> {
    let names = || Mutant::ALL.map(|mutant| mutant.to_string()).join(", ");
    Mutant::parse(name).ok_or_else(|| format!("known bugs: {}", names()))
}

fn main() -> ExitCode {
    simulate(&Args::parse())
}

fn simulate(args: &Args) -> ExitCode {
    let begin = Instant::now();
    let mut all = Summary::default();
    let end = args.first + args.seeds;
    for first in (args.first..end).step_by(PART_SEEDS) {
        let seeds = (end - first).min(PART_SEEDS as u64);
        let outcomes = sim::run_many(first, seeds, args.threads, args.mutant);
        outcomes.iter().for_each(|outcome| all.add(outcome));
        all.repeat(&outcomes, args.mutant);
        if all.seeds < args.seeds {
            eprintln!("{} of {} seeds, {}", all.seeds, args.seeds, all.found(begin.elapsed()));
        }
    }
    print!("{}", all.counters);
    println!("{} seeds, {}", all.seeds, all.found(begin.elapsed()));
    println!("{} seeds run twice, {} differ", all.repeated, all.differing);
    if all.bad > 0 || all.differing > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What the seeds so far came to.
#[derive(Default)]
struct Summary {
    seeds: u64,
    /// Seeds with violations.
    bad: u64,
    counters: Counters,
    /// Seeds that were run twice, and those of them that differed.
    repeated: u64,
    differing: u64,
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.counters.merge(&outcome.counters);
        self.bad += u64::from(!outcome.violations.is_empty());
        for violation in outcome.violations.iter().take(3) {
            println!("seed {}: {violation}", outcome.seed);
        }
    }

    /// Runs one per cent of the seeds again: the same must happen, byte for byte.
    fn repeat(&mut self, outcomes: &[Outcome], mutant: Option<Mutant>) {
        for outcome in outcomes.iter().step_by(100) {
            self.repeated += 1;
            if sim::run(Plan { mutant, ..Plan::new(outcome.seed) }) != *outcome {
                println!("seed {}: the second run differs from the first", outcome.seed);
                self.differing += 1;
            }
        }
    }

    fn found(&self, elapsed: Duration) -> String {
        let simulated = self.counters.simulated as f64 / 1e6;
        let elapsed = elapsed.as_secs_f64();
        format!(
            "{} with violations; {simulated:.0} simulated s in {elapsed:.1} s: {:.0} per second",
            self.bad,
            simulated / elapsed
        )
    }
}
