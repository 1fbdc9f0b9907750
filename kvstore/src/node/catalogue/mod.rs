//! The catalogue: what group 0 knows.
//!
//! Members with what they shall be, keyspaces with what they shall hold, fingerprints of the secrets, and
//! the one membership change that is being carried out. It lives in memory, is exported whole, and is otherwise rebuilt
//! from the log. Everything here is a pure function of the log: whether a change *may* begin now, with
//! respect to who is up, is judged by the leader before it proposes it ([`Catalogue::vet`]); what has
//! to be done next to carry it out, by `membership.rs` and `keyspaces.rs`.

mod actors;
mod eventual;
mod export;
mod keyspaces;
mod members;
mod secrets;

#[cfg(test)]
mod tests;

pub use actors::{ACTORS_AT_ONCE, Actors};
pub use eventual::ById;
pub use keyspaces::Keyspaces;
pub use members::{Member, Members, OpenChange, Wanted};
pub use secrets::SecretRecords;
pub(super) use secrets::record;

use proto::log::{Command, WriteOutcome, command::Body};
use proto::{Code, Failure, LogIndex, NodeId, Revision, Term, log};
use storage::state::StateError;

use crate::replication::raft::{StateMachine, Unread};
use crate::replication::{Found, Query};

/// Everything that group 0 agrees on.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    applied: LogIndex,
    term: Term,
    conf: Option<(log::ConfState, u64)>,
    members: Members,
    keyspaces: Keyspaces,
    secrets: SecretRecords,
    actors: Actors,
}

/// What an entry came to: a number for the answer, or why it was refused without effect.
type Verdict = Result<u64, Code>;

impl Catalogue {
    /// The catalogue of a cluster that has just formed: names without addresses, all of them voters,
    /// and the keyspace that always exists.
    #[must_use]
    pub fn formed(members: &[(NodeId, String)]) -> Self {
        Self {
            applied: LogIndex(0),
            term: Term(0),
            conf: None,
            members: Members::formed(members),
            keyspaces: Keyspaces::default(),
            secrets: SecretRecords::default(),
            actors: Actors::default(),
        }
    }

    /// Who belongs to the cluster.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Which keyspaces there are.
    #[must_use]
    pub fn keyspaces(&self) -> &Keyspaces {
        &self.keyspaces
    }

    /// What is recorded of the cluster's secrets.
    #[must_use]
    pub fn secrets(&self) -> &SecretRecords {
        &self.secrets
    }

    /// Actors of the eventual keyspaces that end.
    #[must_use]
    pub fn actors(&self) -> &Actors {
        &self.actors
    }

    /// Term of the last applied entry.
    #[must_use]
    pub fn applied_term(&self) -> Term {
        self.term
    }

    fn step(&mut self, command: &Command) -> Verdict {
        match &command.body {
            Some(Body::SetMember(set)) => self.members.set_addresses(set),
            Some(Body::ChangeMember(change)) => self.members.change(change),
            Some(Body::BindMember(bind)) => self.members.bind(bind),
            Some(Body::ChangeDone(done)) => self.members.done(done.change),
            Some(Body::PutKeyspace(put)) => self.keyspaces.put(put),
            Some(Body::PutSecret(put)) => self.secrets.put(put),
            Some(Body::RetireActors(retire)) => self.retire(retire),
            Some(Body::FoldActors(fold)) => self.actors.fold(fold),
            Some(
                Body::Write(_)
                | Body::OpenKeyspace(_)
                | Body::CloseKeyspace(_)
                | Body::Compact(_)
                | Body::PutItems(_),
            )
            | None => Err(Code::InvalidRequest),
        }
    }
}

impl Catalogue {
    fn retire(&mut self, retire: &log::RetireActors) -> Verdict {
        let is_other = retire.change != self.members.change_number();
        if is_other || self.members.open_change().is_some() {
            return Err(Code::ChangeInProgress);
        }
        self.actors.retire(retire)
    }
}

impl StateMachine for Catalogue {
    fn applied(&self) -> LogIndex {
        self.applied
    }

    fn apply(
        &mut self,
        index: LogIndex,
        term: Term,
        command: Option<&Command>,
    ) -> Result<Option<WriteOutcome>, StateError> {
        assert_eq!(index, self.applied.next(), "catalogue entries come in order");
        self.applied = index;
        self.term = term;
        let Some(command) = command else { return Ok(None) };
        let change = self.members.change_number();
        let verdict = self.step(command);
        if self.members.change_number() != change {
            self.actors.members_changed();
        }
        Ok(Some(match verdict {
            Ok(revision) => WriteOutcome { revision, succeeded: true, ..WriteOutcome::default() },
            Err(code) => WriteOutcome { refused: code.number(), ..WriteOutcome::default() },
        }))
    }

    fn apply_conf(&mut self, index: LogIndex, term: Term, conf: &log::ConfState, change: u64) {
        assert_eq!(index, self.applied.next(), "catalogue entries come in order");
        self.applied = index;
        self.term = term;
        self.conf = Some((conf.clone(), change));
    }

    fn conf(&self) -> Option<(&log::ConfState, u64)> {
        self.conf.as_ref().map(|(conf, change)| (conf, *change))
    }

    fn vet(&self, command: &Command, status: &consensus::GroupStatus) -> Result<(), Failure> {
        match &command.body {
            Some(Body::ChangeMember(change)) => {
                self.members.vet(change, status, self.keyspaces.any_eventual())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn read(&self, _keyspace: &str, query: &Query) -> Result<(Found, Revision), Unread> {
        match query {
            Query::Catalogue => Ok((Found::Catalogue(Box::new(self.clone())), Revision(0))),
            Query::Get { .. }
            | Query::Siblings { .. }
            | Query::Range(_)
            | Query::History { .. }
            | Query::Resolve
            | Query::Keyspaces => {
                let why = "group 0 holds no keyspace";
                Err(Failure::new(Code::KeyspaceNotFound, "", why).into())
            }
        }
    }
}
