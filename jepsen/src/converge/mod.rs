//! Replicas of eventual keyspaces under what may happen to them: random schedules on the core that the server runs,
//! [`gossip::group::Group`], judged by an oracle that shares no code with it.
//!
//! - [`Plan`]: what is simulated. `schedule`: what happens, drawn from a seed.
//! - `world`: plays a schedule on members (`member`) with disks, and a network (`network`) that loses, doubles, reorders and
//!   keeps back messages. In the end all starts again from its disks, and what is left is up to exchanges.
//! - `catalogue`: which actors retire and are folded, and when members hear of it.
//! - `oracle`: what was written and what each write had seen, from outside; it looks at the members after every step.
//!   [`Violation`]: what it may find. [`Sabotage`]: what can be broken on purpose, so that it does.
//! - `time_based`: the same schedules on replicas that drop death certificates by age, as a comparison.
//! - [`Findings`]: what all schedules came to; [`Event`]: what happened in them.
//!
//! Left out: keyspaces whose last writer wins, values that expire, changes of members, and quorums. The model
//! (`gossip::model`) has these.

mod catalogue;
mod event;
mod findings;
mod member;
mod network;
mod oracle;
mod plan;
mod sabotage;
mod schedule;
mod time_based;
mod violation;
mod world;

use std::ops::ControlFlow;

pub use event::{Counts, Event};
pub use findings::{Failure, Findings};
pub use plan::{KEYS_MAX, NODES_MAX, NODES_MIN, Plan, PlanError, STEPS_MAX};
pub use sabotage::Sabotage;
pub use time_based::CERTIFICATE_MS;
pub use violation::{Kind, Violation};

use self::schedule::Schedule;
use self::time_based::TimeBased;
use self::world::World;

/// Plays the schedules of a plan, or as many of them as `tell` lets it: it hears how many were played. Ends at the first
/// one in which a promise is broken.
///
/// # Errors
///
/// A [`PlanError`] if the plan makes no sense.
pub fn simulate(
    plan: &Plan,
    tell: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Findings, PlanError> {
    plan.validate()?;
    let mut findings = Findings::default();
    for seed in plan.first..plan.after {
        let schedule = Schedule::new(plan, seed);
        let played = World::play(&schedule, plan.broken);
        findings.played(plan, &schedule, played);
        if plan.time_based {
            findings.compared(seed, TimeBased::resurrections(&schedule));
        }
        if findings.failure.is_some() || tell(findings.schedules).is_break() {
            break;
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests;
