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
//! 2. Followers and damaged nodes that need an export are offered one, or one is begun.
//! 3. All frames become one [`Effect::WalAppend`] under one ticket.
//! 4. Answers are completed with what only the node knows (leader, addresses) and given out once.
//! 5. A checkpoint of a store begins when the memory layer or the log behind the last one is large enough, none
//!    runs, and the store is neither exported nor renewed; before the node is ready, only one that cannot wait.
//!
//! Beside the two Raft groups a node has a log of its own ([`OwnLog`]), whose state lies in a store as that of
//! the data group does (`stores.rs`).
//!
//! A message that must not leave before the disk confirmed stays inside its group until
//! [`Input::WalDurable`] names a ticket at or after the append that it waits for (design: persist,
//! then send, then apply, then answer).

mod actors;
mod backups;
mod catalogue;
mod config;
mod eventual;
mod exports;
mod full_disks;
mod io;
mod keyspaces;
mod membership;
mod renewals;
mod repair;
mod requests;
mod routing;
mod secrets;
mod snapshots;
mod stores;
mod strain;
mod transfer;
mod upkeep;

#[cfg(test)]
mod tests;

pub use catalogue::{
    ById, Catalogue, Keyspaces, Member, Members, OpenChange, SecretRecords, Wanted,
};
pub use config::{
    CHECKPOINT_LAYER_BYTES, EXPORT_LOG_BYTES, EXPORT_LOG_BYTES_MAX, NodeBounds, NodeConfig,
};
pub use io::{
    Backup, Built, BuiltState, CheckpointId, Effect, ExportFailed, ExportSource, GossipSummary,
    Input, LivenessSummary, NotBuilt, RenewFailed, RenewOrder, Reply, Request, RequestId, Summary,
    Ticket, Ticks,
};
pub use repair::{Repair, RepairEffect, RepairInput};
pub use strain::Strain;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consensus::{Group, GroupConfig, GroupError, GroupLog, GroupStatus, PeerProgress, Role};
use prost::Message;
use proto::peer::RaftKind;
use proto::peer::peer_message::Body;
use proto::{Failure, GroupId, KeyspaceId, LogIndex, NodeId, Revision, Term, log, peer, v1};
use storage::export::ExportFile;
use storage::mvcc::{HistoryClock, Machine};
use storage::wal::{Recovered, RecoveredGroup};

use self::backups::Backups;
use self::eventual::ToldReplica;
use self::exports::Exports;
use self::full_disks::FullDisks;
use self::requests::Requests;
use self::routing::Parked;
use self::secrets::Keyring;
use self::snapshots::Snapshots;
use self::stores::{KEPT, Stores};
use crate::durable::StateNames;
use crate::replication::gossip::{GossipConfig, GossipReplica};
use crate::replication::own_log::{OwnLog, OwnStart};
use crate::replication::raft::{RaftReplica, ReplicaIdentity, StateMachine};
use crate::replication::{Outbox, Replication, Retired};
use crate::secrets::Secret;

/// Why there are no exports any more.
const STORE_FAILED: &str = "the node's state store has failed; a start rebuilds it";

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
    /// The replica of the eventual keyspaces, with what the node remembers by itself.
    eventual: GossipReplica,
    told_replica: ToldReplica,
    requests: Requests,
    parked: BTreeMap<RequestId, Parked>,
    backups: Backups,
    outbox: Outbox,
    /// Effects of steps, to be given out with the next poll.
    effects: Vec<Effect>,
    now: Ticks,
    stores: Stores,
    exports: Exports,
    snapshots: Snapshots,
    keyring: Keyring,
    state_names: StateNames,
    history: HistoryClock,
    /// Keyspaces that have more history than one compaction drops, with the revision that was proposed
    /// last.
    behind: BTreeMap<KeyspaceId, Revision>,
    /// Members of the data group before the first change of members.
    first_conf: (log::ConfState, u64),
    /// What the links were told last.
    told: Option<(Vec<v1::Member>, BTreeSet<NodeId>)>,
    read_only: bool,
    full_disks: FullDisks,
    strain: Strain,
    stopping: bool,
}

