//! One run: a cluster, a workload, nemeses, and the judgement of what clients saw.
//!
//! Everything goes into one directory:
//!
//! ```text
//! history.jsonl   what clients did and saw            run.toml   parameters, versions, faults
//! result.json     verdicts, counts, smallest failing part
//! junit.xml       the verdicts for machines that build
//! report.html     all of it as a page
//! cluster/        certificates, configurations, data and logs of the nodes
//! ```
//!
//! A run that cannot be finished (a node does not start, or does not come back) has all of these files
//! as well: what was seen until then is judged, and the verdict is at best unknown.
//!
//! - `parameters`: what a run is, and the command that repeats it. `clocks`: what it leaves out.
//!   `report`: the files. `progress`: what is said meanwhile. `lost`: what nemeses excuse. `keyspace`: where clients of a given cluster
//!   work.

mod clocks;
mod keyspace;
mod lost;
mod parameters;
mod progress;
mod report;

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::clocks::Clocks;
pub use self::clocks::Skipped;
pub use self::keyspace::{KeyspaceState, RunKeyspace};
pub use self::parameters::{Parameters, System, parse_title, title};
pub use self::report::{has_lab_faults, server_version};
use crate::checker::{self, ModelOptions};
use crate::cluster::{ClockLibrary, Cluster, ClusterOptions};
use crate::error::LabError;
use crate::history;
use crate::judgement::{Judgement, Word};
use crate::nemesis::{self, Fault, Faults, Field};
use crate::operation::{Function, Operation, Outcome};
use crate::recorder::Recorder;
use crate::target::Given;
use crate::workload::{RegisterSummary, Work};

/// How long a run waits for what should come soon.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For the nodes to become ready at first.
    boot: Duration,
    /// For the workload to be prepared, and for every key to be answered after the faults.
    recovery: Duration,
    /// For the last faults to end: as long as a member may take to be replaced, and more.
    end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(60),
            recovery: Duration::from_secs(60),
            end: Duration::from_secs(180),
        }
    }
}

/// The model under which a run is listed that could not be finished.
const RUN_MODEL: &str = "run";

/// Where a run goes, and what it is.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// What is run.
    pub parameters: Parameters,
    /// Where everything goes; empty or absent.
    pub dir: PathBuf,
    /// Whether to say on stderr how it goes.
    pub progress: bool,
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
    /// Which nemeses were left out, since they cannot be done here.
    pub skipped: Vec<Skipped>,
    /// What went wrong besides the promises, such as a node that ended by itself. There is a
    /// judgement that says so, too.
    pub failure: Option<LabError>,
    /// Whether it was stopped before its time.
    pub interrupted: bool,
    /// When it began.
    pub begun: SystemTime,
    /// SHA-256 of the server binary, in hex, as it was at the begin; `None` on a given cluster.
    pub server_sha256: Option<String>,
    /// The keyspace in which clients worked on a given cluster.
    pub keyspace: Option<RunKeyspace>,
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

/// What a run has while it goes on.
struct Stage {
    target: Given,
    field: Option<Arc<Field>>,
}

/// What is known of a run while it goes on, whatever becomes of it.
#[derive(Debug)]
struct Course {
    recorder: Recorder,
    faults: Faults,
    clocks: Clocks,
    interrupted: bool,
    begun: SystemTime,
    server_sha256: Option<String>,
    keyspace: Option<RunKeyspace>,
}

/// Does a run. `interrupt` ends it early; what was done until then is judged.
///
/// # Errors
///
/// What keeps the run from beginning, or its files from being written. Later failures are part of
/// the result.
pub async fn run(
    options: &RunOptions,
    interrupt: impl Future<Output = ()>,
) -> Result<RunResult, LabError> {
    run_within(options, Patience::default(), interrupt).await
}

async fn run_within(
    options: &RunOptions,
    patience: Patience,
    interrupt: impl Future<Output = ()>,
) -> Result<RunResult, LabError> {
    let parameters = &options.parameters;
    parameters.validate()?;
    let clocks = Clocks::of(parameters, ClockLibrary::find);
    if options.progress {
        progress::skipped(&clocks.skipped);
    }
    let mut course = Course::begin(clocks);
    let mut interrupt = std::pin::pin!(interrupt);
    let acted = match &parameters.system {
        System::Given(given) => {
            fs::create_dir_all(&options.dir).map_err(LabError::io(&options.dir))?;
            act_on_given(options, patience, given, &mut course, interrupt).await
        }
        System::Own { binary, nodes } => {
            report::check_features(parameters, binary).await?;
            course.server_sha256 = Some(hashed(binary).await?);
            let mut cluster = create(options, &course.clocks, binary, *nodes)?;
            cluster.start_all()?;
            let booted = tokio::select! {
                booted = cluster.wait_all_ready(patience.boot) => booted,
                () = interrupt.as_mut() => Err(course.stopped("the nodes were ready")),
            };
            match booted {
                Err(error) => {
                    drop(cluster);
                    Err(error)
                }
                Ok(()) => {
                    let target = cluster.given();
                    let (recorder, faults) = (course.recorder.clone(), course.faults.clone());
                    let field = Arc::new(Field::new(cluster, recorder, faults)?);
                    let stage = Stage { target, field: Some(Arc::clone(&field)) };
                    let acted = act(options, patience, &stage, &mut course, interrupt).await;
                    // A nemesis that was given up may hold the cluster a moment longer than this.
                    field.kill_all().await;
                    acted
                }
            }
        }
    };
    // All nodes have ended by now.
    conclude(options, course, acted.err()).await
}

