//! `kv-lab run` and `kv-lab replay`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;

use super::{EXIT_INTERRUPTED, Output, interrupts, print};
use crate::error::LabError;
use crate::nemesis::NemesisKind;
use crate::run::{self, KeyspaceState, Parameters, RunOptions, System};
use crate::target::Given;
use crate::workload::{Load, ReadLevel, WorkloadKind};

/// Where runs go that name no directory.
pub const RUNS_DIR: &str = "lab";

/// The arguments of `kv-lab run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What clients do, and what disturbs the cluster meanwhile, such as `bank:kill+partition`;
    /// `kv-lab ls` lists both.
    #[arg(value_name = "WORKLOAD[:NEMESIS[+NEMESIS...]]", value_parser = run::parse_title)]
    title: Title,
    /// More of what disturbs the cluster.
    #[arg(long, value_name = "NEMESIS", value_delimiter = ',')]
    nemesis: Vec<NemesisKind>,
    /// The server binary [default: kvstore beside this program, else on PATH].
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Number of nodes.
    #[arg(long, default_value_t = 3, value_name = "N")]
    nodes: usize,
    /// How long clients work.
    #[arg(long = "time", visible_alias = "time-limit", default_value = "60s",
        value_name = "DURATION", value_parser = humantime::parse_duration)]
    time_limit: Duration,
    /// Seed of workload and nemeses [default: random].
    #[arg(long)]
    seed: Option<u64>,
    /// Where everything goes; must be empty or absent [default: lab/TIME-SEED].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Clients that work at the same time.
    #[arg(long, default_value_t = Load::default().clients, value_name = "N")]
    clients: usize,
    /// Keys (or counters, lists in use; two more accounts); the fewer, the more contention.
    #[arg(long, default_value_t = Load::default().keys, value_name = "N")]
    keys: usize,
    /// Level of the reads. What is not linearizable is expected to be found invalid sooner or later.
    #[arg(long, value_enum, default_value_t = ReadLevel::Linearizable, value_name = "LEVEL")]
    consistency: ReadLevel,
    /// Operations after which the run ends before its time.
    #[arg(long, default_value_t = Load::default().operations_max, value_name = "N")]
    operations_max: usize,
    /// Client addresses of a cluster that runs already; nothing disturbs it.
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires_all = ["ca", "cert", "key"],
        conflicts_with_all = ["binary", "nodes"])]
    endpoints: Option<Vec<String>>,
    /// Certificate of that cluster's CA.
    #[arg(long, value_name = "FILE", requires = "endpoints")]
    ca: Option<PathBuf>,
    /// Certificate to show to it.
    #[arg(long, value_name = "FILE", requires = "endpoints")]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "endpoints")]
    key: Option<PathBuf>,
    /// The keyspace of that cluster in which clients work; it must exist, and stays [default: one made
    /// for the run, and removed if the run is valid].
    #[arg(long, value_name = "NAME", requires = "endpoints",
        value_parser = clap::builder::NonEmptyStringValueParser::new())]
    keyspace: Option<String>,
}

/// A workload and what disturbs it.
type Title = (WorkloadKind, Vec<NemesisKind>);

/// The arguments of `kv-lab replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The directory of a run, or the seed of one in the directory of runs.
    #[arg(value_name = "SEED|DIR")]
    of: String,
    /// Where runs are looked for by their seed.
    #[arg(long, value_name = "DIR", default_value = RUNS_DIR)]
    runs: PathBuf,
    /// Where everything goes; must be empty or absent [default: lab/TIME-SEED].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Another server binary than that of the run.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

