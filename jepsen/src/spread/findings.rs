//! What the runs of one plan came to.

use serde::Serialize;

use super::anti_entropy::Residuals;
use super::field::Field;
use super::plan::Plan;
use super::theory::Predictions;
use crate::trials::{Measure, Sample};

/// Rounds of a decile below which their mean says nothing.
const ROUNDS_MIN: u64 = 100;

/// What the runs of one plan came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Findings {
    /// Share of nodes that never heard the update (of a rumor with repair: before the repair).
    pub residue: Measure,
    /// Updates sent for each node, before the repair if there is one.
    pub traffic: Measure,
    /// Mean round in which nodes other than the source heard it. A run in which nobody did has none.
    pub t_ave: Option<Measure>,
    /// Round in which the last node that heard it did.
    pub t_last: Measure,
    /// Rounds of anti-entropy after the rumor until all had it.
    pub repair_rounds: Option<Measure>,
    /// Updates over the busiest link of the network below.
    pub stress_most: Option<Measure>,
    /// Updates over a link of the network below, idle links included.
    pub stress_mean: Option<Measure>,
    /// Length of the way that the update took to a node over that of the direct one: mean of a run.
    pub stretch_mean: Option<Measure>,
    /// The worst of a run.
    pub stretch_most: Option<Measure>,
    /// How far single rounds of anti-entropy were from what is expected of them: the worst mean
    /// difference of a tenth of the shares that rounds began with; tenths with few rounds are left out.
    pub step_residual: Option<f64>,
    /// Share of nodes without the update after each round, mean of the runs; the first is before round 1.
    #[serde(skip)]
    pub curve: Vec<f64>,
    /// The same by a model on paper.
    #[serde(skip)]
    pub curve_theory: Option<Vec<f64>>,
}

/// Collects runs.
#[derive(Debug, Default)]
pub(super) struct Collector {
    residue: Sample,
    traffic: Sample,
    t_ave: Sample,
    t_last: Sample,
    repair_rounds: Sample,
    stress_most: Sample,
    stress_mean: Sample,
    stretch_mean: Sample,
    stretch_most: Sample,
    residuals: Residuals,
    /// How many heard the update in each round, in all runs.
    heard: Vec<u64>,
}

impl Collector {
    /// Takes a run as it is before any repair.
    pub fn spread(&mut self, field: &Field) {
        let nodes = f64::from(field.nodes());
        self.residue.add(f64::from(field.ignorant()) / nodes);
        self.traffic.add(field.updates() as f64 / nodes);
        let heard = field.heard();
        let last = heard.iter().rposition(|count| *count > 0).unwrap_or(0);
        self.t_last.add(last as f64);
        if field.known() > 1 {
            let sum: f64 =
                (0..).zip(heard).map(|(round, count)| f64::from(round) * f64::from(*count)).sum();
            self.t_ave.add(sum / f64::from(field.known() - 1));
        }
        if let Some(underlay) = field.underlay() {
            let stress = underlay.stress();
            self.stress_most.add(stress.most);
            self.stress_mean.add(stress.mean);
        }
        if let Some((mean, most)) = field.stretch() {
            self.stretch_mean.add(mean);
            self.stretch_most.add(most);
        }
        self.heard.resize(self.heard.len().max(heard.len()), 0);
        for (sum, count) in self.heard.iter_mut().zip(heard) {
            *sum += u64::from(*count);
        }
    }

    /// Takes how many rounds the repair of a run took.
    pub fn repaired(&mut self, rounds: u32) {
        self.repair_rounds.add(f64::from(rounds));
    }

    /// Takes what the rounds of anti-entropy of a run were beside what was expected.
    pub fn stepped(&mut self, residuals: &Residuals) {
        self.residuals.merge(residuals);
    }

    /// What all runs came to; nothing without any.
    pub fn findings(&self, plan: &Plan) -> Option<Findings> {
        let predictions = Predictions::of(plan);
        let traffic = self.traffic.measure(predictions.traffic)?;
        let by_traffic = || Predictions::residue_by_traffic(plan, traffic.mean);
        Some(Findings {
            residue: self.residue.measure(predictions.residue.or_else(by_traffic))?,
            traffic,
            t_ave: self.t_ave.measure(predictions.t_ave),
            t_last: self.t_last.measure(predictions.t_last)?,
            repair_rounds: self.repair_rounds.measure(None),
            stress_most: self.stress_most.measure(None),
            stress_mean: self.stress_mean.measure(None),
            stretch_mean: self.stretch_mean.measure(None),
            stretch_most: self.stretch_most.measure(None),
            step_residual: self.residuals.means(ROUNDS_MIN).map(f64::abs).reduce(f64::max),
            curve: self.curve(plan),
            curve_theory: predictions.curve,
        })
    }

    fn curve(&self, plan: &Plan) -> Vec<f64> {
        let all = u64::from(plan.nodes) * self.residue.values().len() as u64;
        let mut lacking = all;
        let shares = self.heard.iter().map(|count| {
            lacking -= count;
            lacking as f64 / all as f64
        });
        shares.collect()
    }
}
