//! The matrix: every workload under every nemesis, and a table of what came of it.
//!
//! It is a list of runs, one after the other, each as [`crate::run`] does them. A run leaves a
//! small record; its directory goes unless its verdict is other than valid. A matrix that was ended is
//! taken up again where it was: what has a record is not run again unless asked for.
//!
//! - `case`: what one run does. `plan`: which runs there are. `record`: what is left of one.
//!   `table`: the records as a page.
//!
//! ```text
//! DIR/bank-kill.json   a record        DIR/bank-kill/   the run, if it is not valid
//! DIR/table.md         the table
//! ```

mod case;
mod plan;
mod record;
mod table;

#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::case::Case;
pub use self::plan::{every, pairs};
pub use self::record::{Did, OPERATIONS_MIN, Record, Records, Settings};
pub use self::table::{Cell, Standing, Table, page};
use crate::error::LabError;
use crate::judgement::Word;
use crate::run::{self, Parameters, RunOptions, System};
use crate::workload::Load;

/// Name of the table beside the records.
pub const TABLE: &str = "table.md";

/// What has a record and is run again nevertheless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Again {
    /// Nothing.
    #[default]
    Nothing,
    /// What was not valid, or showed nothing: no effects, or too few operations.
    Doubtful,
    /// Everything.
    All,
}

/// A matrix to run.
#[derive(Clone, Debug)]
pub struct MatrixOptions {
    /// Where records, and the runs that are kept, go.
    pub dir: PathBuf,
    /// The runs, in their order.
    pub cases: Vec<Case>,
    /// The server.
    pub server: PathBuf,
    /// The server for runs that need the feature `lab`.
    pub lab_server: Option<PathBuf>,
    /// Number of nodes.
    pub nodes: usize,
    /// How long clients work in each run.
    pub time_limit: Duration,
    /// From which the seeds of all runs follow.
    pub seed: u64,
    /// How much clients do.
    pub load: Load,
    /// No run begins that would probably end later than this after the beginning.
    pub budget: Option<Duration>,
    /// What is run again.
    pub again: Again,
    /// Where the table goes besides the directory.
    pub table: Option<PathBuf>,
    /// The command that does the same, for the table.
    pub command: String,
}

/// What came of a matrix.
#[derive(Debug)]
pub struct Matrix {
    /// The records of all cases that were asked for, also from earlier times.
    pub records: Vec<(Case, Record)>,
    /// For what there was no time.
    pub left_out: Vec<Case>,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

impl Matrix {
    /// The worst verdict. What covers nothing is unknown, unless time was bounded: then it belongs to
    /// what was left out. So does a matrix without runs.
    #[must_use]
    pub fn verdict(&self, bounded: bool) -> Word {
        let judged = self.records.iter().filter(|(_, record)| !record.is_starved());
        let worst = judged.map(|(_, record)| record.verdict).max();
        let worst = worst.unwrap_or(Word::Unknown);
        if bounded || self.doubtful().is_empty() { worst } else { worst.max(Word::Unknown) }
    }

    /// The cells that are neither valid nor judged otherwise: nothing was shown there.
    #[must_use]
    pub fn doubtful(&self) -> Vec<String> {
        let table = Table::of(self.records.iter().map(|(case, record)| (case, record)));
        let doubtful = table.cells().filter_map(|((workload, nemesis), cell)| {
            let standing = cell.standing();
            let shown = format!("{workload}:{nemesis} ({})", standing.as_str());
            matches!(standing, Standing::NoEffect | Standing::TooFew).then_some(shown)
        });
        doubtful.collect()
    }
}

/// Runs what has no record yet. `interrupts` counts how often the user asked for the end; the first
/// time ends the run at hand, which is then as if it had not begun unless it broke a promise.
///
/// # Errors
///
/// [`LabError::Io`] if the directory cannot be used, [`LabError::Parameters`] if there are records of
/// other settings in it, or a case needs a server that is not there. What a run fails with is in its
/// record.
pub async fn run(
    options: &MatrixOptions,
    interrupts: watch::Receiver<u32>,
) -> Result<Matrix, LabError> {
    let mut records = Records::load(&options.dir)?;
    options.check(&records)?;
    fs::create_dir_all(&options.dir).map_err(LabError::io(&options.dir))?;
    let begin = Instant::now();
    let mut longest = options.time_limit;
    let (mut left_out, mut stopped) = (Vec::new(), false);
    for (number, case) in options.cases.iter().enumerate() {
        let before = records.get(case);
        if before.is_some_and(|record| !options.runs_again(record)) {
            continue;
        }
        stopped |= *interrupts.borrow() > 0;
        let late = options.budget.is_some_and(|budget| begin.elapsed() + longest > budget);
        if stopped || late {
            left_out.push(case.clone());
            continue;
        }
        let attempt = before.map_or(0, |record| record.attempt) + 1;
        let began = Instant::now();
        let Some(record) = options.one(case, attempt, interrupts.clone()).await? else {
            stopped = true;
            left_out.push(case.clone());
            continue;
        };
        longest = longest.max(began.elapsed());
        let said = line(number + 1, options.cases.len(), case, &record, began.elapsed());
        // Hours of work do not end since nobody listens.
        let _ = writeln!(io::stderr(), "{said}");
        records.put(&options.dir, case, record)?;
        options.write_tables(&records, &[])?;
    }
    options.write_tables(&records, &left_out)?;
    let asked = options.cases.iter();
    let asked = asked.filter_map(|case| Some((case.clone(), records.get(case)?.clone())));
    Ok(Matrix { records: asked.collect(), left_out, interrupted: stopped })
}

impl MatrixOptions {
    fn settings(&self) -> Settings {
        Settings {
            matrix_seed: self.seed.to_string(),
            time_limit_ms: u64::try_from(self.time_limit.as_millis()).unwrap_or(u64::MAX),
            nodes: self.nodes,
            clients: self.load.clients,
            keys: self.load.keys,
        }
    }

