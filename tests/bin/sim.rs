//! Runs seeds of the simulation.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use tests::sim::{self, Counters, Mutant, Outcome, Plan};

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
    let outcomes = sim::run_many(args.first, args.seeds, args.threads, args.mutant);
    let elapsed = begin.elapsed();
    let mut total = Counters::default();
    let mut bad = 0;
    for outcome in &outcomes {
        total.merge(&outcome.counters);
        bad += u64::from(!outcome.violations.is_empty());
        report(outcome);
    }
    print!("{total}");
    let virtual_s = total.simulated as f64 / 1e6;
    println!(
        "{} seeds, {bad} with violations; {virtual_s:.0} simulated s in {:.1} s: {:.0} per second",
        outcomes.len(),
        elapsed.as_secs_f64(),
        virtual_s / elapsed.as_secs_f64()
    );
    let differing = repeat(&outcomes, args.mutant);
    if bad > 0 || differing > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn report(outcome: &Outcome) {
    for violation in outcome.violations.iter().take(3) {
        println!("seed {}: {violation}", outcome.seed);
    }
}

/// Runs one per cent of the seeds again: the same must happen, byte for byte.
fn repeat(outcomes: &[Outcome], mutant: Option<Mutant>) -> u64 {
    let mut differing = 0;
    let again = outcomes.iter().step_by(100);
    let count = again.len();
    for outcome in again {
        let second = sim::run(Plan { mutant, ..Plan::new(outcome.seed) });
        if second != *outcome {
            println!("seed {}: the second run differs from the first", outcome.seed);
            differing += 1;
        }
    }
    println!("{count} seeds run twice, {differing} differ");
    differing
}
