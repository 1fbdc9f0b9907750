//! Actors of former starts retire and are folded, while members come and go.

use std::collections::BTreeMap;

use super::cluster::{Cluster, Disk, Mail};
use super::*;
use crate::clock::{Fold, Folds};
use crate::record::Body;
use crate::replica::{Basis, Retiring};

/// What group 0 says of actors.
#[derive(Default)]
struct Catalogue {
    round: u64,
    open: BTreeMap<ActorId, u64>,
    folds: Folds,
}

impl Catalogue {
    /// What a leader of group 0 does next, whose node this is.
    fn decide(&mut self, leader: &Group) {
        for (actor, last) in leader.ended(&self.open) {
            self.open.remove(&actor);
            let number = FoldNumber(self.folds.len() as u32 + 1);
            self.folds.learn(Fold { number, actor, last });
        }
        let mut former = leader.former(256);
        // The leader's replica may not have been told of all of it.
        former
            .retain(|actor| !self.open.contains_key(actor) && self.folds.of_actor(actor).is_none());
        if !former.is_empty() {
            self.round += 1;
            self.open.extend(former.into_iter().map(|actor| (actor, self.round)));
        }
    }

    /// A member hears of all of it.
    fn tell(&self, group: &mut Group) {
        let actors = self.open.keys().copied().collect();
        group.set_retiring(&Retiring { round: self.round, actors });
        while group.fold(&self.folds) {}
    }

    fn tell_all(&self, cluster: &mut Cluster) {
        for at in 0..cluster.size() {
            self.tell(cluster.group_mut(at));
        }
    }

    /// Until nothing is left to do, or so many rounds.
    fn run(&mut self, cluster: &mut Cluster, rounds: usize) {
        for _ in 0..rounds {
            cluster.run_ms(6_000);
            self.decide(cluster.group(0));
            self.tell_all(cluster);
        }
    }
}

fn put(value: &'static str) -> (Body, Basis) {
    (Body::Value(value.into()), Basis::Held)
}

#[test]
fn after_hundreds_of_starts_a_clock_names_the_present_actors() {
    const STARTS: usize = 600;
    let mut cluster = Cluster::new(11, 3);
    let mut catalogue = Catalogue::default();
    for start in 0..STARTS {
        let at = start % 3;
        let everywhere = cluster.group(at).folds_everywhere();
        cluster.restart(at);
        cluster.group_mut(at).remember_folds_everywhere(everywhere);
        catalogue.tell(cluster.group_mut(at));
        cluster.write(at, &format!("k{}", start % 7), put("v"), 1);
        cluster.run_ms(100);
        if start % 50 == 49 {
            catalogue.run(&mut cluster, 3);
        }
    }
    catalogue.run(&mut cluster, 4);
    cluster.run_ms(10_000);
    cluster.assert_equal();
    assert!(catalogue.folds.len() >= STARTS - 6, "{} folds", catalogue.folds.len());
    for at in 0..3 {
        let group = cluster.group(at);
        assert!(group.unfolded() <= 3, "{} at member {at}", group.unfolded());
        assert_eq!(group.folds_everywhere().0 as usize, catalogue.folds.len());
        let clock = group.replica().state().clock().encode(FoldNumber::ALL).len();
        assert!(clock < 100, "a clock of {clock} bytes");
        let hello = crate::session::Hello::of(group.replica(), 1, 1, Vec::new());
        let hello = hello.what.encode(FoldNumber::ALL).len();
        assert!(hello < 200, "a hello of {hello} bytes");
        let horizon = cluster.stored(at, b"h").expect("there is one").len();
        assert!(horizon < 100, "a horizon of {horizon} bytes");
    }
}

