//! A data directory that is worked on while no node runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::disk::Disk;

use super::error::DataDirError;
use super::lock::DirectoryLock;
use super::{CLUSTER, IDENTITY, check_cluster, check_identity};
use crate::forming::Formed;

/// A locked data directory of which only the records are known. Nothing is ever minted here.
#[derive(Debug)]
pub struct OfflineDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    _lock: DirectoryLock,
}

impl OfflineDir {
    /// Locks a directory, which must exist, until this is dropped.
    ///
    /// # Errors
    /// [`DataDirError::Locked`] while a node runs in it; [`DataDirError::Io`].
    pub fn lock(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, DataDirError> {
        let lock = DirectoryLock::take(path)?;
        Ok(Self { disk, path: path.to_owned(), _lock: lock })
    }

    /// What the node of this name has formed with; `None` when there is no record of it.
    ///
    /// # Errors
    /// [`DataDirError::Damaged`] when a record does not verify or one of the two is missing,
    /// [`DataDirError::Foreign`] when they are those of another node or cluster.
    pub fn formed(
        &self,
        node_name: &str,
        cluster_name: &str,
    ) -> Result<Option<Formed>, DataDirError> {
        let identity = IDENTITY.read(&*self.disk, &self.path)?;
        let cluster = CLUSTER.read(&*self.disk, &self.path)?;
        let missing = |record: &str| DataDirError::Damaged {
            path: self.path.join(record),
            why: "is missing, though the other record exists".to_owned(),
        };
        match (identity, cluster) {
            (None, None) => Ok(None),
            // It may have minted an id without ever having formed.
            (Some(identity), None) if identity.cluster.is_empty() => Ok(None),
            (Some(_), None) => Err(missing(CLUSTER.name)),
            (None, Some(_)) => Err(missing(IDENTITY.name)),
            (Some(identity), Some(cluster)) => {
                let identity = check_identity(&self.path, identity, node_name)?;
                check_cluster(&self.path, &cluster, cluster_name, &identity).map(Some)
            }
        }
    }
}
