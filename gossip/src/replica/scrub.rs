//! Everything that a replica has, verified in small steps.

use std::ops::Bound;

use bytes::Bytes;

use super::Replica;
use crate::dot::Dot;
use crate::items::{Item, StoreHas, stored};
use crate::record::{EntryKey, Record};
use crate::tree::{Leaf, Place};

/// Where a scrub goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrubbing {
    /// Leaves from this place on: what was put is what is stored.
    Leaves(Place),
    /// Entries from this key on, or from the first: they keep the invariants, and the indexes name what they have.
    Entries(Option<EntryKey>),
    /// Dots behind this one, or all: what the index names is there.
    Dots(Option<Dot>),
    /// Everything was verified.
    Done,
}

impl Scrubbing {
    /// A scrub that begins.
    pub const START: Self = Self::Leaves(Place(0));
}

impl Replica {
    /// Verifies about `count` keys, leaves or dots, from where a scrub has come to. What is found is
    /// [`Replica::damage`].
    #[must_use]
    pub fn scrub_on(&mut self, at: Scrubbing, count: usize) -> Scrubbing {
        match at {
            Scrubbing::Leaves(from) => self.scrub_leaves(from, count),
            Scrubbing::Entries(from) => self.scrub_entries(from, count),
            Scrubbing::Dots(after) => self.scrub_dots(after, count),
            Scrubbing::Done => Scrubbing::Done,
        }
    }

    fn scrub_leaves(&mut self, mut from: Place, count: usize) -> Scrubbing {
        let mut left = count;
        while left > 0 {
            let leaf = self.tree.leaf_of(from);
            left = left.saturating_sub(1 + self.keys_below(leaf).count());
            if self.scrub(leaf) == Leaf::Damaged {
                self.damage.insert(leaf);
            }
            let (_, last) = leaf.places();
            let Some(next) = last.0.checked_add(1) else { return Scrubbing::Entries(None) };
            from = Place(next);
        }
        Scrubbing::Leaves(from)
    }

    fn scrub_entries(&mut self, from: Option<EntryKey>, count: usize) -> Scrubbing {
        let first = from.unwrap_or_else(EntryKey::lowest);
        let mut entries = self.state.entries_from(&first);
        let bad: Vec<EntryKey> = (&mut entries)
            .take(count)
            .filter(|(key, entry)| !self.state.is_entry_sound(key, entry))
            .map(|(key, _)| key.clone())
            .collect();
        let next = entries.next().map(|(key, _)| key.clone());
        drop(entries);
        for key in bad {
            self.damaged(&key);
        }
        next.map_or(Scrubbing::Dots(None), |key| Scrubbing::Entries(Some(key)))
    }

    fn scrub_dots(&mut self, after: Option<Dot>, count: usize) -> Scrubbing {
        let (mut last, mut bad) = (None, Vec::new());
        for (dot, key) in self.state.indexed(after).take(count) {
            let entry = self.state.entry(key);
            if entry.is_none_or(|entry| !entry.siblings().contains_key(dot)) {
                bad.push(key.clone());
            }
            last = Some(*dot);
        }
        for key in bad {
            self.damaged(&key);
        }
        last.map_or(Scrubbing::Done, |dot| Scrubbing::Dots(Some(dot)))
    }

    /// The items that the store has to hold of up to `count` entries from a key on, and where to go on; `None` behind
    /// the last entry.
    #[must_use]
    pub fn items_from(&self, from: &EntryKey, count: usize) -> (Vec<Item>, Option<EntryKey>) {
        let mut entries = self.state.entries_from(from);
        let of_entry = |(key, entry)| stored::of_entry(key, entry);
        let items = entries.by_ref().take(count).flat_map(of_entry).collect();
        (items, entries.next().map(|(key, _)| key.clone()))
    }

    /// The items that the store has to hold and that are of no entry.
    #[must_use]
    pub fn items_of_no_entry(&self) -> Vec<Item> {
        let mut items = stored::of_rest(&self.state);
        items.push(self.dirty.sums());
        items
    }

    /// The items of up to `count` writes that wait, from one on or all, and where to go on; `None` behind the last one.
    #[must_use]
    pub fn items_of_kept(
        &self,
        from: Option<(EntryKey, Dot)>,
        count: usize,
    ) -> (Vec<Item>, Option<(EntryKey, Dot)>) {
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let mut kept = self.kept.range((from, Bound::Unbounded));
        let of_kept =
            |((key, dot), record): (&(EntryKey, Dot), &Record)| stored::of_kept(key, *dot, record);
        let items = kept.by_ref().take(count).map(of_kept).collect();
        (items, kept.next().map(|(at, _)| at.clone()))
    }

    /// Compares what the store has with an item that it has to hold.
    #[must_use]
    pub fn compare(&self, item: &Item, found: Option<&Bytes>) -> StoreHas {
        stored::compare(&self.state, item, found)
    }

    /// The store holds something else than this item: one of the two is damaged, and the store has checksums.
    pub fn contradicted(&mut self, item: &Bytes) {
        if let Some(key) = stored::key_of(item) {
            self.damaged(&key);
        }
    }

    /// Whether the item may be another one since [`Replica::take_items`]: the store cannot have it yet.
    #[must_use]
    pub fn has_changed(&self, item: &Bytes) -> bool {
        self.dirty.has(item)
    }

    /// Gives an item out again: the store has lost it. Where what is here is not whole, that is damage.
    pub fn store_again(&mut self, item: &Bytes) {
        if let Some(key) = stored::key_of(item) {
            let is_sound = |entry| self.state.is_entry_sound(&key, entry);
            if self.verify(&key) == Leaf::Damaged || !self.state.entry(&key).is_none_or(is_sound) {
                return self.damaged(&key);
            }
        }
        self.dirty.touch(item, &self.state);
        self.position = self.position.next();
    }
}
