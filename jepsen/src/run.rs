//! One run: a cluster, a workload, a nemesis, and the judgement of what clients saw.
//!
//! Everything goes into one directory:
//!
//! ```text
//! history.jsonl   what clients did and saw            run.toml   parameters, versions, faults
//! result.json     verdict, counts, smallest failing part
//! cluster/        certificates, configurations, data and logs of the nodes
//! ```

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::checker::{Checker, RegisterChecker, RevisionChecker};
use crate::cluster::{Cluster, ClusterOptions};
use crate::error::LabError;
use crate::history;
use crate::judgement::{Judgement, Word};
use crate::nemesis::{self, Fault, NemesisKind};
use crate::operation::{Function, Operation, Outcome};
use crate::recorder::Recorder;
use crate::workload::{ReadLevel, RegisterSummary, RegisterWorkload};

/// How long the nodes may take to become ready at first.
const BOOT_MAX: Duration = Duration::from_secs(60);

/// How long the cluster may take to answer every key after the faults.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// Parameters of a run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The server binary.
    pub binary: PathBuf,
    /// Number of nodes.
    pub nodes: usize,
    /// How long clients work.
    pub time_limit: Duration,
    /// What disturbs the cluster.
    pub nemesis: NemesisKind,
    /// Seed of workload and nemesis. The same seed asks for the same, but real processes and
    /// clocks make each run different.
    pub seed: u64,
    /// Where everything goes; empty or absent.
    pub dir: PathBuf,
    /// What clients do; its seed is replaced.
    pub workload: RegisterWorkload,
}

/// What came of a run.
#[derive(Debug)]
pub struct RunResult {
    /// The judgements of all models, at least one.
    pub judgements: Vec<Judgement>,
    /// Counts of outcomes.
    pub summary: RegisterSummary,
    /// What was done to the cluster.
    pub faults: Vec<Fault>,
    /// What went wrong besides the promises, such as a node that ended by itself.
    pub failure: Option<LabError>,
    /// Whether it was stopped before its time.
    pub interrupted: bool,
}

impl RunResult {
    /// The worst judgement, the first one of equals.
    ///
    /// # Panics
    ///
    /// If there is none, which breaks the promise of `judgements`.
    #[must_use]
    pub fn worst(&self) -> &Judgement {
        let worst = self.judgements.iter().rev().max_by_key(|judgement| judgement.verdict);
        worst.expect("a run is judged by at least one model")
    }
}

/// Runs the register workload. `interrupt` ends it early; what was done until then is judged.
///
/// # Errors
///
/// What keeps the run from beginning, or its files from being written. Later failures are part of
/// the result.
pub async fn register(
    options: &RunOptions,
    interrupt: impl Future<Output = ()>,
) -> Result<RunResult, LabError> {
    let dir = Some(options.dir.join("cluster"));
    let cluster = ClusterOptions { binary: options.binary.clone(), nodes: options.nodes, dir };
    let mut cluster = Cluster::boot(&cluster, BOOT_MAX).await?;
    let recorder = Recorder::new();
    let workload = RegisterWorkload { seed: options.seed, ..options.workload.clone() };
    let (stop, stopped) = watch::channel(false);
    let mut tasks = workload.start(&cluster, &recorder, &stopped)?;

    let mut faults = Vec::new();
    let (disturbed, interrupted) = tokio::join!(
        nemesis::run(
            options.nemesis,
            options.seed,
            &mut cluster,
            &recorder,
            stopped.clone(),
            &mut faults
        ),
        work(options.time_limit, &mut tasks, &stop, interrupt),
    );
    let interrupted = interrupted?;
    let mut failure = disturbed.err();
    if failure.is_none() {
        failure = workload.read_all(&cluster, &recorder, RECOVERY_MAX).await.err();
    }
    if failure.is_none() {
        failure = cluster.check_alive().err();
    }
    drop(cluster);

    let history = recorder.take();
    let summary = RegisterSummary::of(&history);
    write_file(&options.dir.join("history.jsonl"), |out| history::write(out, &history))?;
    let judgements = judge(&history);
    let result = RunResult { judgements, summary, faults, failure, interrupted };
    write_report(options, &workload, &result)?;
    Ok(result)
}

/// Waits for the end of the workload, of the time or of the patience of the user. True for the
/// latter.
async fn work(
    time_limit: Duration,
    tasks: &mut JoinSet<()>,
    stop: &watch::Sender<bool>,
    interrupt: impl Future<Output = ()>,
) -> Result<bool, LabError> {
    let all = async {
        let mut panicked = None;
        while let Some(task) = tasks.join_next().await {
            panicked = task.err().or(panicked);
        }
        panicked
    };
    let mut all = std::pin::pin!(all);
    let (panicked, interrupted) = tokio::select! {
        panicked = &mut all => (panicked, false),
        () = tokio::time::sleep(time_limit) => {
            stop.send_replace(true);
            (all.await, false)
        }
        () = interrupt => {
            stop.send_replace(true);
            (all.await, true)
        }
    };
    stop.send_replace(true);
    match panicked {
        None => Ok(interrupted),
        Some(error) => Err(LabError::client("a client process of the workload")(error)),
    }
}

