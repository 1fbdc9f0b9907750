//! Moving a frozen layer into the store.
//!
//! A checkpoint at index A runs in steps, each at most one batch or one flush:
//!
//! 1. remains that were found when the store was opened are deleted, in batches;
//! 2. the versions of the frozen layer, in batches;
//! 3. the outcomes kept since the last checkpoint, in batches;
//! 4. a record for each keyspace, in batches;
//! 5. a flush;
//! 6. the base record, in a batch of its own;
//! 7. a flush: from here on the store is at A;
//! 8. garbage: the records of dropped outcomes, dead versions, packs that hold nothing else, what
//!    closed keyspaces held, and the keyspace records of earlier checkpoints are deleted, in batches;
//! 9. a flush, and then the tombstones that are dead (`garbage.rs` says why they are last).
//!
//! The applied index and the effects it stands for thus become visible in one atomic batch, and
//! only after the effects are durable (the inverse order lost entries in etcd 3.5,
//! etcd-io/etcd#13766). A crash before step 7 leaves the store at the previous checkpoint, with
//! remains above it that no reader sees (see the page of the module); a crash after it leaves the
//! store at A. A deletion that is lost is found when the store is next opened.

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use prost::Message;
use proto::{KeyspaceId, LogIndex, Term};

use super::cover::Cover;
use super::dead_packs::DeadPacks;
use super::garbage::{self, Deletions, Garbage, Remains};
use super::key::{self, KeyPrefix};
use super::layer::{Chain, Layer};
use super::outcome::{Kept, OutcomeRecord};
use super::recall::Recall;
use super::version::Version;
use super::{item, pack, survey};
use crate::state::{BATCH_ITEMS_MAX, BatchItem, StateError, StateStore};

