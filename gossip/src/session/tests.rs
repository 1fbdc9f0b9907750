//! How sessions end, and how they do not.

use bytes::Bytes;
use proto::KeyspaceId;

use super::*;
use crate::hlc::Hlc;
use crate::record::{Body, EntryKey};
use crate::replica::{Basis, Policy, Stable, Standing, Write};
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

fn hello(replica: &Replica) -> Hello {
    Hello::of(replica, 7, 1, Vec::new()).what
}

fn begin(from: &Replica, to: &Replica) -> (Serving, Taking) {
    (Serving::begin(from, &hello(to), 0), Taking::begin(to, 7))
}

/// Runs a session to its end, without a walk.
fn run(from: &Replica, to: &mut Replica, serving: &mut Serving, taking: &mut Taking) -> Ended {
    loop {
        let part = serving.next(from, 1).or_else(|| serving.end(from)).unwrap().what;
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
    assert_eq!(meet(&a, 1, &hello(&b)), Meeting::Differs);
    let (mut serving, mut taking) = begin(&a, &b);
    assert!(!serving.is_flagged());
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    assert!(b.state().clock().covers(a.state().clock()));
    assert_eq!(meet(&a, 1, &hello(&b)), Meeting::Same);
    let (mut serving, _) = begin(&a, &b);
    assert!(matches!(
        serving.next(&a, 1).unwrap().what.body,
        PartBody::Opening { is_flagged: false }
    ));
    assert!(matches!(serving.next(&a, 1).unwrap().what.body, PartBody::End { .. }));
}

/// A Hello that comes twice is served twice, and the end of the second says what only its own records have brought.
#[test]
fn the_end_of_another_serving_closes_nothing() {
    let (mut a, mut b) = (replica(1), replica(2));
    put(&mut a, "k", value());
    let said = hello(&b);
    let mut taking = Taking::begin(&b, 7);
    let mut first = Serving::begin(&a, &said, 10);
    for _ in ["opening", "k"] {
        assert!(taking.take(&mut b, first.next(&a, 1).unwrap().what).ended.is_none());
    }
    put(&mut a, "l", value());
    let mut second = Serving::begin(&a, &said, 500);
    // Both of its records in one part: it ends where the first would.
    let lost: Vec<Part> = (0..2).map(|_| second.next(&a, 1 << 20).unwrap().what).collect();
    let end = second.next(&a, 1 << 20).unwrap().what;
    let PartBody::Records(records) = &lost[1].body else { panic!("{lost:?}") };
    assert_eq!((records.len(), end.number - lost[0].number), (2, 2));
    assert_eq!(first.next(&a, 1).unwrap().what.number, 12, "likewise");
    let ended = taking.take(&mut b, end).ended;
    assert_eq!(ended, Some(Ended::NotClosed(NotClosed::PartLost)));
    assert!(!b.state().clock().covers(a.state().clock()));
}

#[test]
fn records_are_packed_up_to_a_size() {
    let (mut a, b) = (replica(1), replica(2));
    for name in ["k", "l", "m"] {
        put(&mut a, name, value());
    }
    let (mut serving, _) = begin(&a, &b);
    serving.next(&a, 1);
    let PartBody::Records(records) = serving.next(&a, 1 << 20).unwrap().what.body else { panic!() };
    assert_eq!(records.len(), 3);
}

#[test]
fn hellos_are_judged() {
    let (mut a, mut b) = (replica(1), replica(2));
    let record = put(&mut a, "k", value());
    assert_eq!(meet(&a, 2, &hello(&b)), Meeting::OtherData);
    let twin = replica(1);
    assert_eq!(meet(&a, 1, &hello(&twin)), Meeting::OwnActorAhead);
    b.apply(&record).unwrap();
    let mut theirs = hello(&b);
    theirs.root ^= 1;
    assert_eq!(meet(&a, 1, &theirs), Meeting::Damaged);
    let (rolled_back, _) =
        Replica::start(State::default(), ActorId::from_bytes([3; 16]), TreeKey::new(&[1; 32]));
    let mut theirs = hello(&b);
    theirs.clock.add(Dot::new(ActorId::from_bytes([3; 16]), 4));
    assert_eq!(meet(&rolled_back, 1, &theirs), Meeting::OwnActorAhead);
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
    let opening = serving.next(&a, 1).unwrap().what;
    taking.take(&mut b, opening);
    serving.next(&a, 1).unwrap();
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::PartLost));
    // A part of another session does nothing.
    let mut part = begin(&a, &b).0.next(&a, 1).unwrap().what;
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
    a.forget_certificate(&key("k"), delete.dot, &Stable::default());
    let (mut serving, mut taking) = begin(&a, &b);
    assert!(serving.is_flagged());
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::NotWalked));
    assert!(b.entry(&key("k")).is_some());

    let (mut serving, mut taking) = begin(&a, &b);
    let opening = serving.next(&a, 1).unwrap().what;
    taking.take(&mut b, opening);
    assert!(taking.is_flagged());
    serving.tell(&key("k"));
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
    a.forget_certificate(&key("k"), delete.dot, &Stable::default());
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
    a.forget_certificate(&key("k"), delete.dot, &Stable::default());
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
    serving.tell(&key("k"));
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
    a.forget_certificate(&key("k"), delete.dot, &Stable::default());
    serving.tell(&key("k"));
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
    a.forget_certificate(&key("k"), delete.dot, &Stable::default());
    let (mut serving, mut taking) = begin(&a, &b);
    assert!(serving.is_flagged());
    taking.walked();
    b.apply(&old).unwrap();
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::Changed));
    let (mut serving, mut taking) = begin(&a, &b);
    serving.tell(&key("k"));
    taking.walked();
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    assert!(b.entry(&key("k")).is_none());
}

