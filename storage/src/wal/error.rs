//! What can be wrong with a log.

use std::io;
use std::path::{Path, PathBuf};

use proto::{GroupId, LogIndex};

/// What can be wrong with a log, by what the caller has to do.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// **Retry later.** The next segment cannot be prepared, as a rule because the disk is full.
    /// The open batch is kept and nothing is lost; the log goes on once there is room.
    #[error("no room for the next log segment {}: {source}", path.display())]
    Full {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// **Stop the node.** The system failed to read or write. After an error of
    /// [`Wal::sync`](super::Wal::sync) or [`Wal::free`](super::Wal::free) it is unknown which frames
    /// of the open batch are durable, and the log takes no more.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// **Stop the node.** An earlier call failed with [`WalError::Io`].
    #[error("the log failed before and takes no more writes")]
    Poisoned,

    /// **Repair the node from its peers.** What was once synced can no longer be read. Nothing was
    /// changed on disk.
    #[error("the log is damaged at byte {offset} of {}: {why}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the first batch that cannot be read begins; 0 for the header of the segment. If it
        /// is the disk that fails, where the first page begins that it does not give.
        offset: u64,
        /// What is wrong there.
        why: String,
    },

    /// **Fix the configuration.** The log is not for this program: of another cluster, or of a
    /// format that this version does not read. Nothing was changed on disk.
    #[error("{} is not ours: {why}", path.display())]
    Foreign {
        /// The segment.
        path: PathBuf,
        /// Whose it is.
        why: String,
    },
}

impl WalError {
    /// Adds to an error of the system what was attempted on which file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, why: why.into() }
    }
}

/// Why [`replay`](super::replay()) ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    /// **Ask for other entries, or take an export.** The log does not hold all of these.
    #[error("the log of group {group} holds the entries after {start} up to {last} only")]
    Absent {
        /// The group.
        group: GroupId,
        /// The log begins after this entry.
        start: LogIndex,
        /// Its last entry.
        last: LogIndex,
    },

    /// As for [`Wal::open`](super::Wal::open). Some entries may have been visited.
    #[error(transparent)]
    Wal(#[from] WalError),

    /// The visitor failed, at the entry that it was given last.
    #[error("an entry could not be taken")]
    Visit(#[source] E),
}
