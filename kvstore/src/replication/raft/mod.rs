//! A replica of a Raft group: consensus drives a state machine.
//!
//! [`RaftReplica`] owns the order in which things happen (`poll`): start read rounds, drain the
//! group, send what may leave, put entries and hard state into the append of this poll, apply what
//! is committed, answer whom it concerns, release reads whose index is applied. What must wait for
//! the disk waits inside [`consensus::Group`] until [`Replication::durable`].

mod proposals;
mod reads;
mod state_machine;

pub use state_machine::StateMachine;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use consensus::{Group, GroupEffects, GroupStatus, ProposeError, ReadyNumber, Role};
use prost::Message;
use proto::peer::peer_message::Body;
use proto::{Applied, Code, Failure, GroupId, LogIndex, NodeId, Term, log, peer};
use storage::mvcc::ReadError;

use self::proposals::{Fate, Proposals};
use self::reads::{Reader, Reads, Round};
use super::{Answered, Origin, Outbox, Read, Replication, Submission, no_leader};
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
    reads: Reads,
    links: BTreeSet<NodeId>,
    /// Readies whose frames wait for the disk, with the append that holds them.
    unsynced: VecDeque<(Ticket, ReadyNumber)>,
    now: Ticks,
    /// Leader and term as of the last poll.
    seen: (Option<NodeId>, Term),
    leader_changes: u64,
    started: bool,
}

impl<S: StateMachine> RaftReplica<S> {
    /// A replica whose machine has applied what `group` believes it has.
    ///
    /// # Panics
    /// When machine and group disagree on the applied index.
    pub fn new(id: GroupId, identity: Arc<ReplicaIdentity>, group: Group, machine: S) -> Self {
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
            reads,
            links: BTreeSet::new(),
            unsynced: VecDeque::new(),
            now: Ticks(0),
            leader_changes: 0,
            started: false,
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
        self.reads.pending() as u64
    }

    /// Stands for election at once.
    pub fn campaign(&mut self) {
        self.group.campaign();
    }

    /// Hands leadership to the most advanced voter with a link, if this replica leads.
    pub fn hand_over(&mut self) {
        let status = self.group.status();
        if status.role != Role::Leader {
            return;
        }
        let candidates = status
            .peers
            .iter()
            .filter(|peer| self.links.contains(&peer.node) && status.voters.contains(&peer.node));
        if let Some(peer) = candidates.max_by_key(|peer| (peer.matched, peer.node)) {
            self.group.transfer_leader(peer.node);
        }
    }

