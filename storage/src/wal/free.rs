//! Freeing segments that no group needs any more.
//!
//! A segment is needed for its entries only: whatever else it says, each later segment says at its
//! head. So it can go once all its entries lie at or below where the log of their group begins,
//! by a state that is synced, and so stands in a later segment or is repeated there.
//!
//! Segments go one by one, the oldest first, and the directory is synced after each, so that at no
//! time one is missing between others. A few of the files are kept under another name, for the
//! segments to come: they have their blocks already, also on a full disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proto::{GroupId, log};

use super::RECYCLED_MAX;
use super::error::WalError;
use super::prepare::Freed;
use super::segment::{Segment, freed_path_of};
use super::writer::Wal;

/// A segment before the current one.
#[derive(Debug)]
pub(super) struct Older {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// Length of the file.
    pub(super) bytes: u64,
    /// Highest index of the entries of each group that has some here.
    pub(super) highest: BTreeMap<GroupId, u64>,
}

/// Raises the highest index of a group.
pub(super) fn raise(highest: &mut BTreeMap<GroupId, u64>, group: GroupId, index: u64) {
    let highest = highest.entry(group).or_default();
    *highest = index.max(*highest);
}

impl Older {
    /// A segment that is written no more.
    pub(super) fn of(segment: Segment) -> Self {
        let Segment { number, path, bytes, highest, .. } = segment;
        Self { number, path, bytes, highest }
    }

    /// Whether groups in these states can do without it.
    fn is_unneeded(&self, groups: &BTreeMap<GroupId, log::GroupState>) -> bool {
        self.highest.iter().all(|(group, highest)| {
            let state = groups.get(group).expect("a group with entries has a state");
            *highest <= state.start_index
        })
    }
}

impl Wal {
    /// Frees the oldest segments all of whose entries lie at or below where the logs of their
    /// groups durably begin. The current segment always stays. Returns the length of the segments
    /// freed; up to [`RECYCLED_MAX`] of their files are kept for the next segments.
    ///
    /// A crash inside leaves the log as it was, or without some of these segments.
    ///
    /// # Errors
    /// [`WalError::Io`]: the log is poisoned. What it held is still there.
    /// [`WalError::Poisoned`]: it was poisoned before.
    pub fn free(&mut self) -> Result<u64, WalError> {
        self.check_poison()?;
        let mut bytes = 0;
        while let Some(oldest) = self.older.front() {
            if !oldest.is_unneeded(&self.written) {
                break;
            }
            let oldest = self.older.pop_front().expect("there is an oldest segment");
            bytes += oldest.bytes;
            if let Err(error) = self.free_segment(&oldest) {
                self.poisoned = true;
                return Err(error);
            }
        }
        Ok(bytes)
    }

    fn free_segment(&mut self, segment: &Older) -> Result<(), WalError> {
        let keep = self.freed.len() < RECYCLED_MAX && segment.bytes == self.options.segment_bytes;
        let freed = freed_path_of(&self.dir, segment.number);
        let gone = if keep {
            self.disk.rename(&segment.path, &freed)
        } else {
            self.disk.remove_file(&segment.path)
        };
        gone.and_then(|()| self.disk.sync_dir(&self.dir))
            .map_err(WalError::io("free", &segment.path))?;
        if keep {
            self.freed.push(Freed { path: freed, bytes: segment.bytes });
        }
        Ok(())
    }
}
