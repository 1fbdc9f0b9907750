//! The simulator against published tables, exact steps and graphs that can be counted by hand.

use std::ops::ControlFlow;

use super::strategy::{Counted, Interest, Judged, Stop, Useful};
use super::*;
use crate::trials::Measure;

/// Tables of Demers et al.: 1,000 sites.
const SITES: u32 = 1_000;

/// The rules of Demers' Table 1; the other tables change some.
const RULES: Rumor = Rumor {
    direction: Direction::Push,
    interest: Interest::Feedback,
    stop: Stop::Counter,
    k: 1,
    judged: Judged::Start,
    useful: Useful::Reset,
    counted: Counted::Cycle,
    fanout: 1,
    repair: None,
};

fn run(nodes: u32, strategy: Strategy, runs: u32) -> Findings {
    let plan = Plan { nodes, strategy, loss: 0.0, runs, seed: 1, routers: Routers::None };
    run_plan(&plan)
}

fn run_plan(plan: &Plan) -> Findings {
    let found = simulate(plan, &mut |_| ControlFlow::Continue(())).unwrap();
    found.expect("nobody ended it")
}

fn rumor(nodes: u32, rules: Rumor, runs: u32) -> Findings {
    run(nodes, Strategy::Rumor(rules), runs)
}

/// Within 5 % or three standard errors, of this measure and of the `reference`, which is a mean of
/// `reference_runs` runs itself.
fn close(name: &str, measure: &Measure, reference: f64, reference_runs: u32) {
    let error = measure.error.unwrap();
    let deviation = error * (measure.runs as f64).sqrt();
    let both = error.hypot(deviation / f64::from(reference_runs).sqrt());
    let off = (measure.mean - reference).abs();
    assert!(
        off <= 0.05 * reference || off <= 3.0 * both,
        "{name}: {} instead of {reference}, standard error {both}",
        measure.mean
    );
}

fn within(name: &str, measure: &Measure, reference: f64, most: f64) {
    let off = (measure.mean - reference).abs();
    assert!(off <= most, "{name}: {} instead of {reference}", measure.mean);
}

/// `s = e^-m` within 3 %, where enough nodes are left to tell.
fn exponential(name: &str, found: &Findings) {
    let expected = (-found.traffic.mean).exp();
    let off = (found.residue.mean - expected).abs();
    let noise = 3.0 * found.residue.error.unwrap();
    assert!(
        off <= 0.03 * expected || (noise > 0.03 * expected && off <= noise),
        "{name}: residue {} at traffic {}",
        found.residue.mean,
        found.traffic.mean
    );
}

#[test]
fn feedback_in_order_of_arrival_leaves_the_exact_fixed_point() {
    let table = [
        (1, 0.203_188, 23.3),
        // 200 runs once came to 30.0 cycles; 6,000 come to 29.5.
        (2, 0.059_520, 29.5),
        (3, 0.019_827, 34.3),
        (4, 0.006_977, 38.3),
        (5, 0.002_516, 39.8),
        (6, 0.000_918, 40.9),
        (7, 0.000_336, 40.1),
    ];
    for (k, residue, t_last) in table {
        let rules = Rumor { k, stop: Stop::Coin, judged: Judged::Arrival, ..RULES };
        let runs = 200;
        let found = rumor(10_000, rules, runs);
        let name = format!("coin k={k}");
        close(&name, &found.residue, residue, 1_000_000);
        close(&name, &found.traffic, -residue.ln(), 1_000_000);
        let error = found.t_last.error.unwrap();
        let both = error * 2.0_f64.sqrt();
        within(&name, &found.t_last, t_last, 0.5_f64.max(3.0 * both));
        exponential(&name, &found);
        let theory = found.residue.theory.unwrap();
        assert!((theory.value - residue).abs() < 1e-6, "{theory:?}");
    }
    // A counter that is never reset comes to the same.
    let rules = Rumor { k: 2, judged: Judged::Arrival, useful: Useful::Keep, ..RULES };
    close("counter k=2", &rumor(10_000, rules, 60).residue, 0.059_520, 1_000_000);
}

