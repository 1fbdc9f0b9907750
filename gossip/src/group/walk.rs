//! The walk of a flagged session: which keys differ.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::record::EntryKey;
use crate::replica::Replica;
use crate::tree::{DEPTH_MAX, FAN, NodeName};

/// Nodes that are asked for in one message.
pub(super) const ASKED_MAX: usize = 64;

/// Messages that are on their way at a time: answers of some 130 KB in all, and of some MiB where keys are as long as they may be.
const UNANSWERED_MAX: usize = 16;

/// What is below a node of the sender's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Below {
    /// The digests of its children.
    Children(Box<[[u8; 8]; FAN]>),
    /// It is a leaf: its keys and the digests of their live siblings.
    Keys(Vec<(EntryKey, [u8; 8])>),
}

/// What is below a node, for a peer that asks.
///
/// A node below the leaves is told by its keys, so a peer whose tree is deeper may ask on.
#[must_use]
pub fn below(replica: &Replica, node: NodeName) -> Below {
    if let Some(children) = replica.tree().children(node) {
        return Below::Children(Box::new(children));
    }
    let keys = replica.keys_below(node);
    Below::Keys(keys.map(|key| (key.clone(), replica.key_digest(key))).collect())
}

/// The receiver's side of a walk: from the root down wherever the two trees differ.
#[derive(Debug, Default)]
pub struct Walk {
    /// Nodes to ask for.
    queue: VecDeque<NodeName>,
    /// Nodes that were asked for and not told of, with the number of the message that did.
    asked: BTreeMap<NodeName, u64>,
    messages: u64,
    /// Keys that differ and were not handed out.
    differing: Vec<EntryKey>,
}

impl Walk {
    /// A walk that begins at the root, of which the sender tells by itself.
    #[must_use]
    pub fn begin() -> Self {
        Self { asked: [(NodeName::ROOT, 0)].into(), ..Self::default() }
    }

    /// The next nodes to ask the sender for; empty when its answers have to come first.
    pub fn ask(&mut self) -> Vec<NodeName> {
        let unanswered: BTreeSet<&u64> = self.asked.values().collect();
        if unanswered.len() >= UNANSWERED_MAX {
            return Vec::new();
        }
        let count = self.queue.len().min(ASKED_MAX);
        self.messages += 1;
        let nodes: Vec<NodeName> = self.queue.drain(..count).collect();
        self.asked.extend(nodes.iter().map(|node| (*node, self.messages)));
        nodes
    }

    /// Takes what is below some nodes. What was not asked for is ignored.
    pub fn take(&mut self, replica: &Replica, told: Vec<(NodeName, Below)>) {
        for (node, below) in told {
            if self.asked.remove(&node).is_none() {
                continue;
            }
            match below {
                // No tree has nodes below these.
                Below::Children(_) if node.level >= DEPTH_MAX => {}
                Below::Children(theirs) => {
                    let children = node.children().zip(theirs.iter());
                    let differs = |(child, theirs): &(NodeName, &[u8; 8])| {
                        replica.node_digest(*child) != **theirs
                    };
                    self.queue.extend(children.filter(differs).map(|(child, _)| child));
                }
                Below::Keys(theirs) => self.compare(replica, node, theirs),
            }
        }
    }

    fn compare(&mut self, replica: &Replica, node: NodeName, theirs: Vec<(EntryKey, [u8; 8])>) {
        let mut mine: BTreeMap<EntryKey, [u8; 8]> =
            replica.keys_below(node).map(|key| (key.clone(), replica.key_digest(key))).collect();
        for (key, digest) in theirs {
            if mine.remove(&key) != Some(digest) {
                self.differing.push(key);
            }
        }
        self.differing.extend(mine.into_keys());
    }

    /// Keys that were found to differ and were not handed out before, so many at most.
    pub fn differing(&mut self, keys_max: usize) -> Vec<EntryKey> {
        let rest = self.differing.len().saturating_sub(keys_max);
        self.differing.split_off(rest)
    }

    /// Everything was compared.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.queue.is_empty() && self.asked.is_empty() && self.differing.is_empty()
    }
}
