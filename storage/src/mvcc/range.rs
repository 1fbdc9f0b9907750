//! Reading many keys, a page at a time.

use bytes::Bytes;
use proto::limits::{PAGE_BYTES_MAX, PAGE_ITEMS_MAX};
use proto::{KeyspaceId, Revision, v1};

use super::view::Layers;
use crate::state::StateError;

/// Most entries that one page looks at: keys, deleted ones too, and records of the store. Takes
/// about 20 ms.
pub const SCAN_ENTRIES_MAX: usize = 20_000;

/// Which keys to read, and how.
#[derive(Clone, Debug, Default)]
pub struct RangeQuery {
    /// First key, inclusive.
    pub from: Bytes,
    /// Last key, exclusive; empty means to the end of the keyspace. A range that does not run
    /// forward is empty.
    pub to: Bytes,
    /// At most this many items; 0 and everything above [`PAGE_ITEMS_MAX`] mean that.
    pub limit: usize,
    /// The revision to read; `None` reads the newest. Later pages ask for the revision of the
    /// first, so that all of them show one moment.
    pub at: Option<Revision>,
    /// Leaves the values out; [`v1::Item::value_size`] still tells their length.
    pub keys_only: bool,
    /// Returns the number of keys and no items. A long range is counted page by page; the caller
    /// adds.
    pub count_only: bool,
}

/// One page of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct RangePage {
    /// The items in the order of their keys: as many as fit into the limit and into
    /// [`PAGE_BYTES_MAX`], the first one whatever its size. A page that had to look at
    /// [`SCAN_ENTRIES_MAX`] entries ends there, so it may hold few items or none although others
    /// follow.
    pub items: Vec<v1::Item>,
    /// The range goes on at `next`. Unless the page ended for want of room, what is left of it may
    /// turn out to be empty.
    pub more: bool,
    /// The first key that this page says nothing about; empty when the range is finished.
    pub next: Bytes,
    /// The number of keys up to `next`, where only it was asked for; else 0.
    pub count: u64,
    /// The revision that was read.
    pub revision: Revision,
}

/// Reads one page at revision `at`, which was checked.
///
/// # Errors
/// Those of the store.
pub fn read(
    layers: &Layers,
    keyspace: KeyspaceId,
    query: &RangeQuery,
    at: Revision,
) -> Result<RangePage, StateError> {
    let limit = if query.limit == 0 { PAGE_ITEMS_MAX } else { query.limit.min(PAGE_ITEMS_MAX) };
    let mut page =
        RangePage { items: Vec::new(), more: false, next: Bytes::new(), count: 0, revision: at };
    let mut bytes = 0;
    let mut keys = layers.keys(keyspace, &query.from, &query.to, at);
    loop {
        let exhausted = keys.looked() >= SCAN_ENTRIES_MAX;
        let Some(entry) = keys.next() else { return Ok(page) };
        let (key, found) = entry?;
        let found = found.filter(|found| !found.head().tombstone);
        let value_bytes = found.as_ref().map_or(0, |found| found.head().value_bytes as usize);
        let value_bytes = if query.keys_only { 0 } else { value_bytes };
        bytes += if found.is_some() { key.len() + value_bytes } else { 0 };
        let full = found.is_some()
            && !query.count_only
            && (page.items.len() == limit || (bytes > PAGE_BYTES_MAX && !page.items.is_empty()));
        if exhausted || full {
            page.more = true;
            page.next = key;
            return Ok(page);
        }
        let Some(found) = found else { continue };
        if query.count_only {
            page.count += 1;
            continue;
        }
        let value = if query.keys_only { Bytes::new() } else { layers.value(&found)? };
        page.items.push(found.head().item(key, value));
    }
}
