//! Copying a store into an empty one, item by item.
//!
//! An engine may keep room for what was replaced or deleted long ago: sled cleans a segment of its
//! file only when half of it is dead, and hardly ever makes the file shorter. A copy takes no room
//! for what was deleted, and a machine may go on with it as if nothing had happened:
//!
//! 1. Between two checkpoints a store is constant, and a renewal runs between two checkpoints. So
//!    the copy is the store as of one moment.
//! 2. The copy is verbatim: whatever the machine remembers of items by their keys (what is dead,
//!    what lies in packs, what a crash left behind, how far a reader may see) is as true of it.
//!
//! The record of the checkpoint is copied last, between two flushes. A copy that was not finished
//! is thus as good as empty to a machine, and is thrown away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use proto::KeyspaceId;

use super::import::FLUSH_BYTES;
use super::{item, key};
use crate::state::{BATCH_ITEMS_MAX, BatchItem, StateError, StateStore};

/// What a step of a renewal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewProgress {
    /// Call [`RenewJob::step`] again.
    Continue,
    /// The new store durably holds everything.
    Done,
}

/// Why a renewal failed. The new store is of no use; the machine goes on with the old one.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The old store failed, or holds an item that is damaged: it has to be rebuilt.
    #[error("the store to copy: {0}")]
    From(#[source] StateError),
    /// The new store failed. Another attempt, into another store, may succeed.
    #[error("the new store: {0}")]
    To(#[source] StateError),
    /// The new store holds something already: the caller has the wrong one.
    #[error("the store to copy into is not empty")]
    NotEmpty,
}

/// A store on its way into a new one.
///
/// Runs beside the machine, on a thread of its own if the caller likes. May be dropped at any step.
#[derive(Debug)]
pub struct RenewJob {
    /// The first key that was not copied, and the bound above all.
    from: Bytes,
    to: Bytes,
    phase: Phase,
    /// Bytes of items that were written since the last flush.
    unflushed: usize,
    items: u64,
    /// Tells the machine that all is done.
    done: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Start,
    Items,
    FlushItems,
    Base,
    FlushBase,
    Done,
}

impl RenewJob {
    /// A renewal that has not begun.
    pub(super) fn new(done: Arc<AtomicBool>) -> Self {
        let (from, to) = key::keyspace_bounds(KeyspaceId(0), KeyspaceId(u64::MAX));
        Self { from, to, phase: Phase::Start, unflushed: 0, items: 0, done }
    }

    /// Items that were copied so far.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Does the next step: at most one batch or one flush. `from` must be the machine's own store,
    /// `to` an empty one that nobody else uses.
    ///
    /// # Errors
    /// Any [`RenewError`]; the renewal is lost.
    pub fn step(
        &mut self,
        from: &dyn StateStore,
        to: &dyn StateStore,
    ) -> Result<RenewProgress, RenewError> {
        self.phase = match self.phase {
            Phase::Start => {
                let found = to.first_in(&self.from, &self.to).map_err(RenewError::To)?;
                if found.is_some() {
                    return Err(RenewError::NotEmpty);
                }
                Phase::Items
            }
            Phase::Items if self.unflushed >= FLUSH_BYTES => {
                to.flush().map_err(RenewError::To)?;
                self.unflushed = 0;
                Phase::Items
            }
            Phase::Items => self.copy_batch(from, to)?,
            Phase::FlushItems => {
                to.flush().map_err(RenewError::To)?;
                Phase::Base
            }
            Phase::Base => {
                let base = base_record(from).map_err(RenewError::From)?;
                to.write(&[base]).map_err(RenewError::To)?;
                self.items += 1;
                Phase::FlushBase
            }
            Phase::FlushBase => {
                to.flush().map_err(RenewError::To)?;
                self.done.store(true, Ordering::Release);
                Phase::Done
            }
            Phase::Done => Phase::Done,
        };
        let done = self.phase == Phase::Done;
        Ok(if done { RenewProgress::Done } else { RenewProgress::Continue })
    }

    /// Copies the next items as one batch, but for the record of the checkpoint.
    fn copy_batch(
        &mut self,
        from: &dyn StateStore,
        to: &dyn StateStore,
    ) -> Result<Phase, RenewError> {
        let base = key::checkpoint();
        let mut batch: Vec<BatchItem> = Vec::with_capacity(BATCH_ITEMS_MAX);
        let mut last = None;
        let mut looked = 0;
        for found in from.scan(&self.from, &self.to).take(BATCH_ITEMS_MAX) {
            let (key, stored) = found.map_err(RenewError::From)?;
            item::verify(&key, &stored).map_err(RenewError::From)?;
            looked += 1;
            last = Some(key.clone());
            if key != base {
                self.unflushed += key.len() + stored.len();
                batch.push((key, Some(stored)));
            }
        }
        if !batch.is_empty() {
            to.write(&batch).map_err(RenewError::To)?;
            self.items += batch.len() as u64;
        }
        if let Some(last) = last {
            self.from = key::after(&last);
        }
        Ok(if looked < BATCH_ITEMS_MAX { Phase::FlushItems } else { Phase::Items })
    }
}

/// The item of the record that makes a store visible.
fn base_record(store: &dyn StateStore) -> Result<BatchItem, StateError> {
    let key = key::checkpoint();
    let stored = store.get(&key)?.ok_or_else(|| StateError::Damaged {
        why: "the record of its checkpoint is gone".to_owned(),
    })?;
    item::verify(&key, &stored)?;
    Ok((key, Some(stored)))
}
