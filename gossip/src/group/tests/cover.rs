//! Who is brought up to the others: what is there afterwards, and who is known to be.

use std::collections::BTreeMap;

use super::super::message::{Message, Turn};
use super::*;
use crate::items::handed_over;
use crate::session::Hello;

/// Two that have met: from here on they say only what a test has them say, until time passes.
fn met(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed, 2);
    cluster.run_ms(5_000);
    cluster
}

/// Time passes until the first member is brought up to the others, but no longer than that.
fn cover_within(cluster: &mut Cluster, ms: u64) {
    const STEP_MS: u64 = 50;
    let mut steps = 0..ms / STEP_MS;
    while cluster.group(0).is_covering() && steps.next().is_some() {
        cluster.run_ms(STEP_MS);
    }
}

#[test]
fn who_covers_the_others_has_what_they_had_when_it_began() {
    let mut cluster = Cluster::new(11, 4);
    cluster.cut(0);
    cluster.cut_pair(1, 2);
    for number in 0..300 {
        let at = 1 + number % 3;
        cluster.write(at, &format!("k{number}"), put("v", Basis::Held), 1);
    }
    cluster.settle(2);
    cluster.heal();
    cluster.cut_pair(0, 3);
    assert!(!cluster.group(0).is_covering(), "nobody wants it");
    cluster.group_mut(0).cover();
    assert!(cluster.group(0).is_covering());
    // Nothing but what is said at once.
    cluster.settle(50);
    let group = cluster.group(0);
    assert!(!group.is_covering());
    assert_eq!(group.covered_members(), [NodeId(2), NodeId(3)], "the fourth has no link");
    assert!(group.covers_majority(), "three of four");
    for number in (0..300).filter(|number| number % 3 != 2) {
        assert_eq!(cluster.values(0, &format!("k{number}")), ["v"], "k{number}");
    }
    // Once more, with everybody; also where both have the same.
    cluster.heal();
    cluster.run_ms(10_000);
    cluster.assert_equal();
    cluster.group_mut(0).cover();
    let group = cluster.group(0);
    assert!(group.covered_members().is_empty(), "what was covered before counts no more");
    assert!(!group.covers_majority());
    cluster.settle(50);
    assert_eq!(cluster.group(0).covered_members().len(), 3);
    assert!(!cluster.group(0).is_covering());
}

#[test]
fn half_of_the_members_are_no_majority() {
    let mut cluster = Cluster::new(14, 4);
    cluster.cut_pair(0, 2);
    cluster.cut_pair(0, 3);
    cluster.group_mut(0).cover();
    cluster.settle(50);
    let group = cluster.group(0);
    assert!(!group.is_covering());
    assert_eq!(group.covered_members(), [NodeId(2)]);
    assert!(!group.covers_majority());
}

#[test]
fn a_hello_that_answers_no_other_covers_nobody() {
    let mut cluster = met(12);
    let hello = Hello::of(cluster.group(1).replica(), 0, 1, Vec::new()).what;
    let late = Message::Hello { hello, turn: Turn::Same, epoch: 0 };
    let late = late.encode(FoldNumber::default());
    let same = cluster.group(0).counts().same;
    cluster.group_mut(0).cover();
    // The question and its answer; the Hello leaves.
    cluster.settle(1);
    cluster.settle(1);
    cluster.group_mut(0).receive(NodeId(2), &late);
    assert_eq!(cluster.group(0).counts().same, same + 1, "it was understood");
    assert!(cluster.group(0).covered_members().is_empty());
    assert!(cluster.group(0).is_covering());
    // It is asked again, and answers.
    cluster.run_ms(500);
    assert_eq!(cluster.group(0).covered_members(), [NodeId(2)]);
}

/// Both have the same when the member is asked, and this one has more when it hears that.
#[test]
fn what_is_written_meanwhile_does_not_matter() {
    let mut cluster = met(15);
    let same = cluster.group(0).counts().same;
    cluster.group_mut(0).cover();
    cluster.settle(1);
    cluster.settle(1);
    // The other one answers, and this one writes before it hears it.
    cluster.settle(1);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    cluster.settle(1);
    assert_eq!(cluster.group(0).counts().same, same + 1);
    assert!(
        cluster.group(0).covered_members().is_empty(),
        "it may have begun anew since it was asked"
    );
    cluster.settle(2);
    assert_eq!(cluster.group(0).covered_members(), [NodeId(2)]);
}

