//! Records that fit into one part.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clock::Clock;
use crate::record::Record;

/// Bytes that a part takes at most before its records: numbers, format, counts, the lowest stamp.
const HEAD_BYTES: usize = 80;

/// Bytes that a record takes at most beyond key, value and the clock of its context: flags, lengths, indexes, dots,
/// stamps, and the names of its actors.
const RECORD_BYTES: usize = 144;

/// Bytes that a track takes at most beyond its spans: name, index, base, count.
const TRACK_BYTES: usize = 16 + 5 + 10 + 5;

/// Bytes that a span takes at most.
const SPAN_BYTES: usize = 20;

/// Records for one part, with an upper bound of the bytes that they take.
#[derive(Debug)]
pub(super) struct Parcel {
    bytes_max: usize,
    bytes: usize,
    /// The clocks that are counted already. By address: contexts of one origin share the clock itself.
    clocks: BTreeSet<*const Clock>,
    records: Vec<Record>,
}

impl Parcel {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: HEAD_BYTES, clocks: BTreeSet::new(), records: Vec::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether there is room for the record. A first one always has.
    pub(super) fn holds(&self, record: &Record) -> bool {
        self.records.is_empty() || self.bytes + self.more(record) <= self.bytes_max
    }

    pub(super) fn put(&mut self, record: Record) {
        self.bytes += self.more(&record);
        self.clocks.insert(Arc::as_ptr(record.context.shared()));
        self.records.push(record);
    }

    pub(super) fn into_records(self) -> Vec<Record> {
        self.records
    }

    fn more(&self, record: &Record) -> usize {
        let shared = record.context.shared();
        let is_counted = self.clocks.contains(&Arc::as_ptr(shared));
        let context = if is_counted { 0 } else { clock_bytes(shared) };
        RECORD_BYTES + record.key.key.len() + record.body.value_bytes() + context
    }
}

/// Bytes that a clock takes at most, with the names of its actors.
pub(crate) fn clock_bytes(clock: &Clock) -> usize {
    let track = |spans: usize| TRACK_BYTES + SPAN_BYTES * spans;
    clock.tracks().map(|(_, tracked)| track(tracked.above().len())).sum()
}
