//! The command line of `kv-lab`.

mod ls;
mod run;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::checker::{self, MODELS};
use crate::error::LabError;
use crate::history;
use crate::judgement::Judgement;

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
    /// Run a workload and faults against real processes and judge what its clients saw.
    Run(Box<run::RunArgs>),
    /// Repeat a run with its parameters.
    Replay(run::ReplayArgs),
    /// List workloads, nemeses, models and past runs.
    Ls(ls::LsArgs),
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
        Command::Run(args) => run::run(args, cli.output),
        Command::Replay(args) => run::replay(args, cli.output),
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
