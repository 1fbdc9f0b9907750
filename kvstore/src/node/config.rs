//! What a node is told at its start.

use proto::{ClusterId, NodeId};

/// Configuration of the node core.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This node's id, one of `members`.
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
    /// Bytes of the in-memory layer at which a checkpoint begins. Small: many short checkpoints;
    /// large: more memory and a longer replay after a crash.
    pub checkpoint_layer_bytes: usize,
}

/// Default of [`NodeConfig::checkpoint_layer_bytes`].
pub const CHECKPOINT_LAYER_BYTES: usize = 64 * 1024 * 1024;
