//! The bytes of the changes of one operation, for the log.
//!
//! ```text
//! changes  format 1 | folds | fold* | actors | id 16 B * | clocks | body* | changes | change*
//! fold     number | id 16 B | last               those that are learned here, in the order of the changes
//! change   tag | what the change has, in the order of its fields
//! sibling  as in `entry/codec.rs`, its dot first
//! ```
//!
//! Clocks name folds by their numbers. They are decoded with the folds that the replica had heard of before, which are
//! those of the log replayed so far ([`State::folds`](crate::state::State::folds)), and those that these
//! changes learn. So an entry of the log may hold the changes of any number of operations in a row, in one
//! encoding. What a log can hold it can be read from: there is no limit but memory.

use std::borrow::Cow;

use super::Change;
use crate::actor::ActorId;
use crate::clock::{Fold, FoldNumber, Folds, NameReader, NameWriter, read_clock};
use crate::dot::Dot;
use crate::entry::{nowhere, put_sibling, read_sibling};
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::record::{EntryKey, put_key, read_key};
use crate::table::{TableReader, TableWriter};
use crate::wire::{Reader, put_number};

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
const STAMPED: u8 = 11;
const SLEPT: u8 = 12;
const WOKE: u8 = 13;

/// The bytes of changes.
#[must_use]
pub fn encode(changes: &[Change]) -> Vec<u8> {
    let mut table = TableWriter::new(FoldNumber::ALL);
    let mut learned = Vec::new();
    let mut body = Vec::new();
    for change in changes {
        put_change(&mut body, &mut table, &mut learned, change);
    }
    let mut out = vec![FORMAT];
    put_number(&mut out, learned.len() as u64);
    for fold in learned {
        put_number(&mut out, fold.number.0.into());
        out.extend_from_slice(fold.actor.as_bytes());
        put_number(&mut out, fold.last);
    }
    table.put(&mut out);
    put_number(&mut out, changes.len() as u64);
    out.extend_from_slice(&body);
    out
}

fn put_change(
    out: &mut Vec<u8>,
    table: &mut TableWriter,
    learned: &mut Vec<Fold>,
    change: &Change,
) {
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
            put_sibling(out, table, *dot, sibling, false);
        }
        Change::Removed { key, dot } => put_named(out, table, REMOVED, key, *dot),
        Change::Slept { key, dot } => put_named(out, table, SLEPT, key, *dot),
        Change::Woke { key, dot } => put_named(out, table, WOKE, key, *dot),
        Change::Header { key, pending, stamp } => {
            out.push(HEADER);
            put_key(out, key);
            table.put_clock(out, pending);
            put_number(out, stamp.0);
        }
        Change::Stamped { stamp } => {
            out.push(STAMPED);
            put_number(out, stamp.0);
        }
        Change::Joined { clock } => {
            out.push(JOINED);
            table.put_clock(out, clock);
        }
        Change::FoldLearned { fold } => {
            out.push(FOLD_LEARNED);
            put_number(out, learned.len() as u64);
            learned.push(*fold);
        }
        Change::Folded { fold } => {
            out.push(FOLDED);
            put_number(out, fold.number.0.into());
            table.put_dot(out, Dot::new(fold.actor, fold.last));
        }
    }
}

fn put_tagged(out: &mut Vec<u8>, table: &mut TableWriter, tag: u8, dot: Dot) {
    out.push(tag);
    table.put_dot(out, dot);
}

fn put_named(out: &mut Vec<u8>, table: &mut TableWriter, tag: u8, key: &EntryKey, dot: Dot) {
    out.push(tag);
    put_key(out, key);
    table.put_dot(out, dot);
}

/// The changes of these bytes. `folds` are those that the replica had heard of before.
///
/// # Errors
/// [`DecodeError`] unless all of it is well-formed.
pub fn decode(bytes: &[u8], folds: &Folds) -> Result<Vec<Change>, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.format(FORMAT)?;
    let learned = read_learned(&mut reader)?;
    let mut known = Cow::Borrowed(folds);
    if !learned.is_empty() && !learned.iter().all(|fold| known.to_mut().try_learn(*fold)) {
        return Err(DecodeError::OutOfRange("a fold that contradicts another"));
    }
    let table = TableReader::read(&mut reader, &known, usize::MAX)?;
    let count = reader.count(2)?;
    let mut changes = Vec::with_capacity(count);
    let mut log =
        LogReader { reader, table, folds: &known, learned: learned.into_iter(), heard: 0 };
    for _ in 0..count {
        changes.push(log.change()?);
    }
    log.reader.end()?;
    match log.learned.next() {
        None => Ok(changes),
        Some(_) => Err(DecodeError::NotCanonical("a fold that no change learns")),
    }
}

fn read_learned(reader: &mut Reader<'_>) -> Result<Vec<Fold>, DecodeError> {
    let count = reader.count(2 + ActorId::BYTES)?;
    let fold = |reader: &mut Reader<'_>| {
        let number = read_fold_number(reader)?;
        let actor = ActorId::from_bytes(reader.array()?);
        match reader.number()? {
            last @ 1..=Dot::COUNTER_MAX => Ok(Fold { number, actor, last }),
            _ => Err(DecodeError::OutOfRange("counter")),
        }
    };
    (0..count).map(|_| fold(reader)).collect()
}

fn read_fold_number(reader: &mut Reader<'_>) -> Result<FoldNumber, DecodeError> {
    let number = u32::try_from(reader.number()?).map_err(|_| DecodeError::OutOfRange("fold"))?;
    Ok(FoldNumber(number))
}

