//! What a member says when it is asked for keys.
//!
//! An answer is bounded, whatever the keys hold: it ends before a key that would make it too long, and of its first key
//! it leaves out values, the newest last, and contexts if it has to. Which dots there are it always says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proto::KeyspaceId;

use crate::clock::{Clock, FoldNumber};
use crate::dot::Dot;
use crate::entry::{Entry, Sibling};
use crate::hlc::Stamp;
use crate::quorum;
use crate::record::{Body, EntryKey};
use crate::replica::Replica;
use crate::session::clock_bytes;
use crate::table::TRACKS_MAX;
use crate::token::Token;
use crate::tree::Leaf;

/// Bytes of values in one answer; one value may be longer.
pub const ANSWER_VALUES_MAX: usize = 1 << 20;

/// Bytes of one key beside its values, above which an answer says it without contexts. Without them it has to
/// fit.
const KEY_BYTES_MAX: usize = 512 * 1024;

/// Bytes of a clock that an answer says.
const CLOCK_BYTES_MAX: usize = 384 * 1024;

/// Entries that one answer looks at; deleted ones take time and no room.
const LOOKS_MAX: usize = 10_000;

/// What a sibling takes beside its value and its context, about.
const SIBLING_BYTES: usize = 96;

/// Where a value stands among those of its key: stamp, rank, dot.
pub type ValuePlace = ((Stamp, Dot), Dot);

/// Where a value stands among those of its key.
#[must_use]
pub const fn value_place(dot: Dot, sibling: &Sibling) -> ValuePlace {
    (sibling.place(), dot)
}

/// Which keys a read asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRange {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The first key.
    pub from: Bytes,
    /// Behind the last key; empty: up to the end of the keyspace.
    pub to: Bytes,
    /// So many keys with values at most.
    pub limit: usize,
    /// Which values are to be sent.
    pub values: ReadValues,
}

/// Which values an answer is to hold. What it leaves out it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadValues {
    /// None.
    None,
    /// All, as far as there is room, the newest first.
    All,
    /// Those that stand there or below, likewise.
    From(ValuePlace),
}

impl ReadRange {
    /// A single key.
    #[must_use]
    pub fn of_key(key: &EntryKey, values: ReadValues) -> Self {
        let mut to = key.key.to_vec();
        to.push(0);
        Self { keyspace: key.keyspace, from: key.key.clone(), to: to.into(), limit: 1, values }
    }

    /// The key, if the range holds no other.
    #[must_use]
    pub fn key(&self) -> Option<EntryKey> {
        let (last, before) = self.to.split_last()?;
        (*last == 0 && before == &self.from[..])
            .then(|| EntryKey::new(self.keyspace, self.from.clone()))
    }

    fn holds(&self, key: &EntryKey) -> bool {
        key.keyspace == self.keyspace && (self.to.is_empty() || key.key < self.to)
    }

    /// Whether the value may be sent.
    fn wants(&self, dot: Dot, sibling: &Sibling) -> bool {
        match self.values {
            ReadValues::None => false,
            ReadValues::All => true,
            ReadValues::From(first) => value_place(dot, sibling) <= first,
        }
    }
}

/// Why a member gives no answer that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It follows another configuration.
    OtherEpoch,
    /// It began without data and has not met all others.
    Recovering,
    /// It has lost something of what was asked for.
    Damaged,
    /// What it would have to say is longer than a message.
    TooLong,
}

/// What a member says of the keys of a range, all of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// K.
    pub(super) clock: Arc<Clock>,
    /// At least the highest stamp that K covers.
    pub(super) highest: Stamp,
    /// Keys of which something is stored, in their order.
    pub(super) keys: Vec<ToldKey>,
    /// Nothing is said of this key and those behind it.
    pub(super) next: Option<Bytes>,
}

