//! `kv lab`: becomes `kv-lab`, which is a program of its own.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use crate::cli::errors::CliError;
use crate::cli::run::Run;

/// The program.
const PROGRAM: &str = "kv-lab";

/// Replaces this process. Returns only what kept it from that.
pub(crate) fn lab(arguments: &[OsString], run: &Run<'_>) -> CliError {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
    let path = run.terminal.var("PATH").unwrap_or_default();
    let dirs = beside.into_iter().chain(std::env::split_paths(&path));
    match dirs.map(|dir| dir.join(PROGRAM)).find(|program| program.is_file()) {
        Some(program) => {
            // `-o` is known to both, and `kv` takes it wherever it stands.
            let output = run.global.output.and_then(|output| output.to_possible_value());
            let output = output.iter().flat_map(|output| ["--output", output.get_name()]);
            let source = Command::new(&program).args(output).args(arguments).exec();
            CliError::File { path: program, source }
        }
        None => {
            let why = "it is neither beside this program nor on PATH";
            let source = io::Error::new(io::ErrorKind::NotFound, why);
            CliError::File { path: PathBuf::from(PROGRAM), source }
        }
    }
}
