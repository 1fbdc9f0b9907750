//! Actors that issue nothing any more and whose dots everybody knows.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use crate::actor::ActorId;

/// The number of a fold. Group 0 counts folds from 1.
///
/// Members hear of folds in the order of their numbers. So one number says which folds somebody knows, and bytes for
/// a reader name folds up to that number; other actors have their full names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FoldNumber(pub u32);

impl FoldNumber {
    /// Below every fold: who knows none.
    pub const NONE: Self = Self(0);

    /// Above every fold: bytes for whoever knows what the writer knows.
    pub const ALL: Self = Self(u32::MAX);
}

impl fmt::Display for FoldNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An actor that is sealed: it issued the dots up to `last` and will issue no other.
///
/// A clock that covers all of them names the fold instead of the actor: 1 to 5 bytes, and a run of
/// folds no more than a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Its number.
    pub number: FoldNumber,
    /// Who was folded.
    pub actor: ActorId,
    /// The last counter of the actor, at least 1.
    pub last: u64,
}

/// The folds that are known here, from the records of group 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folds {
    by_number: BTreeMap<FoldNumber, Fold>,
    by_actor: BTreeMap<ActorId, FoldNumber>,
}

impl Folds {
    /// Takes note of a fold. Idempotent.
    ///
    /// # Panics
    /// When another fold has the number, or the actor has another one: group 0 decides each once.
    pub fn learn(&mut self, fold: Fold) {
        assert!(self.try_learn(fold), "{fold:?} contradicts what is known, or is one of nothing");
    }

    /// As [`Folds::learn`]; false where that would panic.
    #[must_use]
    pub(crate) fn try_learn(&mut self, fold: Fold) -> bool {
        let is_same = |known: Option<&Fold>| known.is_none_or(|known| *known == fold);
        let is_sound =
            fold.last >= 1 && is_same(self.get(fold.number)) && is_same(self.of_actor(&fold.actor));
        if is_sound {
            self.by_number.insert(fold.number, fold);
            self.by_actor.insert(fold.actor, fold.number);
        }
        is_sound
    }

    /// The highest number up to which all folds are known: what a replica says to its peers.
    #[must_use]
    pub fn through(&self) -> FoldNumber {
        let numbers = self.by_number.keys();
        let run = numbers.zip(1..).take_while(|(number, count)| number.0 == *count);
        FoldNumber(run.last().map_or(0, |(_, count)| count))
    }

    /// How many folds are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Whether no fold is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// The fold of an actor.
    #[must_use]
    pub fn of_actor(&self, actor: &ActorId) -> Option<&Fold> {
        self.by_actor.get(actor).and_then(|number| self.by_number.get(number))
    }

    /// The folds after this one, in the order of their numbers.
    pub fn after(&self, number: FoldNumber) -> impl Iterator<Item = &Fold> {
        self.by_number.range((Bound::Excluded(number), Bound::Unbounded)).map(|(_, fold)| fold)
    }

    /// All folds, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Fold> {
        self.by_number.values()
    }

    /// The fold of that number.
    #[must_use]
    pub fn get(&self, number: FoldNumber) -> Option<&Fold> {
        self.by_number.get(&number)
    }
}
