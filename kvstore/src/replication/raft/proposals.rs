//! Writes that wait for their entry to be applied.

use std::collections::BTreeMap;

use proto::{LogIndex, NodeId, Term};

use crate::node::RequestId;
use crate::replication::Origin;

/// Writes of this replica on their way through the log or through the leader.
///
/// Invariants: at an index wait at most one proposal per term, in the order of the terms; a forwarded
/// write is answered once.
///
/// A node that leads again may propose at an index a second time while its first proposal there is
/// not decided: another member may still hold the first one, be elected and commit it. So nothing is
/// decided before an entry at the index is applied.
#[derive(Debug, Default)]
pub struct Proposals {
    by_index: BTreeMap<LogIndex, Vec<(Term, Origin)>>,
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
    /// A write was proposed.
    pub fn proposed(&mut self, index: LogIndex, term: Term, origin: Origin) {
        let waiting = self.by_index.entry(index).or_default();
        let last = waiting.last().map(|(term, _)| *term);
        assert!(last < Some(term), "a proposal at {index} in term {term} after {last:?}");
        waiting.push((term, origin));
    }

    /// The entry at `index` was applied: what became of everything that was proposed there.
    pub fn applied(&mut self, index: LogIndex, term: Term) -> Vec<Fate> {
        let Some(waiting) = self.by_index.remove(&index) else { return Vec::new() };
        let fate = |(proposed_in, origin)| {
            if proposed_in == term { Fate::Applied(origin) } else { Fate::Replaced(origin) }
        };
        let fates: Vec<Fate> = waiting.into_iter().map(fate).collect();
        for fate in &fates {
            match fate {
                Fate::Applied(_) => self.committed += 1,
                Fate::Replaced(_) => self.failed += 1,
            }
        }
        fates
    }

    /// A snapshot took the place of every entry up to `index`: whether those proposed there were
    /// among what it holds cannot be told.
    pub fn covered(&mut self, index: LogIndex) -> Vec<Origin> {
        let later = self.by_index.split_off(&index.next());
        let covered = std::mem::replace(&mut self.by_index, later);
        let origins: Vec<Origin> =
            covered.into_values().flatten().map(|(_, origin)| origin).collect();
        self.failed += origins.len() as u64;
        origins
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
        self.by_index.values().map(Vec::len).sum::<usize>() + self.forwarded.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin::Local(RequestId(7));

    #[test]
    fn another_term_at_the_index_means_not_applied() {
        let mut proposals = Proposals::default();
        proposals.proposed(LogIndex(5), Term(2), ORIGIN);
        assert_eq!(proposals.applied(LogIndex(5), Term(3)), [Fate::Replaced(ORIGIN)]);
        proposals.proposed(LogIndex(6), Term(4), ORIGIN);
        assert_eq!(proposals.applied(LogIndex(6), Term(4)), [Fate::Applied(ORIGIN)]);
        assert_eq!(proposals.applied(LogIndex(6), Term(4)), []);
    }

    /// With five voters the first proposal may live on at another member, which is elected later
    /// and commits it, although this node proposed at the same index again in between.
    #[test]
    fn an_older_proposal_at_the_index_is_not_decided_by_a_newer_one() {
        let newer = Origin::Local(RequestId(8));
        for (term, older_fate, newer_fate) in [
            (Term(2), Fate::Applied(ORIGIN), Fate::Replaced(newer)),
            (Term(4), Fate::Replaced(ORIGIN), Fate::Applied(newer)),
        ] {
            let mut proposals = Proposals::default();
            proposals.proposed(LogIndex(5), Term(2), ORIGIN);
            proposals.proposed(LogIndex(5), Term(4), newer);
            assert_eq!(proposals.pending(), 2);
            assert_eq!(proposals.applied(LogIndex(5), term), [older_fate, newer_fate]);
        }
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
