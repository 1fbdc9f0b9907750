//! What has to leave the store, and in which order.
//!
//! A tombstone is dead once nothing older can be read, but as long as an older version of its key
//! lies in the store it is what hides that version. Deletions are not ordered by a crash, so
//! tombstones go last, after a flush has made every other deletion durable. A tombstone that a newer
//! dead version hides in turn may go earlier, with the packs around it.

use std::collections::VecDeque;

use bytes::Bytes;
use proto::{KeyspaceId, Revision};

use super::dead_packs::DeadPacks;
use super::key::{self, KeyPrefix};
use super::version;
use crate::state::{BATCH_ITEMS_MAX, BatchItem, StateError, StateStore};

/// Dead records in the store that the next checkpoint deletes once it is durable.
#[derive(Debug, Default)]
pub struct Garbage {
    /// Versions that were put and stand alone, all chunks.
    pub versions: VecDeque<DeadVersion>,
    /// Versions that were put and may lie in packs.
    pub packs: DeadPacks,
    /// Keys of tombstones.
    pub tombstones: Vec<Bytes>,
    /// Ranges with everything in them.
    pub ranges: VecDeque<(Bytes, Bytes)>,
}

/// A dead version in the store that stands alone.
#[derive(Debug)]
pub struct DeadVersion {
    /// Its keyspace.
    pub keyspace: KeyspaceId,
    /// Its key.
    pub key: Box<[u8]>,
    /// Its revision.
    pub revision: Revision,
    /// Length of its value: tells in how many chunks it lies.
    pub value_bytes: u32,
}

/// What a lost checkpoint and an interrupted deletion left in the store. No reader sees it, and
/// what is in the store is beyond it, so it may go at once.
#[derive(Debug, Default)]
pub struct Remains {
    /// Keys of items.
    pub keys: Vec<Bytes>,
    /// Keys of tombstones, which go last.
    pub tombstones: Vec<Bytes>,
    /// Ranges with everything in them.
    pub ranges: VecDeque<(Bytes, Bytes)>,
}

impl Garbage {
    /// Adds everything in a keyspace that was closed.
    pub fn close(&mut self, keyspace: KeyspaceId) {
        self.ranges.push_back(key::keyspace_bounds(keyspace, keyspace.next()));
    }
}

/// Iterator over the deletions of versions, chunk by chunk.
#[derive(Debug)]
pub struct Deletions {
    versions: VecDeque<DeadVersion>,
    /// The version that is being deleted, and the chunks that are left of it.
    current: Option<(KeyPrefix, Revision, std::ops::Range<u16>)>,
}

impl Deletions {
    /// The deletions of all chunks of `versions`.
    pub fn new(versions: VecDeque<DeadVersion>) -> Self {
        Self { versions, current: None }
    }
}

impl Iterator for Deletions {
    type Item = BatchItem;

    fn next(&mut self) -> Option<BatchItem> {
        loop {
            if let Some((prefix, revision, chunks)) = &mut self.current
                && let Some(chunk) = chunks.next()
            {
                return Some((prefix.version(*revision, chunk), None));
            }
            let dead = self.versions.pop_front()?;
            let prefix = KeyPrefix::new(dead.keyspace, &dead.key);
            let chunks = 0..version::chunks(prefix.version_key_bytes(), dead.value_bytes as usize);
            self.current = Some((prefix, dead.revision, chunks));
        }
    }
}

/// Deletes the first items of the first range, as one batch; true when nothing is left.
///
/// # Errors
/// Those of the store.
pub fn sweep(
    store: &dyn StateStore,
    ranges: &mut VecDeque<(Bytes, Bytes)>,
) -> Result<bool, StateError> {
    let Some((from, to)) = ranges.front_mut() else { return Ok(true) };
    let mut batch: Vec<BatchItem> = Vec::with_capacity(BATCH_ITEMS_MAX);
    for found in store.scan(from, to).take(BATCH_ITEMS_MAX) {
        batch.push((found?.0, None));
    }
    match batch.last() {
        Some((last, _)) => {
            *from = last.clone();
            store.write(&batch)?;
        }
        None => drop(ranges.pop_front()),
    }
    Ok(ranges.is_empty())
}
