//! Several versions of one key in one item of the store.
//!
//! A store pays for items rather than for bytes. So the versions of a key that were replaced before
//! a checkpoint froze their layer are written together as far as an item holds them; the page of
//! the module says by which rules, and why they are sound. The content of such an item:
//!
//! ```text
//! flags        1 byte: 2
//! count        2 bytes BE, at least 2
//! heads        of each version, newest first:
//!   revision   8 bytes BE, falling; the last one is that of the item's key
//!   header     37 bytes, as of a version that stands alone
//! values       in the same order, one after the other
//! ```

use bytes::{Buf, Bytes};
use proto::Revision;

use super::item;
use super::key::KeyPrefix;
use super::version::{HEADER_BYTES, Head, StoredVersion, Version, damaged};
use crate::state::{BatchItem, StateError};

/// The first byte of a pack; that of a version that stands alone is 0 or 1.
const FLAGS_PACK: u8 = 2;
const PREAMBLE_BYTES: usize = 1 + 2;
const REVISION_BYTES: usize = 8;
/// What a version takes besides its value.
const ENTRY_BYTES: usize = REVISION_BYTES + HEADER_BYTES;

/// A pack as found in the store.
///
/// Invariants: at least two versions; their revisions fall, down to the one in the key of the item;
/// none is a tombstone.
#[derive(Clone, Debug)]
pub struct Pack {
    prefix: KeyPrefix,
    /// Newest first.
    heads: Vec<Head>,
    values: Bytes,
}

impl Pack {
    /// Whether the content of an item is a pack.
    pub fn is_pack(content: &[u8]) -> bool {
        content.first() == Some(&FLAGS_PACK)
    }

    /// Reads the pack found under `lowest`, its lowest revision.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    pub fn decode(
        prefix: KeyPrefix,
        lowest: Revision,
        mut content: Bytes,
    ) -> Result<Self, StateError> {
        let Some(heads) = Self::read_heads(lowest, &content) else {
            return Err(damaged(&prefix, lowest, "begins an invalid pack"));
        };
        content.advance(PREAMBLE_BYTES + heads.len() * ENTRY_BYTES);
        Ok(Self { prefix, heads, values: content })
    }

    /// The heads of all versions in the content of a pack under `lowest`, newest first; `None` when
    /// it breaks an invariant or is not as long as it says.
    pub fn read_heads(lowest: Revision, mut content: &[u8]) -> Option<Vec<Head>> {
        if content.len() < PREAMBLE_BYTES || content.get_u8() != FLAGS_PACK {
            return None;
        }
        let count = usize::from(content.get_u16());
        if count < 2 || content.len() < count * ENTRY_BYTES {
            return None;
        }
        let mut heads: Vec<Head> = Vec::with_capacity(count);
        for _ in 0..count {
            let revision = Revision(content.get_u64());
            let falls = heads.last().is_none_or(|newer| revision < newer.revision);
            let head = Head::read(revision, content.split_off(..HEADER_BYTES)?.try_into().ok()?)?;
            if !falls || head.tombstone {
                return None;
            }
            heads.push(head);
        }
        let value_bytes: u64 = heads.iter().map(|head| u64::from(head.value_bytes)).sum();
        let whole = value_bytes == content.len() as u64;
        (whole && heads.last().map(|head| head.revision) == Some(lowest)).then_some(heads)
    }

    /// The prefix it was found under.
    pub fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// The versions without their values, newest first.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The newest version that is not newer than `at`.
    ///
    /// Its value is a copy, so that it does not keep the memory of the whole pack.
    pub fn at(&self, at: Revision) -> Option<StoredVersion> {
        let newer = self.heads.partition_point(|head| head.revision > at);
        let head = *self.heads.get(newer)?;
        let start: usize = self.heads[..newer].iter().map(|head| head.value_bytes as usize).sum();
        let value = &self.values[start..start + head.value_bytes as usize];
        let first = Bytes::copy_from_slice(value);
        Some(StoredVersion { prefix: self.prefix.clone(), head, first })
    }

    /// All versions, newest first; their values share the memory of the pack.
    pub fn versions(self) -> impl Iterator<Item = StoredVersion> {
        let Self { prefix, heads, mut values } = self;
        heads.into_iter().map(move |head| {
            let first = values.split_to(head.value_bytes as usize);
            StoredVersion { prefix: prefix.clone(), head, first }
        })
    }
}

