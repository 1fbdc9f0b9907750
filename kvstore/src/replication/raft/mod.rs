//! A replica of a Raft group: consensus drives a state machine.
//!
//! [`RaftReplica`] owns the order in which things happen (`poll`): start read rounds, drain the
//! group, send what may leave, put entries and hard state into the append of this poll, apply what
//! is committed, answer whom it concerns, release reads whose index is applied. What must wait for
//! the disk waits inside [`consensus::Group`] until [`Replication::durable`].

mod carry;
mod forwards;
mod keeping;
mod proposals;
mod reading;
mod reads;
mod state_machine;
mod writes;

pub(crate) use carry::command_of;
pub(crate) use state_machine::no_keyspace;
pub use state_machine::{StateMachine, Unread};

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use consensus::{Group, GroupStatus, ReadyNumber, Role};
use proto::peer::peer_message::Body;
use proto::{Applied, Code, Failure, GroupId, LogIndex, NodeId, Term};

use self::forwards::Forwards;
use self::proposals::Proposals;
use self::reads::{Reader, Reads};
use self::writes::{NOBODY, asks_nothing_more};
use super::{Origin, Outbox, Read, Replication, Submission, no_leader};
use crate::consistency::ReadPlan;
use crate::node::{RequestId, Ticket, Ticks};

/// Who this replica is to its peers and in its errors.
#[derive(Debug)]
pub struct ReplicaIdentity {
    /// The node's id.
    pub node: NodeId,
    /// The node's name.
    pub name: String,
    /// Random, new at every start.
    pub boot: u64,
}

/// One replica of one Raft group.
#[derive(Debug)]
pub struct RaftReplica<S> {
    id: GroupId,
    identity: Arc<ReplicaIdentity>,
    group: Group,
    machine: S,
    proposals: Proposals,
    forwards: Forwards,
    reads: Reads,
    links: BTreeSet<NodeId>,
    /// Readies whose frames wait for the disk, with the append that holds them.
    unsynced: VecDeque<(Ticket, ReadyNumber)>,
    now: Ticks,
    /// Leader and term as of the last poll.
    seen: (Option<NodeId>, Term),
    leader_changes: u64,
    started: bool,
    /// Reads whose index is applied, in order.
    released: VecDeque<Read>,
    /// The log takes nothing: proposals are refused.
    read_only: bool,
    /// Nodes whose disks are full, as they said lately.
    full: BTreeSet<NodeId>,
    /// Log or memory has outgrown its bound: writes of clients are refused.
    overloaded: bool,
    /// The directory of the state below `state/`; empty when it keeps none.
    state_dir: String,
    /// A snapshot that the group is about to switch to, and its directory.
    staged: Option<(S, String)>,
}

impl<S: StateMachine> RaftReplica<S> {
    /// A replica whose machine has applied what `group` believes it has.
    ///
    /// # Panics
    /// When machine and group disagree on the applied index.
    pub fn new(
        id: GroupId,
        identity: Arc<ReplicaIdentity>,
        group: Group,
        machine: S,
        state_dir: String,
    ) -> Self {
        let status = group.status();
        assert_eq!(status.applied, machine.applied(), "group {id} and its state disagree");
        let mut reads = Reads::default();
        reads.wait(Reader::Startup);
        Self {
            id,
            identity,
            seen: (status.leader, status.term),
            group,
            machine,
            proposals: Proposals::default(),
            forwards: Forwards::default(),
            reads,
            links: BTreeSet::new(),
            unsynced: VecDeque::new(),
            now: Ticks(0),
            leader_changes: 0,
            started: false,
            released: VecDeque::new(),
            read_only: false,
            full: BTreeSet::new(),
            overloaded: false,
            state_dir,
            staged: None,
        }
    }

    /// The state machine.
    pub fn machine(&self) -> &S {
        &self.machine
    }

    /// The state machine, for what is not an entry: checkpoints.
    pub fn machine_mut(&mut self) -> &mut S {
        &mut self.machine
    }

    /// The leader, as far as this replica knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.group.leader()
    }

    /// Role, leader, positions.
    pub fn status(&self) -> GroupStatus {
        self.group.status()
    }

    /// Everything committed before the start is applied, confirmed by one read index.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Times that this replica saw a new leader.
    pub fn leader_changes(&self) -> u64 {
        self.leader_changes
    }

    /// Writes pending, committed and failed here.
    pub fn proposal_counts(&self) -> (u64, u64, u64) {
        (self.proposals.pending() as u64, self.proposals.committed, self.proposals.failed)
    }

    /// Reads that wait for an index.
    pub fn reads_pending(&self) -> u64 {
        self.reads.pending() as u64 + self.released.len() as u64
    }

    /// Refuses what is proposed here from now on, or takes it again: the disk is full, or not any
    /// more.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// Refuses the writes of clients that are proposed here from now on, or takes them again: exports do
    /// not keep up with them, or do again.
    pub fn set_overloaded(&mut self, overloaded: bool) {
        self.overloaded = overloaded;
    }

    /// Stands for election at once.
    pub fn campaign(&mut self) {
        self.group.campaign();
    }

    /// Notes whose disks are full: they take no entries that hold anything.
    pub fn set_full(&mut self, full: &BTreeSet<NodeId>) {
        if self.full != *full {
            self.full.clone_from(full);
        }
    }

    /// Hands leadership to the most advanced voter with a link, if this replica leads. One whose disk is
    /// full is taken only where there is no other; not at all, if `with_room` is asked for.
    pub fn hand_over(&mut self, with_room: bool) {
        let status = self.group.status();
        if status.role != Role::Leader {
            return;
        }
        let has_room = |node: NodeId| !self.full.contains(&node);
        let candidates = status.peers.iter().filter(|peer| {
            let reachable = self.links.contains(&peer.node) && status.voters.contains(&peer.node);
            reachable && (!with_room || has_room(peer.node))
        });
        let best = candidates.max_by_key(|peer| (has_room(peer.node), peer.matched, peer.node));
        if let Some(peer) = best {
            self.group.transfer_leader(peer.node);
        }
    }

    /// Whether too many voters have said that their disks are full: what is proposed now would be
    /// committed no sooner than one of them has room again.
    fn majority_full(&self) -> bool {
        if self.full.is_empty() {
            return false;
        }
        let voters = self.group.status().voters;
        let with_room = voters.iter().filter(|voter| !self.full.contains(voter)).count();
        with_room < voters.len() / 2 + 1
    }

    /// Whether this replica leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.group.is_leader()
    }

    /// The leader, if it is another node that this one has a link to.
    fn reachable_leader(&self) -> Option<NodeId> {
        self.group.leader().filter(|leader| self.links.contains(leader))
    }

    fn no_leader(&self) -> Failure {
        let voters = self.group.status().voters;
        let reachable = voters
            .iter()
            .filter(|voter| **voter == self.identity.node || self.links.contains(voter))
            .count();
        no_leader(voters.len(), reachable, &self.identity.name)
    }

    /// A new leader or term voids every question asked before.
    fn watch_leadership(&mut self) {
        let now = (self.group.leader(), self.group.term());
        if now == self.seen {
            return;
        }
        if now.0.is_some() {
            self.leader_changes += 1;
        }
        self.seen = now;
        self.reads.give_up_all();
    }
}

