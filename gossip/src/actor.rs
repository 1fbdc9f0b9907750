//! Who issues dots.

use std::fmt;

use proto::Hex;
use rand::Rng;

/// Who issues dots: 128 random bits, minted at every start of a node.
///
/// Nothing about an actor is read back from a disk, because a disk that was copied or rolled back
/// would say the same as the one it came from. So no two owners share an actor, and a dot is never
/// issued twice. A node that starts seals its former actor: that one issues nothing any more.
///
/// Ordered by its bytes; the order means nothing but is the same everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId([u8; Self::BYTES]);

impl ActorId {
    /// Bytes of an actor on the wire.
    pub const BYTES: usize = 16;

    /// A new actor that nobody else has.
    #[must_use]
    pub fn mint(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; Self::BYTES];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The actor that these bytes name.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes that name this actor.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The short form, for tokens.
    #[must_use]
    pub fn prefix(&self) -> ActorPrefix {
        let mut prefix = [0; ActorPrefix::BYTES];
        prefix.copy_from_slice(&self.0[..ActorPrefix::BYTES]);
        ActorPrefix(prefix)
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix().fmt(f)
    }
}

/// The first six bytes of an actor.
///
/// Ten thousand actors share a prefix with a chance of one in five million. Who finds two that do
/// names both in full and has the younger one minted again
/// ([`ActorNames`](crate::token::ActorNames)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorPrefix([u8; Self::BYTES]);

impl ActorPrefix {
    /// Bytes of a prefix on the wire.
    pub const BYTES: usize = 6;

    /// The prefix that these bytes are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes of the prefix.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for ActorPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for ActorPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn actors_are_minted_apart_and_print_as_hex() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let first = ActorId::mint(&mut rng);
        let second = ActorId::mint(&mut rng);
        assert_ne!(first, second);
        assert_eq!(first.to_string().len(), 32);
        assert!(first.to_string().starts_with(&first.prefix().to_string()));
    }
}