/// Makes the cluster of a run, with proxies if anything disturbs its network, and with clocks that
/// can be moved if anything moves them.
fn create(
    options: &RunOptions,
    clocks: &Clocks,
    binary: &Path,
    nodes: usize,
) -> Result<Cluster, LabError> {
    let dir = Some(options.dir.join("cluster"));
    let cluster = ClusterOptions { binary: binary.to_owned(), nodes, dir };
    let mut cluster = if options.parameters.disturbs_network() {
        Cluster::create_proxied(&cluster)?
    } else {
        Cluster::create(&cluster)?
    };
    if let Some(library) = &clocks.library {
        cluster.clocks_by(library)?;
    }
    Ok(cluster)
}

/// The hash of the server binary, before it is started.
async fn hashed(binary: &Path) -> Result<String, LabError> {
    let path = binary.to_owned();
    let hashed = tokio::task::spawn_blocking(move || report::sha256(&path)).await;
    hashed.map_err(LabError::client("hash the server binary"))?
}

/// A time as part of a name: `20261121T180436Z`.
pub(crate) fn compact_time(time: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(time).to_string();
    time.chars().filter(|letter| letter.is_ascii_alphanumeric()).collect()
}

/// Works on a cluster that was there before, in a keyspace that it makes or was told.
async fn act_on_given(
    options: &RunOptions,
    patience: Patience,
    given: &Given,
    course: &mut Course,
    mut interrupt: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), LabError> {
    let mut keyspace = RunKeyspace::plan(given, options.parameters.seed, course.begun);
    // Noted before it is made: whatever happens, it is said that it may be there.
    course.keyspace = Some(keyspace.clone());
    let opened = tokio::select! {
        opened = keyspace.open(given, patience.recovery) => opened,
        () = interrupt.as_mut() => return Err(course.stopped("the keyspace was there")),
    };
    let target = Given { keyspace: Some(keyspace.name.clone()), ..given.clone() };
    if options.progress && opened.is_ok() {
        eprintln!("keyspace {}", keyspace.name);
    }
    course.keyspace = Some(keyspace);
    opened?;
    let stage = Stage { target, field: None };
    act(options, patience, &stage, course, interrupt).await
}

impl Course {
    /// Of a run that begins now.
    fn begin(clocks: Clocks) -> Self {
        Self {
            recorder: Recorder::default(),
            faults: Faults::default(),
            clocks,
            interrupted: false,
            begun: SystemTime::now(),
            server_sha256: None,
            keyspace: None,
        }
    }

    /// Notes that the user asked for the end before the clients could begin.
    fn stopped(&mut self, before: &str) -> LabError {
        self.interrupted = true;
        LabError::Parameters(format!("stopped before {before}"))
    }
}

/// Judges what was seen and writes the files.
async fn conclude(
    options: &RunOptions,
    course: Course,
    failure: Option<LabError>,
) -> Result<RunResult, LabError> {
    let Course { recorder, faults, clocks, interrupted, begun, server_sha256, keyspace } = course;
    let mut history = recorder.take();
    lost::mark(&mut history, &faults.list());
    let summary = RegisterSummary::of(&history);
    let path = options.dir.join("history.jsonl");
    write_file(&path, |out| history::write(out, &history))?;
    let models = options.parameters.models();
    let judged = tokio::task::spawn_blocking(move || {
        let judgements = judge(models, &history);
        (judgements, history)
    });
    let (mut judgements, history) = judged.await.map_err(LabError::client("judge the history"))?;
    if let Some(failure) = &failure {
        judgements.push(Judgement::unknown(RUN_MODEL, &history, &failure.to_string()));
    }
    let faults = faults.list();
    let skipped = clocks.skipped;
    let mut result = RunResult {
        judgements,
        summary,
        faults,
        skipped,
        failure,
        interrupted,
        begun,
        server_sha256,
        keyspace,
    };
    if let System::Given(given) = &options.parameters.system
        && result.worst().verdict == Word::Valid
        && let Some(keyspace) = &mut result.keyspace
    {
        keyspace.remove(given).await;
    }
    report::write(options, &result).await?;
    let dir = options.dir.clone();
    let page = move || crate::report::write_with(&dir, &history);
    let written = tokio::task::spawn_blocking(page).await;
    written.map_err(LabError::client("write the report"))??;
    Ok(result)
}

