//! What a replica may drop once it has travelled far enough.

use proto::KeyspaceId;

use super::{Policy, Replica, Stable, Standing};
use crate::change::Change;
use crate::clock::Clock;
use crate::dot::Dot;
use crate::entry::Sibling;
use crate::hlc::Stamp;
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

    /// Drops a certificate and raises the horizon. In a keyspace that is known to keep siblings at any age. In all
    /// others only where the certificate is stable and the wall time has passed its stamp: with `lww`, values that come
    /// later have to lose to it, and so must what is written after it is gone.
    pub fn forget_certificate(&mut self, key: &EntryKey, dot: Dot, stable: &Stable) -> Vec<Change> {
        let Some(mut changes) = self.may_go(key, dot, stable) else { return Vec::new() };
        changes.push(Change::Removed { key: key.clone(), dot });
        self.commit(&changes);
        changes
    }

    /// What has to be remembered of a certificate that leaves the stream; `None` if it may not, or is none.
    pub(super) fn may_go(&self, key: &EntryKey, dot: Dot, stable: &Stable) -> Option<Vec<Change>> {
        let sibling = self.entry(key).and_then(|entry| entry.siblings().get(&dot));
        let sibling = sibling.filter(|sibling| !sibling.is_live())?;
        let has_passed = sibling.stamp <= Stamp::at_ms(self.wall_ms);
        let may = match self.keyspace(key.keyspace) {
            Some(Standing::Open(Policy::Siblings)) => true,
            Some(Standing::Open(Policy::Lww) | Standing::Removed) | None => {
                stable.reaches(dot) && has_passed
            }
        };
        let mut changes = self.raised(dot);
        changes.extend(self.stamped(sibling.stamp));
        may.then_some(changes)
    }

    /// Drops everything of so many keys of a keyspace that was removed; nothing is changed once nothing is left. Their
    /// dots stay known, so its records are refused from now on. A keyspace may be large, so this is many batches.
    ///
    /// # Panics
    /// When the catalogue has not removed it.
    pub fn clear_keyspace(&mut self, id: KeyspaceId, keys_max: usize) -> Vec<Change> {
        assert_eq!(self.keyspace(id), Some(Standing::Removed), "keyspace {id} was not removed");
        let first = EntryKey::new(id, bytes::Bytes::new());
        let mut changes = Vec::new();
        for (key, entry) in self.state.entries_from(&first).take(keys_max) {
            if key.keyspace != id {
                break;
            }
            let pending = Clock::default();
            changes.push(Change::Header { key: key.clone(), pending, stamp: entry.stamp() });
            let dots = entry.siblings().keys().chain(entry.dormant().keys());
            changes.extend(dots.map(|dot| Change::Removed { key: key.clone(), dot: *dot }));
        }
        self.commit(&changes);
        changes
    }

    pub(super) fn raised(&self, dot: Dot) -> Vec<Change> {
        if self.state.horizon().reaches(dot) {
            return Vec::new();
        }
        vec![Change::Raised { dot }]
    }
}
