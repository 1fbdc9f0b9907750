//! The command `kv-lab`; `kv lab` starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    jepsen::cli::main(std::env::args_os())
}
