//! Versions of keys, in memory and as records of the state store.
//!
//! A version is stored as one or more *chunks*, each an item of at most
//! [`ITEM_BYTES_MAX`](crate::state::ITEM_BYTES_MAX) bytes, key and checksum included (`item.rs`).
//! The content of chunk 0 begins with the header:
//!
//! ```text
//! flags        1 byte, bit 0: tombstone
//! index        8 bytes BE, log index of the write
//! create rev   8 bytes BE
//! version      8 bytes BE
//! lease        8 bytes BE
//! value bytes  4 bytes BE, over all chunks
//! ```
//!
//! Several versions of a key may share one item instead, see `pack.rs`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proto::limits::ITEM_VALUE_BYTES_MAX;
use proto::{KeyspaceId, LogIndex, Revision, log, v1};
use sha2::{Digest, Sha256};

use super::item;
use super::key::KeyPrefix;
use crate::state::{BatchItem, StateError};

/// Length of an encoded [`Head`].
pub const HEADER_BYTES: usize = 1 + 4 * 8 + 4;
const FLAG_TOMBSTONE: u8 = 1;

/// Everything about a version but its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Revision that wrote it.
    pub revision: Revision,
    /// Revision at which the key was created; of a tombstone 0.
    pub create_rev: Revision,
    /// 1 at creation, +1 per change; of a tombstone 0.
    pub version: u64,
    /// Lease the key is attached to; 0 for none.
    pub lease: u64,
    /// Index of the log entry that wrote it.
    pub index: LogIndex,
    /// The version is a delete.
    pub tombstone: bool,
    /// Length of the value; of a tombstone 0.
    pub value_bytes: u32,
}

impl Head {
    /// The head of the version that a put writes over `previous`.
    pub fn put(previous: Option<&Self>, revision: Revision, index: LogIndex, value: &[u8]) -> Self {
        let value_bytes = u32::try_from(value.len()).expect("checked against the limit of values");
        let (create_rev, version) = match previous {
            Some(head) if !head.tombstone => (head.create_rev, head.version + 1),
            Some(_) | None => (revision, 1),
        };
        Self { revision, create_rev, version, lease: 0, index, tombstone: false, value_bytes }
    }

    /// The head of a delete.
    pub fn delete(revision: Revision, index: LogIndex) -> Self {
        let create_rev = Revision(0);
        Self { revision, create_rev, version: 0, lease: 0, index, tombstone: true, value_bytes: 0 }
    }

    /// The header of the version: everything but its revision.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let mut out = &mut header[..];
        out.put_u8(if self.tombstone { FLAG_TOMBSTONE } else { 0 });
        out.put_u64(self.index.get());
        out.put_u64(self.create_rev.get());
        out.put_u64(self.version);
        out.put_u64(self.lease);
        out.put_u32(self.value_bytes);
        header
    }

    /// Reads the header of the record that was found under a key of this length; `None` when it has
    /// none, or not the first part of the value behind it.
    pub fn decode(version_key_bytes: usize, revision: Revision, record: &[u8]) -> Option<Self> {
        let (header, first) = record.split_first_chunk()?;
        let head = Self::read(revision, header)?;
        let value_bytes = head.value_bytes as usize;
        let whole = first.len() == first_capacity(version_key_bytes).min(value_bytes);
        (whole && value_bytes <= ITEM_VALUE_BYTES_MAX).then_some(head)
    }

    /// Reads a header.
    pub fn read(revision: Revision, header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut record = &header[..];
        let tombstone = match record.get_u8() {
            0 => false,
            FLAG_TOMBSTONE => true,
            _ => return None,
        };
        Some(Self {
            revision,
            index: LogIndex(record.get_u64()),
            create_rev: Revision(record.get_u64()),
            version: record.get_u64(),
            lease: record.get_u64(),
            tombstone,
            value_bytes: record.get_u32(),
        })
    }

    /// The record of the version in an export.
    pub fn export(&self, keyspace: KeyspaceId, key: Bytes, value: Bytes) -> log::VersionState {
        log::VersionState {
            keyspace: keyspace.get(),
            key,
            mod_rev: self.revision.get(),
            create_rev: self.create_rev.get(),
            version: self.version,
            index: self.index.get(),
            tombstone: self.tombstone,
            value,
        }
    }

    /// The item that clients see, with `value` as its value.
    pub fn item(&self, key: Bytes, value: Bytes) -> v1::Item {
        v1::Item {
            key,
            value,
            value_size: u64::from(self.value_bytes),
            create_rev: self.create_rev.get(),
            mod_rev: self.revision.get(),
            version: self.version,
            lease: self.lease,
        }
    }
}

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Everything but the value.
    pub head: Head,
    /// The value; of a tombstone empty.
    pub value: Bytes,
}

