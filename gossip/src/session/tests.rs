//! How sessions end, and how they do not.

use bytes::Bytes;
use proto::KeyspaceId;

use super::*;
use crate::hlc::Hlc;
use crate::record::{Body, EntryKey};
use crate::replica::{Basis, Policy, Standing, Write};
use crate::state::State;
use crate::tree::TreeKey;

const KEYSPACE: KeyspaceId = KeyspaceId(1);

fn replica(number: u8) -> Replica {
    let actor = ActorId::from_bytes([number; 16]);
    let (mut replica, _) = Replica::start(State::default(), actor, TreeKey::new(&[1; 32]));
    replica.set_keyspace(KEYSPACE, Standing::Open(Policy::Siblings));
    replica
}

fn key(name: &'static str) -> EntryKey {
    EntryKey::new(KEYSPACE, name)
}

fn put(replica: &mut Replica, name: &'static str, body: Body) -> Record {
    let write = Write { key: key(name), body, deadline: None, basis: Basis::Held };
    replica.write(&write, &mut Hlc::default(), 1_000).unwrap().record
}

fn value() -> Body {
    Body::Value(Bytes::from_static(b"v"))
}

fn begin(from: &Replica, to: &Replica) -> (Serving, Taking) {
    (Serving::begin(from, &Hello::of(to, 7, 1, Vec::new())), Taking::begin(to, 7))
}

/// Runs a session to its end, without a walk.
fn run(from: &Replica, to: &mut Replica, serving: &mut Serving, taking: &mut Taking) -> Ended {
    loop {
        let part = serving.next(from, 1).or_else(|| serving.end(from)).unwrap();
        if let Some(ended) = taking.take(to, part).ended {
            assert!(serving.next(from, 1).is_none() && serving.end(from).is_none());
            return ended;
        }
    }
}

#[test]
fn a_session_brings_all_that_is_missing_and_the_next_one_nothing() {
    let (mut a, mut b) = (replica(1), replica(2));
    for name in ["k", "l", "m"] {
        put(&mut a, name, value());
    }
    put(&mut a, "l", Body::Certificate);
    assert_eq!(meet(&a, 1, &Hello::of(&b, 7, 1, Vec::new())), Meeting::Differs);
    let (mut serving, mut taking) = begin(&a, &b);
    assert!(!serving.is_flagged());
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    assert!(b.state().clock().covers(a.state().clock()));
    assert_eq!(meet(&a, 1, &Hello::of(&b, 7, 1, Vec::new())), Meeting::Same);
    let (mut serving, _) = begin(&a, &b);
    assert!(matches!(serving.next(&a, 1).unwrap().body, PartBody::Opening { is_flagged: false }));
    assert!(matches!(serving.next(&a, 1).unwrap().body, PartBody::End { .. }));
}

#[test]
fn records_are_packed_up_to_a_size() {
    let (mut a, b) = (replica(1), replica(2));
    for name in ["k", "l", "m"] {
        put(&mut a, name, value());
    }
    let (mut serving, _) = begin(&a, &b);
    serving.next(&a, 1);
    let PartBody::Records(records) = serving.next(&a, 1 << 20).unwrap().body else { panic!() };
    assert_eq!(records.len(), 3);
}

#[test]
fn hellos_are_judged() {
    let (mut a, mut b) = (replica(1), replica(2));
    let record = put(&mut a, "k", value());
    assert_eq!(meet(&a, 2, &Hello::of(&b, 7, 1, Vec::new())), Meeting::OtherData);
    let twin = replica(1);
    assert_eq!(meet(&a, 1, &Hello::of(&twin, 7, 1, Vec::new())), Meeting::OwnActorAhead);
    b.apply(&record).unwrap();
    let mut hello = Hello::of(&b, 7, 1, Vec::new());
    hello.root ^= 1;
    assert_eq!(meet(&a, 1, &hello), Meeting::Damaged);
    let (rolled_back, _) =
        Replica::start(State::default(), ActorId::from_bytes([3; 16]), TreeKey::new(&[1; 32]));
    let mut hello = Hello::of(&b, 7, 1, Vec::new());
    hello.clock.add(Dot::new(ActorId::from_bytes([3; 16]), 4));
    assert_eq!(meet(&rolled_back, 1, &hello), Meeting::OwnActorAhead);
}