/// What a node begins with, all of it read back from its disk.
#[derive(Debug)]
pub struct NodeStart {
    /// Its log.
    pub recovered: Recovered,
    /// The catalogue as of its newest export, or of a cluster that has just formed.
    pub catalogue: Catalogue,
    /// The data group's state as of its last checkpoint.
    pub machine: Machine,
    /// Its own log, with the state as of the last checkpoint.
    pub own: OwnStart,
    /// The newest durable export of each group.
    pub exports: Vec<ExportFile>,
    /// The secrets that it has.
    pub secrets: Vec<Secret>,
}

impl Node {
    /// A node as it was when it stopped.
    ///
    /// # Errors
    /// See [`NodeError`]; nothing was changed.
    pub fn new(config: NodeConfig, start: NodeStart) -> Result<Self, NodeError> {
        let NodeStart { recovered, catalogue, machine, own, exports, secrets } = start;
        let identity = Arc::new(ReplicaIdentity {
            node: config.id,
            name: config.name.clone(),
            boot: config.boot,
        });
        let mut groups = recovered.groups;
        let first_conf = groups
            .get(&GroupId::DATA)
            .map(|group| (group.conf_state.clone(), group.change))
            .ok_or(NodeError::GroupMissing(GroupId::DATA))?;
        let meta = replica(&config, &identity, GroupId::META, &mut groups, catalogue)?;
        let data = replica(&config, &identity, GroupId::DATA, &mut groups, machine)?;
        let mut outbox = Outbox::new(Ticket(1));
        let own = OwnLog::new(own, config.bounds.own_entry_bytes, &mut outbox);
        let state_dirs = [
            (GroupId::DATA, data.state_dir().to_owned()),
            (GroupId::EVENTUAL, own.state_dir().to_owned()),
        ];
        let eventual = GossipReplica::new(gossip_config(&config), own);
        let exports = Exports::new(exports, config.log_bytes);
        let state_names = StateNames::after(state_dirs);
        let keyring = Keyring::new(config.entropy.clone(), secrets);
        Ok(Self {
            config,
            meta,
            data,
            eventual,
            told_replica: ToldReplica::default(),
            requests: Requests::default(),
            parked: BTreeMap::new(),
            backups: Backups::default(),
            outbox,
            effects: Vec::new(),
            now: Ticks(0),
            stores: Stores::default(),
            exports,
            snapshots: Snapshots::default(),
            keyring,
            state_names,
            history: HistoryClock::default(),
            behind: BTreeMap::new(),
            first_conf,
            told: None,
            read_only: false,
            full_disks: FullDisks::default(),
            strain: Strain::default(),
            stopping: false,
        })
    }

