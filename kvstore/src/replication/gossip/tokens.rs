//! Causal tokens, as clients send and get them.

use std::sync::Arc;

use bytes::Bytes;
use gossip::Dot;
use gossip::record::EntryKey;
use gossip::replica::Basis;
use gossip::token::{Token, TokenError, TokenScope};
use proto::{Code, Failure, v1};

use super::{GossipConfig, Serving, refused};

impl Serving {
    fn scope(&self, config: &GossipConfig) -> TokenScope<'_> {
        let folds = self.group.replica().state().folds();
        let (keys, names) = (&self.tokens, &self.names);
        let folds_everywhere = self.group.folds_everywhere();
        TokenScope { keys, names, folds, folds_everywhere, epoch: config.epoch }
    }

    /// The bytes of a token. Empty where it would be too long: sessions close the holes that make it so.
    pub(super) fn issue(&self, key: &EntryKey, token: &Token, config: &GossipConfig) -> Bytes {
        self.scope(config).issue(key, token).map(Bytes::from).unwrap_or_default()
    }

    /// The token of what a client that reads the key now has seen.
    pub(super) fn read_token(&self, key: &EntryKey, config: &GossipConfig) -> Bytes {
        // What it tells of is durable before the answer leaves.
        self.issue(key, &self.group.replica().token(key).what, config)
    }

    /// The token of a write that was taken here: of it, and all that it superseded.
    pub(super) fn write_token(&self, key: &EntryKey, dot: Dot, config: &GossipConfig) -> Bytes {
        let token = self.group.token_of(key, dot);
        token.map(|token| self.issue(key, &token, config)).unwrap_or_default()
    }

    /// What a write with this token supersedes.
    pub(super) fn basis(
        &self,
        key: &EntryKey,
        token: &[u8],
        config: &GossipConfig,
    ) -> Result<Basis, Failure> {
        if token.is_empty() {
            return Ok(Basis::Held);
        }
        let Token { context, stamp } =
            self.scope(config).verify(key, token).map_err(token_refused)?;
        Ok(Basis::Seen { context: Arc::clone(&context), stamp })
    }
}

/// The name of a write as clients see it.
pub(super) fn shown(dot: Dot) -> v1::Dot {
    v1::Dot { actor: Bytes::copy_from_slice(dot.actor.as_bytes()), counter: dot.counter }
}

fn token_refused(error: TokenError) -> Failure {
    let code = match error {
        TokenError::Invalid | TokenError::Unreadable(_) => Code::TokenInvalid,
        TokenError::Expired | TokenError::OtherEpoch { .. } => Code::TokenExpired,
        TokenError::OtherKeyspace { .. } => Code::TokenOtherKeyspace,
        TokenError::UnknownActor(_) | TokenError::UnknownFold(_) => Code::TokenAhead,
    };
    refused(code, error.to_string())
}
