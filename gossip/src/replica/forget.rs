//! What a replica may drop once it has travelled far enough.

use proto::KeyspaceId;

use super::{Policy, Replica, Standing};
use crate::change::Change;
use crate::clock::Clock;
use crate::dot::Dot;
use crate::entry::Sibling;
use crate::record::EntryKey;

impl Replica {
    /// Drops the context of a stored value and raises the horizon. The value stays; it is no rumor any
    /// more. Nothing happens if there is none.
    pub fn forget_context(&mut self, key: &EntryKey, dot: Dot) -> Vec<Change> {
        let sibling = self.entry(key).and_then(|entry| entry.siblings().get(&dot));
        let Some(sibling) = sibling.filter(|s| s.is_live() && s.context.is_some()) else {
            return Vec::new();
        };
        let sibling = Sibling { context: None, ..sibling.clone() };
        let mut changes = self.raised(dot);
        changes.push(Change::Put { key: key.clone(), dot, sibling });
        self.commit(&changes);
        changes
    }

    /// Drops a certificate and raises the horizon. `is_stable` says that every member has it, and that no actor of a
    /// lost disk is left that is not retired. Nothing happens without that unless the keyspace is known to keep
    /// siblings: with `lww`, values that come later have to lose to the certificate.
    pub fn forget_certificate(&mut self, key: &EntryKey, dot: Dot, is_stable: bool) -> Vec<Change> {
        let sibling = self.entry(key).and_then(|entry| entry.siblings().get(&dot));
        let may =
            is_stable || self.keyspace(key.keyspace) == Some(Standing::Open(Policy::Siblings));
        if sibling.is_none_or(Sibling::is_live) || !may {
            return Vec::new();
        }
        let mut changes = self.raised(dot);
        changes.push(Change::Removed { key: key.clone(), dot });
        self.commit(&changes);
        changes
    }

    /// Drops everything of a keyspace that was removed. Its dots stay known, so its records are refused
    /// from now on.
    ///
    /// # Panics
    /// When the catalogue has not removed it.
    pub fn clear_keyspace(&mut self, id: KeyspaceId) -> Vec<Change> {
        assert_eq!(self.keyspace(id), Some(Standing::Removed), "keyspace {id} was not removed");
        let first = EntryKey::new(id, bytes::Bytes::new());
        let mut changes = Vec::new();
        for (key, entry) in self.state.entries_from(&first) {
            if key.keyspace != id {
                break;
            }
            let pending = Clock::default();
            changes.push(Change::Header { key: key.clone(), pending, stamp: entry.stamp() });
            let dots = entry.siblings().keys();
            changes.extend(dots.map(|dot| Change::Removed { key: key.clone(), dot: *dot }));
        }
        self.commit(&changes);
        changes
    }

    fn raised(&self, dot: Dot) -> Vec<Change> {
        if self.state.horizon().reaches(dot) {
            return Vec::new();
        }
        vec![Change::Raised { dot }]
    }
}
