//! The command line of the server binary.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, EXAMPLE};
use crate::dev;
use crate::serve;
use crate::server::ServerError;

/// A replicated key-value store.
#[derive(Debug, Parser)]
#[command(name = "kvstore", version, about, disable_help_subcommand = true)]
#[command(after_help = "The log goes to stderr; KVSTORE_LOG sets its level, such as `debug`.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node, as its configuration says.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a throw-away cluster in this process, with mTLS, and point `kv` at it.
    Dev(DevArgs),
    /// Look at a configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the version.
    Version {
        /// As JSON, with the features of this build.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct DevArgs {
    /// Number of nodes.
    #[arg(long, default_value_t = 3, value_name = "N",
          value_parser = clap::value_parser!(u8).range(1..=dev::NODES_MAX))]
    nodes: u8,
    /// Keep everything in this directory, and continue from it the next time.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Run this command against the cluster, stop, and exit with its status. It finds the cluster
    /// by KV_ENDPOINTS, KV_CA, KV_CERT and KV_KEY, and `kv` on its PATH.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration file and the environment over it; exits 2 when it is refused.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print a commented configuration that names every key.
    Example,
}

/// Runs the command line and returns the exit code: 0 clean, 1 failed at run time, 2 usage,
/// configuration or file modes, 7 own certificate unusable, 9 data refused.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed output is no reason for another exit code.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        Command::Serve { config } => serve::run(&config),
        Command::Dev(DevArgs { nodes, keep, command }) => {
            dev::run(dev::DevOptions { nodes, keep, command })
        }
        Command::Config(ConfigCommand::Check { config }) => check(&config),
        Command::Config(ConfigCommand::Example) => print(EXAMPLE),
        Command::Version { json } => print(&version(json)),
    }
}

fn check(path: &Path) -> ExitCode {
    match Config::load(path) {
        Ok(config) => print(&format!("ok: node {}\n", config.node.name)),
        Err(error) => {
            let error = ServerError::from(error);
            // Nobody to tell when stderr is closed; the exit code says it.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), error.describe().as_bytes());
            ExitCode::from(error.exit())
        }
    }
}

fn version(json: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if !json {
        return format!("kvstore {version}\n");
    }
    let fields = serde_json::json!({
        "schema": 1,
        "name": "kvstore",
        "version": version,
        "commit": option_env!("KVSTORE_COMMIT").unwrap_or("unknown"),
        "features": Vec::<&str>::new(),
    });
    format!("{fields}\n")
}

/// Prints to stdout; a reader that has gone is fine.
fn print(text: &str) -> ExitCode {
    let mut output = std::io::stdout().lock();
    let written = std::io::Write::write_all(&mut output, text.as_bytes())
        .and_then(|()| std::io::Write::flush(&mut output));
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev(args: &[&str]) -> Result<DevArgs, clap::Error> {
        let args = ["kvstore", "dev"].iter().chain(args);
        match Cli::try_parse_from(args)?.command {
            Command::Dev(dev) => Ok(dev),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn dev_takes_a_command_behind_two_dashes() {
        let plain = dev(&[]).unwrap();
        assert_eq!((plain.nodes, plain.keep, plain.command.len()), (3, None, 0));
        let run = dev(&["--nodes", "5", "--", "kv", "ls", "--keys-only"]).unwrap();
        assert_eq!(run.nodes, 5);
        assert_eq!(run.command, ["kv", "ls", "--keys-only"]);
        let kept = dev(&["--keep", "d"]).unwrap();
        assert_eq!(kept.keep, Some(PathBuf::from("d")));
    }

    #[test]
    fn usage_errors_exit_2() {
        for args in [
            &["--nodes", "0"][..],
            &["--nodes", "100"],
            &["kv", "ls"],
            &["--no-console"],
            &["--seed", "1"],
        ] {
            assert_eq!(dev(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
        assert_eq!(Cli::try_parse_from(["kvstore"]).unwrap_err().exit_code(), 2);
        assert_eq!(Cli::try_parse_from(["kvstore", "serve"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_version_is_one_json_object() {
        let value: serde_json::Value = serde_json::from_str(&version(true)).unwrap();
        assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(value["features"], serde_json::json!([]));
    }
}
