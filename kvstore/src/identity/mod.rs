//! The data directory: whose it is, and that nobody else uses it.
//!
//! ```text
//! LOCK       locked while a process uses the directory; holds its process id
//! identity   the node's id and name, written before anybody hears of them
//! cluster    what the node formed with or joined, written before its log is created
//! members    the members as the node last knew them, for the next start
//! seed.exp   the export that a restored cluster starts from; put there before the first start
//! wal/ ...   the node's data
//! ```
//!
//! Records are written whole to a temporary file, synced, renamed, and the directory synced, so no
//! crash leaves half of one. An `identity` or `cluster` that is damaged, or missing where data
//! exists, is never replaced: a node that forgets its id, or that it has voted, would vote twice.
//! Once the node has formed, `identity` says so too, so that a directory which lost all the rest is
//! not taken for that of a node which has not formed yet.

mod error;
mod lock;
mod members;
mod offline;
mod record;
mod seed;

pub use error::DataDirError;
pub use members::{MemberList, MembersFile};
pub use offline::OfflineDir;
pub use seed::{SEED, file_sha256};

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::{NodeId, peer};
use rand::RngExt;
use storage::disk::Disk;

use crate::forming::Formed;
use lock::DirectoryLock;
use members::MEMBERS;
use record::Record;

const IDENTITY: Record<IdentityBody> =
    Record { name: "identity", magic: *b"KVIDENT\n", version: 1, body: PhantomData };
const CLUSTER: Record<ClusterBody> =
    Record { name: "cluster", magic: *b"KVCLUST\n", version: 1, body: PhantomData };

/// Entries that hold data. Where one of them exists, `identity` and `cluster` were written before.
const DATA: [&str; 7] = ["wal", "wal.new", "state", "started", "members", "exports", "secrets"];
/// So do those that start like this: logs that were set aside.
const DATA_PREFIX: &str = "wal.damaged-";

