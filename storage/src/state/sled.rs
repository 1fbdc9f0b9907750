//! The engine of a real node: sled 0.34, used as a cache.
//!
//! What sled is trusted with is little, and each rule below answers a known defect:
//!
//! - Its `flush` ends in `sync_file_range` on Linux, which leaves the drive's cache and the
//!   metadata alone (spacejam/sled#1452). [`SledStore`] follows it with `fdatasync` through a
//!   handle of its own on the file `db`, opened before sled's; after opening it syncs `conf`, `db`
//!   and the directory, of which sled syncs none.
//! - A crash while it opens can leave `snap.X.generating`, which a later open takes for the newest
//!   snapshot and fails on (spacejam/sled#1527), or half of a `conf`. Such files are removed before
//!   opening.
//! - A store that has lost its snapshot may open without an error and empty. Every store gets one
//!   when it is created, and is refused without.
//! - Large nodes go to `blobs/`, which is never synced. Items are bounded
//!   ([`ITEM_BYTES_MAX`](super::ITEM_BYTES_MAX)) and `blobs/` must be empty at open and after every
//!   flush.
//! - `flush_async` can deadlock (spacejam/sled#1308) and the background flusher only logs its
//!   errors: neither is used.
//! - After a handle is dropped its threads may hold the lock on `db` a little longer; opening waits
//!   for them.
//! - It panics on damaged files. Opening, every later call and closing are guarded, and a panic
//!   becomes [`StateError::Panicked`]. After one, the handle is not closed but forgotten, with its
//!   memory and its file: closing would write, through structures of which nothing is known.
//! - On damaged files it may also open without an error and lack what was there, for it takes
//!   damage for the torn end of its log. That cannot be noticed here: the state machine compares
//!   counts and sums of what it finds with those of the last checkpoint.
//! - Its reverse iterator may not end, see [`StateStore::first_in`]: it is not used.

mod directory;

use std::any::Any;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use self::directory::{at, await_lock, check_no_blobs, end_creation, open_data, prepare, sync_all};
use super::{BatchItem, Scan, StateError, StateStore, StoredItem, Visit, assert_batch};

/// Size of sled's page cache. Its real use of memory is a multiple of the setting
/// (spacejam/sled#1309), so it stays small.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// How often opening looks whether the lock of an earlier handle is gone: for ten seconds in all.
/// Processes keep apart by the lock of the data directory, so a handle that still holds this one is
/// of our process and on its way out.
const LOCK_ATTEMPTS: u32 = 1_000;

/// A state store in a directory of its own, kept by sled.
#[derive(Debug)]
pub struct SledStore {
    /// Taken when the store is dropped.
    db: Option<sled::Db>,
    /// Our own handle on sled's data file, for `fdatasync`.
    data: File,
    dir: PathBuf,
    failed: AtomicBool,
    panicked: AtomicBool,
    /// Bytes of its files when it was opened or flushed last.
    size: AtomicU64,
}

