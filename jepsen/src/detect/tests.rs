//! The simulator against what can be computed, and each detector against the crash.

use std::ops::ControlFlow;
use std::time::Duration;

use super::*;
use crate::trials::Measure;

const SWIM: Swim = Swim { indirect: 3, suspicion: 0, pick: Pick::Random };

fn plan(members: u32, detector: Detector) -> Plan {
    Plan {
        members,
        detector,
        period: Duration::from_secs(1),
        latency: Duration::from_millis(1),
        loss: 0.0,
        phase: Phase::Spread,
        time: Duration::from_secs(80),
        runs: 100,
        seed: 1,
    }
}

const fn timeout(periods: u32) -> Timeout {
    Timeout { periods }
}

fn run(plan: &Plan) -> Findings {
    let found = simulate(plan, &mut |_| ControlFlow::Continue(())).unwrap();
    found.expect("nobody ended it")
}

/// Within three standard errors of what theory says, or a share of it.
fn as_predicted(name: &str, measure: Option<&Measure>, share: f64) {
    let measure = measure.expect("it was measured");
    let theory = measure.theory.expect("theory says something");
    let off = (measure.mean - theory.value).abs();
    let noise = 3.0 * measure.error.unwrap();
    assert!(off <= noise.max(share * theory.value), "{name}: {measure:?}");
    // A measure that is mostly noise would agree with anything.
    assert!(noise <= 0.3 * theory.value.max(1e-9), "{name}: {measure:?}");
}

#[test]
fn heartbeats_find_a_crash_when_they_should() {
    let cases = [
        (Detector::Central(timeout(5)), 50),
        (Detector::Ring(timeout(5)), 20),
        (Detector::AllToAll(timeout(5)), 30),
    ];
    for (detector, members) in cases {
        let found = run(&plan(members, detector));
        let name = detector.name();
        as_predicted(name, found.first.as_ref(), 0.01);
        assert_eq!(found.all.unwrap().runs, 100, "{name}");
        assert_eq!(found.false_positives_per_node_hour.mean, 0.0, "{name}");
        as_predicted(name, Some(&found.messages_per_node_second), 0.01);
        as_predicted(name, Some(&found.bytes_per_node_second), 0.01);
    }
    let found = run(&plan(30, Detector::AllToAll(timeout(5))));
    as_predicted("all-to-all, all", found.all.as_ref(), 0.01);
}

#[test]
fn the_centre_bears_the_load_and_the_ring_takes_its_time() {
    let central = run(&plan(100, Detector::Central(timeout(3))));
    let busiest = central.busiest_messages_per_second.mean;
    assert!((busiest / 198.0 - 1.0).abs() < 0.01, "{busiest}");
    // News goes round the ring by one member a period, half of the way on each side; a hop that begins at
    // any time takes half a period.
    let ring = |members| {
        let time = Duration::from_secs(160);
        run(&Plan { time, runs: 40, ..plan(members, Detector::Ring(timeout(3))) })
    };
    let (small, large) = (ring(20).all.unwrap(), ring(120).all.unwrap());
    assert_eq!((small.runs, large.runs), (40, 40));
    let hops = (large.mean - small.mean) / 50.0;
    assert!((0.45..0.65).contains(&hops), "{hops} periods a hop");
}

#[test]
fn lost_heartbeats_come_to_false_positives_as_often_as_expected() {
    let found = run(&Plan {
        loss: 0.2,
        time: Duration::from_secs(400),
        ..plan(30, Detector::Central(timeout(3)))
    });
    as_predicted("central", Some(&found.false_positives_per_node_hour), 0.05);
    as_predicted("central", found.first.as_ref(), 0.02);
    assert_eq!(found.all.unwrap().runs, 100);
    // More patience helps.
    let patient = run(&Plan { loss: 0.2, ..plan(30, Detector::Central(timeout(6))) });
    let (few, many) =
        (patient.false_positives_per_node_hour.mean, found.false_positives_per_node_hour.mean);
    assert!(few < many / 5.0, "{few} and {many}");
    // All others can be wrong about a member, and each of them takes it back.
    let all = run(&Plan { loss: 0.2, runs: 20, ..plan(30, Detector::AllToAll(timeout(3))) });
    let wrong = all.false_positives_per_node_hour.mean;
    assert!(wrong > 5.0 * found.false_positives_per_node_hour.mean, "{wrong}");
    assert_eq!(all.all.unwrap().runs, 20);
}

