//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use storage::disk::FILE_MODE;

use super::error::DataDirError;

/// The file whose lock is the lock of the directory.
const FILE: &str = "LOCK";

/// Longest text that is read as a process id.
const PID_BYTES_MAX: u64 = 16;

/// Holds the lock until dropped; the system gives it back when the process dies, so a lock is
/// never stale.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of an existing directory and leaves the process id for whoever comes second.
    pub(super) fn take(directory: &Path) -> Result<Self, DataDirError> {
        let path = directory.join(FILE);
        let failed = |source| DataDirError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::Locked {
                    path: directory.to_owned(),
                    pid: read_pid(file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn read_pid(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
