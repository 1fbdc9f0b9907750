//! The replicas of this node.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use proto::v1::Role;

use super::register::{PeerLabel, Register, raise, signed};
use crate::node::Summary;

/// Instruments of consensus. Where there are several groups, they show the data group, but for
/// the changes of leaders.
#[derive(Debug)]
pub(super) struct RaftMetrics {
    has_leader: Gauge,
    is_leader: Gauge,
    leader_changes: Counter,
    proposals_pending: Gauge,
    proposals_committed: Counter,
    proposals_failed: Counter,
    apply_lag: Family<PeerLabel, Gauge>,
    term: Gauge,
    applied_index: Gauge,
    reads_pending: Gauge,
}

impl RaftMetrics {
    pub(super) fn new(r: &mut Register<'_>) -> Self {
        Self {
            has_leader: r.gauge("raft_has_leader", "1 when a leader is known"),
            is_leader: r.gauge("raft_is_leader", "1 on the leader"),
            leader_changes: r.counter("raft_leader_changes", "New leaders seen, over all groups"),
            proposals_pending: r
                .gauge("raft_proposals_pending", "Writes proposed here and not answered"),
            proposals_committed: r
                .counter("raft_proposals_committed", "Writes proposed here and committed"),
            proposals_failed: r.counter(
                "raft_proposals_failed",
                "Writes that could not be proposed or were replaced",
            ),
            apply_lag: r
                .family("raft_apply_lag_entries", "Entries a peer lacks, as the leader knows"),
            term: r.gauge("raft_term", "Term"),
            applied_index: r.gauge("raft_applied_index", "Applied index"),
            reads_pending: r.gauge("raft_reads_pending", "Reads that wait for a confirmed index"),
        }
    }

    pub(super) fn take(&self, summary: &Summary) {
        self.has_leader.set(i64::from(summary.leader.is_some()));
        self.is_leader.set(i64::from(summary.role == Role::Leader));
        raise(&self.leader_changes, summary.leader_changes);
        self.proposals_pending.set(signed(summary.proposals_pending));
        raise(&self.proposals_committed, summary.proposals_committed);
        raise(&self.proposals_failed, summary.proposals_failed);
        self.term.set(signed(summary.term));
        self.applied_index.set(signed(summary.applied));
        self.reads_pending.set(signed(summary.reads_pending));
        // Whoever leads no more knows no lag.
        self.apply_lag.clear();
        for (node, lag) in &summary.lag {
            let label = PeerLabel { peer: summary.name_of(*node) };
            self.apply_lag.get_or_create(&label).set(signed(*lag));
        }
    }
}
