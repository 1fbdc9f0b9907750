//! One rule a test.

use super::*;
use crate::change::{decode, encode};
use crate::clock::FoldNumber;
use crate::hlc::Stamp;

#[test]
fn concurrent_writes_become_siblings_and_a_write_that_saw_them_ends_them() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let one = put(&mut a, &key, value("one"), Basis::Held);
    let two = put(&mut b, &key, value("two"), Basis::Held);
    assert_eq!(a.apply(&two).unwrap().outcome, Outcome::Stored);
    assert_eq!(live(&a, &key), [one.dot, two.dot]);
    let both = seen(&a, &key);
    let three = put(&mut b, &key, value("three"), both);
    assert_eq!(live(&b, &key), [three.dot]);
    // What three had superseded comes later and is refused, though its dot was never seen.
    assert_eq!(b.apply(&one).unwrap().outcome, Outcome::Obsolete);
    assert_eq!(a.apply(&three).unwrap().outcome, Outcome::Stored);
    assert_eq!(live(&a, &key), live(&b, &key));
    assert_eq!(a.tree().root(), b.tree().root());
}

/// Blind writers that take turns make as many siblings as there is true concurrency.
#[test]
fn b55_writers_that_interleave_make_no_siblings_at_one_replica() {
    let mut a = replica(1);
    let key = plain("k");
    for _ in 0..1_000 {
        put(&mut a, &key, value("x"), Basis::Held);
    }
    assert_eq!(live(&a, &key).len(), 1);
    // Two clients that write with what each had read last: at most one value of each is left.
    let mut tokens = [seen(&a, &key), seen(&a, &key)];
    for turn in 0..1_000 {
        put(&mut a, &key, value("y"), tokens[turn % 2].clone());
        tokens[turn % 2] = seen(&a, &key);
        assert!(live(&a, &key).len() <= 2);
    }
}

/// The delete is dropped, the key put again, then the old delete arrives.
#[test]
fn b53_a_late_certificate_does_not_end_a_value_that_it_never_saw() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let first = put(&mut a, &key, value("first"), Basis::Held);
    b.apply(&first).unwrap();
    let delete = put(&mut a, &key, Body::Certificate, Basis::Held);
    assert!(!a.forget_certificate(&key, delete.dot, &stable(&a)).is_empty());
    assert!(a.entry(&key).is_none());
    let again = put(&mut a, &key, value("again"), Basis::Held);
    assert_eq!(a.apply(&delete).unwrap().outcome, Outcome::Obsolete);
    assert_eq!(a.apply(&first).unwrap().outcome, Outcome::Obsolete);
    assert_eq!(live(&a, &key), [again.dot]);
    b.apply(&again).unwrap();
    assert_eq!(b.apply(&delete).unwrap().outcome, Outcome::Obsolete);
    assert_eq!(live(&b, &key), [again.dot]);
}

#[test]
fn a_concurrent_put_survives_a_delete() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let first = put(&mut a, &key, value("first"), Basis::Held);
    b.apply(&first).unwrap();
    let delete = put(&mut a, &key, Body::Certificate, Basis::Held);
    let second = put(&mut b, &key, value("second"), Basis::Held);
    a.apply(&second).unwrap();
    b.apply(&delete).unwrap();
    assert_eq!(live(&a, &key), [second.dot]);
    assert_eq!(live(&b, &key), [second.dot]);
}

#[test]
fn records_of_one_batch_share_their_clock_and_still_supersede_each_other() {
    let mut a = replica(1);
    let key = plain("k");
    let one = put(&mut a, &key, value("1"), Basis::Held);
    let two = put(&mut a, &key, value("2"), Basis::Held);
    let three = put(&mut a, &plain("other"), value("3"), Basis::Held);
    assert!(Arc::ptr_eq(one.context.shared(), three.context.shared()));
    assert!(two.context.contains(one.dot) && !one.context.contains(two.dot));
    assert_eq!(live(&a, &key), [two.dot]);
    // A dot from elsewhere ends the sharing.
    let mut b = replica(2);
    a.apply(&put(&mut b, &key, value("b"), Basis::Nothing)).unwrap();
    let four = put(&mut a, &key, value("4"), Basis::Held);
    assert!(!Arc::ptr_eq(one.context.shared(), four.context.shared()));
    assert_eq!(live(&a, &key), [four.dot]);
}

