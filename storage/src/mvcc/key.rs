//! Keys of the state store.
//!
//! ```text
//! version   keyspace id, 8 bytes BE | user key, encoded | !revision, 8 bytes BE | chunk, 2 bytes BE
//! own       0, 8 bytes              | kind, 1 byte      | suffix of the kind
//!
//! kinds     C: checkpoint record, no suffix
//!           K: keyspace record, checkpoint index, 8 bytes BE | keyspace id, 8 bytes BE
//!           O: outcome, log index, 8 bytes BE
//! ```
//!
//! Keyspace ids begin at 1, so id 0 is free for the machine's own records. The revision is stored
//! as its complement: the newest version of a key comes first and is found by searching forward.
//!
//! The user key is cut into groups of 8 bytes, each followed by a marker: 9 when further bytes
//! follow, else the number of bytes that count in this last group, whose rest is zero. That keeps
//! the order of keys, makes no encoded key the prefix of another, and costs one byte in eight
//! whatever the key holds: 4 KiB take 4.5 KiB, also when all of them are 0x00 or 0xff. (The same
//! idea as the memcomparable format of MyRocks.)

use bytes::{BufMut, Bytes, BytesMut};
use proto::{KeyspaceId, LogIndex, Revision, limits};

use super::item;

const GROUP_BYTES: usize = 8;
const MARKER_MORE: u8 = GROUP_BYTES as u8 + 1;
const REVISION_BYTES: usize = 8;
const CHUNK_BYTES: usize = 2;
/// Bytes of a version's key behind its prefix.
const SUFFIX_BYTES: usize = REVISION_BYTES + CHUNK_BYTES;
const KEYSPACE_BYTES: usize = 8;
const OWN: KeyspaceId = KeyspaceId(0);

/// Length of the longest version key.
const VERSION_KEY_BYTES_MAX: usize =
    KEYSPACE_BYTES + encoded_bytes(limits::ITEM_KEY_BYTES_MAX) + SUFFIX_BYTES;
// At least a kilobyte of each item is left for the value.
const _: () = assert!(item::capacity(VERSION_KEY_BYTES_MAX) >= 1024);

const fn encoded_bytes(key_bytes: usize) -> usize {
    let groups = if key_bytes == 0 { 1 } else { key_bytes.div_ceil(GROUP_BYTES) };
    groups * (GROUP_BYTES + 1)
}

/// What the state keys of all versions of one user key begin with: keyspace and encoded user key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix(Bytes);

impl KeyPrefix {
    /// The prefix of `key` in `keyspace`.
    pub fn new(keyspace: KeyspaceId, key: &[u8]) -> Self {
        let mut out =
            BytesMut::with_capacity(KEYSPACE_BYTES + encoded_bytes(key.len()) + SUFFIX_BYTES);
        assert!(keyspace != OWN, "keyspace ids begin at 1");
        out.put_u64(keyspace.get());
        encode_key(key, &mut out);
        Self(out.freeze())
    }

    /// The prefix that [`KeyPrefix::as_bytes`] gave.
    pub fn from_encoded(encoded: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(encoded))
    }

    /// The key of a chunk of the version written at `revision`.
    pub fn version(&self, revision: Revision, chunk: u16) -> Bytes {
        let mut out = BytesMut::with_capacity(self.0.len() + SUFFIX_BYTES);
        out.put_slice(&self.0);
        out.put_u64(!revision.get());
        out.put_u16(chunk);
        out.freeze()
    }

    /// A bound above every version of the key and below every version of the next key.
    pub fn end(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.0.len() + SUFFIX_BYTES + 1);
        out.put_slice(&self.0);
        out.put_bytes(0xff, SUFFIX_BYTES + 1);
        out.freeze()
    }

    /// The prefix itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length of every version key with this prefix.
    pub fn version_key_bytes(&self) -> usize {
        self.0.len() + SUFFIX_BYTES
    }

    /// The user key; `None` when the prefix is not one that [`KeyPrefix::new`] makes.
    pub fn user_key(&self) -> Option<Bytes> {
        decode_key(self.0.get(KEYSPACE_BYTES..)?)
    }
}

impl AsRef<[u8]> for KeyPrefix {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A version's key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionKey {
    /// Keyspace and user key, still encoded.
    pub prefix: KeyPrefix,
    /// Revision that wrote the version.
    pub revision: Revision,
    /// Number of the chunk; 0 holds the header.
    pub chunk: u16,
}

impl VersionKey {
    /// Takes a state key apart without decoding the user key; `None` when it is too short.
    pub fn parse(state_key: &Bytes) -> Option<Self> {
        let (prefix, revision, chunk) = split(state_key)?;
        let prefix = KeyPrefix(state_key.slice(..prefix.len()));
        Some(Self { prefix, revision, chunk })
    }
}

