//! What a disk loses is never said to be obsolete. Each test takes a write away behind the replica's back.

use super::*;
use crate::session::{Ended, Hello, Meeting, NotClosed, PartBody, Serving, Taking, meet};

fn hello(replica: &Replica) -> Hello {
    Hello::of(replica, 7, 1, Vec::new()).what
}

/// A session in which the receiver asks for these keys.
fn session(from: &Replica, to: &mut Replica, asked: &[&EntryKey]) -> Ended {
    let mut serving = Serving::begin(from, &hello(to), 0);
    for key in asked {
        serving.tell(key);
    }
    let taking = Taking::begin(to, 7);
    end(from, to, serving, taking)
}

/// The rest of a session.
fn end(from: &Replica, to: &mut Replica, mut serving: Serving, mut taking: Taking) -> Ended {
    taking.walked();
    loop {
        let part = serving.next(from, 1_000).or_else(|| serving.end(from)).unwrap().what;
        let is_damaged = part.body == PartBody::Damaged;
        if let Some(ended) = taking.take(to, part).ended {
            assert!(serving.next(from, 1_000).is_none() && serving.end(from).is_none());
            assert_eq!(is_damaged, ended == Ended::NotClosed(NotClosed::Damaged));
            return ended;
        }
    }
}

#[test]
fn a_listed_value_that_the_sender_lost_ends_the_session() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let lost = put(&mut a, &key, value("lost"), Basis::Held);
    a.state.lose(&key, lost.dot);
    assert_eq!(session(&a, &mut b, &[]), Ended::NotClosed(NotClosed::Damaged));
    assert!(!b.state().clock().contains(lost.dot), "nobody claims a write that is nowhere");
}

/// Certificates are in no sum of the tree; the index of dots tells.
#[test]
fn a_listed_certificate_that_the_sender_lost_ends_the_session() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let old = put(&mut a, &key, value("old"), Basis::Held);
    b.apply(&old).unwrap();
    let delete = put(&mut a, &key, Body::Certificate, Basis::Held);
    a.state.lose(&key, delete.dot);
    assert_eq!(session(&a, &mut b, &[]), Ended::NotClosed(NotClosed::Damaged));
    assert_eq!(live(&b, &key), [old.dot]);
    assert!(!b.state().clock().contains(delete.dot));
}

/// The receiver asks for the key, on a walk or for an audit, and both had the value.
#[test]
fn a_value_that_the_sender_lost_is_not_dropped_by_the_receiver() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let kept = put(&mut a, &key, value("kept"), Basis::Held);
    b.apply(&kept).unwrap();
    a.state.lose(&key, kept.dot);
    assert_eq!(session(&a, &mut b, &[&key]), Ended::NotClosed(NotClosed::Damaged));
    assert_eq!(live(&b, &key), [kept.dot]);
}

#[test]
fn a_receiver_that_lost_something_of_a_key_does_not_use_what_is_told_of_it() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let kept = put(&mut a, &key, value("kept"), Basis::Held);
    b.apply(&kept).unwrap();
    b.state.lose(&key, kept.dot);
    let before = b.state().clone();
    assert_eq!(session(&a, &mut b, &[&key]), Ended::NotClosed(NotClosed::DamagedHere));
    assert_eq!(*b.state(), before);
}

/// A certificate that came by mail after the Hello, and that the sender has dropped: whether it was a value nobody knows.
#[test]
fn a_receiver_that_lost_what_came_since_its_hello_begins_again() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let delete = put(&mut a, &key, Body::Certificate, Basis::Held);
    let everywhere = stable(&a);
    a.forget_certificate(&key, delete.dot, &everywhere);
    let serving = Serving::begin(&a, &hello(&b), 0);
    assert!(serving.is_flagged());
    let taking = Taking::begin(&b, 7);
    b.apply(&delete).unwrap();
    b.state.lose(&key, delete.dot);
    let ended = end(&a, &mut b, serving, taking);
    assert_eq!(ended, Ended::NotClosed(NotClosed::DamagedHere));
    assert_eq!(b.damage().len(), 1);
}