    fn check(&self, records: &Records) -> Result<(), LabError> {
        let settings = self.settings();
        if let Some((case, other)) = records.iter().find(|(_, other)| other.settings != settings) {
            let Settings { matrix_seed, time_limit_ms, nodes, clients, keys } = &other.settings;
            let why = format!(
                "{} has the run {case} of --seed {matrix_seed} --time {time_limit_ms}ms --nodes \
                 {nodes} --clients {clients} --keys {keys}; name another directory, or the same",
                self.dir.display()
            );
            return Err(LabError::Parameters(why));
        }
        for case in &self.cases {
            if case.needs_lab_server() && self.lab_server.is_none() {
                let why = format!("{case} needs a server built with the feature `lab`");
                return Err(LabError::Parameters(why));
            }
            self.parameters(case, 1).validate()?;
        }
        Ok(())
    }

    fn runs_again(&self, record: &Record) -> bool {
        match self.again {
            Again::Nothing => false,
            Again::Doubtful => !record.is_sound().unwrap_or(false),
            Again::All => true,
        }
    }

    fn parameters(&self, case: &Case, attempt: u32) -> Parameters {
        let lab = self.lab_server.as_ref().filter(|_| case.needs_lab_server());
        let binary = lab.unwrap_or(&self.server).clone();
        Parameters {
            system: System::Own { binary, nodes: self.nodes },
            workload: case.workload,
            nemeses: case.nemeses.clone(),
            time_limit: self.time_limit,
            seed: case.seed(self.seed, attempt),
            load: self.load.clone(),
        }
    }

    /// Does one run; `None` if it was interrupted and broke no promise until then.
    async fn one(
        &self,
        case: &Case,
        attempt: u32,
        mut interrupts: watch::Receiver<u32>,
    ) -> Result<Option<Record>, LabError> {
        let name = match attempt {
            1 => case.file_name(),
            more => format!("{}-{more}", case.file_name()),
        };
        let dir = self.dir.join(name);
        // It has no record, so the matrix was ended in the middle of it.
        remove(&dir)?;
        let parameters = self.parameters(case, attempt);
        let options = RunOptions { parameters, dir: dir.clone(), progress: false };
        let interrupt = async {
            if interrupts.wait_for(|count| *count > 0).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let result = run::run(&options, interrupt).await;
        let parameters = &options.parameters;
        let settings = self.settings();
        let mut record = Record::of(case, &settings, attempt, parameters, &result);
        let interrupted = result.is_ok_and(|result| result.interrupted);
        if interrupted && record.verdict != Word::Invalid {
            remove(&dir)?;
            return Ok(None);
        }
        if let System::Own { binary, .. } = &parameters.system {
            record.server = run::server_version(binary).await;
        }
        if record.verdict == Word::Valid {
            remove(&dir)?;
        } else {
            record.dir = Some(dir);
        }
        Ok(Some(record))
    }

    fn write_tables(&self, records: &Records, left_out: &[Case]) -> Result<(), LabError> {
        let text = page(&self.command, records, left_out);
        for path in [Some(self.dir.join(TABLE)), self.table.clone()].into_iter().flatten() {
            fs::write(&path, &text).map_err(LabError::io(&path))?;
        }
        Ok(())
    }
}

/// Removes a directory that may not be there.
fn remove(dir: &Path) -> Result<(), LabError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LabError::io(dir)(error)),
        _ => Ok(()),
    }
}

/// What is said about a run that has ended.
fn line(number: usize, count: usize, case: &Case, record: &Record, took: Duration) -> String {
    let did: Vec<String> = case
        .nemeses
        .iter()
        .map(|kind| {
            let Did { faults, effects } = record.did(*kind);
            format!("{kind} {effects} effects of {faults} faults")
        })
        .collect();
    let mut text = format!(
        "{number}/{count} {case}: {}, {} ok; {} ({:.0} s)",
        record.verdict.as_str(),
        record.summary.ok,
        if did.is_empty() { "calm".to_owned() } else { did.join(", ") },
        took.as_secs_f64()
    );
    if record.verdict != Word::Valid {
        let why = record.explanation.as_deref().unwrap_or_default();
        let dir = record.dir.as_deref().unwrap_or(Path::new("")).display();
        text.push_str(&format!("\n    {why}\n    kept in {dir}; again: {}", record.replay));
    }
    text
}
