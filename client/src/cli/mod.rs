//! The `kv` command as a library: both the binary `kv` and the server binary, when it is started
//! under the name `kv`, call [`main`].
//!
//! stdout carries data only; notes, progress and errors go to stderr. The form follows the reader:
//! tables and units for people at a terminal, exact bytes and plain lines in a pipe, JSON on request.
//! The exit code follows the stable error code; 6 stands for a write whose outcome is unknown.

mod args;
mod commands;
mod context;
mod errors;
mod output;
mod part_file;
mod progress;
mod run;
mod settings;
mod terminal;

use std::ffi::OsString;
use std::io::Write;

use clap::{ColorChoice, CommandFactory, FromArgMatches};

pub use context::{Context, ContextError, Contexts, config_dir};
pub use terminal::{Lookup, Terminal};

use args::{Cli, Command};
use errors::{CliError, EXIT_USAGE};
use output::{Form, Paint};
use run::Run;

/// Exit code after Ctrl-C.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Runs the command of these arguments, the first of which is the program's name, in this process.
/// Returns the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    run(arguments, &mut Terminal::of_process())
}

/// Runs a command in the given surroundings. Returns the exit code.
///
/// Must not be called from within an async runtime: it starts its own.
pub fn run(arguments: impl IntoIterator<Item = OsString>, terminal: &mut Terminal) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => return answer_parser(&error, terminal),
    };
    let global = cli.global.clone();
    let outcome = execute(cli, terminal);
    let flushed = terminal.stdout.flush();
    let outcome = outcome.and(flushed.map_err(CliError::from));
    let Err(error) = outcome else { return 0 };
    let json = Form::choose(global.output, terminal).is_json();
    let paint = Paint::choose(global.color, terminal, terminal.stderr_is_tty);
    // Nobody can be told that stderr is gone; the exit code still says it.
    let _ = terminal.stderr.write_all(error.render(json, paint).as_bytes());
    let _ = terminal.stderr.flush();
    error.exit()
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let never = arguments.iter().any(|argument| argument == "--color=never")
        || arguments.windows(2).any(|pair| pair[0] == "--color" && pair[1] == "never");
    let choice = if never { ColorChoice::Never } else { ColorChoice::Auto };
    let matches = Cli::command().color(choice).try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// Help and version go to stdout and are no failure; the rest is a usage error.
fn answer_parser(error: &clap::Error, terminal: &mut Terminal) -> u8 {
    let text = error.render();
    let (stream, is_tty) = if error.use_stderr() {
        (&mut terminal.stderr, terminal.stderr_is_tty)
    } else {
        (&mut terminal.stdout, terminal.stdout_is_tty)
    };
    let no_color = (terminal.env)("NO_COLOR").is_some_and(|value| !value.is_empty());
    let text = if is_tty && !no_color { text.ansi().to_string() } else { text.to_string() };
    // Nobody can be told that the stream is gone.
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    if error.use_stderr() { EXIT_USAGE } else { 0 }
}

/// Runs the command; Ctrl-C ends it after what it has written so far.
fn execute(cli: Cli, terminal: &mut Terminal) -> Result<(), CliError> {
    let mut run = Run::new(cli.global, terminal);
    // A measurement needs every core.
    let measures = matches!(cli.command, Command::Bench(_));
    // These report what they did so far when they are interrupted.
    let ends_by_itself = measures || matches!(cli.command, Command::Import(_));
    let mut builder = if measures {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build().map_err(CliError::Output)?;
    let outcome = runtime.block_on(async {
        // The command is polled first: what it asks of a person is asked with the usual Ctrl-C.
        tokio::select! {
            biased;
            outcome = commands::dispatch(cli.command, &mut run) => outcome.map_err(Some),
            interrupted = tokio::signal::ctrl_c(), if !ends_by_itself => match interrupted {
                Ok(()) => Err(None),
                Err(error) => Err(Some(CliError::Output(error))),
            },
        }
    });
    let outcome = outcome.map_err(|error| error.unwrap_or_else(|| run.interrupted()));
    // Connections end with the process; nothing is left to wait for.
    runtime.shutdown_background();
    outcome
}
