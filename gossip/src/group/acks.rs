//! Writes that wait until enough members have them durably.

use std::collections::BTreeMap;

use proto::NodeId;

use super::{Configuration, Group, Need};
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
    need: Need,
    /// Who said that it has it durably, and which configuration it followed then.
    by: BTreeMap<NodeId, u64>,
}

impl Open {
    /// The other members that count.
    fn counted(&self, configuration: &Configuration) -> impl Iterator<Item = NodeId> {
        let counts = |(node, epoch): &(&NodeId, &u64)| {
            **epoch == configuration.epoch && configuration.others.contains(node)
        };
        self.by.iter().filter(counts).map(|(node, _)| *node)
    }

    fn is_complete(&self, configuration: &Configuration) -> bool {
        let own = usize::from(configuration.counts_itself);
        self.counted(configuration).count() + own >= configuration.need(self.need)
    }
}

impl Acks {
    /// Waits until so many members have the write, of which the own one is one.
    pub(super) fn open(&mut self, dot: Dot, need: Need) {
        if need > Need::One {
            let open = self.open.entry(dot).or_insert(Open { need, by: BTreeMap::new() });
            open.need = open.need.max(need);
        }
    }

    pub(super) fn waits(&self, dot: Dot) -> bool {
        self.open.contains_key(&dot)
    }

    pub(super) fn durable(&mut self, dot: Dot, at: NodeId, epoch: u64) {
        if let Some(open) = self.open.get_mut(&dot) {
            let said = open.by.entry(at).or_insert(epoch);
            *said = epoch.max(*said);
        }
    }
}

impl Group {
    /// Waits again for acknowledgements of a write that was taken before.
    pub fn wait_for(&mut self, dot: Dot, need: Need) {
        self.acks.open(dot, need);
        self.settle_acks();
    }

    /// The other members that are known to have a write durably, while its acknowledgements are waited for.
    #[must_use]
    pub fn holders(&self, dot: Dot) -> Vec<NodeId> {
        let open = self.acks.open.get(&dot);
        open.map(|open| open.by.keys().copied().collect()).unwrap_or_default()
    }

    /// Nobody waits for the acknowledgements of a write any more.
    pub fn give_up(&mut self, dot: Dot) {
        self.acks.open.remove(&dot);
        self.forget_told();
    }

    fn forget_told(&mut self) {
        let acks = &self.acks;
        self.rumors.forget(|dot| acks.waits(dot));
    }

    /// Takes note of what a member's clock says that it has: it says so only of what is durable there.
    pub(super) fn settle_acks(&mut self) {
        for (dot, open) in &mut self.acks.open {
            for (node, member) in &self.members {
                if member.clock.contains(*dot) {
                    let said = open.by.entry(*node).or_insert(member.clock_epoch);
                    *said = member.clock_epoch.max(*said);
                }
            }
            open.by.retain(|node, _| self.members.contains_key(node));
        }
        let configuration = &self.configuration;
        let complete = self.acks.open.iter().filter(|(_, open)| open.is_complete(configuration));
        let done: Vec<Dot> = complete.map(|(dot, _)| *dot).collect();
        if done.is_empty() {
            return;
        }
        for dot in done {
            let Some(open) = self.acks.open.remove(&dot) else { continue };
            let by = open.counted(&self.configuration).collect();
            self.acked.push(Acked { dot, by });
        }
        self.forget_told();
    }
}
