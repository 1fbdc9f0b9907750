//! Which eventual keyspaces there are, as the catalogue says.

use std::collections::BTreeMap;

use gossip::group::Group;
use gossip::replica::{Policy, Standing};
use proto::v1::{self, keyspace};
use proto::{Failure, KeyspaceId};

use super::GossipReplica;
use crate::replication::raft::no_keyspace;

/// What the catalogue says of eventual keyspaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CataloguedKeyspaces {
    /// Those that there are.
    pub open: Vec<v1::Keyspace>,
    /// Every id below this one was given out.
    pub next: u64,
}

/// Which eventual keyspaces there are.
///
/// Invariant: an id that was told as removed stays so.
#[derive(Debug, Default)]
pub(super) struct KnownKeyspaces {
    by_name: BTreeMap<String, (KeyspaceId, Policy)>,
    open: BTreeMap<KeyspaceId, Policy>,
    next: u64,
    /// The group knows how every id below this one stands.
    told: u64,
}

impl KnownKeyspaces {
    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        !self.open.is_empty()
    }

    /// The keyspace of this name.
    pub(super) fn named(&self, name: &str) -> Result<(KeyspaceId, Policy), Failure> {
        self.by_name.get(name).copied().ok_or_else(|| no_keyspace(name))
    }

    fn standing(&self, id: KeyspaceId) -> Option<Standing> {
        match self.open.get(&id) {
            Some(policy) => Some(Standing::Open(*policy)),
            None => (id.get() < self.next).then_some(Standing::Removed),
        }
    }

    /// Says all of it to a group that has just started. What is no eventual keyspace counts as removed: nothing of it is
    /// ever taken.
    pub(super) fn tell_all(&mut self, group: &mut Group) {
        self.told = 0;
        self.tell_new(group);
    }

    /// Says how the ids stand that were given out since.
    fn tell_new(&mut self, group: &mut Group) {
        for id in (self.told..self.next).map(KeyspaceId) {
            if let Some(standing) = self.standing(id) {
                group.set_keyspace(id, standing);
            }
        }
        self.told = self.told.max(self.next);
    }
}

impl GossipReplica {
    /// What the catalogue says now.
    pub fn set_keyspaces(&mut self, said: &CataloguedKeyspaces) {
        let open: BTreeMap<KeyspaceId, Policy> =
            said.open.iter().map(|keyspace| (KeyspaceId(keyspace.id), policy(keyspace))).collect();
        let known = &mut self.keyspaces;
        let gone: Vec<KeyspaceId> =
            known.open.keys().filter(|id| !open.contains_key(id)).copied().collect();
        let named = said.open.iter().map(|k| (k.name.clone(), (KeyspaceId(k.id), policy(k))));
        known.by_name = named.collect();
        known.open = open;
        known.next = said.next;
        let Some(serving) = &mut self.serving else { return };
        for id in gone {
            serving.group.set_keyspace(id, Standing::Removed);
        }
        known.tell_new(&mut serving.group);
    }
}

fn policy(keyspace: &v1::Keyspace) -> Policy {
    match keyspace.policy() {
        keyspace::Policy::Lww => Policy::Lww,
        keyspace::Policy::Siblings | keyspace::Policy::Unspecified => Policy::Siblings,
    }
}
