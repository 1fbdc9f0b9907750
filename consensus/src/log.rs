//! The log of a group in memory: what the library reads entries from.
//!
//! Durability is not here. The node writes the same entries to the write-ahead log, and the group
//! hears of it through [`Group::persisted`](crate::Group::persisted); until then this log is ahead
//! of the disk.
//!
//! The log keeps every entry after its start: nothing frees entries yet, and no snapshots are sent.
//! A follower that is behind the start gets nothing, because [`MemoryLog::snapshot`] answers
//! "temporarily unavailable", upon which the leader tries again later.

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::util::entry_approximate_size;
use raft::{GetEntriesContext, RaftState, Result, Storage, StorageError};

use crate::boot::GroupLog;
use crate::wire;

/// All entries of a group after the start of its log.
///
/// Invariants: `entries[i]` has index `start_index + 1 + i`; terms never fall along the log.
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
    entries: Vec<Entry>,
}

impl MemoryLog {
    /// The log as it was found on disk; `log` passed [`GroupLog::check`].
    pub(crate) fn new(log: GroupLog) -> Self {
        let mut hard_state = wire::hard_state_from_log(log.hard_state);
        hard_state.commit = log.commit().get();
        let mut memory = Self {
            hard_state,
            conf_state: wire::conf_state_from_log(log.conf_state),
            start_index: log.start_index.get(),
            start_term: log.start_term.get(),
            entries: Vec::new(),
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
        self.entries.truncate(self.position(first.index));
        self.entries.extend(entries);
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
        for entry in &self.entries[self.position(low)..self.position(high)] {
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

    fn snapshot(&self, _request_index: u64, _to: u64) -> Result<Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
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