/// Takes a version's key apart: its encoded prefix, the revision and the number of the chunk.
/// `None` when it is too short.
pub fn split(state_key: &[u8]) -> Option<(&[u8], Revision, u16)> {
    let (rest, chunk) = state_key.split_last_chunk::<CHUNK_BYTES>()?;
    let (prefix, revision) = rest.split_last_chunk::<REVISION_BYTES>()?;
    let revision = Revision(!u64::from_be_bytes(*revision));
    Some((prefix, revision, u16::from_be_bytes(*chunk)))
}

/// Length of the user key in an encoded prefix; `None` when [`KeyPrefix::new`] makes no such one.
pub fn user_key_bytes(prefix: &[u8]) -> Option<usize> {
    let encoded = prefix.get(KEYSPACE_BYTES..)?;
    let (counted, full) = (usize::from(*encoded.last()?), encoded.len() / (GROUP_BYTES + 1));
    let whole = encoded.len() % (GROUP_BYTES + 1) == 0 && counted <= GROUP_BYTES;
    whole.then(|| (full - 1) * GROUP_BYTES + counted)
}

/// Bounds in the store of all versions of the user keys in `[from, to)`; empty `to` means to the
/// end of the keyspace.
pub fn bounds(keyspace: KeyspaceId, from: &[u8], to: &[u8]) -> (Bytes, Bytes) {
    let end = if to.is_empty() {
        Bytes::copy_from_slice(&keyspace.next().get().to_be_bytes())
    } else {
        KeyPrefix::new(keyspace, to).0
    };
    (KeyPrefix::new(keyspace, from).0, end)
}

/// Bounds in the store of everything in the keyspaces `[from, to)`.
pub fn keyspace_bounds(from: KeyspaceId, to: KeyspaceId) -> (Bytes, Bytes) {
    let bound = |id: KeyspaceId| Bytes::copy_from_slice(&id.get().to_be_bytes());
    (bound(from), bound(to))
}

/// The keyspace in the key of an item; 0 for the machine's own records.
pub fn keyspace_of(state_key: &[u8]) -> Option<KeyspaceId> {
    let id = state_key.first_chunk::<KEYSPACE_BYTES>()?;
    Some(KeyspaceId(u64::from_be_bytes(*id)))
}

/// The key of the checkpoint record.
pub fn checkpoint() -> Bytes {
    own(b'C', &[])
}

/// The key of the record of a keyspace in the checkpoint at `index`.
pub fn keyspace_record(index: LogIndex, id: KeyspaceId) -> Bytes {
    own(b'K', &[index.get().to_be_bytes(), id.get().to_be_bytes()].concat())
}

/// Bounds in the store of the keyspace records of the checkpoint at `index`.
pub fn keyspace_record_bounds(index: LogIndex) -> (Bytes, Bytes) {
    let bound = |index: LogIndex| own(b'K', &index.get().to_be_bytes());
    (bound(index), bound(index.next()))
}

/// Bounds in the store of the keyspace records of all checkpoints.
pub fn all_keyspace_record_bounds() -> (Bytes, Bytes) {
    (own(b'K', &[]), own(b'K' + 1, &[]))
}

/// The key of the outcome of the write at `index`.
pub fn outcome(index: LogIndex) -> Bytes {
    own(b'O', &index.get().to_be_bytes())
}

/// Bounds in the store of all outcomes.
pub fn outcome_bounds() -> (Bytes, Bytes) {
    (own(b'O', &[]), own(b'O' + 1, &[]))
}

/// The log index in the key of an outcome; `None` when it is not such a key.
pub fn outcome_index(state_key: &[u8]) -> Option<LogIndex> {
    let suffix = state_key.get(KEYSPACE_BYTES + 1..)?;
    Some(LogIndex(u64::from_be_bytes(suffix.try_into().ok()?)))
}

/// The smallest key above this one.
pub fn after(state_key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(state_key.len() + 1);
    out.put_slice(state_key);
    out.put_u8(0);
    out.freeze()
}

fn own(kind: u8, suffix: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(KEYSPACE_BYTES + 1 + suffix.len());
    out.put_u64(OWN.get());
    out.put_u8(kind);
    out.put_slice(suffix);
    out.freeze()
}

fn encode_key(key: &[u8], out: &mut BytesMut) {
    let last = key.len().saturating_sub(1) / GROUP_BYTES * GROUP_BYTES;
    for group in key[..last].chunks_exact(GROUP_BYTES) {
        out.put_slice(group);
        out.put_u8(MARKER_MORE);
    }
    let rest = &key[last..];
    out.put_slice(rest);
    out.put_bytes(0, GROUP_BYTES - rest.len());
    out.put_u8(u8::try_from(rest.len()).expect("a group has at most 8 bytes"));
}

