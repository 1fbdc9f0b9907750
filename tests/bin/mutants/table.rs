//! What was found, and the document that says so.

use std::fmt::{self, Write};

/// How a bug was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The seed, or the command with it.
    pub by: String,
    /// Operations of clients until then.
    pub operations: u64,
    /// What found it.
    pub check: String,
}

/// A planted bug.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub bug: String,
    /// Rows of the catalogue.
    pub catalogue: &'static str,
    /// What it is.
    pub about: &'static str,
    /// How it was found; else why not.
    pub found: Result<Finding, String>,
}

/// Everything that was planted, in order, and what was found where nothing was.
#[derive(Debug, Default)]
pub struct Table {
    /// Around the simulated node.
    pub simulation: Vec<Row>,
    /// In real servers.
    pub processes: Vec<Row>,
    /// Seeds and commands that were clean without a bug.
    pub controls: usize,
    /// What was found without a bug.
    pub false_alarms: Vec<String>,
}

impl Table {
    /// Every bug was found, and nothing else.
    pub fn is_good(&self) -> bool {
        let mut rows = self.simulation.iter().chain(&self.processes);
        rows.all(|row| row.found.is_ok()) && self.false_alarms.is_empty() && self.controls > 0
    }

    /// The document.
    pub fn document(&self) -> String {
        let mut text = String::from(INTRODUCTION);
        rows(&mut text, "seed", &self.simulation);
        text.push_str(PROCESSES);
        rows(&mut text, "command", &self.processes);
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "\n## Without a bug\n\nThe {} different seeds and commands above were run without a bug as \
             well: nothing was found.\n",
            self.controls
        );
        text
    }
}

const INTRODUCTION: &str = "# Planted bugs

Written by `make mutants`, which plants each bug, searches for it, and fails if one is not found. B numbers
are rows of the catalogue in [testing.md](testing.md). Operations are those that clients did until the bug
was found, in all seeds or tries; a seed that ends in a panic counts none.

## In the simulation

Planted around the shipped node by `tests/sim/mutant.rs`. Seeds are tried from 0 on, at most 200; a seed is
a whole cluster with 1,000 operations and at least ten faults. `cargo run -p tests --bin sim -- --mutant BUG
--first SEED --seeds 1` repeats a line.

";

const PROCESSES: &str = "
## On real processes

Planted in a server built with the feature `lab` (`make lab-server`) by `KVLAB_MUTANT=BUG` in the
environment, at the seams of `kvstore/src/lab/`: the disk, the messages between nodes, the requests of
clients. The command, with that server as `--binary`, finds the bug; the check is the model that was broken.
Real processes and clocks make each run different: operations are those of one run.

";

fn rows(text: &mut String, by: &str, rows: &[Row]) {
    // Writing to a text cannot fail.
    let _ = writeln!(
        text,
        "| bug | | what | {by} | operations | found by |\n|---|---|---|---|---|---|"
    );
    for Row { bug, catalogue, about, found } in rows {
        let (by, operations, check) = match found {
            Ok(found) => (found.by.as_str(), found.operations.to_string(), found.check.as_str()),
            Err(why) => ("NOT FOUND", String::new(), why.as_str()),
        };
        let _ =
            writeln!(text, "| `{bug}` | {catalogue} | {about} | {by} | {operations} | {check} |");
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row { bug, catalogue, found, .. } in self.simulation.iter().chain(&self.processes) {
            match found {
                Ok(Finding { by, operations, check }) => {
                    writeln!(f, "{bug:<24} {catalogue:<9} {operations:>8}  {check}: {by}")?;
                }
                Err(why) => writeln!(f, "{bug:<24} {catalogue:<9} NOT FOUND  {why}")?,
            }
        }
        writeln!(
            f,
            "{} runs without a bug, {} false alarms",
            self.controls,
            self.false_alarms.len()
        )?;
        self.false_alarms.iter().try_for_each(|alarm| writeln!(f, "  {alarm}"))
    }
}
