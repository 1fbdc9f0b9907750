//! The end of a session.

use std::collections::BTreeSet;

use super::{NotApplied, Policy, Replica, Standing};
use crate::change::Change;
use crate::clock::Clock;
use crate::context::Context;
use crate::dot::Dot;
use crate::entry::{Entry, Sibling};
use crate::hlc::Stamp;
use crate::horizon::Horizon;
use crate::position::Position;
use crate::record::{EntryKey, Record};

/// What a sender said of one whole key, to be used when the session closes and not before: on an
/// aborted session its clock does not count, and so neither does what it lacks.
///
/// It is sent for each key that differs in a flagged session, for each key with something pending at
/// the sender, and in place of a listed record that is gone from the sender when its turn comes. Values without a context
/// that are too large to come together come one by one, each with itself as all that is present and known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The key.
    pub key: EntryKey,
    /// It is all that the sender has of the key, not only what is pending there.
    pub is_whole: bool,
    /// All dots that the sender stores of it.
    pub present: BTreeSet<Dot>,
    /// eff(k) of the sender; for a key that is told for its pending dots alone, these.
    pub effective: Clock,
    /// What the sender stores without a context. It has no meaning without the clock of the sender, so
    /// it is not applied as records are.
    pub bare: Vec<(Dot, Sibling)>,
}

impl Staged {
    /// Whether it can be what a replica says of itself: what it stores without a context is present, once, and known,
    /// and of a whole key all that is present is known.
    fn is_sound(&self) -> bool {
        let knows = |dot: &Dot| self.effective.contains(*dot);
        let is_present = |dot: &Dot| self.present.contains(dot) && knows(dot);
        let bare: BTreeSet<&Dot> = self.bare.iter().map(|(dot, _)| dot).collect();
        bare.len() == self.bare.len()
            && bare.into_iter().all(is_present)
            && (!self.is_whole || self.present.iter().all(knows))
    }
}

/// What a session closes with. Every record of the session was applied.
#[derive(Clone, Debug, Default)]
pub struct Closing {
    /// K of the sender, at the position that its list of records is of.
    pub clock: Clock,
    /// F of the sender, as of the last moment that something of the session was read.
    pub horizon: Horizon,
    /// The highest stamp that the sender has seen, as of the same moment.
    pub highest: Stamp,
    /// What was staged.
    pub staged: Vec<Staged>,
}

/// A session was closed.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Writes of this replica that follow, in `lww` keyspaces.
    pub collapses: Vec<Record>,
    /// What to make durable, as one batch like that of any operation.
    pub changes: Vec<Change>,
    /// The position of these changes.
    pub after: Position,
}

impl Replica {
    /// Ends a session: what is staged, the sender's clock and its horizon, at once. Only after the end
    /// marker, when each record of the session was applied, and only if this replica did not start or
    /// mint since it said its clock.
    ///
    /// # Errors
    /// [`NotApplied`]: nothing changed, and the session is given up.
    pub fn close(&mut self, closing: &Closing) -> Result<Closed, NotApplied> {
        if self.state.actor().is_none() {
            return Err(NotApplied::NotStarted);
        }
        if !closing.staged.iter().all(Staged::is_sound) {
            return Err(NotApplied::Contradiction);
        }
        let ahead = closing.staged.iter().any(|staged| self.is_ahead(&staged.effective));
        if ahead || self.is_ahead(&closing.clock) {
            return Err(NotApplied::OwnActorAhead);
        }
        if closing.staged.iter().any(|staged| self.keyspace(staged.key.keyspace).is_none()) {
            return Err(NotApplied::UnknownKeyspace);
        }
        let mut changes = Vec::new();
        let mut collapses = Vec::new();
        for staged in &closing.staged {
            if let Some(Standing::Open(_)) = self.keyspace(staged.key.keyspace) {
                let more = self.decide_staged(staged, &closing.clock);
                self.commit(&more);
                changes.extend(more);
            }
        }
        let mut after = self.state.clock().clone();
        after.join(&closing.clock);
        let mut more = self.decide_join(&closing.clock, &closing.horizon, &after);
        // Of many stamps the highest, so one that is far ahead says nothing of those below the limit.
        more.extend(self.stamped(closing.highest.min(Stamp::limit(self.wall_ms))));
        self.commit(&more);
        changes.extend(more);
        let keys: BTreeSet<&EntryKey> = closing.staged.iter().map(|staged| &staged.key).collect();
        for key in keys {
            if self.keyspace(key.keyspace) == Some(Standing::Open(Policy::Lww)) {
                collapses.extend(self.collapse_if(Policy::Lww, key, &mut changes));
            }
        }
        Ok(Closed { collapses, changes, after: self.position })
    }

