//! Certificates that sleep and wake.

use super::*;

/// A replica whose certificate of a value sleeps, with the records of both.
fn asleep() -> (Replica, Record, Record) {
    let mut replica = replica(1);
    let value = put(&mut replica, &plain("k"), value("v"), Basis::Held);
    let delete = put(&mut replica, &plain("k"), Body::Certificate, Basis::Held);
    let changes = replica.sleep(&plain("k"), delete.dot, &Stable::default());
    assert_eq!(changes.last(), Some(&Change::Slept { key: plain("k"), dot: delete.dot }));
    assert_eq!(replica.state().verify(), Ok(()));
    (replica, value, delete)
}

fn dormant(replica: &Replica) -> Vec<Dot> {
    let entry = replica.entry(&plain("k"));
    entry.into_iter().flat_map(|entry| entry.dormant().keys().copied()).collect()
}

#[test]
fn what_sleeps_is_below_the_horizon_and_in_no_stream() {
    let (replica, _, delete) = asleep();
    assert_eq!(dormant(&replica), [delete.dot]);
    assert!(replica.state().horizon().reaches(delete.dot));
    assert!(replica.state().stored_beyond(&Clock::default()).is_empty());
    assert!(replica.state().key_of(delete.dot).is_none());
}

#[test]
fn an_obsolete_copy_wakes_it_and_nothing_else_does() {
    let (mut replica, value, delete) = asleep();
    let horizon = replica.state().horizon().clone();
    let clock = replica.state().clock().clone();
    let applied = replica.apply(&value).unwrap();
    assert_eq!((applied.outcome, applied.changes.len()), (Outcome::Obsolete, 0));
    assert!(replica.wake(&plain("k"), delete.dot).dots.is_empty(), "it does not end itself");
    assert!(replica.wake(&plain("l"), value.dot).dots.is_empty());
    let woken = replica.wake(&plain("k"), value.dot);
    assert_eq!(woken.dots, [delete.dot]);
    assert_eq!(replica.state().stored_beyond(&Clock::default()), [delete.dot]);
    assert_eq!(
        replica.entry(&plain("k")).unwrap().siblings()[&delete.dot].record(&plain("k"), delete.dot),
        Some(delete)
    );
    assert_eq!((replica.state().horizon(), replica.state().clock()), (&horizon, &clock));
    assert_eq!(replica.state().verify(), Ok(()));
}

#[test]
fn who_supersedes_it_removes_it() {
    let (mut replica, _, _) = asleep();
    put(&mut replica, &plain("k"), value("w"), Basis::Held);
    assert_eq!(dormant(&replica), []);
    let (mut replica, _, _) = asleep();
    replica.set_keyspace(PLAIN, Standing::Removed);
    replica.clear_keyspace(PLAIN, 10);
    assert_eq!(replica.state().entries().count(), 0);
}

/// With `lww` a value that comes later has to lose to a certificate, so only a stable one may sleep.
#[test]
fn a_certificate_of_the_last_writer_sleeps_when_it_is_stable() {
    let mut replica = replica(1);
    let delete = put(&mut replica, &lww("k"), Body::Certificate, Basis::Held);
    assert!(replica.sleep(&lww("k"), delete.dot, &Stable::default()).is_empty());
    let stable = Stable { by: replica.state().clock().clone(), has_orphans: false };
    assert!(!replica.sleep(&lww("k"), delete.dot, &stable).is_empty());
}
