//! The engine of the simulation.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use rand::{Rng, RngExt};

use super::{BatchItem, Scan, StateError, StateStore, StoredItem, assert_batch};

/// Items that a scan takes at once, so that it holds the lock for a moment only.
const SCAN_PAGE_ITEMS: usize = 128;

/// A state store in memory that knows what a crash would leave of it.
///
/// Clones share their content, so that a test keeps a handle while a machine owns another. What
/// "durable" means here is [`MemoryStore::crash`]: flushed content stays, and of the batches
/// written since the last flush any subset, for sled may have put any of them on disk. Its size is
/// what was ever written, for sled's file hardly ever becomes shorter.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    content: Arc<RwLock<Content>>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// What reads see.
    live: BTreeMap<Bytes, Bytes>,
    /// What certainly survives a crash.
    flushed: BTreeMap<Bytes, Bytes>,
    /// Batches in `live` that are not in `flushed`, oldest first.
    unflushed: Vec<Vec<BatchItem>>,
    /// Bytes that were ever written.
    written: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy that shares nothing with this store.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { content: Arc::new(RwLock::new(self.read_lock().clone())) }
    }

    /// Does what a crash does: keeps the flushed content and a random subset of the batches
    /// written since.
    ///
    /// Returns how many batches were lost.
    pub fn crash(&self, rng: &mut (impl Rng + ?Sized)) -> usize {
        let mut content = self.write_lock();
        let unflushed = std::mem::take(&mut content.unflushed);
        // One draw for all: often everything or nothing survives, which a draw per batch alone
        // would make rare.
        let survival = [0.0, 0.5, 0.9, 1.0][rng.random_range(0..4)];
        let mut lost = 0;
        for batch in unflushed {
            if rng.random_bool(survival) {
                write_into(&mut content.flushed, &batch);
            } else {
                lost += 1;
            }
        }
        content.live = content.flushed.clone();
        lost
    }

    fn read_lock(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().expect("no holder of this lock panics: their asserts come first")
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write().expect("no holder of this lock panics: their asserts come first")
    }
}

fn write_into(map: &mut BTreeMap<Bytes, Bytes>, batch: &[BatchItem]) {
    for (key, value) in batch {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
}

fn item_bytes((key, value): &BatchItem) -> u64 {
    (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64
}

impl StateStore for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.read_lock().live.get(key).cloned())
    }

    fn first_in(&self, from: &[u8], to: &[u8]) -> Result<Option<StoredItem>, StateError> {
        if from >= to {
            return Ok(None);
        }
        let content = self.read_lock();
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let first = content.live.range::<[u8], _>(bounds).next();
        Ok(first.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        let pages = Pages {
            store: self,
            next: Bound::Included(Bytes::copy_from_slice(from)),
            to: Bytes::copy_from_slice(to),
            page: Vec::new().into_iter(),
        };
        Box::new(pages.map(Ok))
    }

    fn write(&self, batch: &[BatchItem]) -> Result<(), StateError> {
        assert_batch(batch);
        let mut content = self.write_lock();
        write_into(&mut content.live, batch);
        content.written += batch.iter().map(item_bytes).sum::<u64>();
        content.unflushed.push(batch.to_vec());
        Ok(())
    }

    fn flush(&self) -> Result<(), StateError> {
        let mut content = self.write_lock();
        for batch in std::mem::take(&mut content.unflushed) {
            write_into(&mut content.flushed, &batch);
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.read_lock().written
    }
}

/// Iterator over `[next, to)` that reads a page at a time.
struct Pages<'a> {
    store: &'a MemoryStore,
    next: Bound<Bytes>,
    to: Bytes,
    page: std::vec::IntoIter<StoredItem>,
}

impl Pages<'_> {
    fn read_page(&mut self) -> Vec<StoredItem> {
        let from = match &self.next {
            Bound::Included(key) | Bound::Excluded(key) if *key < self.to => {
                self.next.as_ref().map(|key| &key[..])
            }
            Bound::Included(_) | Bound::Excluded(_) | Bound::Unbounded => return Vec::new(),
        };
        let content = self.store.read_lock();
        let range = content.live.range::<[u8], _>((from, Bound::Excluded(&self.to[..])));
        range.take(SCAN_PAGE_ITEMS).map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl Iterator for Pages<'_> {
    type Item = StoredItem;

    fn next(&mut self) -> Option<StoredItem> {
        if let Some(item) = self.page.next() {
            return Some(item);
        }
        let page = self.read_page();
        self.next = Bound::Excluded(page.last()?.0.clone());
        self.page = page.into_iter();
        self.page.next()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn item(key: &str, value: &str) -> BatchItem {
        (Bytes::copy_from_slice(key.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes())))
    }

    #[test]
    fn conforms() {
        conformance::run(|| {
            let store = MemoryStore::new();
            let handle = store.clone();
            (Box::new(store), Box::new(move || Box::new(handle.clone())))
        });
    }

    #[test]
    fn a_crash_keeps_what_was_flushed_and_any_subset_of_the_rest() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let store = MemoryStore::new();
            store.write(&[item("flushed", "1")]).unwrap();
            store.flush().unwrap();
            store.write(&[item("a", "1"), item("b", "1")]).unwrap();
            store.write(&[item("c", "1")]).unwrap();
            store.write(&[item("d", "1"), (Bytes::from_static(b"flushed"), None)]).unwrap();
            let lost = store.crash(&mut rng);
            let present = |key: &str| store.get(key.as_bytes()).unwrap().is_some();
            assert_eq!(present("a"), present("b"), "a batch survives as a whole");
            assert_eq!(present("d"), !present("flushed"), "a batch survives as a whole");
            let kept = [present("a"), present("c"), present("d")];
            assert_eq!(kept.iter().filter(|kept| !**kept).count(), lost);
            seen.insert(kept);
        }
        assert_eq!(seen.len(), 8, "every subset of three batches was seen");
    }

    #[test]
    fn a_second_crash_takes_nothing_more() {
        let store = MemoryStore::new();
        store.write(&[item("a", "1")]).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        store.crash(&mut rng);
        let after = store.get(b"a").unwrap();
        assert_eq!(store.crash(&mut rng), 0);
        assert_eq!(store.get(b"a").unwrap(), after);
    }
}
