//! The node's replica of the eventual keyspaces: when it becomes a member of the group, and what it is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use gossip::group::Configuration;
use gossip::replica::Retiring;
use gossip::token::TokenKeys;
use gossip::tree::TreeKey;
use proto::v1::keyspace::Kind;
use proto::{GroupId, LogIndex, NodeId};

use super::Node;
use crate::replication::Replication;
use crate::replication::gossip::{CataloguedActors, CataloguedKeyspaces, GroupSecrets};
use crate::secrets::Secrets;

/// What the replica was told last.
#[derive(Debug, Default)]
pub struct ToldReplica {
    /// What group 0 said up to here.
    catalogue: Option<LogIndex>,
    /// The number of the newest key of tokens.
    token: Option<u32>,
}

impl Node {
    /// Tells the replica what has changed, and lets it become a member of the group once it may.
    pub(super) fn drive_eventual(&mut self) {
        self.tell_catalogue();
        let newest = |secrets: &Secrets| secrets.tokens().last().map(|(number, _)| number);
        let Some(secrets) = self.secrets() else { return };
        let token = newest(&secrets);
        if self.eventual.serves() {
            if self.told_replica.token != token {
                self.eventual.set_tokens(token_keys(&secrets));
                self.told_replica.token = token;
            }
            return;
        }
        // In a new directory, or where something is lost, it has to know what there is that it lacks, and who has it.
        let knows_all = self.meta.started();
        if !((knows_all || !self.eventual.is_new()) && self.eventual.may_join()) {
            return;
        }
        let tree = TreeKey::new(secrets.tree());
        self.told_replica.token = token;
        let secrets = GroupSecrets { tree, tokens: token_keys(&secrets) };
        if let Err(why) = self.eventual.join(secrets, knows_all) {
            let why = format!("the state of the eventual keyspaces is damaged: {why}");
            self.outbox.fail(GroupId::EVENTUAL, why);
        }
        self.outbox.again = true;
    }

    /// Whether the replica has been told all that the catalogue says.
    pub(super) fn replica_is_told(&self) -> bool {
        self.told_replica.catalogue == Some(self.meta.applied())
    }

    /// Tells the replica what the catalogue says, unless it has been told.
    pub(super) fn tell_catalogue(&mut self) {
        let applied = self.meta.applied();
        if self.replica_is_told() {
            return;
        }
        self.told_replica.catalogue = Some(applied);
        let catalogue = self.meta.machine();
        let eventual = catalogue.keyspaces().iter().filter(|k| k.kind() == Kind::Eventual);
        let open = eventual.cloned().collect();
        let said = CataloguedKeyspaces { open, next: catalogue.keyspaces().next_id() };
        self.eventual.set_keyspaces(&said);
        let own = self.config.id;
        let members = catalogue.members();
        // Who is leaving hands on what it took until it has gone; who hears that it is takes nothing any more.
        let known = members.reachable().filter_map(super::Member::id);
        let others: BTreeSet<NodeId> = known.filter(|id| *id != own).collect();
        let stays = members.iter().any(|member| member.id() == Some(own));
        // A node that has just joined does not know of itself yet.
        let is_unknown = members.with_id(own).is_none() && !members.removed().contains(&own);
        let counted = members.iter().filter_map(super::Member::id).filter(|id| *id != own);
        let configuration = Configuration {
            epoch: members.change_number(),
            others: counted.collect(),
            counts_itself: stays,
        };
        self.eventual.set_members(others, configuration, stays || is_unknown);
        // After the members: from when a replica says that it knows who retires, it hears nobody who was removed before.
        let actors = catalogue.actors();
        let retiring = actors.retiring().keys().copied().collect();
        let retiring = Retiring { round: actors.round(), actors: retiring };
        self.eventual.set_actors(CataloguedActors { retiring, folds: Arc::clone(actors.folds()) });
    }

    /// Whether members may change again: half of those that counted before the open change follow it, so they have no
    /// majority without these. Else two that know of neither of two changes could go on acknowledging among themselves what
    /// others do not see (model: `EpochNotAdopted`). Without eventual keyspaces nobody counts on it: who knows one that is created later
    /// follows all changes before.
    pub(super) fn is_change_followed(&self) -> bool {
        let catalogue = self.meta.machine();
        let has_eventual = catalogue.keyspaces().any_eventual();
        let mut former = catalogue.members().counted_before();
        let with_own = former.remove(&self.config.id);
        let is_told = self.told_replica.catalogue == Some(self.meta.applied());
        !has_eventual || (is_told && self.eventual.is_followed_by(&former, with_own))
    }
}

fn token_keys(secrets: &Secrets) -> TokenKeys {
    let mut tokens = secrets.tokens();
    let (number, secret) = tokens.next().expect("there is at least one");
    let mut keys = TokenKeys::new(number, secret);
    for (number, secret) in tokens {
        keys.add(number, secret);
    }
    keys
}
