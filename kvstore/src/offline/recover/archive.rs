//! Moving a node's files out of the way, so that any crash in between can be gone on from.
//!
//! The identity goes first: from then on no node starts in the directory. The log goes last: as long as
//! it is there, no new identity is minted either. The new seed takes its place before the log goes,
//! so that a directory without the old files always has it.

use std::io;
use std::path::{Path, PathBuf};

use storage::disk::Disk;

use super::RECOVERED;
use crate::identity::{SEED, is_data};

const IDENTITY: &str = "identity";
const CLUSTER: &str = "cluster";
const LOG: &str = "wal";
const KEPT: &str = "before-recover-";

/// Where the files of one recovery go.
#[derive(Debug)]
pub(super) struct Archive {
    data_dir: PathBuf,
    kept: PathBuf,
    begun: bool,
}

impl Archive {
    /// The archive of a recovery that has begun, or else the next one.
    pub(super) fn of(disk: &dyn Disk, data_dir: &Path) -> io::Result<Self> {
        let names = disk.list(data_dir)?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix(KEPT)?.parse::<u32>().ok());
        let newest = numbers.max();
        let path = |number: u32| data_dir.join(format!("{KEPT}{number}"));
        let holds_identity = match newest {
            Some(number) => disk.list(&path(number))?.iter().any(|name| name == IDENTITY),
            None => false,
        };
        let begun = holds_identity && !names.iter().any(|name| name == IDENTITY);
        let number = match newest {
            // A crash came before anything was moved to it.
            Some(number) if begun || !holds_identity => number,
            Some(number) => number + 1,
            None => 1,
        };
        Ok(Self { data_dir: data_dir.to_owned(), kept: path(number), begun })
    }

    /// Whether an earlier attempt has begun to move files.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Where the old files are.
    pub(super) fn kept(&self) -> &Path {
        &self.kept
    }

    /// Moves what has not been moved yet. Each move is durable before the next begins.
    pub(super) fn complete(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.create_dir_all(&self.kept)?;
        while let Some((from, to)) = self.next(disk)? {
            disk.rename(&from, &to)?;
            if to.starts_with(&self.kept) {
                disk.sync_dir(&self.kept)?;
            }
            disk.sync_dir(&self.data_dir)?;
        }
        Ok(())
    }

    /// The next move: from which path to which.
    pub(super) fn next(&self, disk: &dyn Disk) -> io::Result<Option<(PathBuf, PathBuf)>> {
        let names = disk.list(&self.data_dir)?;
        let has = |name: &str| names.iter().any(|found| found == name);
        let old = |name: &str| (self.data_dir.join(name), self.kept.join(name));
        if has(IDENTITY) {
            return Ok(Some(old(IDENTITY)));
        }
        if has(RECOVERED) {
            // A seed that is there already is that of the old cluster.
            if has(SEED) {
                return Ok(Some(old(SEED)));
            }
            return Ok(Some((self.data_dir.join(RECOVERED), self.data_dir.join(SEED))));
        }
        let first = names.iter().find(|name| *name == CLUSTER || (*name != LOG && is_data(name)));
        Ok(first.map(|name| old(name)).or_else(|| has(LOG).then(|| old(LOG))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::disk::RealDisk;

    const NAMES: [&str; 7] =
        ["identity", "cluster", "members", "seed.exp", "started", RECOVERED, "LOCK"];

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in NAMES {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        for name in ["wal", "state", "exports", "secrets", "wal.damaged-1"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("file"), name).unwrap();
        }
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        RealDisk.list(dir).unwrap()
    }

    #[test]
    fn b19_a_crash_between_any_two_moves_is_gone_on_from() {
        let old = [
            "cluster",
            "exports",
            "identity",
            "members",
            "secrets",
            "seed.exp",
            "started",
            "state",
            "wal",
            "wal.damaged-1",
        ];
        for crash in 0.. {
            let dir = directory();
            let archive = Archive::of(&RealDisk, dir.path()).unwrap();
            assert!(!archive.has_begun());
            RealDisk.create_dir_all(archive.kept()).unwrap();
            let mut moves = 0;
            while moves < crash
                && let Some((from, to)) = archive.next(&RealDisk).unwrap()
            {
                RealDisk.rename(&from, &to).unwrap();
                moves += 1;
            }
            let left = names(dir.path());
            if moves > 0 && left.iter().any(|name| is_data(name)) {
                // No node starts here: data without an identity is refused.
                assert!(!left.contains(&"identity".to_owned()), "{left:?}");
            }
            let again = Archive::of(&RealDisk, dir.path()).unwrap();
            assert_eq!(again.has_begun(), moves > 0);
            assert_eq!(again.kept(), archive.kept());
            again.complete(&RealDisk).unwrap();
            assert_eq!(names(dir.path()), ["LOCK", "before-recover-1", "seed.exp"]);
            assert_eq!(names(again.kept()), old);
            let seed = std::fs::read_to_string(dir.path().join("seed.exp")).unwrap();
            assert_eq!(seed, RECOVERED, "after {moves} moves");
            if moves < crash {
                assert!(moves >= old.len(), "{moves}");
                return;
            }
        }
    }

    #[test]
    fn a_second_recovery_has_a_directory_of_its_own() {
        let dir = directory();
        Archive::of(&RealDisk, dir.path()).unwrap().complete(&RealDisk).unwrap();
        std::fs::write(dir.path().join("identity"), "new").unwrap();
        let second = Archive::of(&RealDisk, dir.path()).unwrap();
        assert!(!second.has_begun());
        assert!(second.kept().ends_with("before-recover-2"));
    }
}
