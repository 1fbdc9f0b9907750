//! Moving a frozen layer into the store.
//!
//! A checkpoint at index A runs in steps, each at most one batch or one flush:
//!
//! 1. the versions of the frozen layer, in batches;
//! 2. the outcomes kept since the last checkpoint, in batches;
//! 3. a flush;
//! 4. the checkpoint record, in a batch of its own;
//! 5. a flush: from here on the store is at A;
//! 6. the records of dropped outcomes are deleted, in batches.
//!
//! The applied index and the effects it stands for thus become visible in one atomic batch, and
//! only after the effects are durable (the inverse order lost entries in etcd 3.5,
//! etcd-io/etcd#13766). A crash before step 5 leaves the store at the previous checkpoint, with
//! remains above it that no reader sees (see the page of the module); a crash after it leaves the
//! store at A. A deletion that is lost in step 6 is found when the table is next read back.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;
use proto::{KeyspaceId, LogIndex, Revision, Term};

use super::digest::ContentSum;
use super::key::{self, KeyPrefix};
use super::layer::Layer;
use super::outcome::{Kept, OutcomeRecord};
use crate::state::{BATCH_ITEMS_MAX, BatchItem, StateError, StateStore};

/// Version of the layout of the store.
const FORMAT: u32 = 1;

/// The record that says what the store holds. It is the one record that is overwritten.
#[derive(Clone, PartialEq, Message)]
pub struct CheckpointRecord {
    #[prost(uint32, tag = "1")]
    format: u32,
    /// Log index up to which the store holds everything.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// Term of that entry.
    #[prost(uint64, tag = "3")]
    pub term: u64,
    /// Floor of the exactly-once table.
    #[prost(uint64, tag = "4")]
    pub floor: u64,
    #[prost(message, repeated, tag = "5")]
    pub keyspaces: Vec<KeyspaceRecord>,
    /// Sum over all versions up to `index`.
    #[prost(bytes = "bytes", tag = "6")]
    sum: Bytes,
}

/// A keyspace at the index of a checkpoint.
#[derive(Clone, PartialEq, Message)]
pub struct KeyspaceRecord {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    #[prost(uint64, tag = "4")]
    pub compacted: u64,
}

impl CheckpointRecord {
    /// The record of a checkpoint whose sum is not known yet.
    pub fn new(
        index: LogIndex,
        term: Term,
        floor: LogIndex,
        keyspaces: Vec<KeyspaceRecord>,
    ) -> Self {
        Self {
            format: FORMAT,
            index: index.get(),
            term: term.get(),
            floor: floor.get(),
            keyspaces,
            sum: Bytes::new(),
        }
    }

    /// Reads the record; `None` when the store never finished a checkpoint.
    ///
    /// # Errors
    /// Those of the store; [`StateError::Damaged`]; [`StateError::Newer`].
    pub fn load(store: &dyn StateStore) -> Result<Option<Self>, StateError> {
        let Some(bytes) = store.get(&key::checkpoint())? else { return Ok(None) };
        let record = Self::decode(bytes)
            .map_err(|error| StateError::Damaged { why: format!("checkpoint record: {error}") })?;
        if record.format > FORMAT {
            return Err(StateError::Newer { found: record.format, known: FORMAT });
        }
        record.sum()?;
        Ok(Some(record))
    }

    /// The sum over all versions.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    pub fn sum(&self) -> Result<ContentSum, StateError> {
        ContentSum::from_bytes(&self.sum).ok_or_else(|| StateError::Damaged {
            why: format!("checkpoint record: the sum has {} bytes", self.sum.len()),
        })
    }
}

/// Reads all outcomes in the store, in the order of the log.
pub fn load_outcomes(
    store: &dyn StateStore,
) -> impl Iterator<Item = Result<(LogIndex, Kept), StateError>> {
    let (from, to) = key::outcome_bounds();
    store.scan(&from, &to).map(|item| {
        let (key, record) = item?;
        let read = key::outcome_index(&key)
            .and_then(|index| Some((index, OutcomeRecord::decode(record).ok()?.read(index)?)));
        let why = || format!("no valid outcome under \"{}\"", key.escape_ascii());
        read.ok_or_else(|| StateError::Damaged { why: why() })
    })
}

/// What a step of a checkpoint came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointProgress {
    /// Call [`CheckpointJob::step`] again.
    Continue,
    /// The store durably holds everything up to [`CheckpointJob::index`].
    Done,
}

/// A checkpoint on its way into the store.
///
/// Owns what it writes, so it runs beside the machine, on a thread of its own if the caller likes.
/// A crash may fall between any two steps. After an error the store is of no use.
///
/// Before the step that writes the record, the log has to hold every entry up to
/// [`CheckpointJob::index`] durably on this node: a store that is ahead of its log cannot be
/// replayed from.
#[derive(Debug)]
pub struct CheckpointJob {
    record: CheckpointRecord,
    versions: VersionItems,
    outcomes: std::vec::IntoIter<(LogIndex, Kept)>,
    garbage: std::vec::IntoIter<LogIndex>,
    /// Tells the machine the new sum.
    result: Arc<OnceLock<ContentSum>>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Versions,
    Outcomes,
    FlushContent,
    Record,
    FlushRecord,
    Garbage,
    Done,
}

