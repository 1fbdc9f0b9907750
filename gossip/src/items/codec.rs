//! The bytes of items. Formats are on the page of [`items`](super).
//!
//! ```text
//! entry    in one item: its bytes; in several: format 2 | further pieces | the first of its bytes, then the pieces
//! bytes    format 1 | actors | id 16 B * | clocks | body* | stamp | pending | siblings | sibling* |
//!          dormant | sibling*
//! horizon  (actor 16 B | counter)*        of actors whose counter is not the usual one
//! sibling  as in `entry/codec.rs`, with values apart that are items of their own
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use proto::KeyspaceId;

use super::PIECE_BYTES_MAX;
use super::dirty::is_large;
use crate::actor::ActorId;
use crate::batch;
use crate::clock::{Clock, Fold, FoldNumber, Folds, put_clock, read_clock};
use crate::context::Context;
use crate::dot::Dot;
use crate::entry::{Entry, put_sibling, read_sibling};
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::horizon::Horizon;
use crate::record::{EntryKey, Record};
use crate::table::{TableReader, TableWriter};
use crate::wire::{Reader, put_number};

const FORMAT: u8 = 1;
/// Of an entry that is divided among several items.
const DIVIDED: u8 = 2;

/// Bytes of the number of a piece in a key.
const PIECE_NUMBER_BYTES: usize = 4;

/// Bytes of a dot in a key.
const DOT_BYTES: usize = ActorId::BYTES + 8;

/// What an item is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    Actor,
    Clock,
    Entry(EntryKey),
    Fold(FoldNumber),
    Horizon,
    Piece(EntryKey, u32),
    Kept(EntryKey, Dot),
    Sealed(ActorId),
    Stamp,
    Sums,
    Value(EntryKey, Dot),
}

pub(super) fn actor_key() -> Bytes {
    Bytes::from_static(b"a")
}

pub(super) fn clock_key() -> Bytes {
    Bytes::from_static(b"c")
}

pub(super) fn horizon_key() -> Bytes {
    Bytes::from_static(b"h")
}

pub(super) fn stamp_key() -> Bytes {
    Bytes::from_static(b"t")
}

pub(super) fn sealed_key(actor: ActorId) -> Bytes {
    let mut out = BytesMut::from(&b"s"[..]);
    out.put_slice(actor.as_bytes());
    out.freeze()
}

pub(super) fn fold_key(number: FoldNumber) -> Bytes {
    let mut out = BytesMut::from(&b"f"[..]);
    out.put_u32(number.0);
    out.freeze()
}

pub(super) fn entry_key(key: &EntryKey) -> Bytes {
    start(b'e', key, 0).freeze()
}

pub(super) fn sums_key() -> Bytes {
    Bytes::from_static(b"n")
}

pub(super) fn value_key(key: &EntryKey, dot: Dot) -> Bytes {
    of_dot(b'v', key, dot)
}

pub(super) fn kept_key(key: &EntryKey, dot: Dot) -> Bytes {
    of_dot(b'k', key, dot)
}

fn of_dot(kind: u8, key: &EntryKey, dot: Dot) -> Bytes {
    let mut out = start(kind, key, DOT_BYTES);
    out.put_slice(dot.actor.as_bytes());
    out.put_u64(dot.counter);
    out.freeze()
}

/// The key of a further piece of an entry; they count from 1.
pub(super) fn piece_key(key: &EntryKey, number: u32) -> Bytes {
    let mut out = start(b'x', key, PIECE_NUMBER_BYTES);
    out.put_u32(number);
    out.freeze()
}

fn start(kind: u8, key: &EntryKey, more: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(1 + 8 + key.key.len() + more);
    out.put_u8(kind);
    out.put_u64(key.keyspace.get());
    out.put_slice(&key.key);
    out
}

