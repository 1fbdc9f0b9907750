//! `kv-lab sim`: simulations that need no server.

mod cluster;
mod detect;
mod spread;
mod table;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::json;
use tokio::sync::watch;

use super::{EXIT_INTERRUPTED, Output, interrupts};
use crate::error::LabError;
use crate::report::curves::Chart;
use crate::trials::{Progress, Tell};

/// Time before the first line about how far a simulation is, and between two of them.
const EVERY: Duration = Duration::from_secs(3);
/// Cases of one command.
const CASES_MAX: usize = 100;

/// The simulations.
#[derive(Debug, Subcommand)]
pub enum SimCommand {
    /// Let one update spread to all nodes: who hears it when, and at what cost.
    Spread(Box<spread::SpreadArgs>),
    /// Let one node crash: who finds out when, who is wrongly taken for dead, and at what cost.
    Detect(Box<detect::DetectArgs>),
    /// Let anything happen to replicas of an eventual keyspace: whether what was promised of it holds.
    Cluster(Box<cluster::ClusterArgs>),
}

/// Does a simulation and returns the exit code.
pub fn sim(command: &SimCommand, output: Output) -> Result<u8, LabError> {
    match command {
        SimCommand::Spread(args) => spread::spread(args, output),
        SimCommand::Detect(args) => detect::detect(args, output),
        SimCommand::Cluster(args) => cluster::cluster(args, output),
    }
}

/// A kind of simulation: how a case `P` is simulated, and how it is told what `F` it came to.
struct Report<P, F, E> {
    name: &'static str,
    /// Does the runs of a case; nothing if not even one was done.
    simulate: fn(&P, &mut Tell<'_>) -> Result<Option<F>, E>,
    /// Everything about one case.
    alone: fn(&P, &F) -> String,
    /// A row for each case.
    together: fn(&[(P, F)]) -> String,
    /// A chart of all cases, above these figures.
    drawn: fn(&[(P, F)], &str) -> Chart,
    /// A case for programs.
    object: fn(&(P, F)) -> serde_json::Value,
}

impl<P, F, E> Report<P, F, E>
where
    P: Send + 'static,
    F: Send + 'static,
    E: std::error::Error + 'static,
{
    /// Does the simulation, prints what it came to, writes the chart if there should be one, and returns the
    /// exit code.
    fn print(&self, plans: Vec<P>, chart: Option<&Path>, output: Output) -> Result<u8, LabError> {
        if plans.len() > CASES_MAX {
            let why = format!("{} cases are too many: {CASES_MAX} are taken", plans.len());
            return Err(LabError::Parameters(why));
        }
        let (results, complete) = self.each_case(plans)?;
        let text = match &results[..] {
            [] => String::new(),
            [(plan, found)] => (self.alone)(plan, found),
            many => (self.together)(many),
        };
        let cases: Vec<_> = results.iter().map(self.object).collect();
        let name = self.name;
        let object = json!({"schema": 1, "simulation": name, "complete": complete, "cases": cases});
        let printed = match output {
            Output::Text => text.clone(),
            Output::Json => object.to_string() + "\n",
        };
        // Whoever closed the pipe does not want to know.
        let _ = io::stdout().write_all(printed.as_bytes());
        if let Some(path) = chart.filter(|_| !results.is_empty()) {
            let chart = (self.drawn)(&results, &text);
            let svg = path.extension().is_some_and(|extension| extension == "svg");
            let content = if svg { chart.svg() } else { chart.page() };
            std::fs::write(path, content).map_err(LabError::io(path))?;
            eprintln!("the chart is in {}", path.display());
        }
        Ok(if complete { 0 } else { EXIT_INTERRUPTED })
    }

    /// Simulates one case after the other, says on stderr how far it is, and ends early when the user asks for
    /// it. The results are of the cases with at least one run; the flag says whether all runs of all of them
    /// were done.
    fn each_case(&self, cases: Vec<P>) -> Result<(Vec<(P, F)>, bool), LabError> {
        let simulate = self.simulate;
        let done = at_length(move |teller| -> Result<(Vec<(P, F)>, bool), LabError> {
            let (total, mut results) = (cases.len(), Vec::new());
            for (place, case) in cases.into_iter().enumerate() {
                let mut tell = |progress: Progress| teller.tell(|| line(place, total, progress));
                let found = simulate(&case, &mut tell).map_err(LabError::plan)?;
                results.extend(found.map(|found| (case, found)));
                if teller.is_over() {
                    return Ok((results, false));
                }
            }
            Ok((results, true))
        })?;
        done.unwrap_or_else(|| Ok((Vec::new(), false)))
    }
}

/// Says on stderr how far a simulation is, and knows whether the user wants its end.
struct Teller {
    last: Instant,
    interrupts: watch::Receiver<u32>,
}

impl Teller {
    /// Says it if nothing was said for a while. Breaks if the user wants the end.
    fn tell(&mut self, line: impl FnOnce() -> String) -> ControlFlow<()> {
        if self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            eprintln!("{}", line());
        }
        if self.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn is_over(&self) -> bool {
        *self.interrupts.borrow() > 0
    }
}

/// Simulates in a thread of its own. `None` if the user asked twice for the end: what was found is given up.
fn at_length<T: Send + 'static>(
    simulate: impl FnOnce(&mut Teller) -> T + Send + 'static,
) -> Result<Option<T>, LabError> {
    let done = interrupts::listen(async |interrupts| {
        let work = move || simulate(&mut Teller { last: Instant::now(), interrupts });
        tokio::task::spawn_blocking(work).await
    })?;
    match done {
        Some(Ok(found)) => Ok(Some(found)),
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        None => Ok(None),
    }
}

fn line(place: usize, total: usize, progress: Progress) -> String {
    let case = if total > 1 { format!("case {} of {total}, ", place + 1) } else { String::new() };
    let Progress { done, runs, within } = progress;
    format!("{case}run {} of {runs}, at {within}", done + 1)
}

/// Refuses what none of the `chosen` heeds. Of each option: its name, whether it was given, who heeds it.
fn refuse_unused<N: PartialEq>(
    options: &[(&str, bool, &[N])],
    chosen: &[N],
    what: &str,
) -> Result<(), LabError> {
    for (option, given, users) in options {
        if *given && !chosen.iter().any(|name| users.contains(name)) {
            let why = format!("{option} says nothing about the {what} that were chosen");
            return Err(LabError::Parameters(why));
        }
    }
    Ok(())
}

/// The share of messages that are lost, in words.
fn loss(share: f64) -> String {
    if share == 0.0 { "no loss".to_owned() } else { format!("loss {share}") }
}

/// A file that a chart can be written to.
fn parse_chart(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg" | "html") => Ok(path),
        _ => Err("takes a file whose name ends with .html or .svg".to_owned()),
    }
}
