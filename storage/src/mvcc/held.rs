//! What an item that begins a version holds: this version, or a pack of several.

use bytes::Bytes;
use proto::{KeyspaceId, Revision};

use super::key::{self, KeyPrefix};
use super::pack::Pack;
use super::version::{Head, StoredVersion};
use crate::state::StateError;

/// The versions whose heads are in one item.
#[derive(Clone, Debug)]
pub enum Held {
    /// One, the rest of whose value may be in further chunks.
    Alone(StoredVersion),
    /// Several, with their values.
    Pack(Pack),
}

impl Held {
    /// Reads the content of chunk 0 under `revision`: the lowest revision in it.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    pub fn decode(
        prefix: KeyPrefix,
        revision: Revision,
        content: Bytes,
    ) -> Result<Self, StateError> {
        if Pack::is_pack(&content) {
            return Pack::decode(prefix, revision, content).map(Self::Pack);
        }
        StoredVersion::decode(prefix, revision, content).map(Self::Alone)
    }

    /// The key prefix it was found under.
    pub fn prefix(&self) -> &KeyPrefix {
        match self {
            Self::Alone(version) => &version.prefix,
            Self::Pack(pack) => pack.prefix(),
        }
    }

    /// The keyspace it was found in.
    pub fn keyspace(&self) -> Option<KeyspaceId> {
        key::keyspace_of(self.prefix().as_bytes())
    }

    /// The heads of all versions, newest first; never empty.
    pub fn heads(&self) -> &[Head] {
        match self {
            Self::Alone(version) => std::slice::from_ref(&version.head),
            Self::Pack(pack) => pack.heads(),
        }
    }

    /// The head of the newest version.
    pub fn newest(&self) -> &Head {
        self.heads().first().expect("an item that was read holds a version")
    }

    /// The newest version that is not newer than `at`.
    pub fn at(self, at: Revision) -> Option<StoredVersion> {
        match self {
            Self::Alone(version) => Some(version).filter(|version| version.head.revision <= at),
            Self::Pack(pack) => pack.at(at),
        }
    }

    /// All versions, newest first.
    pub fn versions(self) -> impl Iterator<Item = StoredVersion> {
        let (alone, pack) = match self {
            Self::Alone(version) => (Some(version), None),
            Self::Pack(pack) => (None, Some(pack)),
        };
        alone.into_iter().chain(pack.into_iter().flat_map(Pack::versions))
    }
}
