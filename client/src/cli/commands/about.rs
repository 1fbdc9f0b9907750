//! `kv version`, `kv explain`, `kv options`, `kv completion`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use proto::Code;
use serde::Serialize;

use crate::cli::args::{Cli, GlobalArgs, ShellArg};
use crate::cli::errors::CliError;
use crate::cli::output::{SCHEMA, json_line};
use crate::cli::run::Run;
use crate::version;

#[derive(Serialize)]
struct VersionJson {
    schema: u32,
    name: &'static str,
    version: &'static str,
    /// Of the build, or `unknown`.
    commit: &'static str,
}

pub(super) fn show_version(json: bool, run: &mut Run<'_>) -> Result<(), CliError> {
    if json || run.form.is_json() {
        let (version, commit) = (version::VERSION, version::COMMIT);
        json_line(run.out(), &VersionJson { schema: SCHEMA, name: "kv", version, commit })?;
    } else {
        writeln!(run.out(), "kv {}", version::text())?;
    }
    Ok(())
}

#[derive(Serialize)]
struct PageJson {
    schema: u32,
    code: String,
    title: &'static str,
    cause: &'static str,
    check: &'static str,
    fix: &'static str,
    exit: u8,
}

pub(super) fn explain(text: &str, run: &mut Run<'_>) -> Result<(), CliError> {
    let code = Code::parse(text).ok_or_else(|| {
        let [first, last] = [Code::ALL[0], Code::ALL[Code::ALL.len() - 1]];
        CliError::Usage(format!("{text:?} is no error code; they run from {first} to {last}"))
    })?;
    let page = code.page();
    if run.form.is_json() {
        let page = PageJson {
            schema: SCHEMA,
            code: code.to_string(),
            title: page.title,
            cause: page.cause,
            check: page.check,
            fix: page.fix,
            exit: code.exit(),
        };
        json_line(run.out(), &page)?;
        return Ok(());
    }
    let out = run.out();
    writeln!(out, "{code}  {}", page.title)?;
    writeln!(out, "  cause: {}", page.cause)?;
    writeln!(out, "  check: {}", page.check)?;
    writeln!(out, "  fix:   {}", page.fix)?;
    writeln!(out, "  exit:  {}", code.exit())?;
    Ok(())
}

pub(super) fn options(run: &mut Run<'_>) -> Result<(), CliError> {
    let command = clap::Command::new("kv")
        .disable_help_flag(true)
        .help_template("{all-args}\n")
        .max_term_width(100);
    let mut command =
        GlobalArgs::augment_args(command).mut_args(|argument| argument.hide_short_help(false));
    let text = command.render_long_help().to_string();
    run.out().write_all(text.as_bytes())?;
    Ok(())
}

pub(super) fn completion(shell: ShellArg, run: &mut Run<'_>) -> Result<(), CliError> {
    let shell = match shell {
        ShellArg::Bash => Shell::Bash,
        ShellArg::Zsh => Shell::Zsh,
        ShellArg::Fish => Shell::Fish,
        ShellArg::PowerShell => Shell::PowerShell,
    };
    // Into memory first: the generator cannot report that the reader hung up.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kv", &mut script);
    run.out().write_all(&script)?;
    Ok(())
}
