//! What a replica has to remember.

use std::collections::{BTreeMap, BTreeSet};

use crate::actor::ActorId;
use crate::change::Change;
use crate::clock::{Clock, Folds};
use crate::context::Context;
use crate::dot::Dot;
use crate::entry::Entry;
use crate::horizon::Horizon;
use crate::record::{Body, EntryKey};

/// What a replica has to remember: clock, horizon, entries, its actor and the sealed ones.
///
/// [`State::replay`] is the only way to change it, for operations and for recovery alike. So what is
/// recovered from the changes in the log is what the replica had.
///
/// Invariants, between operations ([`State::verify`] finds the first that is broken):
/// - Every stored dot is in the clock. A dot in the clock that is not stored is obsolete and is never
///   stored again.
/// - A dot is stored under one key at most.
/// - The clock has exactly the dots from 1 on that the replica's own actor issued, and none above.
/// - No stored write is superseded by another one that is stored, or pending.
/// - What is stored without its context is at or below the horizon.
/// - An entry is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    actor: Option<ActorId>,
    sealed: BTreeMap<ActorId, u64>,
    folds: Folds,
    clock: Clock,
    horizon: Horizon,
    entries: BTreeMap<EntryKey, Entry>,
    /// Which key a stored dot belongs to.
    dots: BTreeMap<Dot, EntryKey>,
    /// Keys whose entries have something pending.
    pending: BTreeSet<EntryKey>,
}

impl State {
    /// The actor that issues this replica's dots; `None` before the first start.
    #[must_use]
    pub const fn actor(&self) -> Option<ActorId> {
        self.actor
    }

    /// Former actors of this replica and the last counters that they issued, as far as this disk knows.
    #[must_use]
    pub const fn sealed(&self) -> &BTreeMap<ActorId, u64> {
        &self.sealed
    }

    /// The folds that this replica has heard of: what bytes are decoded with.
    #[must_use]
    pub const fn folds(&self) -> &Folds {
        &self.folds
    }

    /// K: every dot that is stored here or known to be obsolete.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// F: how far contexts and certificates were dropped.
    #[must_use]
    pub const fn horizon(&self) -> &Horizon {
        &self.horizon
    }

