//! The bytes of the changes of one operation, for the log.
//!
//! ```text
//! changes  format 1 | actors | id 16 B * | clocks | body* | changes | change*
//! change   tag | what the change has, in the order of its fields
//! sibling  flags | stamp | [deadline] | [context | [through]] | [value]
//! flags    1 certificate, 2 deadline, 4 context, 8 context with dots of an actor up to a counter
//! ```
//!
//! Clocks name folds by their numbers. They are decoded with the folds that the replica had heard of at
//! that place of the log: replayed in order, [`State::folds`](crate::state::State::folds).

use proto::KeyspaceId;

use super::Change;
use crate::clock::{Fold, FoldNumber, Folds, NameReader, NameWriter, put_clock, read_clock};
use crate::context::Context;
use crate::dot::Dot;
use crate::entry::Sibling;
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::record::{Body, EntryKey};
use crate::table::{TableReader, TableWriter};
use crate::wire::{Reader, put_bytes, put_number};

const FORMAT: u8 = 1;

const STARTED: u8 = 1;
const ISSUED: u8 = 2;
const LEARNED: u8 = 3;
const PUT: u8 = 4;
const REMOVED: u8 = 5;
const HEADER: u8 = 6;
const RAISED: u8 = 7;
const JOINED: u8 = 8;
const FOLD_LEARNED: u8 = 9;
const FOLDED: u8 = 10;

const CERTIFICATE: u8 = 1;
const DEADLINE: u8 = 2;
const CONTEXT: u8 = 4;
const THROUGH: u8 = 8;

/// The bytes of changes.
#[must_use]
pub fn encode(changes: &[Change]) -> Vec<u8> {
    let mut table = TableWriter::default();
    let mut body = Vec::new();
    for change in changes {
        put_change(&mut body, &mut table, change);
    }
    let mut out = vec![FORMAT];
    table.put(&mut out);
    put_number(&mut out, changes.len() as u64);
    out.extend_from_slice(&body);
    out
}

fn put_change(out: &mut Vec<u8>, table: &mut TableWriter, change: &Change) {
    match change {
        Change::Started { actor } => {
            out.push(STARTED);
            table.actors.put(out, actor);
        }
        Change::Issued { dot } => put_tagged(out, table, ISSUED, *dot),
        Change::Learned { dot } => put_tagged(out, table, LEARNED, *dot),
        Change::Raised { dot } => put_tagged(out, table, RAISED, *dot),
        Change::Put { key, dot, sibling } => {
            out.push(PUT);
            put_key(out, key);
            table.put_dot(out, *dot);
            put_sibling(out, table, sibling);
        }
        Change::Removed { key, dot } => {
            out.push(REMOVED);
            put_key(out, key);
            table.put_dot(out, *dot);
        }
        Change::Header { key, pending, stamp } => {
            out.push(HEADER);
            put_key(out, key);
            put_clock(out, pending, &mut table.actors);
            put_number(out, stamp.0);
        }
        Change::Joined { clock } => {
            out.push(JOINED);
            put_clock(out, clock, &mut table.actors);
        }
        Change::FoldLearned { fold } => put_fold(out, table, FOLD_LEARNED, fold),
        Change::Folded { fold } => put_fold(out, table, FOLDED, fold),
    }
}

fn put_tagged(out: &mut Vec<u8>, table: &mut TableWriter, tag: u8, dot: Dot) {
    out.push(tag);
    table.put_dot(out, dot);
}

fn put_fold(out: &mut Vec<u8>, table: &mut TableWriter, tag: u8, fold: &Fold) {
    out.push(tag);
    put_number(out, fold.number.0.into());
    table.put_dot(out, Dot::new(fold.actor, fold.last));
}

fn put_key(out: &mut Vec<u8>, key: &EntryKey) {
    put_number(out, key.keyspace.get());
    put_bytes(out, &key.key);
}

fn put_sibling(out: &mut Vec<u8>, table: &mut TableWriter, sibling: &Sibling) {
    let through = sibling.context.as_ref().and_then(Context::through);
    let mut flags = 0;
    flags |= if sibling.body.is_certificate() { CERTIFICATE } else { 0 };
    flags |= if sibling.deadline.is_some() { DEADLINE } else { 0 };
    flags |= if sibling.context.is_some() { CONTEXT } else { 0 };
    flags |= if through.is_some() { THROUGH } else { 0 };
    out.push(flags);
    put_number(out, sibling.stamp.0);
    if let Some(deadline) = sibling.deadline {
        put_number(out, deadline.0);
    }
    if let Some(context) = &sibling.context {
        put_number(out, table.shared(context.shared()));
    }
    if let Some(through) = through {
        table.put_dot(out, through);
    }
    if let Body::Value(value) = &sibling.body {
        put_bytes(out, value);
    }
}

/// The changes of these bytes. `folds` are those that the replica had heard of before.
///
/// # Errors
/// [`DecodeError`] unless all of it is well-formed.
pub fn decode(bytes: &[u8], folds: &Folds) -> Result<Vec<Change>, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.byte()? {
        FORMAT => {}
        format => return Err(DecodeError::UnknownFormat(format)),
    }
    let mut table = TableReader::read(&mut reader, folds)?;
    let count = reader.count(2)?;
    let mut changes = Vec::with_capacity(count);
    for _ in 0..count {
        changes.push(read_change(&mut reader, &mut table, folds)?);
    }
    reader.end()?;
    Ok(changes)
}

