//! How sessions end.

use super::*;
use crate::hlc::Stamp;

fn closing(sender: &Replica) -> Closing {
    let state = sender.state();
    Closing {
        clock: state.clock().clone(),
        horizon: state.horizon().clone(),
        highest: state.highest(),
        staged: Vec::new(),
    }
}

fn staged(sender: &Replica, key: &EntryKey) -> Staged {
    let siblings = sender.entry(key).map(|entry| entry.siblings().clone()).unwrap_or_default();
    let bare = siblings.iter().filter(|(_, sibling)| sibling.context.is_none());
    Staged {
        key: key.clone(),
        is_whole: true,
        present: siblings.keys().copied().collect(),
        effective: sender.state().effective(key),
        bare: bare.map(|(dot, sibling)| (*dot, sibling.clone())).collect(),
    }
}

#[test]
fn a_flagged_session_drops_what_the_sender_dropped_and_keeps_what_it_never_saw() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let old = put(&mut a, &key, value("old"), Basis::Held);
    b.apply(&old).unwrap();
    let delete = put(&mut a, &key, Body::Certificate, Basis::Held);
    a.forget_certificate(&key, delete.dot, &Stable::default());
    let unseen = put(&mut b, &key, value("unseen"), Basis::Nothing);
    let flag = a.state().horizon().flags(a.state().clock(), b.state().clock());
    assert_eq!(flag, Some(delete.dot));
    let closing = Closing { staged: vec![staged(&a, &key)], ..closing(&a) };
    b.close(&closing).unwrap();
    assert_eq!(live(&b, &key), [unseen.dot]);
    assert!(b.state().horizon().reaches(delete.dot), "the horizon is inherited");
    assert_eq!(b.apply(&old).unwrap().outcome, Outcome::Obsolete);
    b.state().verify().unwrap();
}

/// The key is empty on both sides; only what is pending tells that a write is obsolete.
#[test]
fn what_is_pending_at_the_sender_is_pending_here_after_a_flagged_session() {
    let (mut a, mut b, mut c) = (replica(1), replica(2), replica(3));
    let key = plain("k");
    let late = put(&mut c, &key, value("late"), Basis::Held);
    let delete = put(&mut a, &key, Body::Certificate, seen(&c, &key));
    a.forget_certificate(&key, delete.dot, &Stable::default());
    assert!(a.entry(&key).unwrap().pending().contains(late.dot));
    assert_eq!(a.state().pending_keys().collect::<Vec<_>>(), [&key]);
    let pending = Staged {
        key: key.clone(),
        is_whole: false,
        present: BTreeSet::new(),
        effective: a.entry(&key).unwrap().pending().clone(),
        bare: Vec::new(),
    };
    b.close(&Closing { staged: vec![pending], ..closing(&a) }).unwrap();
    assert_eq!(b.apply(&late).unwrap().outcome, Outcome::Obsolete);
    assert!(live(&b, &key).is_empty());
    // A session in which the dot is known ends the pending.
    a.close(&closing(&b)).unwrap();
    assert_eq!(a.state().pending_keys().count(), 0);
    assert!(a.entry(&key).is_none());
    assert_eq!(a.apply(&late).unwrap().outcome, Outcome::Obsolete);
}

/// A value whose context the sender dropped means nothing without the sender's clock.
#[test]
fn a_value_without_context_comes_with_the_close_and_counts_as_dropped_here() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let old = put(&mut a, &key, value("old"), Basis::Held);
    b.apply(&old).unwrap();
    let new = put(&mut a, &key, value("new"), Basis::Held);
    assert_eq!(a.forget_context(&key, new.dot).len(), 2);
    assert!(a.entry(&key).unwrap().siblings()[&new.dot].record(&key, new.dot).is_none());
    let closed = b.close(&Closing { staged: vec![staged(&a, &key)], ..closing(&a) }).unwrap();
    assert!(closed.collapses.is_empty());
    assert_eq!(live(&b, &key), [new.dot]);
    assert!(b.state().horizon().reaches(new.dot));
    assert_eq!(a.tree().root(), b.tree().root());
    b.state().verify().unwrap();
}

