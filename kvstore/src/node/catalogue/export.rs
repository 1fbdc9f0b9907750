//! The catalogue as a record of an export.

use std::collections::BTreeSet;

use proto::log::{CatalogueState, MemberState};
use proto::{KeyspaceId, LogIndex, NodeId, Term, log, v1};

use super::{Actors, Catalogue, Keyspaces, Member, Members, OpenChange, SecretRecords};

impl Catalogue {
    /// Everything but the position.
    #[must_use]
    pub fn export(&self) -> CatalogueState {
        let Members { by_name, change, open, removed } = &self.members;
        CatalogueState {
            members: by_name.values().map(exported).collect(),
            keyspaces: self.keyspaces.iter().cloned().collect(),
            next_keyspace: self.keyspaces.next,
            change: *change,
            open: open.as_ref().map(|open| open.change.clone()),
            leaving: open.as_ref().and_then(|open| open.leaving.as_ref()).map(exported),
            removed: removed.iter().map(|id| id.get()).collect(),
            unsettled: self.keyspaces.unsettled.iter().map(|id| id.get()).collect(),
            secrets: self.secrets.exported(),
            actors: Some(self.actors.exported()),
        }
    }

    /// The catalogue of an export at this position.
    #[must_use]
    pub fn import(
        state: CatalogueState,
        applied: LogIndex,
        term: Term,
        conf: (log::ConfState, u64),
    ) -> Self {
        let leaving = state.leaving.map(imported);
        let members = Members {
            by_name: state.members.into_iter().map(named).collect(),
            change: state.change,
            open: state.open.map(|change| OpenChange { change, leaving }),
            removed: state.removed.into_iter().map(NodeId).collect::<BTreeSet<_>>(),
        };
        let mut keyspaces = Keyspaces::restored(state.keyspaces, state.next_keyspace);
        keyspaces.unsettled = state.unsettled.into_iter().map(KeyspaceId).collect();
        let secrets = SecretRecords::restored(&state.secrets);
        let actors = state.actors.as_ref().map(Actors::restored).unwrap_or_default();
        Self { applied, term, conf: Some(conf), members, keyspaces, secrets, actors }
    }
}

fn exported(member: &Member) -> MemberState {
    let Member { member, voter, promote } = member.clone();
    MemberState { member: Some(member), voter, promote }
}

fn imported(state: MemberState) -> Member {
    let MemberState { member, voter, promote } = state;
    let member: v1::Member = member.unwrap_or_default();
    Member { member, voter, promote }
}

fn named(state: MemberState) -> (String, Member) {
    let member = imported(state);
    (member.member.name.clone(), member)
}
