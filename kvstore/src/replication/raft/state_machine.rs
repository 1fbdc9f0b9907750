//! What a Raft group drives with its committed entries.

use consensus::GroupStatus;
use proto::log::{Command, WriteOutcome};
use proto::{Code, Failure, LogIndex, Revision, Term, log, v1};
use storage::mvcc::{KeyspaceInfo, Machine, ReadError};
use storage::state::StateError;

use crate::replication::{Found, Query};

/// A deterministic state machine: the same entries lead to the same state and the same outcomes
/// on every replica.
pub trait StateMachine: Send + 'static {
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

    /// Notes the members as of this entry, which takes the place of a command.
    fn apply_conf(&mut self, index: LogIndex, term: Term, conf: &log::ConfState, change: u64);

    /// The members as of the last applied entry, with the number of the newest membership change;
    /// `None` as long as they are those that the group began with.
    fn conf(&self) -> Option<(&log::ConfState, u64)>;

    /// Whether this command may be proposed now: the leader's judgement of what apply cannot know,
    /// such as who is up.
    ///
    /// # Errors
    /// The answer to whoever asked for it.
    fn vet(&self, _command: &Command, _status: &GroupStatus) -> Result<(), Failure> {
        Ok(())
    }

    /// Reads from the applied state, with the revision at which the answer holds.
    ///
    /// # Errors
    /// See [`Unread`].
    fn read(&self, keyspace: &str, query: &Query) -> Result<(Found, Revision), Unread>;
}

/// Why a read came to nothing.
#[derive(Debug)]
pub enum Unread {
    /// An answer to the client, such as a compacted revision.
    Refused(Failure),
    /// This replica's store failed, or holds something that does not verify: it has to be built anew, and
    /// another replica may answer.
    Store(StateError),
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
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

    fn apply_conf(&mut self, index: LogIndex, term: Term, conf: &log::ConfState, change: u64) {
        Self::apply_conf(self, index, term, conf, change);
    }

    fn conf(&self) -> Option<(&log::ConfState, u64)> {
        Self::conf(self)
    }

    fn vet(&self, command: &Command, _status: &GroupStatus) -> Result<(), Failure> {
        if let Some(log::command::Body::PutItems(_)) = &command.body {
            let why = "items belong into the log of one node, not into a data group";
            return Err(Failure::new(Code::InvalidRequest, "", why));
        }
        Ok(())
    }

    fn read(&self, keyspace: &str, query: &Query) -> Result<(Found, Revision), Unread> {
        if let Query::Keyspaces = query {
            return Ok((Found::Keyspaces(self.keyspaces().map(view).collect()), Revision(0)));
        }
        let id = self.keyspace(keyspace).ok_or_else(|| no_keyspace(keyspace))?;
        let revision = |at: &Option<Revision>| at.unwrap_or_else(|| self.revision(id));
        match query {
            Query::Get { key, at } => {
                let item = self.get(id, key, *at).map_err(read_failure)?;
                Ok((Found::Item(item), revision(at)))
            }
            Query::Range(range) => {
                let page = self.range(id, range).map_err(read_failure)?;
                let at = page.revision;
                Ok((Found::Page(page), at))
            }
            Query::History { key, before, limit, keys_only } => {
                let page = self.history(id, key, *before, *limit, *keys_only);
                Ok((Found::History(page.map_err(read_failure)?), revision(&None)))
            }
            Query::Resolve => Ok((Found::Keyspace(id), revision(&None))),
            Query::Siblings { .. } => {
                let why = "keys of a linearizable keyspace have one value";
                Err(Failure::new(Code::VerbNotOffered, "", why).into())
            }
            Query::Keyspaces | Query::Catalogue => {
                Err(Failure::new(Code::InvalidRequest, "", "a data group holds no catalogue")
                    .into())
            }
        }
    }
}

fn view(info: KeyspaceInfo) -> v1::KeyspaceView {
    v1::KeyspaceView {
        keyspace: Some(info.descriptor),
        revision: info.revision.get(),
        compacted: info.compacted.get(),
        live_keys: info.live_keys,
        live_bytes: info.live_bytes,
    }
}

/// The error for a name that no keyspace has.
pub(crate) fn no_keyspace(name: &str) -> Failure {
    let why = format!("no keyspace is named \"{}\"", name.escape_default());
    Failure::new(Code::KeyspaceNotFound, "", why)
}

/// What becomes of a read that the state machine refused.
fn read_failure(error: ReadError) -> Unread {
    let code = match error {
        ReadError::Compacted { .. } => Code::Compacted,
        ReadError::Future { .. } => Code::FutureRevision,
        ReadError::UnknownKeyspace => Code::KeyspaceNotFound,
        ReadError::State(error) => return Unread::Store(error),
    };
    Failure::new(code, "", error.to_string()).into()
}
