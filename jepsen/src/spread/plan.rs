//! What is simulated, and which plans make no sense.

use super::graph::{Graph, GraphKind};
use super::routers::Routers;
use super::strategy::Strategy;

/// Most nodes.
pub const NODES_MAX: u32 = 1_000_000;
/// Most runs.
pub const RUNS_MAX: u32 = 1_000_000;
/// Most k.
pub const K_MAX: u32 = 1_000;
/// Most edges of an overlay, and contacts of one round, both counted from each side: what bounds memory.
pub const EDGES_MAX: u64 = 32_000_000;

/// A simulation of one update that spreads from one node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// How many nodes, the source among them.
    pub nodes: u32,
    /// How the update spreads.
    pub strategy: Strategy,
    /// Chance of a message to be lost, in `[0, 1)`.
    pub loss: f64,
    /// How often it is repeated.
    pub runs: u32,
    /// Seed of all chance.
    pub seed: u64,
    /// What connects the nodes.
    pub routers: Routers,
}

/// Why a plan makes no sense. Nothing was simulated; the caller changes the plan.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A number is outside its range.
    #[error("{what} is {value}: takes {least} to {most}")]
    Range {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: u64,
        /// Least that is taken.
        least: u64,
        /// Most that is taken.
        most: u64,
    },
    /// The loss is no chance below one.
    #[error("loss is {0}: takes a share of at least 0 and below 1")]
    Loss(f64),
    /// There is no such overlay with so many nodes.
    #[error("no {} of {nodes} nodes: {why}", graph.title())]
    NoSuchGraph {
        /// The overlay.
        graph: Graph,
        /// How many nodes it should have.
        nodes: u32,
        /// What it needs.
        why: &'static str,
    },
    /// Contacts or edges would take too much memory.
    #[error(
        "{nodes} nodes with {each} contacts or neighbours each are too many: {EDGES_MAX} in all are taken"
    )]
    TooMany {
        /// How many nodes.
        nodes: u32,
        /// Contacts or neighbours of each.
        each: u32,
    },
}

impl Plan {
    /// Looks whether it can be simulated.
    ///
    /// # Errors
    ///
    /// The first [`PlanError`] that is found.
    pub fn validate(&self) -> Result<(), PlanError> {
        range("nodes", self.nodes, 2, NODES_MAX)?;
        range("runs", self.runs, 1, RUNS_MAX)?;
        if !(0.0..1.0).contains(&self.loss) {
            return Err(PlanError::Loss(self.loss));
        }
        match &self.strategy {
            Strategy::Flood(graph) => self.validate_graph(*graph),
            Strategy::Tree { fanout } => range("fanout", *fanout, 1, NODES_MAX),
            Strategy::AntiEntropy(rules) => self.validate_fanout(rules.fanout),
            Strategy::Rumor(rules) => {
                range("k", rules.k, 1, K_MAX)?;
                self.validate_fanout(rules.fanout)
            }
        }
    }

    fn validate_fanout(&self, fanout: u32) -> Result<(), PlanError> {
        range("fanout", fanout, 1, NODES_MAX)?;
        self.validate_edges(fanout)
    }

    fn validate_edges(&self, each: u32) -> Result<(), PlanError> {
        if u64::from(self.nodes) * u64::from(each) > EDGES_MAX {
            return Err(PlanError::TooMany { nodes: self.nodes, each });
        }
        Ok(())
    }

    fn validate_graph(&self, graph: Graph) -> Result<(), PlanError> {
        let nodes = self.nodes;
        let no = |why| Err(PlanError::NoSuchGraph { graph, nodes, why });
        match graph.kind {
            GraphKind::Random => {
                range("degree", graph.degree, 2, NODES_MAX)?;
                if graph.degree >= nodes.div_ceil(2) {
                    return no("it needs more than twice as many nodes as neighbours");
                }
                if !(u64::from(nodes) * u64::from(graph.degree)).is_multiple_of(2) {
                    return no("nodes or neighbours must be even");
                }
                self.validate_edges(graph.degree)
            }
            GraphKind::Ring if nodes < 3 => no("it needs three nodes"),
            GraphKind::Torus if Graph::torus_sides(nodes).is_none() => {
                no("nodes must be a product of two numbers of at least 3")
            }
            GraphKind::Hypercube if !nodes.is_power_of_two() => no("nodes must be a power of two"),
            GraphKind::Complete => self.validate_edges(nodes),
            GraphKind::Ring | GraphKind::Torus | GraphKind::Hypercube => Ok(()),
        }
    }
}

fn range(what: &'static str, value: u32, least: u32, most: u32) -> Result<(), PlanError> {
    let (value, least, most) = (u64::from(value), u64::from(least), u64::from(most));
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(PlanError::Range { what, value, least, most })
}
