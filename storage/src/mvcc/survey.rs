//! Reading the whole store: is it what its checkpoint says, and what else lies in it?

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proto::{KeyspaceId, LogIndex, Revision};

use super::cover::{Cover, Covered};
use super::digest::ContentSum;
use super::garbage::Remains;
use super::item;
use super::key::{self, KeyPrefix};
use super::liveness::Liveness;
use super::pack::Pack;
use super::recall::{Recall, Recalling};
use super::superseded::{Replacement, Superseded};
use super::version::{self, Head, damaged};
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
    /// What there is of the keys that were asked for.
    pub recall: Recall,
}

impl Survey {
    /// Reads every item of every keyspace in the store, and notes what it holds of the keys in
    /// `recall`.
    ///
    /// Takes time in proportion, about 1 us per item.
    ///
    /// # Errors
    /// Those of the store; [`StateError::Damaged`] when an item does not match its checksum, or
    /// when the living versions are not those that `cover` has counted.
    pub fn take(
        store: &dyn StateStore,
        cover: Option<&Cover>,
        recall: Recall,
    ) -> Result<Self, StateError> {
        let mut survey = Self::default();
        let mut recall = recall.begin();
        let mut from = KeyspaceId(1);
        for covered in cover.into_iter().flat_map(Cover::open) {
            let id = covered.id();
            survey.find_strangers(store, from, id)?;
            let index = cover.map_or(LogIndex(0), |cover| cover.index);
            let counted = Count::take(store, covered, index, &mut survey.remains, &mut recall)?;
            survey.superseded.insert(id, Superseded::from_unsorted(counted));
            from = id.next();
        }
        survey.find_strangers(store, from, END)?;
        survey.recall = recall.end();
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
    recall: &'a mut Recalling,
    sum: ContentSum,
    keys: u64,
    bytes: u64,
    replacements: Vec<Replacement>,
    /// The encoded prefix of the key whose versions are being read; empty before the first.
    prefix: Vec<u8>,
    liveness: Liveness,
    /// The living version of this key that was read last.
    newer: Option<Head>,
    version: Option<Current>,
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
        recall: &'a mut Recalling,
    ) -> Result<Vec<Replacement>, StateError> {
        let id = covered.id();
        let mut count = Self {
            covered,
            index,
            remains,
            recall,
            sum: ContentSum::default(),
            keys: 0,
            bytes: 0,
            replacements: Vec::new(),
            prefix: Vec::new(),
            liveness: Liveness::new(Revision(covered.state.compacted)),
            newer: None,
            version: None,
        };
        let (from, to) = key::keyspace_bounds(id, id.next());
        store.visit(&from, &to, &mut |state_key, stored| {
            count.item(state_key, item::verify(state_key, stored)?)
        })?;
        count.finish_version()?;
        let state = &covered.state;
        let counted = (count.sum, count.keys, count.bytes);
        if counted != (covered.sum, state.live_keys, state.live_bytes) {
            let why = format!("keyspace {id} is not what checkpoint {index} has counted");
            return Err(StateError::Damaged { why });
        }
        Ok(count.replacements)
    }

    fn item(&mut self, state_key: &[u8], content: &[u8]) -> Result<(), StateError> {
        let Some((prefix, revision, chunk)) = key::split(state_key) else {
            return Err(StateError::Damaged { why: "a key in a keyspace is too short".into() });
        };
        if self.prefix != prefix {
            self.finish_version()?;
            self.prefix.clear();
            self.prefix.extend_from_slice(prefix);
            self.liveness = Liveness::new(Revision(self.covered.state.compacted));
            self.newer = None;
        }
        if self.version.as_ref().is_none_or(|current| current.revision != revision) {
            self.finish_version()?;
            let begun = self.begin_version(state_key, revision, chunk, content)?;
            self.version = Some(begun);
        }
        let current = self.version.as_mut().expect("a version was begun above");
        match current.fate {
            Fate::Goes => self.remains.keys.push(Bytes::copy_from_slice(state_key)),
            Fate::Lives if current.next == chunk => current.next += 1,
            Fate::Lives => return Err(self.damaged(revision, "lacks a part of its value")),
        }
        Ok(())
    }

