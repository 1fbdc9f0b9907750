//! The log of what a node remembers by itself: group 2 of its write-ahead log.
//!
//! Raft groups remember through their entries. A replica of eventual keyspaces has nobody to agree with: what
//! it puts and removes are entries of this node alone, numbered without gaps, all of term 1. An entry is
//! committed when it is durable, that is when its append was synced; only then is it applied, so nobody
//! reads what a loss of power may take back.
//!
//! 1. [`OwnLog::append`] leaves a frame in the outbox of this poll, which asks for a sync.
//! 2. [`OwnLog::durable`] applies what the sync has covered to a [`Machine`] that keeps no history.
//! 3. Checkpoints, exports, renewals and the freeing of the log are the node's, as for a data group.
//!
//! What is put together takes effect together. It may be too long for one entry of the log; then all of its
//! entries but the last one say that more follows. A start drops entries at the end of the log whose last
//! one is missing, and the next append takes their place.
//!
//! # How it begins
//!
//! A log that knows nothing of group 2 is that of a node that has just formed or joined a cluster, that was
//! of a version before, or whose log was damaged and replaced. [`DataFiles::open`](crate::durable::DataFiles)
//! finds out, and the first frame of the node begins the group with nothing in it.

mod items;
#[cfg(test)]
mod tests;

pub use items::Items;

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use proto::log::frame::Body;
use proto::{GroupId, LogIndex, Term, log};
use storage::mvcc::Machine;
use storage::state::StateError;
use storage::wal::RecoveredGroup;

use super::Outbox;
use super::raft::command_of;
use crate::node::Ticket;

/// Term of all entries: nobody is elected.
const TERM: Term = Term(1);

/// What an entry takes besides its items, and an item besides key and value, at most.
const OVERHEAD_BYTES: usize = 32;

/// What a node's own log begins with at a start.
#[derive(Debug)]
pub struct OwnStart {
    /// The state as of its last checkpoint.
    pub machine: Machine,
    /// What the log holds; where it knew nothing of the group, what the group is to begin with.
    pub group: RecoveredGroup,
    /// The log knows nothing of the group yet, or what it knew is of no use any more.
    pub begins: bool,
}

/// A node's own log with its state.
///
/// Invariants:
/// 1. `machine.applied() < pending[0].index`, and the indexes of `pending` follow each other up to `last`.
/// 2. Only what is durable is applied, and the entries of one call of [`OwnLog::append`] together.
#[derive(Debug)]
pub struct OwnLog {
    machine: Machine,
    /// Directory of the state below `state/`.
    state_dir: String,
    /// Index of the newest entry, durable or not.
    last: LogIndex,
    /// Entries that are not applied, with the append that holds them.
    pending: VecDeque<(Ticket, log::Entry)>,
    entry_bytes: usize,
    read_only: bool,
    overloaded: bool,
}

impl OwnLog {
    /// The log as it was recovered. The entries behind the checkpoint are durable, and are applied by the
    /// first [`OwnLog::durable`], of whatever ticket. Where the group [begins](OwnStart::begins) the frame
    /// for that is appended. Items of more than `entry_bytes` are divided among entries.
    ///
    /// # Panics
    /// When the state lacks entries that the log does not hold.
    #[must_use]
    pub fn new(start: OwnStart, entry_bytes: usize, out: &mut Outbox) -> Self {
        let OwnStart { machine, group, begins } = start;
        if begins {
            out.append(GroupId::EVENTUAL, Body::GroupState(first_state(&group)));
            out.sync = true;
        }
        let applied = machine.applied();
        let whole = group.entries.iter().rposition(|entry| !has_more(entry)).map_or(0, |n| n + 1);
        let behind = group.entries.into_iter().take(whole);
        let behind = behind.filter(|entry| entry.index > applied.get());
        let pending: VecDeque<_> = behind.map(|entry| (Ticket(0), entry)).collect();
        if let Some((_, first)) = pending.front() {
            let index = first.index;
            assert!(index == applied.next().get(), "entry {index} follows a state at {applied}");
        }
        let last = pending.back().map_or(applied, |(_, entry)| LogIndex(entry.index));
        let state_dir = group.state_dir;
        Self { machine, state_dir, last, pending, entry_bytes, read_only: false, overloaded: false }
    }

