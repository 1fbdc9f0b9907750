//! The log of a group in memory: what the library reads entries from.
//!
//! Durability is not here. The node writes the same entries to the write-ahead log, and the group
//! hears of it through [`Group::persisted`](crate::Group::persisted); until then this log is ahead
//! of the disk. Nor do the two begin at the same entry: [`MemoryLog::compact_to`] frees memory, the
//! disk is freed by exports.
//!
//! A follower that needs an entry from before the start gets a snapshot, if the node has set one
//! that helps it; see [`MemoryLog::serves`]. Until then [`MemoryLog::snapshot`] answers
//! "temporarily unavailable", upon which the library tries again at the next heartbeat.

use std::collections::VecDeque;

use proto::NodeId;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::util::entry_approximate_size;
use raft::{GetEntriesContext, RaftState, Result, Storage, StorageError};

use crate::boot::GroupLog;
use crate::membership;
use crate::snapshot::SnapshotMeta;
use crate::wire;

/// All entries of a group after the start of its log.
///
/// Invariants: `entries[i]` has index `start_index + 1 + i`; terms never fall along the log; `bytes`
/// is the size of `entries`.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    /// Read once by the library, when it starts.
    hard_state: HardState,
    /// Read once by the library, when it starts.
    conf_state: ConfState,
    /// The log begins after this index.
    start_index: u64,
    /// Term of the entry at `start_index`.
    start_term: u64,
    entries: VecDeque<Entry>,
    bytes: u64,
    /// What followers may be offered.
    snapshot: Option<SnapshotMeta>,
}

impl MemoryLog {
    /// The log as it was found on disk; `log` passed [`GroupLog::check`].
    pub(crate) fn new(log: GroupLog) -> Self {
        let hard_state = wire::hard_state_from_log(log.hard_state());
        let mut memory = Self {
            hard_state,
            conf_state: wire::conf_state_from_log(log.conf_state),
            start_index: log.start_index.get(),
            start_term: log.start_term.get(),
            entries: VecDeque::new(),
            bytes: 0,
            snapshot: None,
        };
        let entries: Option<Vec<Entry>> =
            log.entries.into_iter().map(wire::entry_from_log).collect();
        memory.append(entries.expect("a checked log holds known kinds of entries only"));
        memory
    }

