//! Writes that wait for their entry to be applied.

use std::collections::BTreeMap;

use proto::{LogIndex, NodeId, Term};

use crate::node::RequestId;
use crate::replication::Origin;

/// Writes of this replica on their way through the log or through the leader.
///
/// Invariants: at most one proposal waits at an index (a leader proposes an index once per term,
/// and a new term at the same index replaces the loser); a forwarded write is answered once.
#[derive(Debug, Default)]
pub struct Proposals {
    by_index: BTreeMap<LogIndex, (Term, Origin)>,
    forwarded: BTreeMap<RequestId, NodeId>,
    /// Proposals that were committed.
    pub committed: u64,
    /// Writes that were refused or lost.
    pub failed: u64,
}

/// What became of the proposal that waited at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its entry is the one applied.
    Applied(Origin),
    /// Another entry took the index: it will never be applied.
    Replaced(Origin),
}

impl Proposals {
    /// A write was proposed. Returns the origin of an older proposal at the same index: this
    /// replica led before, and its entry was replaced.
    pub fn proposed(&mut self, index: LogIndex, term: Term, origin: Origin) -> Option<Origin> {
        let (older_term, older) = self.by_index.insert(index, (term, origin))?;
        assert!(older_term < term, "two proposals at {index} in term {term}");
        Some(older)
    }

    /// The entry at `index` was applied.
    pub fn applied(&mut self, index: LogIndex, term: Term) -> Option<Fate> {
        let (proposed_in, origin) = self.by_index.remove(&index)?;
        if proposed_in == term {
            self.committed += 1;
            Some(Fate::Applied(origin))
        } else {
            self.failed += 1;
            Some(Fate::Replaced(origin))
        }
    }

    /// A write was handed to the leader.
    pub fn forwarded(&mut self, id: RequestId, leader: NodeId) {
        self.forwarded.insert(id, leader);
    }

    /// The leader answered; false if nobody waits any more.
    pub fn forward_answered(&mut self, id: RequestId, from: NodeId) -> bool {
        if self.forwarded.get(&id) == Some(&from) {
            self.forwarded.remove(&id);
            return true;
        }
        false
    }

    /// The link to `node` broke: the writes handed to it have an unknown outcome.
    pub fn link_broken(&mut self, node: NodeId) -> Vec<RequestId> {
        let lost: Vec<RequestId> =
            self.forwarded.iter().filter(|(_, to)| **to == node).map(|(id, _)| *id).collect();
        for id in &lost {
            self.forwarded.remove(id);
        }
        self.failed += lost.len() as u64;
        lost
    }

    /// The client no longer waits for a forwarded write. A proposal keeps its place until the
    /// entry at its index is known.
    pub fn forget(&mut self, id: RequestId) {
        self.forwarded.remove(&id);
    }

    /// Writes that wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.by_index.len() + self.forwarded.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin::Local(RequestId(7));

    #[test]
    fn another_term_at_the_index_means_not_applied() {
        let mut proposals = Proposals::default();
        assert_eq!(proposals.proposed(LogIndex(5), Term(2), ORIGIN), None);
        assert_eq!(proposals.applied(LogIndex(5), Term(3)), Some(Fate::Replaced(ORIGIN)));
        assert_eq!(proposals.proposed(LogIndex(6), Term(4), ORIGIN), None);
        assert_eq!(proposals.applied(LogIndex(6), Term(4)), Some(Fate::Applied(ORIGIN)));
        assert_eq!(proposals.applied(LogIndex(6), Term(4)), None);
    }

    #[test]
    fn a_leader_that_returns_learns_of_its_replaced_proposal() {
        let mut proposals = Proposals::default();
        proposals.proposed(LogIndex(5), Term(2), ORIGIN);
        let newer = Origin::Local(RequestId(8));
        assert_eq!(proposals.proposed(LogIndex(5), Term(4), newer), Some(ORIGIN));
        assert_eq!(proposals.applied(LogIndex(5), Term(4)), Some(Fate::Applied(newer)));
    }

    #[test]
    fn only_the_leader_that_was_asked_answers() {
        let mut proposals = Proposals::default();
        proposals.forwarded(RequestId(1), NodeId(9));
        assert!(!proposals.forward_answered(RequestId(1), NodeId(8)));
        assert!(proposals.forward_answered(RequestId(1), NodeId(9)));
        assert!(!proposals.forward_answered(RequestId(1), NodeId(9)));
        proposals.forwarded(RequestId(2), NodeId(9));
        assert_eq!(proposals.link_broken(NodeId(9)), vec![RequestId(2)]);
        assert_eq!(proposals.pending(), 0);
    }
}