/// What the key of an item says, unless it is none.
pub(super) fn about(key: &Bytes) -> Option<About> {
    let (kind, rest) = key.split_first()?;
    Some(match (kind, rest) {
        (b'a', []) => About::Actor,
        (b'c', []) => About::Clock,
        (b'h', []) => About::Horizon,
        (b'n', []) => About::Sums,
        (b't', []) => About::Stamp,
        (b's', rest) => About::Sealed(ActorId::from_bytes(rest.try_into().ok()?)),
        (b'f', rest) => About::Fold(FoldNumber(u32::from_be_bytes(rest.try_into().ok()?))),
        (b'e', rest) => About::Entry(about_key(key, rest.len())?),
        (b'k' | b'v', rest) => {
            let length = rest.len().checked_sub(DOT_BYTES)?;
            let (actor, counter) = rest[length..].split_first_chunk()?;
            let counter = u64::from_be_bytes(counter.try_into().ok()?);
            let dot = Dot { actor: ActorId::from_bytes(*actor), counter };
            let of = about_key(key, length)?;
            if *kind == b'k' { About::Kept(of, dot) } else { About::Value(of, dot) }
        }
        (b'x', rest) => {
            let length = rest.len().checked_sub(PIECE_NUMBER_BYTES)?;
            let number = u32::from_be_bytes(rest[length..].try_into().ok()?);
            About::Piece(about_key(key, length)?, number)
        }
        _ => return None,
    })
}

/// The keyspace and the key in the `length` bytes behind the kind.
fn about_key(item: &Bytes, length: usize) -> Option<EntryKey> {
    let (keyspace, _) = item.get(1..=length)?.split_first_chunk()?;
    Some(EntryKey {
        keyspace: KeyspaceId(u64::from_be_bytes(*keyspace)),
        key: item.slice(1 + 8..=length),
    })
}

pub(super) fn actor(actor: ActorId) -> Bytes {
    Bytes::copy_from_slice(actor.as_bytes())
}

pub(super) fn read_actor(bytes: &[u8]) -> Result<ActorId, DecodeError> {
    let mut reader = Reader::new(bytes);
    let actor = ActorId::from_bytes(reader.array()?);
    reader.end()?;
    Ok(actor)
}

pub(super) fn number(number: u64) -> Bytes {
    let mut out = Vec::new();
    put_number(&mut out, number);
    out.into()
}

pub(super) fn read_number(bytes: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(bytes);
    let number = reader.number()?;
    reader.end()?;
    Ok(number)
}

pub(super) fn fold(fold: &Fold) -> Bytes {
    let mut out = fold.actor.as_bytes().to_vec();
    put_number(&mut out, fold.last);
    out.into()
}

pub(super) fn read_fold(number: FoldNumber, bytes: &[u8]) -> Result<Fold, DecodeError> {
    let mut reader = Reader::new(bytes);
    let actor = ActorId::from_bytes(reader.array()?);
    let last = reader.number()?;
    reader.end()?;
    if last == 0 {
        return Err(DecodeError::OutOfRange("last counter of a fold"));
    }
    Ok(Fold { number, actor, last })
}

/// What is usual goes unsaid: the horizon of an actor that is folded is its last dot, that of any other is 0.
pub(super) fn horizon(horizon: &Horizon, folds: &Folds) -> Bytes {
    let mut counters: BTreeMap<ActorId, u64> =
        folds.iter().map(|fold| (fold.actor, horizon.get(&fold.actor))).collect();
    counters.extend(horizon.dots().map(|dot| (dot.actor, dot.counter)));
    let mut out = Vec::new();
    for (actor, counter) in counters {
        if counter != usual_horizon(folds, &actor) {
            out.extend_from_slice(actor.as_bytes());
            put_number(&mut out, counter);
        }
    }
    out.into()
}

fn usual_horizon(folds: &Folds, actor: &ActorId) -> u64 {
    folds.of_actor(actor).map_or(0, |fold| fold.last)
}

pub(super) fn read_horizon(bytes: &[u8], folds: &Folds) -> Result<Horizon, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut counters: BTreeMap<ActorId, u64> =
        folds.iter().map(|fold| (fold.actor, fold.last)).collect();
    let mut before = None;
    while !reader.is_at_end() {
        let actor = ActorId::from_bytes(reader.array()?);
        let counter = reader.number()?;
        if before.is_some_and(|before| before >= actor) || counter == usual_horizon(folds, &actor) {
            return Err(DecodeError::NotCanonical("a horizon"));
        }
        if counter > Dot::COUNTER_MAX {
            return Err(DecodeError::OutOfRange("counter"));
        }
        before = Some(actor);
        counters.insert(actor, counter);
    }
    let mut horizon = Horizon::default();
    for (actor, counter) in counters.into_iter().filter(|(_, counter)| *counter > 0) {
        horizon.raise(Dot::new(actor, counter));
    }
    Ok(horizon)
}

