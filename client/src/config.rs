//! How a client is set up.

use std::time::Duration;

use proto::v1::{Ack, Level};

use crate::error::ClientError;
use crate::pki::Credentials;

/// The keyspace that always exists.
pub const DEFAULT_KEYSPACE: &str = "default";
/// How long a call takes at most, over all attempts and endpoints.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time that a call is given, 100 years; what is longer counts as this.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);
/// Most connections to one endpoint.
pub const CONNECTIONS_MAX: usize = 256;

/// How a [`Client`](crate::Client) finds its cluster and what its calls default to.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses of nodes, `host:port`, best first. The host is the name that the node's
    /// certificate must carry.
    pub endpoints: Vec<String>,
    /// Whom to trust and what to show.
    pub credentials: Credentials,
    /// Default of [`CallOptions::timeout`]. Below about 1 s an election is not survived; above
    /// [`TIMEOUT_MAX`] it counts as that.
    pub timeout: Duration,
    /// Default of [`CallOptions::keyspace`].
    pub keyspace: String,
    /// Default of [`CallOptions::level`]. `Unspecified` is the strongest level that reads of the keyspace
    /// are offered without asking more nodes: linearizable in a linearizable keyspace, eventual in an
    /// eventual one.
    pub level: Level,
    /// Connections to each endpoint, 1 to [`CONNECTIONS_MAX`]. One carries thousands of calls at
    /// once; more than one lets a load generator use more than one core.
    pub connections: usize,
    /// Also use nodes that the cluster names, not only `endpoints`. Without it a call goes to
    /// the listed addresses alone.
    pub discover: bool,
    /// Default of [`CallOptions::remember`].
    pub remember: bool,
}

impl Config {
    /// A client of these endpoints with the usual settings.
    #[must_use]
    pub fn new(endpoints: Vec<String>, credentials: Credentials) -> Self {
        Self {
            endpoints,
            credentials,
            timeout: DEFAULT_TIMEOUT,
            keyspace: DEFAULT_KEYSPACE.to_owned(),
            level: Level::Unspecified,
            connections: 1,
            discover: true,
            remember: true,
        }
    }

    /// Checks the relations between the fields.
    ///
    /// # Errors
    /// [`ClientError::Setup`] naming the field.
    pub(crate) fn validate(&self) -> Result<(), ClientError> {
        if self.endpoints.is_empty() {
            return Err(ClientError::setup("endpoints: at least one is needed"));
        }
        if self.timeout.is_zero() {
            return Err(ClientError::setup("timeout: it must be longer than nothing"));
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            let why = format!("connections: 1 to {CONNECTIONS_MAX} are allowed");
            return Err(ClientError::setup(why));
        }
        Ok(())
    }
}

/// What one call wants differently from the client's defaults.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// Total over all attempts and endpoints; above [`TIMEOUT_MAX`] it counts as that.
    pub timeout: Option<Duration>,
    /// The promise of a read. The server meets it or refuses.
    pub level: Option<Level>,
    /// The keyspace, for requests that do not name one themselves.
    pub keyspace: Option<String>,
    /// Writes to an eventual keyspace, where the request does not say it: how many replicas have to have
    /// them durably.
    pub ack: Option<Ack>,
    /// Eventual keyspaces: a read remembers the causal token of its key, and a write of a key that names
    /// none is sent with the remembered one, so that it supersedes what was read. The token that a write is
    /// answered with is remembered in its place. Without it such a write supersedes what the node holds
    /// that takes it, also what the caller never read.
    pub remember: Option<bool>,
    /// What is done with a write to an eventual keyspace once it may have been applied.
    pub retry: Retry,
}

/// How often a write to an eventual keyspace may execute. Only the node that first took such a write can tell
/// a copy of it from a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// Once: it is repeated at that node alone, and the outcome is unknown when that node stays away.
    #[default]
    Exact,
    /// Once or more: it is sent to other nodes as another write, which supersedes nothing. It may add a
    /// value, it never replaces one.
    AtLeastOnce,
}