/// Everything a checkpoint works on.
#[derive(Debug)]
pub struct CheckpointParts {
    /// What the store will hold.
    pub record: CheckpointRecord,
    /// The frozen layer.
    pub layer: Arc<Layer>,
    /// Sum over the versions below the layer.
    pub sum: ContentSum,
    /// Outcomes to write.
    pub outcomes: Vec<(LogIndex, Kept)>,
    /// Outcomes to delete in the end.
    pub garbage: Vec<LogIndex>,
    /// Where the new sum is left.
    pub result: Arc<OnceLock<ContentSum>>,
}

impl CheckpointJob {
    /// A checkpoint that has not begun.
    pub(super) fn new(parts: CheckpointParts) -> Self {
        let CheckpointParts { record, layer, sum, outcomes, garbage, result } = parts;
        Self {
            record,
            versions: VersionItems { layer, sum, last: None, place: None },
            outcomes: outcomes.into_iter(),
            garbage: garbage.into_iter(),
            result,
            phase: Phase::Versions,
        }
    }

    /// Log index that the store will cover.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        LogIndex(self.record.index)
    }

    /// Term of the entry at that index.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.record.term)
    }

    /// Does the next step on `store`, which must be the machine's own.
    ///
    /// # Errors
    /// Those of the store; the checkpoint is lost and so is the store.
    pub fn step(&mut self, store: &dyn StateStore) -> Result<CheckpointProgress, StateError> {
        self.phase = match self.phase {
            Phase::Versions => {
                let done = write_batch(store, &mut self.versions)?;
                if done { Phase::Outcomes } else { Phase::Versions }
            }
            Phase::Outcomes => {
                let done = write_batch(store, self.outcomes.by_ref().map(outcome_item))?;
                if done { Phase::FlushContent } else { Phase::Outcomes }
            }
            Phase::FlushContent => {
                store.flush()?;
                Phase::Record
            }
            Phase::Record => {
                self.record.sum = self.versions.sum.to_bytes();
                let record = Bytes::from(self.record.encode_to_vec());
                store.write(&[(key::checkpoint(), Some(record))])?;
                Phase::FlushRecord
            }
            Phase::FlushRecord => {
                store.flush()?;
                self.result.set(self.versions.sum).expect("a checkpoint finishes once");
                Phase::Garbage
            }
            Phase::Garbage => {
                let delete = |index| (key::outcome(index), None);
                let done = write_batch(store, self.garbage.by_ref().map(delete))?;
                if done { Phase::Done } else { Phase::Garbage }
            }
            Phase::Done => Phase::Done,
        };
        Ok(match self.phase {
            Phase::Done => CheckpointProgress::Done,
            Phase::Versions
            | Phase::Outcomes
            | Phase::FlushContent
            | Phase::Record
            | Phase::FlushRecord
            | Phase::Garbage => CheckpointProgress::Continue,
        })
    }
}

/// Writes the next items as one batch; true when there are no more.
fn write_batch(
    store: &dyn StateStore,
    items: impl Iterator<Item = BatchItem>,
) -> Result<bool, StateError> {
    let batch: Vec<BatchItem> = items.take(BATCH_ITEMS_MAX).collect();
    if !batch.is_empty() {
        store.write(&batch)?;
    }
    Ok(batch.len() < BATCH_ITEMS_MAX)
}

fn outcome_item((index, kept): (LogIndex, Kept)) -> BatchItem {
    let record = OutcomeRecord::new(index, &kept).encode_to_vec();
    (key::outcome(index), Some(Bytes::from(record)))
}

/// Iterator over the items of all versions of a layer; adds each version to the sum on the way.
#[derive(Debug)]
struct VersionItems {
    layer: Arc<Layer>,
    sum: ContentSum,
    /// The key that was finished last.
    last: Option<(KeyspaceId, Bytes)>,
    place: Option<Place>,
}

/// The item that comes next: a chunk of a version of a key.
#[derive(Debug)]
struct Place {
    key: (KeyspaceId, Bytes),
    prefix: KeyPrefix,
    /// Counts the key's versions from the oldest.
    version: usize,
    chunk: u16,
}

impl Iterator for VersionItems {
    type Item = BatchItem;

    fn next(&mut self) -> Option<BatchItem> {
        loop {
            let place = match &mut self.place {
                Some(place) => place,
                None => {
                    let key = self.layer.key_after(self.last.as_ref())?;
                    let prefix = KeyPrefix::new(key.0, &key.1);
                    self.place.insert(Place { key, prefix, version: 0, chunk: 0 })
                }
            };
            let chain = self.layer.chain(place.key.0, &place.key.1);
            let (_, chain) = chain.expect("a frozen layer does not change");
            let Some(version) = chain.nth(place.version) else {
                self.last = self.place.take().map(|place| place.key);
                continue;
            };
            if place.chunk == 0 {
                self.sum.add(&place.prefix, version);
            }
            let item = version.chunk(&place.prefix, place.chunk);
            place.chunk += 1;
            if place.chunk == version.chunks(&place.prefix) {
                place.chunk = 0;
                place.version += 1;
            }
            return Some(item);
        }
    }
}

/// Reads the revisions of a record's keyspaces.
pub fn revisions(record: &CheckpointRecord) -> impl Iterator<Item = (KeyspaceId, Revision)> {
    record.keyspaces.iter().map(|keyspace| (KeyspaceId(keyspace.id), Revision(keyspace.revision)))
}
