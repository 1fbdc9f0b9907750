//! Changes of members as a group carries them out.
//!
//! A change takes effect where it is *applied*, not where it enters the log as in the Raft thesis.
//! What keeps that safe:
//!
//! - A leader proposes a change only when the one before is applied, and only after it committed an
//!   entry in its own term. So two changes are never both unapplied, and no change of an earlier
//!   leader is unknown to it.
//! - So a node that has the second of two changes in its log knows that the first is committed: the
//!   message that brought it said so, and the hard state that says so is written no later than the
//!   entry. The library does not let a node campaign while changes that it knows to be committed are
//!   unapplied. After a restart this still holds, because what is written becomes durable in order.
//! - Voters change through joint consensus: before it is entered, and after it is left, a majority
//!   of the old and of the new voters overlap with both majorities in between.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use bytes::Bytes;
use proto::log::{self, EntryKind};
use proto::{GroupId, LogIndex, NodeId, Term};
use raft::eraftpb::{ConfChangeV2, Entry, EntryType};
use raft::{INVALID_ID, StateRole};

use super::Group;
use crate::boot::GroupLog;
use crate::config::{CAUGHT_UP_ENTRIES, CAUGHT_UP_HEARTBEATS, GroupConfig};
use crate::effects::Proposed;
use crate::error::{GroupError, ProposeError};
use crate::membership::{self, Change};
use crate::status::has_majority;

impl Group {
    /// Proposes a change of members. It takes effect where it is applied. One that touches voters
    /// leads into a joint configuration, which the leader leaves by itself; it is finished when
    /// [`GroupStatus::joint`](crate::GroupStatus::joint) is false again.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing was written.
    pub fn propose_conf_change(
        &mut self,
        change: &log::ConfChange,
    ) -> Result<Proposed, ProposeError> {
        let proposed = self.next_change()?;
        if self.is_joint() {
            return Err(ProposeError::ChangeUnfinished);
        }
        let refused = |why| ProposeError::ChangeRefused { why };
        let (_, members) = membership::plan(self.raw.raft.prs(), change).map_err(refused)?;
        if change.change <= self.applied_change {
            return Err(refused("it is carried out already"));
        }
        if !members.voters_outgoing.is_empty() && !self.lives(&members) {
            return Err(ProposeError::VotersSilent);
        }
        self.append_change(proposed, membership::encode(change))
    }

    /// Proposes to leave the joint configuration. The leader does so by itself, within a tick after
    /// it may.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing was written.
    pub fn leave_joint(&mut self) -> Result<Proposed, ProposeError> {
        let proposed = self.next_change()?;
        if !self.is_joint() {
            return Err(ProposeError::ChangeRefused { why: "there is no change to finish" });
        }
        self.append_change(proposed, Bytes::new())
    }

    /// Applies a change of members: to be called for each such entry that was handed out, in order,
    /// before [`Group::applied`] for it. Returns the members after it.
    ///
    /// An entry that cannot be carried out, or that carries out a membership change that is carried
    /// out already, changes nothing; that is so on every replica alike. A leader that is no voter
    /// any more steps down.
    ///
    /// # Errors
    /// [`GroupError::NotNextChange`] if the entry is not the one to be applied next; nothing
    /// changed.
    pub fn apply_conf_change(&mut self, entry: &log::Entry) -> Result<log::ConfState, GroupError> {
        let index = LogIndex(entry.index);
        let is_change = entry.kind == EntryKind::ConfChange as i32;
        if !is_change || self.changes_waiting.front() != Some(&index) {
            return Err(GroupError::NotNextChange { index });
        }
        self.changes_waiting.pop_front();
        match self.carry_out(&entry.data) {
            Ok(()) => {
                self.changed_at = index;
                self.step_down_unless_voter();
            }
            Err(why) => tracing::warn!(%index, why, "a change of members has no effect"),
        }
        Ok(self.conf_state())
    }

