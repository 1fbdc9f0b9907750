//! Known accidents of other systems, one test each, played on the model. B numbers are rows of the
//! catalogue of failures.

use gossip::model::dots::{Dot, Dots};
use gossip::model::world::REPLICAS_MAX;
use gossip::model::{Basis, Event, Operation, Setting, World};

fn world(skew: [i16; REPLICAS_MAX]) -> World {
    World::new(None, Setting { replicas: 3, keys: 1, members: 0b111, lww: 0, skew })
}

/// Plays steps that must break no promise.
fn play(world: &mut World, steps: &[Operation]) {
    for &step in steps {
        world.step(step).unwrap_or_else(|violation| panic!("{step:?}: {violation:?}"));
    }
}

fn write(at: u8, delete: bool, basis: Basis) -> Operation {
    Operation::Write { at, key: 0, delete, expires: false, mail: true, basis }
}

fn put(at: u8) -> Operation {
    write(at, false, Basis::Local)
}

fn delete(at: u8) -> Operation {
    write(at, true, Basis::Local)
}

fn session(from: u8, to: u8) -> Operation {
    Operation::Session { from, to }
}

fn deliver(to: u8, pick: u8) -> Operation {
    Operation::Deliver { to, pick }
}

/// Heals, and says what is live everywhere.
fn live(world: &mut World) -> Vec<Dot> {
    world.heal().expect("sessions make all agree on what is right");
    let live = world.replicas[0].live(&world.truth, 0);
    for replica in &world.replicas[1..3] {
        assert_eq!(replica.live(&world.truth, 0), live);
    }
    live.collect()
}

#[test]
fn b52_b54_a_replica_that_lost_its_disk_mints_no_old_dot() {
    let mut world = world([0; REPLICAS_MAX]);
    play(&mut world, &[put(0), session(0, 1), Operation::Wipe { at: 0 }, put(0)]);
    let (old, new) = (*world.truth.write(0), *world.truth.write(1));
    assert_eq!((old.counter, new.counter), (1, 1), "the counter begins anew");
    assert_ne!(old.actor, new.actor, "so the actor has to be another");
    assert_eq!(live(&mut world), [0, 1], "the new write was made without knowing the old one");
}

#[test]
fn b53_a_late_certificate_does_not_end_what_was_written_after_it_was_dropped() {
    let mut world = world([0; REPLICAS_MAX]);
    play(&mut world, &[put(0), delete(0), session(0, 1), session(0, 2)]);
    play(&mut world, &[0, 1, 2].map(|at| Operation::DropCertificate { at, pick: 0 }));
    assert!((world.replicas[1].stored & world.truth.tombs).is_empty(), "it was dropped");
    play(&mut world, &[put(1), deliver(1, 1), deliver(2, 1), session(1, 0), deliver(0, 1)]);
    assert_eq!(live(&mut world), [2]);
}

#[test]
fn b55_siblings_are_as_many_as_were_written_at_the_same_time() {
    let mut world = world([0; REPLICAS_MAX]);
    for round in 0..50 {
        play(&mut world, &[put(0), put(1)]);
        for at in 0..2 {
            let siblings = world.replicas[at].live(&world.truth, 0).len();
            assert_eq!(siblings, 1, "round {round}: each writes over all that its replica holds");
        }
        play(&mut world, &[session(0, 1), session(1, 0)]);
        assert_eq!(world.replicas[0].live(&world.truth, 0).len(), 2, "round {round}");
    }
    assert_eq!(live(&mut world).len(), 2);
}

#[test]
fn b59_who_was_away_brings_what_is_new_and_not_what_was_deleted() {
    let mut world = world([0; REPLICAS_MAX]);
    play(&mut world, &[put(0), session(0, 1), session(0, 2)]);
    // Replica 2 is away: the others delete and forget the delete, it writes.
    play(&mut world, &[delete(0), session(0, 1)]);
    play(&mut world, &[0, 1].map(|at| Operation::DropCertificate { at, pick: 0 }));
    play(&mut world, &[write(2, false, Basis::Empty)]);
    assert_eq!(world.replicas[2].live(&world.truth, 0), Dots::one(0) | Dots::one(2));
    play(&mut world, &[session(2, 0), session(0, 2)]);
    assert!(world.counters.of(Event::SessionFlagged) > 0, "the session says that it has a gap");
    assert_eq!(live(&mut world), [2]);
}

#[test]
fn b60_a_slow_clock_loses_nothing() {
    let mut world = world([0, -3600, 0, 0, 0]);
    play(&mut world, &[put(0), session(0, 1), put(1), session(1, 0)]);
    assert_eq!(live(&mut world), [1], "what was written over the other one stays");
}

#[test]
fn b61_a_disk_that_begins_anew_beside_one_that_forgot_brings_nothing_back() {
    let mut world = world([0; REPLICAS_MAX]);
    play(&mut world, &[put(0), session(0, 1), session(0, 2), delete(0), session(0, 1)]);
    play(&mut world, &[Operation::DropCertificate { at: 0, pick: 0 }, Operation::Wipe { at: 1 }]);
    play(&mut world, &[deliver(1, 0), session(0, 1), deliver(1, 0), session(2, 1)]);
    assert!(live(&mut world).is_empty());
}
