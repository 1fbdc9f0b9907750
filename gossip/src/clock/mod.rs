//! A set of dots, small where the dots are many.
//!
//! A [`Clock`] holds for each actor all counters up to a base, and spans above it. A replica's own
//! clock K holds every dot that the replica stores or knows to be obsolete; contexts of writes and
//! what is pending for a key are clocks too.
//!
//! # Guarantees
//! - A set has one form: equal sets have equal tracks, and equal clocks equal bytes.
//! - Joining is associative, commutative and idempotent, and never takes a dot away.
//! - Bytes from outside are refused with a typed error unless they are the one form of a clock; they
//!   never panic, and take memory in proportion to their own length and the folds known here.
//!
//! One clock for each replica with bases and exceptions, instead of one for each key, is due to
//! Malkhi and Terry ("Concise version vectors in WinFS", 2005) and to Gonçalves, Almeida, Baquero and
//! Fonte ("Concise server-wide causality management", DAIS 2015).
//!
//! # Folded actors
//! A sealed actor whose dots a replica has all may be *folded*: the clock remembers the number of the
//! fold and is written with that instead of the actor. In memory the track stays (some 80 bytes an
//! actor that ever was), so no operation has to look a fold up.

mod codec;
mod fold;
mod track;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

pub(crate) use codec::{FullNames, NameReader, NameWriter, put_clock, read_clock};
pub use fold::{Fold, FoldNumber, Folds};
pub use track::{Span, Track};

use crate::actor::ActorId;
use crate::dot::Dot;

/// Above so many spans a clock deserves an alarm: something keeps holes from closing.
pub const HOLES_ALARM: usize = 1_000;

/// A set of dots.
///
/// Invariants:
/// - No track is empty.
/// - The actor of every fold has a track of exactly the counters from 1 to the fold's last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    tracks: BTreeMap<ActorId, Track>,
    folds: BTreeMap<FoldNumber, Fold>,
}

