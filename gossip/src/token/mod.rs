//! Tokens of clients: what was seen of a key, to be sent with the next write ([`Token`]); and what was seen of all keys,
//! to be sent with the next read ([`TokenScope::issue_session`]).
//!
//! ```text
//! token    kind | key number | keyspace | data epoch | stamp 6 B | clock | MAC 16 B
//! name     kind 1: the first 6 bytes of the actor
//!          kind 2: 0, then 6 bytes; or 1, then all 16
//! MAC      HMAC-SHA-256 over label, length of the key, key, and the token up to here; its first 16 B
//! ```
//!
//! # Guarantees
//! - A token holds the exact context, eff(k) with every exception, and is never trimmed: one that would
//!   be longer than [`TOKEN_BYTES_MAX`] is not given out, and a session has to close holes first.
//! - The stamp is that of the highest write covered, rounded up to a whole millisecond.
//! - The MAC covers the key that the token is of. eff(k) may hold dots that are obsolete for this key
//!   alone, so as a context of another key it could end a write that nobody had read.
//! - Forged, damaged and foreign tokens give one error, and so do tokens of another key. What a token
//!   is of is looked at only once its MAC holds.
//! - A token whose MAC holds is accepted whatever actors it names. A prefix is used only for actors
//!   that every member knows; younger ones are named in full, so a replica that has not heard of an
//!   actor yet takes the token all the same. The same holds for folds.
//!
//! The library for MACs is `ring`, which the connections use already. A token that names three actors
//! that all members know takes 64 bytes at most.

mod keys;
mod names;
mod session;

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::KeyspaceId;

pub use keys::TokenKeys;
pub use names::{ActorClash, ActorNames};
pub use session::{Reach, SESSION_BYTES_MAX, SessionFull, reach};

use crate::actor::{ActorId, ActorPrefix};
use crate::clock::{Clock, FoldNumber, Folds, NameReader, NameWriter, put_clock, read_clock};
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::record::EntryKey;
use crate::wire::{Reader, put_number};

/// Length of a token at most.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// Length of a MAC.
const MAC_BYTES: usize = 16;

/// Length of the stamp: whole milliseconds.
const STAMP_BYTES: usize = 6;

/// All names are short.
const ALL_SHORT: u8 = 1;
/// At least one name is not.
const MIXED: u8 = 2;

/// What a client saw of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The exact context.
    pub context: Arc<Clock>,
    /// At least the highest stamp of what was seen.
    pub stamp: Stamp,
}

/// Why a token was refused. The write has not happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Forged, damaged, of another cluster or of another key. The client reads again.
    #[error("not a token of this cluster for this key")]
    Invalid,
    /// The key that it was made with verifies no longer. The client reads again.
    #[error("the token is too old")]
    Expired,
    /// It is of another keyspace. The client's mistake.
    #[error("the token is of keyspace {of}")]
    OtherKeyspace {
        /// The keyspace that it is of.
        of: KeyspaceId,
    },
    /// It is of other data: restored, recovered or created again since. The client reads again.
    #[error("the token is of data epoch {of}")]
    OtherEpoch {
        /// The epoch that it is of.
        of: u64,
    },
    /// It names by prefix an actor that this replica does not know: the replica is behind all others. It
    /// closes a session first; the client tries again, or elsewhere.
    #[error("actor {0} is not known here yet")]
    UnknownActor(ActorPrefix),
    /// It names a fold that this replica does not know. As [`TokenError::UnknownActor`].
    #[error("fold {0} is not known here yet")]
    UnknownFold(FoldNumber),
    /// The MAC holds and the content is not known here: a newer version made it.
    #[error("a token of another version: {0}")]
    Unreadable(DecodeError),
}

/// A token would be longer than [`TOKEN_BYTES_MAX`]: the clock has too many holes. The read is answered
/// without a token, and a session closes the holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token would take {bytes} bytes")]
pub struct TokenTooLarge {
    /// The length that it would have.
    pub bytes: usize,
}

/// What a token is read and written with at one replica.
#[derive(Clone, Copy, Debug)]
pub struct TokenScope<'a> {
    /// The keys of the cluster.
    pub keys: &'a TokenKeys,
    /// The actors that are known here.
    pub names: &'a ActorNames,
    /// The folds that are known here.
    pub folds: &'a Folds,
    /// Up to which fold every member has said to know all of them. A token names no younger ones.
    pub folds_everywhere: FoldNumber,
    /// The data epoch of the cluster.
    pub epoch: u64,
}

