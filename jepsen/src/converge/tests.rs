//! The simulation itself: it finds what is broken on purpose, and everything in it happens.

use std::ops::ControlFlow;

use super::*;

fn plan(seeds: std::ops::Range<u64>) -> Plan {
    Plan {
        nodes: None,
        keys: None,
        steps: 200,
        loss: None,
        first: seeds.start,
        after: seeds.end,
        time_based: false,
        broken: None,
    }
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn b52_b53_b59_b61_no_schedule_breaks_a_promise_and_each_thing_happens() {
    let plan = Plan { time_based: true, ..plan(0..400) };
    let found = simulate(&plan, &mut go_on).unwrap();
    assert!(found.failure.is_none(), "{:#?}", found.failure);
    assert_eq!(found.schedules, 400);
    for event in Event::ALL {
        println!("{} {}", event.name(), found.counts.of(event));
    }
    for event in Event::ALL {
        assert!(found.counts.of(event) > 0, "{} never happened", event.name());
    }
    println!("by time: {} of 400 schedules", found.time_based_schedules);
    assert!(found.time_based_schedules > 0, "certificates that go by age let values come back");
}

#[test]
fn what_is_broken_on_purpose_is_found() {
    for broken in Sabotage::ALL {
        let kinds = match broken {
            Sabotage::EntryLost => &[Kind::Vanished][..],
            // Its start may notice that the entries do not fit its clock.
            Sabotage::EntryBack => {
                &[Kind::Returned, Kind::Kept, Kind::FalseSibling, Kind::Vanished, Kind::NotStarted]
            }
            Sabotage::TokenLost => &[Kind::FalseSibling, Kind::Kept],
            // A delete that never was takes a value with it.
            Sabotage::SentBeforeSync => &[Kind::FromNowhere, Kind::Vanished],
            Sabotage::StaysCut => &[Kind::NoAgreement],
        };
        let found = simulate(&Plan { broken: Some(broken), ..plan(0..200) }, &mut go_on).unwrap();
        let failure = found.failure.unwrap_or_else(|| panic!("{broken:?} is not found"));
        println!("{}: seed {}, {}", broken.name(), failure.seed, failure.violation);
        assert!(kinds.contains(&failure.violation.kind), "{failure:#?}");
        assert!(failure.command.ends_with(&format!(" --broken {}", broken.name())));
    }
}

#[test]
fn a_seed_plays_the_same_again_and_another_one_differs() {
    let play = |seed| {
        let played = World::play(&Schedule::new(&plan(0..1), seed), None);
        (played.counts, played.ms)
    };
    assert_eq!(play(7), play(7));
    assert_ne!(play(7), play(8));
}

#[test]
fn a_failure_names_the_command_that_plays_it_again() {
    let plan = Plan { nodes: Some(3), loss: Some(10), ..plan(0..50) };
    let schedule = Schedule::new(&plan, 5);
    let broken = Some((3, Violation::new(Kind::Vanished, "for example".to_owned())));
    let mut findings = Findings::default();
    findings.played(&plan, &schedule, world::Played { broken, ..world::Played::default() });
    let failure = findings.failure.unwrap();
    let command = "kv-lab sim cluster --seed 5 --steps 200 --nodes 3 --loss 0.1";
    assert_eq!((failure.command.as_str(), failure.steps.len()), (command, 3));
    assert!(failure.steps[0].starts_with("1: "), "{:?}", failure.steps);
}

#[test]
fn it_ends_when_it_is_told_to() {
    let mut stop = |played| if played == 3 { ControlFlow::Break(()) } else { go_on(played) };
    let found = simulate(&Plan { steps: 10, ..plan(0..50) }, &mut stop).unwrap();
    assert_eq!(found.schedules, 3);
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    for wrong in [
        Plan { nodes: Some(1), ..plan(0..1) },
        Plan { nodes: Some(51), ..plan(0..1) },
        Plan { keys: Some(0), ..plan(0..1) },
        Plan { steps: 0, ..plan(0..1) },
        Plan { loss: Some(91), ..plan(0..1) },
        plan(5..5),
    ] {
        assert!(simulate(&wrong, &mut go_on).is_err(), "{wrong:?}");
    }
}
