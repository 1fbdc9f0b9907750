//! Writes that begin here.

use std::sync::Arc;

use super::apply::with_dot;
use super::{Outcome, Policy, Replica, SIBLINGS_MAX, STORED_MAX, Standing, WriteRefused};
use crate::change::Change;
use crate::clock::Clock;
use crate::context::Context;
use crate::dot::Dot;
use crate::hlc::{Hlc, Stamp};
use crate::position::Position;
use crate::record::{Body, EntryKey, Record};

/// What a write supersedes.
#[derive(Clone, Debug)]
pub enum Basis {
    /// All that this replica holds of the key.
    Held,
    /// What the client has seen, from its token.
    Seen {
        /// The exact context.
        context: Arc<Clock>,
        /// At least the highest stamp of what was seen.
        stamp: Stamp,
    },
    /// Nothing: the value becomes a sibling of whatever is there.
    Nothing,
}

/// A write of a client.
#[derive(Clone, Debug)]
pub struct Write {
    /// What is written to.
    pub key: EntryKey,
    /// What is put.
    pub body: Body,
    /// From when on reads hide it.
    pub deadline: Option<Stamp>,
    /// What it supersedes.
    pub basis: Basis,
}

/// A write was taken.
#[derive(Clone, Debug)]
pub struct Written {
    /// The write, to be spread once the changes are durable.
    pub record: Record,
    /// A second one that follows from it, in an `lww` keyspace.
    pub collapse: Option<Record>,
    /// What to make durable before the write is acknowledged or spread.
    pub changes: Vec<Change>,
    /// The position of these changes.
    pub after: Position,
}

impl Replica {
    /// Takes a write. `wall_ms` is the time of the node's corrected clock.
    ///
    /// # Errors
    /// [`WriteRefused`]; nothing changed and no dot was issued.
    ///
    /// # Panics
    /// Before the first [`Replica::mint`].
    pub fn write(
        &mut self,
        write: &Write,
        hlc: &mut Hlc,
        wall_ms: u64,
    ) -> Result<Written, WriteRefused> {
        let (policy, context, seen) = self.admit(write)?;
        self.set_time(wall_ms);
        hlc.remember(self.state.highest());
        let floor = self.entry(&write.key).map_or(Stamp::ZERO, |entry| entry.stamp());
        let stamp = hlc.stamp(wall_ms, floor.max(seen));
        Ok(self.take(write, policy, context, stamp))
    }

    /// Takes a write with a stamp that the caller chose: above all stamps that the write covers.
    ///
    /// # Errors
    /// [`WriteRefused`]; nothing changed and no dot was issued.
    ///
    /// # Panics
    /// Before the first [`Replica::mint`].
    pub fn write_at(&mut self, write: &Write, stamp: Stamp) -> Result<Written, WriteRefused> {
        let (policy, context, _) = self.admit(write)?;
        Ok(self.take(write, policy, context, stamp))
    }

    /// The context of a write that may be taken, and the highest stamp that its client had seen.
    fn admit(&mut self, write: &Write) -> Result<(Policy, Context, Stamp), WriteRefused> {
        let Some(Standing::Open(policy)) = self.keyspace(write.key.keyspace) else {
            return Err(WriteRefused::UnknownKeyspace);
        };
        if self.is_damaged(&write.key) {
            return Err(WriteRefused::Damaged);
        }
        let (context, seen) = match &write.basis {
            Basis::Held => (self.held(&write.key), Stamp::ZERO),
            Basis::Nothing => (Context::new(Arc::default()), Stamp::ZERO),
            Basis::Seen { context, stamp } => {
                if self.is_ahead(context) {
                    return Err(WriteRefused::OwnActorAhead);
                }
                (Context::new(Arc::clone(context)), *stamp)
            }
        };
        self.check_siblings(write, &context)?;
        Ok((policy, context, seen))
    }

    fn take(&mut self, write: &Write, policy: Policy, context: Context, stamp: Stamp) -> Written {
        let dot = self.next_dot();
        let (record, mut changes) = self.issue(Record {
            key: write.key.clone(),
            dot,
            stamp,
            rank: dot,
            body: write.body.clone(),
            deadline: write.deadline,
            context,
        });
        let collapse = self.collapse_if(policy, &record.key, &mut changes);
        Written { record, collapse, changes, after: self.position }
    }

