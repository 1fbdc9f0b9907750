//! What has changed since items were given out last.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{INLINE_BYTES_MAX, Item, codec};
use crate::actor::ActorId;
use crate::change::Change;
use crate::clock::FoldNumber;
use crate::dot::Dot;
use crate::record::{Body, EntryKey};
use crate::state::State;

/// What has changed since items were given out last.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    actor: bool,
    clock: bool,
    horizon: bool,
    stamp: bool,
    sealed: BTreeSet<ActorId>,
    folds: BTreeSet<FoldNumber>,
    entries: BTreeSet<EntryKey>,
    /// Large values that were put or removed.
    values: BTreeSet<(EntryKey, Dot)>,
}

impl Dirty {
    /// Takes note of a change that is about to be made to `state`.
    pub(crate) fn note(&mut self, change: &Change, state: &State) {
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
                self.entries.insert(key.clone());
            }
            Change::Removed { key, dot } => {
                let stored = state.entry(key).and_then(|entry| entry.siblings().get(dot));
                if stored.is_some_and(|sibling| is_large(&sibling.body)) {
                    self.values.insert((key.clone(), *dot));
                }
                self.entries.insert(key.clone());
            }
            Change::Slept { key, .. } | Change::Woke { key, .. } | Change::Header { key, .. } => {
                self.entries.insert(key.clone());
            }
            Change::Raised { .. } => self.horizon = true,
            Change::Stamped { .. } => self.stamp = true,
            Change::FoldLearned { fold } => {
                self.folds.insert(fold.number);
                // What is usual in a horizon follows from the folds.
                self.horizon = true;
            }
        }
    }

    /// The items of what has changed, as it is in `state`.
    pub(crate) fn items(self, state: &mut State) -> Vec<Item> {
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
        for key in self.entries {
            entry_items(key, state, &mut items);
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
