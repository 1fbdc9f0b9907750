//! Writes that wait until enough members have them durably.

use std::collections::{BTreeMap, BTreeSet};

use proto::NodeId;

use super::Group;
use crate::dot::Dot;

/// A write that enough members have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    /// The write.
    pub dot: Dot,
    /// The other members that have it durably.
    pub by: Vec<NodeId>,
}

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct Acks {
    open: BTreeMap<Dot, Open>,
}

#[derive(Debug)]
struct Open {
    /// Other members that have to have it.
    wanted: usize,
    by: BTreeSet<NodeId>,
}

impl Acks {
    /// Waits until `wanted` members have the write, of which the own one is one.
    pub(super) fn open(&mut self, dot: Dot, wanted: usize) {
        if wanted > 1 {
            let open = self.open.entry(dot).or_insert(Open { wanted: 0, by: BTreeSet::new() });
            open.wanted = open.wanted.max(wanted - 1);
        }
    }

    pub(super) fn waits(&self, dot: Dot) -> bool {
        self.open.contains_key(&dot)
    }

    pub(super) fn durable(&mut self, dot: Dot, at: NodeId) {
        if let Some(open) = self.open.get_mut(&dot) {
            open.by.insert(at);
        }
    }
}

impl Group {
    /// Waits again for acknowledgements of a write that was taken before.
    pub fn wait_for(&mut self, dot: Dot, wanted: usize) {
        self.acks.open(dot, wanted);
        self.settle_acks();
    }

    /// The other members that are known to have a write durably, while its acknowledgements are waited for.
    #[must_use]
    pub fn holders(&self, dot: Dot) -> Vec<NodeId> {
        let open = self.acks.open.get(&dot);
        open.map(|open| open.by.iter().copied().collect()).unwrap_or_default()
    }

    /// Nobody waits for the acknowledgements of a write any more. Answers the members that have it durably so far,
    /// this one apart.
    pub fn give_up(&mut self, dot: Dot) -> Vec<NodeId> {
        let open = self.acks.open.remove(&dot);
        let acks = &self.acks;
        self.rumors.forget(|dot| acks.waits(dot));
        open.map(|open| open.by.into_iter().collect()).unwrap_or_default()
    }

    /// Takes note of what a member's clock says that it has: it says so only of what is durable there.
    pub(super) fn settle_acks(&mut self) {
        for (dot, open) in &mut self.acks.open {
            for (node, member) in &self.members {
                if member.clock.contains(*dot) {
                    open.by.insert(*node);
                }
            }
            open.by.retain(|node| self.members.contains_key(node));
        }
        let complete = |open: &Open| open.by.len() >= open.wanted;
        let done: Vec<Dot> =
            self.acks.open.iter().filter(|(_, open)| complete(open)).map(|(dot, _)| *dot).collect();
        for dot in done {
            let by = self.give_up(dot);
            self.acked.push(Acked { dot, by });
        }
    }
}