impl<S: StateMachine> Replication for RaftReplica<S> {
    fn tick(&mut self, now: Ticks, _out: &mut Outbox) {
        self.now = now;
        self.group.tick();
        self.reads.give_up_old(now);
    }

    fn receive(&mut self, from: NodeId, body: Body, out: &mut Outbox) {
        match body {
            Body::Raft(message) => {
                if let Err(rejected) = self.group.step(from, message) {
                    tracing::debug!(group = %self.id, %from, %rejected, "message refused");
                }
            }
            Body::ReadIndex(request) => {
                let reader = Reader::Remote { node: from, id: request.id, boot: request.boot };
                self.reads.wait(reader);
            }
            Body::ReadIndexReply(reply) => self.take_read_reply(from, reply, out),
            Body::Forward(forward) => self.take_forward(from, forward, out),
            Body::ForwardReply(reply) => self.take_forward_reply(from, reply, out),
            // Spoken by the links themselves.
            Body::Ping(_) | Body::Pong(_) => {}
            Body::Repair(request) if self.leads() => {
                let at = self.group.status().last_index;
                self.reads.wait(Reader::Repair { node: from, id: request.id, at });
            }
            Body::MoveLeader(to) => self.move_leader(NodeId(to.to)),
            // The asker tries another node.
            Body::Repair(_) => {}
            // A matter of the node: exports are files.
            Body::SnapshotOffer(_) | Body::SnapshotFetch(_) | Body::SnapshotChunk(_) => {}
            // So is the disk. Replicas of eventual keyspaces speak of another group.
            Body::DiskFull(_) | Body::Gossip(_) | Body::Liveness(_) => {}
            // So are secrets, which are in no log.
            Body::SecretRequest(_) | Body::SecretReply(_) => {}
        }
    }

    fn write(&mut self, submission: Submission, out: &mut Outbox) {
        if self.leads() {
            return self.propose(submission, out);
        }
        let id = match submission.origin {
            Origin::Local(id) => id,
            Origin::Internal => NOBODY,
            Origin::Remote { .. } => return self.propose(submission, out),
        };
        if let Err(failure) = asks_nothing_more(&submission) {
            return self.answer_write(submission.origin, Err(failure.applied(Applied::No)), out);
        }
        match self.reachable_leader() {
            Some(leader) => self.forward(leader, id, submission, out),
            None => {
                let failure = self.no_leader().applied(Applied::No);
                self.answer_write(submission.origin, Err(failure), out);
            }
        }
    }

    fn read(&mut self, read: Read, _out: &mut Outbox) {
        match read.plan {
            ReadPlan::Local => self.released.push_back(read),
            // A majority of these members has agreed already on what the leader confirms.
            ReadPlan::ConfirmIndex | ReadPlan::AskMajority => {
                self.reads.wait(Reader::Local(read));
            }
        }
    }

    fn forget(&mut self, id: RequestId) -> Option<Failure> {
        self.proposals.forget(id);
        self.reads.forget(id);
        self.released.retain(|read| read.id != id);
        None
    }

    fn link(&mut self, node: NodeId, up: bool, out: &mut Outbox) {
        if up {
            self.links.insert(node);
            return;
        }
        self.links.remove(&node);
        self.group.report_unreachable(node);
        for id in self.proposals.link_broken(node) {
            let why = "the connection to the leader broke before its answer came";
            let failure = Failure::new(Code::ForwardBroken, "", why).applied(Applied::Unknown);
            out.answer(id, Err(failure));
        }
    }

    fn durable(&mut self, ticket: Ticket) {
        while let Some((waiting, ready)) = self.unsynced.front().copied() {
            if waiting > ticket {
                break;
            }
            self.unsynced.pop_front();
            self.group.persisted(ready);
        }
    }

    fn poll(&mut self, out: &mut Outbox) {
        self.watch_leadership();
        self.start_reads(out);
        while let Some(effects) = self.group.poll() {
            self.carry_out(effects, out);
            if out.fatal.is_some() {
                return;
            }
        }
        self.watch_leadership();
        self.release_reads(out);
    }

    fn applied(&self) -> LogIndex {
        self.machine.applied()
    }
}
