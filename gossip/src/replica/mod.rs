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
//! ([`Replica::forget_context`], [`Replica::forget_certificate`]), lets certificates sleep ([`Replica::sleep`]) and names sealed actors by their
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
//! anything that tells of them leaves the node: an acknowledgement, a record, a clock. What leaves says with its
//! [`Position`] which changes those are.

mod apply;
mod close;
mod dormant;
mod error;
mod forget;
mod retiring;
mod scrub;
mod stable;
mod start_over;
mod write;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use proto::KeyspaceId;

pub use apply::{Applied, Outcome};
pub use close::{Closed, Closing, Staged};
pub use dormant::Woken;
pub use error::{NotApplied, WriteRefused};
pub use retiring::Retiring;
pub use scrub::Scrubbing;
pub use stable::Stable;
pub use start_over::Kept;
pub use write::{Basis, Write, Written};

use crate::actor::ActorId;
use crate::change::Change;
use crate::clock::Clock;
use crate::entry::Entry;
use crate::hlc::Stamp;
use crate::items::{Dirty, Item, Restored};
use crate::position::{Leaving, Position};
use crate::record::EntryKey;
use crate::state::State;
use crate::token::Token;
use crate::tree::{Leaf, NodeName, Place, Tree, TreeKey};

/// Live siblings of a key that a write may leave. Writes that would make more are refused; merges may
/// exceed it.
pub const SIBLINGS_MAX: usize = 32;

/// Siblings and certificates of a key that a write may leave.
pub const STORED_MAX: usize = 1_024;

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
    /// What the root of the tree has of each keyspace.
    roots: BTreeMap<KeyspaceId, u128>,
    /// Keys with live siblings, by where they stand in the tree.
    places: BTreeSet<(Place, EntryKey)>,
    /// The clock as contexts share it, while only own dots were added since.
    shared: Option<Arc<Clock>>,
    /// What waits beside the replica.
    kept: Kept,
    /// What no item was given out for.
    dirty: Dirty,
    /// The time of the node's corrected clock, as it was said last.
    wall_ms: u64,
    position: Position,
    /// Nodes of the tree below which something is known to be lost.
    damage: BTreeSet<NodeName>,
    retiring: Retiring,
    leaves: bool,
}

impl Replica {
    /// The replica with this state, at a start where nothing has to be compared or replayed: `actor` was minted just
    /// now and issues its dots. The change that says so has to be durable before any of these dots.
    #[must_use]
    pub fn start(state: State, actor: ActorId, hash: TreeKey) -> (Self, Vec<Change>) {
        let mut replica = Self::resume(state, hash, None);
        let changes = replica.mint(actor);
        (replica, changes)
    }

    /// The replica that items gave, as [`Replica::start`] does.
    #[must_use]
    pub fn restored(restored: Restored, actor: ActorId, hash: TreeKey) -> (Self, Vec<Change>) {
        let mut replica = Self::with(restored.state, restored.kept, hash, None);
        let changes = replica.mint(actor);
        (replica, changes)
    }

    /// The replica with this state, its actor and its tree, which is summed anew. `sums` are those that were kept beside
    /// the state, of the same position: where they differ, the state has lost something
    /// ([`Replica::damage`]). Changes since are made by [`Replica::replay`].
    #[must_use]
    pub fn resume(state: State, hash: TreeKey, sums: Option<&Tree>) -> Self {
        Self::with(state, Kept::new(), hash, sums)
    }