/// What a member says of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldKey {
    pub(super) key: Bytes,
    pub(super) pending: Clock,
    pub(super) stamp: Stamp,
    /// Values and certificates, in the order of their dots.
    pub(super) siblings: BTreeMap<Dot, Sibling>,
    /// Values that are left out, and how long they are. Among the siblings they are empty.
    pub(super) left_out: BTreeMap<Dot, u64>,
}

impl Told {
    /// What the replica says of the range now. It has to fit into a message `to` somebody who knows the folds up to that one;
    /// `None` if it is not sent.
    pub(crate) fn of(
        replica: &Replica,
        range: &ReadRange,
        to: Option<FoldNumber>,
    ) -> Result<Self, Unread> {
        let state = replica.state();
        let single = range.key();
        let is_damaged = match &single {
            Some(key) => replica.verify(key) == Leaf::Damaged,
            None => !replica.damage().is_empty(),
        };
        if is_damaged {
            return Err(Unread::Damaged);
        }
        if to.is_some_and(|through| clock_bytes(state.clock(), through) > CLOCK_BYTES_MAX) {
            return Err(Unread::TooLong);
        }
        let through = to.unwrap_or(FoldNumber::ALL);
        let clock = Arc::new(state.clock().clone());
        let mut told = Self { clock, highest: state.highest(), keys: Vec::new(), next: None };
        let from = EntryKey::new(range.keyspace, range.from.clone());
        let (mut looks, mut with_values, mut bytes, mut tracks) = (0, 0, 0, 0);
        let mut contexts = BTreeSet::new();
        for (key, entry) in state.entries_from(&from).take_while(|(key, _)| range.holds(key)) {
            let is_full = looks >= LOOKS_MAX || with_values >= range.limit;
            let of_key = ToldKey::of(key, entry, range);
            let (of_key_bytes, of_key_tracks) = of_key.size(through, &mut contexts);
            let has_room =
                bytes + of_key_bytes <= ANSWER_VALUES_MAX && tracks + of_key_tracks <= TRACKS_MAX;
            if is_full || (!told.keys.is_empty() && !has_room) {
                told.next = Some(key.key.clone());
                break;
            }
            looks += 1;
            if of_key.siblings.is_empty() && of_key.pending.is_empty() {
                continue;
            }
            if single.is_none() && replica.verify(key) == Leaf::Damaged {
                return Err(Unread::Damaged);
            }
            with_values += usize::from(entry.live().next().is_some());
            bytes += of_key_bytes;
            tracks += of_key_tracks;
            let has_to_fit = to.is_some() && told.keys.is_empty();
            told.keys.push(if has_to_fit { of_key.shortened(through)? } else { of_key });
        }
        Ok(told)
    }

    /// What it says of a key, as the rules of quorum reads take it. Nothing if it says nothing of it.
    pub(crate) fn answer(&self, key: &Bytes) -> Option<quorum::Answer> {
        if self.next.as_ref().is_some_and(|next| key >= next) {
            return None;
        }
        let Some(told) = self.told_key(key) else {
            let seen = Token { context: Arc::clone(&self.clock), stamp: self.highest };
            return Some(quorum::Answer {
                live: BTreeMap::new(),
                certificates: BTreeMap::new(),
                seen,
            });
        };
        let context = if told.pending.is_empty() {
            Arc::clone(&self.clock)
        } else {
            let mut clock = (*self.clock).clone();
            clock.join(&told.pending);
            Arc::new(clock)
        };
        let seen = Token { context, stamp: self.highest.max(told.stamp) };
        let siblings = told.siblings.clone().into_iter();
        let (live, certificates) = siblings.partition(|(_, sibling)| sibling.is_live());
        Some(quorum::Answer { live, certificates, seen })
    }

    fn told_key(&self, key: &Bytes) -> Option<&ToldKey> {
        let at = self.keys.binary_search_by(|told| told.key.cmp(key)).ok()?;
        self.keys.get(at)
    }