#[test]
fn an_actor_is_folded_only_once_a_member_that_was_away_has_all_of_it() {
    let mut cluster = Cluster::new(12, 3);
    let mut catalogue = Catalogue::default();
    cluster.write(0, "k", put("v"), 1);
    cluster.run_ms(10_000);
    cluster.cut(2);
    cluster.write(0, "k", put("w"), 1);
    cluster.run_ms(1_000);
    let former = cluster.group(0).replica().state().actor().unwrap();
    cluster.restart(0);
    catalogue.run(&mut cluster, 4);
    assert!(catalogue.open.is_empty() && catalogue.folds.is_empty(), "member 2 lacks a write");
    cluster.heal();
    catalogue.run(&mut cluster, 4);
    let fold = *catalogue.folds.of_actor(&former).expect("all have it");
    assert_eq!(fold.last, 2);
    for at in 0..3 {
        assert!(cluster.group(at).replica().state().clock().has_fold(&fold), "member {at}");
    }
}

#[test]
fn who_does_not_know_that_an_actor_retires_is_waited_for() {
    let mut cluster = Cluster::new(13, 3);
    let mut catalogue = Catalogue::default();
    cluster.write(0, "k", put("v"), 1);
    cluster.run_ms(1_000);
    cluster.restart(0);
    cluster.run_ms(10_000);
    catalogue.decide(cluster.group(0));
    assert_eq!(catalogue.open.len(), 1);
    for at in [0, 1] {
        catalogue.tell(cluster.group_mut(at));
    }
    cluster.run_ms(10_000);
    catalogue.decide(cluster.group(0));
    assert!(catalogue.folds.is_empty());
    catalogue.tell(cluster.group_mut(2));
    cluster.run_ms(10_000);
    // Who starts again has forgotten that it knew, and says so again.
    cluster.restart(1);
    cluster.run_ms(10_000);
    assert_eq!(cluster.group(0).ended(&catalogue.open), []);
    catalogue.tell(cluster.group_mut(1));
    cluster.run_ms(10_000);
    catalogue.decide(cluster.group(0));
    assert_eq!(catalogue.folds.len(), 1);
}

#[test]
fn late_mail_of_an_actor_that_retires_is_left_to_sessions() {
    let mut cluster = Cluster::new(14, 2);
    cluster.run_ms(5_000);
    cluster.write(0, "k", put("v"), 1);
    let former = cluster.group(0).replica().state().actor().unwrap();
    let actors = [former].into();
    // It is on its way.
    cluster.poll(0);
    cluster.group_mut(1).set_retiring(&Retiring { round: 1, actors });
    cluster.settle(10);
    assert_eq!(cluster.group(1).counts().retiring, 1);
    assert!(cluster.values(1, "k").is_empty());
    cluster.run_ms(5_000);
    assert_eq!(cluster.values(1, "k"), ["v"]);
}

#[test]
fn a_large_value_of_an_actor_that_retires_is_not_fetched_for_nothing() {
    let mut cluster = Cluster::new(16, 2);
    let large = || (Body::Value(vec![7; 20_000].into()), Basis::Held);
    cluster.write(0, "k", large(), 1);
    let former = cluster.group(0).replica().state().actor().unwrap();
    // Its offer is on its way.
    cluster.poll(0);
    cluster.group_mut(1).set_retiring(&Retiring { round: 1, actors: [former].into() });
    cluster.settle(10);
    assert_eq!(cluster.group(1).counts().retiring, 1);
    cluster.run_ms(5_000);
    assert_eq!(cluster.values(1, "k"), [vec![7; 20_000]]);
    let counts = cluster.group(1).counts();
    assert_eq!((counts.retiring, counts.fetched, counts.offers_left), (1, 0, 0));
}

/// Of the actor of member 0: its fold, which leaves out a write that only a lost disk had, and that disk.
fn folded_without_a_write(
    cluster: &mut Cluster,
    catalogue: &mut Catalogue,
) -> (Fold, BTreeMap<Bytes, Bytes>, Mail) {
    cluster.write(0, "k", put("v"), 1);
    let former = cluster.group(0).replica().state().actor().unwrap();
    cluster.run_ms(10_000);
    let before = cluster.disk(0);
    cluster.write(0, "late", put("w"), 1);
    let mail = cluster.keep_back();
    let beyond = cluster.disk(0);
    cluster.start_from(0, before);
    catalogue.run(cluster, 4);
    let fold = *catalogue.folds.of_actor(&former).expect("all have the same of it");
    assert_eq!(fold.last, 1);
    (fold, beyond, mail)
}

