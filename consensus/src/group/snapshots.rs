//! Freeing the log in memory, and the snapshots that followers need afterwards.
//!
//! A leader's library asks the log for a snapshot when a follower needs an entry that is gone. It is
//! built before the library hears of it: the node sees [`Group::snapshot_wanted`], makes an export,
//! and names it with [`Group::set_snapshot`]; the message then comes out as an offer. The follower's
//! node fetches the content first and hands the message in, with [`Group::install`], when the new
//! state is there.

use proto::peer::RaftMessage;
use proto::{LogIndex, NodeId, Term};
use raft::{ProgressState, Ready, SnapshotStatus};

use super::Group;
use crate::config::SNAPSHOT_PATIENCE_TICKS;
use crate::effects::ReadyNumber;
use crate::error::Rejected;
use crate::gate;
use crate::membership;
use crate::snapshot::SnapshotMeta;
use crate::wire;

/// Both sides.
impl Group {
    /// Frees the entries in memory up to and including `index`; does nothing if they are gone. What
    /// is on disk is not touched.
    ///
    /// # Panics
    /// If the index is not applied.
    pub fn compact_to(&mut self, index: LogIndex) {
        let applied = LogIndex(self.raw.raft.raft_log.applied());
        assert!(index <= applied, "the log is freed up to {index}, applied is {applied}");
        self.raw.mut_store().compact_to(index.get());
    }

    /// Names a snapshot at hand that may be offered, in place of the one before; `None` if there is
    /// none any more.
    ///
    /// # Panics
    /// If it is not a state of this group: not committed, of another term than the log, or with
    /// members that contradict themselves.
    pub fn set_snapshot(&mut self, snapshot: Option<SnapshotMeta>) {
        if let Some(meta) = &snapshot {
            let commit = LogIndex(self.raw.raft.raft_log.committed);
            assert!(meta.index <= commit, "a snapshot at {}, commit is {commit}", meta.index);
            let known = self.committed_term(meta.index).unwrap_or(meta.term);
            assert!(known == meta.term, "a snapshot of term {}, not {known}", meta.term);
            let members = membership::check_members(&meta.conf_state);
            assert!(members.is_ok(), "a snapshot with members {:?}: {members:?}", meta.conf_state);
        }
        self.raw.mut_store().set_snapshot(snapshot);
    }
}

/// The leader's side.
impl Group {
    /// An index from which on a snapshot helps all followers that need one and that the snapshot at
    /// hand does not help. `None` unless this node leads and there are such followers.
    ///
    /// A snapshot helps if the log in memory goes on from it and the follower is a member at that
    /// index. It is offered by itself, at an answer of the follower to a heartbeat.
    #[must_use]
    pub fn snapshot_wanted(&self) -> Option<LogIndex> {
        if !self.is_leader() {
            return None;
        }
        let (raft, log) = (&self.raw.raft, self.raw.store());
        let mut behind = raft.prs().iter().filter(|(id, peer)| {
            let cut_off = peer.state != ProgressState::Snapshot && peer.next_idx <= log.start();
            **id != raft.id && cut_off && self.is_active(NodeId(**id))
        });
        let unserved = |id: NodeId| log.serves(id, 0).is_none();
        if !behind.any(|(id, _)| unserved(NodeId(*id))) {
            return None;
        }
        // If the log goes on from the one at hand, that is from before a follower was added.
        let at_hand = log.snapshot_index();
        let newer = if at_hand >= log.start() { at_hand + 1 } else { log.start() };
        Some(self.changed_at.max(LogIndex(newer)))
    }

    /// Tells that a follower could not fetch the snapshot it was offered. It is tried again after
    /// its next answer to a heartbeat.
    pub fn snapshot_failed(&mut self, to: NodeId) {
        if self.is_leader() {
            self.offered.remove(&to);
            self.settle(|raw| raw.report_snapshot(to.get(), SnapshotStatus::Failure));
        }
    }

