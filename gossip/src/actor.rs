//! Who issues dots.

use std::cmp::Ordering;
use std::fmt;

use proto::Hex;
use rand::Rng;

/// Who issues dots: 128 random bits, minted at every start of a node.
///
/// Nothing about an actor is read back from a disk, because a disk that was copied or rolled back
/// would say the same as the one it came from. So no two owners share an actor, and a dot is never
/// issued twice. A node that starts seals its former actor: that one issues nothing any more.
pub type ActorId = ActorBytes<16>;

/// The first six bytes of an actor.
///
/// Ten thousand actors share a prefix with a chance of one in five million. Who finds two that do
/// names both in full and has the younger one minted again
/// ([`ActorNames`](crate::token::ActorNames)).
pub type ActorPrefix = ActorBytes<6>;

/// So many bytes that name an actor: all of them ([`ActorId`]) or the first few ([`ActorPrefix`]).
///
/// Ordered by its bytes; the order means nothing but is the same everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ActorBytes<const N: usize>([u8; N]);

impl<const N: usize> ActorBytes<N> {
    /// How many these are, on the wire too.
    pub const BYTES: usize = N;

    /// The actor, or the prefix, that these bytes name.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Ord for ActorBytes<N> {
    /// All indexes of dots compare actors first, so sixteen bytes are compared as one number.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.0.first_chunk(), other.0.first_chunk()) {
            (Some(mine), Some(theirs)) => {
                let order = u128::from_be_bytes(*mine).cmp(&u128::from_be_bytes(*theirs));
                order.then_with(|| self.0.cmp(&other.0))
            }
            _ => self.0.cmp(&other.0),
        }
    }
}

impl<const N: usize> PartialOrd for ActorBytes<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl ActorId {
    /// A new actor that nobody else has.
    #[must_use]
    pub fn mint(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; Self::BYTES];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The short form, for tokens.
    #[must_use]
    pub fn prefix(&self) -> ActorPrefix {
        let mut prefix = [0; ActorPrefix::BYTES];
        prefix.copy_from_slice(&self.0[..ActorPrefix::BYTES]);
        ActorBytes(prefix)
    }
}

impl<const N: usize> fmt::Display for ActorBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

/// The short form.
impl<const N: usize> fmt::Debug for ActorBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0[..ActorPrefix::BYTES]).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
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

    #[test]
    fn the_order_is_that_of_the_bytes() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..1_000 {
            let mut other = *ActorId::mint(&mut rng).as_bytes();
            let one = ActorId::from_bytes(other);
            other[rng.random_range(0..ActorId::BYTES)] ^= 1 << rng.random_range(0..8);
            let two = ActorId::from_bytes(other);
            assert_eq!(one.cmp(&two), one.as_bytes().cmp(two.as_bytes()));
            assert_eq!(one.cmp(&one), Ordering::Equal);
            assert_eq!(
                one.prefix().cmp(&two.prefix()),
                one.prefix().as_bytes().cmp(two.prefix().as_bytes())
            );
        }
    }
}
