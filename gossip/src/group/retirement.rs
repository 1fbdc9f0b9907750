//! Actors that end, as members of a group see it: whose turn it is, and who knows how many folds.
//!
//! Group 0 decides; what a leader of it has to know, its replica has heard from the Hellos of the others: the clock of each
//! member, its present actor, and up to which round of retirements it had heard when it said so. Since then a member takes no
//! unknown write of these actors but from other members, in sessions. So once all members have said the same of an
//! actor after its round began, no member will ever hold anything else of it, wherever late messages may be.

use std::collections::BTreeMap;

use proto::NodeId;

use super::Group;
use crate::actor::ActorId;
use crate::clock::{FoldNumber, Folds};
use crate::replica::Retiring;

/// Folds that are taken over in one turn at most.
const FOLDS_AT_ONCE: usize = 1_024;

impl Group {
    /// Takes note of what the catalogue says of actors that retire. Should the own actor be among them, which was
    /// taken for a former one, another takes its place at once.
    pub fn set_retiring(&mut self, retiring: &Retiring) {
        if self.replica.state().actor().is_some_and(|own| retiring.actors.contains(&own)) {
            self.renew_actor();
        }
        self.replica.set_retiring(retiring.clone());
    }

    /// Takes over what the catalogue has folded, so many at a time that nobody waits for it; false once nothing is left.
    pub fn fold(&mut self, folds: &Folds) -> bool {
        if self.replica.state().folds().len() >= folds.len() {
            return false;
        }
        let known = self.replica.state().folds().through();
        for fold in folds.after(known).take(FOLDS_AT_ONCE) {
            let _ = self.replica.fold(*fold);
        }
        self.settle_folds();
        true
    }

    /// Up to which fold every member knows all of them, or knew when it said so. It never falls: who joins has read the
    /// catalogue first. One that is put back from an old image refuses names of younger folds until it has, too.
    #[must_use]
    pub const fn folds_everywhere(&self) -> FoldNumber {
        self.folds_everywhere
    }

    /// Takes note of what [`Group::folds_everywhere`] was in an earlier life.
    pub fn remember_folds_everywhere(&mut self, number: FoldNumber) {
        self.folds_everywhere = self.folds_everywhere.max(number);
    }

    pub(super) fn settle_folds(&mut self) {
        let own = self.replica.state().folds().through();
        let others = self.members.values().map(|member| self.folds_of(member));
        self.folds_everywhere = others.fold(own, FoldNumber::min).max(self.folds_everywhere);
    }

    /// Up to which fold a member knows all of them, as far as it is known here: what bytes for it may name.
    pub(super) fn folds_at(&self, node: NodeId) -> FoldNumber {
        self.members.get(&node).map(|member| self.folds_of(member)).unwrap_or_default()
    }

    fn folds_of(&self, member: &super::Member) -> FoldNumber {
        member.folds.unwrap_or(self.folds_everywhere)
    }

    /// How many actors are named in full, because no fold stands for them.
    #[must_use]
    pub fn unfolded(&self) -> usize {
        self.replica.state().clock().unfolded()
    }

    /// Up to `most` actors that may retire: nobody's present one, and all members have said to have the same of them.
    #[must_use]
    pub fn former(&self, most: usize) -> Vec<ActorId> {
        let state = self.replica.state();
        let retiring = &self.replica.retiring().actors;
        let may =
            |actor: &ActorId| !retiring.contains(actor) && self.last_of_former(actor).is_some();
        let named = state.clock().tracks().map(|(actor, _)| *actor);
        let named = named.filter(|actor| state.folds().of_actor(actor).is_none());
        named.filter(may).take(most).collect()
    }

    /// The actors among these, with the round in which each began to retire, whose retirement may come to its end without
    /// a loss, and the last counter of each.
    #[must_use]
    pub fn ended(&self, retiring: &BTreeMap<ActorId, u64>) -> Vec<(ActorId, u64)> {
        let has_heard = |round: u64| {
            self.replica.retiring().round >= round
                && self.members.values().all(|member| member.retiring >= round)
        };
        let heard = retiring.iter().filter(|(_, round)| has_heard(**round));
        heard.filter_map(|(actor, _)| Some((*actor, self.last_of_former(actor)?))).collect()
    }

    /// The last counter of an actor that is nobody's present one, if every member has said to have all up to that one and
    /// no other. `None` too while a member has not been heard.
    fn last_of_former(&self, actor: &ActorId) -> Option<u64> {
        let state = self.replica.state();
        let track = state.clock().track(actor)?;
        let is_same = |member: &super::Member| {
            member.actor.is_some_and(|present| present != *actor)
                && member.clock.track(actor) == Some(track)
        };
        let is_former = state.actor() != Some(*actor) && self.members.values().all(is_same);
        (is_former && track.above().is_empty()).then(|| track.base())
    }
}
