//! What is simulated, and which plans make no sense.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// Most members of detectors whose state and messages grow with their number.
pub const MEMBERS_MAX: u32 = 100_000;
/// Most members where each of them watches all others.
pub const WATCHED_MAX: u32 = 2_000;
/// Most runs.
pub const RUNS_MAX: u32 = 100_000;
/// Most messages of one run, about: what bounds its time.
pub const MESSAGES_MAX: f64 = 1e9;
/// Latency that a period is at least so many times of, so that indirect probes come back within it.
pub const LATENCIES_A_PERIOD: u32 = 20;

/// How crashes are found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "detector", rename_all = "kebab-case")]
pub enum Detector {
    /// All send heartbeats to member 0, which answers with those that it takes for dead.
    Central(Timeout),
    /// All send heartbeats to their two neighbours, which carry what is known of the dead round the ring.
    Ring(Timeout),
    /// All send heartbeats to all.
    AllToAll(Timeout),
    /// All send the highest heartbeats that they know of everyone to a random member.
    Gossip {
        /// When a member is taken for dead.
        #[serde(flatten)]
        timeout: Timeout,
        /// Members that one sends to in a period.
        fanout: u32,
    },
    /// All probe one member a period, directly, then through others; what they find rides on probes.
    Swim(Swim),
}

/// When a member that is silent is taken for dead: silence of so many periods, looked at once a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeout {
    /// Periods of silence.
    #[serde(rename = "timeout")]
    pub periods: u32,
}

/// The rules of SWIM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Swim {
    /// Members that are asked to probe one that did not answer.
    pub indirect: u32,
    /// Periods in which a suspected member can object; 0: it is taken for dead at once.
    pub suspicion: u32,
    /// Whom a member probes next.
    pub pick: Pick,
}

/// Whom a member probes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Pick {
    /// Any other.
    Random,
    /// All others, one after the other, in an order that each draws anew for each pass.
    RoundRobin,
}

/// When the periods of members begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// At times of their own.
    Spread,
    /// All at once, and the crash is right before that: the setting of most analyses.
    Aligned,
}

/// A simulation of one crash among members.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// How many there are.
    pub members: u32,
    /// How they find crashes.
    pub detector: Detector,
    /// Time between two heartbeats or probes of a member.
    pub period: Duration,
    /// Mean time that a message takes; single ones take half to one and a half of it.
    pub latency: Duration,
    /// Chance of a message to be lost, in `[0, 1)`.
    pub loss: f64,
    /// When periods begin.
    pub phase: Phase,
    /// Simulated time of a run; the crash is in its middle.
    pub time: Duration,
    /// How often it is repeated.
    pub runs: u32,
    /// Seed of all chance.
    pub seed: u64,
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
        value: u32,
        /// Least that is taken.
        least: u32,
        /// Most that is taken.
        most: u32,
    },
    /// The loss is no chance below one.
    #[error("loss is {0}: takes a share of at least 0 and below 1")]
    Loss(f64),
    /// The period is too short for answers to come within it, or not in the range of the clock.
    #[error(
        "period {period:?} with latency {latency:?}: takes 1 ms to 1 h, and at least \
        {LATENCIES_A_PERIOD} times the latency"
    )]
    Period {
        /// The period.
        period: Duration,
        /// The latency.
        latency: Duration,
    },
    /// The run is too short to find anything, or too long.
    #[error(
        "time {time:?}: takes at least {least:?} with these members and timeouts, and at most 1,000 h"
    )]
    Time {
        /// The time of a run.
        time: Duration,
        /// The least that is taken.
        least: Duration,
    },
    /// A run would have too many messages.
    #[error("a run would have about {messages:.1e} messages: {MESSAGES_MAX:.0e} are taken")]
    TooMany {
        /// About how many.
        messages: f64,
    },
}

