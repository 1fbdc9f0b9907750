//! Session tokens: all that a client has seen of a group, to be sent with its next read.
//!
//! ```text
//! token    kind | key number | data epoch | clock | MAC 16 B
//! ```
//!
//! A session token is the clock of the replica that answered, joined with the one that the client had. Who has a clock
//! that covers it shows nothing older: what is in a clock and not stored is obsolete. So it gives reads that never go
//! back and that see the client's own writes. It is never the context of a write: what it names was seen of the
//! group, not of the key (that would end values that nobody had read).
//!
//! # Guarantees
//! - The clock is exact, with its holes, and never trimmed. A token that would be longer than
//!   [`SESSION_BYTES_MAX`] is not given out.
//! - Names, folds and the MAC are those of causal tokens; the kind tells the two apart, and is under the MAC.
//! - Three actors that all members know take 64 bytes at most, and each hole some 4 more.

use super::{MAC_BYTES, Names, Resolver, TokenError, TokenScope};
use crate::clock::{Clock, put_clock, read_clock};
use crate::dot::Dot;
use crate::error::DecodeError;
use crate::replica::Replica;
use crate::wire::{Reader, put_number};

/// Length of a session token at most.
pub const SESSION_BYTES_MAX: usize = 4_096;

/// A session token whose names are all short.
const ALL_SHORT: u8 = 3;
/// One with at least one name that is not.
const MIXED: u8 = 4;
/// A session token is of no key.
const NO_KEY: &[u8] = b"";

/// A session token would be longer than [`SESSION_BYTES_MAX`]. The answer stands; the session cannot go on until a
/// session of anti-entropy has closed holes, or actors were folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session token would take {bytes} bytes")]
pub struct SessionFull {
    /// The length that it would have.
    pub bytes: usize,
}

/// Whether a replica may serve a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It has all that the session saw.
    Covered,
    /// It lacks this write. The client waits, or asks the node of the write's actor.
    NotYet {
        /// The first write that is missing.
        missing: Dot,
    },
}

/// Whether the replica may serve a session that has seen this clock.
#[must_use]
pub fn reach(replica: &Replica, seen: &Clock) -> Reach {
    let mut missing = seen.difference(replica.state().clock());
    match missing.next() {
        None => Reach::Covered,
        Some((actor, span)) => Reach::NotYet { missing: Dot::new(actor, span.first) },
    }
}

impl TokenScope<'_> {
    /// The bytes of a session token, made with the newest key.
    ///
    /// # Errors
    /// [`SessionFull`].
    pub fn issue_session(&self, seen: &Clock) -> Result<Vec<u8>, SessionFull> {
        let all_short = self.are_short(seen);
        let mut out = vec![if all_short { ALL_SHORT } else { MIXED }];
        put_number(&mut out, self.keys.newest().into());
        put_number(&mut out, self.epoch);
        let mut names = Names { names: self.names, all_short };
        put_clock(&mut out, seen, self.folds_everywhere, &mut names);
        let bytes = out.len() + MAC_BYTES;
        if bytes > SESSION_BYTES_MAX {
            return Err(SessionFull { bytes });
        }
        let mac = self.keys.sign(NO_KEY, &out);
        out.extend_from_slice(&mac);
        Ok(out)
    }

    /// Reads a session token that a client sent: the clock that it has seen.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify_session(&self, bytes: &[u8]) -> Result<Clock, TokenError> {
        let (kind, mut reader) = self.open(bytes, SESSION_BYTES_MAX, NO_KEY)?;
        let all_short = match kind {
            ALL_SHORT => true,
            MIXED => false,
            kind => return Err(TokenError::Unreadable(DecodeError::UnknownFormat(kind))),
        };
        self.read_session(all_short, &mut reader)
    }

    fn read_session(&self, all_short: bool, reader: &mut Reader<'_>) -> Result<Clock, TokenError> {
        let of = reader.number().map_err(TokenError::Unreadable)?;
        if of != self.epoch {
            return Err(TokenError::OtherEpoch { of });
        }
        let mut names = Resolver { names: self.names, all_short, unknown: None };
        let clock = read_clock(reader, &mut names, self.folds);
        names.judge(clock.and_then(|clock| reader.end().map(|()| clock)))
    }
}
