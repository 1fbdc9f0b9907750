//! What goes into a node and what comes out of it, as data.

use std::any::Any;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use proto::v1;
use proto::{Failure, GroupId, LogIndex, NodeId, log, peer};
use storage::export::{ExportFile, ExportHeader};
use storage::mvcc::{CheckpointJob, ExportJob, Machine, RenewJob};
use storage::state::{StateError, StateStore};

use super::catalogue::Catalogue;
use crate::replication::EventualOptions;
use crate::replication::gossip::{ActorCounts, Clocks};
use crate::secrets::{Fingerprint, Secret, SecretId};

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
        /// What only writes to eventual keyspaces ask for.
        options: EventualOptions,
    },
    /// Reads one page of the versions of a key.
    History(v1::HistoryRequest),
    /// Reads all keyspaces.
    Keyspaces,
    /// Reads the catalogue of group 0.
    Catalogue,
    /// Proposes a command of group 0.
    Manage(log::Command),
    /// Wants an export of everything that is committed when it is asked.
    Export,
    /// Wants a backup: of everything that is committed when it is asked, and of what this node and those that it can
    /// reach have of eventual keyspaces.
    Backup,
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
        /// What clients of eventual keyspaces learn of it.
        written: Option<v1::Written>,
    },
    /// Answers [`Request::History`].
    History(v1::HistoryReply),
    /// Answers [`Request::Keyspaces`].
    Keyspaces(Vec<v1::KeyspaceView>),
    /// Answers [`Request::Catalogue`].
    Catalogue(Box<Catalogue>),
    /// Answers [`Request::Manage`] with the number of the change or the id of the keyspace.
    Managed(u64),
    /// Answers [`Request::Export`]. The file stays for a while after it was read last.
    Export(ExportFile),
    /// Answers [`Request::Backup`]. The files stay as that of an export does.
    Backup(Box<Backup>),
}

/// What a backup is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// What comes before the exports; `None` where there is no eventual keyspace, and the one of the data group is all.
    pub head: Option<log::BackupHead>,
    /// The exports, ascending by group.
    pub files: Vec<ExportFile>,
}

/// Names a checkpoint within one start of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointId(pub u64);

/// What an export is made of.
#[derive(Debug)]
pub enum ExportSource {
    /// Group 0: one record.
    Catalogue(log::CatalogueState),
    /// A data group, or the node's own log: what its store holds.
    Machine {
        /// Reads it record by record.
        job: ExportJob,
        /// The store to read.
        store: Arc<dyn StateStore>,
    },
}

/// The state that was built from a snapshot.
#[derive(Debug)]
pub struct Built {
    /// The export, now one of this node's own.
    pub file: ExportFile,
    /// The state.
    pub state: BuiltState,
}

/// Why no state was built from a snapshot.
#[derive(Debug)]
pub struct NotBuilt {
    /// What could not be written, verified or built.
    pub why: String,
    /// The export, where that is whole.
    pub file: Option<ExportFile>,
}

/// A state, by the kind of its group.
#[derive(Debug)]
pub enum BuiltState {
    /// Group 0.
    Catalogue(Box<Catalogue>),
    /// A data group.
    Machine(Box<Machine>),
}

/// Why an export was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportFailed {
    /// The state store failed, or is not what its checkpoint has counted: no later export of it can
    /// succeed, and it has to be built anew.
    #[error("the state store cannot be exported: {0}")]
    Store(StateError),
    /// It was given up, or its file cannot be written. A later one may succeed.
    #[error("{0}")]
    File(String),
}

/// Why a state store was not renewed. The node goes on with the one that it has.
#[derive(Debug, thiserror::Error)]
pub enum RenewFailed {
    /// The state store failed, or holds what is damaged: it has to be built anew.
    #[error("the state store cannot be copied: {0}")]
    Store(StateError),
    /// It was given up, or the copy cannot be written. A later one may succeed.
    #[error("{0}")]
    Copy(String),
}