#[test]
fn the_cap_binds_only_writes_that_raise_the_number() {
    let mut a = replica(1);
    let key = plain("k");
    for _ in 0..SIBLINGS_MAX {
        put(&mut a, &key, value("x"), Basis::Nothing);
    }
    let write = |body: Body, basis: Basis| Write { key: plain("k"), body, deadline: None, basis };
    let mut hlc = Hlc::default();
    let refused = a.write(&write(value("y"), Basis::Nothing), &mut hlc, 5);
    assert_eq!(refused.unwrap_err(), WriteRefused::TooManySiblings(SIBLINGS_MAX));
    // A merge may exceed it.
    let mut b = replica(2);
    let over = put(&mut b, &key, value("b"), Basis::Nothing);
    assert_eq!(a.apply(&over).unwrap().outcome, Outcome::Stored);
    assert_eq!(live(&a, &key).len(), SIBLINGS_MAX + 1);
    // Deletes pass, and so does a write that supersedes one sibling.
    let one = Arc::new([over.dot].into_iter().collect::<Clock>());
    let basis = Basis::Seen { context: one, stamp: Stamp::ZERO };
    a.write(&write(value("z"), basis), &mut hlc, 5).unwrap();
    assert_eq!(live(&a, &key).len(), SIBLINGS_MAX + 1);
    a.write(&write(Body::Certificate, Basis::Nothing), &mut hlc, 5).unwrap();
    a.write(&write(value("z"), Basis::Held), &mut hlc, 5).unwrap();
    assert_eq!(live(&a, &key).len(), 1);
}

#[test]
fn a_stamp_is_above_all_that_the_write_covers() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = lww("k");
    let fast = put_at(&mut a, &key, value("fast"), Basis::Held, 9_000_000);
    b.apply(&fast).unwrap();
    let slow = put_at(&mut b, &key, value("slow"), Basis::Held, 1_000);
    assert!(slow.stamp > fast.stamp);
    // A token carries the stamp to a replica that lacks the write.
    let mut c = replica(3);
    let hop = put_at(&mut c, &key, value("hop"), seen(&a, &key), 1_000);
    assert!(hop.stamp > fast.stamp);
}

#[test]
fn in_an_lww_keyspace_a_later_delete_wins_over_an_earlier_put() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = lww("k");
    let early = put_at(&mut a, &key, value("early"), Basis::Held, 1_000);
    let delete = put_at(&mut b, &key, Body::Certificate, Basis::Held, 2_000);
    let later = put_at(&mut replica(3), &key, value("later"), Basis::Held, 3_000);
    let applied = a.apply(&delete).unwrap();
    let collapse = applied.collapse.unwrap();
    assert_eq!(collapse.stamp, delete.stamp);
    assert!(collapse.context.contains(early.dot) && collapse.context.contains(delete.dot));
    assert!(live(&a, &key).is_empty());
    // A value above the certificate stays.
    assert!(a.apply(&later).unwrap().collapse.is_none());
    assert_eq!(live(&a, &key), [later.dot]);
    // The other side hears of the collapse before the put.
    b.apply(&collapse).unwrap();
    assert_eq!(b.apply(&early).unwrap().outcome, Outcome::Obsolete);
    assert!(live(&b, &key).is_empty());
    // Until it is stable the certificate has to stay.
    a.set_time(3_000);
    assert!(a.forget_certificate(&key, collapse.dot, &Stable::default()).is_empty());
    assert!(!a.forget_certificate(&key, collapse.dot, &stable(&a)).is_empty());
}

