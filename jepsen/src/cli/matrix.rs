//! `kv-lab matrix`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::run::find_server;
use super::{EXIT_INTERRUPTED, Output, interrupts};
use crate::cluster::ClockLibrary;
use crate::error::LabError;
use crate::judgement::Word;
use crate::matrix::{self, Again, Case, Matrix, MatrixOptions, Records};
use crate::nemesis::NemesisKind;
use crate::run;
use crate::workload::{Load, WorkloadKind};

/// Where a matrix goes that names no directory.
const MATRIX_DIR: &str = "lab/matrix";

/// The arguments of `kv-lab matrix`.
#[derive(Debug, Args)]
pub struct MatrixArgs {
    /// How long clients work in each run.
    #[arg(long = "time", default_value = "20s", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    time_limit: Duration,
    /// Where records, the table and the runs that were not valid go. What has a record there is not
    /// run again.
    #[arg(long, value_name = "DIR", default_value = MATRIX_DIR)]
    dir: PathBuf,
    /// The server binary [default: kvstore beside this program, else on PATH].
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// A server built with the feature `lab`, for the nemeses that need one; without it they are left
    /// out, unless the other server is such a one.
    #[arg(long, value_name = "PATH")]
    lab_binary: Option<PathBuf>,
    /// Run several nemeses at once, such that every pair of workload and nemesis occurs, and every
    /// pair of nemeses that go together.
    #[arg(long)]
    pairs: bool,
    /// Most nemeses at once with --pairs.
    #[arg(long, default_value_t = 5, value_name = "N", requires = "pairs",
        value_parser = clap::value_parser!(u8).range(2..=16))]
    together: u8,
    /// Begin no run that would probably end later than this.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    budget: Option<Duration>,
    /// Only these workloads.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    workload: Vec<WorkloadKind>,
    /// Only these nemeses; `none` is calm.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    nemesis: Vec<NemesisKind>,
    /// Seed of all runs [default: that of the records in the directory, else random].
    #[arg(long)]
    seed: Option<u64>,
    /// Run again what has a record.
    #[arg(long, value_enum, default_value_t, value_name = "WHICH")]
    again: Again,
    /// Another place for the table, besides DIR/table.md.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Number of nodes.
    #[arg(long, default_value_t = 3, value_name = "N")]
    nodes: usize,
    /// Clients that work at the same time.
    #[arg(long, default_value_t = Load::default().clients, value_name = "N")]
    clients: usize,
    /// Keys (or counters, lists in use; two more accounts); the fewer, the more contention.
    #[arg(long, default_value_t = Load::default().keys, value_name = "N")]
    keys: usize,
}

/// Those of `all` that were named, all if none was.
fn chosen<T: Copy + PartialEq>(all: &[T], named: &[T]) -> Vec<T> {
    all.iter().copied().filter(|one| named.is_empty() || named.contains(one)).collect()
}

/// Nemeses that are left out, and why.
type LeftOut = (Vec<NemesisKind>, String);

/// Takes some nemeses away, if there is a reason and any of them are there.
fn take(
    nemeses: &mut Vec<NemesisKind>,
    why: Option<String>,
    which: fn(NemesisKind) -> bool,
) -> Option<LeftOut> {
    let why = why?;
    let taken: Vec<NemesisKind> = nemeses.extract_if(.., |kind| which(*kind)).collect();
    (!taken.is_empty()).then_some((taken, why))
}

fn binary(path: &Path) -> Result<PathBuf, LabError> {
    // The runs are repeated from other directories as well.
    path.canonicalize().map_err(LabError::io(path))
}

impl MatrixArgs {
    /// The options, and the nemeses that are left out, each with the reason.
    async fn options(&self) -> Result<(MatrixOptions, Vec<LeftOut>), LabError> {
        let server = binary(&self.binary.clone().map_or_else(find_server, Ok)?)?;
        let lab_server = match &self.lab_binary {
            Some(path) => Some(binary(path)?),
            None if run::has_lab_faults(&server).await => Some(server.clone()),
            None => None,
        };
        let seed = match self.seed {
            Some(seed) => seed,
            None => seed_of(&self.dir)?.unwrap_or_else(rand::random),
        };
        let workloads = chosen(&WorkloadKind::ALL, &self.workload);
        let mut nemeses = chosen(&NemesisKind::ALL, &self.nemesis);
        let why = lab_server.is_none().then(|| "for want of a --lab-binary".to_owned());
        let server_lacks = take(&mut nemeses, why, NemesisKind::needs_lab_server);
        let why = ClockLibrary::find().err();
        let machine_lacks = take(&mut nemeses, why, NemesisKind::moves_clocks);
        let missing = server_lacks.into_iter().chain(machine_lacks).collect();
        let cases = if self.pairs {
            matrix::pairs(&workloads, &nemeses, usize::from(self.together), seed)
        } else {
            matrix::every(&workloads, &nemeses)
        };
        let options = MatrixOptions {
            dir: self.dir.clone(),
            cases,
            server,
            lab_server,
            nodes: self.nodes,
            time_limit: self.time_limit,
            seed,
            load: Load { clients: self.clients, keys: self.keys, ..Load::default() },
            budget: self.budget,
            again: self.again,
            table: self.table.clone(),
            command: self.command(seed),
        };
        Ok((options, missing))
    }

