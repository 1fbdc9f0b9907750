//! What a replica keeps of its log in memory, snapshots, and who its members are.

use consensus::{GroupStatus, ProposeError, SnapshotMeta};
use proto::peer::peer_message::Body;
use proto::{LogIndex, NodeId, Term, log, peer};

use super::{RaftReplica, StateMachine};
use crate::node::NodeBounds;
use crate::replication::Outbox;

impl<S: StateMachine> RaftReplica<S> {
    /// Frees entries in memory that nobody here needs. `hold` is a snapshot on its way to a follower,
    /// which needs everything behind it.
    pub fn trim_log(&mut self, bounds: &NodeBounds, hold: Option<LogIndex>) {
        let extent = self.group.log_extent();
        let entries = (extent.last.get() + 1).saturating_sub(extent.first.get());
        if extent.bytes <= bounds.log_keep_bytes || entries == 0 {
            return;
        }
        let average = (extent.bytes / entries).max(1);
        let keeping = |bytes: u64| LogIndex(extent.last.get().saturating_sub(bytes / average));
        let status = self.group.status();
        let lagging = status.peers.iter().filter(|peer| peer.active).map(|peer| peer.matched);
        let travelling = status.peers.iter().filter_map(|peer| peer.snapshot);
        let needed = lagging.chain(travelling).chain(hold).min().unwrap_or(extent.last);
        let to = keeping(bounds.log_keep_bytes).min(needed.max(keeping(bounds.log_lagging_bytes)));
        let to = to.min(self.machine.applied());
        if to >= extent.first {
            self.group.compact_to(to);
        }
    }

    /// The index at or above which some follower needs a snapshot.
    pub fn snapshot_wanted(&self) -> Option<LogIndex> {
        self.group.snapshot_wanted()
    }

    /// Tells the group which export may be offered, if any.
    pub fn set_snapshot(&mut self, snapshot: Option<SnapshotMeta>) {
        self.group.set_snapshot(snapshot);
    }

    /// A follower did not fetch what it was offered.
    pub fn snapshot_failed(&mut self, node: NodeId) {
        self.group.snapshot_failed(node);
    }

    /// Whether a snapshot can be installed now: another node leads. Without a leader it has to wait.
    pub fn can_install(&self) -> bool {
        self.leader_elsewhere().is_some()
    }

    fn leader_elsewhere(&self) -> Option<NodeId> {
        self.group.leader().filter(|leader| *leader != self.identity.node)
    }

    /// Steps the message of a snapshot whose state has been built in `dir`. It may have come too late:
    /// then false, and nothing has changed.
    ///
    /// The message is as good as from the leader of the present term, whoever sent it: what a snapshot
    /// holds is committed.
    ///
    /// # Panics
    /// When it [cannot](Self::can_install).
    pub fn install(&mut self, mut message: peer::RaftMessage, machine: S, dir: String) -> bool {
        let leader = self.leader_elsewhere().expect("a snapshot is installed under a leader");
        message.from = leader.get();
        message.term = self.group.term().get();
        self.staged = Some((machine, dir));
        match self.group.install(leader, message) {
            Ok(true) => true,
            Ok(false) => {
                self.staged = None;
                false
            }
            Err(rejected) => {
                tracing::warn!(group = %self.id, %rejected, "a snapshot was refused");
                self.staged = None;
                false
            }
        }
    }

    /// Answers the message of a snapshot whose content this replica has already: the leader learns how
    /// far the log is, and goes on from there.
    ///
    /// # Panics
    /// When the snapshot holds more than is applied.
    pub fn decline(&mut self, message: peer::RaftMessage) {
        let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        assert!(LogIndex(index) <= self.machine.applied(), "a snapshot at {index} is of use");
        let from = NodeId(message.from);
        match self.group.install(from, message) {
            Ok(installs) => assert!(!installs, "what is applied is never installed"),
            Err(rejected) => tracing::debug!(group = %self.id, %from, %rejected, "offer refused"),
        }
    }

    /// Name of the directory that holds the state.
    pub fn state_dir(&self) -> &str {
        &self.state_dir
    }

    /// The state lies in this directory now. Returns the name of the one before.
    pub fn move_state(&mut self, dir: String) -> String {
        std::mem::replace(&mut self.state_dir, dir)
    }

    /// Whether the log has this entry, durable or not.
    pub fn holds(&self, index: LogIndex, term: Term) -> bool {
        self.group.holds(index, term)
    }

    /// The members as applied.
    pub fn conf_state(&self) -> log::ConfState {
        self.group.conf_state()
    }

    /// The newest membership change that the group has applied.
    pub fn applied_change(&self) -> u64 {
        self.group.applied_change()
    }

    /// Proposes a change of members.
    pub fn propose_conf(&mut self, change: &log::ConfChange) -> Result<(), ProposeError> {
        self.group.propose_conf_change(change).map(|_| ())
    }

    /// Lets whoever leads hand leadership to `to`: this replica, or the leader that it knows.
    pub fn ask_to_move_leader(&mut self, to: NodeId, out: &mut Outbox) {
        if self.leads() {
            self.move_leader(to);
        } else if let Some(leader) = self.leader() {
            out.send(leader, self.id, Body::MoveLeader(peer::MoveLeader { to: to.get() }));
        }
    }

    /// Hands leadership to `to`, if this replica leads and `to` votes.
    pub fn move_leader(&mut self, to: NodeId) {
        let status: GroupStatus = self.group.status();
        if self.leads() && status.voters.contains(&to) && to != self.identity.node {
            self.group.transfer_leader(to);
        }
    }
}
