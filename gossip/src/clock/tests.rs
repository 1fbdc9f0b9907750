//! Clocks against plain sets of dots.

use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::error::DecodeError;

fn actor(number: u8) -> ActorId {
    ActorId::from_bytes([number; 16])
}

fn dot(number: u8, counter: u64) -> Dot {
    Dot::new(actor(number), counter)
}

/// Dots of few actors with low counters, so that spans meet, and some far away.
fn dots() -> impl Strategy<Value = BTreeSet<Dot>> {
    let counter = prop_oneof![8 => 1..24_u64, 1 => Dot::COUNTER_MAX - 3..=Dot::COUNTER_MAX];
    btree_set((0..4_u8, counter).prop_map(|(actor, counter)| dot(actor, counter)), 0..60)
}

fn of(dots: &BTreeSet<Dot>) -> Clock {
    dots.iter().copied().collect()
}

fn plain(clock: &Clock) -> BTreeSet<Dot> {
    let spans = clock.tracks().flat_map(|(actor, track)| track.spans().map(|s| (*actor, s)));
    spans.flat_map(|(a, s)| (s.first..=s.last).map(move |c| Dot::new(a, c))).collect()
}

/// Folds 1 to 4 of four actors that issued 1, 2, 3 and 4 dots.
fn folds() -> Folds {
    let mut folds = Folds::default();
    for number in 1..=4_u8 {
        folds.learn(Fold {
            number: FoldNumber(number.into()),
            actor: actor(100 + number),
            last: number.into(),
        });
    }
    folds
}

fn with_folds(dots: &BTreeSet<Dot>, numbers: &BTreeSet<u32>) -> Clock {
    let mut clock = of(dots);
    for number in numbers {
        let fold = *folds().get(FoldNumber(*number)).unwrap();
        clock.add_up_to(fold.actor, fold.last);
        assert!(clock.fold(fold));
    }
    clock
}

