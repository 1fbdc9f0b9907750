//! The layers and the store as one: what a key looks like at a revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proto::{KeyspaceId, LogIndex, Revision, v1};

use super::cursor::{Keys, StoredVersions};
use super::held::Held;
use super::item;
use super::key::{KeyPrefix, VersionKey};
use super::layer::Layer;
use super::recall::Recall;
use super::version::{Head, StoredVersion, Version, damaged};
use crate::state::{StateError, StateStore};

/// Active layer over frozen layer over store.
///
/// Invariant: of one key, each layer holds only versions newer than any version below it.
#[derive(Debug)]
pub struct Layers {
    /// Takes all writes.
    pub active: Layer,
    /// On its way into the store.
    pub frozen: Option<Arc<Layer>>,
    /// Moved into the store by the last finished checkpoint, and kept to find keys faster that were
    /// written lately. Holds no living version that the store does not hold. Gone when the next
    /// layer is frozen.
    pub settled: Option<Arc<Layer>>,
    /// Everything a finished checkpoint covers, and remains of lost ones.
    pub store: Arc<dyn StateStore>,
    /// What of the store is visible.
    pub horizon: Horizon,
    /// What the store holds of some keys; forgotten when a checkpoint begins to change the store.
    pub recall: Recall,
}

/// How far the last finished checkpoint reaches: nothing newer in the store is visible.
#[derive(Clone, Debug, Default)]
pub struct Horizon {
    /// Log index of the checkpoint.
    pub index: LogIndex,
    /// Revision of each keyspace at that index.
    pub revisions: BTreeMap<KeyspaceId, Revision>,
}

impl Horizon {
    /// The newest visible revision of a keyspace; `None` when the checkpoint knows no such
    /// keyspace.
    pub fn of(&self, keyspace: KeyspaceId) -> Option<Revision> {
        self.revisions.get(&keyspace).copied()
    }

    /// Checks an item found at a visible revision against the checkpoint: its newest version has
    /// to be visible too, for a pack holds versions of one checkpoint.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    pub fn check(&self, held: &Held) -> Result<(), StateError> {
        let newest = held.newest();
        let visible = held.keyspace().and_then(|keyspace| self.of(keyspace));
        if newest.index <= self.index && Some(newest.revision) <= visible {
            return Ok(());
        }
        let why = format!("was written at index {}, after checkpoint {}", newest.index, self.index);
        Err(damaged(held.prefix(), newest.revision, &why))
    }
}

/// A version, wherever it was found.
#[derive(Clone, Debug)]
pub enum Found<'a> {
    /// In a layer.
    Layer(&'a Version),
    /// In the store.
    Stored(StoredVersion),
    /// In the store, and only this is known of it so far.
    Recalled(KeyPrefix, Head),
}

impl Found<'_> {
    /// Everything about the version but its value.
    pub fn head(&self) -> &Head {
        match self {
            Self::Layer(version) => &version.head,
            Self::Stored(version) => &version.head,
            Self::Recalled(_, head) => head,
        }
    }
}

impl Layers {
    /// The newest version of `key` that is not newer than `at`; tombstones included.
    ///
    /// # Errors
    /// Those of the store.
    pub fn version_at(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        at: Revision,
    ) -> Result<Option<Found<'_>>, StateError> {
        for layer in self.in_memory() {
            let version = layer.chain(keyspace, key).and_then(|(_, chain)| chain.at(at));
            if let Some(version) = version {
                return Ok(Some(Found::Layer(version)));
            }
        }
        let prefix = KeyPrefix::new(keyspace, key);
        match self.recall.newest(&prefix) {
            Some(None) => Ok(None),
            Some(Some(head)) if head.revision <= at => Ok(Some(Found::Recalled(prefix, head))),
            Some(Some(_)) | None => Ok(self.stored_at(keyspace, prefix, at)?.map(Found::Stored)),
        }
    }

    /// The layers in memory, newest first.
    fn in_memory(&self) -> impl Iterator<Item = &Layer> {
        let below = self.frozen.iter().chain(&self.settled);
        std::iter::once(&self.active).chain(below.map(|layer| &**layer))
    }

    /// The newest version in the store that is visible and not newer than `at`.
    fn stored_at(
        &self,
        keyspace: KeyspaceId,
        prefix: KeyPrefix,
        at: Revision,
    ) -> Result<Option<StoredVersion>, StateError> {
        let Some(horizon) = self.horizon.of(keyspace) else { return Ok(None) };
        let from = prefix.version(at.min(horizon), 0);
        let Some((state_key, record)) = self.store.first_in(&from, &prefix.end())? else {
            return Ok(None);
        };
        match VersionKey::parse(&state_key) {
            Some(VersionKey { revision, chunk: 0, .. }) => {
                let held = Held::decode(prefix, revision, item::open(&state_key, record)?)?;
                self.horizon.check(&held)?;
                Ok(held.at(at))
            }
            Some(VersionKey { revision, .. }) => {
                Err(damaged(&prefix, revision, "has lost its header"))
            }
            None => unreachable!("the search stays below one key's prefix"),
        }
    }

    /// The value of a version.
    ///
    /// # Errors
    /// Those of the store; [`StateError::Damaged`] when a part is missing.
    pub fn value(&self, found: &Found<'_>) -> Result<Bytes, StateError> {
        match found {
            Found::Layer(version) => Ok(version.value.clone()),
            Found::Stored(stored) => self.stored_value(stored),
            Found::Recalled(prefix, head) => {
                let revision = head.revision;
                let content = item::get(&*self.store, &prefix.version(revision, 0))?
                    .ok_or_else(|| damaged(prefix, revision, "has lost its header"))?;
                self.stored_value(&StoredVersion::decode(prefix.clone(), revision, content)?)
            }
        }
    }

    /// The value of a version in the store.
    ///
    /// # Errors
    /// As of [`Layers::value`].
    pub fn stored_value(&self, stored: &StoredVersion) -> Result<Bytes, StateError> {
        if stored.is_whole() {
            return Ok(stored.first.clone());
        }
        let from = stored.prefix.version(stored.head.revision, 1);
        let to = stored.prefix.version(stored.head.revision, u16::MAX);
        stored.join(item::scan(&*self.store, &from, &to))
    }

    /// What clients see of `key` at revision `at`; `None` when it does not exist there.
    ///
    /// # Errors
    /// As of [`Layers::value`].
    pub fn item_at(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        at: Revision,
    ) -> Result<Option<v1::Item>, StateError> {
        for layer in self.in_memory() {
            let Some((key, chain)) = layer.chain(keyspace, key) else { continue };
            let Some(version) = chain.at(at) else { continue };
            let item = || version.head.item(key.clone(), version.value.clone());
            return Ok((!version.head.tombstone).then(item));
        }
        match self.stored_at(keyspace, KeyPrefix::new(keyspace, key), at)? {
            Some(stored) if !stored.head.tombstone => {
                let value = self.stored_value(&stored)?;
                Ok(Some(stored.head.item(Bytes::copy_from_slice(key), value)))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// The keys in `[from, to)` in order, each with its newest version that is not newer than `at`,
    /// if it has one; tombstones included. Empty `to` means to the end of the keyspace.
    pub fn keys(&self, keyspace: KeyspaceId, from: &[u8], to: &[u8], at: Revision) -> Keys<'_> {
        Keys::new(self, keyspace, from, to, at)
    }

    /// Every visible version of the keyspace that lies in the store, the dead included, by key,
    /// newest first.
    pub fn stored_versions(&self, keyspace: KeyspaceId) -> StoredVersions<'_> {
        StoredVersions::all(self, keyspace)
    }
}
