//! What a node is told at its start.

use proto::{ClusterId, NodeId};

use crate::secrets::Entropy;

/// Configuration of the node core.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This node's id.
    pub id: NodeId,
    /// This node's name.
    pub name: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// Address at which clients reach this node; published to the others.
    pub client_address: String,
    /// Address at which peers reach this node.
    pub peer_address: String,
    /// Random, new at every start of the process: answers to an earlier life are told apart by it.
    pub boot: u64,
    /// Seeds the election timeouts.
    pub seed: u64,
    /// What secrets of the cluster are drawn from.
    pub entropy: Entropy,
    /// Bytes of an in-memory layer at which a checkpoint begins. Small: many short checkpoints;
    /// large: more memory and a longer replay after a crash.
    pub checkpoint_layer_bytes: usize,
    /// Data epoch of the cluster: rises when it is restored or recovered.
    pub epoch: u64,
    /// Bytes of log behind the last export at which a new one begins, but not before the log is twice
    /// as long as the state. Small: more writing; large: a longer start and more disk.
    pub export_log_bytes: u64,
    /// Bytes of log there are behind the last export at the start.
    pub log_bytes: u64,
    /// How far log and memory may grow.
    pub bounds: NodeBounds,
}

/// How far what a node holds may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeBounds {
    /// Bytes in all memory layers at which an export that delays the next checkpoint is given up, unless
    /// the log is too long for that. At twice as much the node refuses writes of clients as leader, at
    /// three times it takes no entries. Small: a large state is not exported under load before the log
    /// is long; large: more memory.
    pub layer_bytes: usize,
    /// Bytes of log behind the last export beyond which an export is not given up any more. At twice as
    /// much the node refuses writes of clients as leader, at three times it takes no entries. Small:
    /// writes are refused for a while under sustained load; large: more disk, and a longer start.
    pub log_bytes: u64,
    /// Bytes written while checkpoints run beyond which the node refuses writes of clients as leader:
    /// they outrun the checkpoint, and up to three layers are in memory. Small: a bulk load waits for
    /// checkpoints; large: more memory.
    pub ahead_bytes: usize,
    /// Bytes of applied entries of a group that stay in memory for followers that are a little behind.
    pub log_keep_bytes: u64,
    /// Bytes of applied entries of a group that stay in memory while a follower that was heard lately
    /// needs them. One that is further behind gets a snapshot.
    pub log_lagging_bytes: u64,
    /// How many times as many bytes as an export a fresh copy of the state store is taken to have, until there
    /// was one. Small: a store may be copied for nothing; large: more disk.
    pub copy_times: u64,
    /// The state store is renewed when it takes more than this many times what a fresh copy would, and
    /// `store_slack_bytes`. Small: it is copied often; large: more disk.
    pub store_times: u64,
    /// Bytes that the state store may take beyond that. Small: a store of little is copied often.
    pub store_slack_bytes: u64,
    /// Most bytes of items in one entry of the node's own log, unless a single item has more; what is put
    /// together and is longer takes several entries. At most half of what a frame of the log holds. Small:
    /// more entries; large: more memory at once.
    pub own_entry_bytes: usize,
}

impl Default for NodeBounds {
    fn default() -> Self {
        Self {
            layer_bytes: 256 * 1024 * 1024,
            log_bytes: 3 * EXPORT_LOG_BYTES_MAX / 2,
            ahead_bytes: 64 * 1024 * 1024,
            log_keep_bytes: 16 * 1024 * 1024,
            log_lagging_bytes: 256 * 1024 * 1024,
            copy_times: COPY_TIMES,
            store_times: STORE_TIMES,
            store_slack_bytes: STORE_SLACK_BYTES,
            own_entry_bytes: OWN_ENTRY_BYTES,
        }
    }
}

/// Default of [`NodeBounds::copy_times`]: values of some KiB are cut to chunks, of which a page of sled holds few.
const COPY_TIMES: u64 = 2;
/// Default of [`NodeBounds::store_times`]. A segment of sled's file is cleaned when half of it is dead: so twice
/// a fresh copy is usual.
const STORE_TIMES: u64 = 2;
/// Default of [`NodeBounds::store_slack_bytes`]: a checkpoint of a full layer, which may come to be dead at
/// once, and some room.
const STORE_SLACK_BYTES: u64 = 64 * 1024 * 1024;

/// Default of [`NodeBounds::own_entry_bytes`].
const OWN_ENTRY_BYTES: usize = 2 * 1024 * 1024;

/// Default of [`NodeConfig::checkpoint_layer_bytes`].
pub const CHECKPOINT_LAYER_BYTES: usize = 48 * 1024 * 1024;

/// Default of [`NodeConfig::export_log_bytes`].
pub const EXPORT_LOG_BYTES: u64 = 256 * 1024 * 1024;
/// However large the state is, an export begins when the log behind the last one is this long: it
/// bounds how long a start takes.
pub const EXPORT_LOG_BYTES_MAX: u64 = 1024 * 1024 * 1024;