/// Lets clients work and nemeses strike, and reads the state at the end.
async fn act(
    options: &RunOptions,
    patience: Patience,
    stage: &Stage,
    course: &mut Course,
    mut interrupt: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), LabError> {
    let parameters = &options.parameters;
    let work: Work = parameters.workload.begin(&parameters.seeded_load());
    let nemeses = course.clocks.possible(&parameters.nemeses);
    let (stop, stopped) = watch::channel(false);
    let (recorder, faults) = (course.recorder.clone(), course.faults.clone());
    let mut tasks = tokio::select! {
        tasks = work.start(&stage.target, &recorder, &stopped, patience.recovery) => tasks?,
        () = interrupt.as_mut() => return Err(course.stopped("the workload was prepared")),
    };
    let mut told = JoinSet::new();
    if options.progress {
        told.spawn(progress::tell(stage.target.clone(), recorder.clone(), faults));
    }
    // A nemesis that fails ends the run: what goes on then says nothing more.
    let (failed, nemesis_failed) = tokio::sync::oneshot::channel();
    let striking = async {
        let Some(field) = &stage.field else { return Ok(()) };
        let run = nemesis::run(&nemeses, parameters.seed, Arc::clone(field), stopped.clone());
        let result = run.await;
        if result.is_err() {
            // The clients may have ended before.
            let _ = failed.send(());
        }
        result
    };
    let working = async {
        let worked = work_until(parameters.time_limit, &mut tasks, &stop, interrupt, async {
            if nemesis_failed.await.is_err() {
                std::future::pending::<()>().await
            }
        });
        let worked = worked.await;
        stop.send_replace(true);
        worked
    };
    let (disturbed, worked) =
        tokio::join!(bounded(striking, stopped.clone(), patience.end), working);
    course.interrupted = worked?;
    disturbed?;
    work.finish(&stage.target, &recorder, patience.recovery).await?;
    if let Some(field) = &stage.field {
        field.cluster.lock().await.check_alive()?;
    }
    Ok(())
}

/// Gives the nemeses a bound for their end, once the run stops.
async fn bounded(
    nemeses: impl Future<Output = Result<(), LabError>>,
    mut stopped: watch::Receiver<bool>,
    end_max: Duration,
) -> Result<(), LabError> {
    let late = async {
        // Without a sender the run is over, too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        tokio::time::sleep(end_max).await;
    };
    tokio::select! {
        ended = nemeses => ended,
        () = late => {
            Err(LabError::Parameters(format!("a fault did not end within {end_max:?}")))
        }
    }
}

/// Waits for the end of the workload, of the time, of the patience of the user, or for a failure. True
/// for the patience.
async fn work_until(
    time_limit: Duration,
    tasks: &mut JoinSet<()>,
    stop: &watch::Sender<bool>,
    interrupt: impl Future<Output = ()>,
    failed: impl Future<Output = ()>,
) -> Result<bool, LabError> {
    let all = async {
        let mut panicked = None;
        while let Some(task) = tasks.join_next().await {
            panicked = task.err().or(panicked);
        }
        panicked
    };
    let mut all = std::pin::pin!(all);
    let early = tokio::select! {
        panicked = &mut all => Some((panicked, false)),
        () = tokio::time::sleep(time_limit) => None,
        () = failed => None,
        () = interrupt => {
            stop.send_replace(true);
            Some((all.as_mut().await, true))
        }
    };
    stop.send_replace(true);
    let (panicked, interrupted) = match early {
        Some(ended) => ended,
        None => (all.await, false),
    };
    match panicked {
        None => Ok(interrupted),
        Some(error) => Err(LabError::client("a client process of the workload")(error)),
    }
}

/// The judgements of all models. A history in which nothing was read or written proves nothing.
fn judge(models: &[&'static str], history: &[Operation]) -> Vec<Judgement> {
    let succeeded = |wanted: fn(Function) -> bool| {
        let ok = history.iter().filter(|operation| operation.outcome == Outcome::Ok);
        ok.map(|operation| operation.function).any(wanted)
    };
    let reads = |function| matches!(function, Function::Read | Function::Watch | Function::Txn);
    if !succeeded(Function::writes) || !succeeded(reads) {
        return vec![Judgement::unknown(models[0], history, "no read or no write succeeded")];
    }
    let judge = |model: &&str| match checker::by_model(model, &ModelOptions::default()) {
        Some(checker) => Judgement::of(&*checker, history),
        None => Judgement::unknown(model, history, "this lab has no checker of that model"),
    };
    models.iter().map(judge).collect()
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

/// Exit code of a run that was stopped and broke no promise until then.
const EXIT_INTERRUPTED: u8 = 130;

/// The exit code of a run: 9 if a promise was broken, 10 if nobody knows (also since it could not be
/// finished), 130 if it was stopped, 0 if all promises held.
#[must_use]
pub fn exit(result: &RunResult) -> u8 {
    match (result.worst().verdict, result.interrupted) {
        (Word::Valid, true) => EXIT_INTERRUPTED,
        (word, _) => word.exit(),
    }
}