    /// Gives up snapshots that were never answered: until then the library sends the follower
    /// nothing else.
    pub(super) fn give_up_snapshots(&mut self) {
        let now = self.ticks;
        let peers = self.raw.raft.prs().iter();
        let waiting = peers.filter(|(_, peer)| peer.state == ProgressState::Snapshot);
        let since = |id: NodeId| (id, self.offered.get(&id).copied().unwrap_or(now));
        self.offered = waiting.map(|(id, _)| since(NodeId(*id))).collect();
        let expired = |(_, since): &(&NodeId, &u64)| now - **since >= SNAPSHOT_PATIENCE_TICKS;
        let expired: Vec<NodeId> = self.offered.iter().filter(expired).map(|(id, _)| *id).collect();
        for node in expired {
            self.snapshot_failed(node);
        }
    }

    /// Sets the library right after a follower's answer.
    ///
    /// A follower that was offered a snapshot and confirms, late, so much of the log that the rest
    /// of it is in memory goes on with the log. And whatever it answered, what it has confirmed is
    /// not sent again (tikv/raft-rs#557).
    pub(super) fn settle_progress(&mut self, from: NodeId) {
        let start = self.raw.store().start();
        let Some(peer) = self.raw.raft.mut_prs().get_mut(from.get()) else { return };
        peer.next_idx = peer.next_idx.max(peer.matched + 1);
        if peer.state == ProgressState::Snapshot && peer.matched >= start {
            self.snapshot_failed(from);
        }
    }
}

/// The follower's side.
impl Group {
    /// Takes the message of a snapshot whose content is here, ready to become the state. `true`: the
    /// next [`Group::poll`] says so in [`GroupEffects::installed`](crate::GroupEffects::installed).
    /// `false`: there is nothing to switch to, because this node holds what is in the snapshot, or
    /// the message is of a term that is over; the content can go.
    ///
    /// # Errors
    /// [`Rejected`] if the message cannot be believed; it was dropped and nothing changed.
    pub fn install(&mut self, from: NodeId, message: RaftMessage) -> Result<bool, Rejected> {
        let view = self.view(from);
        let meta = gate::check_snapshot(&view, from, &message)?;
        let position = [(meta.index, meta.term)];
        gate::check_committed(&view, &message, position, |index| self.committed_term(index))?;
        self.check_follows_commit(&meta)?;
        self.heard.insert(from, self.ticks);
        let message = wire::message_from_peer(message).expect("the gate lets known kinds through");
        let library = |error: raft::Error| Rejected::Library { why: error.to_string() };
        self.settle(|raw| raw.step(message)).map_err(library)?;
        // One that is older than another, still to be taken by a poll, installs nothing.
        let pending = self.raw.snap().map(|snapshot| snapshot.get_metadata().index);
        let installs = pending == Some(meta.index.get());
        if installs {
            self.changes_waiting.clear();
            self.applied_change = meta.change;
            self.changed_at = meta.index;
        }
        Ok(installs)
    }

    /// Terms never fall along a log, so neither do they from what is committed to a snapshot after
    /// it.
    fn check_follows_commit(&self, meta: &SnapshotMeta) -> Result<(), Rejected> {
        let commit = LogIndex(self.raw.raft.raft_log.committed);
        let known = self.committed_term(commit).unwrap_or(Term(0));
        if meta.index > commit && meta.term < known {
            return Err(Rejected::TermOrder { index: meta.index, term: meta.term });
        }
        Ok(())
    }

    /// The snapshot that the library continues from: the log in memory becomes empty after it.
    pub(super) fn take_installed(
        &mut self,
        ready: &mut Ready,
        number: ReadyNumber,
    ) -> Option<SnapshotMeta> {
        if ready.snapshot().is_empty() {
            return None;
        }
        let meta = wire::meta_from_snapshot(ready.snapshot().clone())
            .expect("the gate lets whole headers through");
        assert!(ready.hs().is_some() && ready.must_sync(), "a snapshot raises the commit index");
        assert!(meta.index >= self.handed_out, "{} after {}", meta.index, self.handed_out);
        self.raw.mut_store().install(meta.index.get(), meta.term.get());
        self.handed_out = meta.index;
        self.installed = meta.index;
        self.installing = Some((number, meta.index));
        Some(meta)
    }

    /// An installed snapshot is applied once it is durable: its state came with it.
    pub(super) fn finish_install(&mut self, durable: ReadyNumber) {
        let Some((number, index)) = self.installing else { return };
        if number <= durable {
            self.installing = None;
            self.settle(|raw| raw.advance_apply_to(index.get()));
        }
    }
}
