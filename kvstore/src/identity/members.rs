//! The members as the node last knew them, kept for the next start.
//!
//! The catalogue of the cluster is what counts; this is a copy for the time until it is open again:
//! whom to dial, and whom to refuse. So a damaged copy is worth a warning and no more.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use proto::{NodeId, v1};
use storage::disk::Disk;

use super::error::DataDirError;
use super::lock::DirectoryLock;
use super::record::Record;

pub(super) const MEMBERS: Record<MembersBody> =
    Record { name: "members", magic: *b"KVMEMBR\n", version: 1, body: PhantomData };

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MembersBody {
    #[prost(message, repeated, tag = "1")]
    members: Vec<v1::Member>,
    #[prost(fixed64, repeated, tag = "2")]
    removed: Vec<u64>,
}

/// Who belongs to the cluster, and who does so no more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberList {
    /// The members, this node among them. One whose id is 0 was added and has not joined yet.
    pub members: Vec<v1::Member>,
    /// Ids that were removed. They never come back.
    pub removed: BTreeSet<NodeId>,
}

impl From<MembersBody> for MemberList {
    fn from(body: MembersBody) -> Self {
        let removed = body.removed.into_iter().map(NodeId).collect();
        Self { members: body.members, removed }
    }
}

/// Writes the members into a data directory, as long as this process has it locked.
#[derive(Clone, Debug)]
pub struct MembersFile {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) directory: PathBuf,
    pub(super) lock: Weak<DirectoryLock>,
}

impl MembersFile {
    /// Replaces the list; durable on return. Does nothing once the directory was given up. One call
    /// at a time.
    ///
    /// # Errors
    /// [`DataDirError::Io`]; the list before it is still there.
    pub fn write(&self, list: &MemberList) -> Result<(), DataDirError> {
        // Held until the file is written, so that it is never written beside another process.
        let Some(_locked) = self.lock.upgrade() else { return Ok(()) };
        let removed = list.removed.iter().map(|node| node.get()).collect();
        let body = MembersBody { members: list.members.clone(), removed };
        MEMBERS.write(&*self.disk, &self.directory, &body)
    }
}
