//! What a group starts from, and the checks that refuse a start which could lose data.

use proto::log::EntryKind;
use proto::{LogIndex, NodeId, Term, log};

use crate::config::GroupConfig;
use crate::error::GroupError;
use crate::membership;

/// What is left of a group on disk when it starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupLog {
    /// Term, vote and commit index as last saved.
    pub hard_state: log::HardState,
    /// The members at `applied`, in any order. This node need not be among them: it was removed, or
    /// does not know yet that it was added. All lists are empty on a node that joins: it has no log,
    /// and learns from a snapshot who the members are.
    pub conf_state: log::ConfState,
    /// The log begins after this entry: the one before the first that is kept. 0 if it never
    /// shrank.
    pub start_index: LogIndex,
    /// Term of that entry; 0 if it never shrank.
    pub start_term: Term,
    /// The entries after it. Those after `applied` may change the members; once committed, they are
    /// handed out to be applied like all others.
    pub entries: Vec<log::Entry>,
    /// The state holds everything up to this index and nothing above it.
    pub applied: LogIndex,
    /// The membership changes up to this one are in `conf_state`.
    pub change: u64,
}

impl GroupLog {
    /// The last index of the log.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.entries.last().map_or(self.start_index, |entry| LogIndex(entry.index))
    }

    /// The commit index to start from. The saved one may be older than the state, because commit
    /// indexes are saved without a sync of their own.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        self.applied.max(LogIndex(self.hard_state.commit))
    }

    /// Term, vote and commit index to start from.
    ///
    /// The log holds entries before the term in which they came, and a crash may fall between the two.
    /// Then the last entry says that its term had begun. This node has promised nothing in it: whatever
    /// it voted or acknowledged in that term left only after the term was saved.
    #[must_use]
    pub fn hard_state(&self) -> log::HardState {
        let saved = log::HardState { commit: self.commit().get(), ..self.hard_state };
        let reached = self.entries.last().map_or(self.start_term.get(), |entry| entry.term);
        if reached > saved.term {
            return log::HardState { term: reached, vote: 0, ..saved };
        }
        saved
    }

    /// Checks everything that would make the library panic, now or later.
    pub(crate) fn check(&self, config: &GroupConfig) -> Result<(), GroupError> {
        if config.node == NodeId(0) {
            return Err(GroupError::ReservedId);
        }
        self.check_members()?;
        self.check_entries()?;
        if self.applied < self.start_index {
            let (applied, start) = (self.applied, self.start_index);
            return Err(GroupError::AppliedBeforeStart { applied, start });
        }
        if self.last_index() < self.commit() {
            let (last, commit) = (self.last_index(), self.commit());
            return Err(GroupError::LogShorterThanCommit { last, commit });
        }
        Ok(())
    }

    /// The members make sense; without any, there is no log either. A node that knows no members
    /// cannot follow changes of them.
    fn check_members(&self) -> Result<(), GroupError> {
        let wrong = |why: &str| Err(GroupError::Membership { why: why.to_owned() });
        if self.conf_state != log::ConfState::default() {
            return membership::check_members(&self.conf_state).or_else(wrong);
        }
        if self.last_index() > LogIndex(0) {
            return wrong("nobody is a member, but there is a log");
        }
        Ok(())
    }

    /// Indexes rise by one, terms never fall, neither begins at 0.
    fn check_entries(&self) -> Result<(), GroupError> {
        let (mut index, mut term) = (self.start_index, self.start_term);
        if (index == LogIndex(0)) != (term == Term(0)) {
            return Err(GroupError::LogTerm { index, term });
        }
        for entry in &self.entries {
            let (found, own) = (LogIndex(entry.index), Term(entry.term));
            if found != index.next() {
                return Err(GroupError::LogGap { expected: index.next(), found });
            }
            if own < term.max(Term(1)) {
                return Err(GroupError::LogTerm { index: found, term: own });
            }
            match EntryKind::try_from(entry.kind) {
                Ok(EntryKind::Normal) => {}
                Ok(EntryKind::ConfChange) if membership::decode(&entry.data).is_some() => {}
                Ok(EntryKind::ConfChange) | Err(_) => {
                    return Err(GroupError::LogKind { index: found });
                }
            }
            (index, term) = (found, own);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proto::GroupId;

    const CONFIG: GroupConfig =
        GroupConfig { group: GroupId::DATA, node: NodeId(1), boot: 1, seed: 1 };

    fn entry(index: u64, term: u64) -> log::Entry {
        log::Entry { index, term, ..Default::default() }
    }

    fn sound() -> GroupLog {
        GroupLog {
            hard_state: log::HardState { term: 3, vote: 2, commit: 6 },
            conf_state: log::ConfState { voters: vec![1, 2, 3], ..Default::default() },
            start_index: LogIndex(4),
            start_term: Term(2),
            entries: vec![entry(5, 2), entry(6, 3), entry(7, 3)],
            applied: LogIndex(5),
            change: 0,
        }
    }

    #[test]
    fn a_sound_log_passes() {
        assert_eq!(sound().check(&CONFIG), Ok(()));
        let fresh = GroupLog { conf_state: sound().conf_state, ..Default::default() };
        assert_eq!(fresh.check(&CONFIG), Ok(()));
    }

    #[test]
    fn the_commit_index_is_never_behind_the_state() {
        assert_eq!(sound().commit(), LogIndex(6));
        assert_eq!(GroupLog { applied: LogIndex(7), ..sound() }.commit(), LogIndex(7));
    }

    #[test]
    fn entries_that_came_before_their_term_was_saved_say_what_it_is() {
        let mut ahead = sound();
        ahead.entries.push(entry(8, 5));
        assert_eq!(ahead.check(&CONFIG), Ok(()));
        assert_eq!(ahead.hard_state(), log::HardState { term: 5, vote: 0, commit: 6 });
        let (start_index, start_term) = (LogIndex(7), Term(4));
        let empty = GroupLog { entries: Vec::new(), start_index, start_term, ..sound() };
        assert_eq!(empty.hard_state().term, 4);
        let group = crate::Group::new(CONFIG, ahead).unwrap();
        assert_eq!(group.status().term, Term(5));
        assert_eq!(sound().hard_state(), sound().hard_state, "a vote of the saved term stands");
    }

    /// The library panics on each of these.
    #[test]
    fn a_log_without_its_tail_is_refused() {
        let mut cut = sound();
        cut.entries.truncate(1);
        let refused = GroupError::LogShorterThanCommit { last: LogIndex(5), commit: LogIndex(6) };
        assert_eq!(cut.check(&CONFIG), Err(refused));
        let ahead = GroupLog { applied: LogIndex(8), ..sound() };
        let refused = GroupError::LogShorterThanCommit { last: LogIndex(7), commit: LogIndex(8) };
        assert_eq!(ahead.check(&CONFIG), Err(refused));
    }

    #[test]
    fn a_damaged_log_is_refused() {
        let cases = [
            (vec![entry(6, 3)], GroupError::LogGap { expected: LogIndex(5), found: LogIndex(6) }),
            (
                vec![entry(5, 3), entry(5, 3)],
                GroupError::LogGap { expected: LogIndex(6), found: LogIndex(5) },
            ),
            (
                vec![entry(5, 3), entry(6, 2)],
                GroupError::LogTerm { index: LogIndex(6), term: Term(2) },
            ),
            (vec![entry(5, 1)], GroupError::LogTerm { index: LogIndex(5), term: Term(1) }),
            (
                vec![log::Entry { kind: 2, ..entry(5, 3) }],
                GroupError::LogKind { index: LogIndex(5) },
            ),
        ];
        for (entries, refused) in cases {
            let log = GroupLog { entries, ..sound() };
            assert_eq!(log.check(&CONFIG), Err(refused));
        }
        let early = GroupLog { applied: LogIndex(3), ..sound() };
        let refused = GroupError::AppliedBeforeStart { applied: LogIndex(3), start: LogIndex(4) };
        assert_eq!(early.check(&CONFIG), Err(refused));
    }

    #[test]
    fn contradicting_memberships_are_refused() {
        let conf_state = log::ConfState { voters: vec![2, 2], ..Default::default() };
        let refused = GroupLog { conf_state, ..sound() }.check(&CONFIG).unwrap_err();
        assert!(matches!(refused, GroupError::Membership { .. }), "{refused}");
        let zero = GroupConfig { node: NodeId(0), ..CONFIG };
        assert_eq!(sound().check(&zero), Err(GroupError::ReservedId));
    }

    /// A node that was removed or joins starts; but without members there is no log.
    #[test]
    fn a_node_in_no_list_starts() {
        let conf_state = log::ConfState { voters: vec![2, 3], ..Default::default() };
        assert_eq!(GroupLog { conf_state, ..sound() }.check(&CONFIG), Ok(()));
        assert_eq!(GroupLog::default().check(&CONFIG), Ok(()));
        let refused = GroupLog { conf_state: log::ConfState::default(), ..sound() };
        let refused = refused.check(&CONFIG).unwrap_err();
        assert!(matches!(refused, GroupError::Membership { .. }), "{refused}");
    }

    #[test]
    fn entries_that_change_members_start_if_they_decode() {
        let leave = log::Entry { kind: EntryKind::ConfChange as i32, ..entry(7, 3) };
        let entries = vec![entry(5, 2), entry(6, 3), leave.clone()];
        assert_eq!(GroupLog { entries, ..sound() }.check(&CONFIG), Ok(()));
        let damaged = log::Entry { data: Bytes::from_static(b"\xff"), ..leave };
        let entries = vec![entry(5, 2), entry(6, 3), damaged];
        let refused = GroupError::LogKind { index: LogIndex(7) };
        assert_eq!(GroupLog { entries, ..sound() }.check(&CONFIG), Err(refused));
    }
}
