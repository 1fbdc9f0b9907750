//! The store of [`Mutant::AppliedIndexApart`](super::Mutant::AppliedIndexApart).

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use storage::state::{BatchItem, Scan, StateError, StateStore, StoredItem};

/// Makes the last batch of a checkpoint, which names its position, durable before its records.
///
/// A checkpoint writes its records, flushes, writes its position, flushes. This store holds the
/// records back at the first flush and writes them, unflushed, after the second.
#[derive(Debug)]
pub struct ApartStore {
    inner: Arc<dyn StateStore>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    records: Vec<Vec<BatchItem>>,
    flushes: u32,
}

impl ApartStore {
    /// Plants the bug in front of `inner`, for one checkpoint.
    pub fn new(inner: Arc<dyn StateStore>) -> Self {
        Self { inner, held: Mutex::default() }
    }
}

impl StateStore for ApartStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.inner.get(key)
    }

    fn first_in(&self, from: &[u8], to: &[u8]) -> Result<Option<StoredItem>, StateError> {
        self.inner.first_in(from, to)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        self.inner.scan(from, to)
    }

    fn write(&self, batch: &[BatchItem]) -> Result<(), StateError> {
        let mut held = self.held.lock().expect("nothing panics inside");
        if held.flushes > 0 {
            return self.inner.write(batch);
        }
        held.records.push(batch.to_vec());
        Ok(())
    }

    fn flush(&self) -> Result<(), StateError> {
        let mut held = self.held.lock().expect("nothing panics inside");
        held.flushes += 1;
        if held.flushes < 2 {
            return Ok(());
        }
        self.inner.flush()?;
        held.records.drain(..).try_for_each(|batch| self.inner.write(&batch))
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
}
