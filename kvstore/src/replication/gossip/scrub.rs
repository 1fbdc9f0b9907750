//! The scrub of what is stored: once a day every item that is in memory is looked for in the store.
//!
//! What the store has lost is put again, if what is in memory is whole. Where the two contradict each other nothing is put:
//! the replica is damaged and begins again with what is stored (`mending.rs`), for that has checksums. One tick reads no
//! more than [`SCRUBBED_ENTRIES`] entries and about [`SCRUBBED_BYTES`] bytes; the first one also all that is of no entry.

use bytes::Bytes;
use gossip::Dot;
use gossip::group::SCRUB_MS;
use gossip::items::{Item, StoreHas};
use gossip::record::EntryKey;
use gossip::replica::Replica;
use storage::state::StateError;

use super::{Serving, TICK_MS};
use crate::node::Ticks;
use crate::replication::own_log::OwnLog;

/// Ticks from the end of one scrub of the store, or from a start, to the next: as for the scrub of memory.
pub(super) const SCRUB_TICKS: u64 = SCRUB_MS / TICK_MS;

/// Entries that one tick reads at most: some hundred microseconds.
const SCRUBBED_ENTRIES: usize = 16;

/// Bytes that one tick reads, about.
const SCRUBBED_BYTES: usize = 256 * 1024;

/// How far the scrub of the store is.
#[derive(Debug, Default)]
pub(super) struct StoreScrub {
    /// When the next one begins.
    due: Option<Ticks>,
    /// What it goes on with.
    next: Option<Next>,
    /// What was read since it began.
    items: u64,
    mended: u64,
}

/// Where a scrub goes on.
#[derive(Debug)]
enum Next {
    /// With a write that waits, or with the first one.
    Kept(Option<(EntryKey, Dot)>),
    Entry(EntryKey),
}

impl Next {
    /// The items of one entry, or write, and where to go on.
    fn items(self, replica: &Replica) -> (Vec<Item>, Option<Self>) {
        match self {
            Self::Kept(from) => {
                let (items, behind) = replica.items_of_kept(from, 1);
                let entries = || Self::Entry(EntryKey::lowest());
                (items, Some(behind.map_or_else(entries, |at| Self::Kept(Some(at)))))
            }
            Self::Entry(from) => {
                let (items, behind) = replica.items_from(&from, 1);
                (items, behind.map(Self::Entry))
            }
        }
    }
}

impl StoreScrub {
    /// Begins one with the next tick, unless one runs.
    #[cfg(test)]
    pub(super) fn begin(&mut self) {
        self.due = Some(Ticks(0));
    }
}

impl Serving {
    /// Takes a step, if a scrub runs or is due.
    ///
    /// # Errors
    /// Those of the store, which has to be built anew.
    pub(super) fn scrub_store(&mut self, own: &OwnLog, now: Ticks) -> Result<(), StateError> {
        let due = *self.scrub.due.get_or_insert(Ticks(now.0 + SCRUB_TICKS));
        let mut next = match self.scrub.next.take() {
            Some(next) => Some(next),
            None if now < due => return Ok(()),
            None => {
                (self.scrub.items, self.scrub.mended) = (0, 0);
                self.compare(own, self.group.replica().items_of_no_entry())?;
                Some(Next::Kept(None))
            }
        };
        let mut read = 0;
        for _ in 0..SCRUBBED_ENTRIES {
            let Some(from) = next.take() else { break };
            let (items, behind) = from.items(self.group.replica());
            read +=
                items.iter().filter_map(|item| item.value.as_ref()).map(Bytes::len).sum::<usize>();
            self.compare(own, items)?;
            next = behind;
            if read > SCRUBBED_BYTES {
                break;
            }
        }
        if next.is_none() {
            let (items, mended) = (self.scrub.items, self.scrub.mended);
            tracing::info!(
                items,
                mended,
                "the store of the eventual keyspaces was read and compared"
            );
            self.scrub.due = Some(Ticks(now.0 + SCRUB_TICKS));
            self.group.count_store_scrub();
        }
        self.scrub.next = next;
        Ok(())
    }

    /// Compares items with what is stored.
    fn compare(&mut self, own: &OwnLog, items: Vec<Item>) -> Result<(), StateError> {
        for item in items {
            self.scrub.items += 1;
            let found = own.item(&item.key)?;
            let has = self.group.replica().compare(&item, found.as_ref());
            // What has changed since the last entry that is applied, the store cannot have.
            if has == StoreHas::Same
                || self.group.replica().has_changed(&item.key)
                || own.is_waiting(&item.key)
            {
                continue;
            }
            if has == StoreHas::Other {
                tracing::error!(item = ?item.key, "the store has another item of the eventual keyspaces than memory");
                self.group.contradicted(&item.key);
                continue;
            }
            tracing::error!(item = ?item.key, "the store has lost an item of the eventual keyspaces: it is put again");
            self.scrub.mended += 1;
            self.group.store_again(&item.key);
        }
        Ok(())
    }
}
