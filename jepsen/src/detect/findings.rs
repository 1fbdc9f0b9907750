//! What the runs of one plan came to.

use serde::Serialize;

use super::plan::{Detector, Plan};
use super::theory::Predictions;
use super::world::Outcome;
use crate::trials::{Measure, Sample};

/// What the runs of one plan came to. Times are seconds since the crash, over the runs in which it came to
/// that; traffic is that before the crash.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Findings {
    /// Runs that were done.
    pub runs: usize,
    /// Until the first member suspected the crashed one, where suspicion is part of the rules.
    pub suspected: Option<Measure>,
    /// Until the first took it for dead.
    pub first: Option<Measure>,
    /// Until all did.
    pub all: Option<Measure>,
    /// How often a member that lived was taken for dead by anyone, an hour of a member.
    pub false_positives_per_node_hour: Measure,
    /// How often one was suspected.
    pub false_suspicions_per_node_hour: Option<Measure>,
    /// Messages that a member sent a second.
    pub messages_per_node_second: Measure,
    /// Bytes that a member sent a second, without those of lower layers.
    pub bytes_per_node_second: Measure,
    /// Messages that the busiest member sent and heard a second.
    pub busiest_messages_per_second: Measure,
    /// Share of members that take the crashed one for dead, by seconds since the crash.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

/// Points of a curve.
const POINTS: usize = 400;

/// What outcomes come to; nothing without any.
pub(super) fn findings(plan: &Plan, outcomes: &[Outcome]) -> Option<Findings> {
    let predictions = Predictions::of(plan);
    let gather = |figure: &dyn Fn(&Outcome) -> Option<f64>| {
        let mut sample = Sample::default();
        outcomes.iter().filter_map(figure).for_each(|value| sample.add(value));
        sample
    };
    let always = |figure: fn(&Outcome) -> f64| gather(&|outcome| Some(figure(outcome)));
    let swims = matches!(plan.detector, Detector::Swim(_));
    Some(Findings {
        runs: outcomes.len(),
        suspected: gather(&|outcome| outcome.suspected).measure(predictions.suspected),
        first: gather(&|outcome| outcome.first).measure(predictions.first),
        all: gather(&|outcome| outcome.all).measure(predictions.all),
        false_positives_per_node_hour: always(|outcome| outcome.false_positives)
            .measure(predictions.false_positives)?,
        false_suspicions_per_node_hour: always(|outcome| outcome.false_suspicions)
            .measure(predictions.false_suspicions)
            .filter(|_| swims),
        messages_per_node_second: always(|outcome| outcome.messages)
            .measure(predictions.messages)?,
        bytes_per_node_second: always(|outcome| outcome.bytes).measure(predictions.bytes)?,
        busiest_messages_per_second: always(|outcome| outcome.busiest).measure(None)?,
        curve: curve(plan, outcomes),
    })
}

fn curve(plan: &Plan, outcomes: &[Outcome]) -> Vec<(f64, f64)> {
    let mut times: Vec<f64> =
        outcomes.iter().flat_map(|outcome| &outcome.declared).copied().collect();
    times.sort_by(f64::total_cmp);
    let all = f64::from(plan.members - 1) * outcomes.len() as f64;
    let span = times.last().copied().unwrap_or(0.0) * 1.05;
    let mut points = Vec::with_capacity(POINTS + 1);
    for place in 0..=POINTS {
        let time = span * place as f64 / POINTS as f64;
        let declared = times.partition_point(|one| *one <= time);
        points.push((time, declared as f64 / all));
    }
    points
}
