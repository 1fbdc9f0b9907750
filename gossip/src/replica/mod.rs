//! One replica of a group of eventual keyspaces.
//!
//! Three operations change what a replica knows, and nothing else may touch its clock K:
//!
//! ```text
//! write(k, v, C)     d := next dot; apply(k, d, v, C)           C: what the client saw, or eff(k)
//! apply(k, d, v, C)  remove siblings in C; if d is not in eff(k): store d
//!                    K += {d}; pending(k) += C \ K
//! close(S)           drop what is staged; K += K_S; F += F_S; pending -= K
//! ```
//!
//! eff(k) is K and what is pending for k. Beside these a replica forgets contexts and certificates
//! ([`Replica::forget_context`], [`Replica::forget_certificate`]) and names sealed actors by their
//! folds ([`Replica::fold`]), which changes no dot.
//!
//! # Guarantees
//! - `apply` takes a record from any source, at any age, any number of times, in any order.
//! - A dot that was removed is never stored again: it is in K and not stored, and K only grows.
//! - Where a dot is in K, nothing that its write superseded is stored.
//! - Replicas with equal clocks have equal live siblings.
//! - What is removed has a chain of writes that superseded it, which ends in a delete or in a stored
//!   value.
//! - A replica never refuses a record for what it says; limits bind where a write enters.
//!
//! They rest on contexts being exact. Two kinds are cut down on purpose: those of expiry certificates
//! and of collapses. For them the horizon takes a dot when a removed sibling's context is not inside
//! its remover's, or a refused record's context is not inside that of a stored sibling which covers
//! it; then the next session looks at the tree too.
//!
//! The merge is that of causal contexts shared by many keys (Almeida, Shoker and Baquero, "Delta state
//! replicated data types", 2018), with a context in each write in place of the one of the sender, and
//! certificates after Demers and others, "Epidemic algorithms for replicated database maintenance"
//! (PODC 1987).
//!
//! # Changes
//! Each operation answers with its [`Change`]s. The caller makes them durable as one batch before
//! anything that tells of them leaves the node: an acknowledgement, a record, a clock.

mod apply;
mod close;
mod error;
mod forget;
mod write;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use proto::KeyspaceId;

pub use apply::{Applied, Outcome};
pub use close::{Closed, Closing, Staged};
pub use error::{NotApplied, WriteRefused};
pub use write::{Basis, Write, Written};

use crate::actor::ActorId;
use crate::change::Change;
use crate::clock::{Clock, Fold};
use crate::entry::Entry;
use crate::record::EntryKey;
use crate::state::State;
use crate::tree::{Leaf, NodeName, Place, Tree, TreeKey};

/// Live siblings of a key that a write may leave. Writes that would make more are refused; merges may
/// exceed it.
pub const SIBLINGS_MAX: usize = 32;

/// What becomes of concurrent values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// All are kept until a write supersedes them.
    Siblings,
    /// The one with the highest stamp is shown.
    Lww,
}

/// What the catalogue says of a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It exists.
    Open(Policy),
    /// It was removed and never comes back.
    Removed,
}

/// One replica. See the module page.
#[derive(Debug)]
pub struct Replica {
    state: State,
    keyspaces: BTreeMap<KeyspaceId, Standing>,
    hash: TreeKey,
    tree: Tree,
    /// Keys with live siblings, by where they stand in the tree.
    places: BTreeSet<(Place, EntryKey)>,
    /// The clock as contexts share it, while only own dots were added since.
    shared: Option<Arc<Clock>>,
}

impl Replica {
    /// The replica with this state, at a start: `actor` was minted just now and issues its dots. The
    /// change that says so has to be durable before any of these dots.
    #[must_use]
    pub fn start(state: State, actor: ActorId, hash: TreeKey) -> (Self, Vec<Change>) {
        let mut replica = Self::resume(state, hash);
        let changes = replica.mint(actor);
        (replica, changes)
    }

    /// The replica with this state, its actor and its tree, which is summed anew.
    #[must_use]
    pub fn resume(state: State, hash: TreeKey) -> Self {
        let mut replica = Self {
            state,
            keyspaces: BTreeMap::new(),
            hash,
            tree: Tree::default(),
            places: BTreeSet::new(),
            shared: None,
        };
        let live = replica.state.entries().filter(|(_, entry)| entry.live().next().is_some());
        replica.places = live.map(|(key, _)| (replica.hash.hash(key).place, key.clone())).collect();
        replica.sum_anew();
        replica
    }

    /// A fresh actor issues the dots from now on: because the node starts, or because somebody knows of
    /// a dot of the present one that this replica never issued.
    ///
    /// # Panics
    /// When the actor is known: it was not minted just now.
    pub fn mint(&mut self, actor: ActorId) -> Vec<Change> {
        assert!(self.state.clock().track(&actor).is_none(), "{actor} is not new");
        let changes = vec![Change::Started { actor }];
        self.commit(&changes);
        changes
    }

