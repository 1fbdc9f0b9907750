//! The bytes of a batch of records.
//!
//! ```text
//! batch    format 1 | lowest stamp | actors | id 16 B * | contexts | body* | records | record*
//! record   flags | keyspace | key | dot | stamp - lowest | [rank] | [deadline] | context | [through] | [value]
//! dot      index of the actor | counter
//! flags    1 certificate, 2 deadline, 4 context with own dots before this one, 8 context with others
//!          16 the rank is another dot
//! ```
//!
//! Each actor is written once, and so is each clock that contexts share; a record names both by their
//! index, in the order of first use. So a record without a token takes 20 bytes beyond its key and
//! value, and one with a token of three actors 45 (`tests` holds both).

use crate::clock::{FoldNumber, Folds};
use crate::context::Context;
use crate::dot::Dot;
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::record::{Body, Record, put_key, read_key};
use crate::table::{TRACKS_MAX, TableReader, TableWriter};
use crate::wire::{Reader, put_bytes, put_number};

/// The format of a batch.
const FORMAT: u8 = 1;

const CERTIFICATE: u8 = 1;
const DEADLINE: u8 = 2;
/// The context has the actor's dots before this one.
const OWN: u8 = 4;
/// The context has dots of an actor that is written out.
const OTHER: u8 = 8;
/// The rank is not the record's own dot.
const RANK: u8 = 16;

/// A batch while it is written.
struct Writer {
    table: TableWriter,
    records: Vec<u8>,
}

impl Writer {
    fn new(through: FoldNumber) -> Self {
        Self { table: TableWriter::new(through), records: Vec::new() }
    }

    fn record(&mut self, record: &Record, lowest: Stamp) {
        let context = self.table.shared(record.context.shared());
        let through = record.context.through();
        let before = record.dot.counter - 1;
        let own = through.is_some_and(|own| own.actor == record.dot.actor && own.counter == before);
        let mut flags = 0;
        flags |= if record.body.is_certificate() { CERTIFICATE } else { 0 };
        flags |= if record.deadline.is_some() { DEADLINE } else { 0 };
        flags |= if own { OWN } else { 0 };
        flags |= if !own && through.is_some() { OTHER } else { 0 };
        flags |= if record.rank == record.dot { 0 } else { RANK };

        let out = &mut self.records;
        out.push(flags);
        put_key(out, &record.key);
        self.table.put_dot(out, record.dot);
        put_number(out, record.stamp.0 - lowest.0);
        if record.rank != record.dot {
            self.table.put_dot(out, record.rank);
        }
        if let Some(deadline) = record.deadline {
            put_number(out, deadline.0);
        }
        put_number(out, context);
        if let Some(through) = through.filter(|_| !own) {
            self.table.put_dot(out, through);
        }
        if let Body::Value(value) = &record.body {
            put_bytes(out, value);
        }
    }

    const fn bytes(&self) -> usize {
        self.table.bytes() + self.records.len()
    }

    fn finish(&self, lowest: Stamp, count: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes() + 40);
        out.push(FORMAT);
        put_number(&mut out, lowest.0);
        self.table.put(&mut out);
        put_number(&mut out, count as u64);
        out.extend_from_slice(&self.records);
        out
    }
}

/// Encodes the first of `records`, for a reader who knows the folds up to `through`: as many as `bytes_max` bytes hold,
/// and at least one if there is any. Answers how many that are.
#[must_use]
pub fn encode(records: &[Record], bytes_max: usize, through: FoldNumber) -> (Vec<u8>, usize) {
    let count = fitting(records, bytes_max, through);
    let lowest = records[..count].iter().map(|record| record.stamp).min().unwrap_or_default();
    let mut writer = Writer::new(through);
    for record in &records[..count] {
        writer.record(record, lowest);
    }
    (writer.finish(lowest, count), count)
}

/// How many records fit. Stamps are measured against zero, so what is written is no longer.
fn fitting(records: &[Record], bytes_max: usize, through: FoldNumber) -> usize {
    let mut writer = Writer::new(through);
    for (count, record) in records.iter().enumerate() {
        writer.record(record, Stamp::ZERO);
        let full = writer.bytes() + 40 > bytes_max || writer.table.tracks() > TRACKS_MAX;
        if full {
            return count.max(1);
        }
    }
    records.len()
}

/// Decodes a batch.
///
/// # Errors
/// [`DecodeError`] unless all of it is well-formed and all folds are in `folds`. Nothing of a batch
/// that is refused may be used.
pub fn decode(bytes: &[u8], folds: &Folds) -> Result<Vec<Record>, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.format(FORMAT)?;
    let lowest = reader.number()?;
    let mut table = TableReader::read(&mut reader, folds, TRACKS_MAX)?;
    let count = reader.count(6)?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        records.push(read_record(&mut reader, &mut table, lowest)?);
    }
    reader.end()?;
    Ok(records)
}

