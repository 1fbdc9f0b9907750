//! A hash tree over what is live, for finding what two replicas do not share.
//!
//! Each live sibling has an item: 16 bytes of a keyed hash of its key and dot. A node of the tree holds
//! the sum of the items below it, modulo 2^128, so adding and removing touch one node a level and do
//! not depend on order. The key's own hash says which leaf it belongs to, and a node is named by the
//! first bits of it: nodes of two trees are comparable level by level, also where one tree has grown
//! further.
//!
//! # Guarantees
//! - Equal sets of live siblings have equal nodes on all levels that both trees have.
//! - Without the cluster's secret nobody can choose writes whose items cancel out: keys are hashed with
//!   HMAC-SHA-256, and items with what that gives. Both are in the library that the connections use.
//! - Certificates are in no sum: each replica drops them in its own time, and roots would differ after
//!   every delete.
//! - The sums are of what was put and removed, not of what is stored. So a leaf whose stored entries
//!   come to another sum tells of damage ([`Tree::leaf`]).
//!
//! The tree begins with 2^8 leaves and grows by a level of 16 whenever there are more than four keys to
//! a leaf. It does not shrink.

use std::fmt;

use ring::{digest, hmac};

use crate::dot::Dot;
use crate::record::EntryKey;

/// Children of a node.
pub const FAN: usize = 16;

/// Levels below the root at the beginning: 2^8 leaves.
const DEPTH_MIN: usize = 2;

/// Levels below the root at most: 2^24 leaves, 286 MB.
pub(crate) const DEPTH_MAX: usize = 6;

/// The tree grows above so many keys to a leaf.
const KEYS_PER_LEAF: usize = 4;

/// The secret of the cluster that items are hashed with. It is never turned, and it is not the key of
/// tokens.
pub struct TreeKey(hmac::Key);

impl TreeKey {
    /// The key made of these secret bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The hash of a key: where it stands in the tree, and what its items are made of.
    #[must_use]
    pub fn hash(&self, key: &EntryKey) -> KeyHash {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&key.keyspace.get().to_be_bytes());
        context.update(&key.key);
        let tag = context.sign();
        let (place, rest) = tag.as_ref().split_at(8);
        let digest = rest.try_into().expect("a tag has 32 bytes");
        let place = u64::from_be_bytes(place.try_into().expect("split at eight bytes"));
        KeyHash { place: Place(place), digest }
    }
}

impl fmt::Debug for TreeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TreeKey(..)")
    }
}

/// Where a key stands: its leaf is the first bits, however many leaves there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64);

/// The keyed hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash {
    /// Where the key stands.
    pub place: Place,
    /// Nobody knows it without the secret, and it never leaves the node.
    digest: [u8; 24],
}

impl KeyHash {
    /// The item of a live sibling of the key: one block of SHA-256 over the secret hash of the key and
    /// the dot.
    #[must_use]
    pub fn item(&self, dot: Dot) -> u128 {
        let mut bytes = [0; 48];
        bytes[..24].copy_from_slice(&self.digest);
        bytes[24..40].copy_from_slice(dot.actor.as_bytes());
        bytes[40..].copy_from_slice(&dot.counter.to_be_bytes());
        let hash = digest::digest(&digest::SHA256, &bytes);
        let first = hash.as_ref()[..16].try_into().expect("a hash has 32 bytes");
        u128::from_be_bytes(first)
    }
}

/// A node: its level, 0 for the root, and the first `4 * level` bits of the places below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName {
    /// The level; the root's is 0.
    pub level: usize,
    /// The bits.
    pub index: usize,
}

impl NodeName {
    /// The node that everything is below.
    pub const ROOT: Self = Self { level: 0, index: 0 };

    /// The node of that level and index, which may come from anywhere; `None` if no tree has it.
    #[must_use]
    pub fn checked(level: u64, index: u64) -> Option<Self> {
        let level = usize::try_from(level).ok().filter(|level| *level <= DEPTH_MAX)?;
        let index = usize::try_from(index).ok().filter(|index| *index < FAN.pow(level as u32))?;
        Some(Self { level, index })
    }

    /// The children, in order.
    pub fn children(self) -> impl Iterator<Item = Self> {
        (0..FAN).map(move |child| Self { level: self.level + 1, index: self.index * FAN + child })
    }

