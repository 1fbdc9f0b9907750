//! How eventual keyspaces are found: those that no group but group 0 knows by name.

use proto::v1::keyspace::Kind;
use proto::{KeyspaceId, v1};

use super::{Catalogue, Keyspaces};

/// What an id says about an eventual keyspace, as of this catalogue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ById<'a> {
    /// It exists.
    Live(&'a v1::Keyspace),
    /// It was removed, or the id belongs to a keyspace of another kind: there will never be one.
    Removed,
    /// The id was not given yet, as far as this catalogue knows: there may be one later.
    Unknown,
}

impl ById<'_> {
    /// Whether the keyspace exists.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }
}

impl Keyspaces {
    /// The eventual keyspace of this name.
    #[must_use]
    pub fn eventual(&self, name: &str) -> Option<&v1::Keyspace> {
        self.named(name).filter(|keyspace| keyspace.kind() == Kind::Eventual)
    }

    /// Whether there is any eventual keyspace.
    #[must_use]
    pub fn any_eventual(&self) -> bool {
        self.iter().any(|keyspace| keyspace.kind() == Kind::Eventual)
    }

    /// What is known of the eventual keyspace with this id.
    #[must_use]
    pub fn eventual_by_id(&self, id: KeyspaceId) -> ById<'_> {
        match self.by_id.get(&id) {
            Some(keyspace) if keyspace.kind() == Kind::Eventual => ById::Live(keyspace),
            Some(_) => ById::Removed,
            None if id.get() < self.next => ById::Removed,
            None => ById::Unknown,
        }
    }
}

impl Catalogue {
    /// The eventual keyspace of this name; such a keyspace is known to group 0 only.
    #[must_use]
    pub fn eventual(&self, name: &str) -> Option<&v1::Keyspace> {
        self.keyspaces.eventual(name)
    }

    /// What is known of the eventual keyspace with this id.
    #[must_use]
    pub fn eventual_by_id(&self, id: KeyspaceId) -> ById<'_> {
        self.keyspaces.eventual_by_id(id)
    }
}
