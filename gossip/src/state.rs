//! What a replica has to remember.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::actor::ActorId;
use crate::change::Change;
use crate::clock::{Clock, Folds};
use crate::context::Context;
use crate::dot::Dot;
use crate::entry::{Entry, Sibling};
use crate::hlc::Stamp;
use crate::horizon::Horizon;
use crate::record::{Body, EntryKey};
use crate::tally::{Tally, is_conflict};

/// What a replica has to remember: clock, horizon, highest stamp, entries, its actor and the sealed ones.
///
/// [`State::replay`] is the only way to change it, for operations and for recovery alike, but for notes of how items
/// were given out. So what is recovered from the changes in the log is what the replica had.
///
/// Invariants, between operations ([`State::verify`] finds the first that is broken):
/// - Every stored dot is in the clock. A dot in the clock that is not stored is obsolete and is never
///   stored again.
/// - A dot is stored under one key at most.
/// - The clock has exactly the dots from 1 on that the replica's own actor issued, and none above.
/// - No stored write is superseded by another one that is stored, or pending.
/// - What is stored without its context is at or below the horizon.
/// - What sleeps is a certificate with its context, in the clock and at or below the horizon.
/// - An entry is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    actor: Option<ActorId>,
    sealed: BTreeMap<ActorId, u64>,
    folds: Folds,
    clock: Clock,
    horizon: Horizon,
    highest: Stamp,
    entries: BTreeMap<EntryKey, Entry>,
    /// Which key a stored dot belongs to.
    dots: BTreeMap<Dot, EntryKey>,
    /// Keys whose entries have something pending, and how many dots: as they came and went, not as they are stored. So
    /// where some were lost the count stays another one, whatever comes after.
    pending: BTreeMap<EntryKey, u128>,
    /// Stored dots whose context is known.
    remembered: BTreeSet<Dot>,
    /// Values that end at some time, by that time.
    deadlines: BTreeSet<(Stamp, Dot)>,
    /// Entries that are stored in several items, and in how many beside the first.
    pieces: BTreeMap<EntryKey, u32>,
    /// What is counted of the entries.
    tally: Tally,
}

/// What a state is made of, without what follows from it.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) actor: Option<ActorId>,
    pub(crate) sealed: BTreeMap<ActorId, u64>,
    pub(crate) folds: Folds,
    pub(crate) clock: Clock,
    pub(crate) horizon: Horizon,
    pub(crate) highest: Stamp,
    pub(crate) entries: BTreeMap<EntryKey, Entry>,
    pub(crate) pieces: BTreeMap<EntryKey, u32>,
}

impl State {
    /// The state with these parts.
    ///
    /// # Errors
    /// A sentence about what contradicts an invariant.
    pub(crate) fn of_parts(parts: Parts) -> Result<Self, String> {
        let Parts { actor, sealed, folds, clock, horizon, highest, entries, pieces } = parts;
        let (mut dots, mut pending) = (BTreeMap::new(), BTreeMap::new());
        let mut remembered = BTreeSet::new();
        let mut deadlines = BTreeSet::new();
        let tally = tally_of(&entries);
        for (key, entry) in &entries {
            for (dot, sibling) in entry.siblings() {
                if sibling.context.is_some() {
                    remembered.insert(*dot);
                }
                deadlines.extend(sibling.ends().map(|deadline| (deadline, *dot)));
                if let Some(other) = dots.insert(*dot, key.clone()) {
                    return Err(format!("{dot} is at {key:?} and at {other:?}"));
                }
            }
            if !entry.pending().is_empty() {
                pending.insert(key.clone(), entry.pending().count());
            }
        }
        let state = Self {
            actor,
            sealed,
            folds,
            clock,
            horizon,
            highest,
            entries,
            dots,
            pending,
            remembered,
            deadlines,
            pieces,
            tally,
        };
        for (key, entry) in &state.entries {
            state.verify_entry(key, entry)?;
        }
        state.verify_actor()?;
        Ok(state)
    }

    /// The actor that issues this replica's dots; `None` before the first start.
    #[must_use]
    pub const fn actor(&self) -> Option<ActorId> {
        self.actor
    }

    /// Former actors of this replica that have issued something and are not folded, and the last counters that they
    /// issued, as far as this disk knows.
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

