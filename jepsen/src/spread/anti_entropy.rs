//! Anti-entropy: one run.

use std::ops::ControlFlow;

use super::field::Field;
use super::strategy::AntiEntropy;
use super::theory;

/// Parts of `[0, 1]` by which steps are told apart.
pub const DECILES: usize = 10;

/// How far single rounds were from what is expected of them.
#[derive(Clone, Debug, Default)]
pub struct Residuals {
    /// By the share of nodes that lacked the update before the round: sum of the differences, and how
    /// many there are.
    deciles: [(f64, u64); DECILES],
}

impl Residuals {
    /// Takes one round: from `before` nodes without the update to `after`, of which `expected`.
    pub fn add(&mut self, nodes: u32, before: u32, after: u32, expected: f64) {
        let nodes = f64::from(nodes);
        let share = f64::from(before) / nodes;
        let decile = ((share * DECILES as f64) as usize).min(DECILES - 1);
        let (sum, count) = &mut self.deciles[decile];
        *sum += f64::from(after) / nodes - expected;
        *count += 1;
    }

    /// Takes what other runs came to.
    pub fn merge(&mut self, other: &Self) {
        for ((sum, count), (more, times)) in self.deciles.iter_mut().zip(other.deciles) {
            *sum += more;
            *count += times;
        }
    }

    /// The mean difference of each decile that at least so many rounds began in.
    pub fn means(&self, least: u64) -> impl Iterator<Item = f64> {
        let begun = self.deciles.iter().filter(move |(_, count)| *count >= least);
        begun.map(|(sum, count)| sum / *count as f64)
    }
}

/// Does round after round until all have the update, or `rounds_max` is reached.
pub fn spread(
    rules: &AntiEntropy,
    loss: f64,
    field: &mut Field,
    rounds_max: u32,
    tell: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> ControlFlow<(), Residuals> {
    let mut residuals = Residuals::default();
    while field.ignorant() > 0 && field.round() < rounds_max {
        tell(field.round())?;
        let before = field.ignorant();
        round(rules, field);
        let expected = theory::expected_share(rules, loss, field.nodes(), before);
        residuals.add(field.nodes(), before, field.ignorant(), expected);
    }
    ControlFlow::Continue(residuals)
}

/// One round, in which all contacts happen at once.
pub(super) fn round(rules: &AntiEntropy, field: &mut Field) {
    field.next_round();
    let (pushes, pulls) = (rules.direction.pushes(), rules.direction.pulls());
    for node in 0..field.nodes() {
        let knew = field.knew(node);
        // Who cannot change anything by a contact need not make it.
        if !(if knew { pushes } else { pulls }) {
            continue;
        }
        for _ in 0..rules.fanout {
            let other = field.other(node);
            if knew == field.knew(other) || !field.arrives() {
                // Nothing to send; or what would have been sent, or asked, is lost.
                continue;
            }
            if knew {
                field.send(node, other, true);
            } else {
                let answered = field.arrives();
                field.send(other, node, answered);
            }
        }
    }
}
