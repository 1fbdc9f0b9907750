//! `kvstore recover`: an export of what is left of one node, when no majority is left.
//!
//! Raft promises nothing without a majority, so this is the last resort, and it is a new cluster:
//! whatever no majority had confirmed may be kept or lost.
//!
//! 1. The directory is locked. Everything is copied to `recovering/` and opened there, so that
//!    nothing of the node is changed by looking at it, and every entry of its log is applied,
//!    committed or not ([`Salvage`]).
//! 2. The result is written to `recovered.exp`.
//! 3. Identity, log, state and exports are moved to `before-recover-<n>/`, and the export becomes
//!    `seed.exp` (`archive`).
//!
//! A crash before step 3 leaves the node as it was, a crash within it a directory in which no node
//! starts until the command was repeated.

mod archive;
mod eventual;
mod salvage;

pub use salvage::Salvage;

use std::path::Path;
use std::sync::Arc;

use proto::{Code, Failure, GroupId, Hex};
use storage::disk::{Disk, RealDisk};
use storage::export::{self, ExportFile};
use storage::wal::WalOptions;

use self::archive::Archive;
use super::OfflineError;
use super::restore::check_group;
use super::verify::{Verified, verify};
use crate::config::Config;
use crate::durable::Founding;
use crate::identity::{DataDirError, OfflineDir, SEED};
use crate::server::ServerError;

/// The export until the node's own files are out of the way.
const RECOVERED: &str = "recovered.exp";
/// Where a copy of the node's files is worked on.
const SCRATCH: &str = "recovering";
/// Where a node keeps its exports.
const EXPORTS: &str = "exports";

/// Recovers what the node of this configuration holds.
///
/// # Errors
/// 2 without `yes`, with what would be recovered; 3 when the directory does not exist, 1 while a node runs in
/// it or the disk fails, 9 when nothing of it can be used. In all these cases nothing was changed.
pub fn recover(config: &Path, yes: bool) -> Result<String, OfflineError> {
    let config = Config::load(config)?;
    let (data_dir, name) = (&config.node.data_dir, &config.node.name);
    if !data_dir.is_dir() {
        return Err(OfflineError::Absent { path: data_dir.clone() });
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let directory = OfflineDir::lock(Arc::clone(&disk), data_dir)?;
    let failed = OfflineError::io("look into", data_dir);
    let archive = Archive::of(&*disk, data_dir).map_err(failed)?;
    let says = match archive.has_begun() {
        true => BEGUN_BEFORE.to_owned(),
        false => write_export(&disk, &directory, &config)?,
    };
    if !yes {
        if !archive.has_begun() {
            let recovered = data_dir.join(RECOVERED);
            disk.remove_file(&recovered).map_err(OfflineError::io("remove", &recovered))?;
        }
        return Err(OfflineError::Usage {
            what: format!("recovering {name} from {} needs --yes", data_dir.display()),
            why: format!("{}. {WARNING}", says.trim_end()),
        });
    }
    archive.complete(&*disk).map_err(OfflineError::io("move the files of", data_dir))?;
    let seed = data_dir.join(SEED);
    let verified = verify(&*disk, &seed)?;
    check_group(&verified, &seed)?;
    Ok(report(&says, &verified, &archive, data_dir))
}

/// Writes what the node holds to `recovered.exp`, and says what that is.
fn write_export(
    disk: &Arc<dyn Disk>,
    directory: &OfflineDir,
    config: &Config,
) -> Result<String, OfflineError> {
    let (data_dir, name) = (&config.node.data_dir, &config.node.name);
    let formed = directory
        .formed(name, &config.cluster.name)
        .map_err(|error| without_records(error, disk.as_ref(), data_dir))?;
    let Some(formed) = formed else {
        let why = "no node has formed a cluster here, so there is nothing to recover".to_owned();
        let subject = format!("data_dir {}", data_dir.display());
        return Err(ServerError::Failure(Failure::new(Code::DataLost, subject, why)).into());
    };
    let founding = Founding { members: formed.members.clone(), joined: formed.joined };
    let salvage = Salvage {
        disk: Arc::clone(disk),
        data_dir: data_dir.clone(),
        scratch: data_dir.join(SCRATCH),
        wal: WalOptions::new(formed.cluster),
        founding,
        name: name.clone(),
    };
    let found = salvage.export(&data_dir.join(RECOVERED))?;
    // Read it whole before anything is moved.
    verify(&**disk, &data_dir.join(RECOVERED))?;
    Ok(found)
}

/// Nothing says whose log this is when `identity` or `cluster` does not verify. An export says so
/// itself, so a new cluster can start from one: that is the next step, where there is one.
fn without_records(error: DataDirError, disk: &dyn Disk, data_dir: &Path) -> OfflineError {
    let DataDirError::Damaged { .. } = &error else { return error.into() };
    let newest = newest_export(disk, data_dir);
    let next = match newest {
        Some(file) => format!(
            "or move {} away and start a new cluster from its newest export, which holds index {}: \
             kvstore snapshot restore {} --data-dir DIR",
            data_dir.display(),
            file.header.index,
            file.path.display()
        ),
        None => "there is no export that verifies, so only a backup is left: kvstore snapshot \
                 restore"
            .to_owned(),
    };
    let why = format!("{error}; bring that file back from a copy; {next}");
    let subject = format!("data_dir {}", data_dir.display());
    ServerError::Failure(Failure::new(Code::DataDamaged, subject, why)).into()
}

/// The newest export of keyspaces that verifies.
fn newest_export(disk: &dyn Disk, data_dir: &Path) -> Option<ExportFile> {
    // A directory that cannot be read has none to offer.
    let found = export::exports_in(disk, &data_dir.join(EXPORTS)).unwrap_or_default();
    let data = found.into_iter().filter(|(group, ..)| *group == GroupId::DATA);
    let verified = data.filter_map(|(_, _, path)| export::verify(disk, &path).ok());
    verified.max_by_key(|file| file.header.index)
}

/// Instead of what is found, where everything was moved aside by an earlier recovery.
const BEGUN_BEFORE: &str =
    "an earlier recovery has read this directory: it is only completed, where that is left to do\n";

/// What the operator has to know before.
const WARNING: &str = "this is the last resort when a majority of the nodes is lost for good. It \
    makes a new cluster of what this one node holds. Whatever no majority had confirmed may be lost \
    or kept: writes that were answered with \"unknown\", and, if this node was behind, writes that \
    were acknowledged. Of eventual keyspaces it has what this node had heard of. Prefer a newer backup or a node with a higher `applied`. Every other node of \
    the old cluster has to stay stopped for ever. The node's own files are kept in \
    before-recover-N/. It needs as much free space as the node's files take";

fn report(says: &str, seed: &Verified, archive: &Archive, data_dir: &Path) -> String {
    let header = &seed.file.header;
    let kept = archive.kept().display();
    format!(
        "{says}\
         recovered: {}\n  \
         index      {}\n  \
         bytes      {}\n  \
         sha256     {}\n  \
         old files  {kept}\n\
         next:\n  \
         1. make sure that no other node of the old cluster ever starts again\n  \
         2. for each other node of the new cluster, with an empty directory:\n     \
            kvstore snapshot restore {} --data-dir DIR\n  \
         3. give all nodes the same fresh `initial` list, this one included, and no `join`\n  \
         4. start all of them, check the data, then remove {kept}\n",
        seed.file.path.display(),
        header.index,
        seed.file.bytes,
        Hex(&seed.sha256),
        data_dir.join(SEED).display(),
    )
}