    /// The highest stamp that was seen and was not far ahead then, also of writes that nothing is left of. The
    /// node's clock starts from it ([`Hlc::starting`](crate::hlc::Hlc::starting)).
    #[must_use]
    pub const fn highest(&self) -> Stamp {
        self.highest
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

    /// The stored dots in `clock` behind `after` whose context is still known, in order.
    pub fn remembered<'a>(
        &'a self,
        clock: &'a Clock,
        after: Option<Dot>,
    ) -> impl Iterator<Item = Dot> + 'a {
        let spans = clock.tracks().flat_map(|(actor, track)| {
            track.spans().map(|span| (Dot::new(*actor, span.first), Dot::new(*actor, span.last)))
        });
        let behind = move |(first, last): (Dot, Dot)| {
            let first = after.map_or(first, |after| first.max(after));
            (first <= last).then_some((first, last))
        };
        let found = spans
            .filter_map(behind)
            .flat_map(|(first, last)| self.remembered.range(first..=last).copied());
        found.filter(move |dot| after != Some(*dot))
    }

    /// The values that end at some time, by that time.
    #[must_use]
    pub const fn deadlines(&self) -> &BTreeSet<(Stamp, Dot)> {
        &self.deadlines
    }

    /// The values whose time is over, by their deadlines, behind one that was looked at before.
    pub fn due(
        &self,
        now: Stamp,
        after: Option<(Stamp, Dot)>,
    ) -> impl Iterator<Item = (Stamp, Dot)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.deadlines.range((from, Bound::Unbounded)).copied();
        behind.take_while(move |(deadline, _)| *deadline <= now)
    }

    /// Whether this replica issues the dots of an actor, or did before it was started anew.
    #[must_use]
    pub fn is_own(&self, actor: &ActorId) -> bool {
        self.actor.as_ref() == Some(actor) || self.sealed.contains_key(actor)
    }

    /// What is counted of the entries.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The keys that have something pending, in order. Normally none.
    pub fn pending_keys(&self) -> impl Iterator<Item = &EntryKey> {
        self.pending.keys()
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
                    let last = self.clock.last(&former);
                    if last > 0 {
                        self.sealed.insert(former, last);
                    }
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
                if sibling.context.is_some() {
                    self.remembered.insert(*dot);
                } else {
                    self.remembered.remove(dot);
                }
                self.deadlines.extend(sibling.ends().map(|deadline| (deadline, *dot)));
                let entry = self.entries.entry(key.clone()).or_default();
                let was = is_conflict(Some(&*entry));
                entry.put(*dot, sibling.clone());
                self.tally.changed(was, is_conflict(Some(&*entry)));
                self.tally.put(*dot, sibling.body.is_certificate());
            }
            Change::Removed { key, dot } => {
                let was = is_conflict(self.entries.get(key));
                let entry = self.entries.get_mut(key);
                let gone = entry.and_then(|entry| entry.remove(*dot));
                assert!(gone.is_some(), "{dot} is not stored");
                if let Some(deadline) = gone.as_ref().and_then(Sibling::ends) {
                    self.deadlines.remove(&(deadline, *dot));
                }
                self.tally.changed(was, is_conflict(self.entries.get(key)));
                self.tally.removed(*dot);
                self.dots.remove(dot);
                self.remembered.remove(dot);
                self.drop_if_empty(key);
            }
            // Only certificates sleep, which are in no conflict.
            Change::Slept { key, dot } => {
                let entry = self.entries.get_mut(key);
                assert!(entry.is_some_and(|entry| entry.sleep(*dot)), "{dot} is not stored");
                self.tally.removed(*dot);
                self.dots.remove(dot);
                self.remembered.remove(dot);
            }
            Change::Woke { key, dot } => {
                let entry = self.entries.get_mut(key);
                assert!(entry.is_some_and(|entry| entry.wake(*dot)), "{dot} does not sleep");
                self.tally.put(*dot, true);
                self.dots.insert(*dot, key.clone());
                self.remembered.insert(*dot);
            }
            Change::Header { key, pending, stamp } => {
                let counted = self.pending.get(key).copied().unwrap_or_default();
                let entry = self.entries.entry(key.clone()).or_default();
                let (gone, came) = (entry.pending().count(), pending.count());
                match counted.wrapping_sub(gone).wrapping_add(came) {
                    0 => self.pending.remove(key),
                    count => self.pending.insert(key.clone(), count),
                };
                entry.set_header(pending.clone(), *stamp);
                self.drop_if_empty(key);
            }
            Change::Raised { dot } => {
                self.horizon.raise(*dot);
            }
            Change::Stamped { stamp } => self.highest = self.highest.max(*stamp),
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
                self.sealed.remove(&fold.actor);
            }
        }
    }

    /// In how many items beside the first an entry is stored, as items were given out last.
    pub(crate) fn pieces(&self, key: &EntryKey) -> u32 {
        self.pieces.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn set_pieces(&mut self, key: EntryKey, pieces: u32) {
        if pieces == 0 {
            self.pieces.remove(&key);
        } else {
            self.pieces.insert(key, pieces);
        }
    }

    fn drop_if_empty(&mut self, key: &EntryKey) {
        if self.entries.get(key).is_some_and(Entry::is_empty) {
            self.entries.remove(key);
        }
    }

    /// The keys of whose entries something is missing that an index names. Reads everything.
    pub(crate) fn missing(&self) -> BTreeSet<EntryKey> {
        let is_gone = |(dot, key): &(&Dot, &EntryKey)| {
            self.entries.get(*key).is_none_or(|entry| !entry.siblings().contains_key(*dot))
        };
        let gone = self.dots.iter().filter(is_gone).map(|(_, key)| key);
        let gone = gone.chain(self.pending_keys().filter(|key| !self.is_pending_sound(key)));
        gone.cloned().collect()
    }

    /// Whether an entry keeps the invariants and is what the indexes say of it.
    pub(crate) fn is_entry_sound(&self, key: &EntryKey, entry: &Entry) -> bool {
        let is_indexed = |(dot, sibling): (&Dot, &Sibling)| {
            self.dots.get(dot) == Some(key)
                && self.remembered.contains(dot) == sibling.context.is_some()
        };
        self.verify_entry(key, entry).is_ok()
            && entry.siblings().iter().all(is_indexed)
            && self.is_pending_sound(key)
    }

    /// Whether as much is pending for a key as the index says.
    pub(crate) fn is_pending_sound(&self, key: &EntryKey) -> bool {
        let stored = self.entries.get(key).map_or(0, |entry| entry.pending().count());
        self.pending.get(key).copied().unwrap_or_default() == stored
    }

    /// The stored dots behind one, in order, with their keys: what an index says.
    pub(crate) fn indexed(&self, after: Option<Dot>) -> impl Iterator<Item = (&Dot, &EntryKey)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.dots.range((from, Bound::Unbounded))
    }

    /// What a disk does that loses a write: the entry has it no longer, and the index still names it.
    pub(crate) fn lose(&mut self, key: &EntryKey, dot: Dot) -> Sibling {
        let was = is_conflict(self.entries.get(key));
        let entry = self.entries.get_mut(key).expect("there is something to lose");
        let lost = entry.remove(dot).expect("what is lost was stored");
        self.tally.changed(was, is_conflict(self.entries.get(key)));
        lost
    }

    /// Puts back what was lost.
    pub(crate) fn find(&mut self, key: &EntryKey, dot: Dot, sibling: Sibling) {
        let was = is_conflict(self.entries.get(key));
        self.entries.entry(key.clone()).or_default().put(dot, sibling);
        self.tally.changed(was, is_conflict(self.entries.get(key)));
    }

    /// The same with what is pending for a key.
    pub(crate) fn lose_pending(&mut self, key: &EntryKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            let stamp = entry.stamp();
            entry.set_header(Clock::default(), stamp);
        }
    }

    /// The first invariant that is broken, for tests and scrubs; reads everything.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn verify(&self) -> Result<(), String> {
        let mut stored = BTreeMap::new();
        let mut pending = BTreeMap::new();
        let mut remembered = BTreeSet::new();
        let mut deadlines = BTreeSet::new();
        for (key, entry) in &self.entries {
            if entry.is_empty() {
                return Err(format!("{key:?} is empty"));
            }
            if !entry.pending().is_empty() {
                pending.insert(key.clone(), entry.pending().count());
            }
            for (dot, sibling) in entry.siblings() {
                stored.insert(*dot, key.clone());
                if sibling.context.is_some() {
                    remembered.insert(*dot);
                }
                deadlines.extend(sibling.ends().map(|deadline| (deadline, *dot)));
            }
            self.verify_entry(key, entry)?;
        }
        if stored != self.dots {
            return Err("the index of dots is not that of what is stored".to_owned());
        }
        if pending != self.pending {
            return Err("the index of pending keys is not that of the entries".to_owned());
        }
        if remembered != self.remembered {
            return Err("the index of contexts is not that of what is stored".to_owned());
        }
        if deadlines != self.deadlines {
            return Err("the index of deadlines is not that of what is stored".to_owned());
        }
        if tally_of(&self.entries) != self.tally {
            return Err("what is counted of the entries is not so".to_owned());
        }
        self.verify_actor()
    }

    fn verify_actor(&self) -> Result<(), String> {
        if let Some(actor) = self.actor
            && self.clock.base(&actor) != self.clock.last(&actor)
        {
            return Err(format!("a dot of {actor} is missing"));
        }
        Ok(())
    }

    fn verify_entry(&self, key: &EntryKey, entry: &Entry) -> Result<(), String> {
        for (dot, sibling) in entry.dormant() {
            if sibling.is_live() || sibling.context.is_none() {
                return Err(format!(
                    "{dot} of {key:?} sleeps and is no certificate with a context"
                ));
            }
            if !self.clock.contains(*dot) || !self.horizon.reaches(*dot) {
                return Err(format!("{dot} of {key:?} sleeps unknown, or above the horizon"));
            }
        }
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

fn tally_of(entries: &BTreeMap<EntryKey, Entry>) -> Tally {
    let mut tally = Tally::default();
    for entry in entries.values() {
        for (dot, sibling) in entry.siblings() {
            tally.put(*dot, sibling.body.is_certificate());
        }
        tally.changed(false, is_conflict(Some(entry)));
    }
    tally
}
