//! What has changed since items were given out last.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::codec::About;
use super::sum::Sums;
use super::{INLINE_BYTES_MAX, Item, codec};
use crate::actor::ActorId;
use crate::change::Change;
use crate::clock::FoldNumber;
use crate::dot::Dot;
use crate::hlc::Stamp;
use crate::record::{Body, EntryKey};
use crate::replica::Kept;
use crate::state::State;

/// What has changed since items were given out last, and what all that has not changed comes to.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// Without the entries that have changed.
    sums: Sums,
    changed: Changed,
}

#[derive(Debug, Default, PartialEq)]
struct Changed {
    actor: bool,
    clock: bool,
    horizon: bool,
    stamp: bool,
    sealed: BTreeSet<ActorId>,
    folds: BTreeSet<FoldNumber>,
    entries: BTreeSet<EntryKey>,
    /// Large values that were put or removed.
    values: BTreeSet<(EntryKey, Dot)>,
    /// What waits, or waits no longer.
    kept: BTreeSet<(EntryKey, Dot)>,
}

impl Dirty {
    /// Nothing has changed since the items gave this.
    pub(crate) fn starting(state: &State, kept: &Kept) -> Self {
        Self { sums: Sums::of(state, kept), changed: Changed::default() }
    }

    /// The items that belong to no key, without the sums.
    pub(crate) fn rest(state: &State) -> Vec<Item> {
        let changed = Changed {
            actor: true,
            clock: !state.clock().is_empty(),
            horizon: state.horizon().dots().next().is_some(),
            stamp: state.highest() > Stamp::ZERO,
            sealed: state.sealed().keys().copied().collect(),
            folds: state.folds().iter().map(|fold| fold.number).collect(),
            ..Changed::default()
        };
        changed.items_beside(state, &Kept::new())
    }

    /// An item is to be given out again, because the store has not got it.
    pub(crate) fn touch(&mut self, item: &Bytes, state: &State) {
        match codec::about(item) {
            Some(About::Entry(key) | About::Piece(key, _)) => self.note_entry(&key, state),
            Some(About::Value(key, dot)) => {
                self.changed.values.insert((key, dot));
            }
            Some(About::Kept(key, dot)) => {
                self.changed.kept.insert((key, dot));
            }
            Some(About::Sealed(actor)) => {
                self.changed.sealed.insert(actor);
            }
            Some(About::Fold(number)) => {
                self.changed.folds.insert(number);
            }
            Some(About::Actor | About::Clock | About::Horizon | About::Stamp | About::Sums) => {
                let changed = &mut self.changed;
                (changed.actor, changed.clock, changed.stamp) = (true, true, true);
                changed.horizon = state.horizon().dots().next().is_some();
            }
            None => {}
        }
    }

    /// Takes note that a write waits from now on, or does so no longer.
    pub(crate) fn note_kept(&mut self, key: &EntryKey, dot: Dot, waits: bool) {
        if waits {
            self.sums.add_kept(key, dot);
        } else {
            self.sums.remove_kept(key, dot);
        }
        self.changed.kept.insert((key.clone(), dot));
    }

    /// The sums of all that was given out.
    pub(crate) fn sums(&self) -> Item {
        Item { key: codec::sums_key(), value: Some(self.sums.bytes()) }
    }

    /// Whether an item is another one since items were given out last, or may be.
    pub(crate) fn has(&self, item: &Bytes) -> bool {
        match codec::about(item) {
            Some(About::Entry(key) | About::Piece(key, _) | About::Value(key, _)) => {
                self.changed.entries.contains(&key)
            }
            _ => !self.is_empty(),
        }
    }

    fn is_empty(&self) -> bool {
        self.changed == Changed::default()
    }

    fn note_entry(&mut self, key: &EntryKey, state: &State) {
        if self.changed.entries.insert(key.clone()) {
            self.sums.remove_entry(key, state.entry(key));
        }
    }

    /// Takes note of a change that is about to be made to `state`.
    pub(crate) fn note(&mut self, change: &Change, state: &State) {
        if let Change::Put { key, .. }
        | Change::Removed { key, .. }
        | Change::Slept { key, .. }
        | Change::Woke { key, .. }
        | Change::Header { key, .. } = change
        {
            self.note_entry(key, state);
        }
        self.changed.note(change, state);
    }

