//! Reading the history of one key, newest first.

use bytes::Bytes;
use proto::limits::{PAGE_BYTES_MAX, PAGE_ITEMS_MAX};
use proto::{KeyspaceId, Revision, v1};

use super::liveness::Liveness;
use super::view::Layers;
use crate::state::StateError;

/// Which versions of a key to read, and how.
#[derive(Clone, Copy, Debug)]
pub struct HistoryQuery<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Only versions older than this; `None` begins at the newest.
    pub before: Option<Revision>,
    /// At most this many; 0 and everything above [`PAGE_ITEMS_MAX`] mean that.
    pub limit: usize,
    /// Leaves the values out.
    pub keys_only: bool,
}

/// Versions of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage {
    /// Newest first: as many as fit into the limit and into [`PAGE_BYTES_MAX`], the first one
    /// whatever its size. The oldest one of all may be older than `compacted`: it is what the key
    /// was at that revision.
    pub versions: Vec<v1::KeyVersion>,
    /// Older versions follow. The next page asks for those before the last one of this page.
    pub more: bool,
    /// The current revision of the keyspace.
    pub revision: Revision,
    /// The oldest revision that can be read.
    pub compacted: Revision,
}

/// Reads a page of the versions that a keyspace at `revision`, compacted to `compacted`, shows.
///
/// # Errors
/// Those of the store.
pub fn read(
    layers: &Layers,
    keyspace: KeyspaceId,
    query: HistoryQuery<'_>,
    (revision, compacted): (Revision, Revision),
) -> Result<HistoryPage, StateError> {
    let limit = if query.limit == 0 { PAGE_ITEMS_MAX } else { query.limit.min(PAGE_ITEMS_MAX) };
    let mut page = HistoryPage { versions: Vec::new(), more: false, revision, compacted };
    let mut bytes = 0;
    let mut at = query.before.map_or(revision, |before| revision.min(previous(before)));
    if at < compacted {
        // Alive is at most the version that the compacted revision shows.
        let base = layers.version_at(keyspace, query.key, compacted)?;
        if base.is_some_and(|base| base.head().revision > at) {
            return Ok(page);
        }
    }
    let mut liveness = Liveness::new(compacted);
    while at > Revision(0) {
        let Some(found) = layers.version_at(keyspace, query.key, at)? else { break };
        let head = *found.head();
        if !liveness.lives(head.revision, head.tombstone) {
            break;
        }
        let value_bytes = if query.keys_only { 0 } else { head.value_bytes as usize };
        bytes += query.key.len() + value_bytes;
        if page.versions.len() == limit || (bytes > PAGE_BYTES_MAX && !page.versions.is_empty()) {
            page.more = true;
            break;
        }
        let value = if query.keys_only { Bytes::new() } else { layers.value(&found)? };
        let item = head.item(Bytes::copy_from_slice(query.key), value);
        page.versions.push(v1::KeyVersion { item: Some(item), deleted: head.tombstone });
        if head.revision <= compacted {
            // What is older is dead, and half deleted perhaps: it is not read.
            break;
        }
        at = previous(head.revision);
    }
    Ok(page)
}

fn previous(revision: Revision) -> Revision {
    Revision(revision.get().saturating_sub(1))
}
