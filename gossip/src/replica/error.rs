//! Why a replica refused.

use super::SIBLINGS_MAX;

/// Why a write was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteRefused {
    /// No keyspace has this id here, or it was removed. The client corrects its request.
    #[error("there is no such keyspace")]
    UnknownKeyspace,
    /// The write would leave more than [`SIBLINGS_MAX`] values of the key. The client reads them and
    /// writes with what it has read.
    #[error("the key has {0} concurrent values; no more than {SIBLINGS_MAX} are taken")]
    TooManySiblings(usize),
    /// What the client saw holds a dot of this replica's actor that was never issued here: the disk was
    /// rolled back or copied. The caller mints and tries again.
    #[error("the context knows a later write of this replica than the replica itself")]
    OwnActorAhead,
    /// This replica has lost something of the key, or of one beside it, so it cannot say what the write would
    /// supersede. The client goes elsewhere.
    #[error("the replica has lost something of the key")]
    Damaged,
    /// There is nothing of that name that has expired. Somebody was faster.
    #[error("there is no such value past its deadline")]
    NotExpired,
}

/// Why a record was not applied, or a session not closed. Nothing changed. A session of which a
/// record was not applied must not be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotApplied {
    /// The catalogue says nothing of the keyspace yet: this node lags behind it. The record waits.
    #[error("the keyspace is not known yet")]
    UnknownKeyspace,
    /// The replica was never started: it has no actor, and what it takes may need a write of its own.
    #[error("the replica has no actor yet")]
    NotStarted,
    /// What was said of a whole key contradicts itself. The fault is the sender's.
    #[error("what was said of a key contradicts itself")]
    Contradiction,
    /// Its actor retires or is folded, and it is unknown here: only a session with a member may bring it.
    #[error("the actor of the record has ended")]
    Retiring,
    /// As [`WriteRefused::OwnActorAhead`].
    #[error("the record knows a later write of this replica than the replica itself")]
    OwnActorAhead,
}