#[test]
fn late_mail_of_a_folded_actor_is_left_to_sessions() {
    let mut cluster = Cluster::new(17, 3);
    let mut catalogue = Catalogue::default();
    let (fold, _, mail) = folded_without_a_write(&mut cluster, &mut catalogue);
    assert!(!mail.is_empty());
    cluster.arrive(&mail);
    cluster.run_ms(5_000);
    for at in 0..3 {
        assert!(cluster.group(at).replica().state().clock().has_fold(&fold), "member {at}");
        assert!(cluster.values(at, "late").is_empty(), "member {at}");
    }
}

#[test]
fn what_a_disk_that_is_put_back_has_of_a_folded_actor_is_kept() {
    let mut cluster = Cluster::new(18, 3);
    let mut catalogue = Catalogue::default();
    let (fold, beyond, _) = folded_without_a_write(&mut cluster, &mut catalogue);
    cluster.start_from(0, beyond);
    catalogue.run(&mut cluster, 4);
    cluster.assert_equal();
    for at in 0..3 {
        assert_eq!(cluster.values(at, "late"), ["w"], "member {at}");
        let clock = cluster.group(at).replica().state().clock();
        assert!(!clock.has_fold(&fold) && clock.last(&fold.actor) == 2, "member {at}");
    }
    // It is named in full, on disks too, and others are folded as ever.
    for at in 0..3 {
        cluster.restart(at);
    }
    catalogue.run(&mut cluster, 4);
    cluster.assert_equal();
    assert_eq!(catalogue.folds.of_actor(&fold.actor), Some(&fold));
    for at in 0..3 {
        assert_eq!(cluster.values(at, "late"), ["w"], "member {at}");
    }
}

/// What folds say of the horizon is as good as what is said of it in full.
#[test]
fn a_disk_from_before_a_delete_and_the_folds_brings_nothing_back() {
    let mut cluster = Cluster::new(19, 3);
    let mut catalogue = Catalogue::default();
    cluster.write(0, "k", put("v"), 1);
    cluster.run_ms(5_000);
    let before = cluster.disk(2);
    cluster.write(1, "k", (Body::Certificate, Basis::Held), 1);
    cluster.run_ms(10_000);
    for at in [0, 1] {
        cluster.restart(at);
    }
    catalogue.run(&mut cluster, 4);
    assert_eq!(catalogue.folds.len(), 2);
    let key = EntryKey::new(super::cluster::KEYSPACE, "k");
    assert!(cluster.group(0).entry(&key).is_none(), "the certificate is forgotten");
    // Also when the horizon was read from disks that leave it out.
    for at in [0, 1] {
        cluster.restart(at);
    }
    let flagged = cluster.flagged();
    cluster.start_from(2, before);
    assert_eq!(cluster.values(2, "k"), ["v"]);
    cluster.run_ms(20_000);
    catalogue.run(&mut cluster, 2);
    assert!(cluster.flagged() > flagged);
    cluster.assert_equal();
    for at in 0..3 {
        assert!(cluster.values(at, "k").is_empty(), "member {at}");
        assert_eq!(cluster.group(at).replica().state().folds().len(), catalogue.folds.len());
    }
}