    /// Takes notice of something that happened.
    pub fn step(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Time { monotonic_us, wall_us } => {
                self.eventual.set_time(monotonic_us, wall_us);
            }
            Input::Peer { from, message } => self.receive(from, message),
            Input::Client { id, request, patience } => self.request(id, request, patience),
            Input::WalDurable(ticket) => self.durable(ticket),
            Input::CheckpointDone(id) => self.checkpoint_done(id),
            Input::CheckpointFailed(id) => self.checkpoint_failed(id),
            Input::Exported { group, result } => self.exported(group, result),
            Input::Renewed { group, state_dir, result } => self.renewed(group, state_dir, result),
            Input::ExportDamaged { group, index } => self.export_damaged(group, index),
            Input::ChunkWritten { group, index, offset } => {
                self.chunk_written(group, index, offset);
            }
            Input::Built { group, index, result } => {
                self.built(group, index, result.map_err(|why| *why))
            }
            Input::SecretStored { id, fingerprint, written } => {
                self.secret_stored(id, fingerprint, written);
            }
            Input::LogFull(full) => self.log_full(full),
            Input::Joining { name, node } => self.joining(name, node),
            Input::MoveLeader(to) => self.move_leader(to),
            Input::LinkUp(node) => self.link(node, true),
            Input::LinkDown(node) => self.link(node, false),
            Input::Campaign => {
                self.meta.campaign();
                self.data.campaign();
            }
            Input::Stop => {
                self.stopping = true;
                self.eventual.leave();
                self.hand_over(false);
            }
        }
    }

    /// Acts on everything noticed since the last poll.
    pub fn poll(&mut self) -> Vec<Effect> {
        // This is the poll that was wanted.
        self.outbox.again = false;
        self.each_replica(|replica, out| replica.poll(out));
        self.drive_eventual();
        self.drive_backups();
        if std::mem::take(&mut self.outbox.store_lost) && !self.stores.of(GroupId::DATA).failed {
            self.lose_store(GroupId::DATA);
            self.hand_over(false);
        }
        for (group, to, message) in std::mem::take(&mut self.outbox.offers) {
            match self.exports.offer(group, to, message, self.now) {
                Some(offer) => self.outbox.send(to, group, Body::SnapshotOffer(offer)),
                // A newer one has taken its place meanwhile: the group offers that instead.
                None => self.snapshot_failed(group, to),
            }
        }
        for (group, node, id) in std::mem::take(&mut self.outbox.repairs) {
            self.exports.want_for_repair(group, node, id, self.applied(group));
        }
        // Perhaps there is one already.
        self.answer_repairs();
        let ticket = self.outbox.ticket;
        for retired in std::mem::take(&mut self.outbox.retired) {
            self.switched(retired.group);
            self.snapshots.retire(ticket, retired);
        }
        let next = Ticket(self.outbox.ticket.0 + 1);
        let out = std::mem::replace(&mut self.outbox, Outbox::new(next));
        if let Some(end) = self.end(&out) {
            return end;
        }
        let mut effects = std::mem::take(&mut self.effects);
        effects.reserve(out.sends.len() + out.answers.len() + 2);
        effects.extend(out.sends.into_iter().map(|(to, message)| Effect::Send { to, message }));
        if out.frames.is_empty() {
            // Nothing used the ticket.
            self.outbox.ticket = out.ticket;
        } else {
            let (ticket, frames, sync) = (out.ticket, out.frames, out.sync);
            let mut bytes = 0;
            for frame in &frames {
                let frame_bytes = frame.encoded_len() as u64;
                self.stores.logged(GroupId(frame.group), frame_bytes);
                bytes += frame_bytes;
            }
            self.exports.logged(bytes);
            effects.push(Effect::WalAppend { ticket, frames, sync });
        }
        self.outbox.again |= out.again;
        for (id, answer) in out.answers {
            effects.extend(self.complete(id, answer));
        }
        effects.extend(self.begin_checkpoints());
        effects
    }

    /// Whether another poll would go on although nothing else happened: the last one had done enough
    /// for a while.
    #[must_use]
    pub fn wants_poll(&self) -> bool {
        self.outbox.again || !self.effects.is_empty()
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
            members: self.meta.machine().members().iter().map(|m| m.member.clone()).collect(),
            voters: data.voters.clone(),
            change: (
                self.meta.machine().members().change_number(),
                self.meta.machine().members().open_change().is_none(),
            ),
            read_only: self.read_only,
            overloaded: self.strain >= Strain::Refusing,
            exported: self.exports.newest(GroupId::DATA).map_or(0, |file| file.header.index.get()),
            installing: self.snapshots.is_busy(),
            log_bytes: self.exports.log_bytes(),
            groups_led: u32::from(leads) + u32::from(meta.role == Role::Leader),
            leader_changes: self.data.leader_changes() + self.meta.leader_changes(),
            proposals_pending: counts.0,
            proposals_committed: counts.1,
            proposals_failed: counts.2,
            reads_pending: self.data.reads_pending(),
            store_bytes: KEPT.into_iter().map(|group| self.machine_of(group).store_bytes()).sum(),
            layer_bytes: self.layer_bytes() as u64,
            lag: data.peers.iter().map(lag).collect(),
            last_known: self.eventual.last_known(),
            gossip: self.eventual.summary(),
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

    /// Name of the directory of the data group's state.
    #[must_use]
    pub fn state_dir(&self) -> &str {
        self.data.state_dir()
    }

    /// What this node remembers by itself.
    #[must_use]
    pub fn own(&self) -> &OwnLog {
        self.eventual.own()
    }

    /// Puts and removes items of the node's own log, as [`OwnLog::append`]; they leave with the next poll.
    /// For simulations and tests: a node does so by itself.
    pub fn remember(&mut self, items: Vec<log::Item>) -> LogIndex {
        self.eventual.own_mut().append(items, &mut self.outbox)
    }

    fn each_replica(&mut self, mut act: impl FnMut(&mut dyn Replication, &mut Outbox)) {
        act(&mut self.meta, &mut self.outbox);
        act(&mut self.data, &mut self.outbox);
        act(&mut self.eventual, &mut self.outbox);
    }

    fn tick(&mut self) {
        self.now.0 += 1;
        let now = self.now;
        self.each_replica(|replica, out| replica.tick(now, out));
        while let Some(id) = self.requests.expired(now) {
            let mut known = self.parked.get(&id).map(Parked::timed_out);
            self.each_replica(|replica, _| known = replica.forget(id).or(known.take()));
            let failure = known.unwrap_or_else(|| self.requests.timed_out(id));
            self.requests.give_up(id);
            self.parked.remove(&id);
            self.exports.forget(id);
            self.backups.forget(id);
            self.outbox.answer(id, Err(failure));
        }
        self.upkeep();
    }

    fn receive(&mut self, from: NodeId, message: peer::PeerMessage) {
        let Some(body) = message.body else { return };
        let group = GroupId(message.group);
        if group == GroupId::EVENTUAL {
            return self.eventual.receive(from, body, &mut self.outbox);
        }
        if group != GroupId::META && group != GroupId::DATA {
            tracing::debug!(%from, %group, "message for an unknown group");
            return;
        }
        let body = match body {
            Body::Raft(message) if !self.takes_entries(group) => {
                let holds = |index, term| match group {
                    GroupId::META => self.meta.holds(index, term),
                    _ => self.data.holds(index, term),
                };
                let Some(message) = without_new_content(message, holds) else { return };
                Body::Raft(message)
            }
            body => body,
        };
        match body {
            Body::SnapshotOffer(offer) => self.offered(from, group, offer),
            Body::SnapshotFetch(fetch) => self.serve_chunk(from, group, &fetch),
            Body::SnapshotChunk(chunk) => self.chunk(from, group, &chunk),
            Body::DiskFull(_) => {
                self.full_disks.heard(from, self.now);
                self.note_full_disks();
            }
            Body::SecretRequest(request) => self.secret_asked(from, &request),
            Body::SecretReply(reply) => self.secret_answered(from, &reply),
            body if group == GroupId::META => self.meta.receive(from, body, &mut self.outbox),
            body => self.data.receive(from, body, &mut self.outbox),
        }
    }

    /// Whether all that a leader wants appended to a group is taken: not while the disk is full, and not
    /// while the data group's log has to wait for an export.
    fn takes_entries(&self, group: GroupId) -> bool {
        !self.read_only && (group == GroupId::META || self.strain < Strain::Closed)
    }

    /// Sends a chunk of an export, or says that there is none.
    fn serve_chunk(&mut self, to: NodeId, group: GroupId, fetch: &peer::SnapshotFetch) {
        self.exports.heard(group, to, self.now);
        let offset = fetch.offset;
        if let Some(file) = self.exports.find(group, &fetch.sha256, self.now) {
            if self.exports.asks_again(to, &file, offset) {
                self.effects.push(Effect::CheckExport(file.clone()));
            }
            self.effects.push(Effect::ServeChunk { to, file, offset });
            return;
        }
        let gone = peer::SnapshotChunk {
            sha256: fetch.sha256.clone(),
            index: fetch.index,
            offset,
            gone: true,
            ..peer::SnapshotChunk::default()
        };
        self.outbox.send(to, group, Body::SnapshotChunk(gone));
    }

    fn durable(&mut self, ticket: Ticket) {
        self.each_replica(|replica, _| replica.durable(ticket));
        self.exports.durable(ticket, self.now);
        for Retired { dir, state, .. } in self.snapshots.take_retired(ticket) {
            self.effects.push(Effect::RemoveState { name: dir, state: Some(state) });
        }
    }

    /// Hands leadership of every group to a voter; the leaders are asked to.
    fn move_leader(&mut self, to: NodeId) {
        self.meta.ask_to_move_leader(to, &mut self.outbox);
        self.data.ask_to_move_leader(to, &mut self.outbox);
    }

    /// Hands leadership of every group that this node leads to the follower that is closest behind,
    /// `with_room` only to one whose disk is not full.
    fn hand_over(&mut self, with_room: bool) {
        self.meta.hand_over(with_room);
        self.data.hand_over(with_room);
    }

    /// A follower did not get the snapshot that it was offered.
    fn snapshot_failed(&mut self, group: GroupId, node: NodeId) {
        match group {
            GroupId::META => self.meta.snapshot_failed(node),
            _ => self.data.snapshot_failed(node),
        }
    }

    fn applied(&self, group: GroupId) -> LogIndex {
        match group {
            GroupId::META => self.meta.applied(),
            _ => self.data.applied(),
        }
    }

    fn link(&mut self, node: NodeId, up: bool) {
        self.each_replica(|replica, out| replica.link(node, up, out));
    }

    /// Answers a request from within a step.
    fn finish(&mut self, id: RequestId, reply: Result<Reply, Failure>) {
        let effect = self.answer(id, reply);
        self.effects.extend(effect);
    }
}