    /// The values that it says.
    pub(super) fn values(&self, key: &Bytes) -> impl Iterator<Item = (Dot, &Bytes)> {
        let siblings = self.told_key(key).into_iter().flat_map(|told| {
            told.siblings.iter().filter(move |(dot, _)| !told.left_out.contains_key(dot))
        });
        siblings.filter_map(|(dot, sibling)| match &sibling.body {
            Body::Value(value) => Some((*dot, value)),
            Body::Certificate => None,
        })
    }

    /// How long the values are that it leaves out.
    pub(super) fn left_out(&self, key: &Bytes) -> impl Iterator<Item = (Dot, u64)> {
        let told = self.told_key(key).into_iter();
        told.flat_map(|told| told.left_out.iter().map(|(dot, length)| (*dot, *length)))
    }

    /// Memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let mut contexts = BTreeSet::new();
        // In memory a fold takes no less than what it stands for.
        let none = FoldNumber::NONE;
        let keys: usize = self.keys.iter().map(|key| key.size(none, &mut contexts).0).sum();
        keys + clock_bytes(&self.clock, none)
    }
}

impl ToldKey {
    fn of(key: &EntryKey, entry: &Entry, range: &ReadRange) -> Self {
        let mut told = Self {
            key: key.key.clone(),
            pending: entry.pending().clone(),
            stamp: entry.stamp(),
            siblings: entry.siblings().clone(),
            left_out: BTreeMap::new(),
        };
        let unwanted = told.siblings.iter().filter(|(dot, sibling)| !range.wants(**dot, sibling));
        let unwanted: Vec<Dot> = unwanted.map(|(dot, _)| *dot).collect();
        for dot in unwanted {
            told.leave_out(dot);
        }
        told
    }

    /// The same in as few bytes as a message has room for, to somebody who knows the folds up to `through`.
    fn shortened(mut self, through: FoldNumber) -> Result<Self, Unread> {
        let mut newest: Vec<(ValuePlace, usize)> = self
            .siblings
            .iter()
            .filter(|(dot, _)| !self.left_out.contains_key(dot))
            .map(|(dot, sibling)| (value_place(*dot, sibling), sibling.body.value_bytes()))
            .collect();
        newest.sort_by(|one, other| other.cmp(one));
        let mut bytes = 0;
        for ((_, dot), length) in newest {
            if bytes > 0 && bytes + length > ANSWER_VALUES_MAX {
                self.leave_out(dot);
            } else {
                bytes += length;
            }
        }
        let lengths = self.siblings.values().map(|sibling| sibling.body.value_bytes());
        let values: usize = lengths.sum();
        let is_long = |told: &Self| {
            let (bytes, tracks) = told.size(through, &mut BTreeSet::new());
            bytes - values > KEY_BYTES_MAX || tracks > TRACKS_MAX
        };
        if is_long(&self) {
            for sibling in self.siblings.values_mut() {
                sibling.context = None;
            }
        }
        if is_long(&self) { Err(Unread::TooLong) } else { Ok(self) }
    }

    fn leave_out(&mut self, dot: Dot) {
        let Some(sibling) = self.siblings.get_mut(&dot) else { return };
        if let Body::Value(value) = &mut sibling.body {
            self.left_out.insert(dot, value.len() as u64);
            *value = Bytes::new();
        }
    }

    /// Its bytes at most in a message to somebody who knows the folds up to `through`, and the tracks of its clocks, without
    /// the clocks of contexts that were counted before.
    fn size(&self, through: FoldNumber, contexts: &mut BTreeSet<*const Clock>) -> (usize, usize) {
        let mut bytes = self.key.len() + clock_bytes(&self.pending, through);
        let mut tracks = self.pending.tracks().count();
        for sibling in self.siblings.values() {
            bytes += sibling.body.value_bytes() + SIBLING_BYTES;
            if let Some(context) = &sibling.context
                && contexts.insert(Arc::as_ptr(context.shared()))
            {
                bytes += clock_bytes(context.shared(), through);
                tracks += context.shared().tracks().count();
            }
        }
        (bytes, tracks)
    }
}
