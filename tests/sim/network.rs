//! The network between simulated nodes.

use std::collections::BTreeSet;

use proto::NodeId;
use rand::{Rng, RngExt};

/// Microseconds of virtual time.
pub type Micros = u64;

/// Fastest delivery of a message.
const DELAY_MIN: Micros = 100;

/// What the network does to messages; faults change it while a seed runs.
#[derive(Debug, Default)]
pub struct Network {
    /// Directions in which nothing gets through.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Messages lost, in thousandths.
    pub loss: u32,
    /// Messages delivered twice, in thousandths.
    pub duplication: u32,
    /// Messages held back long enough to be overtaken, in thousandths.
    pub reordering: u32,
    /// Added to every delivery at most.
    pub delay_max: Micros,
}

impl Network {
    /// Cuts the direction `from` to `to`.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Ends every fault.
    pub fn heal(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing gets from `from` to `to`.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// The delays after which copies of a message arrive: none when it is lost, two when it is
    /// duplicated.
    pub fn deliveries(&self, from: NodeId, to: NodeId, rng: &mut impl Rng) -> Vec<Micros> {
        let lost = rng.random_range(0..1000) < self.loss;
        if lost || self.is_cut(from, to) {
            return Vec::new();
        }
        let copies = if rng.random_range(0..1000) < self.duplication { 2 } else { 1 };
        (0..copies).map(|_| self.delay(rng)).collect()
    }

    fn delay(&self, rng: &mut impl Rng) -> Micros {
        let delay = DELAY_MIN + rng.random_range(0..=200 + self.delay_max);
        if rng.random_range(0..1000) < self.reordering { delay * 20 } else { delay }
    }
}
