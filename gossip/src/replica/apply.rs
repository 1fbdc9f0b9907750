//! Records from elsewhere, and what is common with own writes.

use super::{NotApplied, Policy, Replica, Standing};
use crate::change::Change;
use crate::clock::Clock;
use crate::context::Context;
use crate::entry::{Entry, Sibling};
use crate::position::Position;
use crate::record::Record;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored from now on.
    Stored,
    /// It was stored already.
    Duplicate,
    /// Something that is known here superseded it.
    Obsolete,
    /// Its keyspace was removed; it supersedes nothing.
    OfRemovedKeyspace,
}

/// A record was applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What became of it.
    pub outcome: Outcome,
    /// A write of this replica that follows from it, in an `lww` keyspace. Spreads like any other.
    pub collapse: Option<Record>,
    /// What to make durable.
    pub changes: Vec<Change>,
    /// What has to be durable before the collapse spreads, or anybody hears that the record is here.
    pub after: Position,
}

impl Replica {
    /// Applies a record from any source, of any age, any number of times.
    ///
    /// # Errors
    /// [`NotApplied`].
    pub fn apply(&mut self, record: &Record) -> Result<Applied, NotApplied> {
        if self.state.actor().is_none() {
            return Err(NotApplied::NotStarted);
        }
        let standing = self.keyspace(record.key.keyspace).ok_or(NotApplied::UnknownKeyspace)?;
        if self.knows_too_much(record) {
            return Err(NotApplied::OwnActorAhead);
        }
        let policy = match standing {
            Standing::Open(policy) => policy,
            Standing::Removed => {
                let known = self.state.clock().contains(record.dot);
                let learned = Change::Learned { dot: record.dot };
                let changes = if known { Vec::new() } else { vec![learned] };
                self.commit(&changes);
                let (outcome, after) = (Outcome::OfRemovedKeyspace, self.position);
                return Ok(Applied { outcome, collapse: None, changes, after });
            }
        };
        let learned = Change::Learned { dot: record.dot };
        let (outcome, mut changes) = self.decide(record, learned);
        self.commit(&changes);
        let collapse = self.collapse_if(policy, &record.key, &mut changes);
        Ok(Applied { outcome, collapse, changes, after: self.position })
    }

    /// Whether the record tells of dots that this replica's actor never issued.
    fn knows_too_much(&self, record: &Record) -> bool {
        let Some(own) = self.state.actor() else { return false };
        let issued = self.state.clock().last(&own);
        let through = record.context.through().filter(|through| through.actor == own);
        (record.dot.actor == own && record.dot.counter > issued)
            || record.context.shared().last(&own) > issued
            || through.is_some_and(|through| through.counter > issued)
    }

    /// What applying a record changes. `known` is how the clock hears of its dot.
    pub(super) fn decide(&self, record: &Record, known: Change) -> (Outcome, Vec<Change>) {
        let nothing = Entry::default();
        let entry = self.state.entry(&record.key).unwrap_or(&nothing);
        let stored = entry.siblings().get(&record.dot);
        if stored.is_some_and(|stored| stored.context.is_some()) {
            return (Outcome::Duplicate, Vec::new());
        }
        // What came without its context has not removed the certificates that it superseded.
        let obsolete = self.state.knows(&record.key, record.dot);
        let context = &record.context;
        let key = || record.key.clone();
        let mut changes = Vec::new();
        if !obsolete {
            let sibling = Sibling {
                stamp: record.stamp,
                rank: record.rank,
                body: record.body.clone(),
                deadline: record.deadline,
                context: Some(context.clone()),
            };
            changes.push(Change::Put { key: key(), dot: record.dot, sibling });
        }
        changes.extend(self.header(record, entry, obsolete));
        for (dot, removed) in entry.siblings().iter().filter(|(dot, _)| context.contains(**dot)) {
            changes.push(Change::Removed { key: key(), dot: *dot });
            // Without a context of its own it is below the horizon since that was dropped.
            if removed.context.as_ref().is_some_and(|theirs| !context.covers(theirs)) {
                changes.push(Change::Raised { dot: *dot });
            }
        }
        let dormant = entry.dormant().keys().filter(|dot| context.contains(**dot));
        changes.extend(dormant.map(|dot| Change::Removed { key: key(), dot: *dot }));
        // How the clock came to know the dot has raised the horizon already.
        let is_new = !self.state.clock().contains(record.dot);
        if obsolete && is_new && !is_inside_a_remover(entry, record) {
            changes.push(Change::Raised { dot: record.dot });
        }
        changes.retain(|change| match change {
            Change::Raised { dot } => !self.state.horizon().reaches(*dot),
            _ => true,
        });
        if is_new {
            changes.push(known);
            changes.extend(self.stamped(record.stamp));
        }
        let outcome = match (stored, obsolete) {
            (Some(_), _) => Outcome::Duplicate,
            (None, true) => Outcome::Obsolete,
            (None, false) => Outcome::Stored,
        };
        (outcome, changes)
    }

    /// The header of the entry after a record, if that is another one and there is an entry.
    fn header(&self, record: &Record, entry: &Entry, obsolete: bool) -> Option<Change> {
        let mut pending = record.context.minus(self.state.clock());
        if !entry.pending().is_empty() {
            let mut clock = self.state.clock().clone();
            clock.add(record.dot);
            pending.join(entry.pending());
            pending = pending.minus(&clock);
        }
        if obsolete && entry.is_empty() && pending.is_empty() {
            return None;
        }
        let stamp = entry.stamp().max(record.stamp);
        (pending != *entry.pending() || stamp != entry.stamp()).then(|| Change::Header {
            key: record.key.clone(),
            pending,
            stamp,
        })
    }

    /// Collapses a key of an `lww` keyspace, if it has to be.
    pub(super) fn collapse_if(
        &mut self,
        policy: Policy,
        key: &crate::record::EntryKey,
        changes: &mut Vec<Change>,
    ) -> Option<Record> {
        match policy {
            Policy::Siblings => None,
            Policy::Lww => {
                let (record, more) = self.collapse(key)?;
                changes.extend(more);
                Some(record)
            }
        }
    }
}

/// Whether a stored sibling superseded the record and knows all that the record knew.
fn is_inside_a_remover(entry: &Entry, record: &Record) -> bool {
    let removes =
        |context: &Context| context.contains(record.dot) && context.covers(&record.context);
    let stays = entry.siblings().iter().filter(|(dot, _)| !record.context.contains(**dot));
    stays.filter_map(|(_, sibling)| sibling.context.as_ref()).any(removes)
}

/// A dot alone and all that a context holds.
pub(super) fn with_dot(dot: crate::dot::Dot, context: Option<&Context>) -> Clock {
    let mut clock = context.map(Context::to_clock).unwrap_or_default();
    clock.add(dot);
    clock
}