impl Version {
    /// Number of chunks it is stored in, at least 1.
    pub fn chunks(&self, prefix: &KeyPrefix) -> u16 {
        chunks(prefix.version_key_bytes(), self.value.len())
    }

    /// One of its chunks as an item of the store.
    ///
    /// # Panics
    /// When there is no such chunk.
    pub fn chunk(&self, prefix: &KeyPrefix, chunk: u16) -> BatchItem {
        let first = first_capacity(prefix.version_key_bytes()).min(self.value.len());
        let key = prefix.version(self.head.revision, chunk);
        if chunk == 0 {
            return item::seal(key, &[&self.head.encode(), &self.value[..first]]);
        }
        let capacity = later_capacity(prefix.version_key_bytes());
        let start = first + (usize::from(chunk) - 1) * capacity;
        assert!(start < self.value.len(), "a version has no chunk {chunk}");
        item::seal(key, &[&self.value[start..self.value.len().min(start + capacity)]])
    }

    /// Feeds everything about the version to `hash`, so that no two versions feed the same bytes.
    pub fn hash_into(&self, prefix: &KeyPrefix, hash: &mut Sha256) {
        hash.update(prefix.as_bytes());
        hash.update(self.head.revision.get().to_be_bytes());
        hash.update(self.head.encode());
        hash.update(&self.value);
    }
}

/// A version as found in the store: the head and as much of the value as stands in chunk 0.
#[derive(Clone, Debug)]
pub struct StoredVersion {
    /// Key prefix it was found under.
    pub prefix: KeyPrefix,
    /// Everything but the value.
    pub head: Head,
    /// The first part of the value, often all of it.
    pub first: Bytes,
}

impl StoredVersion {
    /// Reads chunk 0 of the version written at `revision`.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    pub fn decode(
        prefix: KeyPrefix,
        revision: Revision,
        mut record: Bytes,
    ) -> Result<Self, StateError> {
        let head = Head::decode(prefix.version_key_bytes(), revision, &record)
            .ok_or_else(|| damaged(&prefix, revision, "has no valid header"))?;
        record.advance(HEADER_BYTES);
        Ok(Self { prefix, head, first: record })
    }

    /// Whether the value needs further chunks.
    pub fn is_whole(&self) -> bool {
        self.first.len() == self.head.value_bytes as usize
    }

    /// Puts the whole value together out of the first part and the chunks that `rest` yields.
    ///
    /// # Errors
    /// Those of `rest`; [`StateError::Damaged`] when a chunk is missing.
    pub fn join(
        &self,
        rest: impl Iterator<Item = Result<(Bytes, Bytes), StateError>>,
    ) -> Result<Bytes, StateError> {
        let total = self.head.value_bytes as usize;
        let mut value = BytesMut::with_capacity(total);
        value.put_slice(&self.first);
        for (number, chunk) in rest.enumerate() {
            let (key, chunk) = chunk?;
            let expected =
                u16::try_from(number + 1).map(|n| self.prefix.version(self.head.revision, n));
            if expected != Ok(key) {
                break;
            }
            value.put_slice(&chunk);
        }
        if value.len() == total {
            return Ok(value.freeze());
        }
        Err(damaged(&self.prefix, self.head.revision, "lacks a part of its value"))
    }
}

/// The error for a version that contradicts the checkpoint record or cannot be read.
pub fn damaged(prefix: &KeyPrefix, revision: Revision, what: &str) -> StateError {
    let key = prefix.user_key().unwrap_or_default();
    StateError::Damaged {
        why: format!("the version of key \"{}\" at revision {revision} {what}", key.escape_ascii()),
    }
}