#[test]
fn table_one_push_feedback_counter() {
    let table = [
        (1, 0.1744, 1.745, 16.86),
        (2, 0.0369, 3.299, 16.91),
        (3, 0.0108, 4.533, 17.35),
        (4, 0.0036, 5.636, 17.60),
        (5, 0.00125, 6.682, 17.76),
    ];
    for (k, residue, traffic, t_last) in table {
        let found = rumor(SITES, Rumor { k, ..RULES }, 1_000);
        let name = format!("table 1, k={k}");
        close(&name, &found.residue, residue, 2_000);
        close(&name, &found.traffic, traffic, 2_000);
        within(&name, &found.t_last, t_last, 0.5);
        exponential(&name, &found);
    }
}

#[test]
fn table_two_push_blind_coin() {
    let table = [
        (1, 0.960, 0.040, 39.3),
        (2, 0.204, 1.591, 32.9),
        (3, 0.0616, 2.816, 31.4),
        (4, 0.0198, 3.924, 32.2),
        (5, 0.0070, 4.972, 32.4),
    ];
    for (k, residue, traffic, t_last) in table {
        let rules = Rumor { k, interest: Interest::Blind, stop: Stop::Coin, ..RULES };
        let found = rumor(SITES, rules, 2_000);
        let name = format!("table 2, k={k}");
        close(&name, &found.residue, residue, 2_000);
        close(&name, &found.traffic, traffic, 2_000);
        // With k=1 a run is a chain of 40 nodes, give or take 20: the mean of 2,000 is off by 0.5.
        let error = found.t_last.error.unwrap() * 2.0_f64.sqrt();
        within(&name, &found.t_last, t_last, 0.5_f64.max(3.0 * error));
        if k > 1 {
            exponential(&name, &found);
        }
    }
}

#[test]
fn table_three_pull_feedback_counter() {
    let table =
        [(1, 0.0316, 2.70, 10.2, 17.6), (2, 5.7e-4, 4.49, 10.1, 15.2), (3, 3e-6, 6.09, 10.1, 14.0)];
    for (k, residue, traffic, t_ave, t_last) in table {
        let found = rumor(SITES, Rumor { k, direction: Direction::Pull, ..RULES }, 600);
        let name = format!("table 3, k={k}");
        close(&name, &found.residue, residue, 2_000);
        close(&name, &found.traffic, traffic, 2_000);
        within(&name, found.t_ave.as_ref().unwrap(), t_ave, 0.5);
        within(&name, &found.t_last, t_last, 0.5);
    }
}

#[test]
fn push_pull_feedback_counter() {
    let table = [(1, 0.0159, 3.51, 9.8), (2, 3.2e-4, 5.73, 9.4), (3, 4e-6, 7.75, 9.2)];
    for (k, residue, traffic, t_last) in table {
        let rules = Rumor { k, direction: Direction::PushPull, ..RULES };
        let found = rumor(SITES, rules, 800);
        let name = format!("push-pull, k={k}");
        close(&name, &found.residue, residue, 2_000);
        close(&name, &found.traffic, traffic, 2_000);
        within(&name, &found.t_last, t_last, 0.5);
    }
}

#[test]
fn small_clusters_miss_someone_now_and_then() {
    for (nodes, residue, whole) in [(5, 0.0082, 0.96), (10, 0.0103, 0.91), (100, 0.0105, 0.36)] {
        let runs = 6_000;
        let rules = Rumor { k: 3, repair: Some(Direction::PushPull), ..RULES };
        let found = rumor(nodes, rules, runs);
        let name = format!("{nodes} nodes");
        close(&name, &found.residue, residue, 2_000);
        // A run that reached all needs no round of repair; most of the others need one.
        let repaired = found.repair_rounds.unwrap();
        let rules = Rumor { repair: None, ..rules };
        let mut reached = 0;
        for seed in 0..2_000 {
            let plan = Plan {
                nodes,
                strategy: Strategy::Rumor(rules),
                loss: 0.0,
                runs: 1,
                seed,
                routers: Routers::None,
            };
            reached += u32::from(run_plan(&plan).residue.mean == 0.0);
        }
        let share = f64::from(reached) / 2_000.0;
        assert!((share - whole).abs() < 0.03, "{name}: {share} reached all");
        assert!(repaired.mean >= 1.0 - whole - 0.03, "{name}: {repaired:?}");
    }
}

