//! What replicas leave for their node to do.

use proto::v1::Level;
use proto::{Failure, GroupId, NodeId, Revision, log, peer};

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
    },
    /// A write was executed, now or before.
    Write {
        /// What it came to.
        outcome: log::WriteOutcome,
        /// Voters known to hold it durably.
        acknowledged_by: Vec<NodeId>,
    },
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
    /// The node cannot go on.
    pub fatal: Option<String>,
}

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

    /// Records why the node cannot go on; the first reason stays.
    pub fn fail(&mut self, why: String) {
        self.fatal.get_or_insert(why);
    }
}
