//! The synchronous core of a whole node.
//!
//! [`Node`] takes [`Input`]s (a tick, a peer's message, a client's request, "the log is durable")
//! and leaves [`Effect`]s (send, append, answer). It owns no socket, file, thread, clock or ambient
//! randomness: the tokio shell drives it in production and the simulator drives it in tests, with
//! the same code in between.
//!
//! # How a poll works
//!
//! [`Node::step`] only takes notice; [`Node::poll`] acts, once for however many inputs came in
//! between. That is where batching comes from: all writes proposed since the last poll form one
//! append to the log and one fdatasync, all reads share one round of the read index.
//!
//! 1. Each replica group is polled: messages that may leave at once, frames, committed entries.
//! 2. All frames become one [`Effect::WalAppend`] under one ticket.
//! 3. Answers are completed with what only the node knows (leader, addresses) and given out once.
//! 4. A checkpoint begins when the memory layer is large enough and none runs.
//!
//! A message that must not leave before the disk confirmed stays inside its group until
//! [`Input::WalDurable`] names a ticket at or after the append that it waits for (design: persist,
//! then send, then apply, then answer).

mod catalogue;
mod config;
mod io;
mod requests;

pub use catalogue::Catalogue;
pub use config::{CHECKPOINT_LAYER_BYTES, NodeConfig};
pub use io::{Effect, Input, Reply, Request, RequestId, Summary, Ticket, Ticks};

use std::collections::BTreeMap;
use std::sync::Arc;

use consensus::{Group, GroupConfig, GroupError, GroupLog, GroupStatus, PeerProgress, Role};
use proto::v1::{self, Level, Proof};
use proto::{Applied, Code, Failure, GroupId, KeyspaceId, LogIndex, NodeId, Term, log, peer};
use storage::mvcc::{Machine, RangeQuery};
use storage::wal::{Recovered, RecoveredGroup};

use self::requests::Requests;
use crate::consistency;
use crate::replication::raft::{RaftReplica, ReplicaIdentity, StateMachine};
use crate::replication::{Answered, Found, Origin, Outbox, Query, Read, Replication, Submission};

/// Ticks between two attempts to publish this node's addresses.
const PUBLISH_TICKS: u64 = 10;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A group's log does not fit its state; the data directory is damaged.
    #[error("group {group}: {source}")]
    Group {
        /// The group.
        group: GroupId,
        /// What does not fit.
        source: GroupError,
    },
    /// The log holds no state of a group that every node has; the data directory is damaged.
    #[error("the log holds nothing of group {0}")]
    GroupMissing(GroupId),
}

/// A whole node.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    meta: RaftReplica<Catalogue>,
    data: RaftReplica<Machine>,
    requests: Requests,
    outbox: Outbox,
    now: Ticks,
    /// Position of the checkpoint that runs.
    checkpoint: Option<(LogIndex, Term)>,
    stopping: bool,
}

impl Node {
    /// A node over what its log recovered. `members` are those the cluster formed with; `machine`
    /// is the data group's state as of its last checkpoint.
    ///
    /// # Errors
    /// See [`NodeError`]; nothing was changed.
    pub fn new(
        config: NodeConfig,
        members: &[(NodeId, String)],
        recovered: Recovered,
        machine: Machine,
    ) -> Result<Self, NodeError> {
        let identity = Arc::new(ReplicaIdentity {
            node: config.id,
            name: config.name.clone(),
            boot: config.boot,
        });
        let mut groups = recovered.groups;
        let meta = Catalogue::formed(members);
        let meta = replica(&config, &identity, GroupId::META, &mut groups, meta)?;
        let data = replica(&config, &identity, GroupId::DATA, &mut groups, machine)?;
        Ok(Self {
            config,
            meta,
            data,
            requests: Requests::default(),
            outbox: Outbox::new(Ticket(1)),
            now: Ticks(0),
            checkpoint: None,
            stopping: false,
        })
    }