/// What is said of an actor by its fold takes no room, so it may not count as if it did.
#[test]
fn thousands_of_folded_actors_do_not_fill_an_answer() {
    const FOLDED: u32 = 12_000;
    let mut cluster = Cluster::new(20, 3);
    let mut folds = Folds::default();
    let mut clock = crate::clock::Clock::default();
    for number in 1..=FOLDED {
        let mut bytes = [1; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        let fold = Fold { number: FoldNumber(number), actor: ActorId::from_bytes(bytes), last: 9 };
        clock.add_up_to(fold.actor, fold.last);
        folds.learn(fold);
    }
    for at in 0..3 {
        let closing = crate::replica::Closing { clock: clock.clone(), ..Default::default() };
        let group = cluster.group_mut(at);
        group.replica.close(&closing).unwrap();
        while group.fold(&folds) {}
    }
    cluster.write(0, "k", put("v"), 1);
    cluster.run_ms(3_000);
    assert_eq!(cluster.group(1).folds_everywhere(), FoldNumber(FOLDED));
    cluster.cut_pair(1, 2);
    let read = cluster.read(1, "k").expect("member 0 answers");
    assert_eq!(read.by.len(), 1);
}

#[test]
fn whose_present_actor_retires_goes_on_with_another() {
    let mut cluster = Cluster::new(15, 2);
    cluster.write(0, "k", put("v"), 1);
    let taken = cluster.group(0).replica().state().actor().unwrap();
    cluster.run_ms(5_000);
    let mut catalogue = Catalogue { round: 1, open: [(taken, 1)].into(), ..Catalogue::default() };
    catalogue.tell_all(&mut cluster);
    let present = cluster.group(0).replica().state().actor().unwrap();
    assert_ne!(present, taken);
    assert_eq!(cluster.group(0).counts().minted, 0, "nothing is wrong with the disk");
    cluster.write(0, "k", put("w"), 1);
    catalogue.run(&mut cluster, 3);
    assert!(catalogue.folds.of_actor(&taken).is_some_and(|fold| fold.last == 1));
    assert_eq!(cluster.values(1, "k"), ["w"]);
    cluster.assert_equal();
}

/// Whatever is lost, doubled, late or cut off meanwhile: what is folded is what all have, and it never has to be taken
/// back.
#[test]
fn random_schedules_with_folds_converge() {
    let mut folded = 0;
    for seed in 0..40 {
        let mut cluster = Cluster::new(seed, 2 + (seed as usize % 3));
        let mut catalogue = Catalogue::default();
        for _ in 0..12 {
            cluster.play(12);
            catalogue.decide(cluster.group(0));
            for at in 0..cluster.size() {
                if cluster.chance(70) {
                    catalogue.tell(cluster.group_mut(at));
                }
            }
        }
        cluster.heal();
        catalogue.run(&mut cluster, 5);
        cluster.run_ms(20_000);
        cluster.assert_equal();
        for at in 0..cluster.size() {
            let clock = cluster.group(at).replica().state().clock();
            let lost = catalogue.folds.iter().find(|fold| !clock.has_fold(fold));
            assert_eq!(lost, None, "seed {seed}, member {at}");
            assert!(clock.unfolded() <= cluster.size(), "seed {seed}: {clock:?}");
        }
        folded += catalogue.folds.len();
    }
    assert!(folded > 100, "{folded}");
}

/// What every member had is written under a number only, and may be lost all the same.
#[test]
fn who_lost_what_is_folded_lags_behind() {
    let mut cluster = Cluster::new(31, 3);
    let mut catalogue = Catalogue::default();
    for number in 0..5 {
        cluster.write(0, &format!("k{number}"), put("v"), 1);
    }
    cluster.run_ms(5_000);
    cluster.restart(0);
    catalogue.run(&mut cluster, 6);
    let replica = cluster.group(0).replica();
    assert_eq!(replica.state().clock().folds().count(), 1);
    assert!(replica.state().sealed().is_empty());
    assert_eq!((cluster.group(0).view().lag_ms(), cluster.group(0).unreplicated()), (0, 0));
    // The others lose their disks, and are heard before they are told anything.
    for other in [1, 2] {
        cluster.start_from(other, Disk::default());
        catalogue.tell(cluster.group_mut(other));
    }
    cluster.group_mut(0).exchange_with_all();
    cluster.settle(2);
    assert_eq!(cluster.group(0).unreplicated(), 5, "nobody else has them");
    cluster.group_mut(0).tick(10_000_000);
    assert_eq!(cluster.group(0).view().lag_ms(), 10_000_000, "since the start");
}
