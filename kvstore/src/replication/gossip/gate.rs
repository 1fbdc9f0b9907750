//! Whether a replica knows enough to answer reads.

use bytes::Bytes;
use gossip::group::Group;
use proto::log;

/// The item that says that the replica is recovering.
const KEY: &[u8] = b"R";

/// Closed from the beginning of a directory in which something may be missing until every other member has brought
/// it up once. Durable: a restart does not open it.
///
/// What a damaged replica left behind without its context is written anew before, if nobody knows of it.
///
/// A replica that has only met some would miss writes that a majority has, of which it was one: those that it lost.
#[derive(Debug)]
pub(super) struct Gate {
    is_open: bool,
    /// What is stored says the same.
    is_stored: bool,
}

impl Gate {
    pub(super) const fn open() -> Self {
        Self { is_open: true, is_stored: true }
    }

    /// Closed; whether that is stored already does no harm to store again.
    pub(super) const fn closed() -> Self {
        Self { is_open: false, is_stored: false }
    }

    /// Whether this is the gate's item.
    pub(super) fn owns(key: &[u8]) -> bool {
        key == KEY
    }

    pub(super) const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Opens the gate if it is time to, and says what is to be stored.
    pub(super) fn take_items(&mut self, group: &Group) -> Option<log::Item> {
        if !self.is_open && group.is_whole() {
            tracing::info!("every other member has brought this replica up: it answers reads");
            self.is_open = true;
            self.is_stored = false;
        }
        if std::mem::replace(&mut self.is_stored, true) {
            return None;
        }
        let value = (!self.is_open).then(Bytes::new);
        Some(log::Item { key: Bytes::from_static(KEY), value })
    }
}