    /// The items of what has changed, as it is in `state`, and the sums if anything has.
    pub(crate) fn items(&mut self, state: &mut State, kept: &Kept) -> Vec<Item> {
        if self.is_empty() {
            return Vec::new();
        }
        let changed = std::mem::take(&mut self.changed);
        for key in &changed.entries {
            self.sums.add_entry(key, state.entry(key));
        }
        self.sums.set_rest(state);
        let mut items = changed.items(state, kept);
        items.push(Item { key: codec::sums_key(), value: Some(self.sums.bytes()) });
        items
    }
}

impl Changed {
    fn note(&mut self, change: &Change, state: &State) {
        match change {
            Change::Started { .. } => {
                self.actor = true;
                self.sealed.extend(state.actor());
            }
            Change::Issued { .. } | Change::Learned { .. } | Change::Joined { .. } => {
                self.clock = true
            }
            Change::Folded { fold } => {
                self.clock = true;
                self.sealed.insert(fold.actor);
            }
            Change::Put { key, dot, sibling } => {
                let stored = state.entry(key).and_then(|entry| entry.siblings().get(dot));
                if stored.is_none() && is_large(&sibling.body) {
                    self.values.insert((key.clone(), *dot));
                }
            }
            Change::Removed { key, dot } => {
                let stored = state.entry(key).and_then(|entry| entry.siblings().get(dot));
                if stored.is_some_and(|sibling| is_large(&sibling.body)) {
                    self.values.insert((key.clone(), *dot));
                }
            }
            Change::Slept { .. } | Change::Woke { .. } | Change::Header { .. } => {}
            Change::Raised { .. } => self.horizon = true,
            Change::Stamped { .. } => self.stamp = true,
            Change::FoldLearned { fold } => {
                self.folds.insert(fold.number);
                // What is usual in a horizon follows from the folds.
                self.horizon = true;
            }
        }
    }

    fn items(mut self, state: &mut State, kept: &Kept) -> Vec<Item> {
        let entries = std::mem::take(&mut self.entries);
        let mut items = self.items_beside(state, kept);
        for key in entries {
            entry_items(key, state, &mut items);
        }
        items
    }

    /// All but the entries.
    fn items_beside(self, state: &State, kept: &Kept) -> Vec<Item> {
        let mut items = Vec::new();
        let put = |key: Bytes, value: Bytes| Item { key, value: Some(value) };
        if self.actor
            && let Some(actor) = state.actor()
        {
            items.push(put(codec::actor_key(), codec::actor(actor)));
        }
        if self.clock {
            items.push(put(codec::clock_key(), state.clock().encode(FoldNumber::ALL).into()));
        }
        if self.horizon {
            items.push(put(codec::horizon_key(), codec::horizon(state.horizon(), state.folds())));
        }
        if self.stamp {
            items.push(put(codec::stamp_key(), codec::number(state.highest().0)));
        }
        for actor in self.sealed {
            let value = state.sealed().get(&actor).map(|last| codec::number(*last));
            items.push(Item { key: codec::sealed_key(actor), value });
        }
        for number in self.folds {
            let fold = state.folds().get(number);
            items.extend(fold.map(|fold| put(codec::fold_key(number), codec::fold(fold))));
        }
        for (key, dot) in self.values {
            let sibling = state.entry(&key).and_then(|entry| entry.siblings().get(&dot));
            let value = sibling.and_then(|sibling| match &sibling.body {
                Body::Value(value) => Some(value.clone()),
                Body::Certificate => None,
            });
            items.push(Item { key: codec::value_key(&key, dot), value });
        }
        for (key, dot) in self.kept {
            let key = (key, dot);
            let value = kept.get(&key).map(codec::kept);
            items.push(Item { key: codec::kept_key(&key.0, dot), value });
        }
        items
    }
}

/// The items of an entry as it is now, and those that it has no more.
fn entry_items(key: EntryKey, state: &mut State, items: &mut Vec<Item>) {
    let pieces = state.entry(&key).map(|entry| codec::divided(codec::entry(entry)));
    let mut pieces = pieces.into_iter().flatten();
    items.push(Item { key: codec::entry_key(&key), value: pieces.next() });
    let before = state.pieces(&key);
    let mut now = 0;
    for piece in pieces {
        now += 1;
        items.push(Item { key: codec::piece_key(&key, now), value: Some(piece) });
    }
    let gone = (now + 1)..=before;
    items.extend(gone.map(|number| Item { key: codec::piece_key(&key, number), value: None }));
    state.set_pieces(key, now);
}

/// Whether the value is an item of its own.
pub(super) fn is_large(body: &Body) -> bool {
    body.value_bytes() > INLINE_BYTES_MAX
}