#[test]
fn anti_entropy_takes_the_rounds_of_the_table() {
    let table: [(u32, u32, [f64; 3]); 4] = [
        (10, 3_000, [5.1, 5.9, 3.5]),
        (100, 3_000, [9.9, 12.3, 6.5]),
        (1_000, 400, [13.8, 18.0, 9.1]),
        (10_000, 60, [17.6, 23.7, 11.6]),
    ];
    let directions = [Direction::Pull, Direction::Push, Direction::PushPull];
    for (nodes, runs, rounds) in table {
        for (direction, rounds) in directions.into_iter().zip(rounds) {
            let rules = AntiEntropy { direction, fanout: 1 };
            let found = run(nodes, Strategy::AntiEntropy(rules), runs);
            let name = format!("{} of {nodes}", direction.as_str());
            assert_eq!(found.residue.mean, 0.0, "{name}");
            within(&name, &found.t_last, rounds, 0.3);
            let updates = found.traffic.theory.unwrap();
            assert!(nodes < 1_000 || (found.traffic.mean / updates.value - 1.0).abs() < 0.05);
        }
    }
}

/// Single rounds, from any share, since runs from one source begin by chance.
#[test]
fn each_round_of_anti_entropy_is_the_exact_step() {
    for direction in [Direction::Pull, Direction::Push, Direction::PushPull] {
        for (nodes, steps) in [(100, 8_000), (1_000, 1_500), (10_000, 200)] {
            let rules = AntiEntropy { direction, fanout: 1 };
            let plan = Plan {
                nodes,
                strategy: Strategy::AntiEntropy(rules),
                loss: 0.0,
                runs: 1,
                seed: 3,
                routers: Routers::None,
            };
            let mut residuals = Residuals::default();
            for step in 0..steps {
                let mut field = Field::new(&plan, step);
                let known = 1 + step * (nodes - 2) / steps;
                (1..known).for_each(|node| field.send(0, node, true));
                let before = field.ignorant();
                anti_entropy::round(&rules, &mut field);
                let expected = theory::expected_share(&rules, 0.0, nodes, before);
                residuals.add(nodes, before, field.ignorant(), expected);
            }
            let means: Vec<f64> = residuals.means(1).collect();
            assert_eq!(means.len(), anti_entropy::DECILES);
            let worst = means.iter().fold(0.0_f64, |worst, mean| worst.max(mean.abs()));
            assert!(worst <= 0.005, "{} of {nodes}: {worst}", direction.as_str());
        }
    }
}

/// What a wrong model of push-pull, with one factor too many, would have to pass.
#[test]
fn a_step_of_push_pull_is_far_from_the_form_with_one_factor_too_many() {
    let rules = AntiEntropy { direction: Direction::PushPull, fanout: 1 };
    let wrong = |p: f64| p.powi(3) * (-1.0_f64).exp();
    let right = |before: u32| theory::expected_share(&rules, 0.0, 1_000, before);
    let off = (1..1_000).map(|before| (right(before) - wrong(f64::from(before) / 1e3)).abs());
    assert!(off.fold(0.0, f64::max) > 0.5);
}

#[test]
fn loss_and_more_contacts_follow_the_exact_step() {
    for direction in [Direction::Pull, Direction::Push, Direction::PushPull] {
        let rules = AntiEntropy { direction, fanout: 2 };
        let plan = Plan {
            nodes: 500,
            strategy: Strategy::AntiEntropy(rules),
            loss: 0.3,
            runs: 600,
            seed: 5,
            routers: Routers::None,
        };
        let residual = run_plan(&plan).step_residual.unwrap();
        assert!(residual <= 0.005, "{}: {residual}", direction.as_str());
    }
}

#[test]
fn a_rumor_and_anti_entropy_reach_all_soon_after_although_messages_are_lost() {
    let rules = Rumor { k: 3, repair: Some(Direction::PushPull), ..RULES };
    let plan = Plan {
        nodes: 1_000,
        strategy: Strategy::Rumor(rules),
        loss: 0.05,
        runs: 1_000,
        seed: 9,
        routers: Routers::None,
    };
    let found = run_plan(&plan);
    let repair = found.repair_rounds.unwrap();
    assert!(found.residue.mean > 0.005, "the rumor alone leaves some out: {:?}", found.residue);
    assert!(repair.mean > 1.0, "{repair:?}");
    assert!(repair.p99 <= 3.0, "{repair:?}");
}

