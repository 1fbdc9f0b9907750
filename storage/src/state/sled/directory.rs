//! The directory of a sled store: what is in it before sled may look at it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::super::StateError;
use crate::disk::parent_of;

/// The pause between two looks at the lock of an earlier handle.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// sled's data file, opened by us as well.
///
/// Opened before sled writes a byte, so that the system reports every failed write-back to this
/// handle at its next sync, also those that sled itself does not look for.
pub(super) fn open_data(dir: &Path, lock_attempts: u32) -> Result<File, StateError> {
    let path = dir.join("db");
    let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let data = options.map_err(at(&path))?;
    await_lock(&data, &path, lock_attempts)?;
    Ok(data)
}

/// Waits until no handle holds sled's lock on its data file.
///
/// Whoever still holds it owns the directory: nothing else in it may be looked at then.
pub(super) fn await_lock(data: &File, path: &Path, attempts: u32) -> Result<(), StateError> {
    for _ in 0..attempts {
        match data.try_lock() {
            Ok(()) => return data.unlock().map_err(at(path)),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(at(path)(error)),
        }
    }
    let why = format!("another handle has {} open", path.display());
    let source = Box::new(io::Error::new(io::ErrorKind::WouldBlock, why));
    Err(StateError::Engine { what: "lock its files", source })
}

/// Stands in the directory while a store is being created; with it, nothing was ever stored.
const CREATING: &str = "creating";

/// Makes the directory one that sled may open; says whether the store in it has to be created.
///
/// A whole store has a data file and a snapshot: [`end_creation`] sees to the first one, and sled
/// renames a new one into place before it removes the old. Without its snapshot sled may take a data
/// file for an empty one, and without an error.
///
/// - `snap.X.generating` is removed: sled takes it for its newest snapshot (spacejam/sled#1527).
/// - What is left of a creation that was cut is removed; sled refuses half of a `conf`.
///
/// # Errors
/// [`StateError::Damaged`] when the data file or the snapshot was lost.
pub(super) fn prepare(dir: &Path, data: &File) -> Result<bool, StateError> {
    let (snapshots, unfinished) = snapshots_in(dir)?;
    for path in unfinished {
        fs::remove_file(&path).map_err(at(&path))?;
    }
    let mark = dir.join(CREATING);
    if !mark.exists() {
        let empty = data.metadata().map_err(at(dir))?.len() == 0;
        match (empty, snapshots.is_empty()) {
            (false, false) => return sync_dir(dir).map(|()| false),
            (false, true) => return Err(lost(dir, "the snapshot")),
            (true, false) => return Err(lost(dir, "the content of the data file")),
            (true, true) => fs::write(&mark, b"").map_err(at(&mark))?,
        }
        sync_dir(dir)?;
    }
    data.set_len(0).map_err(at(dir))?;
    let blobs = dir.join("blobs");
    let blobs = if blobs.exists() { files_in(&blobs)? } else { Vec::new() };
    for path in snapshots.into_iter().chain(blobs).chain([dir.join("conf")]) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(at(&path))?,
        }
    }
    sync_dir(dir).map(|()| true)
}

/// Declares a store created, once all that it needs is durable.
///
/// # Errors
/// [`StateError::Damaged`] when sled has not written what [`prepare`] relies on.
pub(super) fn end_creation(dir: &Path, data: &File) -> Result<(), StateError> {
    let bytes = data.metadata().map_err(at(dir))?.len();
    let (snapshots, _) = snapshots_in(dir)?;
    if bytes == 0 || snapshots.is_empty() {
        return Err(lost(dir, "what sled should have created"));
    }
    let mark = dir.join(CREATING);
    fs::remove_file(&mark).map_err(at(&mark))?;
    sync_dir(dir)
}

fn lost(dir: &Path, what: &str) -> StateError {
    StateError::Damaged { why: format!("{what} of {} is not there", dir.display()) }
}

/// Paths of sled's snapshots: finished ones, then those that were being written.
fn snapshots_in(dir: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), StateError> {
    let name_of = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let snapshots = files_in(dir)?
        .into_iter()
        .filter(|path| name_of(path).is_some_and(|name| name.starts_with("snap.")));
    Ok(snapshots.partition(|path| !name_of(path).is_some_and(|name| name.ends_with(".generating"))))
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>, StateError> {
    let entries = fs::read_dir(dir).map_err(at(dir))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(at(dir))).collect()
}

/// Checks that sled keeps nothing outside of its data file: it never syncs `blobs/`.
///
/// # Errors
/// [`StateError::Damaged`] when it does.
pub(super) fn check_no_blobs(dir: &Path) -> Result<(), StateError> {
    let blobs = dir.join("blobs");
    match fs::read_dir(&blobs).map(|mut entries| entries.next()) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => {
            let why = format!("{} is not empty, and its files were never synced", blobs.display());
            Err(StateError::Damaged { why })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StateError::Io { path: blobs, source }),
    }
}

/// Makes everything durable that sled has made while it opened.
pub(super) fn sync_all(dir: &Path, data: &File) -> Result<(), StateError> {
    let conf = dir.join("conf");
    File::open(&conf).and_then(|handle| handle.sync_all()).map_err(at(&conf))?;
    data.sync_data().map_err(at(&dir.join("db")))?;
    sync_dir(dir)?;
    sync_dir(parent_of(dir))
}

fn sync_dir(dir: &Path) -> Result<(), StateError> {
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(at(dir))
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { path, source }
}
