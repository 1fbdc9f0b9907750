//! A state from its items.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ItemsDamaged;
use super::codec::{self, About};
use super::sum::Sums;
use crate::clock::{Clock, Folds};
use crate::dot::Dot;
use crate::entry::Entry;
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::record::{EntryKey, Record};
use crate::replica::Kept;
use crate::state::{Parts, State};

/// What the items of a store come to; by default, nothing.
#[derive(Debug, Default)]
pub struct Restored {
    /// The state. Nothing of a store that holds no items.
    pub state: State,
    /// What waits beside it.
    pub kept: Kept,
    /// How many items there were.
    pub items: usize,
}

/// The state that these items were given out of. All of them are looked at, and what they say is held against each
/// other: what is stored is in the clock, a dot is of one key, no value is missing or left over, and they come to the
/// sums that were written with them. Where the sums themselves are gone, or none were written yet, all else counts as whole.
///
/// # Errors
/// [`ItemsDamaged`]: the store lost something or holds something that is not of this replica.
pub fn restore(items: impl IntoIterator<Item = (Bytes, Bytes)>) -> Result<Restored, ItemsDamaged> {
    let mut found = Found::default();
    let mut count = 0;
    for (key, value) in items {
        count += 1;
        found.take(key, value)?;
    }
    let kept = std::mem::take(&mut found.kept).into_iter();
    let kept: Kept = kept.map(|record| ((record.key.clone(), record.dot), record)).collect();
    let sums = found.sums.take();
    let state = found.state()?;
    if sums.is_some_and(|sums| sums != Sums::of(&state, &kept).bytes()) {
        return Err(ItemsDamaged::Sum);
    }
    Ok(Restored { state, kept, items: count })
}

/// Items that were not looked into: folds have to be known before clocks can be read.
#[derive(Default)]
pub(super) struct Found {
    pub(super) parts: Parts,
    clock: Option<Bytes>,
    horizon: Option<Bytes>,
    sums: Option<Bytes>,
    pub(super) entries: Vec<(EntryKey, Bytes, Bytes)>,
    pub(super) values: BTreeMap<(EntryKey, Dot), Bytes>,
    pub(super) pieces: BTreeMap<(EntryKey, u32), Bytes>,
    pub(super) kept: Vec<Record>,
}

impl Found {
    pub(super) fn take(&mut self, key: Bytes, value: Bytes) -> Result<(), ItemsDamaged> {
        let about = codec::about(&key).ok_or_else(|| ItemsDamaged::UnknownKind(key.clone()))?;
        let bad = |cause| ItemsDamaged::Item { key: key.clone(), cause };
        match about {
            About::Actor => self.parts.actor = Some(codec::read_actor(&value).map_err(bad)?),
            About::Clock => self.clock = Some(value),
            About::Horizon => self.horizon = Some(value),
            About::Sealed(actor) => {
                let last = codec::read_number(&value).map_err(bad)?;
                self.parts.sealed.insert(actor, last);
            }
            About::Stamp => {
                self.parts.highest = Stamp(codec::read_number(&value).map_err(bad)?);
            }
            About::Fold(number) => {
                let fold = codec::read_fold(number, &value).map_err(bad)?;
                if !self.parts.folds.try_learn(fold) {
                    let why = format!("{} is folded twice", fold.actor);
                    return Err(ItemsDamaged::Contradiction(why));
                }
            }
            About::Sums => self.sums = Some(value),
            About::Kept(entry, dot) => {
                self.kept.push(codec::read_kept(&entry, dot, &value).map_err(bad)?);
            }
            About::Entry(entry) => self.entries.push((entry, key, value)),
            About::Value(key, dot) => {
                self.values.insert((key, dot), value);
            }
            About::Piece(key, number) => {
                self.pieces.insert((key, number), value);
            }
        }
        Ok(())
    }

    fn state(mut self) -> Result<State, ItemsDamaged> {
        if let Some(bytes) = self.clock {
            let bad = |cause| ItemsDamaged::Item { key: codec::clock_key(), cause };
            self.parts.clock = Clock::decode(&bytes, &self.parts.folds).map_err(bad)?;
        }
        let folds = self.parts.folds.clone();
        if let Some(bytes) = self.horizon {
            let bad = |cause| ItemsDamaged::Item { key: codec::horizon_key(), cause };
            self.parts.horizon = codec::read_horizon(&bytes, &folds).map_err(bad)?;
        } else if !folds.is_empty() {
            return Err(ItemsDamaged::Contradiction("there are folds and no horizon".to_owned()));
        }
        for (key, item, first) in self.entries {
            let (bytes, pieces) = join_pieces(&key, &item, first, &mut self.pieces)?;
            let entry = read_entry(&key, &item, &bytes, &folds, &mut self.values)?;
            if pieces > 0 {
                self.parts.pieces.insert(key.clone(), pieces);
            }
            self.parts.entries.insert(key, entry);
        }
        if let Some((key, number)) = self.pieces.keys().next() {
            return Err(ItemsDamaged::PieceLeft(codec::piece_key(key, *number)));
        }
        if let Some((key, dot)) = self.values.keys().next() {
            return Err(ItemsDamaged::ValueLeft(codec::value_key(key, *dot)));
        }
        State::of_parts(self.parts).map_err(ItemsDamaged::Contradiction)
    }
}

/// All bytes of an entry, and how many further pieces they came in.
pub(super) fn join_pieces(
    key: &EntryKey,
    item: &Bytes,
    first: Bytes,
    pieces: &mut BTreeMap<(EntryKey, u32), Bytes>,
) -> Result<(Bytes, u32), ItemsDamaged> {
    let bad = |cause| ItemsDamaged::Item { key: item.clone(), cause };
    let (count, begins) = codec::further_pieces(&first).map_err(bad)?;
    if count == 0 {
        return Ok((first, 0));
    }
    let mut bytes = first[begins..].to_vec();
    for number in 1..=count {
        let piece = pieces.remove(&(key.clone(), number));
        let missing = || ItemsDamaged::PieceMissing(codec::piece_key(key, number));
        bytes.extend_from_slice(&piece.ok_or_else(missing)?);
    }
    Ok((bytes.into(), count))
}

fn read_entry(
    key: &EntryKey,
    item: &Bytes,
    bytes: &[u8],
    folds: &Folds,
    values: &mut BTreeMap<(EntryKey, Dot), Bytes>,
) -> Result<Entry, ItemsDamaged> {
    let mut missing = None;
    let large = |dot: Dot| {
        values.remove(&(key.clone(), dot)).ok_or_else(|| {
            missing = Some(codec::value_key(key, dot));
            DecodeError::Truncated
        })
    };
    codec::read_entry(bytes, folds, large).map_err(|cause| match missing {
        Some(key) => ItemsDamaged::ValueMissing(key),
        None => ItemsDamaged::Item { key: item.clone(), cause },
    })
}
