//! The command line: names, flags and their rules. Here are those of data, certificates, contexts and
//! measurement.
//!
//! - `manage`: keyspaces, members, nodes, snapshots. `transfer`: history, export, import.
//! - `eventual`: what only eventual keyspaces take.
//! - `quantity`: durations, sizes and their like.

mod eventual;
mod manage;
mod quantity;
mod transfer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use proto::v1;

pub(crate) use eventual::{AckArg, CausalArgs, ResolveArg};
pub(crate) use manage::{
    AddArgs, ClusterCommand, CreateArgs, KeyspaceCommand, LimitArgs, NodeCommand, SnapshotCommand,
};
pub(crate) use quantity::duration;
pub(crate) use transfer::{ExportArgs, HistoryArgs, ImportArgs};

/// What `kv --help` says of exit codes.
const EXIT_CODES: &str = "\
`kv options` lists the flags that every command takes; `kv explain CODE` explains an error.

Exit codes:
  0    done
  1    internal error, or a file of yours that cannot be read or written
  2    usage, configuration
  3    key, keyspace, member or file not found
  4    a condition did not hold, what is to be made exists, or one value was asked for of several
  5    unavailable, and certainly not applied; `cluster status`: no quorum or no leader
  6    outcome unknown: it may have been applied
  7    identity: certificates, roles
  8    refused: malformed, too large, a limit, a level that is not offered
  9    data that does not verify
  10   done in part, or a write that is on fewer replicas than --ack asks for
  130  interrupted; a change that was on its way says that its outcome is unknown";

/// What `kv txn --help` begins with.
const TXN_LONG: &str = "\
Execute a transaction: if all compares of `if` hold, the operations of `then`, else those of `else`, \
all at one revision.

