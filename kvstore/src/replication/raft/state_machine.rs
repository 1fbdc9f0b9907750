//! What a Raft group drives with its committed entries.

use proto::log::{Command, WriteOutcome};
use proto::{Failure, KeyspaceId, LogIndex, Revision, Term};
use storage::mvcc::Machine;
use storage::state::StateError;

use crate::replication::{Found, Query};

/// A deterministic state machine: the same entries lead to the same state and the same outcomes
/// on every replica.
pub trait StateMachine {
    /// Index of the last entry whose effects are visible.
    fn applied(&self) -> LogIndex;

    /// Applies the entry that follows the last one; `None` is a leader's no-op.
    ///
    /// # Errors
    /// An error is this replica's own (its store failed), never a matter of the entry: the node
    /// must stop.
    fn apply(
        &mut self,
        index: LogIndex,
        term: Term,
        command: Option<&Command>,
    ) -> Result<Option<WriteOutcome>, StateError>;

    /// Reads from the applied state, with the revision at which the answer holds.
    ///
    /// # Errors
    /// An answer to the client, such as a compacted revision.
    fn read(&self, keyspace: KeyspaceId, query: &Query) -> Result<(Found, Revision), Failure>;
}

impl StateMachine for Machine {
    fn applied(&self) -> LogIndex {
        Self::applied(self)
    }

    fn apply(
        &mut self,
        index: LogIndex,
        term: Term,
        command: Option<&Command>,
    ) -> Result<Option<WriteOutcome>, StateError> {
        Self::apply(self, index, term, command)
    }

    fn read(&self, keyspace: KeyspaceId, query: &Query) -> Result<(Found, Revision), Failure> {
        match query {
            Query::Get { key, at } => {
                let item = self.get(keyspace, key, *at).map_err(super::read_failure)?;
                Ok((Found::Item(item), at.unwrap_or_else(|| self.revision(keyspace))))
            }
            Query::Range(range) => {
                let page = self.range(keyspace, range).map_err(super::read_failure)?;
                let revision = page.revision;
                Ok((Found::Page(page), revision))
            }
        }
    }
}