fn read_record(
    reader: &mut Reader<'_>,
    table: &mut TableReader,
    lowest: u64,
) -> Result<Record, DecodeError> {
    let flags = reader.byte()?;
    let known = CERTIFICATE | DEADLINE | OWN | OTHER | RANK;
    if flags & !known != 0 || flags & (OWN | OTHER) == OWN | OTHER {
        return Err(DecodeError::OutOfRange("flags"));
    }
    let key = read_key(reader)?;
    let dot = table.dot(reader)?;
    let stamp = lowest.checked_add(reader.number()?).ok_or(DecodeError::OutOfRange("stamp"))?;
    let rank = if flags & RANK == 0 { dot } else { table.rank(reader, dot)? };
    let deadline = if flags & DEADLINE == 0 { None } else { Some(Stamp(reader.number()?)) };
    let shared = table.shared(reader)?;
    let context = if flags & OTHER != 0 {
        Context::with_own(shared, table.dot(reader)?)
    } else if flags & OWN != 0 {
        if dot.counter == 1 {
            return Err(DecodeError::OutOfRange("own dots before the first"));
        }
        Context::with_own(shared, Dot::new(dot.actor, dot.counter - 1))
    } else {
        Context::new(shared)
    };
    if context.contains(dot) {
        return Err(DecodeError::OutOfRange("a write that supersedes itself"));
    }
    let body =
        if flags & CERTIFICATE == 0 { Body::Value(reader.value()?) } else { Body::Certificate };
    Ok(Record { key, dot, stamp: Stamp(stamp), rank, body, deadline, context })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use proto::KeyspaceId;

    use super::*;
    use crate::actor::ActorId;
    use crate::clock::Clock;
    use crate::record::EntryKey;

    fn actor(number: u8) -> ActorId {
        ActorId::from_bytes([number; 16])
    }

    fn dot() -> impl Strategy<Value = Dot> {
        (0..4_u8, 2..40_u64).prop_map(|(number, counter)| Dot::new(actor(number), counter))
    }

    /// Records that share three clocks; a context never has the record's own dot.
    fn records() -> impl Strategy<Value = Vec<Record>> {
        let clocks = vec(vec(dot(), 0..8), 3);
        let body = option::of(vec(any::<u8>(), 0..40));
        let record = (
            0..3_usize,
            dot(),
            any::<u64>(),
            body,
            option::of(any::<u64>()),
            0..3_u8,
            1..4_u64,
            0..4_u64,
        );
        (clocks, vec(record, 0..12)).prop_map(|(clocks, records)| {
            let clocks: Vec<Arc<Clock>> =
                clocks.into_iter().map(|dots| Arc::new(dots.into_iter().collect())).collect();
            let records =
                records.into_iter().map(|(clock, dot, stamp, body, deadline, own, key, rank)| {
                    let shared = Arc::clone(&clocks[clock]);
                    let context = match own {
                        0 => Context::new(shared),
                        1 => Context::with_own(shared, Dot::new(dot.actor, dot.counter - 1)),
                        _ => Context::with_own(shared, Dot::new(actor(9), key)),
                    };
                    Record {
                        key: EntryKey::new(KeyspaceId(key), vec![7; key as usize]),
                        dot,
                        stamp: Stamp(stamp),
                        rank: if rank == 0 { Dot::new(actor(8), key) } else { dot },
                        body: body.map_or(Body::Certificate, |value| Body::Value(value.into())),
                        deadline: deadline.map(Stamp),
                        context,
                    }
                });
            records.filter(|record| !record.context.contains(record.dot)).collect()
        })
    }

    proptest! {
        #[test]
        fn the_bytes_of_a_batch_give_its_records(records in records(), bytes_max in 0..400_usize) {
            let (bytes, count) = encode(&records, usize::MAX, FoldNumber::ALL);
            prop_assert_eq!(count, records.len());
            prop_assert_eq!(decode(&bytes, &Folds::default()).unwrap(), records.clone());

            let mut left = &records[..];
            while !left.is_empty() {
                let (bytes, count) = encode(left, bytes_max, FoldNumber::ALL);
                prop_assert!(count == 1 || bytes.len() <= bytes_max);
                let decoded = decode(&bytes, &Folds::default()).unwrap();
                prop_assert_eq!(&decoded[..], &left[..count]);
                left = &left[count..];
            }
        }

        #[test]
        fn changed_bytes_are_refused_or_say_something_whole(
            records in records(),
            at in any::<prop::sample::Index>(),
            value: u8,
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut bytes, _) = encode(&records, usize::MAX, FoldNumber::ALL);
            prop_assert!(decode(&bytes[..cut.index(bytes.len())], &Folds::default()).is_err());
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(records) = decode(&bytes, &Folds::default()) {
                let (again, _) = encode(&records, usize::MAX, FoldNumber::ALL);
                prop_assert_eq!(decode(&again, &Folds::default()), Ok(records));
            }
        }
    }

    /// A hundred records of one second, from actors with millions of writes behind them.
    fn overhead(token: bool) -> usize {
        let clock = |counter: u64| {
            let mut clock = Clock::default();
            for number in 0..3 {
                clock.add_up_to(actor(number), 5_000_000 + counter);
            }
            Arc::new(clock)
        };
        let base = clock(0);
        let record = |n: u64| {
            let shared = if token { clock(n) } else { Arc::clone(&base) };
            let dot = Dot::new(actor(5), 3_000_000 + n);
            let own = Dot::new(actor(5), dot.counter - 1);
            Record {
                key: EntryKey::new(KeyspaceId(3), vec![1; 16]),
                dot,
                stamp: Stamp(Stamp::at_ms(1_700_000_000_000 + n * 10).0 + n % 5),
                rank: dot,
                body: Body::Value(vec![2; 200].into()),
                deadline: None,
                context: if token { Context::new(shared) } else { Context::with_own(shared, own) },
            }
        };
        let records: Vec<Record> = (0..100).map(record).collect();
        let (bytes, count) = encode(&records, usize::MAX, FoldNumber::ALL);
        assert_eq!(count, 100);
        bytes.len().div_ceil(100) - 216
    }

    #[test]
    fn a_record_costs_20_bytes_and_45_with_a_token() {
        assert!(overhead(false) <= 20, "{} bytes", overhead(false));
        assert!(overhead(true) <= 45, "{} bytes", overhead(true));
    }
}