impl RunArgs {
    fn parameters(&self) -> Result<Parameters, LabError> {
        let system = match (&self.endpoints, &self.ca, &self.cert, &self.key) {
            (Some(endpoints), Some(ca), Some(cert), Some(key)) => System::Given(Given {
                endpoints: endpoints.clone(),
                ca: ca.clone(),
                cert: cert.clone(),
                key: key.clone(),
                keyspace: self.keyspace.clone(),
            }),
            _ => {
                let binary = self.binary.clone().map_or_else(find_server, Ok)?;
                // The run is repeated from other directories as well.
                let binary = binary.canonicalize().map_err(LabError::io(&binary))?;
                System::Own { binary, nodes: self.nodes }
            }
        };
        let (workload, named) = &self.title;
        let mut nemeses = [&named[..], &self.nemesis].concat();
        nemeses.retain(|kind| *kind != NemesisKind::None);
        Ok(Parameters {
            system,
            workload: *workload,
            nemeses,
            time_limit: self.time_limit,
            seed: self.seed.unwrap_or_else(rand::random),
            load: Load {
                clients: self.clients,
                keys: self.keys,
                operations_max: self.operations_max,
                level: self.consistency,
                ..Load::default()
            },
        })
    }
}

/// Does a run.
pub fn run(args: &RunArgs, output: Output) -> Result<u8, LabError> {
    execute(args.parameters()?, args.dir.as_deref(), output)
}

/// Does a run again.
pub fn replay(args: &ReplayArgs, output: Output) -> Result<u8, LabError> {
    let dir = match args.of.parse::<u64>() {
        Ok(seed) if !Path::new(&args.of).is_dir() => find_run(&args.runs, seed)?,
        _ => PathBuf::from(&args.of),
    };
    let mut parameters = Parameters::load(&dir)?;
    if let (System::Own { binary, .. }, Some(other)) = (&mut parameters.system, &args.binary) {
        binary.clone_from(other);
    }
    execute(parameters, args.dir.as_deref(), output)
}

/// The newest run of this seed below a directory.
fn find_run(runs: &Path, seed: u64) -> Result<PathBuf, LabError> {
    let dirs = super::ls::runs(runs)?;
    let found = dirs
        .into_iter()
        .rev()
        .find(|dir| Parameters::load(dir).is_ok_and(|parameters| parameters.seed == seed));
    found
        .ok_or_else(|| LabError::Parameters(format!("no run of seed {seed} in {}", runs.display())))
}

fn execute(parameters: Parameters, dir: Option<&Path>, output: Output) -> Result<u8, LabError> {
    let dir = dir.map_or_else(|| default_dir(parameters.seed), Path::to_owned);
    let options = RunOptions { parameters, dir, progress: true };
    let Parameters { seed, time_limit, .. } = options.parameters;
    eprintln!("{}, seed {seed}, for {time_limit:.1?}", options.parameters.title());
    let done = interrupts::listen(async |mut count| {
        run::run(&options, interrupts::reached(&mut count, 1)).await
    })?;
    let Some(result) = done.transpose()? else { return Ok(EXIT_INTERRUPTED) };
    if let Some(failure) = &result.failure {
        eprintln!("error: {failure}");
    }
    eprintln!(
        "{} ok, {} failed, {} unknown; {} faults; everything is in {}",
        result.summary.ok,
        result.summary.fail,
        result.summary.info,
        result.faults.len(),
        options.dir.display()
    );
    if let Some(keyspace) = result.keyspace.as_ref().filter(|keyspace| keyspace.is_left()) {
        let is = if keyspace.state == KeyspaceState::Made { "is kept" } else { "may be there" };
        eprintln!("keyspace {0} {is}: kv keyspace rm {0}", keyspace.name);
    }
    for judgement in &result.judgements {
        eprintln!("  {} {}", judgement.model, judgement.verdict.as_str());
    }
    print(result.worst(), Some(&options.dir), output);
    Ok(run::exit(&result))
}

/// `lab/20261121T180436Z-SEED`.
fn default_dir(seed: u64) -> PathBuf {
    let time = run::compact_time(SystemTime::now());
    Path::new(RUNS_DIR).join(format!("{time}-{seed}"))
}

/// The server binary beside this program, else one on PATH.
pub fn find_server() -> Result<PathBuf, LabError> {
    let beside =
        std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join("kvstore"))
        .find(|binary| binary.is_file())
        .ok_or_else(|| LabError::Parameters("no kvstore found; name it with --binary".to_owned()))
}
