//! Putting a new log in the place of a damaged one.
//!
//! ```text
//! 1  build the new log in wal.new/, synced
//! 2  rename wal/ to wal.damaged-<n>/, sync the data directory
//! 3  rename wal.new/ to wal/, sync the data directory
//! ```
//!
//! While there is a `wal/`, that is the log, and `wal.new/` means nothing. A crash between 2 and 3
//! leaves none: then `wal.new/` is complete, and the next start takes step 3. The damaged log is
//! never removed by us; somebody may want to look at it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::{GroupId, log};

use super::error::WalError;
use super::prepare::remove_if_present;
use super::segment::is_ours;
use super::writer::Wal;
use super::{FIRST_SEGMENT, WalOptions};
use crate::disk::Disk;

const LOG_DIR: &str = "wal";
const NEW_LOG_DIR: &str = "wal.new";
const DAMAGED_LOG_PREFIX: &str = "wal.damaged-";

impl Wal {
    /// Replaces the log `wal/` of a data directory by one that holds the states of these groups;
    /// the old one stays as `wal.damaged-<n>/`. Durable on return. A crash inside leaves the old log
    /// in place, or the new one once [`Wal::finish_replace`] has run.
    ///
    /// # Errors
    /// [`WalError::Io`]; call [`Wal::finish_replace`] before anything else is done.
    ///
    /// # Panics
    /// If the options or a state contradict themselves.
    pub fn replace(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        options: WalOptions,
        groups: BTreeMap<GroupId, log::GroupState>,
    ) -> Result<Self, WalError> {
        Self::finish_replace(disk.as_ref(), data_dir)?;
        let (log, new) = (data_dir.join(LOG_DIR), data_dir.join(NEW_LOG_DIR));
        let mut wal = Self::create(disk.clone(), &new, options, groups)?;
        if let Some(damaged) = free_name(disk.as_ref(), data_dir)? {
            // A directory that is renamed must have no change of names in it to lose.
            disk.sync_dir(&log).map_err(WalError::io("sync", &log))?;
            rename(disk.as_ref(), data_dir, &log, &damaged)?;
        }
        rename(disk.as_ref(), data_dir, &new, &log)?;
        wal.moved_to(log);
        Ok(wal)
    }

    /// Completes a [`Wal::replace`] that a crash interrupted, or clears away what it left. To be
    /// called at each start before the log is looked for; does nothing if nothing is left over.
    /// Returns whether a new log has taken its place.
    ///
    /// # Errors
    /// [`WalError::Io`]; the call can be repeated.
    pub fn finish_replace(disk: &dyn Disk, data_dir: &Path) -> Result<bool, WalError> {
        let names = disk.list(data_dir).map_err(WalError::io("list", data_dir))?;
        let has = |name: &str| names.iter().any(|found| found == name);
        let (log, new) = (data_dir.join(LOG_DIR), data_dir.join(NEW_LOG_DIR));
        if !has(NEW_LOG_DIR) {
            return Ok(false);
        }
        if !has(LOG_DIR) && Self::exists(disk, &new).map_err(WalError::io("list", &new))? {
            if let Some(damaged) = newest_damaged(&names) {
                // Once more, in case the sync of step 2 failed: later ones do not cover it.
                let damaged = data_dir.join(damaged);
                disk.rename(&damaged, &log).map_err(WalError::io("rename", &damaged))?;
                rename(disk, data_dir, &log, &damaged)?;
            }
            rename(disk, data_dir, &new, &log)?;
            return Ok(true);
        }
        let names = disk.list(&new).map_err(WalError::io("list", &new))?;
        for name in names.iter().filter(|name| is_ours(name)) {
            let path = new.join(name);
            remove_if_present(disk, &path).map_err(WalError::io("remove", &path))?;
        }
        disk.sync_dir(&new).map_err(WalError::io("sync", &new))?;
        Ok(false)
    }

    /// The directory of a log that was just created has another name.
    fn moved_to(&mut self, dir: PathBuf) {
        assert!(self.current.number == FIRST_SEGMENT && self.older.is_empty(), "the log is new");
        let name = self.current.path.file_name().expect("a segment has a name");
        self.current.path = dir.join(name);
        self.dir = dir;
    }
}

/// The name that step 2 gave last.
fn newest_damaged(names: &[String]) -> Option<&String> {
    let numbers = names.iter().filter_map(|name| {
        let number: u64 = name.strip_prefix(DAMAGED_LOG_PREFIX)?.parse().ok()?;
        Some((number, name))
    });
    numbers.max().map(|(_, name)| name)
}

/// A name for the damaged log that no earlier one has; `None` if there is no log at all.
fn free_name(disk: &dyn Disk, data_dir: &Path) -> Result<Option<PathBuf>, WalError> {
    let names = disk.list(data_dir).map_err(WalError::io("list", data_dir))?;
    if !names.iter().any(|name| name == LOG_DIR) {
        return Ok(None);
    }
    let numbers = names.iter().filter_map(|name| name.strip_prefix(DAMAGED_LOG_PREFIX));
    let newest: u64 = numbers.filter_map(|number| number.parse().ok()).max().unwrap_or(0);
    let number = newest + 1;
    Ok(Some(data_dir.join(format!("{DAMAGED_LOG_PREFIX}{number}"))))
}

/// Renames a directory, durable on return.
fn rename(disk: &dyn Disk, data_dir: &Path, from: &Path, to: &Path) -> Result<(), WalError> {
    disk.rename(from, to).map_err(WalError::io("rename", from))?;
    disk.sync_dir(data_dir).map_err(WalError::io("sync", data_dir))
}