#[test]
fn a_blind_delete_in_an_lww_keyspace_ends_what_is_older_here() {
    let mut a = replica(1);
    let key = lww("k");
    put_at(&mut a, &key, value("x"), Basis::Held, 1_000);
    let write =
        Write { key: key.clone(), body: Body::Certificate, deadline: None, basis: Basis::Nothing };
    let written = a.write(&write, &mut Hlc::default(), 2_000).unwrap();
    assert!(written.collapse.is_some());
    assert!(live(&a, &key).is_empty());
}

#[test]
fn an_expired_value_is_hidden_and_its_certificate_ends_no_sibling() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let deadline = Some(Stamp::at_ms(5_000));
    let write = Write { key: key.clone(), body: value("brief"), deadline, basis: Basis::Held };
    let brief = a.write(&write, &mut Hlc::default(), 1_000).unwrap().record;
    let stays = put(&mut b, &key, value("stays"), Basis::Held);
    a.apply(&stays).unwrap();
    let sibling = &a.entry(&key).unwrap().siblings()[&brief.dot];
    assert!(sibling.is_shown(Stamp(Stamp::at_ms(5_000).0 - 1)));
    assert!(!sibling.is_shown(Stamp::at_ms(5_000)));
    let early = a.expire(&key, brief.dot, Stamp::at_ms(4_999)).unwrap_err();
    assert_eq!(early, WriteRefused::NotExpired);
    let end = a.expire(&key, brief.dot, Stamp::at_ms(5_000)).unwrap().record;
    assert_eq!(live(&a, &key), [stays.dot]);
    b.apply(&end).unwrap();
    assert_eq!(b.apply(&brief).unwrap().outcome, Outcome::Obsolete);
    assert_eq!(live(&b, &key), [stays.dot]);
}

/// Of a cut-down context the horizon tells: the next session has to look at the tree.
#[test]
fn a_remover_that_knows_less_than_its_victim_raises_the_horizon() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let zombie = put(&mut b, &key, value("zombie"), Basis::Held);
    a.apply(&zombie).unwrap();
    let newer = put(&mut a, &key, value("newer"), Basis::Held);
    let only = Arc::new([newer.dot].into_iter().collect::<Clock>());
    let basis = Basis::Seen { context: only, stamp: Stamp::ZERO };
    let cut = put(&mut a, &key, Body::Certificate, basis);
    assert!(a.state().horizon().reaches(newer.dot));
    // The same where the remover comes first.
    let mut c = replica(3);
    c.apply(&cut).unwrap();
    assert_eq!(c.apply(&newer).unwrap().outcome, Outcome::Obsolete);
    assert!(c.state().horizon().reaches(newer.dot));
    assert_eq!(c.apply(&zombie).unwrap().outcome, Outcome::Obsolete);
    // An exact one costs nothing.
    let mut d = replica(4);
    d.apply(&zombie).unwrap();
    d.apply(&newer).unwrap();
    d.apply(&zombie).unwrap();
    assert_eq!(d.state().horizon().dots().count(), 0);
}