/// Changes while they are read.
struct LogReader<'a> {
    reader: Reader<'a>,
    table: TableReader,
    folds: &'a Folds,
    /// Folds that a change has still to learn.
    learned: std::vec::IntoIter<Fold>,
    /// How many a change has.
    heard: u64,
}

impl LogReader<'_> {
    fn change(&mut self) -> Result<Change, DecodeError> {
        let (reader, table) = (&mut self.reader, &mut self.table);
        Ok(match reader.byte()? {
            STARTED => Change::Started { actor: table.actors.read(reader)? },
            ISSUED => Change::Issued { dot: table.dot(reader)? },
            LEARNED => Change::Learned { dot: table.dot(reader)? },
            RAISED => Change::Raised { dot: table.dot(reader)? },
            PUT => {
                let key = read_key(reader)?;
                let (dot, sibling) = read_sibling(reader, table, nowhere)?;
                Change::Put { key, dot, sibling }
            }
            REMOVED => Change::Removed { key: read_key(reader)?, dot: table.dot(reader)? },
            SLEPT => Change::Slept { key: read_key(reader)?, dot: table.dot(reader)? },
            WOKE => Change::Woke { key: read_key(reader)?, dot: table.dot(reader)? },
            HEADER => Change::Header {
                key: read_key(reader)?,
                pending: read_clock(reader, &mut table.actors, self.folds)?,
                stamp: Stamp(reader.number()?),
            },
            STAMPED => Change::Stamped { stamp: Stamp(reader.number()?) },
            JOINED => Change::Joined { clock: read_clock(reader, &mut table.actors, self.folds)? },
            FOLD_LEARNED => self.fold_learned()?,
            FOLDED => {
                let number = read_fold_number(reader)?;
                let last = table.dot(reader)?;
                Change::Folded { fold: Fold { number, actor: last.actor, last: last.counter } }
            }
            _ => return Err(DecodeError::OutOfRange("kind of a change")),
        })
    }

    fn fold_learned(&mut self) -> Result<Change, DecodeError> {
        let index = self.reader.number()?;
        match self.learned.next() {
            Some(fold) if index == self.heard => {
                self.heard += 1;
                Ok(Change::FoldLearned { fold })
            }
            _ => Err(DecodeError::OutOfRange("index of a fold")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::KeyspaceId;

    use super::*;
    use crate::clock::Clock;
    use crate::context::Context;
    use crate::entry::Sibling;
    use crate::record::Body;

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
        let put = |body, deadline, context, rank| Change::Put {
            key: key.clone(),
            dot: dot(3, 7),
            sibling: Sibling { stamp: Stamp(900), rank, body, deadline, context },
        };
        let value = || Body::Value("value".into());
        let own = Context::with_own(Arc::clone(&shared), dot(3, 6));
        let changes = vec![
            Change::FoldLearned { fold },
            Change::Started { actor: dot(3, 1).actor },
            Change::Issued { dot: dot(3, 7) },
            put(value(), None, Some(own), dot(3, 7)),
            put(Body::Certificate, None, Some(Context::new(shared)), dot(2, 1)),
            put(value(), Some(Stamp(77)), None, dot(3, 7)),
            Change::Header { key: key.clone(), pending: clock.clone(), stamp: Stamp(5) },
            Change::Slept { key: key.clone(), dot: dot(1, 3) },
            Change::Woke { key: key.clone(), dot: dot(1, 3) },
            Change::Removed { key, dot: dot(1, 1) },
            Change::Learned { dot: dot(2, 2) },
            Change::Raised { dot: dot(1, 5) },
            Change::Stamped { stamp: Stamp(901) },
            Change::Joined { clock },
            Change::Folded { fold },
        ];
        (changes, folds)
    }

    #[test]
    fn the_bytes_of_changes_give_the_changes() {
        let (changes, folds) = changes();
        assert_eq!(decode(&encode(&changes), &folds), Ok(changes.clone()));
        // The first change learns the fold, so nothing has to be known before; without it, it has to.
        assert_eq!(decode(&encode(&changes), &Folds::default()), Ok(changes.clone()));
        let later = &changes[1..];
        assert_eq!(decode(&encode(later), &folds), Ok(later.to_vec()));
        let refused = decode(&encode(later), &Folds::default());
        assert_eq!(refused, Err(DecodeError::UnknownFold(FoldNumber(3))));
        assert_eq!(decode(&encode(&[]), &folds), Ok(Vec::new()));
    }

    /// A thousand writes with tokens in one entry, after years of daily starts.
    #[test]
    fn what_was_written_is_read_however_many_actors_its_contexts_name() {
        let mut clock = Clock::default();
        for number in 0..1_100_u16 {
            let mut id = [0; ActorId::BYTES];
            id[..2].copy_from_slice(&number.to_be_bytes());
            clock.add_up_to(ActorId::from_bytes(id), 9);
        }
        let sibling = || Sibling {
            stamp: Stamp(1),
            rank: dot(3, 7),
            body: Body::Certificate,
            deadline: None,
            context: Some(Context::new(Arc::new(clock.clone()))),
        };
        let key = EntryKey::new(KeyspaceId(4), "key");
        let put = || Change::Put { key: key.clone(), dot: dot(3, 7), sibling: sibling() };
        let changes: Vec<Change> = (0..1_000).map(|_| put()).collect();
        assert!(changes.len() * clock.tracks().count() > crate::table::TRACKS_MAX);
        assert_eq!(decode(&encode(&changes), &Folds::default()).map(|read| read.len()), Ok(1_000));
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