/// Reads all outcomes in the store, in the order of the log.
pub fn load_outcomes(
    store: &dyn StateStore,
) -> impl Iterator<Item = Result<(LogIndex, Kept), StateError>> {
    let (from, to) = key::outcome_bounds();
    item::scan(store, &from, &to).map(|item| {
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
/// Before the step that writes the base record, the log has to hold every entry up to
/// [`CheckpointJob::index`] durably on this node: a store that is ahead of its log cannot be
/// replayed from.
#[derive(Debug)]
pub struct CheckpointJob {
    cover: Arc<Cover>,
    remains: std::vec::IntoIter<Bytes>,
    remaining_ranges: VecDeque<(Bytes, Bytes)>,
    versions: VersionItems,
    outcomes: btree_map::IntoIter<LogIndex, Arc<Kept>>,
    /// How many keyspace records are written.
    keyspaces: usize,
    dropped: std::vec::IntoIter<LogIndex>,
    dead: Deletions,
    dead_packs: DeadPacks,
    ranges: VecDeque<(Bytes, Bytes)>,
    tombstones: std::vec::IntoIter<Bytes>,
    _recall: Recall,
    /// Tells the machine that all is done.
    done: Arc<AtomicBool>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Remains,
    RemainingRanges,
    Versions,
    Outcomes,
    Keyspaces,
    FlushContent,
    Base,
    FlushBase,
    DroppedOutcomes,
    DeadVersions,
    DeadPacks,
    DeadRanges,
    FlushGarbage,
    Tombstones,
    Done,
}

/// Everything a checkpoint works on.
#[derive(Debug)]
pub struct CheckpointParts {
    /// What the store will hold.
    pub cover: Arc<Cover>,
    /// The frozen layer.
    pub layer: Arc<Layer>,
    /// Outcomes to write.
    pub outcomes: BTreeMap<LogIndex, Arc<Kept>>,
    /// What to delete first.
    pub remains: Remains,
    /// Outcomes to delete in the end.
    pub dropped: Vec<LogIndex>,
    /// What else to delete in the end.
    pub garbage: Garbage,
    /// Known no longer; freed with the job, since freeing it takes long.
    pub recall: Recall,
    /// Set with the last step.
    pub done: Arc<AtomicBool>,
}

impl CheckpointJob {
    /// A checkpoint that has not begun.
    pub(super) fn new(parts: CheckpointParts) -> Self {
        let CheckpointParts { cover, layer, outcomes, remains, dropped, garbage, recall, done } =
            parts;
        let Garbage { versions, packs, mut tombstones, mut ranges } = garbage;
        tombstones.extend(remains.tombstones);
        ranges.extend(survey::other_keyspace_records(cover.index));
        Self {
            cover,
            remains: remains.keys.into_iter(),
            remaining_ranges: remains.ranges,
            versions: VersionItems { layer, last: None, place: None },
            outcomes: outcomes.into_iter(),
            keyspaces: 0,
            dropped: dropped.into_iter(),
            dead: Deletions::new(versions),
            dead_packs: packs,
            ranges,
            tombstones: tombstones.into_iter(),
            _recall: recall,
            done,
            phase: Phase::Remains,
        }
    }

    /// Log index that the store will cover.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.cover.index
    }

    /// Term of the entry at that index.
    #[must_use]
    pub fn term(&self) -> Term {
        self.cover.term
    }

    /// Does the next step on `store`, which must be the machine's own.
    ///
    /// # Errors
    /// Those of the store; the checkpoint is lost and so is the store.
    pub fn step(&mut self, store: &dyn StateStore) -> Result<CheckpointProgress, StateError> {
        let phase = self.phase;
        let finished = match phase {
            Phase::Remains => write_batch(store, self.remains.by_ref().map(deletion))?,
            Phase::RemainingRanges => garbage::sweep(store, &mut self.remaining_ranges)?,
            Phase::Versions => write_batch(store, &mut self.versions)?,
            Phase::Outcomes => write_batch(store, self.outcomes.by_ref().map(outcome_item))?,
            Phase::Keyspaces => self.write_keyspaces(store)?,
            Phase::Base => {
                store.write(&[self.cover.item()])?;
                true
            }
            Phase::FlushContent | Phase::FlushBase => {
                store.flush()?;
                true
            }
            Phase::DroppedOutcomes => {
                let dropped = self.dropped.by_ref().map(key::outcome);
                write_batch(store, dropped.map(deletion))?
            }
            Phase::DeadVersions => write_batch(store, &mut self.dead)?,
            Phase::DeadPacks => self.dead_packs.sweep(store)?,
            Phase::DeadRanges => garbage::sweep(store, &mut self.ranges)?,
            Phase::FlushGarbage => {
                if self.tombstones.len() > 0 {
                    store.flush()?;
                }
                true
            }
            Phase::Tombstones => write_batch(store, self.tombstones.by_ref().map(deletion))?,
            Phase::Done => false,
        };
        if finished {
            self.phase = phase.next();
        }
        if self.phase == Phase::Done {
            self.done.store(true, Ordering::Release);
            return Ok(CheckpointProgress::Done);
        }
        Ok(CheckpointProgress::Continue)
    }

    fn write_keyspaces(&mut self, store: &dyn StateStore) -> Result<bool, StateError> {
        let left = self.cover.keyspaces[self.keyspaces..].iter();
        let finished = write_batch(store, left.map(|covered| covered.item(self.cover.index)))?;
        self.keyspaces = (self.keyspaces + BATCH_ITEMS_MAX).min(self.cover.keyspaces.len());
        Ok(finished)
    }
}

impl Phase {
    fn next(self) -> Self {
        match self {
            Self::Remains => Self::RemainingRanges,
            Self::RemainingRanges => Self::Versions,
            Self::Versions => Self::Outcomes,
            Self::Outcomes => Self::Keyspaces,
            Self::Keyspaces => Self::FlushContent,
            Self::FlushContent => Self::Base,
            Self::Base => Self::FlushBase,
            Self::FlushBase => Self::DroppedOutcomes,
            Self::DroppedOutcomes => Self::DeadVersions,
            Self::DeadVersions => Self::DeadPacks,
            Self::DeadPacks => Self::DeadRanges,
            Self::DeadRanges => Self::FlushGarbage,
            Self::FlushGarbage => Self::Tombstones,
            Self::Tombstones | Self::Done => Self::Done,
        }
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

fn deletion(key: Bytes) -> BatchItem {
    (key, None)
}

fn outcome_item((index, kept): (LogIndex, Arc<Kept>)) -> BatchItem {
    let record = OutcomeRecord::new(index, &kept).encode_to_vec();
    item::seal(key::outcome(index), &[&record])
}

/// Iterator over the items of all versions of a layer: those of each key that were replaced in it
/// as packs as far as they go into some, oldest first, then the newest, which stands alone.
#[derive(Debug)]
struct VersionItems {
    layer: Arc<Layer>,
    /// The key that was finished last.
    last: Option<(KeyspaceId, Bytes)>,
    place: Option<Place>,
}

/// The item that comes next: a pack, or a chunk of a version of a key.
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
            if place.chunk == 0
                && let Some(pack) = next_pack(chain, place)
            {
                return Some(pack);
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

/// The pack that begins with the version that comes next, unless that has to stand alone; goes on
/// behind it.
fn next_pack(chain: &Chain, place: &mut Place) -> Option<BatchItem> {
    let mut room = pack::Room::new(&place.prefix);
    let replaced = chain.replaced(place.version);
    let mut versions: Vec<&Version> = replaced.take_while(|version| room.take(version)).collect();
    if versions.len() < 2 {
        return None;
    }
    place.version += versions.len();
    versions.reverse();
    Some(pack::seal(&place.prefix, &versions))
}