    /// Appends entries; the first one replaces everything at and above its index.
    ///
    /// # Panics
    /// If the entries are not contiguous, leave a gap after the log, reach below its start, or
    /// their terms fall.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        assert!(
            self.start_index < first.index && first.index <= self.last() + 1,
            "entry {} does not fit a log of ({}, {}]",
            first.index,
            self.start_index,
            self.last(),
        );
        let mut index = first.index - 1;
        let mut term = self.term_at(index).expect("the entry before lies in the log");
        for entry in &entries {
            assert!(entry.index == index + 1, "entry {} after {index}", entry.index);
            assert!(entry.term >= term, "term {} after {term} at {}", entry.term, entry.index);
            (index, term) = (entry.index, entry.term);
        }
        let kept = self.position(first.index);
        self.bytes -= bytes(self.entries.range(kept..));
        self.bytes += bytes(&entries);
        self.entries.truncate(kept);
        self.entries.extend(entries);
    }

    /// Frees all entries up to and including `index`, in time proportional to their number. Does
    /// nothing if they are gone already.
    ///
    /// # Panics
    /// If the log ends before `index`.
    pub(crate) fn compact_to(&mut self, index: u64) {
        if index <= self.start_index {
            return;
        }
        let term = self.term_at(index).expect("the log is freed up to an entry that it holds");
        let freed = self.position(index) + 1;
        self.bytes -= bytes(self.entries.range(..freed));
        self.entries.drain(..freed);
        (self.start_index, self.start_term) = (index, term);
    }

    /// Becomes the empty log after a snapshot.
    pub(crate) fn install(&mut self, index: u64, term: u64) {
        self.entries.clear();
        self.bytes = 0;
        (self.start_index, self.start_term) = (index, term);
    }

    /// Replaces the snapshot that followers may be offered.
    pub(crate) fn set_snapshot(&mut self, snapshot: Option<SnapshotMeta>) {
        self.snapshot = snapshot;
    }

    /// The index of the snapshot at hand, whomever it serves; 0 without one.
    pub(crate) fn snapshot_index(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index.get())
    }

    /// Whether the snapshot at hand helps a node that needs one: the log goes on from it, it is at
    /// or above `at_least`, and the node is among its members. Without the last a node could not
    /// tell who its members are, and the library ignores the snapshot.
    pub(crate) fn serves(&self, to: NodeId, at_least: u64) -> Option<&SnapshotMeta> {
        let reaches = |meta: &&SnapshotMeta| {
            let index = meta.index.get();
            (at_least.max(self.start_index)..=self.last()).contains(&index)
        };
        self.snapshot
            .as_ref()
            .filter(reaches)
            .filter(|meta| membership::lists(&meta.conf_state, to))
    }

    /// The log begins after this index.
    pub(crate) fn start(&self) -> u64 {
        self.start_index
    }

    /// Size of the entries, as the library counts it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn last(&self) -> u64 {
        self.start_index + self.entries.len() as u64
    }

    /// Where the entry of an index above `start_index` is or would be.
    fn position(&self, index: u64) -> usize {
        usize::try_from(index - self.start_index - 1).expect("a log in memory fits the memory")
    }

    fn term_at(&self, index: u64) -> std::result::Result<u64, StorageError> {
        if index < self.start_index {
            Err(StorageError::Compacted)
        } else if index == self.start_index {
            Ok(self.start_term)
        } else {
            let entry = self.entries.get(self.position(index));
            entry.map(|entry| entry.term).ok_or(StorageError::Unavailable)
        }
    }
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    /// The entries of `[low, high)` up to `max_size` bytes, but at least one. The rest is not
    /// touched, so a follower far behind costs no more than one message.
    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.start_index {
            return Err(StorageError::Compacted.into());
        }
        assert!(low <= high, "entries of [{low}, {high})");
        assert!(high <= self.last() + 1, "entries up to {high} of a log up to {}", self.last());
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0_u64;
        let mut taken = Vec::new();
        for entry in self.entries.range(self.position(low)..self.position(high)) {
            bytes = bytes.saturating_add(entry_approximate_size(entry) as u64);
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> Result<u64> {
        Ok(self.term_at(index)?)
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.start_index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        match self.serves(NodeId(to), request_index) {
            Some(meta) => Ok(wire::snapshot_from_meta(meta)),
            None => Err(StorageError::SnapshotTemporarilyUnavailable.into()),
        }
    }
}