    /// Takes note of what the catalogue says of a keyspace. Not a change: the catalogue has a log of its
    /// own.
    ///
    /// # Panics
    /// When the keyspace was removed, or had another policy: neither ever changes.
    pub fn set_keyspace(&mut self, id: KeyspaceId, standing: Standing) {
        let before = self.keyspaces.insert(id, standing);
        let allowed = before.is_none_or(|before| {
            before == standing || (before != Standing::Removed && standing == Standing::Removed)
        });
        assert!(allowed, "keyspace {id} was {before:?} and is {standing:?}");
    }

    /// What the catalogue says of a keyspace; `None` if it says nothing yet.
    #[must_use]
    pub fn keyspace(&self, id: KeyspaceId) -> Option<Standing> {
        self.keyspaces.get(&id).copied()
    }

    /// What the replica remembers.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The hash tree over live siblings.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The entry of a key, unless nothing is remembered of it.
    #[must_use]
    pub fn entry(&self, key: &EntryKey) -> Option<&Entry> {
        self.state.entry(key)
    }

    /// Whether somebody knows of a dot of this replica's actor that it never issued. Then the disk was
    /// rolled back, or copied: the caller mints at once, raises the alarm, and tries again.
    #[must_use]
    pub fn is_ahead(&self, clock: &Clock) -> bool {
        let own = self.state.actor();
        own.is_some_and(|own| clock.last(&own) > self.state.clock().last(&own))
    }

    /// The keys with live siblings below a node of the tree, by where they stand.
    pub fn keys_below(&self, node: NodeName) -> impl Iterator<Item = &EntryKey> {
        let (first, last) = node.places();
        let lowest = (first, EntryKey::new(KeyspaceId(0), Bytes::new()));
        let from = self.places.range((Bound::Included(lowest), Bound::Unbounded));
        from.take_while(move |(place, _)| *place <= last).map(|(_, key)| key)
    }

    /// Sums the stored entries below a leaf and compares with what was put. A damaged leaf may not be
    /// served: nobody drops anything on the word of this replica until it was rebuilt.
    #[must_use]
    pub fn scrub(&self, leaf: NodeName) -> Leaf {
        self.tree.leaf(leaf, self.sum_below(leaf))
    }

    fn sum_below(&self, node: NodeName) -> u128 {
        let mut sum = 0_u128;
        for key in self.keys_below(node) {
            let hash = self.hash.hash(key);
            for (dot, _) in self.state.entry(key).into_iter().flat_map(Entry::live) {
                sum = sum.wrapping_add(hash.item(dot));
            }
        }
        sum
    }

    /// Takes note that the catalogue has folded a sealed actor, and names it by the fold from now on if
    /// the clock has all of its dots; a session that brings the rest does so too. Idempotent.
    pub fn fold(&mut self, fold: Fold) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.state.folds().get(fold.number).is_none() {
            changes.push(Change::FoldLearned { fold });
        }
        let mut folded = self.state.clock().clone();
        if !folded.has_fold(&fold) && folded.fold(fold) {
            changes.push(Change::Folded { fold });
        }
        self.commit(&changes);
        changes
    }

    /// Makes changes, here and in what is derived from the state.
    fn commit(&mut self, changes: &[Change]) {
        for change in changes {
            self.derive(change);
            self.state.replay(change);
        }
        if self.tree.is_small_for(self.places.len()) {
            self.sum_anew();
        }
    }

    /// What a change, which is about to be made, does to the tree and the shared clock.
    fn derive(&mut self, change: &Change) {
        match change {
            Change::Put { key, dot, sibling } => {
                let siblings = self.state.entry(key).map(Entry::siblings);
                let stored = siblings.is_some_and(|siblings| siblings.contains_key(dot));
                if sibling.is_live() && !stored {
                    let hash = self.hash.hash(key);
                    self.tree.add(hash.place, hash.item(*dot));
                    self.places.insert((hash.place, key.clone()));
                }
            }
            Change::Removed { key, dot } => {
                let Some(entry) = self.state.entry(key) else { return };
                if entry.live().any(|(live, _)| live == *dot) {
                    let hash = self.hash.hash(key);
                    self.tree.remove(hash.place, hash.item(*dot));
                    if entry.live().count() == 1 {
                        self.places.remove(&(hash.place, key.clone()));
                    }
                }
            }
            Change::Started { .. }
            | Change::Learned { .. }
            | Change::Joined { .. }
            | Change::Folded { .. } => self.shared = None,
            Change::Issued { .. }
            | Change::Header { .. }
            | Change::Raised { .. }
            | Change::FoldLearned { .. } => {}
        }
    }

    /// Sums everything into a tree of the size that it deserves: a few hundred ns a key.
    fn sum_anew(&mut self) {
        let mut tree = Tree::for_keys(self.places.len());
        for (place, key) in &self.places {
            let hash = self.hash.hash(key);
            for (dot, _) in self.state.entry(key).into_iter().flat_map(Entry::live) {
                tree.add(*place, hash.item(dot));
            }
        }
        self.tree = tree;
    }
}