#[test]
fn a_record_that_waits_keeps_the_session_open() {
    let (mut a, mut b) = (replica(1), replica(2));
    a.set_keyspace(KeyspaceId(9), Standing::Open(Policy::Siblings));
    let elsewhere = EntryKey::new(KeyspaceId(9), "k");
    let write = Write { key: elsewhere.clone(), body: value(), deadline: None, basis: Basis::Held };
    a.write(&write, &mut Hlc::default(), 1).unwrap();
    let known = put(&mut a, "k", value());
    let (mut serving, mut taking) = begin(&a, &b);
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    let why = NotClosed::NotApplied(crate::replica::NotApplied::UnknownKeyspace);
    assert_eq!(ended, Ended::NotClosed(why));
    // What could be applied was, and nothing claims the other.
    assert!(b.state().clock().contains(known.dot));
    assert!(b.state().clock().base(&known.dot.actor) == 0);
    b.set_keyspace(KeyspaceId(9), Standing::Open(Policy::Siblings));
    let (mut serving, mut taking) = begin(&a, &b);
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    assert!(b.entry(&elsewhere).is_some());
}

#[test]
fn a_receiver_that_minted_meanwhile_does_not_close() {
    let (mut a, mut b) = (replica(1), replica(2));
    put(&mut a, "k", value());
    let (mut serving, mut taking) = begin(&a, &b);
    b.mint(ActorId::from_bytes([22; 16]));
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::Restarted));
}

#[test]
fn a_lost_part_keeps_the_session_open() {
    let (mut a, mut b) = (replica(1), replica(2));
    put(&mut a, "k", value());
    put(&mut a, "l", value());
    let (mut serving, mut taking) = begin(&a, &b);
    let opening = serving.next(&a, 1).unwrap();
    taking.take(&mut b, opening);
    serving.next(&a, 1).unwrap();
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::PartLost));
    // A part of another session does nothing.
    let mut part = begin(&a, &b).0.next(&a, 1).unwrap();
    part.session += 1;
    let mut taking = Taking::begin(&b, 7);
    taking.take(&mut b, part);
    let (mut serving, _) = begin(&a, &b);
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
}

#[test]
fn a_flagged_session_closes_after_the_walk_only() {
    let (mut a, mut b) = (replica(1), replica(2));
    let old = put(&mut a, "k", value());
    b.apply(&old).unwrap();
    let delete = put(&mut a, "k", Body::Certificate);
    a.forget_certificate(&key("k"), delete.dot, false);
    let (mut serving, mut taking) = begin(&a, &b);
    assert!(serving.is_flagged());
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::NotWalked));
    assert!(b.entry(&key("k")).is_some());

    let (mut serving, mut taking) = begin(&a, &b);
    let opening = serving.next(&a, 1).unwrap();
    taking.take(&mut b, opening);
    assert!(taking.is_flagged());
    serving.tell(&a, &key("k"));
    assert!(serving.end(&a).is_none(), "the answer was not handed out");
    taking.walked();
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    assert!(b.entry(&key("k")).is_none());
}

/// The certificate goes after the position was fixed, and before its turn. Its key is told whole, and the horizon of
/// the end says what no record said.
#[test]
fn what_was_dropped_meanwhile_is_below_the_horizon_that_the_receiver_gets() {
    let (mut a, mut b) = (replica(1), replica(2));
    let old = put(&mut a, "k", value());
    b.apply(&old).unwrap();
    let delete = put(&mut a, "k", Body::Certificate);
    let (mut serving, mut taking) = begin(&a, &b);
    a.forget_certificate(&key("k"), delete.dot, false);
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    assert!(b.entry(&key("k")).is_none());
    assert!(b.state().clock().contains(delete.dot) && b.state().horizon().reaches(delete.dot));
}

