//! What is still to be looked at, and what was.

use std::collections::BTreeMap;

use super::crashed::Crashed;
use crate::checker::objects::State;
use crate::hash::QuickMap;

/// In which order configurations are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// The newest first.
    Depth,
    /// Those with the least placed first.
    Breadth,
}

/// What was placed of the acts that returned, and the state that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// All acts that return before this one are placed; it is not.
    pub front: u32,
    /// The state.
    pub state: State,
    /// Acts that are open when the front returns and are placed, by slot.
    pub placed: u128,
}

/// A configuration and how it was reached.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// The configuration.
    pub at: Configuration,
    /// The set of crashed acts that were used.
    pub used: u32,
    /// The last act placed, as an entry of the trail.
    pub trail: u32,
}

/// Configurations that were looked at, with the crashed acts that were used.
#[derive(Debug, Default)]
pub struct Memo {
    first: QuickMap<Configuration, u32>,
    /// Further sets, none of which is within another by the time it was added.
    more: QuickMap<Configuration, Vec<u32>>,
    count: u64,
}

impl Memo {
    /// Adds a node; false if one that can do all that it can was added before.
    fn insert(&mut self, node: &Node, crashed: &Crashed) -> bool {
        let known = match self.first.entry(node.at) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(node.used);
                self.count += 1;
                return true;
            }
            std::collections::hash_map::Entry::Occupied(known) => *known.get(),
        };
        if crashed.is_within(known, node.used) {
            return false;
        }
        let more = self.more.entry(node.at).or_default();
        if more.iter().any(|&known| crashed.is_within(known, node.used)) {
            return false;
        }
        more.push(node.used);
        self.count += 1;
        true
    }
}

/// Nodes to look at.
#[derive(Debug)]
pub enum Agenda {
    /// A stack. What is on it was not compared with the memo yet.
    Depth { stack: Vec<Node>, memo: Memo },
    /// For each front its nodes, which are in the memo of that front. The nodes that used the fewest
    /// crashed acts come first: they make others superfluous.
    Breadth { layers: BTreeMap<u32, (BTreeMap<u64, Vec<Node>>, Memo)> },
}

impl Agenda {
    /// An agenda without nodes.
    pub fn new(discipline: Discipline) -> Self {
        match discipline {
            Discipline::Depth => Self::Depth { stack: Vec::new(), memo: Memo::default() },
            Discipline::Breadth => Self::Breadth { layers: BTreeMap::new() },
        }
    }

    /// Adds a node.
    pub fn push(&mut self, node: Node, crashed: &Crashed) {
        match self {
            Self::Depth { stack, .. } => stack.push(node),
            Self::Breadth { layers } => {
                let (nodes, memo) = layers.entry(node.at.front).or_default();
                if memo.insert(&node, crashed) {
                    nodes.entry(crashed.size(node.used)).or_default().push(node);
                }
            }
        }
    }

    /// Takes the next node that was not looked at before.
    pub fn pop(&mut self, crashed: &Crashed) -> Option<Node> {
        match self {
            Self::Depth { stack, memo } => loop {
                let node = stack.pop()?;
                if memo.insert(&node, crashed) {
                    return Some(node);
                }
            },
            Self::Breadth { layers } => loop {
                let mut layer = layers.first_entry()?;
                let (nodes, _) = layer.get_mut();
                let Some(mut fewest) = nodes.first_entry() else {
                    layer.remove();
                    continue;
                };
                let node = fewest.get_mut().pop().expect("empty lists are removed");
                if fewest.get().is_empty() {
                    fewest.remove();
                }
                return Some(node);
            },
        }
    }

    /// Configurations in memory.
    pub fn remembered(&self) -> u64 {
        match self {
            Self::Depth { stack, memo } => memo.count + stack.len() as u64,
            Self::Breadth { layers } => layers.values().map(|(_, memo)| memo.count).sum(),
        }
    }
}
