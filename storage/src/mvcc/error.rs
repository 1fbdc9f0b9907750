//! Why a read was refused.

use proto::Revision;

use crate::state::StateError;

/// Why a read of a [`Machine`](super::Machine) was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No keyspace has this id. The reader corrects its request.
    #[error("there is no such keyspace")]
    UnknownKeyspace,
    /// The revision is older than the history that is kept. The reader takes a newer one.
    #[error("revision {asked} is compacted; the oldest that is kept is {oldest}")]
    Compacted {
        /// The revision that was asked for.
        asked: Revision,
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// The keyspace has not reached the revision on this replica. The reader waits, or asks for an
    /// existing one.
    #[error("revision {asked} is in the future; the newest here is {newest}")]
    Future {
        /// The revision that was asked for.
        asked: Revision,
        /// The newest revision that can be read.
        newest: Revision,
    },
    /// The state store failed; it has to be rebuilt.
    #[error(transparent)]
    State(#[from] StateError),
}