/// Everything that can happen to a node.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are messages, and a box would cost each one")]
pub enum Input {
    /// One tick has passed.
    Tick,
    /// It is that late. Comes before the first request, and then before every tick and what came with it.
    Time {
        /// By a clock that never jumps, in microseconds since any moment.
        monotonic_us: u64,
        /// By the wall clock, in microseconds since 1970.
        wall_us: u64,
    },
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
    /// The checkpoint job has finished; the state store holds everything up to its index.
    CheckpointDone(CheckpointId),
    /// The checkpoint job failed: its store is of no use any more. What it would have written stays in
    /// memory, and the next start rebuilds the store.
    CheckpointFailed(CheckpointId),
    /// An export is durable, or could not be written.
    Exported {
        /// Of which group.
        group: GroupId,
        /// The file, or what went wrong.
        result: Result<ExportFile, ExportFailed>,
    },
    /// The copy of a store is durable, or there will be none.
    Renewed {
        /// Of which group.
        group: GroupId,
        /// Name of its directory.
        state_dir: String,
        /// The copy, or what went wrong.
        result: Result<Arc<dyn StateStore>, RenewFailed>,
    },
    /// An export of this node's own was [checked](Effect::CheckExport), and is not what it was.
    ExportDamaged {
        /// Of which group.
        group: GroupId,
        /// Its index.
        index: LogIndex,
    },
    /// A chunk of a snapshot is written.
    ChunkWritten {
        /// Of which group.
        group: GroupId,
        /// Index of the snapshot.
        index: LogIndex,
        /// Where the chunk begins.
        offset: u64,
    },
    /// A snapshot that was fetched is verified and durable, and its state is built.
    Built {
        /// Of which group.
        group: GroupId,
        /// Index of the snapshot.
        index: LogIndex,
        /// What was built, or why there is nothing.
        result: Result<Built, Box<NotBuilt>>,
    },
    /// A secret was [written](Effect::StoreSecret), or could not be.
    SecretStored {
        /// Its name.
        id: SecretId,
        /// Which one of that name.
        fingerprint: Fingerprint,
        /// It is durable. If not, it will be written again.
        written: bool,
    },
    /// The log has no room on its disk, or has room again.
    LogFull(bool),
    /// A node that was not a member when it was added says that it is `name`, with this id.
    Joining {
        /// Its name, proven by its certificate.
        name: String,
        /// The id it minted.
        node: NodeId,
    },
    /// Hand leadership of every group to this node.
    MoveLeader(NodeId),
    /// The link to a peer is up.
    LinkUp(NodeId),
    /// The link to a peer is gone; what was sent may be lost.
    LinkDown(NodeId),
    /// Stand for election at once in every group: the first member of a new cluster does.
    Campaign,
    /// Stop politely: refuse new requests and hand over leadership.
    Stop,
}

/// A copy of a store that is to be made.
#[derive(Debug)]
pub struct RenewOrder {
    /// Whose state it holds.
    pub group: GroupId,
    /// Copies it item by item.
    pub job: RenewJob,
    /// The store to copy.
    pub store: Arc<dyn StateStore>,
    /// Name of the new one's directory below `state/`; unused so far.
    pub state_dir: String,
    /// Without this much room on the disk it is not begun.
    pub room_bytes: u64,
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
    /// Run this checkpoint beside everything else, then report [`Input::CheckpointDone`] or
    /// [`Input::CheckpointFailed`].
    Checkpoint {
        /// Names it in the report.
        id: CheckpointId,
        /// What to do.
        job: CheckpointJob,
        /// On this store.
        store: Arc<dyn StateStore>,
    },
    /// Write this export beside everything else, then report [`Input::Exported`].
    Export {
        /// What stands at the head of the file.
        header: ExportHeader,
        /// What it holds.
        source: ExportSource,
    },
    /// Give up the export of a group with a store that is being written or about to be, and report it as
    /// failed.
    AbortExport(GroupId),
    /// Copy a group's store into a new one beside everything else, then report
    /// [`Input::Renewed`].
    Renew(RenewOrder),
    /// Give up the renewal of a group's store that runs or is about to, and report it as failed.
    AbortRenewal(GroupId),
    /// Read a chunk of an export and send it. Where that fails, send that the export is gone, and check
    /// it as [`Effect::CheckExport`] says.
    ServeChunk {
        /// To whom.
        to: NodeId,
        /// From which file.
        file: ExportFile,
        /// From where on.
        offset: u64,
    },
    /// Read this export whole. Where it cannot be read or does not verify, report
    /// [`Input::ExportDamaged`].
    CheckExport(ExportFile),
    /// Begin to receive an export of this length; what was received of another one is dropped.
    Receive {
        /// Of which group.
        group: GroupId,
        /// Its index.
        index: LogIndex,
        /// Its length.
        bytes: u64,
        /// Its SHA-256.
        sha256: [u8; 32],
    },
    /// Write a chunk of what is received, then report [`Input::ChunkWritten`].
    WriteChunk {
        /// Of which group.
        group: GroupId,
        /// Index of the snapshot.
        index: LogIndex,
        /// Where it begins.
        offset: u64,
        /// What it holds.
        data: Bytes,
    },
    /// All chunks are written: verify the export, make it durable among the others, build the state
    /// from it in this directory, then report [`Input::Built`].
    Build {
        /// Of which group.
        group: GroupId,
        /// Index of the snapshot.
        index: LogIndex,
        /// Name below `state/`; unused so far.
        state_dir: String,
    },
    /// Drop what was received of this group.
    Discard(GroupId),
    /// Remove an export that nobody needs.
    RemoveExport(PathBuf),
    /// Drop this state and remove its directory below `state/`, if it has one; nobody needs them.
    RemoveState {
        /// Name of the directory; empty when it has none.
        name: String,
        /// The state, which may take long to drop.
        state: Option<Box<dyn Any + Send>>,
    },
    /// The store in this directory has failed: the next start must not trust it.
    SuspectState(String),
    /// Write this secret durably beside the log, in place of one of its name, then report
    /// [`Input::SecretStored`]. In the order of the effects where several have one name.
    StoreSecret(Secret),
    /// Keep links to these nodes, and refuse those that were removed.
    Members {
        /// Members with their addresses.
        members: Vec<v1::Member>,
        /// Ids that never come back.
        removed: BTreeSet<NodeId>,
    },
    /// This replica cannot go on, for a reason of its own (its state store failed). The process
    /// must end without acknowledging anything further.
    Fatal(String),
}

