//! What replicas leave for their node to do.

use std::any::Any;

use proto::v1::Level;
use proto::{Failure, GroupId, NodeId, Revision, log, peer, v1};

use super::Found;
use crate::node::{RequestId, Ticket};

/// The answer of a replica, before the node adds what only the node knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// A read was served.
    Read {
        /// What it found.
        found: Found,
        /// The level that was met.
        level: Level,
        /// The revision of the keyspace at which the answer holds.
        revision: Revision,
        /// The members whose answers a quorum read of an eventual keyspace joined; else none.
        answered_by: Vec<NodeId>,
    },
    /// A write was executed, now or before.
    Write {
        /// What it came to.
        outcome: log::WriteOutcome,
        /// Voters known to hold it durably.
        acknowledged_by: Vec<NodeId>,
        /// What clients of eventual keyspaces learn of it.
        written: Option<v1::Written>,
    },
}

/// A state that another one has replaced.
#[derive(Debug)]
pub struct Retired {
    /// Whose state it was.
    pub group: GroupId,
    /// Its directory; empty when it has none.
    pub dir: String,
    /// The state itself, which may take long to drop.
    pub state: Box<dyn Any + Send>,
}

/// Collects the effects of one poll over all groups of a node.
///
/// All frames of one poll go into one append under one ticket, so that writes of all groups share
/// one fdatasync.
#[derive(Debug)]
pub struct Outbox {
    /// The ticket of the append that the frames of this poll will form.
    pub ticket: Ticket,
    /// Messages to peers, in order.
    pub sends: Vec<(NodeId, peer::PeerMessage)>,
    /// Frames for the log, in order.
    pub frames: Vec<log::Frame>,
    /// Something waits for the frames to be durable.
    pub sync: bool,
    /// Answers to clients of this node.
    pub answers: Vec<(RequestId, Result<Answered, Failure>)>,
    /// Followers that need a snapshot, with the message of their leader that goes with it.
    pub offers: Vec<(GroupId, NodeId, peer::RaftMessage)>,
    /// Damaged nodes that may be given an export of what is applied now, by their names for it.
    pub repairs: Vec<(GroupId, NodeId, u64)>,
    /// States that have been replaced; they are no longer needed once the frames are durable.
    pub retired: Vec<Retired>,
    /// Bytes of answers that this poll may still produce.
    pub reply_bytes_left: usize,
    /// Something is left that could go on at once: poll again soon.
    pub again: bool,
    /// A read found that the state store of a group has failed.
    pub store_lost: bool,
    /// The node cannot go on: because of the state of this group, for this reason.
    pub fatal: Option<(GroupId, String)>,
}

/// Bytes of answers that one poll produces before inputs get their turn again. One answer may
/// exceed it.
pub const POLL_REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Outbox {
    /// An empty outbox whose frames will be appended under `ticket`.
    #[must_use]
    pub fn new(ticket: Ticket) -> Self {
        Self {
            ticket,
            sends: Vec::new(),
            frames: Vec::new(),
            sync: false,
            answers: Vec::new(),
            offers: Vec::new(),
            repairs: Vec::new(),
            retired: Vec::new(),
            reply_bytes_left: POLL_REPLY_BYTES_MAX,
            again: false,
            store_lost: false,
            fatal: None,
        }
    }

    /// Sends `body` to the replica of `group` on `to`.
    pub fn send(&mut self, to: NodeId, group: GroupId, body: peer::peer_message::Body) {
        self.sends.push((to, peer::PeerMessage { group: group.get(), body: Some(body) }));
    }

    /// Appends a frame of `group`.
    pub fn append(&mut self, group: GroupId, body: log::frame::Body) {
        self.frames.push(log::Frame { group: group.get(), body: Some(body) });
    }

    /// Answers a client of this node.
    pub fn answer(&mut self, id: RequestId, answer: Result<Answered, Failure>) {
        self.answers.push((id, answer));
    }

    /// Records why the node cannot go on: the state of `group` has failed. The first reason stays.
    pub fn fail(&mut self, group: GroupId, why: String) {
        self.fatal.get_or_insert((group, why));
    }
}