/// The walk reads the living store. A value that came there after the clock of the session was fixed,
/// and that the receiver has not got, must not be taken for obsolete.
#[test]
fn what_is_present_at_the_sender_is_never_pending_here() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let fixed = closing(&a);
    let new = put(&mut a, &key, value("new"), Basis::Held);
    b.close(&Closing { staged: vec![staged(&a, &key)], ..fixed }).unwrap();
    assert_eq!(b.apply(&new).unwrap().outcome, Outcome::Stored);
    assert_eq!(live(&b, &key), [new.dot]);
}

#[test]
fn a_value_that_comes_with_the_close_loses_to_a_later_delete_in_an_lww_keyspace() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = lww("k");
    let early = put_at(&mut a, &key, value("early"), Basis::Held, 1_000);
    a.forget_context(&key, early.dot);
    let delete = put_at(&mut b, &key, Body::Certificate, Basis::Held, 2_000);
    let closed = b.close(&Closing { staged: vec![staged(&a, &key)], ..closing(&a) }).unwrap();
    assert_eq!(closed.collapses.len(), 1);
    assert!(closed.collapses[0].context.contains(delete.dot));
    assert!(live(&b, &key).is_empty());
    assert_eq!(closed.collapses[0].stamp, delete.stamp);
    assert!(delete.stamp > Stamp::at_ms(1_000));
}

#[test]
fn folds_are_taken_over_and_all_changes_replay() {
    let (mut a, mut b) = (replica(1), replica(2));
    let record = put(&mut a, &plain("k"), value("x"), Basis::Held);
    a.mint(actor(11));
    let fold = Fold { number: crate::clock::FoldNumber(1), actor: actor(1), last: 1 };
    a.fold(fold);
    b.fold(fold);
    let mut mirror = b.state().clone();
    let mut changes = b.apply(&record).unwrap().changes;
    changes.extend(b.close(&closing(&a)).unwrap().changes);
    for change in &changes {
        mirror.replay(change);
    }
    assert!(b.state().clock().has_fold(&fold));
    assert_eq!(&mirror, b.state());
}

/// The sender may forget a certificate that the receiver has, while the session runs.
#[test]
fn a_certificate_that_the_sender_lacks_stays() {
    let (mut a, mut b, mut c) = (replica(1), replica(2), replica(3));
    let key = plain("k");
    let old = put(&mut a, &key, value("old"), Basis::Held);
    c.apply(&old).unwrap();
    b.apply(&old).unwrap();
    let delete = put(&mut a, &key, Body::Certificate, Basis::Held);
    b.apply(&delete).unwrap();
    let fixed = closing(&a);
    a.forget_certificate(&key, delete.dot, &stable(&a));
    b.close(&Closing { staged: vec![staged(&a, &key)], ..fixed }).unwrap();
    assert!(b.entry(&key).unwrap().siblings().contains_key(&delete.dot));
    // Who hears of it from here alone loses the value.
    let told = b.entry(&key).unwrap().siblings()[&delete.dot].record(&key, delete.dot).unwrap();
    c.apply(&told).unwrap();
    assert!(live(&c, &key).is_empty());
}