/// The judgements of all models. A history in which nothing was read or written proves nothing.
fn judge(history: &[Operation]) -> Vec<Judgement> {
    let succeeded = |writes: bool| {
        history.iter().any(|operation| {
            operation.outcome == Outcome::Ok && (operation.function != Function::Read) == writes
        })
    };
    if !succeeded(true) || !succeeded(false) {
        return vec![Judgement::unknown("register", history, "no read or no write succeeded")];
    }
    let checkers: [&dyn Checker; 2] = [&RegisterChecker::default(), &RevisionChecker];
    checkers.into_iter().map(|checker| Judgement::of(checker, history)).collect()
}

/// `run.toml`.
#[derive(Serialize)]
struct RunFile<'a> {
    schema: u32,
    workload: &'static str,
    seed: u64,
    lab_version: &'static str,
    binary: &'a Path,
    nodes: usize,
    time_limit_ms: u64,
    nemesis: NemesisKind,
    consistency: ReadLevel,
    clients: usize,
    keys: usize,
    operations_max: usize,
    interrupted: bool,
    replay: String,
    fault: &'a [Fault],
}

/// `result.json`.
#[derive(Serialize)]
struct ResultFile<'a> {
    schema: u32,
    /// The worst one.
    #[serde(flatten)]
    judgement: &'a Judgement,
    /// All of them.
    checks: &'a [Judgement],
    #[serde(flatten)]
    summary: RegisterSummary,
    faults: usize,
    error: Option<String>,
    interrupted: bool,
    replay: String,
}

fn write_report(
    options: &RunOptions,
    workload: &RegisterWorkload,
    result: &RunResult,
) -> Result<(), LabError> {
    let run = RunFile {
        schema: 1,
        workload: "register",
        seed: options.seed,
        lab_version: env!("CARGO_PKG_VERSION"),
        binary: &options.binary,
        nodes: options.nodes,
        time_limit_ms: u64::try_from(options.time_limit.as_millis()).unwrap_or(u64::MAX),
        nemesis: options.nemesis,
        consistency: workload.level,
        clients: workload.clients,
        keys: workload.keys,
        operations_max: workload.operations_max,
        interrupted: result.interrupted,
        replay: replay_command(options),
        fault: &result.faults,
    };
    let run = toml::to_string(&run)
        .map_err(|error| LabError::Parameters(format!("run.toml: {error}")))?;
    let path = options.dir.join("run.toml");
    fs::write(&path, run).map_err(LabError::io(&path))?;
    let file = ResultFile {
        schema: 1,
        judgement: result.worst(),
        checks: &result.judgements,
        summary: result.summary,
        faults: result.faults.len(),
        error: result.failure.as_ref().map(LabError::to_string),
        interrupted: result.interrupted,
        replay: replay_command(options),
    };
    write_file(&options.dir.join("result.json"), |out| {
        serde_json::to_writer_pretty(&mut *out, &file)?;
        out.write_all(b"\n")
    })
}

/// The command that runs the same again.
fn replay_command(options: &RunOptions) -> String {
    let RunOptions { binary, nodes, time_limit, nemesis, seed, workload, .. } = options;
    let nemesis = nemesis.as_str();
    format!(
        "kv-lab run register --binary {} --nodes {nodes} --time-limit {}ms --nemesis {nemesis} \
         --consistency {} --clients {} --keys {} --operations-max {} --seed {seed} --dir DIR",
        binary.display(),
        time_limit.as_millis(),
        workload.level.as_str(),
        workload.clients,
        workload.keys,
        workload.operations_max,
    )
}

fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), LabError> {
    let write = || {
        let mut out = BufWriter::new(File::create(path)?);
        fill(&mut out)?;
        out.flush()
    };
    write().map_err(LabError::io(path))
}

/// The exit code of a run: 9 if a promise was broken, 1 if something else failed, 130 if it was
/// stopped, 10 if nobody knows, 0 if all promises held.
#[must_use]
pub fn exit(result: &RunResult) -> u8 {
    match (result.worst().verdict, &result.failure, result.interrupted) {
        (Word::Invalid, _, _) => 9,
        (_, Some(_), _) => 1,
        (_, None, true) => 130,
        (Word::Unknown, None, false) => 10,
        (Word::Valid, None, false) => 0,
    }
}