    /// Whether one of the two is below the other, or they are the same.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        let ((first, last), (from, to)) = (self.places(), other.places());
        first <= to && from <= last
    }

    /// The lowest and the highest place below the node.
    ///
    /// # Panics
    /// When no tree has such a node.
    #[must_use]
    pub fn places(self) -> (Place, Place) {
        assert!(self.level <= DEPTH_MAX, "level {}", self.level);
        if self.level == 0 {
            return (Place(0), Place(u64::MAX));
        }
        let shift = 64 - 4 * self.level;
        let first = (self.index as u64) << shift;
        (Place(first), Place(first | ((1 << shift) - 1)))
    }
}

/// The tree. See the module page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// `levels[l]` has `16^l` sums.
    levels: Vec<Vec<u128>>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::with_depth(DEPTH_MIN)
    }
}

impl Tree {
    fn with_depth(depth: usize) -> Self {
        Self { levels: (0..=depth).map(|level| vec![0; FAN.pow(level as u32)]).collect() }
    }

    /// An empty tree of the shape that so many keys deserve.
    #[must_use]
    pub fn for_keys(keys: usize) -> Self {
        let mut depth = DEPTH_MIN;
        while keys > KEYS_PER_LEAF * FAN.pow(depth as u32) && depth < DEPTH_MAX {
            depth += 1;
        }
        Self::with_depth(depth)
    }

    /// Whether so many keys deserve a deeper tree: then the caller makes one with
    /// [`Tree::for_keys`] and adds everything to it.
    #[must_use]
    pub fn is_small_for(&self, keys: usize) -> bool {
        self.depth() < DEPTH_MAX && keys > KEYS_PER_LEAF * FAN.pow(self.depth() as u32)
    }

    /// Levels below the root. Leaves are the nodes of this level.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.levels.len() - 1
    }

    /// The leaf of a place.
    #[must_use]
    pub fn leaf_of(&self, place: Place) -> NodeName {
        NodeName { level: self.depth(), index: index_at(self.depth(), place) }
    }

    /// Adds an item.
    pub fn add(&mut self, place: Place, item: u128) {
        for (level, sums) in self.levels.iter_mut().enumerate() {
            let sum = &mut sums[index_at(level, place)];
            *sum = sum.wrapping_add(item);
        }
    }

    /// Removes an item that was added.
    pub fn remove(&mut self, place: Place, item: u128) {
        self.add(place, item.wrapping_neg());
    }

    /// The nodes that differ from those of another tree, on the deepest level that both have.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<NodeName> {
        let level = self.depth().min(other.depth());
        let sums = self.levels[level].iter().zip(&other.levels[level]).enumerate();
        let differs = sums.filter(|(_, (mine, theirs))| mine != theirs);
        differs.map(|(index, _)| NodeName { level, index }).collect()
    }

    /// The sum of everything: what replicas compare first.
    #[must_use]
    pub fn root(&self) -> u128 {
        self.levels[0][0]
    }

    /// The eight bytes that say on the wire what is below a node; `None` if this tree has no such node.
    #[must_use]
    pub fn digest(&self, node: NodeName) -> Option<[u8; 8]> {
        let sum = self.levels.get(node.level)?.get(node.index)?;
        Some((*sum as u64).to_be_bytes())
    }

    /// The digests of a node's children; `None` for a leaf.
    #[must_use]
    pub fn children(&self, node: NodeName) -> Option<[[u8; 8]; FAN]> {
        let mut digests = [[0; 8]; FAN];
        for (digest, child) in digests.iter_mut().zip(node.children()) {
            *digest = self.digest(child)?;
        }
        Some(digests)
    }

    /// Whether the entries that are stored below a leaf are those that were put: `counted` is the sum of
    /// their items now. A leaf that fails says that *this replica is damaged*, never that something
    /// was deleted.
    ///
    /// # Panics
    /// When the node is no leaf of this tree.
    #[must_use]
    pub fn leaf(&self, node: NodeName, counted: u128) -> Leaf {
        assert_eq!(node.level, self.depth(), "{node:?} is no leaf");
        let summed = self.levels[node.level][node.index];
        if summed == counted { Leaf::Sound } else { Leaf::Damaged }
    }
}

/// The first `4 * level` bits of a place.
fn index_at(level: usize, place: Place) -> usize {
    if level == 0 { 0 } else { (place.0 >> (64 - 4 * level)) as usize }
}

