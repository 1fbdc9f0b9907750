//! Items that a node remembers by itself: put and removed without conditions, and kept without history.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::{KeyspaceId, LogIndex, log};

use super::super::transaction::{Done, Written};
use super::super::version::{Head, Version};
use super::super::view::Found;
use super::Machine;
use crate::state::StateError;

impl Machine {
    /// Puts and removes items in the keyspace that always exists, and compacts it to this very revision:
    /// what was replaced or removed is dead at once, and leaves the store with the next checkpoint. So the
    /// list of what a compaction kills is empty between two entries.
    ///
    /// Takes a search for each item, and about 1 us for each that is replaced.
    pub(super) fn put_items(
        &mut self,
        index: LogIndex,
        put: &log::PutItems,
    ) -> Result<log::WriteOutcome, StateError> {
        let id = KeyspaceId::DEFAULT;
        for item in &put.items {
            if let Err(failure) = proto::limits::check_item(item) {
                return Ok(self.refusal(id.get(), failure.code));
            }
        }
        let writes = self.replace_items(index, put)?;
        let done = Done { succeeded: true, results: Vec::new(), writes };
        let keyspace = self.directory.get_mut(id).expect("keyspace 1 is always open");
        if let Err(code) = keyspace.grow(done.growth()) {
            return Ok(self.refusal(id.get(), code));
        }
        let outcome = self.commit(id, done);
        self.compact(&log::Compact { keyspace: id.get(), revision: outcome.revision });
        Ok(outcome)
    }

    /// The versions that these items write, each key once.
    fn replace_items(
        &self,
        index: LogIndex,
        put: &log::PutItems,
    ) -> Result<Vec<Written>, StateError> {
        let id = KeyspaceId::DEFAULT;
        let now = self.revision(id);
        // Of items with the same key the last one counts.
        let items: BTreeMap<&Bytes, Option<&Bytes>> =
            put.items.iter().map(|item| (&item.key, item.value.as_ref())).collect();
        let mut writes = Vec::with_capacity(items.len());
        for (key, value) in items {
            let newest = self.layers.version_at(id, key, now)?;
            let known = newest.is_some();
            let live = newest.as_ref().map(Found::head).filter(|head| !head.tombstone).copied();
            let head = match value {
                Some(value) => Head::put(live.as_ref(), now.next(), index, value),
                None if live.is_some() => Head::delete(now.next(), index),
                None => continue,
            };
            let version = Version { head, value: value.cloned().unwrap_or_default() };
            writes.push(Written { key: key.clone(), version, replaces: live, known });
        }
        Ok(writes)
    }
}
