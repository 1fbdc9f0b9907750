//! Flags that only keyspaces of kind eventual know what to do with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use proto::v1;

use crate::config::Retry;

/// How many replicas have to have a write durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AckArg {
    /// The one that takes it.
    One,
    /// A majority of all members.
    Quorum,
    /// Every member.
    All,
}

impl From<AckArg> for v1::Ack {
    fn from(ack: AckArg) -> Self {
        match ack {
            AckArg::One => Self::One,
            AckArg::Quorum => Self::Quorum,
            AckArg::All => Self::All,
        }
    }
}

/// Where a write is repeated whose answer was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RetryArg {
    /// At that node alone: it executes once.
    #[default]
    Exact,
    /// Anywhere, as a new write that supersedes nothing: it executes once or more.
    Any,
}

impl From<RetryArg> for Retry {
    fn from(retry: RetryArg) -> Self {
        match retry {
            RetryArg::Exact => Self::Exact,
            RetryArg::Any => Self::AtLeastOnce,
        }
    }
}

/// Which of several values is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResolveArg {
    /// The newest by the clocks of the nodes: last writer wins.
    Lww,
}

/// How a write to an eventual keyspace is made.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CausalArgs {
    /// Eventual keyspaces: the `context` of a read (-o json); the write supersedes what was read
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    pub(crate) causal: Option<Bytes>,
    #[command(flatten)]
    pub(crate) retry: RetryArgs,
}

/// How often a write to an eventual keyspace may execute.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct RetryArgs {
    /// Eventual keyspaces: where a write is repeated whose answer was lost
    #[arg(long = "retry", value_name = "WHERE", default_value = "exact")]
    pub(crate) at: RetryArg,
}

/// A causal token as `-o json` shows it.
fn token(text: &str) -> Result<Bytes, String> {
    let token = STANDARD.decode(text).map_err(|error| format!("a token is base64: {error}"))?;
    Ok(token.into())
}