impl Clock {
    /// No dot is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Whether the dot is in the set.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.tracks.get(&dot.actor).is_some_and(|track| track.contains(dot.counter))
    }

    /// The counters of an actor, if there are any.
    #[must_use]
    pub fn track(&self, actor: &ActorId) -> Option<&Track> {
        self.tracks.get(actor)
    }

    /// The highest counter of an actor up to which none is missing; 0 if there is none.
    #[must_use]
    pub fn base(&self, actor: &ActorId) -> u64 {
        self.tracks.get(actor).map_or(0, Track::base)
    }

    /// The highest counter of an actor; 0 if there is none.
    #[must_use]
    pub fn last(&self, actor: &ActorId) -> u64 {
        self.tracks.get(actor).map_or(0, Track::last)
    }

    /// The actors and their counters, in the order of the actors.
    pub fn tracks(&self) -> impl Iterator<Item = (&ActorId, &Track)> {
        self.tracks.iter()
    }

    /// The folds that this clock is written with, in the order of their numbers.
    pub fn folds(&self) -> impl Iterator<Item = &Fold> {
        self.folds.values()
    }

    /// How many spans lie above bases. Above [`HOLES_ALARM`] it is worth an alarm.
    #[must_use]
    pub fn holes(&self) -> usize {
        self.tracks.values().map(|track| track.above().len()).sum()
    }

    /// Adds a dot; false if it was in the set.
    pub fn add(&mut self, dot: Dot) -> bool {
        let added = self.tracks.entry(dot.actor).or_default().add(dot.counter);
        if added {
            self.drop_false_folds(dot.actor);
        }
        added
    }

    /// Adds the counters from 1 to `last` of an actor. With `last` 0 nothing changes.
    pub fn add_up_to(&mut self, actor: ActorId, last: u64) {
        if last > 0 {
            self.add_track(actor, &Track::up_to(last));
        }
    }

    /// Adds counters of an actor.
    pub fn add_track(&mut self, actor: ActorId, track: &Track) {
        if track.is_empty() {
            return;
        }
        match self.tracks.entry(actor) {
            Entry::Vacant(free) => {
                free.insert(track.clone());
            }
            Entry::Occupied(mut held) => {
                if held.get().covers(track) {
                    return;
                }
                let both = held.get().union(track);
                held.insert(both);
                self.drop_false_folds(actor);
            }
        }
    }

    /// A fold promised that the actor issues nothing above its last counter. Where a dot says
    /// otherwise, the clock keeps the dot and forgets the fold, so that no dot is ever lost.
    fn drop_false_folds(&mut self, actor: ActorId) {
        if !self.folds.is_empty() {
            let exact = Track::up_to;
            let tracks = &self.tracks;
            self.folds.retain(|_, fold| {
                fold.actor != actor || tracks.get(&actor) == Some(&exact(fold.last))
            });
        }
    }

    /// Adds all dots and folds of `other`.
    pub fn join(&mut self, other: &Self) {
        for (actor, track) in &other.tracks {
            self.add_track(*actor, track);
        }
        for fold in other.folds.values() {
            self.fold(*fold);
        }
    }

    /// Names the actor by its fold from now on; false unless this clock has exactly the dots that the
    /// actor issued. Changes no dot. Idempotent.
    pub fn fold(&mut self, fold: Fold) -> bool {
        if !self.may_fold(&fold) {
            return false;
        }
        let known = self.folds.insert(fold.number, fold);
        assert!(known.is_none_or(|known| known == fold), "{known:?} and {fold:?} share a number");
        true
    }

    /// Whether this clock has exactly the dots that the actor of the fold issued.
    #[must_use]
    pub fn may_fold(&self, fold: &Fold) -> bool {
        self.tracks.get(&fold.actor) == Some(&Track::up_to(fold.last))
    }

    /// How many actors are named, because no fold stands for them.
    #[must_use]
    pub fn unfolded(&self) -> usize {
        // Each fold stands for a track.
        self.tracks.len() - self.folds.len()
    }

    /// Whether the actor is named by this fold.
    #[must_use]
    pub fn has_fold(&self, fold: &Fold) -> bool {
        self.folds.get(&fold.number) == Some(fold)
    }

    /// Whether all dots of `other` are here. Folds do not matter.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other
            .tracks
            .iter()
            .all(|(actor, theirs)| self.tracks.get(actor).is_some_and(|mine| mine.covers(theirs)))
    }

    /// Whether both have the same dots. Folds do not matter.
    #[must_use]
    pub fn same_dots(&self, other: &Self) -> bool {
        self.tracks == other.tracks
    }

    /// How many dots there are.
    pub(crate) fn count(&self) -> u128 {
        let spans = self.tracks.values().flat_map(Track::spans);
        spans.map(|span| u128::from(span.last - span.first) + 1).sum()
    }

    /// The dots that are here and not in `other`, without folds.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let rest = self.tracks.iter().filter_map(|(actor, mine)| {
            let rest = match other.tracks.get(actor) {
                Some(theirs) => mine.minus(theirs),
                None => mine.clone(),
            };
            (!rest.is_empty()).then_some((*actor, rest))
        });
        Self { tracks: rest.collect(), folds: BTreeMap::new() }
    }

    /// The spans that are here and not in `other`, actor by actor, ascending.
    pub fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (ActorId, Span)> + 'a {
        self.tracks.iter().flat_map(move |(actor, mine)| {
            let rest = match other.tracks.get(actor) {
                Some(theirs) => mine.minus(theirs),
                None => mine.clone(),
            };
            rest.spans().map(|span| (*actor, span)).collect::<Vec<_>>()
        })
    }
}

impl FromIterator<Dot> for Clock {
    fn from_iter<T: IntoIterator<Item = Dot>>(dots: T) -> Self {
        let mut clock = Self::default();
        for dot in dots {
            clock.add(dot);
        }
        clock
    }
}

#[cfg(test)]
mod tests;