    /// The entry of a key, unless nothing is remembered of it.
    #[must_use]
    pub fn entry(&self, key: &EntryKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All entries, in the order of their keys.
    pub fn entries(&self) -> impl Iterator<Item = (&EntryKey, &Entry)> {
        self.entries.iter()
    }

    /// The entries from a key on, in the order of their keys.
    pub fn entries_from(&self, key: &EntryKey) -> impl Iterator<Item = (&EntryKey, &Entry)> {
        self.entries.range(key.clone()..)
    }

    /// The key of a stored dot.
    #[must_use]
    pub fn key_of(&self, dot: Dot) -> Option<&EntryKey> {
        self.dots.get(&dot)
    }

    /// The stored dots that are not in `clock`, in order: what a peer with that clock lacks.
    pub fn stored_beyond(&self, clock: &Clock) -> Vec<Dot> {
        let mut found = Vec::new();
        for (actor, span) in self.clock.difference(clock) {
            let (first, last) = (Dot::new(actor, span.first), Dot::new(actor, span.last));
            found.extend(self.dots.range(first..=last).map(|(dot, _)| *dot));
        }
        found
    }

    /// The keys that have something pending, in order. Normally none.
    pub fn pending_keys(&self) -> impl Iterator<Item = &EntryKey> {
        self.pending.iter()
    }

    /// Whether a write of that dot to that key is stored here or known to be obsolete here.
    #[must_use]
    pub fn knows(&self, key: &EntryKey, dot: Dot) -> bool {
        self.clock.contains(dot)
            || self.entries.get(key).is_some_and(|entry| entry.pending().contains(dot))
    }

    /// eff(k): the clock and what is pending for the key.
    #[must_use]
    pub fn effective(&self, key: &EntryKey) -> Clock {
        let mut clock = self.clock.clone();
        if let Some(entry) = self.entries.get(key) {
            clock.join(entry.pending());
        }
        clock
    }

    /// Makes one change.
    ///
    /// # Panics
    /// When the change contradicts the state: then it was made for another one.
    pub fn replay(&mut self, change: &Change) {
        match change {
            Change::Started { actor } => {
                if let Some(former) = self.actor.replace(*actor) {
                    self.sealed.insert(former, self.clock.last(&former));
                }
                assert_eq!(self.clock.last(actor), 0, "{actor} issued dots before it started");
            }
            Change::Issued { dot } => {
                assert_eq!(self.actor, Some(dot.actor), "{dot} is not this replica's");
                assert_eq!(dot.counter, self.clock.last(&dot.actor) + 1, "{dot} is not the next");
                self.clock.add(*dot);
            }
            Change::Learned { dot } => {
                assert_ne!(self.actor, Some(dot.actor), "{dot} is this replica's own");
                assert!(self.clock.add(*dot), "{dot} is known");
            }
            Change::Put { key, dot, sibling } => {
                let known = self.dots.insert(*dot, key.clone());
                assert!(known.is_none_or(|known| known == *key), "{dot} is at another key too");
                self.entries.entry(key.clone()).or_default().put(*dot, sibling.clone());
            }
            Change::Removed { key, dot } => {
                let entry = self.entries.get_mut(key);
                let gone = entry.and_then(|entry| entry.remove(*dot));
                assert!(gone.is_some(), "{dot} is not stored");
                self.dots.remove(dot);
                self.drop_if_empty(key);
            }
            Change::Header { key, pending, stamp } => {
                if pending.is_empty() {
                    self.pending.remove(key);
                } else {
                    self.pending.insert(key.clone());
                }
                let entry = self.entries.entry(key.clone()).or_default();
                entry.set_header(pending.clone(), *stamp);
                self.drop_if_empty(key);
            }
            Change::Raised { dot } => {
                self.horizon.raise(*dot);
            }
            Change::Joined { clock } => {
                if let Some(actor) = self.actor {
                    assert_eq!(clock.last(&actor), 0, "own dots come from nowhere else");
                }
                self.clock.join(clock);
            }
            Change::FoldLearned { fold } => self.folds.learn(*fold),
            Change::Folded { fold } => {
                assert!(self.folds.get(fold.number).is_some(), "{fold:?} was not learned");
                assert!(self.clock.fold(*fold), "{fold:?} is not what is known of the actor");
            }
        }
    }

    fn drop_if_empty(&mut self, key: &EntryKey) {
        if self.entries.get(key).is_some_and(Entry::is_empty) {
            self.entries.remove(key);
        }
    }

    /// The first invariant that is broken, for tests and scrubs; reads everything.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn verify(&self) -> Result<(), String> {
        let mut stored = BTreeMap::new();
        let mut pending = BTreeSet::new();
        for (key, entry) in &self.entries {
            if entry.is_empty() {
                return Err(format!("{key:?} is empty"));
            }
            if !entry.pending().is_empty() {
                pending.insert(key.clone());
            }
            for dot in entry.siblings().keys() {
                stored.insert(*dot, key.clone());
            }
            self.verify_entry(key, entry)?;
        }
        if stored != self.dots {
            return Err("the index of dots is not that of what is stored".to_owned());
        }
        if pending != self.pending {
            return Err("the index of pending keys is not that of the entries".to_owned());
        }
        if let Some(actor) = self.actor
            && self.clock.base(&actor) != self.clock.last(&actor)
        {
            return Err(format!("a dot of {actor} is missing"));
        }
        Ok(())
    }

    fn verify_entry(&self, key: &EntryKey, entry: &Entry) -> Result<(), String> {
        for (dot, sibling) in entry.siblings() {
            if !self.clock.contains(*dot) {
                return Err(format!("{dot} of {key:?} is stored and not known"));
            }
            if entry.pending().contains(*dot) {
                return Err(format!("{dot} of {key:?} is stored and pending"));
            }
            let covered = |context: &Context| {
                entry.siblings().keys().copied().find(|other| context.contains(*other))
            };
            match &sibling.context {
                Some(context) => {
                    if let Some(other) = covered(context) {
                        return Err(format!("{other} of {key:?} is superseded by {dot}"));
                    }
                }
                None if !self.horizon.reaches(*dot) => {
                    return Err(format!("{dot} of {key:?} lost its context above the horizon"));
                }
                None if sibling.body == Body::Certificate => {
                    return Err(format!("{dot} of {key:?} is a certificate without a context"));
                }
                None => {}
            }
        }
        Ok(())
    }
}