    fn carry_out(&mut self, data: &[u8]) -> Result<(), &'static str> {
        let (change, number) = match membership::decode(data) {
            None => return Err("it is not of a known form"),
            Some(Change::Leave) => (ConfChangeV2::default(), self.applied_change),
            Some(Change::Steps(steps)) if steps.change <= self.applied_change => {
                return Err("it is carried out already");
            }
            Some(Change::Steps(steps)) => {
                (membership::plan(self.raw.raft.prs(), &steps)?.0, steps.change)
            }
        };
        let applied = self.settle(|raw| raw.apply_conf_change(&change));
        applied.map_err(|_| "it is impossible for these members")?;
        self.applied_change = number;
        Ok(())
    }

    /// A leader that does not vote cannot go on: the library counts it where it is not. What it
    /// knows to be committed is on its way to the others, and the voter that is furthest is asked to
    /// take over at once (Raft thesis section 4.2.2). A candidate that no longer votes gives up.
    fn step_down_unless_voter(&mut self) {
        let raft = &self.raw.raft;
        if raft.promotable() || raft.state == StateRole::Follower {
            return;
        }
        let heir = self.is_leader().then(|| self.heir()).flatten();
        self.settle(|raw| {
            if let Some(heir) = heir {
                raw.raft.send_timeout_now(heir.get());
            }
            let term = raw.raft.term;
            raw.raft.become_follower(term, INVALID_ID);
        });
    }

    /// The active voter with the longest log.
    fn heir(&self) -> Option<NodeId> {
        let tracker = self.raw.raft.prs();
        let voters = tracker.conf().voters().ids();
        let active = voters.iter().filter(|id| self.is_active(NodeId(*id)));
        let matched = |id: u64| tracker.get(id).map_or(0, |peer| peer.matched);
        active.max_by_key(|id| (matched(*id), Reverse(*id))).map(NodeId)
    }

    /// Where the next change of members will stand.
    fn next_change(&self) -> Result<Proposed, ProposeError> {
        let proposed = self.next_proposal()?;
        if !self.raw.raft.commit_to_current_term() {
            return Err(ProposeError::NotReady);
        }
        if self.raw.raft.has_pending_conf() {
            return Err(ProposeError::ChangeUnfinished);
        }
        Ok(proposed)
    }

    /// Does what the library does with a proposal, except that it would decode the data.
    fn append_change(&mut self, proposed: Proposed, data: Bytes) -> Result<Proposed, ProposeError> {
        let entry_type = EntryType::EntryConfChangeV2;
        let mut entry = [Entry { entry_type, data, ..Default::default() }];
        let taken = self.settle(|raw| {
            let taken = raw.raft.append_entry(&mut entry);
            if taken {
                raw.raft.pending_conf_index = proposed.index.get();
                raw.raft.bcast_append();
            }
            taken
        });
        if !taken {
            return Err(ProposeError::LogFull);
        }
        let last = self.last_index();
        assert!(last == proposed.index, "proposed {proposed:?}, log ends at {last}");
        Ok(proposed)
    }

    /// Finishes a change of voters, once that is possible: also one that another leader began.
    pub(super) fn finish_change(&mut self) {
        if self.is_joint() {
            // What stands in its way now is gone at some later tick.
            let _ = self.leave_joint();
        }
    }

    fn is_joint(&self) -> bool {
        !self.raw.raft.prs().conf().to_conf_state().voters_outgoing.is_empty()
    }

    /// Whether majorities on both sides of a joint configuration are active.
    fn lives(&self, members: &log::ConfState) -> bool {
        [&members.voters, &members.voters_outgoing].into_iter().all(|voters| {
            let voters: BTreeSet<u64> = voters.iter().copied().collect();
            has_majority(&voters, |id| self.is_self_or_active(NodeId(id)))
        })
    }

    /// Notes at a heartbeat which learners have caught up.
    pub(super) fn count_learners(&mut self) {
        let learners = self.conf_state().learners.into_iter().map(NodeId);
        let counted = learners.filter(|id| self.is_caught_up(*id)).map(|id| {
            let before = self.caught_up.get(&id).copied().unwrap_or(0);
            (id, before.saturating_add(1))
        });
        self.caught_up = counted.collect();
    }

    pub(super) fn learners_caught_up(&self) -> Vec<NodeId> {
        let long_enough =
            self.caught_up.iter().filter(|(_, count)| **count >= CAUGHT_UP_HEARTBEATS);
        long_enough.map(|(id, _)| *id).filter(|id| self.is_caught_up(*id)).collect()
    }

    /// A learner that has confirmed nothing has not caught up, however short the log is.
    fn is_caught_up(&self, learner: NodeId) -> bool {
        let behind = self.last_index().get().saturating_sub(CAUGHT_UP_ENTRIES);
        let peer = self.raw.raft.prs().get(learner.get());
        self.is_active(learner) && peer.is_some_and(|peer| peer.matched >= behind.max(1))
    }

    /// Lets the log in memory begin after its first entry once members have changed. A node that
    /// was added later would otherwise be sent the log from its beginning, without knowing the first
    /// members; so it gets a snapshot.
    pub(super) fn drop_beginning(&mut self) {
        let applied = self.raw.raft.raft_log.applied();
        if self.applied_change > 0 && applied > 0 && self.raw.store().start() == 0 {
            self.raw.mut_store().compact_to(1);
        }
    }
}

/// The members, and the newest membership change that they include, after a committed conf-change
/// entry: what [`Group::apply_conf_change`] comes to, for whoever rebuilds a state from its log
/// without a group. An entry without effect leaves both as they were.
#[must_use]
pub fn conf_after(conf: (log::ConfState, u64), entry: &log::Entry) -> (log::ConfState, u64) {
    let before = LogIndex(entry.index.saturating_sub(1));
    let start_term = if before == LogIndex(0) { Term(0) } else { Term(entry.term) };
    // Any node will do: what an entry comes to is the same everywhere.
    let node = NodeId(conf.0.voters.first().copied().unwrap_or(1));
    let config = GroupConfig { group: GroupId::DATA, node, boot: 0, seed: 0 };
    let alone = GroupLog {
        hard_state: log::HardState { term: entry.term, vote: 0, commit: entry.index },
        conf_state: conf.0.clone(),
        change: conf.1,
        start_index: before,
        start_term,
        entries: vec![entry.clone()],
        applied: before,
    };
    let Ok(mut group) = Group::new(config, alone) else { return conf };
    while let Some(effects) = group.poll() {
        for committed in effects.committed {
            if let Ok(members) = group.apply_conf_change(&committed) {
                return (members, group.applied_change());
            }
        }
    }
    conf
}
