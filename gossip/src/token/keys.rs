//! The keys that tokens are made with.

use std::collections::BTreeMap;
use std::fmt;

use ring::hmac;
use subtle::ConstantTimeEq;

use super::{MAC_BYTES, TokenError};

/// What a MAC is of, so that a key of tokens signs nothing else.
const LABEL: &[u8] = b"kvstore causal token 1";

/// The keys of a cluster's tokens, by their numbers. The newest makes tokens; older ones verify for a
/// while and then only tell that a token is too old.
///
/// The secrets lie in files of their own, not in the log and in no export.
#[derive(Clone)]
pub struct TokenKeys {
    newest: u32,
    keys: BTreeMap<u32, (hmac::Key, Standing)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Verifies,
    Expired,
}

impl TokenKeys {
    /// The keys with a first one.
    #[must_use]
    pub fn new(number: u32, secret: &[u8; 32]) -> Self {
        let mut keys = Self { newest: number, keys: BTreeMap::new() };
        keys.add(number, secret);
        keys
    }

    /// Adds a key. The one with the highest number makes tokens from now on.
    pub fn add(&mut self, number: u32, secret: &[u8; 32]) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        self.keys.insert(number, (key, Standing::Verifies));
        self.newest = self.newest.max(number);
    }

    /// Tokens of this key are too old from now on. Nothing happens to the newest.
    pub fn expire(&mut self, number: u32) {
        if let Some((_, standing)) = self.keys.get_mut(&number).filter(|_| number != self.newest) {
            *standing = Standing::Expired;
        }
    }

    /// The number of the key that makes tokens.
    #[must_use]
    pub const fn newest(&self) -> u32 {
        self.newest
    }

    /// The MAC of the newest key.
    pub(super) fn sign(&self, of: &[u8], content: &[u8]) -> [u8; MAC_BYTES] {
        let (key, _) = &self.keys[&self.newest];
        mac(key, of, content)
    }

    /// Checks a MAC, in a time that does not depend on where it is wrong.
    pub(super) fn verify(
        &self,
        number: u32,
        of: &[u8],
        content: &[u8],
        claimed: &[u8; MAC_BYTES],
    ) -> Result<(), TokenError> {
        let (key, standing) = self.keys.get(&number).ok_or(TokenError::Invalid)?;
        if !bool::from(mac(key, of, content).ct_eq(claimed)) {
            return Err(TokenError::Invalid);
        }
        match standing {
            Standing::Verifies => Ok(()),
            Standing::Expired => Err(TokenError::Expired),
        }
    }
}

fn mac(key: &hmac::Key, of: &[u8], content: &[u8]) -> [u8; MAC_BYTES] {
    let mut context = hmac::Context::with_key(key);
    context.update(LABEL);
    context.update(&(of.len() as u64).to_be_bytes());
    context.update(of);
    context.update(content);
    let tag = context.sign();
    *tag.as_ref().first_chunk().expect("a tag has 32 bytes")
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.keys.iter().map(|(n, (_, standing))| (n, standing)).collect();
        f.debug_struct("TokenKeys").field("newest", &self.newest).field("keys", &numbers).finish()
    }
}
