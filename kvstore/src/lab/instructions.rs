//! What the lab asks for, and how often it had an effect.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::mutant::Mutant;

/// The file of instructions, as TOML. What it leaves out is not in force; a file that is absent or
/// cannot be understood asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instructions {
    /// Nothing fits the disk any more.
    pub disk_full: bool,
    /// Writes fail.
    pub write_error: bool,
    /// Syncs fail.
    pub sync_error: bool,
    /// Each write and sync takes so much longer.
    pub slow_disk_ms: u64,
    /// What was not synced is lost when the process is killed.
    pub hold_unsynced: bool,
    /// The process kills itself before this operation: `write`, `sync`, `rename`, `remove`, `create` or
    /// `sync_dir`, then a colon and a part of the path, such as `rename:exports`.
    pub crash_at: String,
    /// Of a thousand messages to other nodes so many are lost.
    pub lose_per_mille: u32,
    /// So many are sent twice.
    pub duplicate_per_mille: u32,
    /// So many come after the one behind them.
    pub reorder_per_mille: u32,
}

impl Instructions {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        toml::from_str(&text).unwrap_or_else(|error| {
            // Half a file, most likely; the next look finds a whole one.
            tracing::warn!(%error, path = %path.display(), "the lab's instructions make no sense");
            Self::default()
        })
    }
}

/// How often each fault had an effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Operations of the disk that failed.
    pub failed: u64,
    /// Operations of the disk that were slowed down.
    pub slowed: u64,
    /// Writes that were held back until their sync.
    pub held: u64,
    /// Messages that were lost.
    pub lost: u64,
    /// Messages that were sent twice.
    pub doubled: u64,
    /// Messages that were overtaken.
    pub overtaken: u64,
}

impl Counts {
    /// As the file beside the instructions has them.
    pub(super) fn to_text(self) -> String {
        toml::to_string(&self).expect("numbers can be written")
    }
}

/// What is in force now, and what it did.
#[derive(Debug, Default)]
pub(super) struct Current {
    /// A bug that is planted all the time.
    pub(super) planted: Option<Mutant>,
    instructions: RwLock<Instructions>,
    pub(super) failed: AtomicU64,
    pub(super) slowed: AtomicU64,
    pub(super) held: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) doubled: AtomicU64,
    pub(super) overtaken: AtomicU64,
}

impl Current {
    /// With this bug, and nothing in force.
    pub(super) fn new(planted: Option<Mutant>) -> Self {
        Self { planted, ..Self::default() }
    }

    pub(super) fn set(&self, instructions: Instructions) {
        // A poisoned lock only means that some thread panicked while it read.
        *self.instructions.write().unwrap_or_else(PoisonError::into_inner) = instructions;
    }

    pub(super) fn get(&self) -> Instructions {
        self.instructions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn counts(&self) -> Counts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            failed: get(&self.failed),
            slowed: get(&self.slowed),
            held: get(&self.held),
            lost: get(&self.lost),
            doubled: get(&self.doubled),
            overtaken: get(&self.overtaken),
        }
    }
}

/// Adds one.
pub(super) fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_understood_asks_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("faults.toml");
        assert_eq!(Instructions::read(&path), Instructions::default());
        std::fs::write(&path, "disk_full = true\nslow_disk_ms = 7\n").unwrap();
        let asked = Instructions { disk_full: true, slow_disk_ms: 7, ..Instructions::default() };
        assert_eq!(Instructions::read(&path), asked);
        std::fs::write(&path, "disk_ful = true\n").unwrap();
        assert_eq!(Instructions::read(&path), Instructions::default());
        assert!(Counts { lost: 3, ..Counts::default() }.to_text().contains("lost = 3\n"));
    }
}
