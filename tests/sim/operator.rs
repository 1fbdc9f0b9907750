//! The operator of a simulated cluster: replaces members, creates and removes keyspaces.
//!
//! It acts as a person with the command line does: it asks a node, any node, looks at the answer, and
//! tries again later if there is none.

use std::collections::BTreeMap;

use kvstore::node::RequestId;
use rand::{Rng, RngExt};

use super::operation::KEYSPACE;

/// Most keyspaces beside the one that always exists.
const KEYSPACES_MAX: usize = 3;

/// What the operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To see the catalogue, for the replacement of a member.
    Catalogue,
    /// Something whose answer does not matter: it shows in the catalogue.
    Other,
    /// To create a keyspace of this name.
    Create(String),
    /// To remove it.
    Remove(String),
}

/// How far the replacement of a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is to be removed.
    Leaving,
    /// It is removed, and its machine is about to be wiped.
    Removed,
    /// The machine was wiped and is to join as a new node.
    Joining,
}

/// What the operator is about.
#[derive(Debug, Default)]
pub struct Operator {
    replacing: Option<(usize, Stage)>,
    errands: BTreeMap<RequestId, Errand>,
    /// Keyspaces that were created and not removed, as far as was answered.
    keyspaces: Vec<String>,
    created: u32,
}

impl Operator {
    /// The host that is being replaced.
    pub fn replaced_host(&self) -> Option<usize> {
        self.replacing.map(|(host, _)| host)
    }

    /// The host that is being replaced, and how far that is.
    pub fn replacing(&self) -> Option<(usize, Stage)> {
        self.replacing
    }

    /// Goes on with a replacement, or begins or ends one.
    pub fn set_replacing(&mut self, replacing: Option<(usize, Stage)>) {
        self.replacing = replacing;
    }

    /// Whether a host is down because its machine is about to be wiped.
    pub fn keeps_down(&self, host: usize) -> bool {
        self.replacing == Some((host, Stage::Removed))
    }

    /// Notes what was asked.
    pub fn ask(&mut self, id: RequestId, errand: Errand) {
        self.errands.insert(id, errand);
    }

    /// What this answer is about, if it is the operator's.
    pub fn take_errand(&mut self, id: RequestId) -> Option<Errand> {
        self.errands.remove(&id)
    }

    /// A keyspace for a client to work on.
    pub fn draw_keyspace(&self, rng: &mut impl Rng) -> String {
        if self.keyspaces.is_empty() || rng.random_bool(0.6) {
            return KEYSPACE.to_owned();
        }
        self.keyspaces[rng.random_range(0..self.keyspaces.len())].clone()
    }

    /// A name that no keyspace ever had; `None` when there are enough keyspaces.
    pub fn new_name(&mut self) -> Option<String> {
        if self.keyspaces.len() >= KEYSPACES_MAX {
            return None;
        }
        self.created += 1;
        Some(format!("space{}", self.created))
    }

    /// One of the keyspaces, to be removed: clients no longer use it.
    pub fn give_up_keyspace(&mut self, rng: &mut impl Rng) -> Option<String> {
        if self.keyspaces.is_empty() {
            return None;
        }
        Some(self.keyspaces.remove(rng.random_range(0..self.keyspaces.len())))
    }

    /// A keyspace was created.
    pub fn created(&mut self, name: String) {
        self.keyspaces.push(name);
    }

    /// Keyspaces that must be there.
    pub fn keyspaces(&self) -> &[String] {
        &self.keyspaces
    }
}
