//! Actors that end.
//!
//! An actor issues nothing any more once its node has started again. Group 0 ends it in two steps. First it *retires*: from
//! when a replica hears of that, it takes a write of the actor that it does not know from sessions with members only,
//! and not from the mail, which may come late from a disk that is no more. So what the members hold together only
//! spreads, and does not grow. Once all of them have told what they hold and hold the same, the actor is *folded*: bytes
//! name the number of the fold. What a disk that is put back knows of it beyond that still comes in sessions, is kept, and
//! the actor is named in full again.

use std::collections::BTreeSet;

use super::{Applied, NotApplied, Replica};
use crate::actor::ActorId;
use crate::change::Change;
use crate::clock::{Clock, Fold};
use crate::dot::Dot;
use crate::record::Record;

/// What the catalogue says of actors whose retirement has begun and has not come to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retiring {
    /// The newest round in which a retirement was begun.
    pub round: u64,
    /// The actors.
    pub actors: BTreeSet<ActorId>,
}

impl Replica {
    /// Takes note of what the catalogue says of actors that retire. Not a change: the catalogue has a log of its own.
    ///
    /// # Panics
    /// When the replica's own actor retires: the caller mints before.
    pub fn set_retiring(&mut self, retiring: Retiring) {
        let own = self.state.actor().filter(|own| retiring.actors.contains(own));
        assert_eq!(own, None, "the actor of a replica that goes on does not retire");
        self.retiring = retiring;
    }

    /// What the catalogue said last of actors that retire.
    #[must_use]
    pub const fn retiring(&self) -> &Retiring {
        &self.retiring
    }

    /// Whether a write is of an actor that retires or is folded, and unknown here: then it is taken in sessions with
    /// members only.
    #[must_use]
    pub fn is_retiring(&self, dot: Dot) -> bool {
        let ends = self.retiring.actors.contains(&dot.actor)
            || self.state.folds().of_actor(&dot.actor).is_some();
        ends && !self.state.clock().contains(dot)
    }

    /// Applies a record that did not come in a session: by mail, or to repair what a read found.
    ///
    /// # Errors
    /// [`NotApplied`]; [`NotApplied::Retiring`] where only a session may bring it.
    pub fn apply_mailed(&mut self, record: &Record) -> Result<Applied, NotApplied> {
        if self.is_retiring(record.dot) {
            return Err(NotApplied::Retiring);
        }
        self.apply(record)
    }

    /// Takes note that the catalogue has folded an actor, and names it by the fold from now on if the clock has all of its
    /// dots; a session that brings the rest does so too. Idempotent.
    pub fn fold(&mut self, fold: Fold) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.state.folds().get(fold.number).is_none() {
            changes.push(Change::FoldLearned { fold });
        }
        let clock = self.state.clock();
        if !clock.has_fold(&fold) && clock.may_fold(&fold) {
            changes.extend(self.folded(fold));
        }
        self.commit(&changes);
        changes
    }

    /// Names actors by their folds where the clock has come to all of their dots by records alone. Idempotent.
    pub fn fold_known(&mut self) -> Vec<Change> {
        let changes = self.foldable(self.state.clock());
        self.commit(&changes);
        changes
    }

    /// What naming by their folds all actors changes that this clock, which is about to be the replica's, has all of.
    pub(super) fn foldable(&self, after: &Clock) -> Vec<Change> {
        let folds = self.state.folds().iter();
        let unnamed = folds.filter(|fold| !self.state.clock().has_fold(fold));
        unnamed.filter(|fold| after.may_fold(fold)).flat_map(|fold| self.folded(*fold)).collect()
    }

    /// What naming an actor by its fold changes. The horizon rises to its last dot, so that it needs no mention there
    /// either: every member has all of it, so that flags no session between members.
    fn folded(&self, fold: Fold) -> Vec<Change> {
        let mut changes = self.raised(Dot::new(fold.actor, fold.last));
        changes.push(Change::Folded { fold });
        changes
    }
}