/// `second` supersedes `first` and expires where its context was dropped, so the certificate names `second` alone.
/// A sender that never saw `first` drops the certificate; the receiver drops `second` without hearing why, and a
/// third replica that holds `first` must not close with it as if there were nothing to hear.
#[test]
fn b59_a_value_that_a_flagged_session_drops_raises_the_horizon_unless_all_is_told() {
    let (mut origin, mut sender, mut receiver, mut third) =
        (replica(1), replica(2), replica(3), replica(4));
    let key = plain("k");
    let first = put(&mut origin, &key, value("first"), Basis::Held);
    third.apply(&first).unwrap();
    let write = Write {
        key: key.clone(),
        body: value("second"),
        deadline: Some(Stamp::at_ms(2_000)),
        basis: Basis::Held,
    };
    let second = origin.write(&write, &mut Hlc::default(), 1_000).unwrap().record;
    receiver.apply(&second).unwrap();
    origin.forget_context(&key, second.dot);
    let expiry = origin.expire(&key, second.dot, Stamp::at_ms(3_000)).unwrap().record;
    assert!(!expiry.context.contains(first.dot));
    sender.apply(&expiry).unwrap();
    sender.forget_certificate(&key, expiry.dot, &Stable::default());
    let closed = Closing { staged: vec![staged(&sender, &key)], ..closing(&sender) };
    receiver.close(&closed).unwrap();
    assert!(live(&receiver, &key).is_empty());
    let flag = receiver.state().horizon().flags(receiver.state().clock(), third.state().clock());
    assert!(
        receiver.state().horizon().reaches(second.dot),
        "nobody was told of what it had superseded"
    );
    assert!(flag.is_some());
}

/// A value that came with the close has removed nothing; its record, which comes later, does.
#[test]
fn a_record_whose_value_came_without_it_removes_the_certificates_that_it_superseded() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let delete = put(&mut a, &key, Body::Certificate, Basis::Held);
    b.apply(&delete).unwrap();
    let over = put(&mut a, &key, value("over"), Basis::Held);
    a.forget_context(&key, over.dot);
    b.close(&Closing { staged: vec![staged(&a, &key)], ..closing(&a) }).unwrap();
    let stored = |replica: &Replica| replica.entry(&key).unwrap().siblings().len();
    assert_eq!((stored(&b), live(&b, &key)), (2, vec![over.dot]), "certificates stay");
    let applied = b.apply(&over).unwrap();
    assert_eq!(applied.outcome, Outcome::Duplicate);
    assert_eq!(applied.changes, [Change::Removed { key: key.clone(), dot: delete.dot }]);
    assert_eq!((stored(&b), live(&b, &key)), (1, vec![over.dot]));
    assert!(b.apply(&over).unwrap().changes.is_empty());
    b.state().verify().unwrap();
}

/// What comes from elsewhere may say anything; the replica refuses it and is the same as before.
#[test]
fn what_contradicts_itself_is_refused() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let bare = put(&mut a, &key, value("bare"), Basis::Held);
    a.forget_context(&key, bare.dot);
    let sound = staged(&a, &key);
    let before = b.state().clone();
    let refused = |b: &mut Replica, staged: Vec<Staged>| {
        let refused = b.close(&Closing { staged, ..closing(&a) }).unwrap_err();
        assert_eq!(*b.state(), before);
        refused
    };
    let twice = Staged { bare: [&sound.bare[..], &sound.bare[..]].concat(), ..sound.clone() };
    assert_eq!(refused(&mut b, vec![twice]), NotApplied::Contradiction);
    let absent = Staged { present: BTreeSet::new(), ..sound.clone() };
    assert_eq!(refused(&mut b, vec![absent]), NotApplied::Contradiction);
    let unknown = Staged { effective: Clock::default(), ..sound.clone() };
    assert_eq!(refused(&mut b, vec![unknown]), NotApplied::Contradiction);
    // A write of the receiver that it never made.
    let own = Dot::new(actor(2), 1);
    let forged = Staged {
        present: [own].into(),
        effective: [own].into_iter().collect(),
        bare: vec![(own, sound.bare[0].1.clone())],
        ..sound.clone()
    };
    assert_eq!(refused(&mut b, vec![forged]), NotApplied::OwnActorAhead);
    // A key may come more than once, also under the name of another one: the first that stores a write has it.
    let other = Staged { key: plain("other"), ..sound.clone() };
    b.close(&Closing { staged: vec![sound.clone(), sound, other], ..closing(&a) }).unwrap();
    assert_eq!(live(&b, &key), [bare.dot]);
    assert!(b.entry(&plain("other")).is_none_or(|entry| entry.siblings().is_empty()));
    b.state().verify().unwrap();
}
