//! What is remembered of stamps whose writes are gone.

use super::*;
use crate::change::{decode, encode};
use crate::hlc::{AHEAD_MAX_MS, Stamp};

/// An `lww` delete at a replica whose clock is fast, known everywhere and forgotten.
fn forgotten(a: &mut Replica, key: &EntryKey) -> Record {
    a.set_time(10_400);
    let delete = put_at(a, key, Body::Certificate, Basis::Nothing, 10_400);
    assert!(!a.forget_certificate(key, delete.dot, &stable(a)).is_empty());
    assert!(a.entry(key).is_none());
    delete
}

fn closing(sender: &Replica) -> Closing {
    let state = sender.state();
    Closing {
        clock: state.clock().clone(),
        horizon: state.horizon().clone(),
        highest: state.highest(),
        staged: Vec::new(),
    }
}

/// The place of a write is above that of a delete that its replica has heard of by a close alone.
#[test]
fn a_write_is_above_a_delete_that_came_with_a_clock() {
    let (mut a, mut c) = (replica(1), replica(3));
    let key = lww("k");
    let delete = forgotten(&mut a, &key);
    c.set_time(10_000);
    c.close(&closing(&a)).unwrap();
    let blind = put_at(&mut c, &key, value("blind"), Basis::Nothing, 10_000);
    assert!(blind.stamp > delete.stamp, "{} is not above {}", blind.stamp, delete.stamp);
}

#[test]
fn the_highest_stamp_survives_its_entry_and_a_start() {
    let mut c = replica(3);
    let key = lww("k");
    let mut a = replica(1);
    let delete = put_at(&mut a, &key, Body::Certificate, Basis::Nothing, 10_400);
    let mut log = Vec::new();
    c.set_time(10_400);
    log.push(c.apply(&delete).unwrap().changes);
    log.push(c.forget_certificate(&key, delete.dot, &stable(&c)));
    assert!(c.entry(&key).is_none());
    let mut state = State::default();
    for changes in &log {
        for change in decode(&encode(changes), state.folds()).unwrap() {
            state.replay(&change);
        }
    }
    assert_eq!(state.highest(), delete.stamp);
    let (mut c, _) = Replica::start(state, actor(33), TreeKey::new(&[1; 32]));
    c.set_keyspace(LWW, Standing::Open(Policy::Lww));
    let blind = put_at(&mut c, &key, value("blind"), Basis::Nothing, 10_000);
    assert!(blind.stamp > delete.stamp);
    // And so is what a node that starts gives out, and shows.
    assert!(Hlc::starting(c.state().highest()).now(9_000) >= delete.stamp);
}

/// One stamp an hour ahead carries nobody along.
#[test]
fn a_stamp_far_ahead_is_not_the_highest() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = lww("k");
    let hour = 10_000 + 3_600_000;
    let fast = put_at(&mut a, &key, value("fast"), Basis::Nothing, hour);
    b.set_time(10_000);
    b.apply(&fast).unwrap();
    assert_eq!(b.state().highest(), Stamp::ZERO);
    let limit = Stamp::at_ms(10_000 + AHEAD_MAX_MS);
    let near = Record { dot: Dot::new(actor(9), 1), stamp: limit, ..fast.clone() };
    b.apply(&Record { rank: near.dot, ..near }).unwrap();
    assert_eq!(b.state().highest(), limit);
    // A session with the fast one moves the clock as far as a stamp at the limit would, and no further.
    let mut c = replica(3);
    c.set_time(10_000);
    c.apply(&fast).unwrap();
    c.close(&closing(&a)).unwrap();
    assert_eq!(c.state().highest(), limit);
    let other = put_at(&mut c, &lww("other"), value("x"), Basis::Nothing, 10_000);
    assert!(other.stamp.ms() == limit.ms() && other.stamp > limit);
}

/// Until then nobody's clock need be above the delete, so a later write could lose to nothing.
#[test]
fn a_certificate_of_an_lww_keyspace_goes_only_once_its_stamp_has_passed() {
    let mut a = replica(1);
    let key = lww("k");
    let ahead = put_at(&mut a, &key, Body::Certificate, Basis::Nothing, 10_400);
    a.set_time(10_399);
    assert!(a.forget_certificate(&key, ahead.dot, &stable(&a)).is_empty());
    a.set_time(10_400);
    assert!(!a.forget_certificate(&key, ahead.dot, &stable(&a)).is_empty());
    // What was far ahead when it came counts from now on.
    let mut b = replica(2);
    b.set_time(5_000);
    b.apply(&ahead).unwrap();
    assert_eq!(b.state().highest(), Stamp::ZERO);
    b.set_time(11_000);
    b.forget_certificate(&key, ahead.dot, &stable(&b));
    assert_eq!(b.state().highest(), ahead.stamp);
}

/// The token covers the delete, so what is written with it is above the delete, also where the clock is slow.
#[test]
fn a_token_of_a_key_without_an_entry_carries_the_highest_stamp() {
    let mut a = replica(1);
    let key = lww("k");
    let delete = forgotten(&mut a, &key);
    let token = a.token(&key).what;
    assert!(token.context.contains(delete.dot) && token.stamp >= delete.stamp);
    let basis = Basis::Seen { context: token.context, stamp: token.stamp };
    let hop = put_at(&mut replica(3), &key, value("hop"), basis, 10_000);
    assert!(hop.stamp > delete.stamp);
}