    /// Takes notice of something that happened.
    pub fn step(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Peer { from, message } => self.receive(from, message),
            Input::Client { id, request, patience } => self.request(id, request, patience),
            Input::WalDurable(ticket) => self.each_replica(|replica, _| replica.durable(ticket)),
            Input::CheckpointDone(index) => self.checkpoint_done(index),
            Input::LinkUp(node) => self.link(node, true),
            Input::LinkDown(node) => self.link(node, false),
            Input::Campaign => {
                self.meta.campaign();
                self.data.campaign();
            }
            Input::Stop => {
                self.stopping = true;
                self.meta.hand_over();
                self.data.hand_over();
            }
        }
    }

    /// Acts on everything noticed since the last poll.
    pub fn poll(&mut self) -> Vec<Effect> {
        self.each_replica(|replica, out| replica.poll(out));
        let next = Ticket(self.outbox.ticket.0 + 1);
        let out = std::mem::replace(&mut self.outbox, Outbox::new(next));
        if let Some(why) = out.fatal {
            return vec![Effect::Fatal(why)];
        }
        let mut effects = Vec::with_capacity(out.sends.len() + out.answers.len() + 2);
        effects.extend(out.sends.into_iter().map(|(to, message)| Effect::Send { to, message }));
        if out.frames.is_empty() {
            // Nothing used the ticket.
            self.outbox.ticket = out.ticket;
        } else {
            let (ticket, frames, sync) = (out.ticket, out.frames, out.sync);
            effects.push(Effect::WalAppend { ticket, frames, sync });
        }
        for (id, answer) in out.answers {
            effects.extend(self.complete(id, answer));
        }
        effects.extend(self.begin_checkpoint());
        effects
    }

    /// What the node knows about itself.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let (data, meta) = (self.data.status(), self.meta.status());
        let leads = data.role == Role::Leader;
        let lag = |peer: &PeerProgress| {
            (peer.node, data.last_index.get().saturating_sub(peer.matched.get()))
        };
        let counts = self.data.proposal_counts();
        Summary {
            ready: self.ready(),
            role: role(self.config.id, &data),
            leader: data.leader,
            leader_address: self.leader_address(),
            term: data.term.get(),
            commit: data.commit.get(),
            applied: data.applied.get(),
            revision: self.data.machine().revision(KeyspaceId::DEFAULT).get(),
            members: self.meta.machine().members().values().cloned().collect(),
            voters: data.voters.clone(),
            groups_led: u32::from(leads) + u32::from(meta.role == Role::Leader),
            leader_changes: self.data.leader_changes() + self.meta.leader_changes(),
            proposals_pending: counts.0,
            proposals_committed: counts.1,
            proposals_failed: counts.2,
            reads_pending: self.data.reads_pending(),
            store_bytes: self.data.machine().store_bytes(),
            layer_bytes: self.data.machine().layer_bytes() as u64,
            lag: data.peers.iter().map(lag).collect(),
        }
    }

    /// Role and term of the data group.
    #[must_use]
    pub fn role_and_term(&self) -> (v1::Role, Term) {
        let status = self.data.status();
        (role(self.config.id, &status), status.term)
    }

    /// Everything that was committed before this start is applied, confirmed by a read index.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.data.started() && self.meta.started()
    }

    /// The data group's state, for tests of whole clusters.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        self.data.machine()
    }

    /// Requests that are not answered yet.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    fn each_replica(&mut self, mut act: impl FnMut(&mut dyn Replication, &mut Outbox)) {
        act(&mut self.meta, &mut self.outbox);
        act(&mut self.data, &mut self.outbox);
    }

    fn tick(&mut self) {
        self.now.0 += 1;
        let now = self.now;
        self.each_replica(|replica, out| replica.tick(now, out));
        while let Some(id) = self.requests.expired(now) {
            let failure = self.requests.timed_out(id);
            self.each_replica(|replica, _| replica.forget(id));
            self.requests.give_up(id);
            self.outbox.answer(id, Err(failure));
        }
        if now.0.is_multiple_of(PUBLISH_TICKS) {
            self.publish();
        }
    }

    /// Publishes this node's addresses in the catalogue, until they stand there.
    fn publish(&mut self) {
        let own = v1::Member {
            id: self.config.id.get(),
            name: self.config.name.clone(),
            client_address: self.config.client_address.clone(),
            peer_address: self.config.peer_address.clone(),
        };
        if self.meta.machine().members().get(&self.config.id) == Some(&own) {
            return;
        }
        let set = log::SetMember { member: Some(own) };
        let command = log::Command { body: Some(log::command::Body::SetMember(set)) };
        let patience = Ticks(PUBLISH_TICKS);
        let submission = Submission { origin: Origin::Internal, command, patience };
        self.meta.write(submission, &mut self.outbox);
    }

    fn receive(&mut self, from: NodeId, message: peer::PeerMessage) {
        let Some(body) = message.body else { return };
        match GroupId(message.group) {
            GroupId::META => self.meta.receive(from, body, &mut self.outbox),
            GroupId::DATA => self.data.receive(from, body, &mut self.outbox),
            other => tracing::debug!(%from, group = %other, "message for an unknown group"),
        }
    }

    fn link(&mut self, node: NodeId, up: bool) {
        self.each_replica(|replica, out| replica.link(node, up, out));
    }

    /// Routes a request to the replica of its keyspace.
    fn request(&mut self, id: RequestId, request: Request, patience: Ticks) {
        let deadline = Ticks(self.now.0 + patience.0.max(1));
        self.requests.open(id, &request, deadline);
        if let Err(failure) = self.route(id, request, patience) {
            let failure = self.requests.name(id, failure.applied(Applied::No));
            self.outbox.answer(id, Err(failure));
        }
    }

    fn route(&mut self, id: RequestId, request: Request, patience: Ticks) -> Result<(), Failure> {
        if self.stopping {
            let why = format!("{} is stopping", self.config.name);
            return Err(Failure::new(Code::NotReady, "", why));
        }
        match request {
            Request::Get(get) => {
                let at = (get.revision != 0).then_some(get.revision.into());
                let level = get.level();
                self.read(id, &get.keyspace, level, Query::Get { key: get.key, at })
            }
            Request::Range(range) => {
                let level = range.level();
                let query = Query::Range(RangeQuery {
                    from: range.from,
                    to: range.to,
                    limit: range.limit as usize,
                    at: (range.revision != 0).then_some(range.revision.into()),
                    keys_only: range.keys_only,
                    count_only: range.count_only,
                });
                self.read(id, &range.keyspace, level, query)
            }
            Request::Write { keyspace, mut write } => {
                write.keyspace = self.keyspace(&keyspace)?.get();
                let command = log::Command { body: Some(log::command::Body::Write(write)) };
                let submission = Submission { origin: Origin::Local(id), command, patience };
                self.data.write(submission, &mut self.outbox);
                Ok(())
            }
        }
    }

    fn read(
        &mut self,
        id: RequestId,
        keyspace: &str,
        level: Level,
        query: Query,
    ) -> Result<(), Failure> {
        let keyspace = self.keyspace(keyspace)?;
        let (level, plan) = consistency::plan(level)?;
        self.data.read(Read { id, keyspace, query, level, plan }, &mut self.outbox);
        Ok(())
    }

    fn keyspace(&self, name: &str) -> Result<KeyspaceId, Failure> {
        self.data.machine().keyspace(name).ok_or_else(|| {
            let why = format!("no keyspace is named \"{}\"", name.escape_default());
            Failure::new(Code::KeyspaceNotFound, "", why)
        })
    }

    /// Turns a replica's answer into the reply; `None` when the request was answered before.
    fn complete(&mut self, id: RequestId, answer: Result<Answered, Failure>) -> Option<Effect> {
        let answer = match answer {
            Ok(Answered::Write { outcome, .. }) if outcome.refused != 0 => {
                Err(refusal(outcome.refused))
            }
            other => other,
        };
        let reply = match answer {
            Ok(answered) => Ok(self.reply(answered)),
            Err(failure) => {
                let failure = failure.leader(self.leader_address());
                Err(self.requests.name(id, failure))
            }
        };
        self.requests.close(id)?;
        Some(Effect::Reply { id, reply })
    }

    fn reply(&self, answered: Answered) -> Reply {
        match answered {
            Answered::Read { found, level, revision } => {
                let proof = Some(self.proof(level, revision.get()));
                match found {
                    Found::Item(item) => Reply::Get(v1::GetReply { proof, item }),
                    Found::Page(page) => Reply::Range(v1::RangeReply {
                        proof,
                        items: page.items,
                        more: page.more,
                        count: page.count,
                    }),
                }
            }
            Answered::Write { outcome, acknowledged_by } => {
                let mut proof = self.proof(Level::Linearizable, outcome.revision);
                proof.acknowledged_by = acknowledged_by.into_iter().map(NodeId::get).collect();
                proof.replayed = outcome.replayed;
                Reply::Write { outcome, proof }
            }
        }
    }

    fn proof(&self, level: Level, revision: u64) -> Proof {
        Proof {
            level: level.into(),
            node: self.config.name.clone(),
            revision,
            leader: self.data.leader().map_or(0, NodeId::get),
            leader_address: self.leader_address().unwrap_or_default(),
            index: self.data.applied().get(),
            ..Proof::default()
        }
    }

    fn leader_address(&self) -> Option<String> {
        let leader = self.data.leader()?;
        let member = self.meta.machine().members().get(&leader)?;
        (!member.client_address.is_empty()).then(|| member.client_address.clone())
    }

    fn begin_checkpoint(&mut self) -> Option<Effect> {
        let machine = self.data.machine_mut();
        if self.checkpoint.is_some() || machine.layer_bytes() < self.config.checkpoint_layer_bytes {
            return None;
        }
        let job = machine.begin_checkpoint()?;
        self.checkpoint = Some((job.index(), job.term()));
        Some(Effect::Checkpoint(job))
    }

    fn checkpoint_done(&mut self, index: LogIndex) {
        let Some((running, term)) = self.checkpoint.take() else { return };
        assert_eq!(running, index, "another checkpoint finished than the one that runs");
        self.data.machine_mut().finish_checkpoint(index);
        let done = log::CheckpointDone { index: index.get(), term: term.get() };
        self.outbox.append(GroupId::DATA, log::frame::Body::CheckpointDone(done));
    }
}

