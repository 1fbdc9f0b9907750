//! The command line: names, flags and their rules.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use proto::v1;

/// Client of a kvstore cluster.
#[derive(Debug, Parser)]
#[command(
    name = "kv",
    version,
    about = "Client of a kvstore cluster",
    after_help = "`kv options` lists the flags that every command takes; `kv explain CODE` explains \
                  an error.",
    disable_help_subcommand = true,
    arg_required_else_help = true,
    infer_subcommands = false,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command; hidden in the short help of each.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct GlobalArgs {
    /// Use this context; stands above the environment's endpoints and certificates [env: KV_CONTEXT]
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub(crate) context: Option<String>,
    /// Addresses of nodes, host:port, best first [env: KV_ENDPOINTS]
    #[arg(long, global = true, value_name = "LIST", value_delimiter = ',', hide_short_help = true)]
    pub(crate) endpoints: Option<Vec<String>>,
    /// Keyspace
    #[arg(short, long, global = true, value_name = "NAME", hide_short_help = true,
        default_value = crate::DEFAULT_KEYSPACE)]
    pub(crate) keyspace: String,
    /// The promise of a read; met or refused, never weakened
    #[arg(long, global = true, value_name = "LEVEL", hide_short_help = true)]
    pub(crate) consistency: Option<LevelArg>,
    /// Total over all attempts and endpoints [env: KV_TIMEOUT] [default: 5s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration,
        hide_short_help = true)]
    pub(crate) timeout: Option<Duration>,
    /// Certificate of the cluster's CA [env: KV_CA]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) ca: Option<PathBuf>,
    /// Own certificate [env: KV_CERT]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) cert: Option<PathBuf>,
    /// Own private key, mode 0600 [env: KV_KEY]
    #[arg(long = "key", global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) key_file: Option<PathBuf>,
    /// Form of the output; without it tables on a terminal, plain lines elsewhere
    #[arg(short, long, global = true, value_name = "FORM", hide_short_help = true)]
    pub(crate) output: Option<FormatArg>,
    /// When to colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_short_help = true
    )]
    pub(crate) color: ColorArg,
    /// No notes on stderr, only errors
    #[arg(short, long, global = true, hide_short_help = true)]
    pub(crate) quiet: bool,
    /// More detail on stderr
    #[arg(short, long, global = true, action = ArgAction::Count, hide_short_help = true)]
    pub(crate) verbose: u8,
    /// Do not ask before a destructive command
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) yes: bool,
    /// Never ask; destructive commands then need --yes
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) no_input: bool,
}

/// A read level by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelArg {
    Linearizable,
    Quorum,
    Bounded,
    Session,
    Eventual,
}

impl From<LevelArg> for v1::Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Linearizable => Self::Linearizable,
            LevelArg::Quorum => Self::Quorum,
            LevelArg::Bounded => Self::Bounded,
            LevelArg::Session => Self::Session,
            LevelArg::Eventual => Self::Eventual,
        }
    }
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// For people.
    Table,
    /// Exact bytes, plain lines.
    Raw,
    /// One object.
    Json,
    /// One object per line.
    Jsonl,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorArg {
    Auto,
    Always,
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read a key
    Get(GetArgs),
    /// Write a key
    Put(PutArgs),
    /// Delete a key, or all keys with a prefix
    Del(DelArgs),
    /// List keys
    Ls(LsArgs),
    /// Execute a transaction
    Txn(TxnArgs),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Make and list certificates
    #[command(subcommand)]
    Cert(CertCommand),
    /// Keep the clusters you talk to
    #[command(subcommand)]
    Context(ContextCommand),
    /// Measure the cluster
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Explain an error code
    Explain {
        /// Such as KV1201
        code: String,
    },
    /// List the flags that every command takes
    Options,
    /// Print a completion script
    Completion {
        /// The shell it is for
        shell: ShellArg,
    },
    /// Print the version
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// A shell that completion scripts exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellArg {
    Bash,
    Zsh,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The key
    pub(crate) key: OsString,
    /// Read as of this revision of the keyspace
    #[arg(long, value_name = "N")]
    pub(crate) rev: Option<u64>,
    /// Print what is known about the key instead of its value
    #[arg(long)]
    pub(crate) meta: bool,
    /// An absent key is no error
    #[arg(long)]
    pub(crate) missing_ok: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The key
    pub(crate) key: OsString,
    /// The value; `-` or nothing reads stdin
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: Option<OsString>,
    /// Take the value from this file
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) condition: ConditionArgs,
    /// Print the value that was replaced
    #[arg(long)]
    pub(crate) prev: bool,
}

