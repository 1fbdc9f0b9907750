//! Plants every known bug and searches for it: in simulated clusters, and on real processes under the
//! lab. Writes what it found as a table. Then the same seeds and commands run without a bug: all must be
//! clean, or what was found says nothing.
//!
//! - `simulation`: bugs around the simulated node. `processes`: bugs in a server built with the feature
//!   `lab`, found by `kv-lab run`.
//! - `table`: what was found, and the document.

mod processes;
mod simulation;
mod table;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use self::table::Table;

/// Plants every known bug, searches for it, and writes the table.
#[derive(Debug, Parser)]
struct Args {
    /// Only this part; the table is printed then, not written.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Only this bug; the table is printed then, not written.
    #[arg(long)]
    bug: Option<String>,
    /// Seeds within which a simulated bug must be found.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Threads of the simulation.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A server built with the feature `lab`.
    #[arg(long, default_value = "target/lab/debug/kvstore")]
    server: PathBuf,
    /// The lab [default: kv-lab beside this program].
    #[arg(long)]
    lab: Option<PathBuf>,
    /// Where the table goes.
    #[arg(long, default_value = "docs/mutants.md")]
    out: PathBuf,
}

/// Where bugs are planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Around the simulated node.
    Simulation,
    /// In real servers.
    Processes,
}

fn main() -> ExitCode {
    match search(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// True if every bug was found and nothing was found without one.
fn search(args: &Args) -> Result<bool, Box<dyn Error>> {
    let mut table = Table::default();
    let wanted = |name: &str| args.bug.as_ref().is_none_or(|bug| bug == name);
    if args.only != Some(Part::Processes) {
        simulation::search(args.seeds, args.threads, wanted, &mut table);
    }
    if args.only != Some(Part::Simulation) {
        let lab = match &args.lab {
            Some(lab) => lab.clone(),
            None => std::env::current_exe()?.with_file_name("kv-lab"),
        };
        processes::search(&args.server, &lab, wanted, &mut table)?;
    }
    print!("{table}");
    if args.only.is_none() && args.bug.is_none() && table.is_good() {
        std::fs::write(&args.out, table.document())?;
        println!("{} is written", args.out.display());
    }
    Ok(table.is_good())
}
