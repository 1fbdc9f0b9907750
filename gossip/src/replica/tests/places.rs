//! Who wins in an `lww` keyspace where stamps are equal, and what a collapse or an expiry stands for.

use super::*;
use crate::batch;
use crate::change::{decode, encode};
use crate::clock::{FoldNumber, Folds};
use crate::hlc::Stamp;

fn brief(replica: &mut Replica, key: &EntryKey, ms: u64) -> Record {
    let deadline = Some(Stamp::at_ms(ms + 100));
    let write = Write { key: key.clone(), body: value("brief"), deadline, basis: Basis::Nothing };
    replica.write(&write, &mut Hlc::default(), ms).unwrap().record
}

/// Delete and put have one stamp, and the put has the higher dot. Somebody who had collapsed something else by the
/// delete has a higher dot still; that must not end the put.
#[test]
fn a_collapse_has_the_place_of_the_delete_that_it_stands_for() {
    let (mut a, mut b, mut c) = (replica(1), replica(2), replica(3));
    let key = lww("k");
    let older = put_at(&mut c, &key, value("older"), Basis::Nothing, 1_000);
    let delete = put_at(&mut a, &key, Body::Certificate, Basis::Nothing, 2_000);
    let newer = put_at(&mut b, &key, value("newer"), Basis::Nothing, 2_000);
    assert!(newer.stamp == delete.stamp && newer.dot > delete.dot);
    let collapse = c.apply(&delete).unwrap().collapse.unwrap();
    assert!(collapse.context.contains(older.dot) && collapse.dot > newer.dot);
    assert_eq!((collapse.stamp, collapse.rank), (delete.stamp, delete.dot));
    assert!(c.apply(&newer).unwrap().collapse.is_none());
    assert_eq!(live(&c, &key), [newer.dot]);
    // Where nobody had collapsed anything the same value wins.
    b.apply(&delete).unwrap();
    assert_eq!(live(&b, &key), [newer.dot]);
    b.apply(&collapse).unwrap();
    assert_eq!(live(&b, &key), [newer.dot]);
}

/// A collapse of a collapse still stands for the first delete.
#[test]
fn the_place_of_a_collapse_is_handed_on() {
    let (mut a, mut b, mut c, mut d) = (replica(1), replica(2), replica(3), replica(4));
    let key = lww("k");
    put_at(&mut c, &key, value("one"), Basis::Nothing, 1_000);
    let two = put_at(&mut d, &key, value("two"), Basis::Nothing, 1_000);
    let delete = put_at(&mut a, &key, Body::Certificate, Basis::Nothing, 2_000);
    let newer = put_at(&mut b, &key, value("newer"), Basis::Nothing, 2_000);
    let first = c.apply(&delete).unwrap().collapse.unwrap();
    let second = d.apply(&first).unwrap().collapse.unwrap();
    assert!(second.context.contains(two.dot));
    assert_eq!((second.stamp, second.rank), (delete.stamp, delete.dot));
    d.apply(&newer).unwrap();
    assert_eq!(live(&d, &key), [newer.dot]);
}

/// The certificate of an expiry beats what the expired value had beaten, and nothing else.
#[test]
fn an_expiry_has_the_place_of_the_value_that_it_ends() {
    let (mut a, mut b, mut c, mut d) = (replica(1), replica(2), replica(3), replica(4));
    let key = lww("k");
    let below = put_at(&mut a, &key, value("below"), Basis::Nothing, 1_000);
    let ends = brief(&mut b, &key, 1_000);
    let above = put_at(&mut c, &key, value("above"), Basis::Nothing, 1_000);
    assert!(below.stamp == ends.stamp && ends.stamp == above.stamp);
    assert!(below.dot < ends.dot && ends.dot < above.dot);
    d.apply(&ends).unwrap();
    let expiry = d.expire(&key, ends.dot, Stamp::at_ms(5_000)).unwrap().record;
    assert_eq!((expiry.stamp, expiry.rank), (ends.stamp, ends.dot));
    assert!(expiry.dot > above.dot);
    d.apply(&above).unwrap();
    assert_eq!(live(&d, &key), [above.dot]);
    d.apply(&below).unwrap();
    assert_eq!(live(&d, &key), [above.dot]);
}

/// What two records with one place have in common: one of them is a copy of what the other one ended.
#[test]
fn a_value_of_the_same_place_as_a_certificate_ends() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = lww("k");
    let ends = brief(&mut a, &key, 1_000);
    let expiry = a.expire(&key, ends.dot, Stamp::at_ms(5_000)).unwrap().record;
    let copy = Record {
        dot: Dot::new(actor(9), 1),
        context: crate::context::Context::new(Arc::default()),
        ..ends
    };
    b.apply(&copy).unwrap();
    assert_eq!(live(&b, &key), [copy.dot]);
    assert!(b.apply(&expiry).unwrap().collapse.is_some());
    assert!(live(&b, &key).is_empty());
}

/// The winner of a read has the highest place too.
#[test]
fn the_winner_of_values_with_one_stamp_is_the_one_with_the_highest_rank() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = lww("k");
    let first = put_at(&mut a, &key, value("first"), Basis::Nothing, 1_000);
    let second = put_at(&mut b, &key, value("second"), Basis::Nothing, 1_000);
    let copy = Record {
        dot: Dot::new(actor(9), 1),
        context: crate::context::Context::new(Arc::new([first.dot].into_iter().collect())),
        ..first
    };
    for record in [&second, &copy] {
        a.apply(record).unwrap();
    }
    assert_eq!(live(&a, &key), [second.dot, copy.dot]);
    let winner = a.entry(&key).unwrap().winner(Stamp::at_ms(2_000)).map(|(dot, _)| dot);
    assert_eq!(winner, Some(second.dot));
}

/// The rank costs nothing where it is the dot itself, and comes back as it went.
#[test]
fn a_rank_travels_and_is_logged() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = lww("k");
    put_at(&mut a, &key, value("x"), Basis::Nothing, 1_000);
    let delete = put_at(&mut b, &key, Body::Certificate, Basis::Nothing, 2_000);
    let applied = a.apply(&delete).unwrap();
    let collapse = applied.collapse.unwrap();
    assert_ne!(collapse.rank, collapse.dot);
    let (bytes, _) =
        batch::encode(&[delete.clone(), collapse.clone()], usize::MAX, FoldNumber::ALL);
    assert_eq!(batch::decode(&bytes, &Folds::default()).unwrap(), [delete, collapse]);
    assert_eq!(decode(&encode(&applied.changes), &Folds::default()).unwrap(), applied.changes);
}