/// What was found below a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// What was put is what is stored.
    Sound,
    /// Something was lost or has changed since it was put.
    Damaged,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proto::KeyspaceId;

    use super::*;
    use crate::actor::ActorId;

    fn key(number: u16) -> EntryKey {
        EntryKey::new(KeyspaceId(1), number.to_be_bytes().to_vec())
    }

    fn dot(counter: u64) -> Dot {
        Dot::new(ActorId::from_bytes([3; 16]), counter)
    }

    fn tree_of(hash: &TreeKey, depth: usize, items: &BTreeSet<(u16, u64)>) -> Tree {
        let mut tree = Tree::with_depth(depth);
        for (number, counter) in items {
            let key = hash.hash(&key(*number));
            tree.add(key.place, key.item(dot(*counter)));
        }
        tree
    }

    proptest! {
        #[test]
        fn a_tree_is_that_of_its_items(steps in vec((any::<bool>(), 0..8_u16, 1..5_u64), 0..60)) {
            let hash = TreeKey::new(&[9; 32]);
            let mut items = BTreeSet::new();
            let mut tree = Tree::default();
            for (put, number, counter) in steps {
                let at = hash.hash(&key(number));
                let item = at.item(dot(counter));
                if put && items.insert((number, counter)) {
                    tree.add(at.place, item);
                } else if !put && items.remove(&(number, counter)) {
                    tree.remove(at.place, item);
                }
            }
            prop_assert_eq!(&tree, &tree_of(&hash, DEPTH_MIN, &items));
            // A deeper tree agrees on the levels that both have.
            let deep = tree_of(&hash, DEPTH_MIN + 1, &items);
            prop_assert_eq!(&deep.levels[..=DEPTH_MIN], &tree.levels[..]);
            prop_assert_eq!(deep.children(NodeName::ROOT), tree.children(NodeName::ROOT));
        }
    }

    #[test]
    fn a_difference_is_below_one_child_of_each_level() {
        let hash = TreeKey::new(&[9; 32]);
        let items: BTreeSet<_> = (0..500).map(|n| (n, 1)).collect();
        let one = tree_of(&hash, DEPTH_MIN, &items);
        let mut changed = items;
        changed.remove(&(77, 1));
        changed.insert((77, 2));
        let other = tree_of(&hash, DEPTH_MIN, &changed);
        assert_ne!(one.root(), other.root());
        let mut node = NodeName::ROOT;
        while let Some(children) = one.children(node) {
            let theirs = other.children(node).unwrap();
            let differing: Vec<_> = (0..FAN).filter(|n| children[*n] != theirs[*n]).collect();
            assert_eq!(differing.len(), 1);
            node = node.children().nth(differing[0]).unwrap();
        }
        let place = hash.hash(&key(77)).place;
        assert_eq!(node, one.leaf_of(place));
        let (first, last) = node.places();
        assert!(first <= place && place <= last);
    }

    #[test]
    fn a_node_from_elsewhere_is_one_that_a_tree_may_have() {
        let depth = DEPTH_MAX as u64;
        let last = FAN.pow(DEPTH_MAX as u32) as u64 - 1;
        assert_eq!(NodeName::checked(0, 0), Some(NodeName::ROOT));
        let (_, highest) = NodeName::checked(depth, last).unwrap().places();
        assert_eq!(highest, Place(u64::MAX));
        for (level, index) in [(0, 1), (depth, last + 1), (depth + 1, 0), (u64::MAX, u64::MAX)] {
            assert_eq!(NodeName::checked(level, index), None);
        }
    }

    #[test]
    fn keys_of_a_cluster_give_sums_of_their_own() {
        let items: BTreeSet<_> = [(1, 1)].into();
        let one = tree_of(&TreeKey::new(&[9; 32]), 2, &items);
        let other = tree_of(&TreeKey::new(&[8; 32]), 2, &items);
        assert_ne!(one.root(), other.root());
    }

    #[test]
    fn the_tree_grows_above_four_keys_a_leaf() {
        assert_eq!(Tree::default().depth(), 2);
        assert!(!Tree::default().is_small_for(1_024));
        assert!(Tree::default().is_small_for(1_025));
        assert_eq!(Tree::for_keys(1_024).depth(), 2);
        assert_eq!(Tree::for_keys(1_025).depth(), 3);
        assert_eq!(Tree::for_keys(usize::MAX).depth(), DEPTH_MAX);
    }
}
