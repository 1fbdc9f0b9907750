//! Deleting what a compaction has killed of the versions that may lie in packs.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::{KeyspaceId, Revision};

use super::held::Held;
use super::item;
use super::key::{KeyPrefix, VersionKey};
use crate::state::{BATCH_ITEMS_MAX, BatchItem, StateError, StateStore, StoredItem};

/// Keys that one step looks up at most, so that it stays short where little is to be deleted.
const STEP_KEYS: usize = 64;

/// Of each key, the newest dead version that may lie in a pack.
///
/// That is all that has to be known, for what is older is dead as well. One search finds the item
/// that holds this version. Everything behind that item in the key's range goes; the item itself
/// goes unless a newer version in it lives. So this takes memory for each key that was compacted,
/// not for each version, and a search for each key, not for each version.
#[derive(Debug, Default)]
pub struct DeadPacks {
    keys: BTreeMap<(KeyspaceId, Box<[u8]>), Revision>,
    /// What is left of the key whose items are being deleted.
    rest: Option<(Bytes, Bytes)>,
}

impl DeadPacks {
    /// Notes a dead version that was put.
    pub fn add(&mut self, keyspace: KeyspaceId, key: Box<[u8]>, revision: Revision) {
        let newest = self.keys.entry((keyspace, key)).or_insert(revision);
        *newest = revision.max(*newest);
    }

    /// Deletes the next items, as one batch; true when nothing is left.
    ///
    /// # Errors
    /// Those of the store; [`StateError::Damaged`] when the item that holds a dead version is.
    pub fn sweep(&mut self, store: &dyn StateStore) -> Result<bool, StateError> {
        let mut batch: Vec<BatchItem> = Vec::with_capacity(BATCH_ITEMS_MAX);
        for _ in 0..STEP_KEYS {
            if let Some((from, to)) = self.rest.take() {
                self.delete(store.scan(&from, &to), to, &mut batch)?;
            } else if let Some(((keyspace, key), newest)) = self.keys.pop_first() {
                let prefix = KeyPrefix::new(keyspace, &key);
                let to = prefix.end();
                let mut found = store.scan(&prefix.version(newest, 0), &to);
                let holder = found.next().transpose()?;
                let holder = holder.map(|item| without_living(item, newest)).transpose()?;
                batch.extend(holder.flatten().map(|key| (key, None)));
                self.delete(found, to, &mut batch)?;
            } else {
                break;
            }
            if batch.len() == BATCH_ITEMS_MAX {
                break;
            }
        }
        if !batch.is_empty() {
            store.write(&batch)?;
        }
        Ok(self.rest.is_none() && self.keys.is_empty())
    }

    /// Adds what was found to a batch, until it is full; notes where to go on.
    fn delete(
        &mut self,
        found: impl Iterator<Item = Result<StoredItem, StateError>>,
        to: Bytes,
        batch: &mut Vec<BatchItem>,
    ) -> Result<(), StateError> {
        for item in found.take(BATCH_ITEMS_MAX - batch.len()) {
            batch.push((item?.0, None));
        }
        if batch.len() == BATCH_ITEMS_MAX {
            self.rest = batch.last().map(|(last, _)| (last.clone(), to));
        }
        Ok(())
    }
}

/// The key of an item at or behind the dead version `newest`, unless something in it lives.
fn without_living(
    (state_key, stored): StoredItem,
    newest: Revision,
) -> Result<Option<Bytes>, StateError> {
    let Some(VersionKey { prefix, revision, chunk }) = VersionKey::parse(&state_key) else {
        unreachable!("the search stays below one key's prefix");
    };
    let dead = chunk > 0 || {
        let held = Held::decode(prefix, revision, item::open(&state_key, stored)?)?;
        held.newest().revision <= newest
    };
    Ok(dead.then_some(state_key))
}
