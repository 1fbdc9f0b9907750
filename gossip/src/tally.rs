//! What is counted of entries while they change, so that nobody has to read all of them to know.

use std::collections::BTreeSet;

use crate::actor::ActorId;
use crate::dot::Dot;
use crate::entry::Entry;

/// Counts over all entries of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    certificates: BTreeSet<Dot>,
    conflicts: usize,
}

impl Tally {
    /// Certificates that are told to others; those that sleep apart.
    #[must_use]
    pub fn certificates(&self) -> usize {
        self.certificates.len()
    }

    /// Keys with more than one value.
    #[must_use]
    pub const fn conflicts(&self) -> usize {
        self.conflicts
    }

    /// Certificates of an actor behind a counter, in order.
    pub fn certificates_behind(&self, actor: ActorId, counter: u64) -> impl Iterator<Item = Dot> {
        // No counter is larger: behind it there is none.
        let first = counter.saturating_add(1).min(Dot::COUNTER_MAX);
        let all = Dot::new(actor, first)..=Dot::new(actor, Dot::COUNTER_MAX);
        self.certificates.range(all).copied().filter(move |dot| dot.counter > counter)
    }

    /// A sibling of this dot is stored; it replaces one of the same dot, if there was one.
    pub(crate) fn put(&mut self, dot: Dot, is_certificate: bool) {
        if is_certificate {
            self.certificates.insert(dot);
        } else {
            self.certificates.remove(&dot);
        }
    }

    /// A sibling of this dot is stored no longer.
    pub(crate) fn removed(&mut self, dot: Dot) {
        self.certificates.remove(&dot);
    }

    /// An entry that was in conflict, or not, is so now.
    pub(crate) const fn changed(&mut self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => self.conflicts += 1,
            (true, false) => self.conflicts -= 1,
            (true, true) | (false, false) => {}
        }
    }
}

/// Whether more than one value is stored.
pub(crate) fn is_conflict(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| entry.live().nth(1).is_some())
}