#[derive(Clone, PartialEq, prost::Message)]
struct IdentityBody {
    #[prost(fixed64, tag = "1")]
    node: u64,
    #[prost(string, tag = "2")]
    name: String,
    /// The cluster it has formed; empty before.
    #[prost(bytes = "vec", tag = "3")]
    cluster: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ClusterBody {
    #[prost(bytes = "vec", tag = "1")]
    cluster: Vec<u8>,
    #[prost(string, tag = "2")]
    cluster_name: String,
    #[prost(message, repeated, tag = "3")]
    members: Vec<peer::FormedMember>,
    /// The node is none of those members: it joined them.
    #[prost(bool, tag = "4")]
    joined: bool,
    /// SHA-256 of the export that the cluster started from; empty when it started from nothing.
    #[prost(bytes = "vec", tag = "5")]
    seed: Vec<u8>,
}

/// A data directory in use by this process, locked until dropped.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    cluster_name: String,
    identity: IdentityBody,
    formed: Option<Formed>,
    members: Option<MemberList>,
    seed: Option<[u8; 32]>,
    lock: Arc<DirectoryLock>,
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
        // A lock of the operating system, so on the real file system whatever `disk` is.
        let lock = Arc::new(DirectoryLock::take(path)?);
        let identity = IDENTITY.read(&*disk, path)?;
        let cluster = CLUSTER.read(&*disk, path)?;
        let entries = disk.list(path).map_err(failed)?;
        let data = entries.into_iter().find(|entry| is_data(entry));
        check_complete(path, identity.as_ref(), cluster.is_some(), data)?;
        let identity = match identity {
            Some(identity) => check_identity(path, identity, node_name)?,
            None => mint(&*disk, path, node_name)?,
        };
        let mut dir = Self {
            disk,
            path: path.to_owned(),
            cluster_name: cluster_name.to_owned(),
            identity,
            formed: None,
            members: None,
            seed: None,
            lock,
        };
        if let Some(cluster) = cluster {
            let formed = check_cluster(path, &cluster, cluster_name, &dir.identity)?;
            // Unless it does already: a crash may have come in between.
            dir.note_formed(&formed)?;
            dir.seed = formed.seed;
            dir.formed = Some(formed);
            dir.members = dir.read_members()?;
        } else {
            dir.seed = seed::sha256(&*dir.disk, path)?;
        }
        Ok(dir)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This node's id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId(self.identity.node)
    }

    /// What this node has formed with; `None` until it has.
    #[must_use]
    pub fn formed(&self) -> Option<&Formed> {
        self.formed.as_ref()
    }

    /// SHA-256 of the export that the cluster starts from: of the file `seed.exp` until the node
    /// has formed, of what it formed with afterwards.
    #[must_use]
    pub fn seed(&self) -> Option<[u8; 32]> {
        self.seed
    }

    /// The members as they were known last; `None` when nothing was known beyond what the node
    /// formed with.
    #[must_use]
    pub fn members(&self) -> Option<&MemberList> {
        self.members.as_ref()
    }

    /// Where newer lists of members go. It does not keep the directory locked.
    #[must_use]
    pub fn members_file(&self) -> MembersFile {
        let (disk, directory) = (Arc::clone(&self.disk), self.path.clone());
        MembersFile { disk, directory, lock: Arc::downgrade(&self.lock) }
    }

    fn read_members(&self) -> Result<Option<MemberList>, DataDirError> {
        match MEMBERS.read(&*self.disk, &self.path) {
            Ok(body) => Ok(body.map(MemberList::from)),
            Err(error @ DataDirError::Damaged { .. }) => {
                tracing::warn!(%error, "the copy of the list of members is of no use");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes down what this node forms with; durable on return. The log is created after this.
    ///
    /// # Errors
    /// [`DataDirError::Io`]; then nothing may be done as a member.
    ///
    /// # Panics
    /// When the node has formed already, or neither joins nor is among the members.
    pub fn save_formed(&mut self, formed: &Formed) -> Result<(), DataDirError> {
        assert!(self.formed.is_none(), "a node forms once");
        let belongs = formed.holds(&self.identity.name, self.node());
        assert!(belongs, "{} is not in {formed:?}", self.node());
        let body = ClusterBody {
            cluster: formed.cluster.0.to_vec(),
            cluster_name: self.cluster_name.clone(),
            members: formed.wire_members(),
            joined: formed.joined,
            seed: formed.wire_seed(),
        };
        CLUSTER.write(&*self.disk, &self.path, &body)?;
        self.note_formed(formed)?;
        self.seed = formed.seed;
        self.formed = Some(formed.clone());
        Ok(())
    }

    /// Makes the identity say that the node has formed.
    fn note_formed(&mut self, formed: &Formed) -> Result<(), DataDirError> {
        if self.identity.cluster.is_empty() {
            let identity =
                IdentityBody { cluster: formed.cluster.0.to_vec(), ..self.identity.clone() };
            IDENTITY.write(&*self.disk, &self.path, &identity)?;
            self.identity = identity;
        }
        Ok(())
    }
}

/// Whether an entry of a data directory of this name holds data of a node that has formed.
#[must_use]
pub fn is_data(entry: &str) -> bool {
    DATA.contains(&entry) || entry.starts_with(DATA_PREFIX)
}

/// Records are written in order, so a later one without an earlier one is damage.
fn check_complete(
    path: &Path,
    identity: Option<&IdentityBody>,
    cluster: bool,
    data: Option<String>,
) -> Result<(), DataDirError> {
    let missing = |record: PathBuf, why: String| DataDirError::Damaged {
        path: record,
        why: format!("is missing, though {why}"),
    };
    let data = data.map(|entry| format!("{entry} exists"));
    match (identity, cluster, data) {
        (None, true, _) => Err(missing(IDENTITY.path(path), format!("{} exists", CLUSTER.name))),
        (None, false, Some(data)) => Err(missing(IDENTITY.path(path), data)),
        (Some(_), false, Some(data)) => Err(missing(CLUSTER.path(path), data)),
        (Some(identity), false, None) if !identity.cluster.is_empty() => {
            Err(missing(CLUSTER.path(path), "the node has formed".to_owned()))
        }
        (None | Some(_), false, None) | (Some(_), true, _) => Ok(()),
    }
}

fn check_identity(
    path: &Path,
    identity: IdentityBody,
    node_name: &str,
) -> Result<IdentityBody, DataDirError> {
    let path = IDENTITY.path(path);
    if identity.node == 0 {
        return Err(DataDirError::Damaged { path, why: "holds no id".to_owned() });
    }
    if identity.name != node_name {
        let why = format!("the directory is that of node {}, not {node_name}", identity.name);
        return Err(DataDirError::Foreign { path, why });
    }
    Ok(identity)
}

fn mint(disk: &dyn Disk, path: &Path, node_name: &str) -> Result<IdentityBody, DataDirError> {
    let node = rand::rng().random_range(1..=u64::MAX);
    let identity = IdentityBody { node, name: node_name.to_owned(), cluster: Vec::new() };
    IDENTITY.write(disk, path, &identity)?;
    Ok(identity)
}

fn check_cluster(
    path: &Path,
    body: &ClusterBody,
    cluster_name: &str,
    identity: &IdentityBody,
) -> Result<Formed, DataDirError> {
    let path = CLUSTER.path(path);
    if body.cluster_name != cluster_name {
        let why = format!("belongs to cluster {}, not {cluster_name}", body.cluster_name);
        return Err(DataDirError::Foreign { path, why });
    }
    let verified = Formed::verify(cluster_name, &body.cluster, &body.members, &body.seed);
    let Some(formed) = verified else {
        let why = "the cluster id does not follow from the members".to_owned();
        return Err(DataDirError::Damaged { path, why });
    };
    let formed = Formed { joined: body.joined, ..formed };
    let member = formed.holds(&identity.name, NodeId(identity.node));
    let same = identity.cluster.is_empty() || identity.cluster == body.cluster;
    if !member || !same {
        let why = format!("is not that of node {} ({})", identity.name, identity.node);
        return Err(DataDirError::Foreign { path, why });
    }
    Ok(formed)
}

#[cfg(test)]
mod tests;
