//! What models on paper say, where there are any. Times are in periods, counts in periods of a member.

use super::plan::{Detector, Phase, Plan, Swim};
use super::world::{ENTRY_BYTES, HEADER_BYTES};
use crate::trials::Theory;

/// What models on paper say about a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Seconds until the first member suspects the crashed one.
    pub suspected: Option<Theory>,
    /// Seconds until the first takes it for dead.
    pub first: Option<Theory>,
    /// Seconds until all do.
    pub all: Option<Theory>,
    /// How often a member that lives is taken for dead, an hour of a member.
    pub false_positives: Option<Theory>,
    /// How often it is suspected.
    pub false_suspicions: Option<Theory>,
    /// Messages that a member sends a second.
    pub messages: Option<Theory>,
    /// Bytes that a member sends a second.
    pub bytes: Option<Theory>,
}

/// Chance that a probe of a member that lives fails, and all indirect ones with it.
#[must_use]
pub fn probe_fails(rules: &Swim, loss: f64) -> f64 {
    let arrives = 1.0 - loss;
    (1.0 - arrives.powi(2)) * indirect_fail(rules, arrives)
}

fn indirect_fail(rules: &Swim, arrives: f64) -> f64 {
    (1.0 - arrives.powi(4)).powf(f64::from(rules.indirect))
}

/// Periods until somebody probes the crashed member and the probe has failed, if each other member probes a
/// random one each period.
#[must_use]
pub fn first_probe(members: u32, phase: Phase) -> f64 {
    let others = f64::from(members - 1);
    let spared = (1.0 - 1.0 / others).powf(others);
    match phase {
        Phase::Aligned => 1.0 / (1.0 - spared),
        // Probes begin at any time, on average one a period; then one more passes until it has failed.
        Phase::Spread => {
            let (mut sum, steps) = (0.0, 1_000);
            for step in 0..steps {
                // Within a period, the members whose phase has come have had their turn.
                let part = (f64::from(step) + 0.5) / f64::from(steps);
                sum += (1.0 - part / others).powf(others) / f64::from(steps);
            }
            sum / (1.0 - spared) + 1.0
        }
    }
}

impl Predictions {
    /// What is known before anything is simulated.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let members = f64::from(plan.members);
        let lossless = plan.loss == 0.0;
        let arrives = 1.0 - plan.loss;
        let spread = plan.phase == Phase::Spread;
        let seconds = plan.period.as_secs_f64();
        let time = |periods: f64, by| Some(Theory::new(periods * seconds, by));
        let rate = |count: f64, by| Some(Theory::new(count / seconds, by));
        let hourly = |count: f64, by| Some(Theory::new(count * 3_600.0 / seconds, by));
        let plain = |count: f64| rate(count * HEADER_BYTES as f64, "load");
        match &plan.detector {
            Detector::Central(timeout) => {
                // A heartbeat that was lost last makes the silence older when the crash comes.
                let patience = f64::from(timeout.periods);
                let older = plan.loss / arrives;
                let count = (members - 1.0) / members * (1.0 + arrives);
                let missed = arrives * plan.loss.powi(timeout.periods.cast_signed());
                Self {
                    first: time(patience - older, "timeout").filter(|_| spread),
                    false_positives: hourly(missed * (members - 1.0) / members, "runs of losses"),
                    messages: rate(count, "load"),
                    bytes: plain(count),
                    ..Self::default()
                }
            }
            Detector::Ring(timeout) => Self {
                // The silence is half a period old; the first of two looks comes after a third of one.
                first: time(f64::from(timeout.periods) - 0.5 + 1.0 / 3.0, "timeout")
                    .filter(|_| lossless && spread),
                messages: rate(2.0, "load"),
                bytes: plain(2.0),
                ..Self::default()
            },
            Detector::AllToAll(timeout) => {
                let patience = f64::from(timeout.periods) - 0.5;
                let known = lossless && spread;
                Self {
                    first: time(patience + 1.0 / members, "timeout").filter(|_| known),
                    all: time(patience + 1.0 - 1.0 / members, "timeout").filter(|_| known),
                    messages: rate(members - 1.0, "load"),
                    bytes: plain(members - 1.0),
                    ..Self::default()
                }
            }
            Detector::Gossip { timeout, fanout } => {
                let patience = f64::from(timeout.periods);
                let fanout = f64::from(*fanout);
                let size = HEADER_BYTES as f64 + members * ENTRY_BYTES as f64;
                // The last heartbeat spreads like a rumor, and the last to hear it is the last to miss it.
                let rounds = match plan.phase {
                    Phase::Spread => 2.0 * members.ln(),
                    Phase::Aligned => members.log2() + members.ln(),
                };
                let by = match plan.phase {
                    Phase::Spread => "timeout + 2 ln N",
                    Phase::Aligned => "timeout + log2 N + ln N",
                };
                Self {
                    all: time(patience + rounds, by).filter(|_| lossless && fanout == 1.0),
                    messages: rate(fanout, "load"),
                    bytes: rate(fanout * size, "load"),
                    ..Self::default()
                }
            }
            Detector::Swim(rules) => Self::of_swim(plan, rules),
        }
    }

    fn of_swim(plan: &Plan, rules: &Swim) -> Self {
        let seconds = plan.period.as_secs_f64();
        let arrives = 1.0 - plan.loss;
        let suspected = first_probe(plan.members, plan.phase) * seconds;
        let by = match plan.phase {
            Phase::Aligned => "e / (e - 1) periods",
            Phase::Spread => "a probe a period, and its period",
        };
        let then = suspected + f64::from(rules.suspicion) * seconds;
        // Each message of an indirect probe is sent if those before it arrived.
        let relayed: f64 = (0..4).map(|hops| arrives.powi(hops)).sum();
        let indirect = (1.0 - arrives.powi(2)) * f64::from(rules.indirect) * relayed;
        let fails = probe_fails(rules, plan.loss) * 3_600.0 / seconds;
        // With suspicion, a false positive needs an objection that comes too late: no model here.
        let at_once = rules.suspicion == 0;
        Self {
            suspected: Some(Theory::new(suspected, by)),
            first: Some(Theory::new(then, by)),
            false_positives: at_once.then_some(Theory::new(fails, "all probes fail")),
            false_suspicions: Some(Theory::new(fails, "all probes fail")),
            messages: Some(Theory::new((1.0 + arrives + indirect) / seconds, "load")),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_probe_takes_the_published_time() {
        let e = std::f64::consts::E;
        assert!((first_probe(1_000_000, Phase::Aligned) - e / (e - 1.0)).abs() < 1e-5);
        assert!((first_probe(1_000_000, Phase::Spread) - 2.0).abs() < 1e-5);
        // Two others, each of which probes it every other time.
        assert!((first_probe(3, Phase::Aligned) - 4.0 / 3.0).abs() < 1e-12);
    }
}