pub(super) fn entry(entry: &Entry) -> Bytes {
    let mut table = TableWriter::new(FoldNumber::ALL);
    let mut body = Vec::new();
    put_number(&mut body, entry.stamp().0);
    put_clock(&mut body, entry.pending(), FoldNumber::ALL, &mut table.actors);
    for siblings in [entry.siblings(), entry.dormant()] {
        put_number(&mut body, siblings.len() as u64);
        for (dot, sibling) in siblings {
            put_sibling(&mut body, &mut table, *dot, sibling, is_large(&sibling.body));
        }
    }
    let mut out = vec![FORMAT];
    table.put(&mut out);
    out.extend_from_slice(&body);
    out.into()
}

/// The bytes of an entry as the values of its items, one or more.
pub(super) fn divided(bytes: Bytes) -> Vec<Bytes> {
    if bytes.len() <= PIECE_BYTES_MAX {
        return vec![bytes];
    }
    let mut pieces = bytes.chunks(PIECE_BYTES_MAX);
    let mut first = vec![DIVIDED];
    put_number(&mut first, pieces.len() as u64 - 1);
    first.extend_from_slice(pieces.next().unwrap_or_default());
    let further = pieces.map(Bytes::copy_from_slice);
    std::iter::once(first.into()).chain(further).collect()
}

/// How many further pieces an entry has whose first item has this value, and where its bytes begin there.
pub(super) fn further_pieces(first: &[u8]) -> Result<(u32, usize), DecodeError> {
    if first.first() != Some(&DIVIDED) {
        return Ok((0, 0));
    }
    let mut reader = Reader::new(&first[1..]);
    let count = u32::try_from(reader.number()?);
    let count = count.map_err(|_| DecodeError::OutOfRange("pieces of an entry"))?;
    if count == 0 {
        return Err(DecodeError::NotCanonical("an entry of one piece"));
    }
    Ok((count, first.len() - reader.rest().len()))
}

/// A write that waits: whether it is to be written over itself too, which no record does, and a batch of one.
pub(super) fn kept(record: &Record) -> Bytes {
    let is_bare = record.context.contains(record.dot);
    let itself: Clock = [record.dot].into_iter().collect();
    let context = Context::new(Arc::new(record.context.minus(&itself)));
    let record = Record { context, ..record.clone() };
    let mut out = vec![u8::from(is_bare)];
    out.extend(batch::encode(std::slice::from_ref(&record), usize::MAX, FoldNumber::NONE).0);
    out.into()
}

pub(super) fn read_kept(key: &EntryKey, dot: Dot, bytes: &[u8]) -> Result<Record, DecodeError> {
    let (is_bare, bytes) = bytes.split_first().ok_or(DecodeError::Truncated)?;
    let mut records = batch::decode(bytes, &Folds::default())?;
    let record = records.pop().filter(|record| record.key == *key && record.dot == dot);
    let record = record.filter(|_| records.is_empty() && *is_bare <= 1);
    let mut record = record.ok_or(DecodeError::NotCanonical("a write that waits"))?;
    if *is_bare == 1 {
        let mut over = record.context.to_clock();
        over.add(dot);
        record.context = Context::new(Arc::new(over));
    }
    Ok(record)
}

/// The entry of these bytes; `large` gives the values that are items of their own.
pub(super) fn read_entry(
    bytes: &[u8],
    folds: &Folds,
    mut large: impl FnMut(Dot) -> Result<Bytes, DecodeError>,
) -> Result<Entry, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.format(FORMAT)?;
    let mut table = TableReader::read(&mut reader, folds, usize::MAX)?;
    let mut entry = Entry::default();
    let stamp = Stamp(reader.number()?);
    let pending = read_clock(&mut reader, &mut table.actors, folds)?;
    entry.set_header(pending, stamp);
    for sleeps in [false, true] {
        let count = reader.count(3)?;
        for _ in 0..count {
            let (dot, sibling) = read_sibling(&mut reader, &mut table, &mut large)?;
            if entry.siblings().contains_key(&dot) || entry.dormant().contains_key(&dot) {
                return Err(DecodeError::NotCanonical("a dot twice"));
            }
            entry.put(dot, sibling);
            if sleeps {
                entry.sleep(dot);
            }
        }
    }
    reader.end()?;
    if entry.is_empty() {
        return Err(DecodeError::NotCanonical("an empty entry"));
    }
    Ok(entry)
}
