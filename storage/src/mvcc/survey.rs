//! Reading the whole store: is it what its checkpoint says, and what else lies in it?

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proto::{KeyspaceId, LogIndex, Revision};

use super::cover::{Cover, Covered};
use super::digest::ContentSum;
use super::garbage::Remains;
use super::item;
use super::key::{self, KeyPrefix, VersionKey};
use super::liveness::Liveness;
use super::superseded::{Replacement, Superseded};
use super::version::{self, Head, StoredVersion, damaged};
use crate::state::{StateError, StateStore};

/// Ids of keyspaces lie below this one.
const END: KeyspaceId = KeyspaceId(u64::MAX);

/// What a store holds besides what its checkpoint shows.
#[derive(Debug, Default)]
pub struct Survey {
    /// What may be deleted.
    pub remains: Remains,
    /// Which versions of each keyspace the next compaction kills.
    pub superseded: BTreeMap<KeyspaceId, Superseded>,
}

impl Survey {
    /// Reads every item of every keyspace in the store.
    ///
    /// Takes time in proportion, about 2 us per item.
    ///
    /// # Errors
    /// Those of the store; [`StateError::Damaged`] when an item does not match its checksum, or
    /// when the living versions are not those that `cover` has counted.
    pub fn take(store: &dyn StateStore, cover: Option<&Cover>) -> Result<Self, StateError> {
        let mut survey = Self::default();
        let mut from = KeyspaceId(1);
        for covered in cover.into_iter().flat_map(Cover::open) {
            let id = covered.id();
            survey.find_strangers(store, from, id)?;
            let index = cover.map_or(LogIndex(0), |cover| cover.index);
            let counted = Count::take(store, covered, index, &mut survey.remains)?;
            survey.superseded.insert(id, Superseded::from_unsorted(counted));
            from = id.next();
        }
        survey.find_strangers(store, from, END)?;
        Ok(survey)
    }

    /// Notes everything in keyspaces in `[from, to)`, none of which is open.
    fn find_strangers(
        &mut self,
        store: &dyn StateStore,
        from: KeyspaceId,
        to: KeyspaceId,
    ) -> Result<(), StateError> {
        let (mut from, to) = key::keyspace_bounds(from, to);
        while let Some((state_key, _)) = store.first_in(&from, &to)? {
            let id = key::keyspace_of(&state_key).ok_or_else(|| StateError::Damaged {
                why: "a key is too short to have a keyspace".into(),
            })?;
            let range = key::keyspace_bounds(id, id.next());
            from = range.1.clone();
            self.remains.ranges.push_back(range);
        }
        Ok(())
    }
}

/// The state of a walk through one keyspace.
struct Count<'a> {
    covered: &'a Covered,
    index: LogIndex,
    remains: &'a mut Remains,
    sum: ContentSum,
    keys: u64,
    bytes: u64,
    replacements: Vec<Replacement>,
    key: Option<Key>,
    version: Option<Current>,
}

/// The key whose versions are being read.
struct Key {
    prefix: KeyPrefix,
    liveness: Liveness,
    /// The living version that was read last.
    newer: Option<Head>,
}

/// The version whose chunks are being read.
struct Current {
    revision: Revision,
    fate: Fate,
    /// Number of the chunk that comes next, and how many there are.
    next: u16,
    chunks: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    Goes,
}

impl<'a> Count<'a> {
    fn take(
        store: &dyn StateStore,
        covered: &'a Covered,
        index: LogIndex,
        remains: &'a mut Remains,
    ) -> Result<Vec<Replacement>, StateError> {
        let id = covered.id();
        let mut count = Self {
            covered,
            index,
            remains,
            sum: ContentSum::default(),
            keys: 0,
            bytes: 0,
            replacements: Vec::new(),
            key: None,
            version: None,
        };
        let (from, to) = key::keyspace_bounds(id, id.next());
        for found in item::scan(store, &from, &to) {
            let (state_key, content) = found?;
            count.item(state_key, content)?;
        }
        count.finish_version()?;
        let state = &covered.state;
        let counted = (count.sum, count.keys, count.bytes);
        if counted != (covered.sum, state.live_keys, state.live_bytes) {
            let why = format!("keyspace {id} is not what checkpoint {index} has counted");
            return Err(StateError::Damaged { why });
        }
        Ok(count.replacements)
    }