/// What is told as a whole key is read when its turn comes, not with the records before it.
#[test]
fn a_key_is_told_as_it_is_when_its_turn_comes() {
    let (mut a, b) = (replica(1), replica(2));
    put(&mut a, "k", value());
    let bare = put(&mut a, "l", value());
    a.forget_context(&key("l"), bare.dot);
    let (mut serving, _) = begin(&a, &b);
    let mut next = |a: &Replica| serving.next(a, usize::MAX).unwrap().what.body;
    assert!(matches!(next(&a), PartBody::Opening { .. }));
    assert!(matches!(next(&a), PartBody::Records(records) if records.len() == 1));
    let over = put(&mut a, "l", value());
    assert!(matches!(next(&a), PartBody::Records(records) if records == [over.clone()]));
    let PartBody::Entry(staged) = next(&a) else { panic!("the whole key follows its records") };
    assert_eq!(staged.present, [over.dot].into());
}

/// A certificate that the sender has dropped meanwhile, or before, does no harm here.
#[test]
fn a_certificate_that_comes_after_the_walk_lets_a_flagged_session_close() {
    let (mut a, mut b) = (replica(1), replica(2));
    let delete = put(&mut a, "k", Body::Certificate);
    a.forget_certificate(&key("k"), delete.dot, &Stable::default());
    let (mut serving, mut taking) = begin(&a, &b);
    assert!(serving.is_flagged());
    taking.walked();
    b.apply(&delete).unwrap();
    assert_eq!(run(&a, &mut b, &mut serving, &mut taking), Ended::Closed);
    assert!(b.entry(&key("k")).is_some(), "it stays");
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
    a.forget_certificate(&key("l"), forgotten.dot, &Stable::default());
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

/// 33 siblings of 1 MiB would be one message otherwise, and the session would never close.
#[test]
fn what_is_told_of_a_key_comes_in_parts_of_a_bounded_size() {
    let (mut a, mut b) = (replica(1), replica(2));
    let bytes_max = 4_096;
    let large = || Body::Value(Bytes::from(vec![7; 1_024]));
    let mut dots = Vec::new();
    for turn in 0..20 {
        let write = Write { key: key("k"), body: large(), deadline: None, basis: Basis::Nothing };
        let dot = a.write(&write, &mut Hlc::default(), 1_000).unwrap().record.dot;
        dots.push(dot);
        if turn % 2 == 0 {
            a.forget_context(&key("k"), dot);
        }
    }
    let (mut serving, mut taking) = begin(&a, &b);
    serving.tell(&key("k"));
    let mut values = 0;
    let ended = loop {
        let part = serving.next(&a, bytes_max).or_else(|| serving.end(&a)).unwrap().what;
        match &part.body {
            PartBody::Records(records) => {
                let (bytes, count) = crate::batch::encode(records, usize::MAX, FoldNumber::ALL);
                assert!(
                    count == records.len() && bytes.len() <= bytes_max,
                    "{} bytes",
                    bytes.len()
                );
                values += count;
            }
            PartBody::Entry(staged) => {
                assert!(staged.bare.len() <= 1, "{} values in one part", staged.bare.len());
                values += staged.bare.len();
            }
            _ => {}
        }
        taking.walked();
        if let Some(ended) = taking.take(&mut b, part).ended {
            break ended;
        }
    };
    assert_eq!(ended, Ended::Closed);
    assert!(values >= dots.len());
    let stored: Vec<Dot> = b.entry(&key("k")).unwrap().siblings().keys().copied().collect();
    assert_eq!(stored, dots);
    b.state().verify().unwrap();
}

/// A record that does not fit into what is left of a part waits for the next one.
#[test]
fn no_part_of_records_is_longer_than_asked_for() {
    let (mut a, b) = (replica(1), replica(2));
    for name in ["k", "l", "m", "n"] {
        put(&mut a, name, Body::Value(Bytes::from(vec![7; 400])));
    }
    let (mut serving, _) = begin(&a, &b);
    serving.next(&a, 1);
    let mut count = 0;
    while let Some(part) = serving.next(&a, 1_400) {
        if let PartBody::Records(records) = part.what.body {
            let (bytes, _) = crate::batch::encode(&records, usize::MAX, FoldNumber::ALL);
            assert!(bytes.len() <= 1_400, "{} bytes", bytes.len());
            count += records.len();
        }
    }
    assert_eq!(count, 4);
}

/// What tells of a change waits until that is durable, and no longer.
#[test]
fn what_leaves_says_what_has_to_be_durable_before() {
    let (mut a, mut b) = (replica(1), replica(2));
    let write = Write { key: key("k"), body: value(), deadline: None, basis: Basis::Held };
    let before = a.position();
    let written = a.write(&write, &mut Hlc::default(), 1).unwrap();
    assert!(written.after > before && written.after == a.position());
    assert_eq!(Hello::of(&a, 7, 1, Vec::new()).after, written.after);
    assert_eq!(a.token(&key("k")).after, written.after);
    let mut serving = Serving::begin(&a, &hello(&b), 0);
    assert_eq!(serving.next(&a, 1).unwrap().after, written.after);
    // The position of a part is that of the moment when it was read.
    let later = a.write(&write, &mut Hlc::default(), 1).unwrap();
    assert_eq!(serving.next(&a, 1).unwrap().after, later.after);
    let applied = b.apply(&written.record).unwrap();
    assert_eq!(applied.after, b.position());
    let again = b.apply(&written.record).unwrap();
    assert_eq!((again.changes.len(), again.after), (0, applied.after));
}

/// A receiver may ask for all keys there are; what waits for its turn has a bound.
#[test]
fn so_many_keys_wait_to_be_told_and_no_more() {
    let (mut a, b) = (replica(1), replica(2));
    put(&mut a, "k", value());
    let (mut serving, _) = begin(&a, &b);
    serving.next(&a, 1);
    for _ in 0..ASKED_MAX {
        assert!(serving.tell(&key("k")));
    }
    assert!(!serving.tell(&key("k")));
    // The listed record first, then record and entry of the first key: there is room for another.
    for _ in 0..2 {
        serving.next(&a, 1).unwrap();
    }
    assert!(serving.tell(&key("k")));
}

/// After the end nothing is taken any more, not even another end.
#[test]
fn a_session_ends_once() {
    let (mut a, mut b) = (replica(1), replica(2));
    put(&mut a, "k", value());
    let (mut serving, mut taking) = begin(&a, &b);
    b.mint(ActorId::from_bytes([22; 16]));
    let ended = run(&a, &mut b, &mut serving, &mut taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::Restarted));
    let state = a.state();
    let body = PartBody::End {
        clock: state.clock().clone(),
        horizon: state.horizon().clone(),
        highest: state.highest(),
    };
    let taken = taking.take(&mut b, Part { session: 7, number: 3, body });
    assert!(taken.ended.is_none() && taken.changes.is_empty());
}
