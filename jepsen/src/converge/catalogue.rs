//! What group 0 of a cluster decides about actors, and who has heard of it.
//!
//! A member takes an actor of its own at every start. Former ones retire, and are folded once all members have the same of
//! them; then a number stands for them. All that is decided here follows from what one member has heard from the others, as
//! in a server.

use std::collections::BTreeMap;

use gossip::ActorId;
use gossip::clock::{Fold, FoldNumber, Folds};
use gossip::group::Group;
use gossip::replica::Retiring;

use super::{Counts, Event};

/// Actors that begin to retire at once, at most.
const AT_ONCE: usize = 256;

/// What is decided so far.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// The newest round in which retirements began.
    round: u64,
    /// Actors that retire, with the round in which that began.
    open: BTreeMap<ActorId, u64>,
    folds: Folds,
}

impl Catalogue {
    /// Decides by what this member knows, which has heard of all decisions before.
    pub fn decide(&mut self, leader: &Group, counts: &mut Counts) {
        let ended = leader.ended(&self.open);
        for (actor, last) in &ended {
            self.open.remove(actor);
            let number = self.folds.through().0 + 1;
            self.folds.learn(Fold { number: FoldNumber(number), actor: *actor, last: *last });
        }
        counts.add(Event::ActorFolded, ended.len() as u64);
        let mut former = leader.former(AT_ONCE);
        former.retain(|actor| self.folds.of_actor(actor).is_none());
        if !former.is_empty() {
            self.round += 1;
            counts.add(Event::ActorRetired, former.len() as u64);
            self.open.extend(former.iter().map(|actor| (*actor, self.round)));
        }
    }

    /// A member hears of all that was decided.
    pub fn tell(&self, group: &mut Group) {
        while group.fold(&self.folds) {}
        let actors = self.open.keys().copied().collect();
        group.set_retiring(&Retiring { round: self.round, actors });
    }

    /// What is folded.
    pub const fn folds(&self) -> &Folds {
        &self.folds
    }
}
