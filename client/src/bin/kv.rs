//! The `kv` command; all of it is in `client::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    client::cli::main(std::env::args_os()).into()
}
