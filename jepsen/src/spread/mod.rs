//! How one update spreads from one node to all others, simulated round by round and node by node, beside
//! what models on paper say: flooding, trees, anti-entropy, rumors.
//!
//! - [`Plan`]: what is simulated. [`strategy`]: ways to spread, and the named rules that tell their variants
//!   apart; published tables differ in these.
//! - [`Graph`]: overlays for floods. [`Routers`]: the network below, which tells link stress and stretch.
//! - `field`: one run. `rumor`, `anti_entropy`, `flood`: what happens in its rounds. [`theory`]: paper.
//! - [`Findings`]: what all runs came to.
//!
//! Left out: nodes that fail, connections that are refused, choices of peers that are not uniform, and
//! several updates at once.

mod anti_entropy;
mod field;
mod findings;
mod flood;
mod graph;
mod plan;
mod routers;
mod rumor;
pub mod strategy;
pub mod theory;

use std::ops::ControlFlow;

use self::anti_entropy::Residuals;
use self::field::Field;
use self::findings::Collector;
pub use self::findings::Findings;
use self::flood::Plane;
use self::graph::Overlay;
pub use self::graph::{Graph, GraphKind};
pub use self::plan::{K_MAX, NODES_MAX, Plan, PlanError, RUNS_MAX};
pub use self::routers::Routers;
pub use self::strategy::{AntiEntropy, Direction, Rumor, Strategy};
use crate::trials::{Progress, Tell};

/// Rounds after which a run that does not end by itself is ended: rumors with a huge k, and anti-entropy
/// that loses nearly everything. What was not reached by then counts as residue.
pub const ROUNDS_MAX: u32 = 100_000;

/// Does the runs of a plan, or as many of them as `tell` lets it; nothing if not even one was done.
///
/// # Errors
///
/// A [`PlanError`] if the plan makes no sense.
pub fn simulate(plan: &Plan, tell: &mut Tell<'_>) -> Result<Option<Findings>, PlanError> {
    plan.validate()?;
    let mut collector = Collector::default();
    for run in 0..plan.runs {
        let mut tell = |within| tell(Progress { done: run, runs: plan.runs, within });
        if one_run(plan, run, &mut collector, &mut tell).is_break() {
            break;
        }
    }
    Ok(collector.findings(plan))
}

/// One run, which is collected if it was not ended before.
fn one_run(
    plan: &Plan,
    run: u32,
    collector: &mut Collector,
    tell: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut field = Field::new(plan, run);
    match &plan.strategy {
        Strategy::Flood(graph) => {
            let plane = Plane::Graph(Overlay::new(*graph, plan.nodes, &mut field.rng));
            flood::spread(&plane, &mut field, tell)?;
            collector.spread(&field);
        }
        Strategy::Tree { fanout } => {
            flood::spread(&Plane::Tree(*fanout), &mut field, tell)?;
            collector.spread(&field);
        }
        Strategy::AntiEntropy(rules) => {
            collector.stepped(&agree(plan, rules, &mut field, tell)?);
            collector.spread(&field);
        }
        Strategy::Rumor(rules) => {
            rumor::spread(rules, &mut field, ROUNDS_MAX, tell)?;
            let Some(direction) = rules.repair else {
                collector.spread(&field);
                return ControlFlow::Continue(());
            };
            // What the repair does is not the rumor's doing.
            let mut rest = field.clone();
            let repair = AntiEntropy { direction, fanout: 1 };
            agree(plan, &repair, &mut rest, tell)?;
            collector.spread(&field);
            collector.repaired(rest.round() - field.round());
        }
    }
    ControlFlow::Continue(())
}

/// Rounds of anti-entropy until all have the update.
fn agree(
    plan: &Plan,
    rules: &AntiEntropy,
    field: &mut Field,
    tell: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> ControlFlow<(), Residuals> {
    let rounds_max = field.round() + ROUNDS_MAX;
    anti_entropy::spread(rules, plan.loss, field, rounds_max, tell)
}

#[cfg(test)]
mod tests;
