//! Where the bytes of new secrets come from.

use std::fmt;
use std::io;

use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};

use super::{SECRET_BYTES, Secret, SecretId};

/// Keeps what is drawn here apart from whatever else is hashed.
const LABEL: &[u8] = b"kvstore drawn secret 1";

/// What a node draws secrets from: 256 random bits, new at every start of the process. It draws each
/// secret once.
#[derive(Clone)]
pub struct Entropy([u8; SECRET_BYTES]);

impl Entropy {
    /// From the random generator of the operating system.
    ///
    /// # Errors
    /// When the system has none.
    pub fn of_system() -> io::Result<Self> {
        let mut bytes = [0; SECRET_BYTES];
        SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }

    /// The same secrets for the same number, for tests and simulations: whoever knows the number knows the
    /// secrets.
    #[must_use]
    pub fn predictable(number: u64) -> Self {
        Self(Sha256::digest(number.to_be_bytes()).into())
    }

    /// The secret with this name.
    #[must_use]
    pub fn draw(&self, id: SecretId) -> Secret {
        let mut hash = Sha256::new();
        hash.update(LABEL);
        hash.update(self.0);
        hash.update(id.to_string());
        Secret::new(id, hash.finalize().into())
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::SecretKind;
    use super::*;

    #[test]
    fn every_secret_is_another_one() {
        let id = |kind, number| SecretId { kind, number };
        let mut drawn = Vec::new();
        for entropy in [Entropy::predictable(1), Entropy::predictable(2)] {
            for id in [id(SecretKind::Tree, 1), id(SecretKind::Token, 1), id(SecretKind::Token, 2)]
            {
                drawn.push(*entropy.draw(id).bytes());
            }
        }
        drawn.push(*Entropy::of_system().unwrap().draw(id(SecretKind::Tree, 1)).bytes());
        drawn.push(*Entropy::of_system().unwrap().draw(id(SecretKind::Tree, 1)).bytes());
        let before = drawn.len();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), before);
        let again = Entropy::predictable(1).draw(id(SecretKind::Tree, 1));
        assert_eq!(again, Entropy::predictable(1).draw(id(SecretKind::Tree, 1)));
    }
}
