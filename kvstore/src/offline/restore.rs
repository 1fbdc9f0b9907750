//! `kvstore snapshot restore`: a data directory from which a node of a new cluster starts.

use std::io;
use std::path::Path;

use proto::{Code, Failure, GroupId, Hex};
use storage::disk::Disk;

use super::OfflineError;
use super::seed_file::{self, UNFINISHED};
use super::verify::{Verified, verify};
use crate::server::ServerError;

/// What the root of a file system holds, and nobody has put there.
const LOST_AND_FOUND: &str = "lost+found";

/// Verifies an export and puts it into an empty or absent directory, durably. An interrupted restore
/// can be repeated.
///
/// # Errors
/// 9 when the export does not verify or holds no keyspaces, 2 when the directory holds anything.
pub fn restore(disk: &dyn Disk, file: &Path, data_dir: &Path) -> Result<String, OfflineError> {
    check_empty(data_dir)?;
    let verified = verify(disk, file)?;
    check_group(&verified, file)?;
    let seed = seed_file::copy(disk, file, data_dir)
        .map_err(OfflineError::io("copy the export to", data_dir))?;
    // What is started from is what was written, not what was read.
    let copied = verify(disk, &seed)?;
    if copied.sha256 != verified.sha256 {
        let why = format!("{} changed while it was copied", file.display());
        let failure = Failure::new(Code::ExportInvalid, format!("export {}", file.display()), why);
        return Err(ServerError::Failure(failure).into());
    }
    Ok(report(&copied, data_dir))
}

/// Only what holds the data group can be started from.
pub(super) fn check_group(verified: &Verified, file: &Path) -> Result<(), OfflineError> {
    let group = verified.file.header.group;
    if group == GroupId::DATA {
        return Ok(());
    }
    let why = format!("it is an export of group {group}, which holds no keyspaces");
    let failure = Failure::new(Code::ExportInvalid, format!("export {}", file.display()), why);
    Err(ServerError::Failure(failure).into())
}

fn check_empty(dir: &Path) -> Result<(), OfflineError> {
    let failed = OfflineError::io("look into", dir);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let names: Result<Vec<_>, _> = entries.map(|entry| entry.map(|e| e.file_name())).collect();
    let names = names.map_err(failed)?;
    let found = names.iter().find(|name| *name != LOST_AND_FOUND && *name != UNFINISHED);
    let Some(found) = found else { return Ok(()) };
    Err(OfflineError::Usage {
        what: format!("{} is not empty", dir.display()),
        why: format!(
            "it holds {}; a restored cluster is a new one and starts in new directories",
            found.display()
        ),
    })
}

fn report(seed: &Verified, data_dir: &Path) -> String {
    format!(
        "restored: {}, index {}, sha256 {}\n\
         next:\n  \
         1. run the same command, with the same file, for each other node of the new cluster\n  \
         2. give each node a configuration with `data_dir = \"{}\"` or where its own seed lies,\n     \
            and the same `initial` list of all nodes; no `join`\n  \
         3. start all of them: they form a cluster with new ids, which holds this data\n",
        seed.file.path.display(),
        seed.file.header.index,
        Hex(&seed.sha256),
        data_dir.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::seed_file::testing;
    use storage::disk::RealDisk;

    #[test]
    fn an_export_is_copied_into_an_empty_directory_only() {
        let dir = tempfile::tempdir().unwrap();
        let export = testing::export(dir.path(), "backup.exp");
        let target = dir.path().join("n1").join("data");
        let text = restore(&RealDisk, &export, &target).unwrap();
        assert!(text.contains("initial"), "{text}");
        let copied = std::fs::read(target.join("seed.exp")).unwrap();
        assert_eq!(copied, std::fs::read(&export).unwrap());
        let error = restore(&RealDisk, &export, &target).unwrap_err();
        assert_eq!(error.exit(), 2, "{error}");
        assert!(error.describe().contains("seed.exp"), "{}", error.describe());
    }

    #[test]
    fn an_interrupted_restore_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let export = testing::export(dir.path(), "backup.exp");
        let target = dir.path().join("data");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join(UNFINISHED), b"half").unwrap();
        restore(&RealDisk, &export, &target).unwrap();
        assert!(!target.join(UNFINISHED).exists());
        verify(&RealDisk, &target.join("seed.exp")).unwrap();
    }

    #[test]
    fn b30_what_does_not_verify_is_not_restored() {
        let dir = tempfile::tempdir().unwrap();
        let export = testing::export(dir.path(), "backup.exp");
        let mut bytes = std::fs::read(&export).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&export, bytes).unwrap();
        let target = dir.path().join("data");
        assert_eq!(restore(&RealDisk, &export, &target).unwrap_err().exit(), 9);
        assert!(!target.exists());
        let meta = testing::export_of(dir.path(), "meta.exp", GroupId::META);
        let error = restore(&RealDisk, &meta, &target).unwrap_err();
        assert!(error.exit() == 9 && error.describe().contains("group 0"), "{error}");
        assert!(!target.exists());
    }
}