impl SledStore {
    /// Opens the store in `dir`, which is created when absent.
    ///
    /// On return the files and their names are durable. Blocks on the disk.
    ///
    /// # Errors
    /// Any [`StateError`] but `Poisoned`: the caller moves the directory aside and opens again. A
    /// failed attempt may leave a part of a new store behind.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        Self::open_patiently(dir, LOCK_ATTEMPTS)
    }

    fn open_patiently(dir: &Path, lock_attempts: u32) -> Result<Self, StateError> {
        fs::create_dir_all(dir).map_err(at(dir))?;
        let data = open_data(dir, lock_attempts)?;
        let fresh = prepare(dir, &data)?;
        check_no_blobs(dir)?;
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        if fresh {
            // sled writes a snapshot when it opens a store that holds something, not before.
            guarded("create", || config.open()?.flush().map(drop))?;
            await_lock(&data, &dir.join("db"), lock_attempts)?;
        }
        let store = Self {
            db: Some(guarded("open", || config.open())?),
            data,
            dir: dir.to_owned(),
            size: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        };
        sync_all(dir, &store.data)?;
        if fresh {
            end_creation(dir, &store.data)?;
        }
        store.measure();
        Ok(store)
    }

    fn items(&self, from: &[u8], to: &[u8]) -> Items<'_> {
        Items { store: self, items: Some(self.db().range(from..to)) }
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("the handle is taken when the store is dropped, not before")
    }

    /// Runs one call of sled; after a failure no further call gets there.
    fn call<T>(
        &self,
        what: &'static str,
        call: impl FnOnce() -> sled::Result<T>,
    ) -> Result<T, StateError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(StateError::Poisoned);
        }
        guarded(what, call).map_err(|error| self.fail(error))
    }

    /// Notes how large the files are. Looks through the directory, so not at each question; and that
    /// this fails, for want of a file descriptor perhaps, says nothing about the store.
    fn measure(&self) {
        if let Ok(size) = guarded("measure its size", || self.db().size_on_disk()) {
            self.size.store(size, Ordering::Relaxed);
        }
    }

    /// Notes that nothing may rely on this store any more.
    fn fail(&self, error: StateError) -> StateError {
        self.failed.store(true, Ordering::Release);
        if matches!(error, StateError::Panicked { .. }) {
            self.panicked.store(true, Ordering::Release);
        }
        error
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        if self.panicked.load(Ordering::Acquire) {
            std::mem::forget(db);
            return;
        }
        // Closing writes what was not flushed, which nobody relies on: a failure changes nothing.
        let _ = guarded("close", || {
            drop(db);
            Ok(())
        });
    }
}

impl StateStore for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let value = self.call("get", || self.db().get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn first_in(&self, from: &[u8], to: &[u8]) -> Result<Option<StoredItem>, StateError> {
        self.scan(from, to).next().transpose()
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        Box::new(self.items(from, to).map(|item| {
            item.map(|(key, value)| (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        }))
    }

    fn visit(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        if from >= to {
            return Ok(());
        }
        self.items(from, to).try_for_each(|item| item.and_then(|(key, value)| visit(&key, &value)))
    }

    fn write(&self, batch: &[BatchItem]) -> Result<(), StateError> {
        assert_batch(batch);
        let mut writes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => writes.insert(&key[..], &value[..]),
                None => writes.remove(&key[..]),
            }
        }
        self.call("write", || self.db().apply_batch(writes))
    }

    fn flush(&self) -> Result<(), StateError> {
        self.call("flush", || self.db().flush())?;
        self.data
            .sync_data()
            .map_err(at(&self.dir.join("db")))
            .and_then(|()| check_no_blobs(&self.dir))
            .map_err(|error| self.fail(error))?;
        self.measure();
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }
}

/// Iterator of a scan; ends after the first error.
struct Items<'a> {
    store: &'a SledStore,
    items: Option<sled::Iter>,
}

impl Iterator for Items<'_> {
    type Item = Result<(sled::IVec, sled::IVec), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let items = self.items.as_mut()?;
        let item = self.store.call("scan", || items.next().transpose()).transpose();
        if !matches!(item, Some(Ok(_))) {
            self.items = None;
        }
        item
    }
}

