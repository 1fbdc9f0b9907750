//! What is wrong with a data directory.

use std::io;
use std::path::PathBuf;

use proto::{Code, Failure};

/// Why a data directory cannot be used. It was not changed.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("{} is in use by {}", path.display(),
        pid.as_ref().map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its process id, where it could be read.
        pid: Option<u32>,
    },
    /// A file belongs to another node, cluster or program, or to a newer version.
    #[error("{}: {why}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// A file does not hold what was written, or is missing though it was written.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl DataDirError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Io { source, .. } => match source.kind() {
                // Before anything was read or written: the operator's to mend.
                io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::NotFound => Code::DirectoryUnusable,
                _ => Code::Internal,
            },
            Self::Locked { .. } => Code::DirectoryLocked,
            Self::Foreign { .. } => Code::DataForeign,
            Self::Damaged { .. } => Code::DataDamaged,
        }
    }
}

impl From<DataDirError> for Failure {
    fn from(error: DataDirError) -> Self {
        Self::new(error.code(), "data directory", error.to_string())
    }
}