/// At most one condition of a write.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct ConditionArgs {
    /// Only if the key's revision is this; 0 means absent
    #[arg(long, value_name = "N")]
    pub(crate) if_rev: Option<u64>,
    /// Only if the key is absent
    #[arg(long)]
    pub(crate) if_absent: bool,
    /// Only if the key exists
    #[arg(long)]
    pub(crate) if_present: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DelArgs {
    /// The key
    #[arg(required_unless_present = "prefix", conflicts_with = "prefix")]
    pub(crate) key: Option<OsString>,
    /// Delete all keys that begin with this
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<OsString>,
    /// Only say how many keys there are
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// An absent key is no error
    #[arg(long)]
    pub(crate) missing_ok: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only keys that begin with this
    #[arg(conflicts_with_all = ["from", "to"])]
    pub(crate) prefix: Option<OsString>,
    /// Print the keys alone
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Print only how many there are
    #[arg(long, conflicts_with_all = ["keys_only", "limit", "null"])]
    pub(crate) count: bool,
    /// At most this many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// First key
    #[arg(long, value_name = "KEY")]
    pub(crate) from: Option<OsString>,
    /// The key before which to stop
    #[arg(long, value_name = "KEY")]
    pub(crate) to: Option<OsString>,
    /// List as of this revision of the keyspace
    #[arg(long, value_name = "N")]
    pub(crate) rev: Option<u64>,
    /// Keys as they are, records ended by NUL
    #[arg(short = '0', long = "null")]
    pub(crate) null: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TxnArgs {
    /// The transaction as JSON; `-` or nothing reads stdin
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Exit 4 when the compares did not hold
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Nodes, roles, lag
    Status,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make a CA
    InitCa {
        /// Where the files go
        #[arg(long)]
        dir: PathBuf,
        /// Certificates of this CA are good for this cluster alone
        #[arg(long, value_name = "NAME")]
        cluster: Option<String>,
        /// How long it is valid
        #[arg(long, value_name = "DURATION", default_value = "3650days", value_parser = duration)]
        validity: Duration,
    },
    /// Issue a certificate
    #[command(subcommand)]
    Issue(IssueCommand),
    /// List certificates
    Ls {
        /// Where the files are
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum IssueCommand {
    /// For a node
    Node {
        /// Its configured name
        name: String,
        /// An address or DNS name it is reached by; repeat for more
        #[arg(long, required = true)]
        host: Vec<String>,
        #[command(flatten)]
        issue: IssueArgs,
    },
    /// For a client
    Client {
        /// Its name
        name: String,
        #[command(flatten)]
        issue: IssueArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// Where the CA is and the files go
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// How long it is valid, at most as long as the CA
    #[arg(long, value_name = "DURATION", default_value = "365days", value_parser = duration)]
    pub(crate) validity: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Keep --endpoints, --ca, --cert and --key under a name
    Add {
        /// The name
        name: String,
    },
    /// List contexts
    Ls,
    /// Select a context
    Use {
        /// The name
        name: String,
    },
    /// Print a context, the selected one without a name
    Show {
        /// The name
        name: Option<String>,
    },
    /// Call each endpoint of a context, the selected one without a name
    Check {
        /// The name
        name: Option<String>,
    },
    /// Forget a context
    Rm {
        /// The name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Write
    Put(BenchArgs),
    /// Read
    Get(BenchArgs),
    /// Read and write
    Mixed {
        #[command(flatten)]
        args: BenchArgs,
        /// Shares of the operations
        #[arg(long, value_name = "MIX", default_value = "get=90,put=10")]
        mix: String,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// How long
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Operations at once; with --rate the most that may be open
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) in_flight: Option<u32>,
    /// Operations per second, started on schedule whether or not earlier ones were answered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rate: Option<u32>,
    /// Number of keys
    #[arg(long, value_name = "N", default_value = "10000",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) keys: u64,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value = "256",
        value_parser = clap::value_parser!(u32).range(0..=proto::limits::VALUE_BYTES_MAX as i64))]
    pub(crate) value_size: u32,
    /// Connections to each endpoint
    #[arg(long, value_name = "N", default_value = "1",
        value_parser = clap::value_parser!(u16).range(1..=crate::CONNECTIONS_MAX as i64))]
    pub(crate) connections: u16,
    /// Seed of keys, values and the order of operations
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// Exit 9 unless these hold, such as `p99<10ms,fail=0`
    #[arg(long, value_name = "LIST")]
    pub(crate) assert: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("it must be longer than nothing".into()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_not_built_is_unknown() {
        for line in [
            "kv put a 1 --ttl 5s",
            "kv put a 1 --lease 3",
            "kv --session f get a",
            "kv --max-staleness 5s get a",
            "kv --ack all put a 1",
            "kv --trace get a",
            "kv watch a",
            "kv lock a -- true",
            "kv edit a",
            "kv history a",
            "kv keyspace ls",
            "kv lab ls",
            "kv cluster members",
            "kv put a 1 --if-absnt",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn flags_may_stand_before_and_after_the_command() {
        for line in ["kv -o json get a", "kv get a -o json", "kv get -o json a"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.output, Some(FormatArg::Json), "{line}");
        }
        let cli = Cli::try_parse_from(["kv", "put", "a", "-1"]).unwrap();
        assert!(matches!(cli.command, Command::Put(put) if put.value == Some("-1".into())));
        let cli = Cli::try_parse_from(["kv", "put", "a", "--", "--x"]).unwrap();
        assert!(matches!(cli.command, Command::Put(put) if put.value == Some("--x".into())));
    }

    #[test]
    fn conditions_exclude_each_other() {
        for line in ["kv put a 1 --if-rev 3 --if-absent", "kv put a 1 --if-absent --if-present"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