/// What a node knows about itself, for status, health and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Everything committed at start is applied and one read index was confirmed since.
    pub ready: bool,
    /// Its role in the data group.
    pub role: v1::Role,
    /// The leader of the data group, as far as this node knows.
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
    /// Members as the catalogue knows them, by name.
    pub members: Vec<v1::Member>,
    /// Voters of the data group.
    pub voters: Vec<NodeId>,
    /// Number of the newest membership change, and whether it is carried out.
    pub change: (u64, bool),
    /// The log has no room.
    pub read_only: bool,
    /// Log or memory has outgrown its bound: as leader, this node refuses writes until an export or a
    /// checkpoint is done.
    pub overloaded: bool,
    /// Index of the newest durable export of the data group.
    pub exported: u64,
    /// A snapshot is being fetched or built.
    pub installing: bool,
    /// Bytes of log behind the newest export.
    pub log_bytes: u64,
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
    /// Bytes of the state stores.
    pub store_bytes: u64,
    /// Bytes of the in-memory layers over the state stores.
    pub layer_bytes: u64,
    /// Entries each peer lacks, as the leader of the data group knows; empty elsewhere.
    pub lag: Vec<(NodeId, u64)>,
    /// The replica of the eventual keyspaces, once it serves.
    pub gossip: Option<GossipSummary>,
    /// The last write to eventual keyspaces that is known here of each other member since its start.
    pub last_known: Vec<(NodeId, gossip::Dot)>,
}

impl Summary {
    /// The name of a member; of one that is not known its id.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> String {
        let member = self.members.iter().find(|member| member.id == node.get());
        member.map_or_else(|| node.to_string(), |member| member.name.clone())
    }
}

/// What a replica of the eventual keyspaces knows about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GossipSummary {
    /// It answers no reads yet.
    pub recovering: bool,
    /// What it knows of the members' clocks.
    pub clocks: Clocks,
    /// What has happened since the start.
    pub counts: gossip::group::Counts,
    /// How many actors are known here.
    pub actors: ActorCounts,
    /// Writes that were taken on this disk and that no other node is known to have.
    pub unreplicated: u64,
    /// How far it agrees with the others, up to a second old.
    pub view: Arc<gossip::group::View>,
    /// Who seems to be up.
    pub liveness: LivenessSummary,
}

/// Who seems to be up, as this node found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LivenessSummary {
    /// The other members.
    pub members: Vec<(NodeId, gossip::liveness::Vitality)>,
    /// What has happened since the start.
    pub counts: gossip::liveness::LivenessCounts,
    /// How often a member was found to be down since the start.
    pub downs: u64,
}
