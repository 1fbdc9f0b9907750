//! A load that writes as a checkpoint does: batches, flush, one small batch with the record, flush.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::StateStore;
use storage::state::{BATCH_ITEMS_MAX, SledStore};

/// Largest value of an item.
const VALUE_BYTES_MAX: usize = 2_000;

/// Where the record of the last finished checkpoint is.
const RECORD_KEY: &[u8] = b"r";

/// Visible content: key number to value, in its stored form.
pub type Content = BTreeMap<u16, Bytes>;

/// The record of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Number of the checkpoint; 0 before the first.
    pub checkpoint: u64,
    /// How many keys are visible.
    pub count: u64,
    /// Sum of the checksums of the visible items.
    pub sum: u64,
}

impl Record {
    pub fn of(checkpoint: u64, content: &Content) -> Self {
        let sum = content.iter().map(|(key, value)| u64::from(checksum(*key, value)));
        Self { checkpoint, count: content.len() as u64, sum: sum.fold(0, u64::wrapping_add) }
    }

    fn encode(&self) -> Bytes {
        let mut bytes: Vec<u8> =
            [self.checkpoint, self.count, self.sum].iter().flat_map(|n| n.to_be_bytes()).collect();
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        bytes.into()
    }

    /// Reads the stored form; `None` when its checksum does not match.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = bytes.split_at_checked(24)?;
        let word = |at: usize| u64::from_be_bytes(covered[at..at + 8].try_into().unwrap());
        (crc == crc32c::crc32c(covered).to_be_bytes()).then(|| Self {
            checkpoint: word(0),
            count: word(8),
            sum: word(16),
        })
    }
}

fn checksum(key: u16, value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&key.to_be_bytes()), value)
}

/// Key of an item: the newest version of a key sorts first.
pub fn item_key(key: u16, checkpoint: u64) -> Bytes {
    [&b"v"[..], &key.to_be_bytes(), &(!checkpoint).to_be_bytes()].concat().into()
}

/// Number and checkpoint in the key of an item.
pub fn parse_key(bytes: &[u8]) -> Option<(u16, u64)> {
    let rest = bytes.strip_prefix(b"v")?;
    let (key, checkpoint) = rest.split_at_checked(2)?;
    let checkpoint = !u64::from_be_bytes(checkpoint.try_into().ok()?);
    Some((u16::from_be_bytes(key.try_into().ok()?), checkpoint))
}

pub fn record_key() -> &'static [u8] {
    RECORD_KEY
}

/// Whether a value is the one that was stored with this key: its last four bytes are a checksum over
/// both.
pub fn is_intact(key: &[u8], value: &[u8]) -> bool {
    let Some(at) = value.len().checked_sub(4) else { return false };
    crc32c::crc32c_append(crc32c::crc32c(key), &value[..at]).to_be_bytes() == value[at..]
}

/// The load, and all that it has ever written.
pub struct Load {
    rng: ChaCha8Rng,
    keys: u16,
    checkpoint: u64,
    content: Content,
    /// Where the visible version of a key is.
    visible: BTreeMap<u16, u64>,
    /// Superseded by a finished checkpoint, to be deleted by the next.
    superseded: Vec<Bytes>,
    /// Visible content at the end of each checkpoint.
    pub truth: BTreeMap<u64, Content>,
    /// Every item ever written, by its stored key.
    pub written: BTreeMap<Bytes, Bytes>,
    /// Every record ever written.
    pub records: Vec<Record>,
}

impl Load {
    pub fn new(seed: u64, keys: u16) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            keys,
            checkpoint: 0,
            content: Content::new(),
            visible: BTreeMap::new(),
            superseded: Vec::new(),
            truth: BTreeMap::from([(0, Content::new())]),
            written: BTreeMap::new(),
            records: Vec::new(),
        }
    }

    /// The last finished checkpoint.
    pub fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    /// Runs one checkpoint that writes up to `writes` keys; calls `after_write` after each batch and
    /// `after_flush` after each flush, then with the last checkpoint that is durable.
    pub fn run(
        &mut self,
        store: &SledStore,
        writes: usize,
        mut after_write: impl FnMut(),
        mut after_flush: impl FnMut(u64),
    ) {
        let next = self.checkpoint + 1;
        let mut batch: Vec<(Bytes, Option<Bytes>)> =
            std::mem::take(&mut self.superseded).into_iter().map(|key| (key, None)).collect();
        let mut changed = BTreeMap::new();
        for _ in 0..writes {
            let key = self.rng.random_range(0..self.keys);
            changed.insert(key, self.value(key, next));
        }
        for (key, value) in changed {
            let stored = item_key(key, next);
            if let Some(old) = self.visible.insert(key, next) {
                self.superseded.push(item_key(key, old));
            }
            self.written.insert(stored.clone(), value.clone());
            self.content.insert(key, value.clone());
            batch.push((stored, Some(value)));
        }
        for part in batch.chunks(BATCH_ITEMS_MAX) {
            store.write(part).unwrap();
            after_write();
        }
        store.flush().unwrap();
        after_flush(self.checkpoint);
        let record = Record::of(next, &self.content);
        self.records.push(record);
        self.truth.insert(next, self.content.clone());
        store.write(&[(Bytes::from_static(RECORD_KEY), Some(record.encode()))]).unwrap();
        after_write();
        store.flush().unwrap();
        self.checkpoint = next;
        after_flush(next);
    }

    fn value(&mut self, key: u16, checkpoint: u64) -> Bytes {
        let mut value = vec![0; self.rng.random_range(0..VALUE_BYTES_MAX)];
        self.rng.fill_bytes(&mut value);
        let key = item_key(key, checkpoint);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&key), &value);
        value.extend_from_slice(&crc.to_be_bytes());
        value.into()
    }
}

/// A closed store in `dir` after `checkpoints` checkpoints.
pub fn closed_store(dir: &Path, seed: u64, keys: u16, checkpoints: u64) -> Load {
    let mut load = Load::new(seed, keys);
    let store = SledStore::open(dir).unwrap();
    for _ in 0..checkpoints {
        load.run(&store, usize::from(keys) / 2, || (), |_| ());
    }
    drop(store);
    load
}
