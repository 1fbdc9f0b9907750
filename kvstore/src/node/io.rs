//! What goes into a node and what comes out of it, as data.

use proto::v1;
use proto::{Failure, LogIndex, NodeId, log, peer};
use storage::mvcc::CheckpointJob;

/// Logical time: a tick is [`consensus::config::TICK`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticks(pub u64);

/// Names one request of a client within one start of the node; chosen by the driver, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names one append to the write-ahead log; rises by one with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a client may ask a node. Sizes were checked by [`proto::limits`] before.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Reads one key.
    Get(v1::GetRequest),
    /// Reads one page of a range.
    Range(v1::RangeRequest),
    /// Executes a write transaction. The node fills in the id of the keyspace.
    Write {
        /// Name of the keyspace.
        keyspace: String,
        /// The transaction; its `keyspace` field is ignored.
        write: log::Write,
    },
}

/// The answer to a [`Request`], in the same order of variants.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Answers [`Request::Get`].
    Get(v1::GetReply),
    /// Answers [`Request::Range`].
    Range(v1::RangeReply),
    /// Answers [`Request::Write`].
    Write {
        /// What the transaction came to; `refused` is 0 here, a refusal is a [`Failure`].
        outcome: log::WriteOutcome,
        /// What the answer proves.
        proof: v1::Proof,
    },
}

/// Everything that can happen to a node.
#[derive(Debug)]
pub enum Input {
    /// One tick has passed.
    Tick,
    /// A peer said something. `from` was proven by its certificate.
    Peer {
        /// Who said it.
        from: NodeId,
        /// What it said.
        message: peer::PeerMessage,
    },
    /// A client asks something.
    Client {
        /// Names the request in the reply.
        id: RequestId,
        /// What it asks.
        request: Request,
        /// How long it waits, from now. The reply comes by then in any case.
        patience: Ticks,
    },
    /// The log is durable up to and including this append.
    WalDurable(Ticket),
    /// The checkpoint job for this index has finished; the state store holds everything up to it.
    CheckpointDone(LogIndex),
    /// The link to a peer is up.
    LinkUp(NodeId),
    /// The link to a peer is gone; what was sent may be lost.
    LinkDown(NodeId),
    /// Stand for election at once in every group: the first member of a new cluster does.
    Campaign,
    /// Stop politely: refuse new requests and hand over leadership.
    Stop,
}

/// Everything a node wants done. Effects of one poll are carried out in their order.
#[derive(Debug)]
pub enum Effect {
    /// Send to a peer; may be lost, duplicated or reordered.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: peer::PeerMessage,
    },
    /// Append to the log, then report [`Input::WalDurable`] once it is synced.
    WalAppend {
        /// Names the append.
        ticket: Ticket,
        /// What to append, in order.
        frames: Vec<log::Frame>,
        /// False: nothing waits for it; it may lie unsynced until a later append is synced, and its
        /// ticket need not be reported.
        sync: bool,
    },
    /// Answer a client. Comes exactly once per request.
    Reply {
        /// The request.
        id: RequestId,
        /// The answer.
        reply: Result<Reply, Failure>,
    },
    /// Run this checkpoint beside everything else, then report [`Input::CheckpointDone`].
    Checkpoint(CheckpointJob),
    /// This replica cannot go on, for a reason of its own (its state store failed). The process
    /// must end without acknowledging anything further.
    Fatal(String),
}

/// What a node knows about itself, for status, health and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Everything committed at start is applied and one read index was confirmed since.
    pub ready: bool,
    /// This node leads the data group.
    pub role: v1::Role,
    /// The data group has a leader that this node knows.
    pub leader: Option<NodeId>,
    /// Client address of that leader.
    pub leader_address: Option<String>,
    /// Term of the data group.
    pub term: u64,
    /// Committed index of the data group.
    pub commit: u64,
    /// Applied index of the data group.
    pub applied: u64,
    /// Revision of keyspace `default`.
    pub revision: u64,
    /// Members as the catalogue knows them, by id.
    pub members: Vec<v1::Member>,
    /// Voters of the data group.
    pub voters: Vec<NodeId>,
    /// Groups that this node leads.
    pub groups_led: u32,
    /// Times a group of this node saw a new leader.
    pub leader_changes: u64,
    /// Writes this node proposed and has not answered.
    pub proposals_pending: u64,
    /// Writes this node proposed that were committed.
    pub proposals_committed: u64,
    /// Writes this node proposed or was asked to propose that failed.
    pub proposals_failed: u64,
    /// Reads waiting for a confirmed index.
    pub reads_pending: u64,
    /// Bytes of the state store.
    pub store_bytes: u64,
    /// Bytes of the in-memory layer over the state store.
    pub layer_bytes: u64,
    /// Entries each peer lacks, as the leader of the data group knows; empty elsewhere.
    pub lag: Vec<(NodeId, u64)>,
}
