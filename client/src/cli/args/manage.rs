//! Flags of the commands for operators: keyspaces, members, nodes, snapshots.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use proto::v1;

use super::quantity::{Retention, bytes, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyspaceCommand {
    /// List keyspaces
    #[command(after_help = "Example:\n  kv keyspace ls")]
    Ls,
    /// Create a keyspace
    #[command(
        after_help = "Example:\n  kv keyspace create orders --kind linearizable --history 7days"
    )]
    Create(CreateArgs),
    /// Show one keyspace: its settings and what it holds
    #[command(after_help = "Example:\n  kv keyspace show orders")]
    Show {
        /// Its name
        name: String,
    },
    /// Change settings of a keyspace; what is not named stays as it is
    #[command(after_help = "Example:\n  kv keyspace set orders --max-bytes 2GiB")]
    Set {
        /// Its name
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Remove a keyspace and all it holds
    #[command(after_help = "Example:\n  kv keyspace rm orders")]
    Rm {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name: letters, digits, '.', '_' and '-'
    pub(crate) name: String,
    /// How it is kept; this never changes
    #[arg(long)]
    pub(crate) kind: KindArg,
    /// What a read makes of concurrent writes, for kind eventual: `siblings` unless it is named. This never
    /// changes
    #[arg(long)]
    pub(crate) policy: Option<PolicyArg>,
    /// Refused: no kind of keyspace merges values
    #[arg(long, value_name = "TYPE", hide = true)]
    pub(crate) merge: Option<String>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// The kind of a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    /// One order of all writes, agreed on by a majority.
    Linearizable,
    /// Every replica takes writes by itself.
    Eventual,
}

/// The policy of a keyspace of kind eventual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyArg {
    /// A read shows all values that were written beside each other.
    Siblings,
    /// The last writer wins.
    Lww,
}

impl From<PolicyArg> for v1::keyspace::Policy {
    fn from(policy: PolicyArg) -> Self {
        match policy {
            PolicyArg::Siblings => Self::Siblings,
            PolicyArg::Lww => Self::Lww,
        }
    }
}

impl From<KindArg> for v1::keyspace::Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Linearizable => Self::Linearizable,
            KindArg::Eventual => Self::Eventual,
        }
    }
}

/// What a keyspace may hold.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LimitArgs {
    /// History that is kept: revisions such as 5000, or a time such as 7days; 0 is the default
    #[arg(long, value_name = "N|DURATION")]
    pub(crate) history: Option<Retention>,
    /// Most keys; 0 is no limit
    #[arg(long, value_name = "N")]
    pub(crate) max_keys: Option<u64>,
    /// Most bytes of keys and values, such as 2GiB; 0 is no limit
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_bytes: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Nodes, roles, lag; with -v also how far the eventual keyspaces agree
    #[command(after_help = "Example:\n  kv cluster status --watch\n  kv cluster status -v")]
    Status {
        /// Look again and again, every 2 s or as often as this says
        #[arg(long, value_name = "EVERY", num_args = 0..=1, require_equals = true,
            default_missing_value = "2s", value_parser = duration)]
        watch: Option<Duration>,
    },
    /// List the members, and the change that is being carried out
    #[command(after_help = "Example:\n  kv cluster members")]
    Members,
    /// Add a member; it becomes a voter by itself once it has caught up
    #[command(after_help = "Example:\n  kv cluster add n4=10.0.0.4:7611 --dry-run")]
    Add(AddArgs),
    /// Make a learner a voter
    #[command(after_help = "Example:\n  kv cluster promote n4")]
    Promote {
        /// Its name
        name: String,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a member for good, or cancel its addition
    #[command(after_help = "Example:\n  kv cluster remove n4 --dry-run")]
    Remove {
        /// Its name
        name: String,
        /// Do not wait for what it alone took in eventual keyspaces; if it is dead, that is lost
        #[arg(long)]
        lose_unseen: bool,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Hand leadership to a voter
    #[command(after_help = "Example:\n  kv cluster move-leader n2")]
    MoveLeader {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Its name, and the address at which its peers reach it, as n4=10.0.0.4:7611
    #[arg(value_name = "NAME=ADDR", value_parser = member)]
    pub(crate) member: (String, String),
    /// It stays a learner until it is promoted
    #[arg(long)]
    pub(crate) learner: bool,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn member(text: &str) -> Result<(String, String), String> {
    let wrong = || "a member is named with its peer address, as n4=10.0.0.4:7611".to_owned();
    let (name, address) = text.split_once('=').ok_or_else(wrong)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().map_err(|_| wrong())?;
    if !crate::pki::is_name(name) || host.is_empty() || port == 0 {
        return Err(wrong());
    }
    Ok((name.to_owned(), address.to_owned()))
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Ask a node whether it is there
    #[command(after_help = "Example:\n  kv node ping n2")]
    Ping {
        /// Its name
        name: String,
    },
    /// Show the filter of a node's log, or set it until the node stops
    #[command(after_help = "Example:\n  kv node log-level n2 --set kvstore=debug")]
    LogLevel {
        /// Its name
        name: String,
        /// The new filter, such as `info` or `kvstore=debug`
        #[arg(long, value_name = "FILTER")]
        set: Option<String>,
    },
    /// Let a node write its state down and free the log behind it
    #[command(
        long_about = "Let a node write its state down and free the log behind it.\n\nThis takes as \
                      long as writing all its data; without --timeout the command waits up to 10 \
                      minutes.",
        after_help = "Example:\n  kv node compact n2"
    )]
    Compact {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save all data to a file, as of one moment
    #[command(
        long_about = "Save all data to a file, as of one moment.\n\nThe file appears under its name \
                      once it is whole and on disk. --timeout is the longest silence of the node, \
                      5 minutes without it. Of eventual keyspaces it holds what the node has once every \
                      member that it can reach has told it all; who could not be asked is named. \
                      `kvstore snapshot verify` checks the content, `kvstore \
                      snapshot restore` starts a new cluster from it.",
        after_help = "Example:\n  kv snapshot save backup.exp"
    )]
    Save {
        /// The file
        file: PathBuf,
        /// Replace the file if it exists
        #[arg(long)]
        force: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_a_name_and_an_address() {
        let found = member("n4=10.0.0.4:7611").unwrap();
        assert_eq!(found, ("n4".into(), "10.0.0.4:7611".into()));
        assert_eq!(member("n4=[::1]:7611").unwrap().1, "[::1]:7611");
        for text in ["n4", "n4=", "=a:1", "n4=a", "n4=a:", "n4=a:x", "n4=:1", "a/b=a:1", "n4=a:0"] {
            assert!(member(text).is_err(), "{text}");
        }
    }
}
