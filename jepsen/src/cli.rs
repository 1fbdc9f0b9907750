//! The command line of `kv-lab`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use tokio::sync::watch;

use crate::checker::{self, MODELS};
use crate::error::LabError;
use crate::history;
use crate::judgement::Judgement;
use crate::nemesis::NemesisKind;
use crate::run::{self, RunOptions};
use crate::workload::{ReadLevel, RegisterWorkload};

/// Something else than a promise failed.
const EXIT_FAILED: u8 = 1;
/// The command line or an input file is wrong.
const EXIT_USAGE: u8 = 2;
/// An input file does not exist.
const EXIT_NOT_FOUND: u8 = 3;
/// Stopped by Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;

/// Runs workloads and faults against a cluster and checks what clients saw.
#[derive(Debug, Parser)]
#[command(name = "kv-lab", version, about, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 valid, 9 invalid, 10 unknown; 1 the run failed, 2 usage, \
    3 no such file, 130 interrupted.")]
struct Cli {
    /// How to print the result.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One object.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge a recorded history.
    Check {
        /// A file of JSON lines, a directory of a run, or - for stdin.
        history: PathBuf,
        /// What was promised.
        #[arg(long, default_value = MODELS[0], value_parser = MODELS)]
        model: String,
    },
    /// Run a workload against real processes and judge what its clients saw.
    #[command(subcommand)]
    Run(Workload),
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// Reads, writes, cas and deletes on few keys, checked for linearizability.
    Register(RegisterArgs),
}

#[derive(Debug, Args)]
struct RegisterArgs {
    /// The server binary [default: kvstore beside this program, else on PATH].
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Number of nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How long clients work.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    time_limit: Duration,
    /// What disturbs the cluster.
    #[arg(long, value_enum, default_value_t = NemesisKind::None)]
    nemesis: NemesisKind,
    /// Seed of workload and nemesis [default: random].
    #[arg(long)]
    seed: Option<u64>,
    /// Where everything goes; must be empty or absent.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Clients that work at the same time.
    #[arg(long, default_value_t = RegisterWorkload::default().clients)]
    clients: usize,
    /// Keys; the fewer, the more contention.
    #[arg(long, default_value_t = RegisterWorkload::default().keys)]
    keys: usize,
    /// Level of the reads. What is not linearizable is expected to be found invalid sooner or later.
    #[arg(long, value_enum, default_value_t = ReadLevel::Linearizable)]
    consistency: ReadLevel,
    /// Operations after which the run ends before its time.
    #[arg(long, default_value_t = RegisterWorkload::default().operations_max)]
    operations_max: usize,
}

/// Runs the command line and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed output is no reason for another exit code.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    let done = match &cli.command {
        Command::Check { history, model } => check(history, model, cli.output),
        Command::Run(Workload::Register(args)) => run_register(args, cli.output),
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        exit(&error)
    }))
}

fn exit(error: &LabError) -> u8 {
    match error {
        LabError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => EXIT_NOT_FOUND,
        LabError::Io { .. } | LabError::Node { .. } | LabError::Client { .. } => EXIT_FAILED,
        LabError::History { .. } | LabError::Parameters(_) => EXIT_USAGE,
    }
}

fn check(path: &Path, model: &str, output: Output) -> Result<u8, LabError> {
    let file = if path.is_dir() { path.join("history.jsonl") } else { path.to_owned() };
    let input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&file).map_err(LabError::io(&file))?))
    };
    let history = history::read(input)?;
    let checker = checker::by_model(model).expect("the parser knows the models");
    let judgement = Judgement::of(&*checker, &history);
    print(&judgement, None, output);
    Ok(judgement.verdict.exit())
}

fn run_register(args: &RegisterArgs, output: Output) -> Result<u8, LabError> {
    let binary = args.binary.clone().map_or_else(find_server, Ok)?;
    let options = RunOptions {
        binary,
        nodes: args.nodes,
        time_limit: args.time_limit,
        nemesis: args.nemesis,
        seed: args.seed.unwrap_or_else(rand::random),
        dir: args.dir.clone(),
        workload: RegisterWorkload {
            clients: args.clients,
            keys: args.keys,
            operations_max: args.operations_max,
            level: args.consistency,
            ..RegisterWorkload::default()
        },
    };
    eprintln!("seed {}, {} nodes for {:.1?}", options.seed, options.nodes, options.time_limit);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(LabError::io(Path::new("the runtime")))?;
    let done = runtime.block_on(async {
        let (sender, mut first) = watch::channel(0);
        let mut second = sender.subscribe();
        tokio::spawn(count_interrupts(sender));
        tokio::select! {
            result = run::register(&options, interrupted(&mut first, 1)) => Some(result),
            // Giving up the run kills the nodes.
            () = interrupted(&mut second, 2) => None,
        }
    });
    let Some(result) = done.transpose()? else { return Ok(EXIT_INTERRUPTED) };
    if let Some(failure) = &result.failure {
        eprintln!("error: {failure}");
    }
    let dir = options.dir.display();
    eprintln!(
        "{} ok, {} failed, {} unknown; {} faults; everything is in {dir}",
        result.summary.ok,
        result.summary.fail,
        result.summary.info,
        result.faults.len()
    );
    print(result.worst(), Some(&options.dir), output);
    Ok(run::exit(&result))
}

/// Counts Ctrl-C: the first one stops the run cleanly, the second one at once.
async fn count_interrupts(count: watch::Sender<u32>) {
    // Without a handler, Ctrl-C ends the program at once, which is good enough.
    while tokio::signal::ctrl_c().await.is_ok() {
        count.send_modify(|count| *count += 1);
    }
}

/// Waits for this many interrupts.
async fn interrupted(count: &mut watch::Receiver<u32>, enough: u32) {
    if count.wait_for(|&count| count >= enough).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The server binary beside this program, else one on PATH.
fn find_server() -> Result<PathBuf, LabError> {
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

/// What `-o json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    schema: u32,
    #[serde(flatten)]
    judgement: &'a Judgement,
    #[serde(skip_serializing_if = "Option::is_none")]
    dir: Option<&'a Path>,
}

fn print(judgement: &Judgement, dir: Option<&Path>, output: Output) {
    let text = match output {
        Output::Text => judgement.to_string(),
        Output::Json => serde_json::to_string(&Printed { schema: 1, judgement, dir })
            .expect("text, numbers and lists can be written as JSON"),
    };
    // Whoever closed the pipe does not want to know; the exit code still tells.
    let _ = writeln!(io::stdout(), "{text}");
}
