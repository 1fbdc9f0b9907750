//! Measures what is promised about memory, restarts, lost nodes and exactly-once.
//!
//! Each part starts three real processes on loopback of its own, or none; each figure is printed
//! beside its promise.

mod memory;
mod one_shot;
mod rebuild;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tests::measure::{Failed, Place, Promises};

/// The parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Memory with many keys, then kill -9 of one node and of all.
    Memory,
    /// A node that lost everything.
    Rebuild,
    /// Client ids that are used once.
    OneShot,
}

/// Measures limits.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    place: Place,
    /// Only these parts, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["memory", "rebuild", "one-shot"])]
    only: Vec<Part>,
    /// Keys of 128 B in the part `memory`.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// How often one node is killed there, and how often all.
    #[arg(long, default_value_t = 3)]
    kills: u32,
    /// MiB of data in the part `rebuild`.
    #[arg(long, default_value_t = 1024)]
    mebibytes: u64,
    /// Client ids applied to a state machine in the part `one-shot`.
    #[arg(long, default_value_t = 10_000_000)]
    applied_ids: u64,
    /// Client ids sent to a cluster there.
    #[arg(long, default_value_t = 200_000)]
    sent_ids: u64,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(&args)).map_err(|error| error as Box<dyn Error>)
}

async fn measure(args: &Args) -> Result<ExitCode, Failed> {
    let mut promises = Promises::default();
    for part in &args.only {
        match part {
            Part::Memory => {
                memory::measure(&args.place, args.keys, args.kills, &mut promises).await?
            }
            Part::Rebuild => rebuild::measure(&args.place, args.mebibytes, &mut promises).await?,
            Part::OneShot => {
                one_shot::apply(args.applied_ids, &mut promises)?;
                one_shot::send(&args.place, args.sent_ids, &mut promises).await?;
            }
        }
    }
    Ok(promises.verdict())
}