fn bytes<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> u64 {
    entries.into_iter().map(|entry| entry_approximate_size(entry) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proto::{LogIndex, Term};
    use raft::Error;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, ..Default::default() }
    }

    fn log(start: (u64, u64), entries: &[(u64, u64)]) -> MemoryLog {
        let mut log = MemoryLog::new(GroupLog {
            start_index: LogIndex(start.0),
            start_term: Term(start.1),
            ..Default::default()
        });
        log.append(entries.iter().map(|&(index, term)| entry(index, term)).collect());
        log
    }

    fn held(log: &MemoryLog, low: u64, high: u64, bytes: Option<u64>) -> Vec<(u64, u64)> {
        let entries = log.entries(low, high, bytes, GetEntriesContext::empty(false)).unwrap();
        entries.iter().map(|entry| (entry.index, entry.term)).collect()
    }

    #[test]
    fn an_append_replaces_what_is_at_and_above_its_first_index() {
        let mut log = log((4, 1), &[(5, 1), (6, 2), (7, 2)]);
        log.append(vec![entry(6, 3)]);
        assert_eq!(held(&log, 5, 7, None), [(5, 1), (6, 3)]);
        assert_eq!((log.first_index().unwrap(), log.last_index().unwrap()), (5, 6));
        log.append(vec![]);
        assert_eq!(log.last_index().unwrap(), 6);
    }

    #[test]
    fn terms_are_known_from_the_start_to_the_end() {
        let log = log((4, 1), &[(5, 1), (6, 2)]);
        assert_eq!(log.term(3), Err(Error::Store(StorageError::Compacted)));
        assert_eq!(log.term(4), Ok(1));
        assert_eq!(log.term(6), Ok(2));
        assert_eq!(log.term(7), Err(Error::Store(StorageError::Unavailable)));
    }

    #[test]
    fn reading_stops_at_the_size_but_gives_at_least_one_entry() {
        let mut log = log((0, 0), &[]);
        let large = |index| Entry { data: Bytes::from(vec![0; 100]), ..entry(index, 1) };
        log.append((1..=4).map(large).collect());
        assert_eq!(held(&log, 1, 5, None).len(), 4);
        assert_eq!(held(&log, 1, 5, Some(224)).len(), 2);
        assert_eq!(held(&log, 1, 5, Some(223)).len(), 1);
        assert_eq!(held(&log, 2, 5, Some(0)), [(2, 1)]);
        assert_eq!(held(&log, 3, 3, None), []);
    }

    #[test]
    fn reading_below_the_start_says_that_it_is_gone() {
        let log = log((4, 1), &[(5, 1)]);
        let read = log.entries(4, 6, None, GetEntriesContext::empty(false));
        assert_eq!(read, Err(Error::Store(StorageError::Compacted)));
        let snapshot = log.snapshot(0, 2);
        let unavailable = StorageError::SnapshotTemporarilyUnavailable;
        assert_eq!(snapshot, Err(Error::Store(unavailable)));
    }

    #[test]
    fn freeing_keeps_the_term_of_the_last_freed_entry() {
        let mut log = log((4, 1), &[(5, 1), (6, 2), (7, 3)]);
        let before = log.bytes();
        log.compact_to(6);
        assert_eq!((log.first_index().unwrap(), log.last_index().unwrap()), (7, 7));
        assert_eq!((log.term(6), log.term(7)), (Ok(2), Ok(3)));
        assert_eq!(log.term(5), Err(Error::Store(StorageError::Compacted)));
        assert_eq!(log.bytes() * 3, before);
        log.compact_to(5);
        assert_eq!(log.start(), 6);
        log.append(vec![entry(7, 4), entry(8, 4)]);
        assert_eq!(log.bytes() * 3, before * 2);
        log.compact_to(8);
        assert_eq!((log.bytes(), log.last_index().unwrap(), log.term(8)), (0, 8, Ok(4)));
        log.install(20, 5);
        assert_eq!((log.start(), log.last_index().unwrap(), log.term(20)), (20, 20, Ok(5)));
        log.append(vec![entry(21, 5)]);
        assert_eq!(held(&log, 21, 22, None), [(21, 5)]);
    }

    #[test]
    fn a_snapshot_is_offered_only_to_whom_it_helps() {
        let mut log = log((4, 1), &[(5, 1), (6, 1)]);
        let unavailable = Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        let conf_state = proto::log::ConfState { voters: vec![1, 2], ..Default::default() };
        let meta = |index| SnapshotMeta {
            index: LogIndex(index),
            term: Term(1),
            conf_state: conf_state.clone(),
            change: 7,
        };
        for (index, offered) in [(3, false), (4, true), (6, true), (7, false)] {
            log.set_snapshot(Some(meta(index)));
            assert_eq!(log.snapshot(0, 2).is_ok(), offered, "{index}");
            assert_eq!(log.snapshot(0, 3), unavailable, "node 3 is no member");
        }
        log.set_snapshot(Some(meta(5)));
        assert_eq!(log.snapshot(6, 2), unavailable);
        let snapshot = log.snapshot(5, 2).unwrap();
        assert_eq!(wire::meta_from_snapshot(snapshot), Some(meta(5)));
        log.set_snapshot(None);
        assert_eq!(log.snapshot(0, 2), unavailable);
    }

    #[test]
    #[should_panic(expected = "an entry that it holds")]
    fn freeing_beyond_the_end_is_a_panic() {
        log((4, 1), &[(5, 1)]).compact_to(6);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_gap_is_a_panic() {
        log((0, 0), &[(1, 1)]).append(vec![entry(3, 1)]);
    }

    #[test]
    #[should_panic(expected = "entry 4 after 2")]
    fn entries_that_skip_an_index_are_a_panic() {
        log((0, 0), &[(1, 1)]).append(vec![entry(2, 1), entry(4, 1)]);
    }

    #[test]
    #[should_panic(expected = "term 1 after 2")]
    fn a_falling_term_is_a_panic() {
        log((0, 0), &[(1, 2)]).append(vec![entry(2, 1)]);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn replacing_what_is_before_the_start_is_a_panic() {
        log((4, 1), &[(5, 1)]).append(vec![entry(4, 1)]);
    }
}
