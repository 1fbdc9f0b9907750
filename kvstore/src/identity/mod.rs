//! The data directory: whose it is, and that nobody else uses it.
//!
//! ```text
//! LOCK       locked while a process uses the directory; holds its process id
//! identity   the node's id and name, written before anybody hears of them
//! cluster    what the node formed with, written before its log is created
//! wal/ ...   the node's data
//! ```
//!
//! Both records are written whole to a temporary file, synced, renamed, and the directory synced,
//! so no crash leaves half of one. A record that is damaged, or missing where data exists, is
//! never replaced: a node that forgets its id would come back as somebody else and vote twice.

mod error;
mod lock;
mod record;

pub use error::DataDirError;

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::{NodeId, peer};
use rand::RngExt;
use storage::disk::Disk;

use crate::forming::Formed;
use lock::DirectoryLock;
use record::Record;

const IDENTITY: Record<IdentityBody> =
    Record { name: "identity", magic: *b"KVIDENT\n", version: 1, body: PhantomData };
const CLUSTER: Record<ClusterBody> =
    Record { name: "cluster", magic: *b"KVCLUST\n", version: 1, body: PhantomData };

/// Entries that hold data. Where one of them exists, both records were written before.
const DATA: [&str; 2] = ["wal", "state"];

#[derive(Clone, PartialEq, prost::Message)]
struct IdentityBody {
    #[prost(fixed64, tag = "1")]
    node: u64,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ClusterBody {
    #[prost(bytes = "vec", tag = "1")]
    cluster: Vec<u8>,
    #[prost(string, tag = "2")]
    cluster_name: String,
    #[prost(message, repeated, tag = "3")]
    members: Vec<peer::FormedMember>,
}

/// A data directory in use by this process, locked until dropped.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    cluster_name: String,
    node: NodeId,
    formed: Option<Formed>,
    _lock: DirectoryLock,
}

impl DataDir {
    /// Locks the directory and opens it for this node of this cluster, minting an id where the
    /// directory is new. The id is durable on return.
    ///
    /// # Errors
    /// [`DataDirError`]. The directory may have been created and hold a lock file, nothing else.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        node_name: &str,
        cluster_name: &str,
    ) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Io { path: path.to_owned(), source };
        disk.create_dir_all(path).map_err(failed)?;
        // The lock is one of the operating system's, so it is taken on a real directory even when
        // the disk is a simulated one.
        let lock = DirectoryLock::take(path)?;
        let identity = IDENTITY.read(&*disk, path)?;
        let cluster = CLUSTER.read(&*disk, path)?;
        let entries = disk.list(path).map_err(failed)?;
        let data = entries.into_iter().find(|entry| DATA.contains(&entry.as_str()));
        check_complete(path, identity.is_some(), cluster.is_some(), data)?;
        let node = match identity {
            Some(identity) => check_identity(path, &identity, node_name)?,
            None => mint(&*disk, path, node_name)?,
        };
        let formed = match cluster {
            Some(cluster) => Some(check_cluster(path, &cluster, cluster_name, node)?),
            None => None,
        };
        let cluster_name = cluster_name.to_owned();
        Ok(Self { disk, path: path.to_owned(), cluster_name, node, formed, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This node's id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// What this node has formed with; `None` until it has.
    #[must_use]
    pub fn formed(&self) -> Option<&Formed> {
        self.formed.as_ref()
    }

    /// Writes down what this node forms with; durable on return. The log is created after this.
    ///
    /// # Errors
    /// [`DataDirError::Io`]; then nothing may be done as a member.
    ///
    /// # Panics
    /// When the node has formed already, or is not among the members.
    pub fn save_formed(&mut self, formed: &Formed) -> Result<(), DataDirError> {
        assert!(self.formed.is_none(), "a node forms once");
        assert!(formed.name_of(self.node).is_some(), "{} is not in {formed:?}", self.node);
        let body = ClusterBody {
            cluster: formed.cluster.0.to_vec(),
            cluster_name: self.cluster_name.clone(),
            members: formed.wire_members(),
        };
        CLUSTER.write(&*self.disk, &self.path, &body)?;
        self.formed = Some(formed.clone());
        Ok(())
    }
}

/// Records are written in order, so a later one without an earlier one is damage.
fn check_complete(
    path: &Path,
    identity: bool,
    cluster: bool,
    data: Option<String>,
) -> Result<(), DataDirError> {
    let missing = |record: PathBuf, present: &str| DataDirError::Damaged {
        path: record,
        why: format!("is missing, though {present} exists"),
    };
    if !identity && cluster {
        return Err(missing(IDENTITY.path(path), CLUSTER.name));
    }
    match data {
        Some(data) if !identity => Err(missing(IDENTITY.path(path), &data)),
        Some(data) if !cluster => Err(missing(CLUSTER.path(path), &data)),
        _ => Ok(()),
    }
}

fn check_identity(
    path: &Path,
    identity: &IdentityBody,
    node_name: &str,
) -> Result<NodeId, DataDirError> {
    let path = IDENTITY.path(path);
    if identity.node == 0 {
        return Err(DataDirError::Damaged { path, why: "holds no id".to_owned() });
    }
    if identity.name != node_name {
        let why = format!("the directory is that of node {}, not {node_name}", identity.name);
        return Err(DataDirError::Foreign { path, why });
    }
    Ok(NodeId(identity.node))
}

fn mint(disk: &dyn Disk, path: &Path, node_name: &str) -> Result<NodeId, DataDirError> {
    let node = rand::rng().random_range(1..=u64::MAX);
    IDENTITY.write(disk, path, &IdentityBody { node, name: node_name.to_owned() })?;
    Ok(NodeId(node))
}

fn check_cluster(
    path: &Path,
    body: &ClusterBody,
    cluster_name: &str,
    node: NodeId,
) -> Result<Formed, DataDirError> {
    let path = CLUSTER.path(path);
    if body.cluster_name != cluster_name {
        let why = format!("belongs to cluster {}, not {cluster_name}", body.cluster_name);
        return Err(DataDirError::Foreign { path, why });
    }
    let Some(formed) = Formed::verify(cluster_name, &body.cluster, &body.members) else {
        let why = "the cluster id does not follow from the members".to_owned();
        return Err(DataDirError::Damaged { path, why });
    };
    if formed.name_of(node).is_none() {
        let why = format!("node {node} is not among the members");
        return Err(DataDirError::Foreign { path, why });
    }
    Ok(formed)
}

#[cfg(test)]
mod tests;
