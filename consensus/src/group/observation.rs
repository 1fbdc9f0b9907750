//! What can be seen of a group from outside, without changing it.

use std::collections::BTreeSet;

use proto::{LogIndex, NodeId, Term, log};
use raft::{INVALID_ID, ProgressState, StateRole};

use super::{Group, role};
use crate::config::ELECTION_TICKS;
use crate::membership;
use crate::status::{GroupStatus, LogExtent, PeerProgress, has_majority};
use crate::wire;

/// Observation.
impl Group {
    /// Whether this node leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// The leader of the current term, if known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let leader = self.raw.raft.leader_id;
        (leader != INVALID_ID).then_some(NodeId(leader))
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// The last index of the log, durable or not.
    pub(super) fn last_index(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.last_index())
    }

    /// Whether the log has the entry of this index and term, durable or not. Such an entry holds the same
    /// everywhere (Raft thesis, section 3.5: log matching); what is committed is had, also where it is not
    /// in memory any more.
    #[must_use]
    pub fn holds(&self, index: LogIndex, term: Term) -> bool {
        let log = &self.raw.raft.raft_log;
        index.get() <= log.committed || log.match_term(index.get(), term.get())
    }

    /// The group at this moment.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let raft = &self.raw.raft;
        let conf = self.conf_state();
        let joint = !conf.voters_outgoing.is_empty();
        let incoming: BTreeSet<u64> = conf.voters.into_iter().collect();
        let outgoing: BTreeSet<u64> = conf.voters_outgoing.into_iter().collect();
        let voters: Vec<NodeId> = incoming.union(&outgoing).copied().map(NodeId).collect();
        let leads = self.is_leader();
        let active = |id: u64| self.is_self_or_active(NodeId(id));
        GroupStatus {
            role: role(raft.state),
            leader: self.leader(),
            term: self.term(),
            commit: LogIndex(raft.raft_log.committed),
            applied: LogIndex(raft.raft_log.applied()),
            last_index: self.last_index(),
            active_voters: voters.iter().copied().filter(|id| active(id.get())).collect(),
            voters,
            learners: conf.learners.into_iter().map(NodeId).collect(),
            joint,
            conf_pending: raft.has_pending_conf(),
            learners_caught_up: self.learners_caught_up(),
            ready_for_reads: leads && raft.commit_to_current_term(),
            majority_active: leads
                && has_majority(&incoming, active)
                && has_majority(&outgoing, active),
            transferring_to: raft.lead_transferee.map(NodeId),
            peers: self.peers(),
        }
    }

    /// The members as far as changes of them are applied, each list ascending.
    #[must_use]
    pub fn conf_state(&self) -> log::ConfState {
        let conf = self.raw.raft.prs().conf().to_conf_state();
        membership::sorted(wire::conf_state_to_log(conf))
    }

    /// The membership changes up to this one are carried out.
    #[must_use]
    pub fn applied_change(&self) -> u64 {
        self.applied_change
    }

    /// What is in memory of the log.
    #[must_use]
    pub fn log_extent(&self) -> LogExtent {
        let log = self.raw.store();
        let (first, last) = (LogIndex(log.start()).next(), self.last_index());
        LogExtent { first, last, bytes: log.bytes() }
    }

    /// The voters known to hold everything up to `index` durably, ascending. Empty unless this node
    /// leads; this node counts once its own disk holds it.
    #[must_use]
    pub fn acknowledged_by(&self, index: LogIndex) -> Vec<NodeId> {
        if !self.is_leader() {
            return Vec::new();
        }
        let tracker = self.raw.raft.prs();
        let holds = |id: &u64| tracker.get(*id).is_some_and(|peer| peer.matched >= index.get());
        let voters: BTreeSet<u64> = tracker.conf().voters().ids().iter().filter(holds).collect();
        voters.into_iter().map(NodeId).collect()
    }

    fn peers(&self) -> Vec<PeerProgress> {
        if !self.is_leader() {
            return Vec::new();
        }
        let raft = &self.raw.raft;
        let others = raft.prs().iter().filter(|(id, _)| **id != raft.id);
        let progress = |(id, peer): (&u64, &raft::Progress)| PeerProgress {
            node: NodeId(*id),
            matched: LogIndex(peer.matched),
            active: self.is_active(NodeId(*id)),
            snapshot: (peer.state == ProgressState::Snapshot)
                .then_some(LogIndex(peer.pending_snapshot)),
        };
        let mut peers: Vec<PeerProgress> = others.map(progress).collect();
        peers.sort_by_key(|peer| peer.node);
        peers
    }

    /// Whether a peer was heard within an election timeout.
    pub(super) fn is_active(&self, node: NodeId) -> bool {
        self.heard.get(&node).is_some_and(|tick| self.ticks - tick <= ELECTION_TICKS as u64)
    }

    pub(super) fn is_self_or_active(&self, node: NodeId) -> bool {
        node.get() == self.raw.raft.id || self.is_active(node)
    }
}