    /// Ends a value that is past its deadline: a certificate for this value alone, with a context of its
    /// dot and its own context, so its siblings stay. The place is the value's: what is newer than the
    /// value wins over its end.
    ///
    /// Whose turn this is, and when, the caller decides; a clock that may be wrong must not.
    ///
    /// # Errors
    /// [`WriteRefused::NotExpired`], [`WriteRefused::UnknownKeyspace`], [`WriteRefused::Damaged`].
    pub fn expire(
        &mut self,
        key: &EntryKey,
        dot: Dot,
        now: Stamp,
    ) -> Result<Written, WriteRefused> {
        let Some(Standing::Open(policy)) = self.keyspace(key.keyspace) else {
            return Err(WriteRefused::UnknownKeyspace);
        };
        if self.is_damaged(key) {
            return Err(WriteRefused::Damaged);
        }
        let sibling = self.entry(key).and_then(|entry| entry.siblings().get(&dot));
        let sibling = sibling.filter(|sibling| sibling.is_live() && !sibling.is_shown(now));
        let sibling = sibling.ok_or(WriteRefused::NotExpired)?;
        let context = with_dot(dot, sibling.context.as_ref());
        let (record, mut changes) = self.issue(Record {
            key: key.clone(),
            dot: self.next_dot(),
            stamp: sibling.stamp,
            rank: sibling.rank,
            body: Body::Certificate,
            deadline: None,
            context: Context::new(Arc::new(context)),
        });
        let collapse = self.collapse_if(policy, key, &mut changes);
        Ok(Written { record, collapse, changes, after: self.position })
    }

    /// Removes the values that lose to a certificate, by a certificate of the same place that supersedes
    /// them and it. Nothing if there are none.
    pub(super) fn collapse(&mut self, key: &EntryKey) -> Option<(Record, Vec<Change>)> {
        let entry = self.entry(key)?;
        let (top, losers) = entry.collapse()?;
        let certificate = &entry.siblings()[&top];
        let mut context = with_dot(top, certificate.context.as_ref());
        for loser in losers {
            context.join(&with_dot(loser, entry.siblings()[&loser].context.as_ref()));
        }
        let record = Record {
            key: key.clone(),
            dot: self.next_dot(),
            stamp: certificate.stamp,
            rank: certificate.rank,
            body: Body::Certificate,
            deadline: None,
            context: Context::new(Arc::new(context)),
        };
        Some(self.issue(record))
    }

    /// eff(k) as a context. The clock is shared by all writes until it changes by more than own dots.
    fn held(&mut self, key: &EntryKey) -> Context {
        let clock = self.state.clock();
        let is_covered = self.entry(key).is_none_or(|entry| clock.covers(entry.pending()));
        if !is_covered {
            return Context::new(Arc::new(self.state.effective(key)));
        }
        let own = self.next_dot();
        let clock = self.state.clock();
        let shared = Arc::clone(self.shared.get_or_insert_with(|| Arc::new(clock.clone())));
        if own.counter == 1 {
            Context::new(shared)
        } else {
            Context::with_own(shared, Dot::new(own.actor, own.counter - 1))
        }
    }

    pub(super) fn next_dot(&self) -> Dot {
        let actor = self.state.actor().expect("a replica that writes was started");
        Dot::new(actor, self.state.clock().last(&actor) + 1)
    }

    /// Applies a write of this replica.
    pub(super) fn issue(&mut self, record: Record) -> (Record, Vec<Change>) {
        assert!(!record.context.contains(record.dot), "{} supersedes itself", record.dot);
        let (outcome, changes) = self.decide(&record, Change::Issued { dot: record.dot });
        assert_eq!(outcome, Outcome::Stored, "{} was issued before", record.dot);
        self.commit(&changes);
        (record, changes)
    }

    /// The cap binds where a write enters, and only a write that raises the number of values.
    fn check_siblings(&self, write: &Write, context: &Context) -> Result<(), WriteRefused> {
        let Some(entry) = self.entry(&write.key) else { return Ok(()) };
        // Certificates are no values, but they take room until all have them.
        let kept = entry.siblings().keys().filter(|dot| !context.contains(**dot)).count();
        if kept >= STORED_MAX {
            return Err(WriteRefused::TooManySiblings(kept));
        }
        let before = entry.live().count();
        let stay = entry.live().filter(|(dot, _)| !context.contains(*dot)).count();
        let after = stay + usize::from(!write.body.is_certificate());
        if after > before && after > SIBLINGS_MAX {
            return Err(WriteRefused::TooManySiblings(before));
        }
        Ok(())
    }
}