    /// Puts and removes items, all of them together; of items with the same key the last one counts.
    /// Returns the index that [`OwnLog::applied`] reaches once they are durable and applied. Without items
    /// nothing is appended.
    ///
    /// To be called while the log [takes](OwnLog::takes) items: what is appended to a full disk stays in
    /// memory until there is room.
    ///
    /// # Panics
    /// When an item is larger than [`proto::limits::check_item`] allows.
    pub fn append(&mut self, items: Vec<log::Item>, out: &mut Outbox) -> LogIndex {
        if items.is_empty() {
            return self.last;
        }
        let mut entries = Vec::new();
        let mut left = items.into_iter().peekable();
        while left.peek().is_some() {
            let (mut items, mut room) = (Vec::new(), self.entry_bytes);
            while let Some(item) = left.peek() {
                let bytes = bytes_of(item);
                if bytes > room && !items.is_empty() {
                    break;
                }
                room = room.saturating_sub(bytes);
                items.extend(left.next());
            }
            entries.push(self.entry(log::PutItems { items, more: left.peek().is_some() }));
        }
        self.pending.extend(entries.iter().map(|entry| (out.ticket, entry.clone())));
        out.append(GroupId::EVENTUAL, Body::Entries(log::Entries { entries }));
        out.sync = true;
        self.last
    }

    /// The next entry of the log.
    fn entry(&mut self, put: log::PutItems) -> log::Entry {
        for item in &put.items {
            let checked = proto::limits::check_item(item);
            assert!(checked.is_ok(), "an item is kept within the limits: {checked:?}");
        }
        self.last = self.last.next();
        let command = log::Command { body: Some(log::command::Body::PutItems(put)) };
        log::Entry {
            term: TERM.get(),
            index: self.last.get(),
            data: command.encode_to_vec().into(),
            ..log::Entry::default()
        }
    }

    /// The log is durable up to and including this append: what it covers is committed, and is applied.
    ///
    /// # Errors
    /// Those of the state store; the node must end, and the next start builds the state anew.
    pub fn durable(&mut self, ticket: Ticket) -> Result<(), StateError> {
        while self.pending.front().is_some_and(|(waits, _)| *waits <= ticket) {
            let Some((_, entry)) = self.pending.pop_front() else { break };
            let command = command_of(&entry);
            let outcome = self.machine.apply(LogIndex(entry.index), TERM, command.as_ref())?;
            let refused = outcome.map_or(0, |outcome| outcome.refused);
            assert!(refused == 0, "entry {} was refused with KV{refused}", entry.index);
        }
        Ok(())
    }

    /// Everything up to here is durable, and in the state.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.machine.applied()
    }

    /// Index of the newest entry, durable or not.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// The items as applied, in the order of their keys. For a start: takes a search for each page, and
    /// reads all of the store.
    #[must_use]
    pub fn items(&self) -> Items<'_> {
        Items::new(&self.machine)
    }

    /// One item as applied; `None` where there is none.
    ///
    /// # Errors
    /// Those of the state store.
    pub fn item(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        items::one(&self.machine, key)
    }

    /// Whether an item was appended that is not applied yet. Decodes all that waits.
    #[must_use]
    pub fn is_waiting(&self, key: &[u8]) -> bool {
        self.pending.iter().any(|(_, entry)| {
            match command_of(entry).and_then(|command| command.body) {
                Some(log::command::Body::PutItems(put)) => {
                    put.items.iter().any(|item| item.key == key)
                }
                _ => false,
            }
        })
    }

    /// The state.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The state, for what is not an entry: checkpoints, exports, renewals.
    pub fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Name of the directory that holds the state.
    #[must_use]
    pub fn state_dir(&self) -> &str {
        &self.state_dir
    }

    /// The state lies in this directory now. Returns the name of the one before.
    pub fn move_state(&mut self, dir: String) -> String {
        std::mem::replace(&mut self.state_dir, dir)
    }

    /// The disk is full, or not any more.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// Log or memory has outgrown its bound, or not any more.
    pub fn set_overloaded(&mut self, overloaded: bool) {
        self.overloaded = overloaded;
    }

    /// The disk has no room for the log.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Exports and checkpoints do not keep up.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// Whether items may be appended: there is room on the disk, and exports and checkpoints keep up.
    #[must_use]
    pub fn takes(&self) -> bool {
        !(self.read_only || self.overloaded)
    }
}

/// What a group without entries behind `start_index` begins with in the log.
fn first_state(group: &RecoveredGroup) -> log::GroupState {
    let (index, term) = (group.start_index.get(), group.start_term.get());
    log::GroupState {
        hard_state: Some(log::HardState { term: TERM.get(), vote: 0, commit: index }),
        start_index: index,
        start_term: term,
        state_dir: group.state_dir.clone(),
        checkpoint: group.checkpoint.get(),
        last_index: index,
        last_term: term,
        ..log::GroupState::default()
    }
}

/// Whether the next entry belongs to this one.
fn has_more(entry: &log::Entry) -> bool {
    let body = command_of(entry).and_then(|command| command.body);
    matches!(body, Some(log::command::Body::PutItems(put)) if put.more)
}

fn bytes_of(item: &log::Item) -> usize {
    item.key.len() + item.value.as_ref().map_or(0, Bytes::len) + OVERHEAD_BYTES
}
