//! The directory of a group's state, which may be thrown away at any time.
//!
//! `data_dir/state/<group>-0` holds what the state store wrote. The store is a cache of the log:
//! whatever is wrong with it, the directory is moved aside and the state is rebuilt by replaying
//! the log from its beginning. A checkpoint that failed leaves a mark beside the directory, so
//! that the next start does not trust it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::{GroupId, LogIndex};
use storage::mvcc::{Machine, MachineOptions};
use storage::state::{self, SledStore, StateError, StateStore};

/// Why a group's state cannot be opened even though an empty one would do.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// A directory cannot be made, moved or removed.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The store holds more than the log: the log lost entries that were synced, perhaps votes too.
    /// A checkpoint covers nothing that the log did not hold durably.
    #[error("{path} holds everything up to index {applied}, but the log ends at {last}", path = .path.display())]
    LogBehind {
        /// The path.
        path: PathBuf,
        /// What the store holds.
        applied: LogIndex,
        /// Where the log ends.
        last: LogIndex,
    },
    /// Not even an empty store can be opened, or a newer version wrote the store.
    #[error("{path}: {source}", path = .path.display())]
    Store {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: StateError,
    },
}

/// A group's state, opened.
#[derive(Debug)]
pub struct OpenState {
    /// The store, shared with the checkpoint thread.
    pub store: Arc<dyn StateStore>,
    /// The state machine over it, at its last finished checkpoint.
    pub machine: Machine,
    /// The directory of the store.
    pub dir: PathBuf,
}

/// Name of the directory of `group` below `state/`.
#[must_use]
pub fn dir_name(group: GroupId) -> String {
    format!("{group}-0")
}

/// Opens the state of `group` below `data_dir`. `last` is the last index that the log holds,
/// `checkpoint` the last finished checkpoint that it knows of: a store that holds less was rolled
/// back, and records that a later checkpoint deleted may be missing from it.
///
/// # Errors
/// When the store is ahead of the log, a fresh directory cannot be used either, or the store has a
/// newer format.
pub fn open(
    data_dir: &Path,
    group: GroupId,
    last: LogIndex,
    checkpoint: LogIndex,
) -> Result<OpenState, StateDirError> {
    let dir = data_dir.join("state").join(dir_name(group));
    let why = if suspect_mark(&dir).exists() {
        "its last checkpoint failed".to_owned()
    } else {
        match try_open(&dir) {
            Ok(state) if state.machine.applied() > last => {
                let applied = state.machine.applied();
                return Err(StateDirError::LogBehind { path: dir, applied, last });
            }
            // An empty store is rebuilt from the log as it is.
            Ok(state) if is_rolled_back(state.machine.applied(), checkpoint) => {
                format!("it holds {}, a checkpoint held {checkpoint}", state.machine.applied())
            }
            Ok(state) => return Ok(state),
            Err(StateDirError::Store { path, source: source @ StateError::Newer { .. } }) => {
                return Err(StateDirError::Store { path, source });
            }
            Err(error) => error.to_string(),
        }
    };
    let aside = state::move_aside(&dir)
        .map_err(|source| StateDirError::Store { path: dir.clone(), source })?;
    let (old, new) = (dir.display(), aside.display());
    tracing::warn!(%old, %new, why, "state is moved aside and rebuilt from the log");
    absent_is_fine(std::fs::remove_file(suspect_mark(&dir)))
        .map_err(|source| StateDirError::Io { path: suspect_mark(&dir), source })?;
    try_open(&dir)
}

fn is_rolled_back(applied: LogIndex, checkpoint: LogIndex) -> bool {
    applied > LogIndex(0) && applied < checkpoint
}

/// Marks the store in `dir` as not to be trusted at the next start.
///
/// # Errors
/// When the mark cannot be written.
pub(super) fn mark_suspect(dir: &Path) -> io::Result<()> {
    std::fs::write(suspect_mark(dir), b"")
}

