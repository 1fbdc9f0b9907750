//! Reading many keys, a page at a time.

use bytes::Bytes;
use proto::limits::{PAGE_BYTES_MAX, PAGE_ITEMS_MAX};
use proto::{KeyspaceId, Revision, v1};

use super::view::Layers;
use crate::state::StateError;

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
    /// Returns the number of keys in the whole range and no items. Takes time in proportion.
    pub count_only: bool,
}

/// One page of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct RangePage {
    /// The items in the order of their keys: as many as fit into the limit and into
    /// [`PAGE_BYTES_MAX`], at least one if there is any.
    pub items: Vec<v1::Item>,
    /// Further items follow the last one of this page.
    pub more: bool,
    /// The number of keys, where only it was asked for; else 0.
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
    let mut page = RangePage { items: Vec::new(), more: false, count: 0, revision: at };
    let mut bytes = 0;
    for entry in layers.keys(keyspace, &query.from, &query.to, at) {
        let (key, found) = entry?;
        let head = found.head();
        if head.tombstone {
            continue;
        }
        if query.count_only {
            page.count += 1;
            continue;
        }
        let value_bytes = if query.keys_only { 0 } else { head.value_bytes as usize };
        bytes += key.len() + value_bytes;
        if page.items.len() == limit || (bytes > PAGE_BYTES_MAX && !page.items.is_empty()) {
            page.more = true;
            break;
        }
        let value = if query.keys_only { Bytes::new() } else { layers.value(&found)? };
        page.items.push(head.item(key, value));
    }
    Ok(page)
}