impl TokenScope<'_> {
    /// The bytes of a token for `key`, made with the newest key.
    ///
    /// # Errors
    /// [`TokenTooLarge`].
    pub fn issue(&self, key: &EntryKey, token: &Token) -> Result<Vec<u8>, TokenTooLarge> {
        let all_short = self.are_short(&token.context);
        let mut out = vec![if all_short { ALL_SHORT } else { MIXED }];
        put_number(&mut out, self.keys.newest().into());
        put_number(&mut out, key.keyspace.get());
        put_number(&mut out, self.epoch);
        let ms = token.stamp.round_up().ms().to_be_bytes();
        out.extend_from_slice(&ms[ms.len() - STAMP_BYTES..]);
        let mut names = Names { names: self.names, all_short };
        put_clock(&mut out, &token.context, self.folds_everywhere, &mut names);
        let bytes = out.len() + MAC_BYTES;
        if bytes > TOKEN_BYTES_MAX {
            return Err(TokenTooLarge { bytes });
        }
        let mac = self.keys.sign(&key.key, &out);
        out.extend_from_slice(&mac);
        Ok(out)
    }

    /// Reads a token that a client sent with a request for `key`.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, key: &EntryKey, bytes: &[u8]) -> Result<Token, TokenError> {
        let (kind, mut reader) = self.open(bytes, TOKEN_BYTES_MAX, &key.key)?;
        self.read(key, kind, &mut reader)
    }

    /// Whether each actor of a clock is named by its first bytes or by its fold.
    fn are_short(&self, clock: &Clock) -> bool {
        let named = clock.folds().take_while(|fold| fold.number <= self.folds_everywhere);
        let folded: BTreeSet<ActorId> = named.map(|fold| fold.actor).collect();
        let mut actors = clock.tracks().map(|(actor, _)| actor);
        actors.all(|actor| folded.contains(actor) || self.names.short(actor).is_some())
    }

    /// The kind of a token whose MAC holds, and what follows the key number.
    fn open<'b>(
        &self,
        bytes: &'b [u8],
        bytes_max: usize,
        of: &[u8],
    ) -> Result<(u8, Reader<'b>), TokenError> {
        if bytes.len() > bytes_max {
            return Err(TokenError::Invalid);
        }
        let (content, mac) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(TokenError::Invalid)?;
        let mut reader = Reader::new(content);
        let head = |reader: &mut Reader<'_>| Ok((reader.byte()?, reader.number()?));
        let (kind, number) = head(&mut reader).map_err(|_: DecodeError| TokenError::Invalid)?;
        let number = u32::try_from(number).map_err(|_| TokenError::Invalid)?;
        self.keys.verify(number, of, content, mac)?;
        Ok((kind, reader))
    }

    /// Reads what follows the key number, of a token whose MAC holds.
    fn read(&self, key: &EntryKey, kind: u8, reader: &mut Reader<'_>) -> Result<Token, TokenError> {
        let all_short = match kind {
            ALL_SHORT => true,
            MIXED => false,
            _ => return Err(TokenError::Unreadable(DecodeError::UnknownFormat(kind))),
        };
        let number = |reader: &mut Reader<'_>| reader.number().map_err(TokenError::Unreadable);
        let of = KeyspaceId(number(reader)?);
        if of != key.keyspace {
            return Err(TokenError::OtherKeyspace { of });
        }
        let of = number(reader)?;
        if of != self.epoch {
            return Err(TokenError::OtherEpoch { of });
        }
        let mut ms = [0; 8];
        let stamp = reader.array::<STAMP_BYTES>().map_err(TokenError::Unreadable)?;
        ms[8 - STAMP_BYTES..].copy_from_slice(&stamp);
        let stamp = Stamp::at_ms(u64::from_be_bytes(ms));
        let mut names = Resolver { names: self.names, all_short, unknown: None };
        let context = read_clock(reader, &mut names, self.folds);
        let context = names.judge(context.and_then(|context| reader.end().map(|()| context)))?;
        Ok(Token { context: Arc::new(context), stamp })
    }
}

/// Writes names as short as they may be.
struct Names<'a> {
    names: &'a ActorNames,
    all_short: bool,
}

impl NameWriter for Names<'_> {
    fn put(&mut self, out: &mut Vec<u8>, actor: &ActorId) {
        match self.names.short(actor) {
            Some(prefix) => {
                if !self.all_short {
                    out.push(0);
                }
                out.extend_from_slice(prefix.as_bytes());
            }
            None => {
                out.push(1);
                out.extend_from_slice(actor.as_bytes());
            }
        }
    }
}

/// Reads names, and remembers the prefix that nobody here has.
struct Resolver<'a> {
    names: &'a ActorNames,
    all_short: bool,
    unknown: Option<ActorPrefix>,
}

impl Resolver<'_> {
    /// What came of reading a clock with these names.
    fn judge(&self, clock: Result<Clock, DecodeError>) -> Result<Clock, TokenError> {
        match (clock, self.unknown) {
            (Ok(clock), _) => Ok(clock),
            (Err(_), Some(prefix)) => Err(TokenError::UnknownActor(prefix)),
            (Err(DecodeError::UnknownFold(fold)), None) => Err(TokenError::UnknownFold(fold)),
            (Err(cause), None) => Err(TokenError::Unreadable(cause)),
        }
    }
}

impl NameReader for Resolver<'_> {
    const BYTES_MIN: usize = ActorPrefix::BYTES;

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<ActorId, DecodeError> {
        if !self.all_short {
            match reader.byte()? {
                0 => {}
                1 => return Ok(ActorId::from_bytes(reader.array()?)),
                _ => return Err(DecodeError::OutOfRange("kind of a name")),
            }
        }
        let prefix = ActorPrefix::from_bytes(reader.array()?);
        self.names.resolve(prefix).ok_or_else(|| {
            self.unknown = Some(prefix);
            DecodeError::OutOfRange("prefix of an actor")
        })
    }
}

#[cfg(test)]
mod tests;