#[test]
fn covering_goes_on_where_messages_get_lost() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(seed, 3);
        cluster.play(100);
        // A session of ten parts would rarely get through where a tenth of them is lost.
        cluster.heal();
        cluster.lose(3);
        let before: Vec<Clock> = (0..3).map(|at| clock(&cluster, at)).collect();
        cluster.group_mut(0).cover();
        cover_within(&mut cluster, 600_000);
        assert!(!cluster.group(0).is_covering(), "seed {seed}");
        assert_eq!(cluster.group(0).covered_members().len(), 2, "seed {seed}");
        assert!(before.iter().all(|had| clock(&cluster, 0).covers(had)), "seed {seed}");
    }
}

fn clock(cluster: &Cluster, at: usize) -> Clock {
    cluster.group(at).replica().state().clock().clone()
}

#[test]
fn who_may_have_lost_what_it_acknowledged_counts_for_no_majority() {
    let mut cluster = Cluster::new(16, 3);
    cluster.cut_pair(0, 2);
    cluster.group_mut(1).set_recovering(true);
    cluster.group_mut(0).cover();
    cluster.settle(50);
    assert_eq!(cluster.group(0).covered_members(), [NodeId(2)], "it is asked all the same");
    assert!(!cluster.group(0).covers_majority());
    cluster.heal();
    cluster.group_mut(0).cover();
    cluster.settle(50);
    assert!(cluster.group(0).covers_majority(), "the third one has lost nothing");
    // The same of this one.
    cluster.group_mut(0).set_recovering(true);
    assert!(!cluster.group(0).covers_majority());
    cluster.group_mut(1).set_recovering(false);
    cluster.group_mut(0).cover();
    cluster.settle(50);
    assert!(cluster.group(0).covers_majority(), "both others have lost nothing");
}

#[test]
fn who_loses_its_disk_between_answer_and_session_is_asked_again() {
    let mut cluster = Cluster::new(17, 2);
    cluster.write(1, "k", put("v", Basis::Held), 1);
    // The mail loses it.
    let _ = cluster.keep_back();
    cluster.group_mut(0).cover();
    cluster.settle(1);
    cluster.settle(1);
    cluster.start_from(1, BTreeMap::new());
    cluster.group_mut(1).set_recovering(true);
    cluster.run_ms(1_000);
    assert_eq!(cluster.group(0).covered_members(), [NodeId(2)]);
    assert!(cluster.values(0, "k").is_empty());
    assert!(!cluster.group(0).covers_majority());
}

/// A replica that was damaged begins again without its node, and no link breaks.
#[test]
fn who_was_another_one_before_its_session_is_asked_again() {
    let mut cluster = met(19);
    cluster.group_mut(0).cover();
    let asked = cluster.keep_back();
    let id = asked.iter().find_map(|(_, _, bytes)| {
        let message = Message::decode(bytes, cluster.group(1).replica().state().folds());
        let Ok(Message::Standing { id }) = message else { return None };
        Some(id)
    });
    // Its answer was on the way when it began again, with nothing.
    let former = Message::Stands {
        id: id.expect("it was asked"),
        actor: ActorId::from_bytes([77; 16]),
        is_whole: true,
    };
    cluster.group_mut(1).set_recovering(true);
    cluster.group_mut(0).receive(NodeId(2), &former.encode(FoldNumber::ALL));
    cluster.settle(50);
    assert_eq!(cluster.group(0).covered_members(), [NodeId(2)]);
    assert!(!cluster.group(0).covers_majority(), "what it acknowledged before may be lost");
}

#[test]
fn an_answer_to_an_earlier_question_says_nothing() {
    let mut cluster = met(18);
    let before = cluster.group(0).counts().exchanges;
    cluster.group_mut(0).cover();
    cluster.settle(1);
    let late = cluster.keep_back();
    cluster.group_mut(0).cover();
    let asked = cluster.keep_back();
    cluster.arrive(&late);
    assert_eq!(cluster.group(0).counts().exchanges, before, "no session has begun");
    cluster.arrive(&asked);
    assert_eq!(cluster.group(0).covered_members(), [NodeId(2)]);
}

/// Two seconds of two members, of which neither begins again where it is damaged.
fn talk(cluster: &mut Cluster, now_ms: &mut u64) {
    for _ in 0..40 {
        *now_ms += 50;
        for at in 0..2 {
            cluster.group_mut(at).tick(*now_ms);
        }
        for _ in 0..4 {
            for at in 0..2 {
                for (to, message) in cluster.group_mut(at).poll().sends {
                    let from = NodeId(at as u64 + 1);
                    cluster.group_mut(to.get() as usize - 1).receive(from, &message);
                }
            }
        }
    }
}