    /// What a staged key changes. A key may be staged more than once, so what is pending stays so, also
    /// where the sender's clock will have it: only by that a later turn tells what is obsolete here.
    fn decide_staged(&self, staged: &Staged, theirs: &Clock) -> Vec<Change> {
        let nothing = Entry::default();
        let entry = self.state.entry(&staged.key).unwrap_or(&nothing);
        let key = || staged.key.clone();
        let mut changes = Vec::new();
        let mut stamp = entry.stamp();
        let mut learned = Vec::new();
        let mut highest = Stamp::ZERO;
        for (dot, sibling) in &staged.bare {
            let stored = entry.siblings().contains_key(dot);
            if stored || self.state.knows(&staged.key, *dot) || !sibling.is_live() {
                continue;
            }
            stamp = stamp.max(sibling.stamp);
            if !sibling.stamp.is_far_ahead(self.wall_ms) {
                highest = highest.max(sibling.stamp);
            }
            let sibling = Sibling { context: None, ..sibling.clone() };
            changes.push(Change::Put { key: key(), dot: *dot, sibling });
            learned.push(*dot);
        }
        changes.extend(self.stamped(highest));
        let mut known = self.state.clock().clone();
        known.join(&learned.iter().copied().collect());

        // Present at the sender, so not obsolete there, even if it has not been heard of here.
        let present: Clock = staged.present.iter().copied().collect();
        let mut pending = staged.effective.minus(&present);
        pending.join(entry.pending());
        let pending = pending.minus(&known);
        if pending != *entry.pending() || stamp != entry.stamp() {
            changes.push(Change::Header { key: key(), pending, stamp });
        }
        changes.extend(self.decide_absent(staged, entry, theirs));
        for dot in learned {
            changes.push(Change::Learned { dot });
            if !self.state.horizon().reaches(dot) {
                changes.push(Change::Raised { dot });
            }
        }
        changes
    }

    /// The values that the sender knows to be obsolete and has not got. That it has not got a certificate may only
    /// mean that it was dropped there, so those stay.
    ///
    /// A value goes without the record that superseded it. A peer is told of what the value itself had
    /// superseded only if the sender knew all of that to be obsolete, so else the horizon takes it.
    fn decide_absent(&self, staged: &Staged, entry: &Entry, theirs: &Clock) -> Vec<Change> {
        let mut known = staged.effective.clone();
        known.join(theirs);
        let is_told = |context: &Context| {
            let is_stored = |dot: &Dot| context.contains(*dot);
            context.minus(&known).is_empty() && !staged.present.iter().any(is_stored)
        };
        let mut changes = Vec::new();
        for (dot, sibling) in entry.siblings() {
            let is_gone = staged.effective.contains(*dot) && !staged.present.contains(dot);
            if !is_gone || !sibling.is_live() {
                continue;
            }
            changes.push(Change::Removed { key: staged.key.clone(), dot: *dot });
            let untold = sibling.context.as_ref().is_some_and(|context| !is_told(context));
            if untold && !self.state.horizon().reaches(*dot) {
                changes.push(Change::Raised { dot: *dot });
            }
        }
        changes
    }

    /// What joining the sender's clock and horizon changes. `after` is the clock once that is done.
    fn decide_join(&self, theirs: &Clock, horizon: &Horizon, after: &Clock) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in self.state.pending_keys() {
            // Where the index names what is gone, there is nothing to change.
            let Some(entry) = self.state.entry(key) else { continue };
            let pending = entry.pending().minus(after);
            if pending != *entry.pending() {
                changes.push(Change::Header { key: key.clone(), pending, stamp: entry.stamp() });
            }
        }
        let clock = theirs.minus(self.state.clock());
        if !clock.is_empty() {
            changes.push(Change::Joined { clock });
        }
        changes.extend(self.foldable(after));
        let beyond = horizon.dots().filter(|dot| !self.state.horizon().reaches(*dot));
        changes.extend(beyond.map(|dot| Change::Raised { dot }));
        changes
    }
}