/// The delete came after the position and is gone again, so the receiver would drop the value and know no reason.
#[test]
fn what_was_learned_and_dropped_meanwhile_makes_the_session_void() {
    let (mut a, mut b) = (replica(1), replica(2));
    put(&mut a, "k", value());
    let (mut serving, mut taking) = begin(&a, &b);
    let delete = put(&mut a, "k", Body::Certificate);
    a.forget_certificate(&key("k"), delete.dot, false);
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::Void));
    assert!(!b.state().clock().contains(delete.dot));
    // What the receiver had said to have may go.
    let seen = put(&mut a, "l", value());
    b.apply(&seen).unwrap();
    let (mut serving, mut taking) = begin(&a, &b);
    assert!(serving.is_flagged() && serving.receiver().contains(seen.dot));
    a.forget_context(&key("l"), seen.dot);
    taking.walked();
    serving.tell(&a, &key("k"));
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    assert!(b.entry(&key("k")).is_none());
}

/// The horizon reaches over a hole, and what fills the hole is a delete that is dropped again: the horizon does not rise.
#[test]
fn what_was_learned_below_the_horizon_and_dropped_makes_the_session_void() {
    let (mut a, mut b, mut c) = (replica(1), replica(2), replica(3));
    let old = put(&mut c, "k", value());
    a.apply(&old).unwrap();
    b.apply(&old).unwrap();
    let delete = put(&mut c, "k", Body::Certificate);
    let above = put(&mut c, "l", value());
    a.apply(&above).unwrap();
    a.forget_context(&key("l"), above.dot);
    assert!(a.state().horizon().reaches(delete.dot) && !a.state().clock().contains(delete.dot));
    let (mut serving, mut taking) = begin(&a, &b);
    a.apply(&delete).unwrap();
    a.forget_certificate(&key("k"), delete.dot, false);
    serving.tell(&a, &key("k"));
    taking.walked();
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::Void));
    assert!(b.entry(&key("k")).is_some(), "a value is not dropped for a reason that is not told");
}

/// The key is empty on both sides when it is compared; then the value comes whose delete the sender has dropped.
#[test]
fn a_value_that_comes_after_the_walk_keeps_a_flagged_session_open() {
    let (mut a, mut b) = (replica(1), replica(2));
    let old = put(&mut a, "k", value());
    let delete = put(&mut a, "k", Body::Certificate);
    a.forget_certificate(&key("k"), delete.dot, false);
    let (mut serving, mut taking) = begin(&a, &b);
    assert!(serving.is_flagged());
    taking.walked();
    b.apply(&old).unwrap();
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::Changed));
    let (mut serving, mut taking) = begin(&a, &b);
    serving.tell(&a, &key("k"));
    taking.walked();
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    assert!(b.entry(&key("k")).is_none());
}

/// A listed write was replaced before its turn: the whole entry comes in its place.
#[test]
fn a_write_that_is_gone_is_told_by_its_key() {
    let (mut a, mut b) = (replica(1), replica(2));
    put(&mut a, "k", value());
    let (mut serving, mut taking) = begin(&a, &b);
    let newer = put(&mut a, "k", value());
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    let stored: Vec<Dot> = b.entry(&key("k")).unwrap().siblings().keys().copied().collect();
    assert_eq!(stored, [newer.dot]);
    b.state().verify().unwrap();
}

/// Between the position and the first part a delete of a value comes that is not here: it is not listed, so the
/// receiver must not hear that the value is obsolete either.
#[test]
fn what_is_pending_is_told_as_of_the_position() {
    let (mut a, mut b, mut c) = (replica(1), replica(2), replica(3));
    let forgotten = put(&mut a, "l", Body::Certificate);
    a.forget_certificate(&key("l"), forgotten.dot, false);
    let value_of_c = put(&mut c, "k", value());
    b.apply(&value_of_c).unwrap();
    let delete = put(&mut c, "k", Body::Certificate);
    let (mut serving, mut taking) = begin(&a, &b);
    a.apply(&delete).unwrap();
    taking.walked();
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    assert!(b.entry(&key("k")).is_some_and(|entry| entry.siblings().contains_key(&value_of_c.dot)));
    assert!(!b.state().clock().contains(delete.dot));
}