#[test]
fn gossip_finds_a_crash_after_the_timeout_and_the_logarithm() {
    let found = |members, periods, phase| {
        let detector = Detector::Gossip { timeout: timeout(periods), fanout: 1 };
        run(&Plan { runs: 24, time: Duration::from_secs(130), phase, ..plan(members, detector) })
    };
    for phase in [Phase::Spread, Phase::Aligned] {
        let (small, large) = (found(16, 25, phase), found(128, 25, phase));
        for (members, found) in [(16, &small), (128, &large)] {
            let all = found.all.unwrap();
            assert_eq!(all.runs, 24, "{members}");
            assert_eq!(found.false_positives_per_node_hour.mean, 0.0, "{members}");
            let theory = all.theory.unwrap().value;
            // The logarithm is exact for many members; looking takes half a period more.
            assert!((all.mean - theory).abs() < 2.5, "{members} {phase:?}: {all:?}");
            as_predicted("messages", Some(&found.messages_per_node_second), 0.01);
            as_predicted("bytes", Some(&found.bytes_per_node_second), 0.01);
        }
        let growth = large.all.unwrap().mean - small.all.unwrap().mean;
        let factor = if phase == Phase::Spread { 2.0 } else { 1.0 + 1.0 / 2.0_f64.ln() };
        assert!((growth - factor * 8.0_f64.ln()).abs() < 1.3, "{phase:?}: {growth}");
    }
    // A timeout shorter than the way of a heartbeat is wrong about many.
    let hasty = found(128, 6, Phase::Spread);
    assert!(hasty.false_positives_per_node_hour.mean > 100.0, "{hasty:?}");
}

#[test]
fn swim_probes_a_crashed_member_after_e_over_e_minus_one_periods() {
    for (phase, expected) in [(Phase::Aligned, 1.582), (Phase::Spread, 2.0)] {
        for pick in [Pick::Random, Pick::RoundRobin] {
            let detector = Detector::Swim(Swim { pick, ..SWIM });
            let time = Duration::from_secs(24);
            let found = run(&Plan { phase, time, runs: 500, ..plan(60, detector) });
            let first = found.first.unwrap();
            let off = (first.mean - expected).abs();
            assert!(off < 0.13, "{phase:?} {pick:?}: {first:?}");
            as_predicted("swim", found.suspected.as_ref(), 0.05);
            assert_eq!(found.all.unwrap().runs, 500);
            assert_eq!(found.false_positives_per_node_hour.mean, 0.0);
        }
    }
}

#[test]
fn the_load_of_swim_does_not_depend_on_the_number_of_members() {
    for (members, runs, loss) in
        [(16, 60, 0.0), (16, 60, 0.1), (128, 10, 0.0), (128, 6, 0.1), (2_000, 2, 0.0)]
    {
        let found = run(&Plan { loss, runs, ..plan(members, Detector::Swim(SWIM)) });
        as_predicted("swim", Some(&found.messages_per_node_second), 0.03);
    }
}

