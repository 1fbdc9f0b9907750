//! The catalogue: what group 0 knows.

use std::collections::BTreeMap;

use proto::log::{Command, WriteOutcome, command::Body};
use proto::{Code, Failure, KeyspaceId, LogIndex, NodeId, Revision, Term, v1};
use storage::state::StateError;

use crate::replication::raft::StateMachine;
use crate::replication::{Found, Query};

/// Members of the cluster with their names and addresses.
///
/// It lives in memory and is rebuilt from the log at each start.
#[derive(Debug, Default)]
pub struct Catalogue {
    applied: LogIndex,
    members: BTreeMap<NodeId, v1::Member>,
}

impl Catalogue {
    /// The catalogue of a cluster that has just formed: names without addresses.
    #[must_use]
    pub fn formed(members: &[(NodeId, String)]) -> Self {
        let member = |(id, name): &(NodeId, String)| {
            (*id, v1::Member { id: id.get(), name: name.clone(), ..v1::Member::default() })
        };
        Self { applied: LogIndex(0), members: members.iter().map(member).collect() }
    }

    /// The members, by id.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, v1::Member> {
        &self.members
    }
}

impl StateMachine for Catalogue {
    fn applied(&self) -> LogIndex {
        self.applied
    }

    fn apply(
        &mut self,
        index: LogIndex,
        _term: Term,
        command: Option<&Command>,
    ) -> Result<Option<WriteOutcome>, StateError> {
        assert_eq!(index, self.applied.next(), "catalogue entries come in order");
        self.applied = index;
        let Some(command) = command else { return Ok(None) };
        let refused = match &command.body {
            Some(Body::SetMember(set)) => match &set.member {
                // Only addresses change here: who is a member is a matter of membership changes.
                Some(member) if self.members.contains_key(&NodeId(member.id)) => {
                    self.members.insert(NodeId(member.id), member.clone());
                    None
                }
                Some(_) | None => Some(Code::InvalidRequest),
            },
            Some(
                Body::Write(_)
                | Body::ChangeMember(_)
                | Body::BindMember(_)
                | Body::ChangeDone(_)
                | Body::PutKeyspace(_)
                | Body::OpenKeyspace(_)
                | Body::CloseKeyspace(_)
                | Body::Compact(_),
            )
            | None => Some(Code::InvalidRequest),
        };
        let refused = refused.map_or(0, Code::number);
        Ok(Some(WriteOutcome { refused, ..WriteOutcome::default() }))
    }

    fn read(&self, _keyspace: KeyspaceId, _query: &Query) -> Result<(Found, Revision), Failure> {
        Err(Failure::new(Code::KeyspaceNotFound, "", "group 0 holds no keyspace"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_publish_addresses() {
        let mut catalogue = Catalogue::formed(&[(NodeId(3), "n1".into())]);
        let set = |id| Command {
            body: Some(Body::SetMember(proto::log::SetMember {
                member: Some(v1::Member {
                    id,
                    name: "n1".into(),
                    client_address: "127.0.0.1:7610".into(),
                    ..v1::Member::default()
                }),
            })),
        };
        let fine = catalogue.apply(LogIndex(1), Term(1), Some(&set(3))).unwrap().unwrap();
        assert_eq!(fine.refused, 0);
        let stranger = catalogue.apply(LogIndex(2), Term(1), Some(&set(4))).unwrap().unwrap();
        assert_eq!(stranger.refused, Code::InvalidRequest.number());
        assert_eq!(catalogue.members().len(), 1);
        assert_eq!(catalogue.members()[&NodeId(3)].client_address, "127.0.0.1:7610");
    }
}
