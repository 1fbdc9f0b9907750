//! `kv-lab sim`: simulations that need no server.

mod detect;
mod spread;
mod table;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Subcommand;

use super::{EXIT_INTERRUPTED, Output, interrupts};
use crate::error::LabError;
use crate::report::curves::Chart;
use crate::trials::{Progress, Tell};

/// Time before the first line about how far a simulation is, and between two of them.
const EVERY: Duration = Duration::from_secs(3);

/// The simulations.
#[derive(Debug, Subcommand)]
pub enum SimCommand {
    /// Let one update spread to all nodes: who hears it when, and at what cost.
    Spread(Box<spread::SpreadArgs>),
    /// Let one node crash: who finds out when, who is wrongly taken for dead, and at what cost.
    Detect(Box<detect::DetectArgs>),
}

/// Does a simulation and returns the exit code.
pub fn sim(command: &SimCommand, output: Output) -> Result<u8, LabError> {
    match command {
        SimCommand::Spread(args) => spread::spread(args, output),
        SimCommand::Detect(args) => detect::detect(args, output),
    }
}

/// What is printed: the same figures for people and for programs.
struct Printed {
    text: String,
    object: serde_json::Value,
}

/// Simulates one case after the other, says on stderr how far it is, and ends early when the user asks for it. The
/// results are of the cases with at least one run; the flag says whether all runs of all of them were done.
fn each_case<C, F>(
    cases: Vec<C>,
    simulate: impl Fn(&C, &mut Tell<'_>) -> Result<Option<F>, LabError> + Send + 'static,
) -> Result<(Vec<(C, F)>, bool), LabError>
where
    C: Send + 'static,
    F: Send + 'static,
{
    let done = interrupts::listen(async |count| {
        let work = move || {
            let total = cases.len();
            let (mut results, mut last) = (Vec::new(), Instant::now());
            for (place, case) in cases.into_iter().enumerate() {
                let mut tell = |progress: Progress| {
                    if last.elapsed() >= EVERY {
                        last = Instant::now();
                        eprintln!("{}", line(place, total, progress));
                    }
                    if *count.borrow() > 0 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                };
                let found = simulate(&case, &mut tell)?;
                results.extend(found.map(|found| (case, found)));
                if *count.borrow() > 0 {
                    return Ok((results, false));
                }
            }
            Ok((results, true))
        };
        tokio::task::spawn_blocking(work).await
    })?;
    match done {
        Some(Ok(results)) => results,
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        // Asked twice: what was found is given up.
        None => Ok((Vec::new(), false)),
    }
}

fn line(place: usize, total: usize, progress: Progress) -> String {
    let case = if total > 1 { format!("case {} of {total}, ", place + 1) } else { String::new() };
    let Progress { done, runs, within } = progress;
    format!("{case}run {} of {runs}, at {within}", done + 1)
}

/// Prints the result, writes the chart if there should be one, and returns the exit code.
fn finish(
    printed: &Printed,
    chart: Option<(&Path, Chart)>,
    complete: bool,
    output: Output,
) -> Result<u8, LabError> {
    let text = match output {
        Output::Text => printed.text.clone(),
        Output::Json => printed.object.to_string() + "\n",
    };
    // Whoever closed the pipe does not want to know.
    let _ = io::stdout().write_all(text.as_bytes());
    if let Some((path, chart)) = chart {
        let svg = path.extension().is_some_and(|extension| extension == "svg");
        let content = if svg { chart.svg() } else { chart.page() };
        std::fs::write(path, content).map_err(LabError::io(path))?;
        eprintln!("the chart is in {}", path.display());
    }
    Ok(if complete { 0 } else { EXIT_INTERRUPTED })
}

/// A file that a chart can be written to.
fn parse_chart(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg" | "html") => Ok(path),
        _ => Err("takes a file whose name ends with .html or .svg".to_owned()),
    }
}