    fn item(&mut self, state_key: Bytes, content: Bytes) -> Result<(), StateError> {
        let Some(VersionKey { prefix, revision, chunk }) = VersionKey::parse(&state_key) else {
            return Err(StateError::Damaged { why: "a key in a keyspace is too short".into() });
        };
        if self.key.as_ref().is_none_or(|key| key.prefix != prefix) {
            self.finish_version()?;
            let compacted = Revision(self.covered.state.compacted);
            let liveness = Liveness::new(compacted);
            self.key = Some(Key { prefix: prefix.clone(), liveness, newer: None });
        }
        if self.version.as_ref().is_none_or(|current| current.revision != revision) {
            self.finish_version()?;
            self.begin_version(&state_key, prefix, revision, chunk, content)?;
        }
        let current = self.version.as_mut().expect("a version was begun above");
        match current.fate {
            Fate::Goes => self.remains.keys.push(state_key),
            Fate::Lives if current.next == chunk => current.next += 1,
            Fate::Lives => {
                let prefix = &self.key.as_ref().expect("a key was begun above").prefix;
                return Err(damaged(prefix, revision, "lacks a part of its value"));
            }
        }
        Ok(())
    }

    /// Decides about a version by its first item.
    fn begin_version(
        &mut self,
        state_key: &Bytes,
        prefix: KeyPrefix,
        revision: Revision,
        chunk: u16,
        content: Bytes,
    ) -> Result<(), StateError> {
        let key = self.key.as_mut().expect("the key of a version was begun");
        let goes = Current { revision, fate: Fate::Goes, next: 0, chunks: 0 };
        let state = &self.covered.state;
        let lost = revision > Revision(state.revision);
        let replaced = revision <= Revision(state.compacted) && key.liveness.base_seen();
        if lost || replaced {
            self.version = Some(goes);
            return Ok(());
        }
        if chunk != 0 {
            return Err(damaged(&prefix, revision, "has lost its header"));
        }
        let head = StoredVersion::decode(prefix, revision, content)?.head;
        if head.index > self.index {
            let why = format!("was written at index {}, after the checkpoint", head.index);
            return Err(damaged(&key.prefix, revision, &why));
        }
        if !key.liveness.lives(revision, head.tombstone) {
            // It hides whatever is older, so it goes last, not with the others.
            self.remains.tombstones.push(state_key.clone());
            self.version = Some(Current { fate: Fate::Lives, chunks: 1, ..goes });
            return Ok(());
        }
        self.sum.add(&key.prefix, revision);
        match key.newer.replace(head) {
            None if !head.tombstone => {
                let bytes = key.prefix.user_key_bytes();
                let bytes = bytes.ok_or_else(|| damaged(&key.prefix, revision, "has no key"))?;
                self.keys += 1;
                self.bytes += bytes as u64 + u64::from(head.value_bytes);
            }
            Some(newer) if !head.tombstone => {
                let bytes = key.prefix.user_key();
                let bytes = bytes.ok_or_else(|| damaged(&key.prefix, revision, "has no key"))?;
                self.replacements.push(Replacement {
                    revision: newer.revision,
                    tombstone: newer.tombstone,
                    old: revision,
                    old_value_bytes: head.value_bytes,
                    key: bytes[..].into(),
                });
            }
            None | Some(_) => {}
        }
        let chunks = version::chunks(&key.prefix, head.value_bytes as usize);
        self.version = Some(Current { revision, fate: Fate::Lives, next: 0, chunks });
        Ok(())
    }

    fn finish_version(&mut self) -> Result<(), StateError> {
        let Some(current) = self.version.take() else { return Ok(()) };
        if current.fate == Fate::Lives && current.next != current.chunks {
            let prefix = &self.key.as_ref().expect("the key of a version was begun").prefix;
            return Err(damaged(prefix, current.revision, "lacks a part of its value"));
        }
        Ok(())
    }
}

/// The ranges of keyspace records of all checkpoints but the one at `index`.
pub fn other_keyspace_records(index: LogIndex) -> VecDeque<(Bytes, Bytes)> {
    let (first, last) = key::all_keyspace_record_bounds();
    let (from, to) = key::keyspace_record_bounds(index);
    VecDeque::from([(first, from), (to, last)])
}