/// Runs one call of sled and turns its errors and panics into ours.
///
/// Unwind safety: whatever a panic leaves behind inside sled is never looked at again, for the
/// store refuses every later call.
fn guarded<T>(what: &'static str, call: impl FnOnce() -> sled::Result<T>) -> Result<T, StateError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(StateError::Engine { what, source: Box::new(source) }),
        Err(panic) => Err(StateError::Panicked { what, message: panic_message(&*panic) }),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{ITEM_BYTES_MAX, conformance};
    use super::*;
    use std::sync::Arc;

    fn item(key: &[u8], value: &[u8]) -> BatchItem {
        (Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)))
    }

    #[test]
    fn conforms() {
        conformance::run(|| {
            let dir = Arc::new(tempfile::tempdir().unwrap());
            let store = SledStore::open(&dir.path().join("s")).unwrap();
            let reopen = move || {
                let store = SledStore::open(&dir.path().join("s")).unwrap();
                Box::new(store) as Box<dyn StateStore>
            };
            (Box::new(store), Box::new(reopen))
        });
    }

    #[test]
    fn the_largest_items_leave_blobs_empty() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        for round in 0..40_u8 {
            let batch: Vec<BatchItem> = (0..50_u8)
                .map(|n| {
                    let key = [&[n, round][..], &[0xff; 4600]].concat();
                    item(&key, &vec![round; ITEM_BYTES_MAX - key.len()])
                })
                .collect();
            store.write(&batch).unwrap();
        }
        // Deletes make sled merge nodes, which makes large ones.
        for round in (0..40_u8).filter(|round| round % 3 != 0) {
            let batch: Vec<BatchItem> = (0..50_u8)
                .map(|n| (Bytes::from([&[n, round][..], &[0xff; 4600]].concat()), None))
                .collect();
            store.write(&batch).unwrap();
        }
        store.flush().unwrap();
        drop(store);
        let store = SledStore::open(dir.path()).expect("blobs/ is empty");
        assert_eq!(store.scan(&[0], &[0xff]).count(), 14 * 50);
    }

    #[test]
    fn a_store_with_blobs_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(SledStore::open(dir.path()).unwrap());
        fs::write(dir.path().join("blobs/17"), b"x").unwrap();
        let error = SledStore::open(dir.path()).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    }

    /// spacejam/sled#1527.
    #[test]
    fn an_unfinished_snapshot_is_removed_before_opening() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        store.write(&[item(b"k", b"v")]).unwrap();
        store.flush().unwrap();
        drop(store);
        let left = dir.path().join("snap.FFFFFFFFFFFF0000.generating");
        fs::write(&left, b"half a snap").unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        assert_eq!(store.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
        assert!(!left.exists());
    }

    #[test]
    fn a_damaged_store_is_a_typed_error_and_can_be_moved_aside() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("1-1");
        for n in 1..=2 {
            let store = SledStore::open(&dir).unwrap();
            for key in 0..200_u8 {
                store.write(&[item(&[key], &[key; 1000])]).unwrap();
            }
            store.flush().unwrap();
            drop(store);
            fs::write(dir.join("conf"), b"neither a configuration nor its checksum").unwrap();
            SledStore::open(&dir).unwrap_err();
            fs::rename(&dir, root.path().join(format!("1-1.damaged-{n}"))).unwrap();
        }
    }

    #[test]
    fn a_panic_inside_poisons_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        let failed = store.call("fail", || -> sled::Result<()> { panic!("as on a damaged page") });
        let Err(StateError::Panicked { what: "fail", message }) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!(message, "as on a damaged page");
        assert!(matches!(store.get(b"k"), Err(StateError::Poisoned)));
        assert!(matches!(store.flush(), Err(StateError::Poisoned)));
    }

    #[test]
    fn a_store_that_panicked_is_given_up_and_can_be_moved_aside() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("1-1");
        let store = SledStore::open(&dir).unwrap();
        store.write(&[item(b"k", b"v")]).unwrap();
        let failed = store.call("fail", || -> sled::Result<()> { panic!("as on a damaged page") });
        assert!(failed.is_err());
        let before = fs::read(dir.join("db")).unwrap();
        drop(store);
        assert!(fs::read(dir.join("db")).unwrap() == before, "closing would write");
        fs::rename(&dir, root.path().join("1-1.damaged")).unwrap();
        let store = SledStore::open(&dir).unwrap();
        assert_eq!(store.get(b"k").unwrap(), None);
    }

    #[test]
    fn a_blob_that_appears_while_the_store_is_open_fails_the_flush() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        store.write(&[item(b"k", b"v")]).unwrap();
        fs::write(dir.path().join("blobs/17"), b"x").unwrap();
        assert!(matches!(store.flush(), Err(StateError::Damaged { .. })));
        assert!(matches!(store.get(b"k"), Err(StateError::Poisoned)));
    }

    #[test]
    fn two_handles_on_one_directory_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        store.write(&[item(b"k", b"v")]).unwrap();
        let second = SledStore::open_patiently(dir.path(), 2);
        assert!(matches!(second, Err(StateError::Engine { .. })));
        store.flush().unwrap();
        drop(store);
        let store = SledStore::open(dir.path()).unwrap();
        assert_eq!(store.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    }
}
