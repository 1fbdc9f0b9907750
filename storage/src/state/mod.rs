//! Engines that keep ordered key-value pairs between checkpoints.
//!
//! A [`StateStore`] is constant between two checkpoints: only a checkpoint writes to it, in small
//! batches, and makes the whole durable with [`StateStore::flush`]. Writes before a flush may
//! survive a crash or not, each batch on its own; users must not rely on either. An engine is a
//! cache of the log: on any error the caller moves the directory aside, opens an
//! empty store and replays the log.
//!
//! - [`SledStore`]: the engine of a real node.
//! - [`MemoryStore`]: the engine of the simulation, with a model of what a crash takes.
//! - [`conformance`]: the suite that every engine passes.

pub mod conformance;

mod error;
mod memory;
mod sled;

pub use self::error::StateError;
pub use self::memory::MemoryStore;
pub use self::sled::SledStore;

use std::fmt;

use bytes::Bytes;

/// Most items of one batch.
///
/// sled holds a process-wide lock while it applies a batch, which stops every read; 50 items hold
/// it for about 0.2 ms.
pub const BATCH_ITEMS_MAX: usize = 50;

/// Largest item, key and value together.
///
/// sled splits a node by the number of its items and moves a node that outgrows a quarter of its
/// segment to `blobs/`, which it never syncs; items of up to 6 KiB stay clear of that.
pub const ITEM_BYTES_MAX: usize = 6 * 1024;

/// One write of a batch: a key with its new value, or `None` to delete it.
pub type BatchItem = (Bytes, Option<Bytes>);

/// A stored key with its value.
pub type StoredItem = (Bytes, Bytes);

/// Ordered key-value pairs of bytes.
///
/// Reads may run on any thread at any time, also during a write; one thread at a time writes. A
/// read sees every batch whose `write` returned before. A scan has no snapshot: of a batch that is
/// written during the scan it may return any part.
pub trait StateStore: Send + Sync + fmt::Debug {
    /// The value of `key`.
    ///
    /// # Errors
    /// Any [`StateError`]; the store is of no use afterwards.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError>;

    /// The smallest key in `[from, to)` with its value; `None` when there is none.
    ///
    /// There is no way to ask for the greatest key: sled's reverse iterator does not end where a
    /// boundary between two of its nodes falls next to keys with a run of 0xff bytes (it gives up
    /// with a panic after a million rounds). What is looked for from its end is stored in
    /// descending order instead.
    ///
    /// # Errors
    /// Any [`StateError`]; the store is of no use afterwards.
    fn first_in(&self, from: &[u8], to: &[u8]) -> Result<Option<StoredItem>, StateError>;

    /// All items whose keys lie in `[from, to)`, in ascending order.
    ///
    /// The iterator ends after the first error.
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a>;

    /// Calls `visit` with every item whose key lies in `[from, to)`, in ascending order, up to the
    /// first error, its own included. As [`StateStore::scan`], but without a copy of each item.
    ///
    /// # Errors
    /// Any [`StateError`]; the store is of no use afterwards unless the error was `visit`'s.
    fn visit(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        self.scan(from, to).try_for_each(|item| item.and_then(|(key, value)| visit(&key, &value)))
    }

    /// Writes a batch of at most [`BATCH_ITEMS_MAX`] items, each of at most [`ITEM_BYTES_MAX`].
    ///
    /// Visible to reads on return. A crash before the next [`StateStore::flush`] keeps all of the
    /// batch or nothing of it, and independently of other batches. A key stands in a batch once.
    ///
    /// # Errors
    /// Any [`StateError`]; the store is of no use afterwards.
    ///
    /// # Panics
    /// When the batch or one of its items is too large: the caller cuts them.
    fn write(&self, batch: &[BatchItem]) -> Result<(), StateError>;

    /// Makes all batches that were written before the call durable.
    ///
    /// # Errors
    /// Any [`StateError`]; nothing is known about what is durable, and the store is of no use
    /// afterwards.
    fn flush(&self) -> Result<(), StateError>;

    /// Bytes the store occupies, roughly; at the latest those of the last [`StateStore::flush`].
    fn size_bytes(&self) -> u64;
}

/// What [`StateStore::visit`] calls with key and value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StateError> + 'a;

/// The iterator of [`StateStore::scan`].
pub type Scan<'a> = Box<dyn Iterator<Item = Result<StoredItem, StateError>> + 'a>;

/// Asserts the bounds of a batch; every engine calls it first.
fn assert_batch(batch: &[BatchItem]) {
    assert!(
        batch.len() <= BATCH_ITEMS_MAX,
        "a batch holds at most {BATCH_ITEMS_MAX} items, this one has {}",
        batch.len()
    );
    for (key, value) in batch {
        let bytes = key.len() + value.as_ref().map_or(0, Bytes::len);
        assert!(
            bytes <= ITEM_BYTES_MAX,
            "an item holds at most {ITEM_BYTES_MAX} bytes, this one has {bytes}"
        );
        assert!(!key.is_empty(), "the key of an item is not empty");
    }
}
