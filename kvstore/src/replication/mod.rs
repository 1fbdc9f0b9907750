//! The seam behind which consistency is pluggable.
//!
//! The node routes a request to the replica group of its keyspace and speaks to it through
//! [`Replication`]; what a group does to keep its promise is its own matter. A replica is
//! synchronous: it takes inputs and leaves what it wants done in an [`Outbox`].

pub mod gossip;
mod outbox;
pub mod own_log;
pub mod raft;

pub use outbox::{Answered, Outbox, POLL_REPLY_BYTES_MAX, Retired};

use bytes::Bytes;
use proto::v1::{self, Level};
use proto::{Failure, KeyspaceId, LogIndex, NodeId, Revision, log, peer};
use storage::mvcc::RangeQuery;

use crate::consistency::ReadPlan;
use crate::node::{RequestId, Ticket, Ticks};

/// Who waits for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client of this node.
    Local(RequestId),
    /// A client of another node, which forwarded the write.
    Remote {
        /// The forwarding node.
        node: NodeId,
        /// Its name for the write.
        id: u64,
        /// Its boot, so that an answer to an earlier life is not taken for this one.
        boot: u64,
    },
    /// The node itself; nobody waits.
    Internal,
}

/// A write on its way into a group.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Who waits for it.
    pub origin: Origin,
    /// What to replicate.
    pub command: log::Command,
    /// What only writes to eventual keyspaces ask for.
    pub options: EventualOptions,
}

/// What only writes to eventual keyspaces ask for. The others refuse what is not the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventualOptions {
    /// The token of what was read and is superseded; empty: what the replica has.
    pub causal: Bytes,
    /// How many members have it durably before it is answered.
    pub ack: v1::Ack,
    /// Milliseconds after which the value is hidden; 0: never.
    pub ttl_ms: u64,
    /// It supersedes nothing.
    pub beside: bool,
}

impl EventualOptions {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is read.
#[derive(Clone, Debug)]
pub enum Query {
    /// One key, at a revision or the newest.
    Get {
        /// The key.
        key: Bytes,
        /// `None`: the newest.
        at: Option<Revision>,
    },
    /// The siblings of one key of an eventual keyspace, behind the one that was shown last.
    Siblings {
        /// The key.
        key: Bytes,
        /// The sibling.
        after: v1::Dot,
    },
    /// A page of a range.
    Range(RangeQuery),
    /// A page of the versions of one key, newest first.
    History {
        /// The key.
        key: Bytes,
        /// Only versions older than this.
        before: Option<Revision>,
        /// At most this many; 0 means the largest page.
        limit: usize,
        /// Leaves the values out.
        keys_only: bool,
    },
    /// Whether there is such a keyspace.
    Resolve,
    /// All open keyspaces and what they hold.
    Keyspaces,
    /// Group 0: everything.
    Catalogue,
}

/// A read on its way into a group.
#[derive(Clone, Debug)]
pub struct Read {
    /// Names it in the answer.
    pub id: RequestId,
    /// Name of the keyspace, looked up when the read is served: only then is it certain that this
    /// replica knows a keyspace that was created before the read.
    pub keyspace: String,
    /// What is read.
    pub query: Query,
    /// The level that the answer proves.
    pub level: Level,
    /// What has to happen first.
    pub plan: ReadPlan,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Answers [`Query::Get`].
    Item(Option<v1::Item>),
    /// Answers [`Query::Get`] and [`Query::Siblings`] in an eventual keyspace; without a proof.
    Siblings(Box<v1::GetReply>),
    /// Answers [`Query::Range`] in an eventual keyspace; without a proof.
    Entries(Box<v1::RangeReply>),
    /// Answers [`Query::Range`].
    Page(storage::mvcc::RangePage),
    /// Answers [`Query::History`].
    History(storage::mvcc::HistoryPage),
    /// Answers [`Query::Resolve`].
    Keyspace(KeyspaceId),
    /// Answers [`Query::Keyspaces`].
    Keyspaces(Vec<v1::KeyspaceView>),
    /// Answers [`Query::Catalogue`].
    Catalogue(Box<crate::node::Catalogue>),
}

impl Found {
    /// Memory that the answer takes, roughly.
    fn bytes(&self) -> usize {
        const EACH: usize = 128;
        let item = |item: &v1::Item| item.key.len() + item.value.len() + EACH;
        let sibling = |sibling: &v1::Sibling| sibling.value.len() + EACH;
        match self {
            Self::Siblings(reply) => {
                reply.siblings.iter().map(sibling).sum::<usize>() + reply.context.len() + EACH
            }
            Self::Entries(reply) => {
                let entry = |entry: &v1::Entry| {
                    entry.siblings.iter().map(sibling).sum::<usize>() + entry.key.len() + EACH
                };
                reply.entries.iter().map(entry).sum::<usize>() + PAGE_BYTES_MIN
            }
            Self::Item(found) => found.as_ref().map_or(0, item) + EACH,
            // Also what it took to find out that there is little to answer.
            Self::Page(page) => page.items.iter().map(item).sum::<usize>() + PAGE_BYTES_MIN,
            Self::History(page) => {
                let items = page.versions.iter().filter_map(|version| version.item.as_ref());
                items.map(item).sum::<usize>() + PAGE_BYTES_MIN
            }
            Self::Keyspace(_) => EACH,
            Self::Catalogue(_) | Self::Keyspaces(_) => PAGE_BYTES_MIN,
        }
    }
}

/// What a page counts at least.
const PAGE_BYTES_MIN: usize = 64 * 1024;

/// One replica of one group, as its node sees it.
pub trait Replication {
    /// One tick has passed.
    fn tick(&mut self, now: Ticks, out: &mut Outbox);

    /// A peer's replica of this group said something.
    fn receive(&mut self, from: NodeId, body: peer::peer_message::Body, out: &mut Outbox);

    /// Takes a write. It is answered through the outbox, now or later.
    fn write(&mut self, submission: Submission, out: &mut Outbox);

    /// Takes a read. It is answered through the outbox, now or later.
    fn read(&mut self, read: Read, out: &mut Outbox);

    /// The client no longer waits. A write that was handed over may still happen. Where the replica knows more of what
    /// became of it than that no answer came, it says so.
    fn forget(&mut self, id: RequestId) -> Option<Failure>;

    /// The link to a peer came up or went down.
    fn link(&mut self, node: NodeId, up: bool, out: &mut Outbox);

    /// The log is durable up to and including this append.
    fn durable(&mut self, ticket: Ticket);

    /// Carries out what the inputs since the last poll made possible.
    fn poll(&mut self, out: &mut Outbox);

    /// The last position of the group's order whose effects this replica shows.
    fn applied(&self) -> LogIndex;
}

/// The error for a replica that knows no leader to hand a request to.
pub(crate) fn no_leader(voters: usize, reachable: usize, node: &str) -> Failure {
    use proto::Code;
    let majority = voters / 2 + 1;
    let failure = if reachable < majority {
        let why = format!("{reachable} of {voters} voters reachable from {node}");
        Failure::new(Code::NoQuorum, "", why)
    } else {
        let why = format!(
            "{node} knows no leader at the moment; {reachable} of {voters} voters reachable"
        );
        Failure::new(Code::NoLeader, "", why)
    };
    failure.retry_after(NO_LEADER_RETRY)
}

/// What a client waits before it asks again where there was no leader: a heartbeat interval.
const NO_LEADER_RETRY: std::time::Duration = std::time::Duration::from_millis(100);
