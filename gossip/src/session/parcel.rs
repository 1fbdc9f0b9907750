//! Records that fit into one part.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clock::{Clock, FoldNumber};
use crate::record::Record;
use crate::table::TRACKS_MAX;

/// Bytes that a part takes at most before its records: numbers, format, counts, the lowest stamp.
const HEAD_BYTES: usize = 80;

/// Bytes that a record takes at most beyond key, value and the clock of its context: flags, lengths, indexes, dots,
/// stamps, and the names of its actors.
const RECORD_BYTES: usize = 144;

/// Bytes that a track takes at most beyond its spans: name, index, base, count.
const TRACK_BYTES: usize = 16 + 5 + 10 + 5;

/// Bytes that a run of folds takes at most.
const FOLDS_BYTES: usize = 10;

/// Bytes that a span takes at most.
const SPAN_BYTES: usize = 20;

/// Records for one part, with an upper bound of the bytes that they take.
#[derive(Debug)]
pub(super) struct Parcel {
    bytes_max: usize,
    /// The folds that the receiver knows.
    through: FoldNumber,
    bytes: usize,
    /// Tracks of all clocks.
    tracks: usize,
    /// The clocks that are counted already. By address: contexts of one origin share the clock itself.
    clocks: BTreeSet<*const Clock>,
    records: Vec<Record>,
}

impl Parcel {
    pub(super) const fn new(bytes_max: usize, through: FoldNumber) -> Self {
        Self {
            bytes_max,
            through,
            bytes: HEAD_BYTES,
            tracks: 0,
            clocks: BTreeSet::new(),
            records: Vec::new(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether there is room for the record. A first one always has.
    pub(super) fn holds(&self, record: &Record) -> bool {
        let (bytes, tracks) = self.more(record);
        let has_room = self.bytes + bytes <= self.bytes_max && self.tracks + tracks <= TRACKS_MAX;
        self.records.is_empty() || has_room
    }

    pub(super) fn put(&mut self, record: Record) {
        let (bytes, tracks) = self.more(&record);
        self.bytes += bytes;
        self.tracks += tracks;
        self.clocks.insert(Arc::as_ptr(record.context.shared()));
        self.records.push(record);
    }

    pub(super) fn into_records(self) -> Vec<Record> {
        self.records
    }

    /// Bytes and tracks that the record adds.
    fn more(&self, record: &Record) -> (usize, usize) {
        let shared = record.context.shared();
        let is_counted = self.clocks.contains(&Arc::as_ptr(shared));
        let (context, tracks) = match is_counted {
            true => (0, 0),
            false => (clock_bytes(shared, self.through), shared.tracks().count()),
        };
        (RECORD_BYTES + record.key.key.len() + record.body.value_bytes() + context, tracks)
    }
}

/// Bytes that a clock takes at most for a reader who knows the folds up to `through`, with the names of its actors.
pub(crate) fn clock_bytes(clock: &Clock, through: FoldNumber) -> usize {
    let track = |spans: usize| TRACK_BYTES + SPAN_BYTES * spans;
    let tracks: usize = clock.tracks().map(|(_, tracked)| track(tracked.above().len())).sum();
    let (mut folded, mut runs, mut next) = (0, 0, None);
    for number in clock.folds().map(|fold| fold.number).take_while(|number| *number <= through) {
        folded += 1;
        runs += usize::from(next != Some(number.0));
        next = number.0.checked_add(1);
    }
    // What is folded has nothing above its base.
    tracks - folded * TRACK_BYTES + runs * FOLDS_BYTES
}
