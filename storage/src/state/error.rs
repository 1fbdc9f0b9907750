//! What can go wrong in a state store.

use std::io;
use std::path::PathBuf;

/// A failure of a state store, or a store whose content contradicts itself.
///
/// All are local to this node, and what was being applied has not been. For all but
/// [`StateError::Newer`] the receiver does the same: give the store up, move its directory aside,
/// open an empty one and replay the log.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The engine refused.
    #[error("the state engine failed to {what}: {source}")]
    Engine {
        /// What it was asked for.
        what: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine panicked, as sled does on damaged files.
    #[error("the state engine panicked when asked to {what}: {message}")]
    Panicked {
        /// What it was asked for.
        what: &'static str,
        /// The message of the panic.
        message: String,
    },
    /// The store holds what no checkpoint of ours can have left in it.
    #[error("the state store is damaged: {why}")]
    Damaged {
        /// What contradicts what.
        why: String,
    },
    /// An earlier call failed; nothing may rely on this store any more.
    #[error("the state store failed before and takes no further calls")]
    Poisoned,
    /// A newer version wrote the store. The receiver stops and touches nothing.
    #[error("the state store has format {found}; this version reads up to {known}")]
    Newer {
        /// Format of the store.
        found: u32,
        /// Newest format that this version reads.
        known: u32,
    },
}