impl Detector {
    /// Its name, as the command line has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Central(_) => "central",
            Self::Ring(_) => "ring",
            Self::AllToAll(_) => "all-to-all",
            Self::Gossip { .. } => "gossip",
            Self::Swim(_) => "swim",
        }
    }

    /// It and its rules in words.
    #[must_use]
    pub fn title(&self) -> String {
        let name = self.name();
        match self {
            Self::Central(timeout) | Self::Ring(timeout) | Self::AllToAll(timeout) => {
                format!("{name} heartbeats, timeout {} periods", timeout.periods)
            }
            Self::Gossip { timeout, fanout } => {
                format!("{name} heartbeats, timeout {} periods, to {fanout}", timeout.periods)
            }
            Self::Swim(rules) => {
                let pick = match rules.pick {
                    Pick::Random => "random",
                    Pick::RoundRobin => "round-robin",
                };
                format!(
                    "{name}, {pick} probes, {} indirect, suspicion {} periods",
                    rules.indirect, rules.suspicion
                )
            }
        }
    }

    /// Periods of silence or suspicion before a member is taken for dead.
    #[must_use]
    pub const fn patience(&self) -> u32 {
        match self {
            Self::Central(timeout) | Self::Ring(timeout) | Self::AllToAll(timeout) => {
                timeout.periods
            }
            Self::Gossip { timeout, .. } => timeout.periods,
            Self::Swim(rules) => rules.suspicion,
        }
    }

    /// Messages that a member sends in a period, about.
    fn messages(&self, members: u32) -> f64 {
        match self {
            Self::Central(_) | Self::Ring(_) => 2.0,
            Self::AllToAll(_) => f64::from(members),
            // A message has an entry for everyone, each of which takes time.
            Self::Gossip { fanout, .. } => f64::from(*fanout) * f64::from(members) / 8.0,
            Self::Swim(rules) => 2.0 + 4.0 * f64::from(rules.indirect),
        }
    }
}

impl Plan {
    /// Looks whether it can be simulated.
    ///
    /// # Errors
    ///
    /// The first [`PlanError`] that is found.
    pub fn validate(&self) -> Result<(), PlanError> {
        let most = match self.detector {
            Detector::AllToAll(_) | Detector::Gossip { .. } => WATCHED_MAX,
            Detector::Central(_) | Detector::Ring(_) | Detector::Swim(_) => MEMBERS_MAX,
        };
        range("members", self.members, 3, most)?;
        range("runs", self.runs, 1, RUNS_MAX)?;
        match &self.detector {
            Detector::Central(timeout) | Detector::Ring(timeout) | Detector::AllToAll(timeout) => {
                range("timeout", timeout.periods, 1, 10_000)?;
            }
            Detector::Gossip { timeout, fanout } => {
                range("timeout", timeout.periods, 1, 10_000)?;
                range("fanout", *fanout, 1, 100)?;
            }
            Detector::Swim(rules) => {
                range("indirect", rules.indirect, 0, 100)?;
                range("suspicion", rules.suspicion, 0, 10_000)?;
            }
        }
        if !(0.0..1.0).contains(&self.loss) {
            return Err(PlanError::Loss(self.loss));
        }
        let (period, latency) = (self.period, self.latency);
        let within = (Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&period);
        let enough = latency.checked_mul(LATENCIES_A_PERIOD).is_some_and(|all| all <= period);
        if !within || !enough {
            return Err(PlanError::Period { period, latency });
        }
        // Twice the patience and a few periods after the crash, and as much before.
        let least = period * (4 * self.detector.patience() + 20);
        if self.time < least || self.time > Duration::from_secs(3_600_000) {
            return Err(PlanError::Time { time: self.time, least });
        }
        let messages = self.time.as_secs_f64() / period.as_secs_f64()
            * f64::from(self.members)
            * self.detector.messages(self.members);
        if messages > MESSAGES_MAX {
            return Err(PlanError::TooMany { messages });
        }
        Ok(())
    }
}

fn range(what: &'static str, value: u32, least: u32, most: u32) -> Result<(), PlanError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(PlanError::Range { what, value, least, most })
}