#[test]
fn false_suspicions_come_as_often_as_all_probes_fail_and_objections_help() {
    let with = |suspicion, indirect| {
        let detector = Detector::Swim(Swim { suspicion, indirect, ..SWIM });
        run(&Plan { loss: 0.05, runs: 40, time: Duration::from_secs(150), ..plan(50, detector) })
    };
    // Few probes and no objections, so that many are wrong; yet those who are taken for dead return.
    let (hasty, patient) = (with(0, 2), with(12, 2));
    as_predicted("patient", patient.false_suspicions_per_node_hour.as_ref(), 0.08);
    as_predicted("hasty", Some(&hasty.false_positives_per_node_hour), 0.08);
    assert_eq!((hasty.all.unwrap().runs, patient.all.unwrap().runs), (40, 40));
    let (many, few) =
        (hasty.false_positives_per_node_hour.mean, patient.false_positives_per_node_hour.mean);
    assert!(many > 5.0 && few < many / 20.0, "{many} and {few}");
    // What patience costs.
    let (soon, late) = (hasty.first.unwrap().mean, patient.first.unwrap().mean);
    assert!((late - soon - 12.0).abs() < 1.0, "{soon} and {late}");
    // Probes through others find who only lost a message.
    let (direct, helped) = (
        with(12, 0).false_suspicions_per_node_hour.unwrap().mean,
        with(12, 4).false_suspicions_per_node_hour.unwrap().mean,
    );
    assert!(helped < direct / 5.0, "{helped} and {direct}");
}

#[test]
fn a_seed_repeats_and_another_differs() {
    for detector in [
        Detector::Central(timeout(3)),
        Detector::Ring(timeout(3)),
        Detector::AllToAll(timeout(3)),
        Detector::Gossip { timeout: timeout(12), fanout: 2 },
        Detector::Swim(Swim { suspicion: 3, ..SWIM }),
    ] {
        let base = Plan { loss: 0.2, runs: 3, ..plan(20, detector) };
        let first = run(&base);
        assert_eq!(first, run(&base));
        assert_ne!(first, run(&Plan { seed: 2, ..base }));
        assert_eq!(first.curve.first().map(|point| point.0), Some(0.0));
        assert!(first.curve.is_sorted_by(|a, b| a.1 <= b.1), "{detector:?}");
    }
}

#[test]
fn it_ends_when_it_is_told_to_and_keeps_what_was_done() {
    let plan = plan(10, Detector::Swim(SWIM));
    let stop_at = |limit: u32| {
        let mut tell = |progress: Progress| {
            if progress.done >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        simulate(&plan, &mut tell).unwrap()
    };
    assert_eq!(stop_at(4).unwrap().runs, 4);
    assert!(stop_at(0).is_none());
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let base = plan(10, Detector::Swim(SWIM));
    let central = |periods| Detector::Central(timeout(periods));
    let gossip = |fanout| Detector::Gossip { timeout: timeout(5), fanout };
    let cases = [
        (Plan { members: 2, ..base }, "members is 2: takes 3 to 100000"),
        (Plan { members: 2_001, detector: gossip(1), ..base }, "members is 2001: takes 3 to 2000"),
        (Plan { runs: 0, ..base }, "runs is 0"),
        (Plan { loss: 1.5, ..base }, "loss is 1.5"),
        (Plan { loss: f64::INFINITY, ..base }, "loss is inf"),
        (Plan { detector: central(0), ..base }, "timeout is 0"),
        (Plan { detector: gossip(0), ..base }, "fanout is 0"),
        (Plan { detector: Detector::Swim(Swim { indirect: 101, ..SWIM }), ..base }, "indirect"),
        (Plan { period: Duration::ZERO, ..base }, "period 0ns"),
        (Plan { latency: Duration::from_millis(51), ..base }, "at least 20 times the latency"),
        (Plan { latency: Duration::MAX, ..base }, "at least 20 times the latency"),
        (Plan { time: Duration::from_secs(10), ..base }, "at least 20s"),
        (Plan { detector: central(100), ..base }, "at least 420s"),
        (Plan { time: Duration::from_secs(4_000_000), ..base }, "at most 1,000 h"),
        (
            Plan { members: 100_000, time: Duration::from_secs(100_000), ..base },
            "messages: 1e9 are taken",
        ),
    ];
    for (plan, expected) in cases {
        let error = simulate(&plan, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}