fn try_open(dir: &Path) -> Result<OpenState, StateDirError> {
    let io = |source| StateDirError::Io { path: dir.to_owned(), source };
    let store_error = |source| StateDirError::Store { path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(io)?;
    let store: Arc<dyn StateStore> = Arc::new(SledStore::open(dir).map_err(store_error)?);
    let machine =
        Machine::open(Arc::clone(&store), MachineOptions::default()).map_err(store_error)?;
    Ok(OpenState { store, machine, dir: dir.to_owned() })
}

fn suspect_mark(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".suspect");
    PathBuf::from(name)
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId::DATA;

    fn aside(data_dir: &Path) -> PathBuf {
        data_dir.join("state/1-0.damaged-1")
    }

    #[test]
    fn an_empty_directory_starts_an_empty_state() {
        let data_dir = tempfile::tempdir().unwrap();
        let state = open(data_dir.path(), GROUP, LogIndex(0), LogIndex(0)).unwrap();
        assert_eq!(state.machine.applied(), LogIndex(0));
        assert!(!aside(data_dir.path()).exists());
    }

    #[test]
    fn a_damaged_store_is_moved_aside() {
        let data_dir = tempfile::tempdir().unwrap();
        let dir = data_dir.path().join("state/1-0");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("db"), b"this is no store").unwrap();
        std::fs::write(dir.join("conf"), b"neither is this").unwrap();
        let state = open(data_dir.path(), GROUP, LogIndex(9), LogIndex(0)).unwrap();
        assert_eq!(state.machine.applied(), LogIndex(0));
        assert_eq!(std::fs::read(aside(data_dir.path()).join("conf")).unwrap(), b"neither is this");
    }

    /// A store that a checkpoint at index 3 has filled.
    fn filled(data_dir: &Path) {
        let mut state = open(data_dir, GROUP, LogIndex(3), LogIndex(0)).unwrap();
        for index in 1..=3 {
            state.machine.apply(LogIndex(index), proto::Term(1), None).unwrap();
        }
        let mut job = state.machine.begin_checkpoint().unwrap();
        while job.step(&*state.store).unwrap() == storage::mvcc::CheckpointProgress::Continue {}
    }

    #[test]
    fn a_log_that_lost_what_a_checkpoint_covers_is_refused() {
        let data_dir = tempfile::tempdir().unwrap();
        filled(data_dir.path());
        let refused = open(data_dir.path(), GROUP, LogIndex(2), LogIndex(0)).unwrap_err();
        assert!(matches!(refused, StateDirError::LogBehind { .. }), "{refused}");
        assert!(!aside(data_dir.path()).exists(), "the evidence stays where it is");
        assert!(open(data_dir.path(), GROUP, LogIndex(3), LogIndex(3)).is_ok());
    }

    #[test]
    fn a_store_behind_its_last_checkpoint_is_moved_aside() {
        let data_dir = tempfile::tempdir().unwrap();
        filled(data_dir.path());
        let state = open(data_dir.path(), GROUP, LogIndex(9), LogIndex(5)).unwrap();
        assert_eq!(state.machine.applied(), LogIndex(0));
        assert!(aside(data_dir.path()).exists());
    }

    #[test]
    fn a_suspect_store_is_moved_aside_once() {
        let data_dir = tempfile::tempdir().unwrap();
        drop(open(data_dir.path(), GROUP, LogIndex(0), LogIndex(0)).unwrap());
        let dir = data_dir.path().join("state/1-0");
        mark_suspect(&dir).unwrap();
        drop(open(data_dir.path(), GROUP, LogIndex(0), LogIndex(0)).unwrap());
        assert!(aside(data_dir.path()).exists());
        std::fs::remove_dir_all(aside(data_dir.path())).unwrap();
        drop(open(data_dir.path(), GROUP, LogIndex(0), LogIndex(0)).unwrap());
        assert!(!aside(data_dir.path()).exists(), "the mark is gone");
    }
}