/// A disk that was rolled back forgets what its actor issued. Nobody who knows better is
/// applied before the replica has a fresh actor, and no dot is issued twice.
#[test]
fn b52_who_knows_more_of_my_actor_than_i_makes_me_mint() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    put(&mut a, &key, value("1"), Basis::Held);
    let image = a.state().clone();
    let lost = put(&mut a, &key, value("2"), Basis::Held);
    b.apply(&lost).unwrap();
    let token = seen(&b, &key);
    let by_b = put(&mut b, &key, value("3"), Basis::Held);

    let mut a = Replica::resume(image, TreeKey::new(&[1; 32]), None);
    a.set_keyspace(PLAIN, Standing::Open(Policy::Siblings));
    assert_eq!(a.apply(&lost).unwrap_err(), NotApplied::OwnActorAhead);
    assert_eq!(a.apply(&by_b).unwrap_err(), NotApplied::OwnActorAhead);
    let closing = Closing { clock: b.state().clock().clone(), ..Closing::default() };
    assert_eq!(a.close(&closing).unwrap_err(), NotApplied::OwnActorAhead);
    let write = Write { key: key.clone(), body: value("4"), deadline: None, basis: token };
    let refused = a.write(&write, &mut Hlc::default(), 9).unwrap_err();
    assert_eq!(refused, WriteRefused::OwnActorAhead);
    a.mint(actor(101));
    assert_eq!(a.state().sealed()[&actor(1)], 1);
    assert_eq!(a.apply(&lost).unwrap().outcome, Outcome::Stored);
    let fresh = a.write(&write, &mut Hlc::default(), 9).unwrap().record;
    assert_eq!(fresh.dot, Dot::new(actor(101), 1));
    assert_eq!(a.apply(&by_b).unwrap().outcome, Outcome::Stored);
    assert_eq!(live(&a, &key), [by_b.dot, fresh.dot]);
}

#[test]
fn records_of_unknown_keyspaces_wait_and_of_removed_ones_are_refused_for_ever() {
    let mut a = replica(1);
    let record = put(&mut a, &plain("k"), value("x"), Basis::Held);
    let (mut b, _) = Replica::start(State::default(), actor(2), TreeKey::new(&[1; 32]));
    assert_eq!(b.apply(&record).unwrap_err(), NotApplied::UnknownKeyspace);
    assert!(b.state().clock().is_empty());
    b.set_keyspace(PLAIN, Standing::Removed);
    assert_eq!(b.apply(&record).unwrap().outcome, Outcome::OfRemovedKeyspace);
    assert!(b.state().clock().contains(record.dot) && b.entry(&plain("k")).is_none());

    a.set_keyspace(PLAIN, Standing::Removed);
    put(&mut a, &lww("k"), value("other"), Basis::Held);
    assert!(!a.clear_keyspace(PLAIN, 10).is_empty());
    assert!(a.entry(&plain("k")).is_none() && a.entry(&lww("k")).is_some());
    assert!(a.clear_keyspace(PLAIN, 10).is_empty());
    a.state().verify().unwrap();
}

#[test]
fn a_removed_keyspace_goes_in_batches_of_a_bounded_size() {
    let mut a = replica(1);
    for name in ["a", "b", "c", "d", "e"] {
        put(&mut a, &plain(name), value(name), Basis::Held);
    }
    put(&mut a, &lww("a"), value("stays"), Basis::Held);
    a.set_keyspace(PLAIN, Standing::Removed);
    let clock = a.state().clock().clone();
    let removed = |change: &&Change| matches!(change, Change::Removed { .. });
    for left in [2, 2, 1, 0] {
        assert_eq!(a.clear_keyspace(PLAIN, 2).iter().filter(removed).count(), left);
        a.state().verify().unwrap();
    }
    assert_eq!(a.state().entries().count(), 1);
    assert_eq!(*a.state().clock(), clock);
}

#[test]
fn a_fold_changes_the_name_and_no_dot() {
    let (mut a, mut b) = (replica(1), replica(2));
    let record = put(&mut a, &plain("k"), value("x"), Basis::Held);
    a.mint(actor(11));
    let fold = Fold { number: FoldNumber(1), actor: actor(1), last: 1 };
    assert_eq!(b.fold(fold), [Change::FoldLearned { fold }], "b has not all dots");
    assert!(b.fold(fold).is_empty());
    let dots = a.state().clock().clone();
    let raised = Change::Raised { dot: Dot::new(fold.actor, fold.last) };
    let named = [raised, Change::Folded { fold }];
    assert_eq!(a.fold(fold), [&[Change::FoldLearned { fold }], &named[..]].concat());
    assert!(a.fold(fold).is_empty() && a.fold_known().is_empty());
    // What comes by records of sessions alone is named so as well, and no mail brings it.
    assert_eq!(b.apply_mailed(&record).err(), Some(NotApplied::Retiring));
    b.apply(&record).unwrap();
    assert_eq!(b.fold_known(), named);
    assert!(b.fold_known().is_empty() && b.apply_mailed(&record).is_ok());
    assert!(a.state().clock().same_dots(&dots));
    assert!(a.state().clock().encode(FoldNumber::ALL).len() < dots.encode(FoldNumber::ALL).len());
}

