//! How members find out that one of them crashed, simulated message by message: heartbeats to a centre,
//! along a ring, to all, by gossip, and SWIM.
//!
//! - [`Plan`]: what is simulated, with the rules of each detector.
//! - `world`: time, messages, loss, the crash, and who takes whom for dead. `protocol`: what a detector does.
//!   `heartbeat`, `gossip`, `swim`: the detectors. [`theory`]: paper.
//! - [`Findings`]: what all runs came to.
//!
//! A run has one crash, of a member that stays down, in the middle of its time. Members that were wrongly
//! taken for dead are taken for alive again once they are heard. Left out: members that join, partitions,
//! slow members, and the crash of the centre.

mod findings;
mod gossip;
mod heartbeat;
mod plan;
mod protocol;
mod swim;
pub mod theory;
mod world;

use std::ops::ControlFlow;

pub use self::findings::Findings;
use self::gossip::Gossip;
use self::heartbeat::{AllToAll, Central, Ring};
pub use self::plan::{Detector, Phase, Pick, Plan, PlanError, Swim, Timeout};
use self::protocol::Protocol;
use self::swim::SwimMembers;
use self::world::{Outcome, World};
use crate::trials::{Progress, Tell};

/// Does the runs of a plan, or as many of them as `tell` lets it; nothing if not even one was done.
///
/// # Errors
///
/// A [`PlanError`] if the plan makes no sense.
pub fn simulate(plan: &Plan, tell: &mut Tell<'_>) -> Result<Option<Findings>, PlanError> {
    plan.validate()?;
    let mut outcomes = Vec::new();
    for run in 0..plan.runs {
        let mut tell = |within| tell(Progress { done: run, runs: plan.runs, within });
        match one_run(plan, run, &mut tell) {
            ControlFlow::Continue(outcome) => outcomes.push(outcome),
            ControlFlow::Break(()) => break,
        }
    }
    Ok(findings::findings(plan, &outcomes))
}

fn one_run(
    plan: &Plan,
    run: u32,
    tell: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> ControlFlow<(), Outcome> {
    let members = plan.members;
    let period = u64::try_from(plan.period.as_micros()).expect("periods are bounded");
    let patience = |timeout: Timeout| period * u64::from(timeout.periods);
    match plan.detector {
        Detector::Central(timeout) => {
            drive(Central::new(members, patience(timeout)), World::new(plan, run), tell)
        }
        Detector::Ring(timeout) => {
            drive(Ring::new(members, patience(timeout)), World::new(plan, run), tell)
        }
        Detector::AllToAll(timeout) => {
            drive(AllToAll::new(members, patience(timeout)), World::new(plan, run), tell)
        }
        Detector::Gossip { timeout, fanout } => {
            let gossip = Gossip::new(members, patience(timeout), fanout);
            drive(gossip, World::new(plan, run), tell)
        }
        Detector::Swim(rules) => {
            drive(SwimMembers::new(rules, members, period), World::new(plan, run), tell)
        }
    }
}

/// Lets everything happen that happens in a run.
fn drive<P: Protocol>(
    mut protocol: P,
    mut world: World<P::Message>,
    tell: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> ControlFlow<(), Outcome> {
    let mut told = u64::MAX;
    while let Some(event) = world.next_event() {
        let second = world.now() / 1_000_000;
        if second != told {
            told = second;
            tell(u32::try_from(second).unwrap_or(u32::MAX))?;
        }
        protocol.happen(event, &mut world);
    }
    ControlFlow::Continue(world.outcome())
}

#[cfg(test)]
mod tests;