    /// The command that does the same, with what makes a difference for the runs.
    fn command(&self, seed: u64) -> String {
        let mut text = format!(
            "kv-lab matrix --time {} --nodes {} --clients {} --keys {} --seed {seed}",
            humantime::format_duration(self.time_limit),
            self.nodes,
            self.clients,
            self.keys
        );
        if self.pairs {
            text.push_str(&format!(" --pairs --together {}", self.together));
        }
        for kind in &self.workload {
            text.push_str(&format!(" --workload {kind}"));
        }
        for kind in &self.nemesis {
            text.push_str(&format!(" --nemesis {kind}"));
        }
        text
    }
}

/// The seed of the matrix that is in a directory.
fn seed_of(dir: &Path) -> Result<Option<u64>, LabError> {
    let records = Records::load(dir)?;
    Ok(records.iter().next().and_then(|(_, record)| record.settings.matrix_seed.parse().ok()))
}

/// Runs a matrix.
pub fn matrix(args: &MatrixArgs, output: Output) -> Result<u8, LabError> {
    let done = interrupts::listen(async |count| {
        let (options, missing) = args.options().await?;
        let MatrixOptions { cases, seed, dir, .. } = &options;
        // Hours of work do not end since nobody listens.
        let _ = writeln!(io::stderr(), "{} runs of seed {seed} in {}", cases.len(), dir.display());
        for (kinds, why) in &missing {
            let words: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            let _ = writeln!(io::stderr(), "left out, {why}: {}", words.join(", "));
        }
        let matrix = matrix::run(&options, count).await?;
        Ok((matrix, missing))
    })?;
    let Some((matrix, missing)) = done.transpose()? else { return Ok(EXIT_INTERRUPTED) };
    let verdict = matrix.verdict(args.budget.is_some());
    let text = match output {
        Output::Text => text(&matrix, verdict, &args.dir),
        Output::Json => object(&matrix, verdict, &missing, &args.dir).to_string(),
    };
    // Whoever closed the pipe does not want to know; the exit code still tells.
    let _ = writeln!(io::stdout(), "{text}");
    Ok(match verdict {
        Word::Invalid => verdict.exit(),
        _ if matrix.interrupted => EXIT_INTERRUPTED,
        _ => verdict.exit(),
    })
}

fn text(matrix: &Matrix, verdict: Word, dir: &Path) -> String {
    let table = dir.join(matrix::TABLE);
    let count = matrix.records.len();
    let mut text = format!("{}: {count} runs; table in {}", verdict.as_str(), table.display());
    for (case, record) in matrix.records.iter().filter(|(_, r)| r.verdict != Word::Valid) {
        let word = record.verdict.as_str();
        let kept = record.dir.as_deref().unwrap_or(dir).display();
        text.push_str(&format!("\n{case} {word}, kept in {kept}\n  again: {}", record.replay));
    }
    let doubtful = matrix.doubtful();
    if !doubtful.is_empty() {
        text.push_str(&format!("\nshown nothing: {}", doubtful.join(", ")));
    }
    if !matrix.left_out.is_empty() {
        let words: Vec<String> = matrix.left_out.iter().map(Case::to_string).collect();
        text.push_str(&format!("\nleft out, no time: {}", words.join(", ")));
    }
    text
}

fn object(matrix: &Matrix, verdict: Word, missing: &[LeftOut], dir: &Path) -> serde_json::Value {
    let runs: Vec<_> = matrix.records.iter().map(|(_, record)| record).collect();
    json!({
        "schema": 1,
        "verdict": verdict,
        "dir": dir,
        "runs": runs,
        "shown_nothing": matrix.doubtful(),
        "left_out": matrix.left_out.iter().map(Case::to_string).collect::<Vec<_>>(),
        "nemeses_left_out": missing.iter().flat_map(|(kinds, _)| kinds).collect::<Vec<_>>(),
        "interrupted": matrix.interrupted,
    })
}
