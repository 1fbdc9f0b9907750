//! A secret, its name, and what is told of it.

use std::collections::BTreeMap;
use std::fmt;

use proto::{Hex, log};
use sha2::{Digest, Sha256};

/// Length of every secret.
pub const SECRET_BYTES: usize = 32;

/// Bytes of a fingerprint that are shown.
const SHOWN_BYTES: usize = 8;

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretKind {
    /// The hash tree of eventual keyspaces is made with it. The newest counts; it is turned only when all
    /// members have lost it.
    Tree,
    /// Signs what clients carry. The newest signs, older ones verify.
    Token,
}

impl SecretKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Tree, Self::Token];

    const fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Token => "token",
        }
    }
}

/// Names a secret of the cluster: `tree-1`, `token-3`. Numbers begin with 1 and are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretId {
    /// What it is for.
    pub kind: SecretKind,
    /// Counts the secrets of its kind.
    pub number: u32,
}

impl SecretId {
    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (kind, number) = name.split_once('-')?;
        let kind = SecretKind::ALL.into_iter().find(|known| known.name() == kind)?;
        let id = Self { kind, number: number.parse().ok()? };
        (id.number > 0 && id.to_string() == name).then_some(id)
    }

    /// Reads what travels; `None` when it is no name.
    #[must_use]
    pub fn from_wire(kind: i32, number: u32) -> Option<Self> {
        let kind = match log::SecretKind::try_from(kind).ok()? {
            log::SecretKind::Tree => SecretKind::Tree,
            log::SecretKind::Token => SecretKind::Token,
            log::SecretKind::Unspecified => return None,
        };
        (number > 0).then_some(Self { kind, number })
    }

    /// The kind as it travels.
    #[must_use]
    pub fn wire_kind(self) -> i32 {
        match self.kind {
            SecretKind::Tree => log::SecretKind::Tree.into(),
            SecretKind::Token => log::SecretKind::Token.into(),
        }
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind.name(), self.number)
    }
}

/// SHA-256 of the bytes of a secret: it says which they are, and nothing about them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Reads one; `None` when it has another length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.0[..SHOWN_BYTES]))
    }
}

/// A secret with its bytes, which are shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    id: SecretId,
    bytes: [u8; SECRET_BYTES],
    fingerprint: Fingerprint,
}

impl Secret {
    /// The secret with this name and these bytes.
    #[must_use]
    pub fn new(id: SecretId, bytes: [u8; SECRET_BYTES]) -> Self {
        Self { id, bytes, fingerprint: Fingerprint(Sha256::digest(bytes).into()) }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> SecretId {
        self.id
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.bytes
    }

    /// What is recorded of it.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, {:?})", self.id, self.fingerprint)
    }
}

/// All that a replica of eventual keyspaces needs: the key of the tree, and at least the key that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    tree: Secret,
    tokens: BTreeMap<u32, Secret>,
}

impl Secrets {
    /// From the newest key of the tree and the keys of tokens; `None` when there is none of the latter.
    #[must_use]
    pub fn new(tree: Secret, tokens: impl IntoIterator<Item = Secret>) -> Option<Self> {
        let tokens: BTreeMap<u32, Secret> =
            tokens.into_iter().map(|secret| (secret.id.number, secret)).collect();
        (!tokens.is_empty()).then_some(Self { tree, tokens })
    }

    /// The key of the tree.
    #[must_use]
    pub const fn tree(&self) -> &[u8; SECRET_BYTES] {
        self.tree.bytes()
    }

    /// Number of the key of the tree: it changes only when all members had lost the key.
    #[must_use]
    pub const fn tree_number(&self) -> u32 {
        self.tree.id.number
    }

    /// The keys of tokens with their numbers, ascending; at least one. The last one signs.
    pub fn tokens(&self) -> impl Iterator<Item = (u32, &[u8; SECRET_BYTES])> {
        self.tokens.iter().map(|(number, secret)| (*number, secret.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["tree-1", "token-1", "token-4294967295"] {
            assert_eq!(SecretId::parse(name).unwrap().to_string(), name);
        }
        for name in ["tree", "tree-", "tree-0", "tree-01", "token--1", "leaf-1", "token-1.new"] {
            assert_eq!(SecretId::parse(name), None, "{name}");
        }
        for id in ["tree-7", "token-7"].map(|name| SecretId::parse(name).unwrap()) {
            assert_eq!(SecretId::from_wire(id.wire_kind(), id.number), Some(id));
            assert_eq!(SecretId::from_wire(id.wire_kind(), 0), None);
        }
        assert_eq!(SecretId::from_wire(0, 1), None);
        assert_eq!(SecretId::from_wire(9, 1), None);
    }

    #[test]
    fn nobody_prints_the_bytes() {
        let bytes = [0xa5; SECRET_BYTES];
        let secret = Secret::new(SecretId::parse("tree-1").unwrap(), bytes);
        let token = Secret::new(SecretId::parse("token-2").unwrap(), bytes);
        let all = Secrets::new(secret.clone(), [token]).unwrap();
        let shown = format!("{secret:?} {secret:#?} {all:?} {all:#?}").to_lowercase();
        assert!(shown.contains("tree-1") && shown.contains("token-2"), "{shown}");
        for canary in ["a5a5", "165, 165", "165,"] {
            assert!(!shown.contains(canary), "{shown}");
        }
    }
}