/// What a node takes of a message while its log has little room: of the entries only those in front that
/// the log holds already, and those that hold nothing, such as the first one of a new leader, without which
/// nobody could read. The former are only acknowledged, as their first acknowledgement may have been lost.
/// The latter are few and fit into what is left of the segment; where they do not they wait, unacknowledged.
///
/// `None` where the first entry is neither. What cannot be written is not taken, so it is not acknowledged
/// either; the leader goes on probing.
fn without_new_content(
    mut message: peer::RaftMessage,
    holds: impl Fn(LogIndex, Term) -> bool,
) -> Option<peer::RaftMessage> {
    if message.kind() != RaftKind::Append || message.entries.is_empty() {
        return Some(message);
    }
    let held = |entry: &&log::Entry| holds(LogIndex(entry.index), Term(entry.term));
    let held = message.entries.iter().take_while(held).count();
    let empty = message.entries[held..].iter().take_while(|entry| entry.data.is_empty()).count();
    message.entries.truncate(held + empty);
    (held + empty > 0).then_some(message)
}

/// What the replica of the eventual keyspaces is told at its start: both numbers are random.
fn gossip_config(config: &NodeConfig) -> GossipConfig {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&config.seed.to_be_bytes());
    seed[8..16].copy_from_slice(&config.boot.to_be_bytes());
    GossipConfig { node: config.id, name: config.name.clone(), epoch: config.epoch, seed }
}

fn role(node: NodeId, status: &GroupStatus) -> v1::Role {
    match status.role {
        Role::Leader => v1::Role::Leader,
        Role::Follower if status.learners.contains(&node) => v1::Role::Learner,
        Role::Follower => v1::Role::Follower,
        Role::PreCandidate | Role::Candidate => v1::Role::Candidate,
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
    // The members as of the state, which the entries behind it go on to change; those that the log
    // begins with are older.
    let (conf_state, change) = match machine.conf() {
        Some((conf, change)) => (conf.clone(), change),
        None => (recovered.conf_state, recovered.change),
    };
    let start = recovered.first_kept.get().saturating_sub(1);
    let group = Group::new(
        GroupConfig { group: id, node: config.id, boot: config.boot, seed: config.seed },
        GroupLog {
            hard_state: recovered.hard_state,
            conf_state,
            change,
            start_index: LogIndex(start),
            start_term: recovered.kept_term,
            entries: recovered.entries,
            applied: machine.applied(),
        },
    )
    .map_err(|source| NodeError::Group { group: id, source })?;
    Ok(RaftReplica::new(id, Arc::clone(identity), group, machine, recovered.state_dir))
}
