//! The command line of `kv-lab`.

mod interrupts;
mod ls;
mod matrix;
mod run;
mod sim;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::checker::options::MEMORY_BYTES_DEFAULT;
use crate::checker::{self, Checker, Limits, MODELS, ModelOptions, Nil};
use crate::error::LabError;
use crate::history::{self, Format, ReadOptions};
use crate::judgement::Judgement;
use crate::report;
use crate::value::Value;

/// Something else than a promise failed.
const EXIT_FAILED: u8 = 1;
/// The command line or an input file is wrong.
const EXIT_USAGE: u8 = 2;
/// An input file does not exist.
const EXIT_NOT_FOUND: u8 = 3;
/// Bytes of a history that are read at one time.
const READ_BYTES: usize = 256 * 1024;
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
        /// A history as JSON lines, as EDN or as a log, a directory of a run, or - for stdin.
        history: PathBuf,
        #[command(flatten)]
        options: CheckArgs,
    },
    /// Run a workload and faults against real processes and judge what its clients saw.
    Run(Box<run::RunArgs>),
    /// Repeat a run with its parameters.
    Replay(run::ReplayArgs),
    /// Run every workload under every nemesis, one run after the other, and write a table.
    Matrix(Box<matrix::MatrixArgs>),
    /// Write the report of a run that has ended, report.html in its directory, anew.
    Report {
        /// The directory of the run.
        dir: PathBuf,
    },
    /// Simulate protocols at any size, without a server.
    #[command(subcommand)]
    Sim(sim::SimCommand),
    /// List workloads, nemeses, models and past runs.
    Ls(ls::LsArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// What was promised.
    #[arg(long, default_value = MODELS[0], value_parser = MODELS)]
    model: String,
    /// Every value is [key value], as in Jepsen's independent histories.
    #[arg(long)]
    keyed: bool,
    /// What every key holds at the beginning [default: nothing].
    #[arg(long, value_name = "VALUE")]
    initial: Option<String>,
    /// What a successful read of nothing says.
    #[arg(long, value_enum, default_value_t = Nil::Absent)]
    nil: Nil,
    /// The format of the history [default: told from its content].
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Time after which the verdict is unknown.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration,
        default_value = "2m")]
    time_limit: Duration,
    /// Memory for searches, in MiB, after which the verdict is unknown.
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_BYTES_DEFAULT >> 20,
        value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    memory_limit: u64,
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
        Command::Check { history, options } => check(history, options, cli.output),
        Command::Run(args) => run::run(args, cli.output),
        Command::Replay(args) => run::replay(args, cli.output),
        Command::Matrix(args) => matrix::matrix(args, cli.output),
        Command::Report { dir } => report(dir, cli.output),
        Command::Sim(command) => sim::sim(command, cli.output),
        Command::Ls(args) => ls::ls(args, cli.output),
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

fn check(path: &Path, args: &CheckArgs, output: Output) -> Result<u8, LabError> {
    let options = ModelOptions {
        initial: args.initial.as_deref().map(Value::from),
        nil: args.nil,
        limits: Limits { time: args.time_limit, memory_bytes: args.memory_limit << 20 },
    };
    let checker = checker::by_model(&args.model, &options).expect("the parser knows the models");
    let reading = ReadOptions { keyed: args.keyed, format: args.format };
    let judgement = if path == Path::new("-") {
        Judgement::of(&*checker, &history::read(io::stdin().lock(), &reading)?)
    } else {
        let file = if path.is_dir() { path.join("history.jsonl") } else { path.to_owned() };
        check_file(&*checker, &file, &reading)?
    };
    print(&judgement, None, output);
    Ok(judgement.verdict.exit())
}

/// Judges a file. What can be read again need not be in memory as a whole.
fn check_file(
    checker: &dyn Checker,
    path: &Path,
    reading: &ReadOptions,
) -> Result<Judgement, LabError> {
    let open = || {
        let opened = File::open(path).map_err(LabError::io(path))?;
        Ok::<_, LabError>((
            opened.metadata().is_ok_and(|metadata| metadata.is_file()),
            BufReader::with_capacity(READ_BYTES, opened),
        ))
    };
    let (again, input) = open()?;
    let Some(compact) = checker.compact().filter(|_| again) else {
        return Ok(Judgement::of(checker, &history::read(input, reading)?));
    };
    let corpus = history::corpus(input, reading)?;
    let mut fetch = |places: &[u32]| history::pick(open()?.1, reading, &corpus, places);
    let verdict = compact.check_compact(&corpus, &mut fetch)?;
    Ok(Judgement::from_verdict(checker.model(), verdict, corpus.len()))
}

fn report(dir: &Path, output: Output) -> Result<u8, LabError> {
    let path = report::write(dir)?;
    let text = match output {
        Output::Text => path.display().to_string(),
        Output::Json => serde_json::json!({ "schema": 1, "report": path }).to_string(),
    };
    // Whoever closed the pipe does not want to know.
    let _ = writeln!(io::stdout(), "{text}");
    Ok(0)
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