#[test]
fn a_scrub_finds_what_the_store_lost() {
    let mut a = replica(1);
    for key in ["a", "b", "c"] {
        put(&mut a, &plain(key), value(key), Basis::Held);
    }
    let key = plain("b");
    let place = a.hash.hash(&key).place;
    let leaf = a.tree().leaf_of(place);
    assert_eq!(a.scrub(leaf), Leaf::Sound);
    assert!(a.keys_below(leaf).any(|below| *below == key));
    // Behind the tree's back.
    a.state.replay(&Change::Removed { key: key.clone(), dot: live(&a, &key)[0] });
    assert_eq!(a.scrub(leaf), Leaf::Damaged);
}

#[test]
fn the_tree_grows_and_stays_the_sum_of_what_is_live() {
    let mut a = replica(1);
    for number in 0..1_100_u64 {
        let key = EntryKey::new(PLAIN, number.to_be_bytes().to_vec());
        put(&mut a, &key, value("x"), Basis::Held);
    }
    assert_eq!(a.tree().depth(), 3);
    let resumed = Replica::resume(a.state().clone(), TreeKey::new(&[1; 32]), None);
    assert_eq!(resumed.tree(), a.tree());
    for key in a.keys_below(NodeName::ROOT) {
        let leaf = a.tree().leaf_of(a.hash.hash(key).place);
        assert_eq!(a.scrub(leaf), Leaf::Sound);
    }
    assert_eq!(a.keys_below(NodeName::ROOT).count(), 1_100);
}

/// After a start nobody has said yet what kind a keyspace is of.
#[test]
fn a_certificate_of_a_keyspace_that_was_not_heard_of_stays_until_it_is_stable() {
    let mut a = replica(1);
    let key = lww("k");
    let delete = put(&mut a, &key, Body::Certificate, Basis::Held);
    let state = a.state().clone();
    let (mut a, _) = Replica::start(state, actor(9), TreeKey::new(&[1; 32]));
    a.set_time(1_000);
    assert!(a.forget_certificate(&key, delete.dot, &Stable::default()).is_empty());
    assert!(!a.forget_certificate(&key, delete.dot, &stable(&a)).is_empty());
}

/// How the clock heard of the write has raised the horizon, if anything did.
#[test]
fn an_obsolete_write_that_is_known_and_comes_again_changes_nothing() {
    let (mut a, mut b) = (replica(1), replica(2));
    let key = plain("k");
    let old = put(&mut a, &key, value("old"), Basis::Held);
    b.apply(&old).unwrap();
    let delete = put(&mut a, &key, Body::Certificate, Basis::Held);
    b.apply(&delete).unwrap();
    let newer = put(&mut b, &key, value("newer"), Basis::Held);
    b.forget_context(&key, newer.dot);
    let before = b.state().clone();
    let again = b.apply(&old).unwrap();
    assert_eq!((again.outcome, again.changes.len()), (Outcome::Obsolete, 0));
    assert_eq!(*b.state(), before);
}

/// A collapse is a write, and a replica without an actor has no dot for it.
#[test]
fn a_replica_that_was_never_started_takes_nothing() {
    let record = put(&mut replica(1), &lww("k"), value("x"), Basis::Held);
    let mut a = Replica::resume(State::default(), TreeKey::new(&[1; 32]), None);
    a.set_keyspace(LWW, Standing::Open(Policy::Lww));
    assert_eq!(a.apply(&record).unwrap_err(), NotApplied::NotStarted);
    assert_eq!(a.close(&Closing::default()).unwrap_err(), NotApplied::NotStarted);
    a.mint(actor(2));
    assert_eq!(a.apply(&record).unwrap().outcome, Outcome::Stored);
}

