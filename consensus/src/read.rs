//! Read indexes: how a leader learns an index at which a read is linearizable (Raft thesis
//! section 6.4).
//!
//! The leader notes its commit index and sends a heartbeat with a context. When a majority echoed
//! the context, it was still the leader after the read began, so the noted index covers all that
//! was acknowledged before. Three things can break this, and all have (etcd-io/etcd#20418,
//! etcd-io/raft#397):
//!
//! - *A context used twice.* A late echo of the first use confirms the second. Ours is made of the
//!   node, its boot and a counter, and never comes again, not even for a retry.
//! - *A leader that is one no longer.* An answer is passed on only if the term and the leadership
//!   are the same as when it was asked for.
//! - *A leader that does not know yet what is committed.* Nothing is asked before the leader has
//!   committed an entry in its own term.
//!
//! A question whose answer can no longer come is given up at once, not by a timeout: the ids are
//! handed back as lost.

use std::collections::BTreeMap;
use std::fmt;

use proto::{NodeId, Term};

use crate::config::{GroupConfig, READS_PENDING_MAX};

/// Length of a read context: three numbers of eight bytes.
pub(crate) const CONTEXT_BYTES: usize = 24;

/// A question for a read index. Unique within one start of the group, and growing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(u64);

impl ReadId {
    /// The bare number, for logs and maps.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ReadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The questions of this node that wait for an answer.
///
/// Invariant: questions wait only while this node leads, all in the current term.
#[derive(Debug)]
pub(crate) struct Reads {
    node: NodeId,
    boot: u64,
    /// Number of the last question.
    last: u64,
    /// The term each waiting question was asked in.
    waiting: BTreeMap<ReadId, Term>,
    /// Questions given up and not reported yet.
    lost: Vec<ReadId>,
}

impl Reads {
    pub(crate) fn new(config: &GroupConfig) -> Self {
        let (node, boot) = (config.node, config.boot);
        Self { node, boot, last: 0, waiting: BTreeMap::new(), lost: Vec::new() }
    }

    /// Whether no further question is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= READS_PENDING_MAX
    }

    /// A new question and the context to send for it.
    pub(crate) fn ask(&mut self, term: Term) -> (ReadId, Vec<u8>) {
        assert!(!self.is_full(), "{} questions are waiting", self.waiting.len());
        self.last += 1;
        let id = ReadId(self.last);
        self.waiting.insert(id, term);
        let mut context = Vec::with_capacity(CONTEXT_BYTES);
        for part in [self.node.get(), self.boot, self.last] {
            context.extend_from_slice(&part.to_be_bytes());
        }
        (id, context)
    }

    /// The question that an answer with this context confirms; `None` if it was given up, or if the
    /// context is none of ours.
    pub(crate) fn confirm(&mut self, context: &[u8], leading: Option<Term>) -> Option<ReadId> {
        let id = self.parse(context)?;
        let asked = self.waiting.get(&id)?;
        if leading != Some(*asked) {
            return None;
        }
        self.waiting.remove(&id);
        Some(id)
    }

    /// Gives all questions up, for term or role changed.
    pub(crate) fn give_up(&mut self) {
        self.lost.extend(std::mem::take(&mut self.waiting).into_keys());
    }

    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The questions given up since the last call, in the order they were asked.
    pub(crate) fn take_lost(&mut self) -> Vec<ReadId> {
        std::mem::take(&mut self.lost)
    }

    fn parse(&self, context: &[u8]) -> Option<ReadId> {
        let (node, rest) = context.split_first_chunk::<8>()?;
        let (boot, rest) = rest.split_first_chunk::<8>()?;
        let number = <[u8; 8]>::try_from(rest).ok()?;
        let ours =
            u64::from_be_bytes(*node) == self.node.get() && u64::from_be_bytes(*boot) == self.boot;
        ours.then(|| ReadId(u64::from_be_bytes(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::GroupId;
    use std::collections::BTreeSet;

    fn reads(node: u64, boot: u64) -> Reads {
        Reads::new(&GroupConfig { group: GroupId::DATA, node: NodeId(node), boot, seed: 0 })
    }

    #[test]
    fn contexts_never_repeat() {
        let mut seen = BTreeSet::new();
        for (node, boot) in [(1, 1), (1, 2), (2, 1)] {
            let mut reads = reads(node, boot);
            for _ in 0..100 {
                let (_, context) = reads.ask(Term(1));
                assert_eq!(context.len(), CONTEXT_BYTES);
                assert!(seen.insert(context));
                reads.give_up();
            }
        }
    }

    #[test]
    fn an_answer_counts_once_and_only_in_its_term() {
        let mut reads = reads(1, 1);
        let (first, context) = reads.ask(Term(2));
        assert_eq!(reads.confirm(&context, None), None);
        assert_eq!(reads.confirm(&context, Some(Term(3))), None);
        assert_eq!(reads.confirm(&context, Some(Term(2))), Some(first));
        assert_eq!(reads.confirm(&context, Some(Term(2))), None);
    }

    #[test]
    fn lost_questions_are_reported_once_and_never_answered() {
        let mut reads = reads(1, 1);
        let (first, context) = reads.ask(Term(2));
        let (second, _) = reads.ask(Term(2));
        reads.give_up();
        assert!(reads.has_lost());
        assert_eq!(reads.confirm(&context, Some(Term(2))), None);
        assert_eq!(reads.take_lost(), [first, second]);
        assert!(!reads.has_lost());
    }

    #[test]
    fn foreign_contexts_confirm_nothing() {
        let mut reads = reads(1, 1);
        let (_, context) = reads.ask(Term(2));
        let mut other_boot = super::tests::reads(1, 2);
        let mut other_node = super::tests::reads(2, 1);
        let (_, boot_context) = other_boot.ask(Term(2));
        let (_, node_context) = other_node.ask(Term(2));
        let long = [context.as_slice(), b"x"].concat();
        for foreign in [&boot_context[..], &node_context[..], &context[..23], &long[..], b""] {
            assert_eq!(reads.confirm(foreign, Some(Term(2))), None, "{foreign:?}");
        }
    }

    #[test]
    fn the_number_of_questions_is_bounded() {
        let mut reads = reads(1, 1);
        for _ in 0..READS_PENDING_MAX {
            assert!(!reads.is_full());
            reads.ask(Term(1));
        }
        assert!(reads.is_full());
        reads.give_up();
        assert!(!reads.is_full());
    }
}
