//! Which actors may be named by their first bytes.

use std::collections::{BTreeMap, BTreeSet};

use crate::actor::{ActorId, ActorPrefix};

/// Two actors with one prefix. The node of the younger one mints again; until then, and for what it has
/// issued, both are named in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActorClash {
    /// One of them.
    pub one: ActorId,
    /// The other.
    pub other: ActorId,
}

/// The actors that a replica knows, by their prefixes.
#[derive(Clone, Debug, Default)]
pub struct ActorNames {
    known: BTreeMap<ActorPrefix, ActorId>,
    everywhere: BTreeSet<ActorId>,
    clashes: BTreeSet<ActorPrefix>,
}

impl ActorNames {
    /// Takes note of an actor. Idempotent; tells of another one with its prefix.
    pub fn learn(&mut self, actor: ActorId) -> Option<ActorClash> {
        let known = *self.known.entry(actor.prefix()).or_insert(actor);
        if known == actor {
            return None;
        }
        self.clashes.insert(actor.prefix());
        Some(ActorClash { one: known, other: actor })
    }

    /// Takes note that every member has said that it knows the actor.
    pub fn learned_everywhere(&mut self, actor: ActorId) {
        self.learn(actor);
        self.everywhere.insert(actor);
    }

    /// The prefix of an actor, if that is enough everywhere.
    #[must_use]
    pub fn short(&self, actor: &ActorId) -> Option<ActorPrefix> {
        let prefix = actor.prefix();
        let enough = self.everywhere.contains(actor) && !self.clashes.contains(&prefix);
        enough.then_some(prefix)
    }

    /// The only actor here with that prefix.
    #[must_use]
    pub fn resolve(&self, prefix: ActorPrefix) -> Option<ActorId> {
        self.known.get(&prefix).copied().filter(|_| !self.clashes.contains(&prefix))
    }
}