/// Daily starts of a node that writes nothing leave nothing behind.
#[test]
fn an_actor_is_sealed_only_while_it_has_something_to_be_folded() {
    let mut a = replica(1);
    a.mint(actor(11));
    assert!(a.state().sealed().is_empty());
    put(&mut a, &plain("k"), value("x"), Basis::Held);
    a.mint(actor(12));
    assert_eq!(a.state().sealed().iter().collect::<Vec<_>>(), [(&actor(11), &1)]);
    a.fold(Fold { number: FoldNumber(1), actor: actor(11), last: 1 });
    assert!(a.state().sealed().is_empty());
}

/// One poll, one entry: a fold is heard of, and a write names it, in the same bytes.
#[test]
fn an_entry_of_the_log_may_use_a_fold_that_it_learns() {
    let mut a = replica(1);
    let mut log: Vec<Vec<Change>> = Vec::new();
    let key = plain("k");
    let write = |a: &mut Replica| {
        let write =
            Write { key: key.clone(), body: value("x"), deadline: None, basis: Basis::Held };
        a.write(&write, &mut Hlc::default(), 1_000).unwrap().changes
    };
    log.push(vec![Change::Started { actor: actor(1) }]);
    log.push(write(&mut a));
    let fold = Fold { number: FoldNumber(1), actor: actor(1), last: 1 };
    let mut poll = a.mint(actor(11));
    poll.extend(a.fold(fold));
    poll.extend(write(&mut a));
    let names_the_fold = |change: &Change| match change {
        Change::Put { sibling, .. } => {
            sibling.context.as_ref().is_some_and(|context| context.shared().has_fold(&fold))
        }
        _ => false,
    };
    assert!(poll.iter().any(names_the_fold));
    log.push(poll);
    log.push(write(&mut a));
    // A crash may cut the log after any entry; what is left is read, and a next entry too.
    let bytes: Vec<Vec<u8>> = log.iter().map(|changes| encode(changes)).collect();
    for cut in 0..=bytes.len() {
        let mut state = State::default();
        for (entry, changes) in bytes[..cut].iter().zip(&log) {
            let read = decode(entry, state.folds()).unwrap();
            assert_eq!(&read, changes);
            for change in &read {
                state.replay(change);
            }
        }
        state.verify().unwrap();
        assert_eq!(state == *a.state(), cut == bytes.len());
    }
    // Without the entry that learns the fold the next one cannot be read, and says so.
    assert!(decode(&bytes[3], &crate::clock::Folds::default()).is_err());
}

/// What is refused and leaves nothing behind writes no header.
#[test]
fn an_obsolete_write_of_a_key_without_an_entry_leaves_its_dot_and_nothing_else() {
    let (mut a, mut b, mut c) = (replica(1), replica(2), replica(3));
    let key = plain("k");
    let old = put(&mut a, &key, value("old"), Basis::Held);
    let delete = put(&mut b, &key, Body::Certificate, seen(&a, &key));
    c.apply(&delete).unwrap();
    c.forget_certificate(&key, delete.dot, &Stable::default());
    let header = |change: &Change| matches!(change, Change::Header { .. });
    // Its dot was pending, so this header says that nothing is any more.
    assert!(c.apply(&old).unwrap().changes.iter().any(header));
    assert!(c.entry(&key).is_none());
    let mut known = Closing { clock: a.state().clock().clone(), ..Closing::default() };
    known.clock.join(b.state().clock());
    let mut d = replica(4);
    d.close(&known).unwrap();
    assert!(!d.apply(&old).unwrap().changes.iter().any(header));
}