#[test]
fn who_knows_of_damage_is_covered_by_nobody_and_counts_for_no_majority() {
    let (mut cluster, mut now_ms) = (Cluster::new(19, 2), 0);
    cluster.write(0, "k", put("v", Basis::Held), 1);
    for at in 0..2 {
        cluster.group_mut(at).cover();
    }
    talk(&mut cluster, &mut now_ms);
    assert!((0..2).all(|at| cluster.group(at).covers_majority()), "nothing is lost");
    let key = EntryKey::new(KEYSPACE, "k");
    cluster.group_mut(1).replica.damaged(&key);
    // All is there, and what is lost here is not.
    assert!(!cluster.group(1).covers_majority());
    cluster.group_mut(0).cover();
    talk(&mut cluster, &mut now_ms);
    assert!(cluster.group(0).is_covering());
    assert!(cluster.group(0).covered_members().is_empty());
    cluster.group_mut(1).cover();
    talk(&mut cluster, &mut now_ms);
    assert!(!cluster.group(1).covers_majority());
}

/// Dots that are stored as values, or as certificates, at a member.
fn stored(cluster: &Cluster, at: usize, live: bool) -> BTreeSet<Dot> {
    let entries = cluster.group(at).replica().state().entries();
    let all = entries.flat_map(|(_, entry)| entry.siblings().iter());
    let wanted = all.filter(|(_, sibling)| matches!(sibling.body, Body::Value(_)) == live);
    wanted.map(|(dot, _)| *dot).collect()
}

/// Random things happen, a member is brought up to the others, and a new group begins with what it had then. Random
/// things happen there.
#[test]
fn groups_that_begin_with_a_cut_take_back_nothing_and_issue_no_dot_again() {
    let (mut superseded, mut issued, mut deletes) = (0, 0, 0);
    for seed in 0..40 {
        let mut old = Cluster::new(seed, 3);
        old.play(80);
        old.heal();
        old.group_mut(0).cover();
        let acknowledged: Vec<Clock> = (0..3).map(|at| clock(&old, at)).collect();
        // The earlier, the more deletes are in mind.
        cover_within(&mut old, 20_000);
        assert!(old.group(0).covers_majority(), "seed {seed}");
        let cut = old.disk(0).into_iter();
        let cut =
            cut.filter_map(|(key, value)| Some((key.clone(), handed_over(&key, value)?))).collect();
        let (had, live) = (clock(&old, 0), stored(&old, 0, true));
        assert!(acknowledged.iter().all(|clock| had.covers(clock)), "seed {seed}");
        deletes += stored(&old, 0, false).len();
        // What nobody will hear of.
        old.play(20);

        let mut new = Cluster::begun_with(&cut, seed + 1_000, 3);
        for at in 0..3 {
            assert_eq!((clock(&new, at), stored(&new, at, true)), (had.clone(), live.clone()));
        }
        new.play(80);
        new.heal();
        new.run_ms(60_000);
        new.assert_equal();
        let now = stored(&new, 0, true);
        let back: Vec<_> = now.iter().filter(|dot| had.contains(**dot)).collect();
        assert!(back.iter().all(|dot| live.contains(*dot)), "seed {seed}: {back:?}");
        superseded += had.tracks().map(|(_, track)| track.base()).sum::<u64>() - live.len() as u64;
        let old_actors: BTreeSet<ActorId> = (0..3)
            .flat_map(|at| clock(&old, at).tracks().map(|(a, _)| *a).collect::<Vec<_>>())
            .collect();
        let began: BTreeSet<ActorId> = had.tracks().map(|(actor, _)| *actor).collect();
        let of_new = clock(&new, 0);
        let own = of_new.tracks().filter(|(actor, _)| !began.contains(*actor));
        for (actor, track) in own {
            assert!(!old_actors.contains(actor), "seed {seed}: {actor} issued dots in both");
            issued += track.base();
        }
        for (actor, track) in had.tracks() {
            assert_eq!(of_new.track(actor), Some(track), "seed {seed}: {actor} issues no more");
        }
    }
    assert!(superseded > 1_000 && issued > 500 && deletes > 10, "{superseded} {issued} {deletes}");
}
