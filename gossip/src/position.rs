//! What has to be durable before something leaves.

/// How many batches of changes a replica has made since it was started or resumed.
///
/// A replica changes in memory at once; its changes become durable later, in order. Whatever tells of its state
/// must not leave the node before: an acknowledgement, a record, a Hello, a part of a session, a token, the answer to
/// a read. Else a crash takes back what somebody has heard of: a dot is issued twice, or a clock claims a write
/// that no disk has.
///
/// The caller notes the position after each batch of changes that it hands to the log, and lets out what waits for it
/// when the log says that the batch is durable. If the log fails, the replica is ahead of its disk for good and is
/// thrown away. Positions begin anew with each start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The position after one more batch.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Something that leaves once a position is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving<T> {
    /// What has to be durable before.
    pub after: Position,
    /// What leaves.
    pub what: T,
}
