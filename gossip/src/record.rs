//! What travels: one write as it was made.

use bytes::Bytes;
use proto::KeyspaceId;
use proto::limits::KEY_BYTES_MAX;

use crate::context::Context;
use crate::dot::Dot;
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::wire::{Reader, put_bytes, put_number};

/// A key of a keyspace. All eventual keyspaces of a group share one replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key in it.
    pub key: Bytes,
}

impl EntryKey {
    /// The key of a keyspace.
    #[must_use]
    pub fn new(keyspace: KeyspaceId, key: impl Into<Bytes>) -> Self {
        Self { keyspace, key: key.into() }
    }

    /// The first of all.
    #[must_use]
    pub fn lowest() -> Self {
        Self::new(KeyspaceId(0), Bytes::new())
    }
}

/// Appends a key.
pub(crate) fn put_key(out: &mut Vec<u8>, key: &EntryKey) {
    put_number(out, key.keyspace.get());
    put_bytes(out, &key.key);
}

/// Reads a key: no longer than clients may name one.
pub(crate) fn read_key(reader: &mut Reader<'_>) -> Result<EntryKey, DecodeError> {
    let keyspace = KeyspaceId(reader.number()?);
    Ok(EntryKey { keyspace, key: reader.bytes_up_to(KEY_BYTES_MAX, "length of a key")? })
}

/// What a write put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A value.
    Value(Bytes),
    /// Nothing: the death certificate of what the write superseded.
    Certificate,
}

impl Body {
    /// Whether it is a certificate.
    #[must_use]
    pub const fn is_certificate(&self) -> bool {
        matches!(self, Self::Certificate)
    }

    /// How long its value is; 0 for a certificate.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        match self {
            Self::Value(value) => value.len(),
            Self::Certificate => 0,
        }
    }
}

/// One write as its replica made it. It never changes, and it means the same wherever and however
/// late it arrives.
///
/// A record always has its context. What a replica stores after it dropped the context is no record
/// any more: it travels only inside a whole entry, under the clock of its sender
/// ([`Staged`](crate::replica::Staged)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was written to.
    pub key: EntryKey,
    /// The name of the write.
    pub dot: Dot,
    /// Above all stamps that the write covers; of a collapse or an expiry, the stamp of what it stands for.
    pub stamp: Stamp,
    /// The dot that decides between equal stamps where the last writer wins: the write's own, or the rank of the
    /// write that it stands for.
    pub rank: Dot,
    /// What was put.
    pub body: Body,
    /// From this time on reads hide the value.
    pub deadline: Option<Stamp>,
    /// What the write supersedes.
    pub context: Context,
}