    fn leads(&self) -> bool {
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

    /// Answers whoever waits for a write.
    fn answer_write(&mut self, origin: Origin, answer: WriteAnswer, out: &mut Outbox) {
        match origin {
            Origin::Local(id) => out.answer(
                id,
                answer
                    .map(|(outcome, acknowledged_by)| Answered::Write { outcome, acknowledged_by }),
            ),
            Origin::Remote { node, id, boot } => {
                let reply = forward_reply(id, boot, answer);
                out.send(node, self.id, Body::ForwardReply(reply));
            }
            Origin::Internal => {}
        }
    }

    fn propose(&mut self, submission: Submission, out: &mut Outbox) {
        let data = submission.command.encode_to_vec();
        match self.group.propose(data.into()) {
            Ok(proposed) => {
                self.proposals.proposed(proposed.index, proposed.term, submission.origin);
            }
            Err(error) => {
                self.proposals.failed += 1;
                let failure = match error {
                    ProposeError::NotLeader { .. } => self.no_leader(),
                    ProposeError::Transferring { .. } => Failure::new(
                        Code::NoLeader,
                        "",
                        format!("{} is handing over leadership", self.identity.name),
                    ),
                    ProposeError::LogFull => {
                        let why = "64 MiB wait for a majority of the voters".to_owned();
                        Failure::new(Code::LogFull, "", why).retry_after(LOG_FULL_RETRY)
                    }
                };
                self.answer_write(submission.origin, Err(failure.applied(Applied::No)), out);
            }
        }
    }

    fn forward(&mut self, leader: NodeId, id: RequestId, submission: Submission, out: &mut Outbox) {
        let forward = peer::Forward {
            id: id.0,
            boot: self.identity.boot,
            command: Some(submission.command),
            deadline_ticks: u32::try_from(submission.patience.0).unwrap_or(u32::MAX),
        };
        if id != NOBODY {
            self.proposals.forwarded(id, leader);
        }
        out.send(leader, self.id, Body::Forward(forward));
    }

    /// Takes a write that another node handed over: proposed here or refused, never passed on.
    fn take_forward(&mut self, node: NodeId, forward: peer::Forward, out: &mut Outbox) {
        let Some(command) = forward.command.filter(|command| command.body.is_some()) else {
            return;
        };
        let origin = Origin::Remote { node, id: forward.id, boot: forward.boot };
        let patience = Ticks(u64::from(forward.deadline_ticks));
        self.propose(Submission { origin, command, patience }, out);
    }

    fn take_forward_reply(&mut self, from: NodeId, reply: peer::ForwardReply, out: &mut Outbox) {
        use peer::forward_reply::Result as Outcome;
        let id = RequestId(reply.id);
        if reply.boot != self.identity.boot || !self.proposals.forward_answered(id, from) {
            return;
        }
        let answer = match reply.result {
            Some(Outcome::Outcome(outcome)) => {
                let acknowledged_by = reply.acknowledged_by.into_iter().map(NodeId).collect();
                Ok(Answered::Write { outcome, acknowledged_by })
            }
            Some(Outcome::Error(error)) => {
                let code = Code::from_number(error.code).unwrap_or(Code::Internal);
                Err(Failure::new(code, "", error.why).applied(Applied::from_number(error.applied)))
            }
            None => Err(Failure::new(Code::Internal, "", "the leader's answer was empty")
                .applied(Applied::Unknown)),
        };
        out.answer(id, answer);
    }

    /// Starts a round for the reads that wait, as leader or by asking the leader; refuses them
    /// where there is none.
    fn start_reads(&mut self, out: &mut Outbox) {
        while self.reads.wants_round() {
            if self.leads() {
                // A leader without a commit in its term keeps them waiting (Raft thesis 6.4).
                let Ok(id) = self.group.read_index() else { return };
                self.reads.start(Round::Led(id), None, self.now);
                continue;
            }
            for reader in self.reads.take_waiting(|reader| matches!(reader, Reader::Remote { .. }))
            {
                self.refuse_reader(reader, out);
            }
            if let Some(leader) = self.reachable_leader() {
                if !self.reads.wants_round() {
                    return;
                }
                let id = self.reads.next_question();
                let boot = self.identity.boot;
                self.reads.start(Round::Asked { id }, Some(leader), self.now);
                out.send(leader, self.id, Body::ReadIndex(peer::ReadIndexRequest { id, boot }));
            } else {
                let refused = self.reads.take_waiting(|reader| !matches!(reader, Reader::Startup));
                for reader in refused {
                    self.refuse_reader(reader, out);
                }
                return;
            }
        }
    }

    fn refuse_reader(&mut self, reader: Reader, out: &mut Outbox) {
        match reader {
            Reader::Local(read) => out.answer(read.id, Err(self.no_leader())),
            Reader::Remote { node, id, boot } => {
                let refusal = peer::ReadIndexReply { id, boot, index: 0 };
                out.send(node, self.id, Body::ReadIndexReply(refusal));
            }
            Reader::Startup => self.reads.wait(Reader::Startup),
        }
    }

    /// The leader's round was confirmed: those who asked from elsewhere get the index, the others
    /// wait until it is applied here.
    fn round_confirmed(&mut self, readers: Vec<Reader>, index: LogIndex, out: &mut Outbox) {
        let mut here = Vec::with_capacity(readers.len());
        for reader in readers {
            match reader {
                Reader::Remote { node, id, boot } => {
                    let reply = peer::ReadIndexReply { id, boot, index: index.get() };
                    out.send(node, self.id, Body::ReadIndexReply(reply));
                }
                Reader::Local(_) | Reader::Startup => here.push(reader),
            }
        }
        self.reads.confirm(index, here);
    }

    fn take_read_reply(&mut self, from: NodeId, reply: peer::ReadIndexReply, out: &mut Outbox) {
        if reply.boot != self.identity.boot {
            return;
        }
        let round = Round::Asked { id: reply.id };
        if reply.index == 0 {
            // Not the leader any more: the next tick asks whoever leads then.
            return;
        }
        let readers = self.reads.finish(round, Some(from));
        self.round_confirmed(readers, LogIndex(reply.index), out);
    }

    /// Answers a read from the applied state.
    fn serve(&mut self, read: &Read, out: &mut Outbox) {
        let answer = self
            .machine
            .read(read.keyspace, &read.query)
            .map(|(found, revision)| Answered::Read { found, level: read.level, revision });
        out.answer(read.id, answer);
    }

    /// Carries out one batch of effects of the group, in this order: send what may leave, append
    /// what must be durable, apply what is committed, note which reads are confirmed.
    fn carry_out(&mut self, effects: GroupEffects, out: &mut Outbox) {
        for outgoing in effects.send {
            out.send(outgoing.to, self.id, Body::Raft(outgoing.message));
        }
        if let Some(persist) = effects.persist {
            if !persist.entries.is_empty() {
                let entries = log::Entries { entries: persist.entries };
                out.append(self.id, log::frame::Body::Entries(entries));
            }
            if let Some(hard_state) = persist.hard_state {
                out.append(self.id, log::frame::Body::HardState(hard_state));
            }
            if persist.must_sync {
                out.sync = true;
                self.unsynced.push_back((out.ticket, persist.ready));
            }
        }
        for entry in effects.committed {
            if let Err(error) = self.apply(&entry, out) {
                out.fail(format!("group {}: {error}", self.id));
                return;
            }
        }
        for (id, index) in effects.reads {
            let readers = self.reads.finish(Round::Led(id), None);
            self.round_confirmed(readers, index, out);
        }
        for id in effects.reads_lost {
            self.reads.give_up(Round::Led(id));
        }
    }

    fn apply(
        &mut self,
        entry: &log::Entry,
        out: &mut Outbox,
    ) -> Result<(), storage::state::StateError> {
        let (index, term) = (LogIndex(entry.index), Term(entry.term));
        let outcome = if entry.data.is_empty() {
            self.machine.apply(index, term, None)?
        } else {
            let command = log::Command::decode(entry.data.clone())
                .unwrap_or_else(|error| panic!("entry {index} of group {}: {error}", self.id));
            self.machine.apply(index, term, Some(&command))?
        };
        self.group.applied(index);
        for fate in self.proposals.applied(index, term) {
            match fate {
                Fate::Applied(origin) => {
                    let outcome = outcome.clone().unwrap_or_default();
                    let acknowledged_by = self.group.acknowledged_by(index);
                    self.answer_write(origin, Ok((outcome, acknowledged_by)), out);
                }
                Fate::Replaced(origin) => {
                    self.answer_write(origin, Err(leadership_lost()), out);
                }
            }
        }
        Ok(())
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
            Body::SnapshotOffer(_)
            | Body::SnapshotFetch(_)
            | Body::SnapshotChunk(_)
            | Body::Repair(_) => {}
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
        match self.reachable_leader() {
            Some(leader) => self.forward(leader, id, submission, out),
            None => {
                let failure = self.no_leader().applied(Applied::No);
                self.answer_write(submission.origin, Err(failure), out);
            }
        }
    }

    fn read(&mut self, read: Read, out: &mut Outbox) {
        match read.plan {
            ReadPlan::Local => self.serve(&read, out),
            ReadPlan::ConfirmIndex => self.reads.wait(Reader::Local(read)),
        }
    }

    fn forget(&mut self, id: RequestId) {
        self.proposals.forget(id);
        self.reads.forget(id);
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
        for reader in self.reads.release(self.machine.applied()) {
            match reader {
                Reader::Local(read) => self.serve(&read, out),
                Reader::Startup => self.started = true,
                Reader::Remote { .. } => unreachable!("answered when its index was confirmed"),
            }
        }
    }

    fn applied(&self) -> LogIndex {
        self.machine.applied()
    }
}

/// Stands for the node itself in a forwarded write: nobody waits for the answer.
const NOBODY: RequestId = RequestId(0);

/// What a client waits after the log was full.
const LOG_FULL_RETRY: std::time::Duration = std::time::Duration::from_millis(100);

type WriteAnswer = Result<(log::WriteOutcome, Vec<NodeId>), Failure>;

fn leadership_lost() -> Failure {
    let why = "another leader's entry took its place in the log";
    Failure::new(Code::LeadershipLost, "", why).applied(Applied::No)
}

fn forward_reply(id: u64, boot: u64, answer: WriteAnswer) -> peer::ForwardReply {
    use peer::forward_reply::Result as Outcome;
    let mut reply = peer::ForwardReply { id, boot, ..peer::ForwardReply::default() };
    match answer {
        Ok((outcome, acknowledged_by)) => {
            reply.acknowledged_by = acknowledged_by.into_iter().map(NodeId::get).collect();
            reply.result = Some(Outcome::Outcome(outcome));
        }
        Err(failure) => {
            reply.result = Some(Outcome::Error(peer::ForwardError {
                code: failure.code.number(),
                applied: failure.applied.unwrap_or(Applied::Unknown).number(),
                why: failure.why,
            }));
        }
    }
    reply
}

/// The answer to a client whose read the state machine refused.
pub(crate) fn read_failure(error: ReadError) -> Failure {
    let code = match &error {
        ReadError::Compacted { .. } => Code::Compacted,
        ReadError::Future { .. } => Code::FutureRevision,
        ReadError::UnknownKeyspace => Code::KeyspaceNotFound,
        ReadError::State(_) => Code::Internal,
    };
    Failure::new(code, "", error.to_string())
}
