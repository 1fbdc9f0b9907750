//! Identifiers as newtypes.

use std::fmt;

/// Declares a newtype over `u64` with ordering, `Display` and conversion both ways.
macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The value that follows this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// The bare number, for the wire.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

numeric_id! {
    /// A node: 64 random bits minted once and synced before anyone is told. Never 0.
    NodeId
}
numeric_id! {
    /// A replica group, the unit of consensus. Group 0 holds the catalogue.
    GroupId
}
numeric_id! {
    /// A keyspace. Ids are never reused.
    KeyspaceId
}
numeric_id! {
    /// A Raft term.
    Term
}
numeric_id! {
    /// A position in a group's log; the first entry is 1.
    LogIndex
}
numeric_id! {
    /// A revision of one keyspace. An empty keyspace is at 1, its first write is 2.
    Revision
}
numeric_id! {
    /// Counts the writes of one client from 1.
    WriteSeq
}

impl GroupId {
    /// The group of the catalogue: members, keyspaces, access rules.
    pub const META: Self = Self(0);
    /// The first data group.
    pub const DATA: Self = Self(1);
    /// What a node's replica of the eventual keyspaces remembers: entries of this node alone.
    pub const EVENTUAL: Self = Self(2);
}

impl KeyspaceId {
    /// The keyspace `default`, a linearizable one that always exists.
    pub const DEFAULT: Self = Self(1);
}

impl Revision {
    /// The revision of an empty keyspace.
    pub const EMPTY: Self = Self(1);
}

/// Bytes that print as hex, two lower-case digits each.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl Hex<'_> {
    /// Reads such digits; `None` for any other text.
    #[must_use]
    pub fn read(text: &str) -> Option<Vec<u8>> {
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
        let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).ok();
        digits.chunks(2).map(byte).collect()
    }
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Declares an identifier of 16 bytes that prints as hex.
macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Reads the identifier from the wire; `None` unless it is 16 bytes long.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Hex(&self.0).fmt(f)
            }
        }
    };
}

bytes_id! {
    /// A client of exactly-once writes: 128 random bits.
    ClientId
}
bytes_id! {
    /// A cluster; stands in every file header and in the first message between peers.
    ClusterId
}