/// Something is pending again, or nothing is and the header is another one: what was lost does not come back by that.
#[test]
fn pending_that_was_lost_is_found_after_other_records() {
    let key = plain("k");
    let superseding = |number| {
        let mut from = replica(number);
        put(&mut from, &key, value("old"), Basis::Held);
        put_at(&mut from, &key, value("new"), Basis::Held, 2_000)
    };
    let alone = put_at(&mut replica(4), &key, value("alone"), Basis::Held, 3_000);
    for later in [superseding(3), alone] {
        let mut b = replica(2);
        b.apply(&superseding(1)).unwrap();
        let delete = put(&mut b, &plain("x"), Body::Certificate, Basis::Held);
        let everywhere = stable(&b);
        b.forget_certificate(&plain("x"), delete.dot, &everywhere);
        assert_eq!(session(&b, &mut replica(5), &[&key]), Ended::Closed);
        b.lose_pending(&key);
        b.apply(&later).unwrap();
        assert_eq!(b.verify(&key), Leaf::Damaged);
        assert_eq!(session(&b, &mut replica(5), &[]), Ended::NotClosed(NotClosed::Damaged));
        assert!(b.state().missing().contains(&key));
        let mut scrub = Scrubbing::START;
        while scrub != Scrubbing::Done {
            scrub = b.scrub_on(scrub, 64);
        }
        assert_eq!(b.damage().len(), 1);
    }
}

#[test]
fn a_start_finds_what_was_lost_since_the_sums_were_kept() {
    let mut a = replica(1);
    for name in ["a", "b", "c"] {
        put(&mut a, &plain(name), value(name), Basis::Held);
    }
    let sums = a.tree().clone();
    let mut state = a.state().clone();
    let resumed =
        |state: &State| Replica::resume(state.clone(), TreeKey::new(&[1; 32]), Some(&sums));
    assert!(resumed(&state).damage().is_empty());
    let key = plain("b");
    state.lose(&key, live(&a, &key)[0]);
    let mut resumed = resumed(&state);
    let leaf = a.tree().leaf_of(a.hash.hash(&key).place);
    assert_eq!(resumed.damage().iter().copied().collect::<Vec<_>>(), [leaf]);
    assert_eq!(resumed.verify(&key), Leaf::Damaged);
    resumed.set_keyspace(PLAIN, Standing::Open(Policy::Siblings));
    let write = Write { key, body: value("x"), deadline: None, basis: Basis::Held };
    let refused = resumed.write(&write, &mut Hlc::default(), 1).unwrap_err();
    assert_eq!(refused, WriteRefused::Damaged);
    assert_eq!(meet(&resumed, 1, &hello(&replica(2))), Meeting::Damaged);
}

/// Changes after the sums are made on top of the state that was compared.
#[test]
fn a_start_compares_before_it_makes_the_changes_of_the_log() {
    let mut a = replica(1);
    put(&mut a, &plain("a"), value("a"), Basis::Held);
    let (state, sums) = (a.state().clone(), a.tree().clone());
    let write = Write { key: plain("b"), body: value("b"), deadline: None, basis: Basis::Held };
    let tail = a.write(&write, &mut Hlc::default(), 1).unwrap().changes;
    let mut resumed = Replica::resume(state, TreeKey::new(&[1; 32]), Some(&sums));
    resumed.replay(&tail);
    assert_eq!(resumed.state(), a.state());
    assert_eq!(resumed.tree(), a.tree());
    assert!(resumed.damage().is_empty());
}

/// When the tree grows it is summed from what is stored; what was lost before must not become sound by that.
#[test]
fn what_was_lost_before_the_tree_grew_is_found_then() {
    let mut a = replica(1);
    let key = |number: u64| EntryKey::new(PLAIN, number.to_be_bytes().to_vec());
    for number in 0..1_000 {
        put(&mut a, &key(number), value("x"), Basis::Held);
    }
    let lost = live(&a, &key(5))[0];
    a.state.lose(&key(5), lost);
    let depth = a.tree().depth();
    for number in 1_000..1_100 {
        put(&mut a, &key(number), value("x"), Basis::Nothing);
        if a.tree().depth() > depth {
            break;
        }
    }
    assert!(a.tree().depth() > depth);
    assert_eq!(a.damage().len(), 1);
    assert_eq!(a.verify(&key(5)), Leaf::Damaged);
    let far = (0..1_000).find(|number| a.verify(&key(*number)) == Leaf::Sound);
    assert!(far.is_some(), "not everything is damaged");
}

/// What is in no sum here the storage tells.
#[test]
fn what_the_storage_has_lost_is_told_to_the_replica() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    put(&mut a, &key, value("x"), Basis::Held);
    assert_eq!(meet(&a, 1, &hello(&b)), Meeting::Differs);
    a.damaged(&key);
    assert_eq!(a.verify(&key), Leaf::Damaged);
    assert_eq!(meet(&a, 1, &hello(&b)), Meeting::Damaged);
    assert_eq!(session(&a, &mut b, &[&key]), Ended::NotClosed(NotClosed::Damaged));
}