fn read_change(
    reader: &mut Reader<'_>,
    table: &mut TableReader,
    folds: &Folds,
) -> Result<Change, DecodeError> {
    Ok(match reader.byte()? {
        STARTED => Change::Started { actor: table.actors.read(reader)? },
        ISSUED => Change::Issued { dot: table.dot(reader)? },
        LEARNED => Change::Learned { dot: table.dot(reader)? },
        RAISED => Change::Raised { dot: table.dot(reader)? },
        PUT => Change::Put {
            key: read_key(reader)?,
            dot: table.dot(reader)?,
            sibling: read_sibling(reader, table)?,
        },
        REMOVED => Change::Removed { key: read_key(reader)?, dot: table.dot(reader)? },
        HEADER => Change::Header {
            key: read_key(reader)?,
            pending: read_clock(reader, &mut table.actors, folds)?,
            stamp: Stamp(reader.number()?),
        },
        JOINED => Change::Joined { clock: read_clock(reader, &mut table.actors, folds)? },
        FOLD_LEARNED => Change::FoldLearned { fold: read_fold(reader, table)? },
        FOLDED => Change::Folded { fold: read_fold(reader, table)? },
        _ => return Err(DecodeError::OutOfRange("kind of a change")),
    })
}

fn read_fold(reader: &mut Reader<'_>, table: &mut TableReader) -> Result<Fold, DecodeError> {
    let number = u32::try_from(reader.number()?).map_err(|_| DecodeError::OutOfRange("fold"))?;
    let last = table.dot(reader)?;
    Ok(Fold { number: FoldNumber(number), actor: last.actor, last: last.counter })
}

fn read_key(reader: &mut Reader<'_>) -> Result<EntryKey, DecodeError> {
    let keyspace = KeyspaceId(reader.number()?);
    Ok(EntryKey { keyspace, key: reader.bytes()? })
}

fn read_sibling(reader: &mut Reader<'_>, table: &mut TableReader) -> Result<Sibling, DecodeError> {
    let flags = reader.byte()?;
    let has = |flag: u8| flags & flag != 0;
    let known = CERTIFICATE | DEADLINE | CONTEXT | THROUGH;
    if has(!known) || (has(THROUGH) && !has(CONTEXT)) {
        return Err(DecodeError::OutOfRange("flags"));
    }
    let stamp = Stamp(reader.number()?);
    let deadline = if has(DEADLINE) { Some(Stamp(reader.number()?)) } else { None };
    let shared = if has(CONTEXT) { Some(table.shared(reader)?) } else { None };
    let through = if has(THROUGH) { Some(table.dot(reader)?) } else { None };
    let context = shared.map(|shared| match through {
        Some(through) => Context::with_own(shared, through),
        None => Context::new(shared),
    });
    let body = if has(CERTIFICATE) { Body::Certificate } else { Body::Value(reader.bytes()?) };
    Ok(Sibling { stamp, body, deadline, context })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::actor::ActorId;
    use crate::clock::Clock;

    fn dot(number: u8, counter: u64) -> Dot {
        Dot::new(ActorId::from_bytes([number; 16]), counter)
    }

    /// One change of each kind, and siblings of all kinds; a clock that is folded.
    fn changes() -> (Vec<Change>, Folds) {
        let fold = Fold { number: FoldNumber(3), actor: dot(9, 1).actor, last: 2 };
        let mut folds = Folds::default();
        folds.learn(fold);
        let mut clock: Clock = [dot(1, 1), dot(1, 5), dot(2, 1)].into_iter().collect();
        clock.add_up_to(fold.actor, fold.last);
        assert!(clock.fold(fold));
        let shared = Arc::new(clock.clone());
        let key = EntryKey::new(KeyspaceId(4), "key");
        let put = |body: Body, deadline: Option<Stamp>, context: Option<Context>| Change::Put {
            key: key.clone(),
            dot: dot(3, 7),
            sibling: Sibling { stamp: Stamp(900), body, deadline, context },
        };
        let value = || Body::Value("value".into());
        let own = Context::with_own(Arc::clone(&shared), dot(3, 6));
        let changes = vec![
            Change::FoldLearned { fold },
            Change::Started { actor: dot(3, 1).actor },
            Change::Issued { dot: dot(3, 7) },
            put(value(), None, Some(own)),
            put(Body::Certificate, None, Some(Context::new(shared))),
            put(value(), Some(Stamp(77)), None),
            Change::Header { key: key.clone(), pending: clock.clone(), stamp: Stamp(5) },
            Change::Removed { key, dot: dot(1, 1) },
            Change::Learned { dot: dot(2, 2) },
            Change::Raised { dot: dot(1, 5) },
            Change::Joined { clock },
            Change::Folded { fold },
        ];
        (changes, folds)
    }

    #[test]
    fn the_bytes_of_changes_give_the_changes() {
        let (changes, folds) = changes();
        assert_eq!(decode(&encode(&changes), &folds), Ok(changes.clone()));
        let refused = decode(&encode(&changes), &Folds::default());
        assert_eq!(refused, Err(DecodeError::UnknownFold(FoldNumber(3))));
        assert_eq!(decode(&encode(&[]), &folds), Ok(Vec::new()));
    }

    #[test]
    fn damaged_bytes_are_refused_or_say_something_whole() {
        let (changes, folds) = changes();
        let bytes = encode(&changes);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], &folds).is_err(), "cut to {length}");
        }
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                if let Ok(changes) = decode(&damaged, &folds) {
                    assert_eq!(decode(&encode(&changes), &folds), Ok(changes));
                }
            }
        }
    }
}