    fn with(state: State, kept: Kept, hash: TreeKey, sums: Option<&Tree>) -> Self {
        let dirty = Dirty::starting(&state, &kept);
        let mut replica = Self {
            state,
            kept,
            keyspaces: BTreeMap::new(),
            hash,
            tree: Tree::default(),
            roots: BTreeMap::new(),
            places: BTreeSet::new(),
            shared: None,
            dirty,
            wall_ms: 0,
            position: Position::default(),
            damage: BTreeSet::new(),
            retiring: Retiring::default(),
            leaves: false,
        };
        let live = replica.state.entries().filter(|(_, entry)| entry.live().next().is_some());
        replica.places = live.map(|(key, _)| (replica.hash.hash(key).place, key.clone())).collect();
        replica.tree = replica.summed();
        let mut roots: BTreeMap<KeyspaceId, u128> = BTreeMap::new();
        for (_, key) in &replica.places {
            let root = roots.entry(key.keyspace).or_default();
            *root = root.wrapping_add(replica.sum_of(key));
        }
        replica.roots = roots;
        if let Some(sums) = sums {
            replica.damage.extend(replica.tree.differing(sums));
        }
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

    /// Makes changes that the log has after the state that the replica was resumed from.
    pub fn replay(&mut self, changes: &[Change]) {
        self.commit(changes);
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

    /// Takes note that the node is to leave the group: the caller takes no writes of clients any more.
    pub const fn set_leaving(&mut self, leaves: bool) {
        self.leaves = leaves;
    }

    /// Whether the node is to leave the group.
    #[must_use]
    pub const fn leaves(&self) -> bool {
        self.leaves
    }

    /// Takes note of the time of the node's corrected clock, in milliseconds since 1970. The caller says it before it
    /// hands in what came from elsewhere: by it stamps are judged that are far ahead. No change of the
    /// replica, and before it was said all stamps are far ahead.
    pub const fn set_time(&mut self, wall_ms: u64) {
        self.wall_ms = wall_ms;
    }

    /// The position after all changes so far. Whatever tells of the present state leaves the node only once this is
    /// durable.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// What a client that reads the key now has seen: eff(k), and at least the highest stamp that this covers. In
    /// an entry the stamp of a delete is gone once that is forgotten, so the highest of all is taken.
    #[must_use]
    pub fn token(&self, key: &EntryKey) -> Leaving<Token> {
        let stamp = self.entry(key).map_or(Stamp::ZERO, Entry::stamp);
        let context = Arc::new(self.state.effective(key));
        let token = Token { context, stamp: stamp.max(self.state.highest()) };
        Leaving { after: self.position, what: token }
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

    /// The root that other replicas compare: without what is left of keyspaces that were removed, which each replica
    /// clears in its own time.
    #[must_use]
    pub fn root(&self) -> u128 {
        let removed = |id: &&KeyspaceId| self.keyspaces.get(*id) == Some(&Standing::Removed);
        let left = self.roots.keys().filter(removed).map(|id| self.roots[id]);
        left.fold(self.tree.root(), u128::wrapping_sub)
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
        let lowest = (first, EntryKey::lowest());
        let from = self.places.range((Bound::Included(lowest), Bound::Unbounded));
        from.take_while(move |(place, _)| *place <= last).map(|(_, key)| key)
    }

    /// The eight bytes that say what is live below a node, also where this tree has no such node.
    #[must_use]
    pub fn node_digest(&self, node: NodeName) -> [u8; 8] {
        self.tree.digest(node).unwrap_or_else(|| (self.sum_below(node) as u64).to_be_bytes())
    }

    /// The eight bytes that say what is live of a key.
    #[must_use]
    pub fn key_digest(&self, key: &EntryKey) -> [u8; 8] {
        (self.sum_of(key) as u64).to_be_bytes()
    }

    /// Sums the stored entries below a leaf and compares with what was put. A damaged leaf may not be
    /// served: nobody drops anything on the word of this replica until it was rebuilt.
    ///
    /// Only values are in these sums. Certificates, contexts, stamps and what is pending are in the checksums and sums that
    /// the storage below keeps of its items; what it finds comes in by [`Replica::damaged`].
    #[must_use]
    pub fn scrub(&self, leaf: NodeName) -> Leaf {
        if self.damage.iter().any(|node| node.meets(leaf)) {
            return Leaf::Damaged;
        }
        self.tree.leaf(leaf, self.sum_below(leaf))
    }

    /// Scrubs the leaf of a key, and that what is pending for it is there: before the key is told to anybody, and before
    /// what others say of it is used.
    #[must_use]
    pub fn verify(&self, key: &EntryKey) -> Leaf {
        if !self.state.is_pending_sound(key) {
            return Leaf::Damaged;
        }
        self.scrub(self.tree.leaf_of(self.hash.hash(key).place))
    }

    /// Takes note that something of a key is lost. There is no way back: another replica begins in place of this one,
    /// from what is stored if that is whole, else from what can be read ([`Replica::salvage`]).
    pub fn damaged(&mut self, key: &EntryKey) {
        let leaf = self.tree.leaf_of(self.hash.hash(key).place);
        self.damage.insert(leaf);
    }

    /// The same of what is below a node.
    pub fn damaged_below(&mut self, node: NodeName) {
        self.damage.insert(node);
    }

    /// The nodes of the tree below which something is known to be lost; normally none. With any, the replica meets
    /// nobody as a sender and takes no writes there, and the caller answers no reads of keys below.
    #[must_use]
    pub const fn damage(&self) -> &BTreeSet<NodeName> {
        &self.damage
    }

    /// Whether something beside or of the key is known to be lost.
    fn is_damaged(&self, key: &EntryKey) -> bool {
        if self.damage.is_empty() {
            return false;
        }
        let place = self.hash.hash(key).place;
        let below = |node: &NodeName| {
            let (first, last) = node.places();
            first <= place && place <= last
        };
        self.damage.iter().any(below)
    }

    fn sum_below(&self, node: NodeName) -> u128 {
        self.keys_below(node).fold(0, |sum, key| sum.wrapping_add(self.sum_of(key)))
    }

    fn sum_of(&self, key: &EntryKey) -> u128 {
        let hash = self.hash.hash(key);
        let live = self.state.entry(key).into_iter().flat_map(Entry::live);
        live.fold(0, |sum: u128, (dot, _)| sum.wrapping_add(hash.item(dot)))
    }

    /// What has changed since this was called last, as items. All of them become durable together, before
    /// anything that tells of the operations in between leaves the node.
    #[must_use]
    pub fn take_items(&mut self) -> Vec<Item> {
        self.dirty.items(&mut self.state, &self.kept)
    }

    /// That a stamp counts from now on as seen, unless it is far ahead or a higher one was.
    fn stamped(&self, stamp: Stamp) -> Option<Change> {
        let counts = !stamp.is_far_ahead(self.wall_ms) && stamp > self.state.highest();
        counts.then_some(Change::Stamped { stamp })
    }

    /// Makes changes, here and in what is derived from the state.
    fn commit(&mut self, changes: &[Change]) {
        if !changes.is_empty() {
            self.position = self.position.next();
        }
        for change in changes {
            self.derive(change);
            self.dirty.note(change, &self.state);
            self.state.replay(change);
        }
        if self.tree.is_small_for(self.places.len()) {
            // What is summed anew is what is stored, so a loss would be taken for what was put.
            let tree = self.summed();
            self.damage.extend(tree.differing(&self.tree));
            self.tree = tree;
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
                    let item = hash.item(*dot);
                    self.tree.add(hash.place, item);
                    let root = self.roots.entry(key.keyspace).or_default();
                    *root = root.wrapping_add(item);
                    self.places.insert((hash.place, key.clone()));
                }
            }
            Change::Removed { key, dot } => {
                let Some(entry) = self.state.entry(key) else { return };
                if entry.live().any(|(live, _)| live == *dot) {
                    let hash = self.hash.hash(key);
                    let item = hash.item(*dot);
                    self.tree.remove(hash.place, item);
                    let root = self.roots.entry(key.keyspace).or_default();
                    *root = root.wrapping_sub(item);
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
            | Change::Stamped { .. }
            | Change::Slept { .. }
            | Change::Woke { .. }
            | Change::Raised { .. }
            | Change::FoldLearned { .. } => {}
        }
    }

    /// Everything summed into a tree of the size that it deserves: a few hundred ns a key.
    fn summed(&self) -> Tree {
        let mut tree = Tree::for_keys(self.places.len());
        for (place, key) in &self.places {
            let hash = self.hash.hash(key);
            for (dot, _) in self.state.entry(key).into_iter().flat_map(Entry::live) {
                tree.add(*place, hash.item(dot));
            }
        }
        tree
    }
}