/// Number of chunks in which a value of this length is stored under keys of that length, at least 1.
pub fn chunks(version_key_bytes: usize, value_bytes: usize) -> u16 {
    let rest = value_bytes.saturating_sub(first_capacity(version_key_bytes));
    let chunks = 1 + rest.div_ceil(later_capacity(version_key_bytes));
    u16::try_from(chunks).expect("the longest value fits in 3,000 chunks")
}

/// Bytes of the value that fit into chunk 0.
fn first_capacity(version_key_bytes: usize) -> usize {
    later_capacity(version_key_bytes) - HEADER_BYTES
}

/// Bytes of the value that fit into every other chunk.
fn later_capacity(version_key_bytes: usize) -> usize {
    item::capacity(version_key_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ITEM_BYTES_MAX;
    use proto::limits::ITEM_KEY_BYTES_MAX;

    fn version(value: Vec<u8>) -> Version {
        let mut head = Head::put(None, Revision(7), LogIndex(9), &value);
        head.lease = 5;
        Version { head, value: Bytes::from(value) }
    }

    fn opened((key, stored): BatchItem) -> (Bytes, Bytes) {
        let content = item::open(&key, stored.unwrap()).unwrap();
        (key, content)
    }

    #[test]
    fn versions_survive_being_cut_at_every_edge() {
        for key in [vec![b'k'], vec![0; ITEM_KEY_BYTES_MAX], vec![0xff; ITEM_KEY_BYTES_MAX]] {
            let prefix = KeyPrefix::new(KeyspaceId(1), &key);
            let bytes = prefix.version_key_bytes();
            let (first, later) = (first_capacity(bytes), later_capacity(bytes));
            let edges = [0, 1, first, first + later, first + 7 * later, ITEM_VALUE_BYTES_MAX];
            for edge in edges {
                for bytes in [edge.saturating_sub(1), edge, ITEM_VALUE_BYTES_MAX.min(edge + 1)] {
                    check_cut(&prefix, version((0..bytes).map(|n| (n / 3) as u8).collect()));
                }
            }
        }
    }

    fn check_cut(prefix: &KeyPrefix, version: Version) {
        let items: Vec<BatchItem> =
            (0..version.chunks(prefix)).map(|n| version.chunk(prefix, n)).collect();
        assert!(
            items.iter().all(|(key, stored)| {
                key.len() + stored.as_ref().unwrap().len() <= ITEM_BYTES_MAX
            })
        );
        let mut stored = items.into_iter().map(opened);
        let (_, record) = stored.next().unwrap();
        let first = StoredVersion::decode(prefix.clone(), Revision(7), record).unwrap();
        assert_eq!(first.head, version.head);
        assert_eq!(first.is_whole(), stored.len() == 0);
        assert_eq!(first.join(stored.clone().map(Ok)).unwrap(), version.value);
        if stored.len() > 0 {
            let damaged = first.join(stored.clone().skip(1).map(Ok));
            assert!(matches!(damaged, Err(StateError::Damaged { .. })), "a hole is noticed");
            let damaged = first.join(stored.clone().take(stored.len() - 1).map(Ok));
            assert!(matches!(damaged, Err(StateError::Damaged { .. })), "a cut is noticed");
        }
    }

    #[test]
    fn a_record_that_is_none_is_damage() {
        let prefix = KeyPrefix::new(KeyspaceId(1), b"k");
        let (_, record) = opened(version(vec![1, 2, 3]).chunk(&prefix, 0));
        let unknown_flag = [&[2], &record[1..]].concat();
        for bad in [&record[..5], &record[..record.len() - 1], &unknown_flag[..]] {
            let read =
                StoredVersion::decode(prefix.clone(), Revision(7), Bytes::copy_from_slice(bad));
            assert!(matches!(read, Err(StateError::Damaged { .. })));
        }
    }

    #[test]
    fn version_numbers_restart_after_a_delete() {
        let first = Head::put(None, Revision(2), LogIndex(1), b"");
        let second = Head::put(Some(&first), Revision(3), LogIndex(2), b"");
        assert_eq!((second.create_rev, second.version), (Revision(2), 2));
        let gone = Head::delete(Revision(4), LogIndex(3));
        let again = Head::put(Some(&gone), Revision(5), LogIndex(4), b"");
        assert_eq!((again.create_rev, again.version), (Revision(5), 1));
    }
}