One JSON object with the lists `if`, `then` and `else`, each of which may be left out:
  if    {\"key\":K,\"rev\":N}      the key's revision is N (0: it is absent)
        {\"key\":K,\"absent\":true}  the key is absent (false: it is there)
        {\"key\":K,\"value\":V}    the key has this value
        also \"create_rev\":N and \"version\":N
  then  {\"put\":K,\"value\":V}    write a key
  else  {\"del\":K}              delete a key; with \"prefix\":true all keys that begin with K
        {\"get\":K}              read a key
  put and del take \"prev\":true to return what was there. What is not UTF-8 stands as base64 in
  key_b64 and value_b64 instead: {\"put\":true,\"key_b64\":K,\"value_b64\":V}.";

/// What `kv get --help` begins with.
const GET_LONG: &str = "\
Read a key.

A key of a keyspace of kind eventual may have several values that were written without knowing of each
other. On a terminal each is a line with its dot, the name of its write. Into a pipe and with -o raw nothing
is printed then, and the exit code is 4, unless --resolve says which one is meant. With -o json all are in
`siblings`, beside the `context` that `kv put --causal` and `kv del --causal` take.";

/// What `kv put --help` begins with.
const PUT_LONG: &str = "\
Write a key.

In a keyspace of kind eventual the write supersedes what --causal covers, and without --causal what the node
holds that takes it. What was written elsewhere meanwhile stands beside the value. With -o json it prints the `dot` of the write and
the `context` for the next one. Exit 10: applied, but on fewer replicas than --ack asks for.";

/// What `kv del --help` begins with.
const DEL_LONG: &str = "\
Delete a key, or all keys with a prefix.

In a keyspace of kind eventual it deletes the values that --causal covers, and without --causal those that
the node holds that takes it. With --prefix it lists the keys and deletes what was listed, key by key. What is
written elsewhere meanwhile stays.";

/// Client of a kvstore cluster.
#[derive(Debug, Parser)]
#[command(
    name = "kv",
    version = crate::version::text(),
    about = "Client of a kvstore cluster",
    after_help = "`kv options` lists the flags that every command takes; `kv explain CODE` explains \
                  an error.",
    disable_help_subcommand = true,
    after_long_help = EXIT_CODES,
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
    /// Writes to an eventual keyspace: how many replicas have to have them durably
    #[arg(long, global = true, value_name = "REPLICAS", hide_short_help = true)]
    pub(crate) ack: Option<AckArg>,
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
    #[command(long_about = GET_LONG, after_help = "Example:\n  kv get orders/17")]
    Get(GetArgs),
    /// Write a key
    #[command(long_about = PUT_LONG, after_help = "Example:\n  kv put orders/17 shipped --if-rev 42")]
    Put(PutArgs),
    /// Delete a key, or all keys with a prefix
    #[command(
        long_about = DEL_LONG,
        after_help = "Example:\n  kv del --prefix orders/2025/ --dry-run"
    )]
    Del(DelArgs),
    /// List keys
    #[command(
        long_about = "List keys.\n\nA keyspace of kind eventual shows the number of values in the place \
                      of the revision. Each key is read as `kv get` reads it; the keys of a listing \
                      are not of one point in time. Deleted and expired keys are absent.",
        after_help = "Example:\n  kv ls orders/ --limit 20"
    )]
    Ls(LsArgs),
    /// Execute a transaction
    #[command(long_about = TXN_LONG, after_help = "Example:\n  echo '{\"if\":[{\"key\":\"a\",\"absent\":true}],\
                            \"then\":[{\"put\":\"a\",\"value\":\"1\"}]}' | kv txn")]
    Txn(TxnArgs),
    /// Show the versions of a key that are kept, newest first
    #[command(after_help = "Example:\n  kv history orders/17 --limit 5")]
    History(HistoryArgs),
    /// Write keys and values as JSON lines, all as of one revision
    #[command(
        long_about = "Write keys and values as JSON lines, all as of one revision.\n\nA line is \
                      {\"key\":..,\"value\":..}; what is not UTF-8 is base64 under key_b64 and \
                      value_b64. --timeout counts for each page of the export.\n\nOf a keyspace \
                      of kind eventual each value that lives is a line, with its `dot` and, where it \
                      has one, the time at which it `expires`; the keys are not of one point in time.",
        after_help = "Example:\n  kv export orders/ > orders.jsonl"
    )]
    Export(ExportArgs),
    /// Put the keys and values of JSON lines, as `kv export` writes them
    #[command(
        long_about = "Put the keys and values of JSON lines, as `kv export` writes them.\n\nBad \
                      lines are named and left out. The first write that fails for another reason \
                      ends the import; as every line is one put, it may simply be run again. \
                      --timeout counts for each write. Exit 10 when a part was done.\n\nInto a \
                      keyspace of kind eventual it adds values and replaces none: a line whose value \
                      the key has already is left out, any other stands beside what is there; what has \
                      expired is left out.",
        after_help = "Example:\n  kv import orders.jsonl --if-absent"
    )]
    Import(ImportArgs),
    /// Look after keyspaces
    #[command(subcommand)]
    Keyspace(KeyspaceCommand),
    /// Look at the cluster and change its members
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Talk to one node
    #[command(subcommand)]
    Node(NodeCommand),
    /// Back the cluster up
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Make and list certificates
    #[command(subcommand)]
    Cert(CertCommand),
    /// Keep the clusters you talk to
    #[command(subcommand)]
    Context(ContextCommand),
    /// Measure the cluster
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Test a cluster under faults: runs `kv-lab`, found beside this program or on PATH
    #[command(
        disable_help_flag = true,
        after_help = "Example:\n  kv lab run bank:kill+partition --time 30s"
    )]
    Lab {
        /// Everything that `kv-lab` takes; `kv lab --help` lists it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<OsString>,
    },
    /// Explain an error code
    #[command(after_help = "Example:\n  kv explain KV1201")]
    Explain {
        /// Such as KV1201
        code: String,
    },
    /// List the flags that every command takes
    #[command(after_help = "Example:\n  kv options")]
    Options,
    /// Print a completion script
    #[command(
        after_help = "Example:\n  kv completion bash > ~/.local/share/bash-completion/completions/kv"
    )]
    Completion {
        /// The shell it is for
        shell: ShellArg,
    },
    /// Print the version
    #[command(after_help = "Example:\n  kv version --json")]
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
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rev: Option<u64>,
    /// Print what is known about the key instead of its value
    #[arg(long)]
    pub(crate) meta: bool,
    /// An absent key is no error
    #[arg(long)]
    pub(crate) missing_ok: bool,
    /// Eventual keyspaces: which value stands for several
    #[arg(long, value_name = "RULE")]
    pub(crate) resolve: Option<ResolveArg>,
    /// Eventual keyspaces: print every value with its dot, also into a pipe, and also where they are
    /// more than 1 MiB
    #[arg(long, conflicts_with = "resolve")]
    pub(crate) all_siblings: bool,
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
    /// Eventual keyspaces: hide the value after this time
    #[arg(long, value_name = "DURATION", value_parser = quantity::ttl)]
    pub(crate) ttl: Option<Duration>,
    #[command(flatten)]
    pub(crate) causal: CausalArgs,
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
    #[command(flatten)]
    pub(crate) causal: CausalArgs,
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
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// First key
    #[arg(long, value_name = "KEY")]
    pub(crate) from: Option<OsString>,
    /// The key before which to stop
    #[arg(long, value_name = "KEY")]
    pub(crate) to: Option<OsString>,
    /// List as of this revision of the keyspace
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
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
pub(crate) enum CertCommand {
    /// Make a CA
    #[command(after_help = "Example:\n  kv cert init-ca --dir pki")]
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
    #[command(after_help = "Example:\n  kv cert ls --dir pki")]
    Ls {
        /// Where the files are
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum IssueCommand {
    /// For a node
    #[command(after_help = "Example:\n  kv cert issue node n1 --host 127.0.0.1 --dir pki")]
    Node {
        /// Its configured name
        name: String,
        /// An address or DNS name it is reached by; repeat for more. A renewal keeps those it has
        /// unless some are named
        #[arg(long, required_unless_present = "renew")]
        host: Vec<String>,
        #[command(flatten)]
        issue: IssueArgs,
    },
    /// For a client
    #[command(after_help = "Example:\n  kv cert issue client alice --dir pki")]
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
    /// Replace the certificate that is there, for the same key; the files fit each other all the time
    #[arg(long)]
    pub(crate) renew: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Keep --endpoints, --ca, --cert and --key under a name
    #[command(
        after_help = "Example:\n  kv context add prod --endpoints n1:7610,n2:7610 --ca pki/ca.crt --cert pki/alice.crt \\\n      --key pki/alice.key"
    )]
    Add {
        /// The name
        name: String,
    },
    /// List contexts
    #[command(after_help = "Example:\n  kv context ls")]
    Ls,
    /// Select a context
    #[command(after_help = "Example:\n  kv context use prod")]
    Use {
        /// The name
        name: String,
    },
    /// Print a context, the selected one without a name
    #[command(after_help = "Example:\n  kv context show prod")]
    Show {
        /// The name
        name: Option<String>,
    },
    /// Call each endpoint of a context, the selected one without a name
    #[command(after_help = "Example:\n  kv context check")]
    Check {
        /// The name
        name: Option<String>,
    },
    /// Select the context that was selected before
    #[command(name = "-", after_help = "Example:\n  kv context -")]
    Previous,
    /// Forget a context
    #[command(after_help = "Example:\n  kv context rm old")]
    Rm {
        /// The name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Write
    #[command(after_help = "Example:\n  kv bench put --duration 30s")]
    Put(BenchArgs),
    /// Read
    #[command(after_help = "Example:\n  kv bench get --assert 'p99<10ms,fail=0'")]
    Get(BenchArgs),
    /// Read and write
    #[command(after_help = "Example:\n  kv bench mixed --mix get=90,put=10 --rate 5000")]
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
            "kv put a 1 --lease 3",
            "kv --session f get a",
            "kv --max-staleness 5s get a",
            "kv --trace get a",
            "kv watch a",
            "kv lock a -- true",
            "kv edit a",
            "kv keyspace create a --kind linearizable --replicas 3",
            "kv cluster plan -f f",
            "kv snapshot restore f",
            "kv put a 1 --if-absnt",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn every_command_has_one_example() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(|command| walk(command, path.trim()));
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example:\n  "), "{path}: {help}");
            assert!(help.contains(&*path), "{path}: {help}");
        }
        walk(&Cli::command(), "");
    }

    #[test]
    fn typing_mistakes_get_a_suggestion() {
        for (line, suggestion) in [
            ("kv keyspce ls", "keyspace"),
            ("kv cluster membrs", "members"),
            ("kv cluster remove n1 --dry-rn", "--dry-run"),
            ("kv snapshot safe f", "save"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(error.contains(&format!("'{suggestion}'")), "{line}: {error}");
        }
    }

    #[test]
    fn what_follows_lab_belongs_to_the_lab() {
        let words = ["run", "bank:kill", "-o", "json", "--help", "--nodes", "3"];
        for line in [&words[..], &words[4..], &[]] {
            let cli = Cli::try_parse_from(["kv", "lab"].iter().chain(line)).unwrap();
            assert!(matches!(cli.command, Command::Lab { arguments } if arguments == line));
            assert_eq!(cli.global.output, None);
        }
        // Here it is an option of `kv`, which hands it on.
        let cli = Cli::try_parse_from(["kv", "lab", "-o", "json", "ls"]).unwrap();
        assert!(matches!(cli.command, Command::Lab { arguments } if arguments == ["ls"]));
        assert_eq!(cli.global.output, Some(FormatArg::Json));
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
    fn what_only_eventual_keyspaces_know_is_parsed() {
        let line = "kv put a 1 --causal AAE= --ack quorum --ttl 1500ms --retry any";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.global.ack, Some(AckArg::Quorum));
        let Command::Put(put) = cli.command else { panic!("it is a put") };
        assert_eq!(put.causal.causal.as_deref(), Some(&[0, 1][..]));
        assert_eq!(put.ttl, Some(Duration::from_millis(1_500)));
        for line in [
            "kv put a 1 --causal !",
            "kv put a 1 --ttl 1us",
            "kv put a 1 --ttl 0s",
            "kv put a 1 --ack two",
            "kv put a 1 --retry never",
            "kv get a --resolve merge",
            "kv get a --resolve lww --all-siblings",
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn conditions_exclude_each_other() {
        for line in ["kv put a 1 --if-rev 3 --if-absent", "kv put a 1 --if-absent --if-present"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