fn role(node: NodeId, status: &GroupStatus) -> v1::Role {
    match status.role {
        Role::Leader => v1::Role::Leader,
        Role::Follower if status.learners.contains(&node) => v1::Role::Learner,
        Role::Follower => v1::Role::Follower,
        Role::PreCandidate | Role::Candidate => v1::Role::Candidate,
    }
}

/// The error for a write that apply refused, the same on every replica.
fn refusal(number: u32) -> Failure {
    let code = Code::from_number(number).unwrap_or(Code::Internal);
    let failure = Failure::new(code, "", code.page().cause);
    match code {
        // Refused now, but an earlier attempt under the same id may have been applied.
        Code::OutcomeForgotten | Code::WriteAnswered => failure.applied(Applied::Unknown),
        _ => failure.applied(Applied::No),
    }
}

fn replica<S: StateMachine>(
    config: &NodeConfig,
    identity: &Arc<ReplicaIdentity>,
    id: GroupId,
    groups: &mut BTreeMap<GroupId, RecoveredGroup>,
    machine: S,
) -> Result<RaftReplica<S>, NodeError> {
    let recovered = groups.remove(&id).ok_or(NodeError::GroupMissing(id))?;
    let group = Group::new(
        GroupConfig { group: id, node: config.id, boot: config.boot, seed: config.seed },
        GroupLog {
            hard_state: recovered.hard_state,
            conf_state: recovered.conf_state,
            start_index: recovered.start_index,
            start_term: recovered.start_term,
            entries: recovered.entries,
            applied: machine.applied(),
        },
    )
    .map_err(|source| NodeError::Group { group: id, source })?;
    Ok(RaftReplica::new(id, Arc::clone(identity), group, machine))
}
