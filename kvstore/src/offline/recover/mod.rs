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
mod salvage;

pub use salvage::Salvage;

use std::path::Path;
use std::sync::Arc;

use proto::{Code, Failure};
use storage::disk::{Disk, RealDisk};
use storage::wal::WalOptions;

use self::archive::Archive;
use super::restore::check_group;
use super::verify::{Verified, verify};
use super::{OfflineError, hex};
use crate::config::Config;
use crate::durable::Founding;
use crate::identity::OfflineDir;
use crate::server::ServerError;

/// The export until the node's own files are out of the way.
const RECOVERED: &str = "recovered.exp";
/// Where a copy of the node's files is worked on.
const SCRATCH: &str = "recovering";

/// Recovers what the node of this configuration holds.
///
/// # Errors
/// 2 without `yes`; 1 while a node runs in the directory; 9 when nothing of it can be used.
pub fn recover(config: &Path, yes: bool) -> Result<String, OfflineError> {
    let config = Config::load(config)?;
    let (data_dir, name) = (&config.node.data_dir, &config.node.name);
    if !yes {
        return Err(OfflineError::Usage {
            what: format!("recovering {name} from {} needs --yes", data_dir.display()),
            why: WARNING.to_owned(),
        });
    }
    if !data_dir.is_dir() {
        return Err(OfflineError::Absent { path: data_dir.clone() });
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let directory = OfflineDir::lock(Arc::clone(&disk), data_dir)?;
    let failed = OfflineError::io("look into", data_dir);
    let archive = Archive::of(&*disk, data_dir).map_err(failed)?;
    let mut says = String::new();
    if !archive.has_begun() {
        says = export(&disk, &directory, &config)?;
    }
    archive.complete(&*disk).map_err(OfflineError::io("move the files of", data_dir))?;
    let seed = data_dir.join(super::seed_file::SEED);
    let verified = verify(&*disk, &seed)?;
    check_group(&verified, &seed)?;
    Ok(report(&says, &verified, &archive, data_dir))
}

/// Writes what the node holds to `recovered.exp`, and says what that is.
fn export(
    disk: &Arc<dyn Disk>,
    directory: &OfflineDir,
    config: &Config,
) -> Result<String, OfflineError> {
    let (data_dir, name) = (&config.node.data_dir, &config.node.name);
    let Some(formed) = directory.formed(name, &config.cluster.name)? else {
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
    };
    let found = salvage.export(&data_dir.join(RECOVERED))?;
    // Read it whole before anything is moved.
    verify(&**disk, &data_dir.join(RECOVERED))?;
    Ok(found)
}

/// What the operator has to know before.
const WARNING: &str = "this is the last resort when a majority of the nodes is lost for good. It \
    makes a new cluster of what this one node holds. Whatever no majority had confirmed may be lost \
    or kept: writes that were answered with \"unknown\", and, if this node was behind, writes that \
    were acknowledged. Prefer a newer backup or a node with a higher `applied`. Every other node of \
    the old cluster has to stay stopped for ever. The node's own files are kept in \
    before-recover-N/. It needs as much free space as the node's files take";

fn report(says: &str, seed: &Verified, archive: &Archive, data_dir: &Path) -> String {
    let header = &seed.file.header;
    let kept = archive.kept().display();
    let says = if says.is_empty() { "an interrupted recovery was completed\n" } else { says };
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
        hex(&seed.sha256),
        data_dir.join(super::seed_file::SEED).display(),
    )
}
