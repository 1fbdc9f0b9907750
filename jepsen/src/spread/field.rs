//! One run: who has the update, since when, and what it cost.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::plan::Plan;
use super::routers::Underlay;

/// The node that has the update at the beginning.
pub const SOURCE: u32 = 0;

/// In place of the round in which a node heard the update.
const NEVER: u32 = u32::MAX;

/// The nodes of one run. Rounds count from 1; what the source has, it had in round 0.
#[derive(Clone, Debug)]
pub struct Field {
    /// All chance of the run.
    pub rng: ChaCha8Rng,
    nodes: u32,
    loss: f64,
    round: u32,
    /// Round in which each node heard the update.
    learned: Vec<u32>,
    /// Who heard it in this round.
    fresh: Vec<u32>,
    /// How many heard it in each round; the first is that of the source.
    heard: Vec<u32>,
    known: u32,
    updates: u64,
    underlay: Option<Underlay>,
    /// Links that the update crossed until it reached each node, if there is a network below.
    paths: Vec<u32>,
}

impl Field {
    /// The field of one run, in which only [`SOURCE`] has the update.
    #[must_use]
    pub fn new(plan: &Plan, run: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        rng.set_stream(u64::from(run));
        let underlay = Underlay::new(plan.routers, plan.nodes, &mut rng);
        let nodes = plan.nodes as usize;
        let mut learned = vec![NEVER; nodes];
        learned[SOURCE as usize] = 0;
        Self {
            rng,
            nodes: plan.nodes,
            loss: plan.loss,
            round: 0,
            learned,
            fresh: vec![SOURCE],
            heard: vec![1],
            known: 1,
            updates: 0,
            paths: if underlay.is_some() { vec![0; nodes] } else { Vec::new() },
            underlay,
        }
    }

    /// How many nodes there are.
    #[must_use]
    pub const fn nodes(&self) -> u32 {
        self.nodes
    }

    /// How many have the update.
    #[must_use]
    pub const fn known(&self) -> u32 {
        self.known
    }

    /// How many lack it.
    #[must_use]
    pub const fn ignorant(&self) -> u32 {
        self.nodes - self.known
    }

    /// Rounds that were begun.
    #[must_use]
    pub const fn round(&self) -> u32 {
        self.round
    }

    /// Updates that were sent, lost ones included.
    #[must_use]
    pub const fn updates(&self) -> u64 {
        self.updates
    }

    /// How many heard the update in each round; the first is the source, in round 0.
    #[must_use]
    pub fn heard(&self) -> &[u32] {
        &self.heard
    }

    /// Nodes that heard the update in this round, in that order.
    #[must_use]
    pub fn fresh(&self) -> &[u32] {
        &self.fresh
    }

    /// The network below, if there is one.
    #[must_use]
    pub const fn underlay(&self) -> Option<&Underlay> {
        self.underlay.as_ref()
    }

    /// Begins the next round.
    pub fn next_round(&mut self) {
        self.round += 1;
        self.fresh.clear();
        self.heard.push(0);
    }

    /// Whether a node has the update.
    #[must_use]
    pub fn knows(&self, node: u32) -> bool {
        self.learned[node as usize] != NEVER
    }

    /// Whether a node had the update when the round began.
    #[must_use]
    pub fn knew(&self, node: u32) -> bool {
        self.learned[node as usize] < self.round
    }

    /// Any node but this one, all with the same chance.
    pub fn other(&mut self, node: u32) -> u32 {
        let drawn = self.rng.random_range(0..self.nodes - 1);
        if drawn < node { drawn } else { drawn + 1 }
    }

    /// Whether a message arrives.
    pub fn arrives(&mut self) -> bool {
        self.loss == 0.0 || !self.rng.random_bool(self.loss)
    }

    /// Sends the update, which arrives or does not.
    ///
    /// # Panics
    ///
    /// If the sender has nothing to send.
    pub fn send(&mut self, from: u32, to: u32, arrives: bool) {
        assert!(self.knows(from), "node {from} sends what it does not have");
        self.updates += 1;
        if let Some(underlay) = &mut self.underlay {
            underlay.carry(from, to);
        }
        if !arrives || self.knows(to) {
            return;
        }
        self.learned[to as usize] = self.round;
        self.fresh.push(to);
        self.known += 1;
        *self.heard.last_mut().expect("round 0 is always there") += 1;
        if let Some(underlay) = &self.underlay {
            self.paths[to as usize] = self.paths[from as usize] + underlay.distance(from, to);
        }
    }

    /// Mean and most of the way that the update took to a node over the direct one, if any node but the
    /// source heard it and there is a network below.
    #[must_use]
    pub fn stretch(&self) -> Option<(f64, f64)> {
        let underlay = self.underlay.as_ref()?;
        let (mut sum, mut most) = (0.0, 0.0_f64);
        for node in (0..self.nodes).filter(|node| *node != SOURCE && self.knows(*node)) {
            let direct = underlay.distance(SOURCE, node);
            let stretch = f64::from(self.paths[node as usize]) / f64::from(direct);
            assert!(stretch >= 1.0, "the way to node {node} is shorter than the direct one");
            sum += stretch;
            most = most.max(stretch);
        }
        (self.known > 1).then(|| (sum / f64::from(self.known - 1), most))
    }
}