    /// Decides about a version, or about all versions of a pack, by the first item.
    fn begin_version(
        &mut self,
        state_key: &[u8],
        revision: Revision,
        chunk: u16,
        content: &[u8],
    ) -> Result<Current, StateError> {
        let goes = Current { revision, fate: Fate::Goes, next: 0, chunks: 0 };
        let state = &self.covered.state;
        let lost = revision > Revision(state.revision);
        let replaced = revision <= Revision(state.compacted) && self.liveness.base_seen();
        if lost || replaced {
            return Ok(goes);
        }
        if chunk != 0 {
            return Err(self.damaged(revision, "has lost its header"));
        }
        if Pack::is_pack(content) {
            self.count_pack(revision, content)?;
            return Ok(Current { fate: Fate::Lives, chunks: 1, ..goes });
        }
        let head = Head::decode(state_key.len(), revision, content)
            .ok_or_else(|| self.damaged(revision, "has no valid header"))?;
        if head.index > self.index {
            let why = format!("was written at index {}, after the checkpoint", head.index);
            return Err(self.damaged(revision, &why));
        }
        self.recall.newest(&self.prefix, &head);
        if !self.liveness.lives(revision, head.tombstone) {
            // It hides whatever is older, so it goes last, not with the others.
            self.remains.tombstones.push(Bytes::copy_from_slice(state_key));
            return Ok(Current { fate: Fate::Lives, chunks: 1, ..goes });
        }
        self.count(head, false)?;
        let chunks = version::chunks(state_key.len(), head.value_bytes as usize);
        Ok(Current { revision, fate: Fate::Lives, next: 0, chunks })
    }

    /// Counts the living versions of a pack. What is dead in it stays as long as the pack does.
    fn count_pack(&mut self, lowest: Revision, content: &[u8]) -> Result<(), StateError> {
        let heads = Pack::read_heads(lowest, content)
            .ok_or_else(|| self.damaged(lowest, "begins an invalid pack"))?;
        let visible = |head: &Head| {
            head.index <= self.index && head.revision <= Revision(self.covered.state.revision)
        };
        if !heads.first().is_some_and(visible) {
            return Err(self.damaged(lowest, "begins a pack that reaches beyond the checkpoint"));
        }
        if self.newer.is_none() {
            let why = "begins a pack, and no newer version stands alone";
            return Err(self.damaged(lowest, why));
        }
        for head in heads {
            if self.liveness.lives(head.revision, head.tombstone) {
                self.count(head, true)?;
            }
        }
        Ok(())
    }

    /// Counts a living version.
    fn count(&mut self, head: Head, packed: bool) -> Result<(), StateError> {
        let revision = head.revision;
        self.sum.add(&self.prefix, revision);
        match self.newer.replace(head) {
            None if !head.tombstone => {
                let bytes = key::user_key_bytes(&self.prefix);
                let bytes = bytes.ok_or_else(|| self.damaged(revision, "has no key"))?;
                self.keys += 1;
                self.bytes += bytes as u64 + u64::from(head.value_bytes);
            }
            Some(newer) if !head.tombstone => {
                let key = KeyPrefix::from_encoded(&self.prefix).user_key();
                let key = key.ok_or_else(|| self.damaged(revision, "has no key"))?;
                self.replacements.push(Replacement {
                    revision: newer.revision,
                    tombstone: newer.tombstone,
                    packed,
                    old: revision,
                    old_value_bytes: head.value_bytes,
                    key: key[..].into(),
                });
            }
            None | Some(_) => {}
        }
        Ok(())
    }

    fn finish_version(&mut self) -> Result<(), StateError> {
        let Some(current) = self.version.take() else { return Ok(()) };
        if current.fate == Fate::Lives && current.next != current.chunks {
            return Err(self.damaged(current.revision, "lacks a part of its value"));
        }
        Ok(())
    }

    /// The error for a version of the key that is being read.
    fn damaged(&self, revision: Revision, what: &str) -> StateError {
        damaged(&KeyPrefix::from_encoded(&self.prefix), revision, what)
    }
}

/// The ranges of keyspace records of all checkpoints but the one at `index`.
pub fn other_keyspace_records(index: LogIndex) -> VecDeque<(Bytes, Bytes)> {
    let (first, last) = key::all_keyspace_record_bounds();
    let (from, to) = key::keyspace_record_bounds(index);
    VecDeque::from([(first, from), (to, last)])
}
