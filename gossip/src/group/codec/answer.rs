//! The bytes of what a read asks, and of what it is told.
//!
//! ```text
//! range    keyspace | from | to | limit | 0 no values, 1 all, 2 from | [stamp | rank | dot]
//! told     actors | 16 B * | contexts | body* | clock | highest | keys | key* | more | [next]
//! key      key | pending | stamp | siblings | (dot | sibling | [length, if its value is left out])*
//! dot      16 B | counter in a range; index of the actor | counter in what is told
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proto::KeyspaceId;
use proto::limits::KEY_BYTES_MAX;

use super::super::answer::{ReadRange, ReadValues, Told, ToldKey};
use super::{put_dot, read_dot};
use crate::clock::{Clock, FoldNumber, Folds, read_clock};
use crate::entry::{put_sibling, read_sibling};
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::table::{TRACKS_MAX, TableReader, TableWriter};
use crate::wire::{Reader, put_bytes, put_number};

const NO_VALUES: u8 = 0;
const ALL_VALUES: u8 = 1;
const VALUES_FROM: u8 = 2;

pub(super) fn put_range(out: &mut Vec<u8>, range: &ReadRange) {
    put_number(out, range.keyspace.get());
    put_bytes(out, &range.from);
    put_bytes(out, &range.to);
    put_number(out, range.limit as u64);
    match range.values {
        ReadValues::None => out.push(NO_VALUES),
        ReadValues::All => out.push(ALL_VALUES),
        ReadValues::From(((stamp, rank), dot)) => {
            out.push(VALUES_FROM);
            put_number(out, stamp.0);
            put_dot(out, rank);
            put_dot(out, dot);
        }
    }
}

pub(super) fn read_range(reader: &mut Reader<'_>) -> Result<ReadRange, DecodeError> {
    let keyspace = KeyspaceId(reader.number()?);
    let from = reader.bytes_up_to(KEY_BYTES_MAX, "first key of a range")?;
    let to = reader.bytes_up_to(KEY_BYTES_MAX + 1, "end of a range")?;
    let limit = usize::try_from(reader.number()?).unwrap_or(usize::MAX);
    let values = match reader.byte()? {
        NO_VALUES => ReadValues::None,
        ALL_VALUES => ReadValues::All,
        VALUES_FROM => {
            let stamp = Stamp(reader.number()?);
            let rank = read_dot(reader)?;
            ReadValues::From(((stamp, rank), read_dot(reader)?))
        }
        _ => return Err(DecodeError::OutOfRange("values of a read")),
    };
    Ok(ReadRange { keyspace, from, to, limit, values })
}

pub(super) fn put_told(out: &mut Vec<u8>, told: &Told, through: FoldNumber) {
    let mut table = TableWriter::new(through);
    let mut body = Vec::new();
    table.put_clock(&mut body, &told.clock);
    put_number(&mut body, told.highest.0);
    put_number(&mut body, told.keys.len() as u64);
    for key in &told.keys {
        put_bytes(&mut body, &key.key);
        table.put_clock(&mut body, &key.pending);
        put_number(&mut body, key.stamp.0);
        put_number(&mut body, key.siblings.len() as u64);
        for (dot, sibling) in &key.siblings {
            let left_out = key.left_out.get(dot);
            put_sibling(&mut body, &mut table, *dot, sibling, left_out.is_some());
            if let Some(length) = left_out {
                put_number(&mut body, *length);
            }
        }
    }
    body.push(u8::from(told.next.is_some()));
    if let Some(next) = &told.next {
        put_bytes(&mut body, next);
    }
    table.put(out);
    out.extend_from_slice(&body);
}

pub(super) fn read_told(reader: &mut Reader<'_>, folds: &Folds) -> Result<Told, DecodeError> {
    let mut table = TableReader::read(reader, folds, TRACKS_MAX)?;
    let clock = Arc::new(read_clock(reader, &mut table.actors, folds)?);
    let highest = Stamp(reader.number()?);
    let count = reader.count(6)?;
    let mut keys: Vec<ToldKey> = Vec::with_capacity(count);
    let mut tracks = 0;
    for _ in 0..count {
        let key = read_told_key(reader, &mut table, folds)?;
        tracks += key.pending.tracks().count();
        if tracks > TRACKS_MAX {
            return Err(DecodeError::OutOfRange("tracks of an answer"));
        }
        if keys.last().is_some_and(|before| before.key >= key.key) {
            return Err(DecodeError::NotCanonical("order of keys"));
        }
        keys.push(key);
    }
    let next = match reader.byte()? {
        0 => None,
        1 => Some(reader.bytes_up_to(KEY_BYTES_MAX, "length of a key")?),
        _ => return Err(DecodeError::OutOfRange("whether there is more")),
    };
    let last = keys.last().map(|key| &key.key);
    if next.as_ref().zip(last).is_some_and(|(next, last)| next <= last) {
        return Err(DecodeError::NotCanonical("order of keys"));
    }
    Ok(Told { clock, highest, keys, next })
}

fn read_told_key(
    reader: &mut Reader<'_>,
    table: &mut TableReader,
    folds: &Folds,
) -> Result<ToldKey, DecodeError> {
    let key = reader.bytes_up_to(KEY_BYTES_MAX, "length of a key")?;
    let pending: Clock = read_clock(reader, &mut table.actors, folds)?;
    let stamp = Stamp(reader.number()?);
    let count = reader.count(4)?;
    let (mut siblings, mut left_out) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..count {
        let mut is_left_out = false;
        let nothing = |_| {
            is_left_out = true;
            Ok(Bytes::new())
        };
        let (dot, sibling) = read_sibling(reader, table, nothing)?;
        if siblings.last_key_value().is_some_and(|(before, _)| *before >= dot) {
            return Err(DecodeError::NotCanonical("order of siblings"));
        }
        if is_left_out {
            left_out.insert(dot, reader.number()?);
        }
        siblings.insert(dot, sibling);
    }
    Ok(ToldKey { key, pending, stamp, siblings, left_out })
}
