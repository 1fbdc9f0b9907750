//! What can be wrong with an export.

use std::io;
use std::path::{Path, PathBuf};

/// What can be wrong with an export, by what the caller has to do.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// **Retry later.** The disk is full. What was written of the export is of no use; a
    /// [`PartFile`](super::PartFile) that was being written to goes on once there is room.
    #[error("no room for the export {}: {source}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// **Give this file up**; what it was to replace is as it was. The system failed to read or
    /// write, or the file is absent.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// **Take another export.** What the file holds is not what was written. Nothing was changed on
    /// disk.
    #[error("the export {} is damaged at byte {offset}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the part that cannot be read begins.
        offset: u64,
        /// What is wrong there.
        why: String,
    },

    /// **Use a newer program.** The file is whole, and a newer version wrote it.
    #[error(
        "the export {} has format {found}; this version reads up to {known}: use the version that \
         wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Format of the file.
        found: u32,
        /// Newest format that this version reads.
        known: u32,
    },
}

impl ExportError {
    /// Adds to an error of the system what was attempted on which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, why: why.into() }
    }
}
