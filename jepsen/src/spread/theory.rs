//! What models on paper say, where there are any.
//!
//! - Rumors that are pushed leave `s = e^-m` of the nodes without the update if each node got `m` updates in
//!   the mean, since pushes fall on nodes at random.
//! - Contacts judged in order of arrival, with a coin or a counter that is never reset, follow
//!   `ds/dt = -s i`, `di/dt = s i - (1 - s) i / k`, so `s = e^(-(k + 1) (1 - s))`. Blind ones send `k`
//!   updates each, so `s = e^(-k (1 - s))`.
//! - A round of anti-entropy at which a share `p` lacks the update leaves, for many nodes, `p^2` (pull),
//!   `p e^-(1 - p)` (push), and their product over `p`, `p^2 e^-(1 - p)`, if both ways are used: a node stays
//!   without it if its own contact does not help *and* nobody else's does. [`expected_share`] is exact for
//!   any number of nodes.

use super::graph::GraphKind;
use super::plan::Plan;
use super::strategy::{AntiEntropy, Direction, Interest, Judged, Rumor, Stop, Strategy, Useful};
use crate::trials::Theory;

/// The solution of `s = e^(-a (1 - s))` below 1; 1 if `a` is at most 1.
///
/// # Panics
///
/// If `a` is negative.
#[must_use]
pub fn fixed_point(a: f64) -> f64 {
    assert!(a >= 0.0, "a rate of {a}");
    if a <= 1.0 {
        return 1.0;
    }
    // The difference of both sides is negative at the left end and positive just below the solution's
    // neighbour 1, since the curve is convex: halving finds the solution between.
    let excess = |s: f64| s - (-a * (1.0 - s)).exp();
    // Where the curve is steepest below the line: s = 1 - ln(a) / a.
    let (mut low, mut high) = (0.0, 1.0 - a.ln() / a);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if excess(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Share of nodes that a rumor does not reach, if the rules have an exact solution for many nodes.
#[must_use]
pub fn residue(rules: &Rumor, loss: f64) -> Option<Theory> {
    if rules.direction != Direction::Push {
        return None;
    }
    let k = f64::from(rules.k);
    let many = rules.fanout > 1;
    match (rules.interest, rules.stop) {
        // Several sends of a cycle count together, so more than k are sent.
        (Interest::Blind, _) if many => None,
        (Interest::Blind, Stop::Coin | Stop::Counter) => {
            Some(Theory::new(fixed_point(k * (1.0 - loss)), "s = e^(-k (1-s))"))
        }
        (Interest::Feedback, Stop::Counter) if rules.useful == Useful::Reset => None,
        (Interest::Feedback, _) if many || rules.judged == Judged::Start => None,
        // An answer that is lost tells nothing, as if k were larger.
        (Interest::Feedback, Stop::Coin | Stop::Counter) => {
            let k = k / (1.0 - loss);
            Some(Theory::new(fixed_point(k + 1.0), "s = e^(-(k+1) (1-s))"))
        }
    }
}

/// Share of `nodes` expected to lack the update after a round of anti-entropy that begins with `before`
/// of them without it.
#[must_use]
pub fn expected_share(rules: &AntiEntropy, loss: f64, nodes: u32, before: u32) -> f64 {
    let others = f64::from(nodes - 1);
    let knowing = f64::from(nodes - before);
    let fanout = f64::from(rules.fanout);
    let arrives = 1.0 - loss;
    let mut share = f64::from(before) / f64::from(nodes);
    if rules.direction.pulls() {
        share *= (1.0 - arrives * arrives * knowing / others).powf(fanout);
    }
    if rules.direction.pushes() {
        share *= (1.0 - arrives / others).powf(fanout * knowing);
    }
    share
}

/// The share that lacks the update after each round, for many nodes: from one that has it until less
/// than one node lacks it.
#[must_use]
pub fn mean_field(rules: &AntiEntropy, loss: f64, nodes: u32) -> Vec<f64> {
    let fanout = f64::from(rules.fanout);
    let arrives = 1.0 - loss;
    let mut share = 1.0 - 1.0 / f64::from(nodes);
    let mut shares = vec![share];
    while share * f64::from(nodes) >= 1.0 && shares.len() < ROUNDS_SHOWN_MAX {
        let knowing = 1.0 - share;
        if rules.direction.pulls() {
            share *= (1.0 - arrives * arrives * knowing).powf(fanout);
        }
        if rules.direction.pushes() {
            share *= (-fanout * arrives * knowing).exp();
        }
        shares.push(share);
    }
    shares
}

/// Most rounds that are computed ahead.
const ROUNDS_SHOWN_MAX: usize = 10_000;

/// Residue of a flood over a random graph with many nodes: a node stays without the update if each
/// neighbour lacks it, being left out by its own other neighbours, or its message is lost.
fn flood_residue(degree: u32, loss: f64) -> f64 {
    let power = |value: f64, times: u32| value.powf(f64::from(times));
    let mut helpless: f64 = loss;
    for _ in 0..10_000 {
        helpless = 1.0 - (1.0 - loss) * (1.0 - power(helpless, degree - 1));
    }
    power(helpless, degree)
}

/// Depth of each node of a tree whose root is node 0: how many there are at each.
fn tree_levels(nodes: u32, fanout: u32) -> Vec<f64> {
    let (mut left, mut wide, mut levels) = (u64::from(nodes), 1_u64, Vec::new());
    while left > 0 {
        let here = wide.min(left);
        levels.push(here as f64);
        left -= here;
        wide = wide.saturating_mul(u64::from(fanout));
    }
    levels
}

/// What models on paper say about a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Share of nodes that are not reached.
    pub residue: Option<Theory>,
    /// Updates sent for each node.
    pub traffic: Option<Theory>,
    /// Mean round in which nodes hear it.
    pub t_ave: Option<Theory>,
    /// Round in which the last one hears it.
    pub t_last: Option<Theory>,
    /// Share of nodes without the update after each round.
    pub curve: Option<Vec<f64>>,
}

impl Predictions {
    /// What is known before anything is simulated.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        match &plan.strategy {
            Strategy::Flood(graph) => Self::of_flood(plan, graph.kind, graph.degree_of(plan.nodes)),
            Strategy::Tree { fanout } => Self::of_tree(plan, *fanout),
            Strategy::AntiEntropy(rules) => Self::of_anti_entropy(plan, rules),
            Strategy::Rumor(rules) => {
                let residue = residue(rules, plan.loss);
                let traffic = residue.filter(|theory| theory.value < 1.0).map(|theory| {
                    Theory::new(-theory.value.ln() / (1.0 - plan.loss), "-ln s / (1 - loss)")
                });
                Self { residue, traffic, ..Self::default() }
            }
        }
    }

    fn of_flood(plan: &Plan, kind: GraphKind, degree: u32) -> Self {
        let nodes = f64::from(plan.nodes);
        let share = match kind {
            _ if plan.loss == 0.0 => Some(0.0),
            GraphKind::Random if degree > 2 => Some(flood_residue(degree, plan.loss)),
            _ => None,
        };
        // All reached nodes send to all neighbours but one; the source has one more.
        let sent = |share: f64| ((1.0 - share) * nodes * f64::from(degree - 1) + 1.0) / nodes;
        Self {
            residue: share.map(|share| Theory::new(share, "branching of the graph")),
            traffic: share.map(|share| Theory::new(sent(share), "edges of the graph")),
            ..Self::default()
        }
    }

    fn of_tree(plan: &Plan, fanout: u32) -> Self {
        let levels = tree_levels(plan.nodes, fanout);
        let nodes = f64::from(plan.nodes);
        let arrives = 1.0 - plan.loss;
        let by = "depth of the tree";
        let reached: Vec<f64> =
            (0..).zip(&levels).map(|(depth, count)| count * arrives.powi(depth)).collect();
        let total: f64 = reached.iter().sum();
        let sent: f64 = (1..).zip(&levels[1..]).map(|(d, count)| count * arrives.powi(d - 1)).sum();
        let weighted: f64 = (0..).map(f64::from).zip(&reached).map(|(d, count)| d * count).sum();
        let whole = plan.loss == 0.0;
        Self {
            residue: Some(Theory::new(1.0 - total / nodes, by)),
            traffic: Some(Theory::new(sent / nodes, by)),
            t_ave: whole.then(|| Theory::new(weighted / (nodes - 1.0), by)),
            t_last: whole.then(|| Theory::new((levels.len() - 1) as f64, by)),
            curve: None,
        }
    }

    fn of_anti_entropy(plan: &Plan, rules: &AntiEntropy) -> Self {
        let curve = mean_field(rules, plan.loss, plan.nodes);
        let rounds = (curve.len() - 1) as f64;
        let whole = plan.loss == 0.0 && rules.fanout == 1;
        // Each contact of one who has it with one who lacks it is one update.
        let mixed: f64 = curve.iter().map(|share| share * (1.0 - share)).sum();
        let sent = match rules.direction {
            Direction::Pull => 1.0 - 1.0 / f64::from(plan.nodes),
            Direction::Push => mixed,
            Direction::PushPull => 2.0 * mixed,
        };
        Self {
            residue: Some(Theory::new(0.0, "nobody is left out")),
            traffic: whole.then(|| Theory::new(sent, "mean field")),
            t_ave: None,
            t_last: Some(Theory::new(rounds, "mean field")),
            curve: Some(curve),
        }
    }

    /// The residue, where only the traffic that was measured tells it.
    #[must_use]
    pub fn residue_by_traffic(plan: &Plan, traffic: f64) -> Option<Theory> {
        match &plan.strategy {
            Strategy::Rumor(rules) if rules.direction == Direction::Push => {
                Some(Theory::new((-traffic * (1.0 - plan.loss)).exp(), "e^-m of the m above"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(direction: Direction) -> AntiEntropy {
        AntiEntropy { direction, fanout: 1 }
    }

    #[test]
    fn the_fixed_points_of_feedback_are_the_published_ones() {
        let published =
            [0.203_188, 0.059_520, 0.019_827, 0.006_977, 0.002_516, 0.000_918, 0.000_336];
        for (k, expected) in (1..).zip(published) {
            let s = fixed_point(f64::from(k) + 1.0);
            assert!((s - expected).abs() < 1e-6, "k={k}: {s}");
        }
        // Blind with k=2 is feedback with k=1; blind with k=1 never takes off.
        assert_eq!(fixed_point(1.0), 1.0);
        assert!((fixed_point(1.001) - 0.998).abs() < 1e-3);
    }

    #[test]
    fn the_mean_field_reaches_everyone_in_the_rounds_of_the_table() {
        let rounds = |direction, nodes| mean_field(&rules(direction), 0.0, nodes).len() - 1;
        let table = [
            (10, 5, 6, 3),
            (100, 9, 12, 6),
            (1_000, 13, 17, 9),
            (10_000, 17, 23, 11),
            (100_000, 21, 29, 14),
            (1_000_000, 24, 34, 16),
        ];
        for (nodes, pull, push, both) in table {
            assert_eq!(rounds(Direction::Pull, nodes), pull, "{nodes}");
            assert_eq!(rounds(Direction::Push, nodes), push, "{nodes}");
            assert_eq!(rounds(Direction::PushPull, nodes), both, "{nodes}");
        }
    }

    #[test]
    fn a_step_of_push_pull_is_a_pull_that_nobody_pushed_into() {
        let (nodes, before) = (1_000, 300);
        let step = |direction| expected_share(&rules(direction), 0.0, nodes, before);
        let product = step(Direction::Pull) * step(Direction::Push) / 0.3;
        assert!((step(Direction::PushPull) - product).abs() < 1e-12);
        assert!((step(Direction::Pull) - 0.3 * 299.0 / 999.0).abs() < 1e-12);
        assert!((step(Direction::PushPull) - 0.09 * (-0.7_f64).exp()).abs() < 1e-3);
    }

    #[test]
    fn a_tree_loses_whole_branches() {
        assert_eq!(tree_levels(8, 2), [1.0, 2.0, 4.0, 1.0]);
        assert_eq!(tree_levels(4, 1), [1.0; 4]);
        // Degree 3 with half of all messages lost is just where floods die out.
        assert!(flood_residue(3, 0.45) < 0.9);
        assert!((flood_residue(3, 0.0)).abs() < 1e-9);
    }
}