#[test]
fn lossy_feedback_and_blind_rumors_follow_their_fixed_points() {
    let arrival = Rumor { judged: Judged::Arrival, stop: Stop::Coin, k: 2, ..RULES };
    for rules in [arrival, Rumor { interest: Interest::Blind, k: 3, ..arrival }] {
        let plan = Plan {
            nodes: 10_000,
            strategy: Strategy::Rumor(rules),
            loss: 0.2,
            runs: 60,
            seed: 2,
            routers: Routers::None,
        };
        let found = run_plan(&plan);
        let (residue, traffic) = (found.residue, found.traffic);
        close("lossy residue", &residue, residue.theory.unwrap().value, 1_000_000);
        close("lossy traffic", &traffic, traffic.theory.unwrap().value, 1_000_000);
    }
}

#[test]
fn floods_and_trees_are_what_can_be_counted() {
    let flood = |kind, degree, nodes| run(nodes, Strategy::Flood(Graph { kind, degree }), 20);
    // Both halves of a ring; the last node hears it twice, or the last two hear each other.
    let ring = flood(GraphKind::Ring, 0, 101);
    assert_eq!((ring.residue.mean, ring.t_last.mean), (0.0, 50.0));
    assert!((ring.traffic.mean - 102.0 / 101.0).abs() < 1e-9);
    let cube = flood(GraphKind::Hypercube, 0, 64);
    assert_eq!(cube.t_last.mean, 6.0);
    assert!((cube.t_ave.unwrap().mean - 192.0 / 63.0).abs() < 1e-9);
    let torus = flood(GraphKind::Torus, 0, 25);
    assert_eq!(torus.t_last.mean, 4.0);
    let complete = flood(GraphKind::Complete, 0, 10);
    assert_eq!(complete.t_last.mean, 1.0);
    assert!((complete.traffic.mean - (9.0 + 9.0 * 8.0) / 10.0).abs() < 1e-9);
    let random = flood(GraphKind::Random, 4, 1_000);
    assert_eq!(random.residue.mean, 0.0);
    assert!((random.traffic.mean - random.traffic.theory.unwrap().value).abs() < 1e-9);
    assert!((4.0..12.0).contains(&random.t_last.mean), "{:?}", random.t_last);

    let tree = run(1_000, Strategy::Tree { fanout: 3 }, 3);
    for measure in [tree.residue, tree.traffic, tree.t_ave.unwrap(), tree.t_last] {
        assert!((measure.mean - measure.theory.unwrap().value).abs() < 1e-9, "{measure:?}");
    }
}

#[test]
fn loss_cuts_trees_and_hardly_floods() {
    let plan = |strategy| Plan {
        nodes: 2_000,
        strategy,
        loss: 0.1,
        runs: 200,
        seed: 4,
        routers: Routers::None,
    };
    let tree = run_plan(&plan(Strategy::Tree { fanout: 4 }));
    close("tree", &tree.residue, tree.residue.theory.unwrap().value, 1_000_000);
    close("tree", &tree.traffic, tree.traffic.theory.unwrap().value, 1_000_000);
    let graph = Graph { kind: GraphKind::Random, degree: 4 };
    let flood = run_plan(&plan(Strategy::Flood(graph)));
    close("flood", &flood.residue, flood.residue.theory.unwrap().value, 1_000_000);
    assert!(flood.residue.mean < 0.001 && tree.residue.mean > 0.3, "{flood:?} {tree:?}");
}