fn decode_key(encoded: &[u8]) -> Option<Bytes> {
    let mut groups = encoded.chunks_exact(GROUP_BYTES + 1);
    if !groups.remainder().is_empty() {
        return None;
    }
    let (last, full) = (groups.next_back()?, groups);
    let mut key = BytesMut::with_capacity(encoded.len());
    for group in full {
        if group[GROUP_BYTES] != MARKER_MORE {
            return None;
        }
        key.put_slice(&group[..GROUP_BYTES]);
    }
    let counted = usize::from(last[GROUP_BYTES]);
    key.put_slice(last[..GROUP_BYTES].get(..counted)?);
    Some(key.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state_key(keyspace: u64, key: &[u8], revision: u64, chunk: u16) -> Bytes {
        KeyPrefix::new(KeyspaceId(keyspace), key).version(Revision(revision), chunk)
    }

    /// Keys that are likely to share prefixes and to hold runs of the extreme bytes.
    fn user_key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(9), Just(0xff)], 0..40)
    }

    proptest! {
        #[test]
        fn state_keys_sort_by_keyspace_key_newest_revision_and_chunk(
            a in (1_u64..4, user_key(), 0_u64..3, 0_u16..3),
            b in (1_u64..4, user_key(), 0_u64..3, 0_u16..3),
        ) {
            let order = |(keyspace, key, revision, chunk): &(u64, Vec<u8>, u64, u16)| {
                (*keyspace, key.clone(), std::cmp::Reverse(*revision), *chunk)
            };
            let encoded = |k: &(u64, Vec<u8>, u64, u16)| state_key(k.0, &k.1, k.2, k.3);
            prop_assert_eq!(order(&a).cmp(&order(&b)), encoded(&a).cmp(&encoded(&b)));
        }

        #[test]
        fn state_keys_can_be_taken_apart(key in user_key(), revision: u64, chunk: u16) {
            let parsed = VersionKey::parse(&state_key(7, &key, revision, chunk)).unwrap();
            prop_assert_eq!(parsed.revision, Revision(revision));
            prop_assert_eq!(parsed.chunk, chunk);
            prop_assert_eq!(&parsed.prefix, &KeyPrefix::new(KeyspaceId(7), &key));
            prop_assert_eq!(user_key_bytes(parsed.prefix.as_bytes()), Some(key.len()));
            prop_assert_eq!(parsed.prefix.user_key().unwrap(), key);
            prop_assert_eq!(keyspace_of(parsed.prefix.as_bytes()), Some(KeyspaceId(7)));
        }

        #[test]
        fn bounds_hold_exactly_the_versions_of_their_keys(
            from in user_key(), to in user_key(), key in user_key(), revision: u64, chunk: u16,
        ) {
            let (low, high) = bounds(KeyspaceId(7), &from, &to);
            let inside = key >= from && (to.is_empty() || key < to);
            let state_key = state_key(7, &key, revision, chunk);
            prop_assert_eq!(low <= state_key && state_key < high, inside);
            let end = KeyPrefix::new(KeyspaceId(7), &key).end();
            prop_assert!(state_key < end);
        }
    }

    #[test]
    fn the_worst_key_leaves_room_for_a_value() {
        for byte in [0x00, 0xff] {
            let key = vec![byte; limits::ITEM_KEY_BYTES_MAX];
            let state_key = state_key(u64::MAX - 1, &key, 1, 0);
            assert_eq!(state_key.len(), VERSION_KEY_BYTES_MAX);
            assert_eq!(VersionKey::parse(&state_key).unwrap().prefix.user_key().unwrap(), key);
        }
    }

    #[test]
    fn an_end_lies_below_the_next_key() {
        let key = KeyPrefix::new(KeyspaceId(1), b"a");
        assert!(key.end() < KeyPrefix::new(KeyspaceId(1), b"a\0").version(Revision(u64::MAX), 0));
    }

    #[test]
    fn own_records_lie_outside_of_every_keyspace() {
        let (low, high) = outcome_bounds();
        let index = LogIndex(258);
        let key = outcome(index);
        assert!(low < key && key < high && outcome_index(&key) == Some(index));
        assert!(!(low..high).contains(&checkpoint()));
        assert!(checkpoint() < bounds(KeyspaceId(1), b"", b"").0);
        assert_eq!(outcome_index(&checkpoint()), None);
        let (first, last) = (keyspace_record(index, KeyspaceId(1)), KeyspaceId(u64::MAX));
        let (low, high) = keyspace_record_bounds(index);
        assert!(low < first && keyspace_record(index, last) < high);
        let (low, high) = all_keyspace_record_bounds();
        assert!(low < first && first < high && !(low..high).contains(&outcome(index)));
        assert_eq!(keyspace_of(&first), Some(OWN));
    }
}
