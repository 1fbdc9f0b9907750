//! A replica that was damaged and begins with nothing takes back what could be read of it.
//!
//! What has its context is applied like any record. What has not waits beside the replica until every other member has
//! brought it up: only then it is known that nobody has the write or what superseded it, and it is written anew.

use std::collections::BTreeMap;

use super::{Replica, Standing};
use crate::change::Change;
use crate::clock::Fold;
use crate::dot::Dot;
use crate::entry::Sibling;
use crate::items::Salvaged;
use crate::record::{EntryKey, Record};
use crate::tree::Leaf;

/// Writes that wait beside a replica, by their keys and dots. Nobody is told of them. In place of its context each has
/// what it is to be written over, itself among it; one whose keyspace was not known yet has its context.
pub type Kept = BTreeMap<(EntryKey, Dot), Record>;

impl Replica {
    /// What can be read of this replica, to begin anew with. Values without a context are to be written over all that was
    /// known of their keys, where nothing of the leaf is missing.
    #[must_use]
    pub fn salvage(&self) -> Salvaged {
        let missing = self.state.missing();
        let folds = self.state.folds().iter().copied().collect();
        let mut salvaged = Salvaged { folds, ..Salvaged::default() };
        for record in self.kept.values() {
            salvaged.take_kept(record.clone());
        }
        for (key, entry) in self.state.entries() {
            let has_bare = entry.live().any(|(_, sibling)| sibling.context.is_none());
            let is_whole = || !missing.contains(key) && self.verify(key) == Leaf::Sound;
            let known = (has_bare && is_whole()).then(|| self.state.effective(key));
            salvaged.take_entry(key, entry, |_| true, known.as_ref());
        }
        salvaged
    }

    /// Takes back what was read of the replica that was here before. Answers what is to be spread: writes of this
    /// replica that follow, in `lww` keyspaces.
    ///
    /// # Panics
    /// Before the first [`Replica::mint`].
    pub fn take_back(&mut self, salvaged: Salvaged) -> Vec<Record> {
        let mut collapses = Vec::new();
        for fold in salvaged.folds {
            let contradicts = |known: Option<&Fold>| known.is_some_and(|known| *known != fold);
            let folds = self.state.folds();
            if !contradicts(folds.get(fold.number)) && !contradicts(folds.of_actor(&fold.actor)) {
                let _ = self.fold(fold);
            }
        }
        for record in salvaged.records.into_values() {
            match self.apply(&record) {
                Ok(applied) => collapses.extend(applied.collapse),
                Err(_) => self.keep(record),
            }
        }
        for record in salvaged.bare.into_values() {
            self.keep(record);
        }
        collapses
    }

    fn keep(&mut self, record: Record) {
        let key = record.key.clone();
        if self.kept.insert((key.clone(), record.dot), record.clone()).is_none() {
            self.dirty.note_kept(&key, record.dot, true);
            self.position = self.position.next();
        }
    }

    /// What waits.
    #[must_use]
    pub const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Settles up to `count` writes that wait: those that are known by now are let go, the others are written anew, at
    /// their old places. Only once every other member has brought this replica up since it began. Answers what is to
    /// be spread.
    ///
    /// # Panics
    /// Before the first [`Replica::mint`].
    pub fn settle_kept(&mut self, count: usize) -> Vec<Record> {
        let is_told = |key: &EntryKey| self.keyspaces.contains_key(&key.keyspace);
        let due = self.kept.keys().filter(|(key, _)| is_told(key));
        let due: Vec<(EntryKey, Dot)> = due.take(count).cloned().collect();
        let mut spread = Vec::new();
        for (key, dot) in due {
            let (records, _) = self.settle_one(&key, dot);
            spread.extend(records);
        }
        spread
    }

    /// Settles one write that waits: what is to be spread, itself first if it was written anew, and what changed.
    pub(crate) fn settle_one(&mut self, key: &EntryKey, dot: Dot) -> (Vec<Record>, Vec<Change>) {
        let Some(kept) = self.kept.remove(&(key.clone(), dot)) else {
            return (Vec::new(), Vec::new());
        };
        self.dirty.note_kept(key, dot, false);
        self.position = self.position.next();
        let Some(Standing::Open(policy)) = self.keyspace(key.keyspace) else {
            return (Vec::new(), Vec::new());
        };
        if !kept.context.contains(dot) {
            // It has its context: a record like any. Nothing but the keyspace had to be known.
            return match self.apply(&kept) {
                Ok(applied) => (applied.collapse.into_iter().collect(), applied.changes),
                Err(_) => {
                    self.keep(kept);
                    (Vec::new(), Vec::new())
                }
            };
        }
        if self.state.knows(key, dot) {
            return (Vec::new(), Vec::new());
        }
        let (record, mut changes) = self.issue(Record { dot: self.next_dot(), ..kept });
        let collapse = self.collapse_if(policy, key, &mut changes);
        (std::iter::once(record).chain(collapse).collect(), changes)
    }

    /// What a disk does that loses a write.
    pub(crate) fn lose(&mut self, key: &EntryKey, dot: Dot) -> Sibling {
        self.state.lose(key, dot)
    }

    /// What a disk does that loses what was pending for a key.
    pub(crate) fn lose_pending(&mut self, key: &EntryKey) {
        self.state.lose_pending(key);
    }

    /// Puts back a write that was lost, and removes it as one that was superseded since.
    pub(crate) fn find_superseded(
        &mut self,
        key: &EntryKey,
        dot: Dot,
        sibling: Sibling,
    ) -> Vec<Change> {
        self.state.find(key, dot, sibling);
        let changes = vec![Change::Removed { key: key.clone(), dot }];
        self.commit(&changes);
        changes
    }
}