proptest! {
    #[test]
    fn a_clock_is_the_set_of_its_dots(mut order in vec(dots(), 1..4)) {
        let all: Vec<Dot> = order.drain(..).flatten().collect();
        let mut clock = Clock::default();
        let mut set = BTreeSet::new();
        // Backwards, so that spans grow downwards and meet.
        for dot in all.into_iter().rev() {
            prop_assert_eq!(clock.contains(dot), set.contains(&dot));
            prop_assert_eq!(clock.add(dot), set.insert(dot));
            prop_assert!(clock.contains(dot));
        }
        prop_assert_eq!(plain(&clock), set.clone());
        prop_assert_eq!(of(&set), clock);
    }

    #[test]
    fn join_covers_and_difference_are_those_of_sets(a in dots(), b in dots(), c in dots()) {
        let (ka, kb, kc) = (of(&a), of(&b), of(&c));
        let mut joined = ka.clone();
        joined.join(&kb);
        prop_assert_eq!(plain(&joined), a.union(&b).copied().collect::<BTreeSet<_>>());
        let mut again = kb.clone();
        again.join(&ka);
        prop_assert_eq!(&joined, &again);
        again.join(&joined);
        prop_assert_eq!(&joined, &again);
        let mut left = joined.clone();
        left.join(&kc);
        let mut right = kb.clone();
        right.join(&kc);
        right.join(&ka);
        prop_assert_eq!(left, right);

        prop_assert_eq!(ka.covers(&kb), a.is_superset(&b));
        prop_assert!(joined.covers(&ka) && joined.covers(&kb));
        let rest: BTreeSet<Dot> = a.difference(&b).copied().collect();
        prop_assert_eq!(plain(&ka.minus(&kb)), rest.clone());
        prop_assert_eq!(of(&rest), ka.minus(&kb));
        let spans = ka.difference(&kb);
        let dots = spans.flat_map(|(a, s)| (s.first..=s.last).map(move |c| Dot::new(a, c)));
        prop_assert_eq!(dots.collect::<BTreeSet<_>>(), rest);
    }

    #[test]
    fn a_cut_track_has_the_low_counters(set in btree_set(1..30_u64, 0..20), last in 0..32_u64) {
        let mut track = Track::default();
        for counter in &set {
            track.add(*counter);
        }
        let cut = track.cut(last);
        for counter in 0..40 {
            prop_assert_eq!(cut.contains(counter), set.contains(&counter) && counter <= last);
        }
        prop_assert_eq!(track.last(), set.last().copied().unwrap_or(0));
    }

    #[test]
    fn the_bytes_of_a_clock_give_the_clock(a in dots(), f in btree_set(1..=4_u32, 0..4)) {
        let clock = with_folds(&a, &f);
        let bytes = clock.encode(FoldNumber::ALL);
        prop_assert_eq!(Clock::decode(&bytes, &folds()), Ok(clock));
    }

    /// What is taken at all is in the one form.
    #[test]
    fn changed_bytes_are_refused_or_canonical(
        a in dots(),
        f in btree_set(1..=4_u32, 0..4),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<prop::sample::Index>(),
        cut: bool,
    ) {
        let mut bytes = with_folds(&a, &f).encode(FoldNumber::ALL);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(length.index(bytes.len() + 1));
        }
        if let Ok(clock) = Clock::decode(&bytes, &folds()) {
            prop_assert_eq!(clock.encode(FoldNumber::ALL), bytes);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(mut bytes in vec(0..40_u8, 0..80)) {
        bytes.insert(0, 1);
        if let Ok(clock) = Clock::decode(&bytes, &folds()) {
            prop_assert_eq!(clock.encode(FoldNumber::ALL), bytes);
        }
    }
}

#[test]
fn an_actor_takes_24_bytes_at_most_and_a_run_of_folds_a_few() {
    let mut clock = Clock::default();
    let empty = clock.encode(FoldNumber::ALL).len();
    clock.add_up_to(actor(1), (1 << 49) - 1);
    assert_eq!(clock.encode(FoldNumber::ALL).len() - empty, 24);
    clock.add_up_to(actor(2), 100_000);
    assert_eq!(clock.encode(FoldNumber::ALL).len() - empty, 24 + 20);
    assert_eq!(
        with_folds(&BTreeSet::new(), &(1..=4).collect()).encode(FoldNumber::ALL).len(),
        empty + 2
    );
}

/// A reader who has not heard of a fold reads the actor by its name.
#[test]
fn folds_that_the_reader_does_not_know_are_not_named() {
    let clock = with_folds(&[dot(1, 5)].into(), &(1..=4).collect());
    for through in 0..=5 {
        let bytes = clock.encode(FoldNumber(through));
        let mut known = Folds::default();
        for fold in folds().iter().filter(|fold| fold.number.0 <= through) {
            known.learn(*fold);
        }
        assert_eq!(known.through(), FoldNumber(through.min(4)));
        let read = Clock::decode(&bytes, &known).unwrap();
        assert!(read.same_dots(&clock));
        assert_eq!(read.folds().count(), known.iter().count());
    }
    let mut gap = Folds::default();
    for number in [1, 3] {
        gap.learn(*folds().get(FoldNumber(number)).unwrap());
    }
    assert_eq!(gap.through(), FoldNumber(1));
}

#[test]
fn an_unknown_fold_is_told_apart() {
    let bytes = with_folds(&BTreeSet::new(), &[2].into()).encode(FoldNumber::ALL);
    let refused = Clock::decode(&bytes, &Folds::default());
    assert_eq!(refused, Err(DecodeError::UnknownFold(FoldNumber(2))));
    assert_eq!(Clock::decode(&[9], &Folds::default()), Err(DecodeError::UnknownFormat(9)));
}

#[test]
fn a_count_that_promises_too_much_is_refused_before_memory_is_taken() {
    let mut bytes = vec![1, 0];
    crate::wire::put_number(&mut bytes, u64::MAX);
    assert_eq!(Clock::decode(&bytes, &Folds::default()), Err(DecodeError::Truncated));
    // A span that would run past the largest counter.
    let mut bytes = vec![1, 0, 1];
    bytes.extend_from_slice(&[7; 16]);
    bytes.extend_from_slice(&[1, 1]);
    crate::wire::put_number(&mut bytes, u64::MAX - 2);
    bytes.push(0);
    assert_eq!(Clock::decode(&bytes, &Folds::default()), Err(DecodeError::OutOfRange("counter")));
}

#[test]
fn only_a_clock_with_all_dots_is_folded() {
    let fold = Fold { number: FoldNumber(7), actor: actor(1), last: 3 };
    let mut clock: Clock = [dot(1, 1), dot(1, 3)].into_iter().collect();
    assert!(!clock.fold(fold));
    clock.add(dot(1, 2));
    assert!(clock.fold(fold) && clock.has_fold(&fold));
    // A dot above the last counter is kept, and the fold given up.
    let mut other = clock.clone();
    other.join(&[dot(1, 4)].into_iter().collect());
    assert!(other.contains(dot(1, 4)) && !other.has_fold(&fold));
    assert!(clock.has_fold(&fold));
}

#[test]
fn holes_are_counted() {
    let dots = (1..=HOLES_ALARM as u64 + 1).map(|n| dot(1, 2 * n));
    let clock: Clock = dots.collect();
    assert!(clock.holes() > HOLES_ALARM);
}
