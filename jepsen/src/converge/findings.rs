//! What all schedules came to.

use super::schedule::Schedule;
use super::world::Played;
use super::{Counts, Plan, Violation};

/// Steps before a broken promise that are told.
const STEPS_TOLD: usize = 25;

/// The first schedule in which a promise was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The step after which it was seen, from 1; one more than there are if that was in the end.
    pub step: usize,
    /// What was broken.
    pub violation: Violation,
    /// The command that plays it again.
    pub command: String,
    /// The steps before, the last of them.
    pub steps: Vec<String>,
}

/// What all schedules came to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Schedules that were played.
    pub schedules: u64,
    /// What happened in them.
    pub counts: Counts,
    /// Simulated time.
    pub ms: u64,
    /// The first broken promise.
    pub failure: Option<Failure>,
    /// Schedules in which a deleted value came back where certificates are dropped by age.
    pub time_based_schedules: u64,
    /// How often it did.
    pub time_based_returned: u64,
    /// The first seed in which it did.
    pub time_based_first: Option<u64>,
}

impl Findings {
    /// Takes note of a schedule.
    pub(super) fn played(&mut self, plan: &Plan, schedule: &Schedule, played: Played) {
        self.schedules += 1;
        self.counts += played.counts;
        self.ms += played.ms;
        let Some((step, violation)) = played.broken else { return };
        let steps = &schedule.steps[..step.min(schedule.steps.len())];
        let from = steps.len().saturating_sub(STEPS_TOLD);
        let told = |(at, step)| format!("{}: {step:?}", from + at + 1);
        self.failure = Some(Failure {
            seed: schedule.seed,
            step,
            violation,
            command: command(plan, schedule.seed),
            steps: steps[from..].iter().enumerate().map(told).collect(),
        });
    }

    /// Takes note of how often deleted values came back where certificates are dropped by age.
    pub(super) fn compared(&mut self, seed: u64, returned: u64) {
        self.time_based_returned += returned;
        if returned > 0 {
            self.time_based_schedules += 1;
            self.time_based_first.get_or_insert(seed);
        }
    }
}

/// The command that plays one seed of a plan.
fn command(plan: &Plan, seed: u64) -> String {
    let mut command = format!("kv-lab sim cluster --seed {seed} --steps {}", plan.steps);
    let given = [
        ("--nodes", plan.nodes.map(|nodes| nodes as u64)),
        ("--keys", plan.keys.map(|keys| keys as u64)),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            command += &format!(" {name} {value}");
        }
    }
    if let Some(loss) = plan.loss {
        command += &format!(" --loss {}", f64::from(loss) / 100.0);
    }
    if let Some(broken) = plan.broken {
        command += &format!(" --broken {}", broken.name());
    }
    command
}
