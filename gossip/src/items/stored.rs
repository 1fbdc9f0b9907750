//! What a store has to hold, item by item, for who compares.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::codec::{self, About};
use super::{Dirty, Item};
use crate::dot::Dot;
use crate::entry::{Entry, Sibling};
use crate::error::DecodeError;
use crate::record::{Body, EntryKey, Record};
use crate::state::State;

/// The items of an entry: itself, and those of its values that are items of their own.
pub(crate) fn of_entry(key: &EntryKey, entry: &Entry) -> Vec<Item> {
    let values = entry.live().filter(|(_, sibling)| super::dirty::is_large(&sibling.body));
    let value = |sibling: &Sibling| match &sibling.body {
        Body::Value(value) => Some(value.clone()),
        Body::Certificate => None,
    };
    let values = values.map(|(dot, s)| Item { key: codec::value_key(key, dot), value: value(s) });
    let pieces = (0..).zip(codec::divided(codec::entry(entry)));
    let pieces = pieces.map(|(number, piece)| match number {
        0 => Item { key: codec::entry_key(key), value: Some(piece) },
        number => Item { key: codec::piece_key(key, number), value: Some(piece) },
    });
    pieces.chain(values).collect()
}

/// The items that belong to no key, but for the sums.
pub(crate) fn of_rest(state: &State) -> Vec<Item> {
    Dirty::rest(state)
}

/// What a store has in place of an item that it has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreHas {
    /// The same.
    Same,
    /// Nothing, or less: it has lost something.
    Less,
    /// Something else, or more. Either may be what was put.
    Other,
}

/// Compares an item with what a store has. Of an entry in one piece contexts do not count.
pub(crate) fn compare(state: &State, item: &Item, found: Option<&Bytes>) -> StoreHas {
    let Some(found) = found else { return StoreHas::Less };
    if item.value.as_ref() == Some(found) {
        return StoreHas::Same;
    }
    let key = match codec::about(&item.key) {
        Some(About::Entry(key)) => key,
        Some(About::Value(..) | About::Piece(..) | About::Kept(..)) => return StoreHas::Other,
        _ => return StoreHas::Less,
    };
    let Some(entry) = state.entry(&key) else { return StoreHas::Other };
    let large = |dot: Dot| {
        let body = entry.siblings().get(&dot).map(|sibling| &sibling.body);
        match body {
            Some(Body::Value(value)) => Ok(value.clone()),
            _ => Err(DecodeError::Truncated),
        }
    };
    // What cannot be read here is in pieces, or was nothing that was put.
    let Ok(found) = codec::read_entry(found, state.folds(), large) else { return StoreHas::Other };
    let dots = |entry: &Entry| -> BTreeSet<Dot> {
        entry.siblings().keys().chain(entry.dormant().keys()).copied().collect()
    };
    let (here, there) = (dots(entry), dots(&found));
    if is_same_entry(entry, &found) {
        StoreHas::Same
    } else if there.len() < here.len() && there.is_subset(&here) {
        StoreHas::Less
    } else {
        StoreHas::Other
    }
}

fn is_same_entry(one: &Entry, other: &Entry) -> bool {
    let bare = |sibling: &Sibling| Sibling { context: None, ..sibling.clone() };
    let all = |entry: &Entry| -> Vec<_> {
        let siblings = entry.siblings().iter().chain(entry.dormant());
        siblings.map(|(dot, sibling)| (*dot, bare(sibling))).collect()
    };
    one.stamp() == other.stamp()
        && one.pending().same_dots(other.pending())
        && one.siblings().len() == other.siblings().len()
        && all(one) == all(other)
}

/// The key that an item is of, whether itself or one of its values.
pub(crate) fn key_of(item: &Bytes) -> Option<EntryKey> {
    match codec::about(item)? {
        About::Entry(key) | About::Piece(key, _) | About::Value(key, _) | About::Kept(key, _) => {
            Some(key)
        }
        About::Actor
        | About::Clock
        | About::Fold(_)
        | About::Horizon
        | About::Sealed(_)
        | About::Stamp
        | About::Sums => None,
    }
}

/// The item of a write that waits.
pub(crate) fn of_kept(key: &EntryKey, dot: Dot, record: &Record) -> Item {
    Item { key: codec::kept_key(key, dot), value: Some(codec::kept(record)) }
}
