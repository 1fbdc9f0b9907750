//! What a group starts from, and the checks that refuse a start which could lose data.

use std::collections::BTreeSet;

use proto::{LogIndex, NodeId, Term, log};

use crate::config::GroupConfig;
use crate::error::GroupError;

/// What is left of a group on disk when it starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupLog {
    /// Term, vote and commit index as last saved.
    pub hard_state: log::HardState,
    /// The members, in any order.
    pub conf_state: log::ConfState,
    /// The log begins after this entry; 0 if it never shrank.
    pub start_index: LogIndex,
    /// Term of that entry; 0 if it never shrank.
    pub start_term: Term,
    /// The entries after it.
    pub entries: Vec<log::Entry>,
    /// The state holds everything up to this index and nothing above it.
    pub applied: LogIndex,
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

    /// Checks everything that would make the library panic, now or later.
    pub(crate) fn check(&self, config: &GroupConfig) -> Result<(), GroupError> {
        if config.node == NodeId(0) {
            return Err(GroupError::ReservedId);
        }
        check_members(&self.conf_state, config.node)?;
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

    /// Indexes rise by one, terms never fall, neither begins at 0, no term is above the saved one.
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
            if log::EntryKind::try_from(entry.kind) != Ok(log::EntryKind::Normal) {
                return Err(GroupError::LogKind { index: found });
            }
            (index, term) = (found, own);
        }
        if term > Term(self.hard_state.term) {
            return Err(GroupError::LogTerm { index, term });
        }
        Ok(())
    }
}

/// Each list names a node once, nobody votes and learns at the same time, and `node` is in one.
fn check_members(conf: &log::ConfState, node: NodeId) -> Result<(), GroupError> {
    let wrong = |why: &str| Err(GroupError::Membership { why: why.to_owned() });
    let set = |list: &[u64]| list.iter().copied().collect::<BTreeSet<u64>>();
    let voters = set(&conf.voters);
    let learners = set(&conf.learners);
    let outgoing = set(&conf.voters_outgoing);
    let next = set(&conf.learners_next);
    for (list, set) in [
        (&conf.voters, &voters),
        (&conf.learners, &learners),
        (&conf.voters_outgoing, &outgoing),
        (&conf.learners_next, &next),
    ] {
        if list.len() != set.len() {
            return wrong("a node is listed twice");
        }
        if set.contains(&0) {
            return wrong("node id 0 is reserved");
        }
    }
    if voters.is_empty() {
        return wrong("nobody votes");
    }
    if !learners.is_disjoint(&voters) || !learners.is_disjoint(&outgoing) {
        return wrong("a node both votes and learns");
    }
    if !next.is_subset(&outgoing) || !next.is_disjoint(&voters) {
        return wrong("a node is to become a learner that is not a leaving voter");
    }
    if outgoing.is_empty() && conf.auto_leave {
        return wrong("there is no change of members to finish");
    }
    if [&voters, &learners, &outgoing].iter().all(|set| !set.contains(&node.get())) {
        return Err(GroupError::NotMember { node });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
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
                vec![entry(5, 3), entry(6, 4)],
                GroupError::LogTerm { index: LogIndex(6), term: Term(4) },
            ),
            (
                vec![log::Entry { kind: 1, ..entry(5, 3) }],
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
        let of =
            |voters: &[u64], learners: &[u64], outgoing: &[u64], next: &[u64]| log::ConfState {
                voters: voters.to_vec(),
                learners: learners.to_vec(),
                voters_outgoing: outgoing.to_vec(),
                learners_next: next.to_vec(),
                auto_leave: false,
            };
        let sound =
            [of(&[1], &[], &[], &[]), of(&[2], &[1], &[], &[]), of(&[2], &[], &[1, 2], &[1])];
        for conf in sound {
            assert_eq!(check_members(&conf, NodeId(1)), Ok(()), "{conf:?}");
        }
        let contradicting = [
            of(&[], &[1], &[], &[]),
            of(&[1, 1], &[], &[], &[]),
            of(&[1, 0], &[], &[], &[]),
            of(&[1, 2], &[2], &[], &[]),
            of(&[1], &[2], &[2], &[]),
            of(&[1], &[], &[1], &[3]),
            log::ConfState { auto_leave: true, ..of(&[1], &[], &[], &[]) },
        ];
        for conf in contradicting {
            let refused = check_members(&conf, NodeId(1)).unwrap_err();
            assert!(matches!(refused, GroupError::Membership { .. }), "{conf:?}");
        }
        let foreign = check_members(&of(&[2, 3], &[], &[], &[]), NodeId(1));
        assert_eq!(foreign, Err(GroupError::NotMember { node: NodeId(1) }));
        let zero = GroupConfig { node: NodeId(0), ..CONFIG };
        assert_eq!(super::tests::sound().check(&zero), Err(GroupError::ReservedId));
    }
}