/// How much room there is in a pack that is being put together.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    bytes: usize,
}

impl Room {
    /// The room in an empty pack of a key.
    pub fn new(prefix: &KeyPrefix) -> Self {
        Self { bytes: item::capacity(prefix.version_key_bytes()) - PREAMBLE_BYTES }
    }

    /// Takes the room for a version; false when there is none, or the version has to stand alone.
    pub fn take(&mut self, version: &Version) -> bool {
        let left = self.bytes.checked_sub(ENTRY_BYTES + version.value.len());
        match left.filter(|_| !version.head.tombstone) {
            Some(left) => {
                self.bytes = left;
                true
            }
            None => false,
        }
    }
}

/// The item that holds `versions` of a key, newest first, for which [`Room`] was taken.
///
/// # Panics
/// When they break an invariant of [`Pack`] or do not fit.
pub fn seal(prefix: &KeyPrefix, versions: &[&Version]) -> BatchItem {
    let lowest = versions.last().expect("a pack is not empty").head.revision;
    let mut heads = Vec::with_capacity(PREAMBLE_BYTES + versions.len() * ENTRY_BYTES);
    heads.push(FLAGS_PACK);
    let count = u16::try_from(versions.len()).expect("an item has room for 136 heads");
    assert!(count >= 2, "a pack holds several versions");
    heads.extend_from_slice(&count.to_be_bytes());
    let falling = versions.is_sorted_by(|newer, older| newer.head.revision > older.head.revision);
    assert!(falling, "a pack holds versions newest first");
    for Version { head, value } in versions {
        assert!(!head.tombstone, "a tombstone stands alone");
        assert!(head.value_bytes as usize == value.len(), "a head knows its value");
        heads.extend_from_slice(&head.revision.get().to_be_bytes());
        heads.extend_from_slice(&head.encode());
    }
    let values = versions.iter().map(|version| &version.value[..]);
    let parts: Vec<&[u8]> = std::iter::once(&heads[..]).chain(values).collect();
    item::seal(prefix.version(lowest, 0), &parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ITEM_BYTES_MAX;
    use proptest::prelude::*;
    use proto::{KeyspaceId, LogIndex};

    fn prefix(key: &[u8]) -> KeyPrefix {
        KeyPrefix::new(KeyspaceId(1), key)
    }

    fn version(revision: u64, value: Vec<u8>) -> Version {
        let (revision, index) = (Revision(revision), LogIndex(revision + 3));
        let head = Head::put(None, revision, index, &value);
        Version { head, value: value.into() }
    }

    /// The content of a pack of these versions, given oldest first.
    fn content(prefix: &KeyPrefix, versions: &[Version]) -> Bytes {
        let newest_first: Vec<&Version> = versions.iter().rev().collect();
        let (key, stored) = seal(prefix, &newest_first);
        assert_eq!(key, prefix.version(versions[0].head.revision, 0));
        item::open(&key, stored.unwrap()).unwrap()
    }

    #[test]
    fn a_pack_is_filled_and_not_more() {
        for key in [vec![b'k'], vec![0xff; proto::limits::KEY_BYTES_MAX]] {
            for value_bytes in [0, 1, 256, 400] {
                let prefix = prefix(&key);
                let mut room = Room::new(&prefix);
                let all = (2..).map(|revision| version(revision, vec![7; value_bytes]));
                let versions: Vec<Version> = all.take_while(|version| room.take(version)).collect();
                let newest_first: Vec<&Version> = versions.iter().rev().collect();
                let (key, stored) = seal(&prefix, &newest_first);
                let bytes = key.len() + stored.unwrap().len();
                assert!(bytes <= ITEM_BYTES_MAX);
                assert!(bytes + ENTRY_BYTES + value_bytes > ITEM_BYTES_MAX);
            }
        }
    }

    #[test]
    fn tombstones_and_large_values_stand_alone() {
        let prefix = prefix(b"k");
        let gone = Version { head: Head::delete(Revision(3), LogIndex(3)), value: Bytes::new() };
        assert!(!Room::new(&prefix).take(&gone));
        assert!(!Room::new(&prefix).take(&version(3, vec![1; ITEM_BYTES_MAX])));
        let mut room = Room::new(&prefix);
        assert!(!room.take(&version(3, vec![1; ITEM_BYTES_MAX])), "nothing is taken then");
        assert!(room.take(&version(3, vec![1; 5_000])));
    }

    #[test]
    fn what_no_pack_can_be_is_damage() {
        let prefix = prefix(b"k");
        let lowest = Revision(5);
        let good = content(&prefix, &[version(5, b"five".to_vec()), version(9, b"".to_vec())]);
        assert!(Pack::decode(prefix.clone(), lowest, good.clone()).is_ok());
        let refused = |lowest, content: Vec<u8>| {
            let read = Pack::decode(prefix.clone(), lowest, content.into());
            matches!(read, Err(StateError::Damaged { .. }))
        };
        for bytes in 0..good.len() {
            assert!(refused(lowest, good[..bytes].to_vec()), "cut to {bytes}");
        }
        assert!(refused(lowest, [&good[..], &[0]].concat()));
        assert!(refused(Revision(9), good.to_vec()), "under another key");
        let changed = |at: usize, to: u8| {
            let mut changed = good.to_vec();
            changed[at] = to;
            changed
        };
        assert!(refused(lowest, changed(0, 0)));
        assert!(refused(lowest, changed(2, 1)) && refused(lowest, changed(2, 3)));
        assert!(refused(lowest, changed(1, 0xff)), "more than there can be");
        let newest = PREAMBLE_BYTES + REVISION_BYTES - 1;
        assert!(refused(lowest, changed(newest, 5)), "a revision holds one version");
        assert!(refused(lowest, changed(newest + 1, 1)), "no tombstone is in a pack");
        assert!(refused(lowest, changed(PREAMBLE_BYTES + ENTRY_BYTES - 4, 0xff)), "too long");
    }

    proptest! {
        #[test]
        fn versions_survive_being_packed(
            values in proptest::collection::vec((1_u64..4, 0_usize..60), 2..30),
            key in proptest::collection::vec(any::<u8>(), 1..40),
        ) {
            let prefix = prefix(&key);
            let mut revision = 1;
            let versions: Vec<Version> = values
                .into_iter()
                .map(|(step, bytes)| {
                    revision += step;
                    version(revision, vec![revision as u8; bytes])
                })
                .collect();
            let content = content(&prefix, &versions);
            prop_assert!(Pack::is_pack(&content));
            let pack = Pack::decode(prefix, versions[0].head.revision, content).unwrap();
            for at in 0..=revision + 1 {
                let expected = versions.iter().rfind(|v| v.head.revision.get() <= at);
                let found = pack.at(Revision(at)).map(|v| Version { head: v.head, value: v.first });
                prop_assert_eq!(found.as_ref(), expected);
            }
            prop_assert!(pack.heads().iter().eq(versions.iter().rev().map(|v| &v.head)));
            let all: Vec<Version> =
                pack.versions().map(|v| Version { head: v.head, value: v.first }).collect();
            prop_assert!(all.iter().eq(versions.iter().rev()));
        }

        #[test]
        fn bytes_that_nobody_wrote_are_never_a_panic(
            mut content in proptest::collection::vec(any::<u8>(), 0..300),
            lowest in 0_u64..4,
            count in 0_u8..8,
        ) {
            for (at, byte) in [FLAGS_PACK, 0, count].into_iter().enumerate() {
                if let Some(place) = content.get_mut(at) {
                    *place = byte;
                }
            }
            let read = Pack::decode(prefix(b"k"), Revision(lowest), content.into());
            if let Ok(pack) = read {
                prop_assert!(pack.at(Revision(u64::MAX)).is_some());
                prop_assert_eq!(pack.heads().len(), pack.clone().versions().count());
            }
        }
    }
}