#[test]
fn stress_and_stretch_are_of_the_network_below() {
    let plan =
        |strategy, routers| Plan { nodes: 256, strategy, loss: 0.0, runs: 50, seed: 8, routers };
    let star = Strategy::Tree { fanout: 255 };
    let direct = run_plan(&plan(star, Routers::Tree));
    assert_eq!(direct.stretch_most.unwrap().mean, 1.0, "the direct way is the direct way");
    // All 255 updates leave the source over its own link; 240 leave its part of the tree.
    assert_eq!(direct.stress_most.unwrap().mean, 255.0);
    // 255 own links at the other end; 240 messages over two links of routers each.
    let links = 256.0 + 16.0;
    let crossings = 255.0 * 2.0 + 240.0 * 2.0;
    assert!((direct.stress_mean.unwrap().mean - crossings / links).abs() < 1e-9);

    let tree = run_plan(&plan(Strategy::Tree { fanout: 2 }, Routers::Tree));
    assert!(tree.stretch_mean.unwrap().mean > 2.0, "{tree:?}");
    assert!(tree.stress_most.unwrap().mean < 64.0, "{tree:?}");
    for routers in [Routers::Tree, Routers::Grid] {
        let rules = AntiEntropy { direction: Direction::PushPull, fanout: 1 };
        let gossip = run_plan(&plan(Strategy::AntiEntropy(rules), routers));
        assert!(gossip.stretch_mean.unwrap().mean > 1.5, "{gossip:?}");
        assert!(gossip.stress_most.unwrap().mean > gossip.stress_mean.unwrap().mean);
    }
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let strategy = Strategy::Rumor(RULES);
    let plan = Plan { nodes: 300, strategy, loss: 0.1, runs: 5, seed: 7, routers: Routers::Grid };
    let first = run_plan(&plan);
    assert_eq!(first, run_plan(&plan));
    assert_ne!(first, run_plan(&Plan { seed: 8, ..plan }));
    assert_eq!(first.curve.first(), Some(&(299.0 / 300.0)));
    assert!((first.curve.last().unwrap() - first.residue.mean).abs() < 1e-12);
}

#[test]
fn it_ends_when_it_is_told_to_and_keeps_what_was_done() {
    let strategy = Strategy::Rumor(RULES);
    let plan = Plan { nodes: 100, strategy, loss: 0.0, runs: 50, seed: 7, routers: Routers::None };
    let stop_at = |limit: u32| {
        let mut tell = |progress: Progress| {
            if progress.done >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        simulate(&plan, &mut tell).unwrap()
    };
    assert_eq!(stop_at(3).unwrap().residue.runs, 3);
    assert!(stop_at(0).is_none());
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let base = Plan {
        nodes: 100,
        strategy: Strategy::Rumor(RULES),
        loss: 0.0,
        runs: 1,
        seed: 1,
        routers: Routers::None,
    };
    let flood = |kind, degree| Strategy::Flood(Graph { kind, degree });
    let pull = |fanout| Strategy::AntiEntropy(AntiEntropy { direction: Direction::Pull, fanout });
    let cases = [
        (Plan { nodes: 1, ..base }, "nodes is 1: takes 2 to 1000000"),
        (Plan { nodes: NODES_MAX + 1, ..base }, "nodes is 1000001"),
        (Plan { runs: 0, ..base }, "runs is 0"),
        (Plan { loss: 1.0, ..base }, "loss is 1"),
        (Plan { loss: f64::NAN, ..base }, "loss is NaN"),
        (Plan { loss: -0.1, ..base }, "loss is -0.1"),
        (Plan { strategy: Strategy::Rumor(Rumor { k: 0, ..RULES }), ..base }, "k is 0"),
        (Plan { strategy: Strategy::Tree { fanout: 0 }, ..base }, "fanout is 0"),
        (Plan { strategy: pull(1_000_000), ..base }, "are too many"),
        (Plan { strategy: flood(GraphKind::Hypercube, 0), ..base }, "a power of two"),
        (Plan { strategy: flood(GraphKind::Torus, 0), nodes: 97, ..base }, "a product"),
        (Plan { strategy: flood(GraphKind::Ring, 0), nodes: 2, ..base }, "three nodes"),
        (Plan { strategy: flood(GraphKind::Random, 50), ..base }, "twice as many"),
        (Plan { strategy: flood(GraphKind::Random, 3), nodes: 11, ..base }, "must be even"),
        (Plan { strategy: flood(GraphKind::Random, 1), ..base }, "degree is 1"),
        (Plan { strategy: flood(GraphKind::Complete, 0), nodes: 10_000, ..base }, "too many"),
    ];
    for (plan, expected) in cases {
        let error = simulate(&plan, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}
