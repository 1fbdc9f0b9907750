//! Beats, and what a replica may claim from them.

use super::{Dots, Event, Follow, Mutant, Violation, World};

/// What a member said of itself: "these are all my writes, as of this moment".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Beat {
    is_set: bool,
    /// Writes that all nodes together had made at that moment.
    as_of: u8,
    own: Dots,
}

impl<F: Follow> World<F> {
    /// A member beats to another. It names the writes of all its actors; so after the loss of a disk
    /// it is silent until all other members have told it what they have of them.
    pub(super) fn beat(&mut self, from: u8, to: u8) -> Result<(), Violation> {
        if from == to || !self.is_member(from) || !self.is_member(to) {
            return Ok(());
        }
        let replica = self.replicas[usize::from(from)];
        let silent = match self.mutant {
            Some(Mutant::BeatAfterGate) => replica.recovering,
            _ => !replica.whole,
        };
        if silent {
            return Ok(());
        }
        let own = match self.mutant {
            Some(Mutant::BeatOfOneActor) => self.truth.of_actor(replica.actor),
            _ => self.truth.of_node(from) & replica.clock,
        };
        self.counters.count(Event::BeatTaken);
        self.told(from);
        self.beats[usize::from(to)][usize::from(from)] =
            Beat { is_set: true, as_of: self.truth.count as u8, own };
        Ok(())
    }

    /// A replica claims to have all that had been written up to its oldest beat, if its clock covers
    /// every beat and what removed members had written.
    pub(super) fn claim(&mut self, at: u8) -> Result<(), Violation> {
        if !self.is_member(at) || self.is_damaged(at) {
            return Ok(());
        }
        let replica = self.replicas[usize::from(at)];
        let mut as_of = replica.epoch_as_of;
        let mut needed = Dots::NONE;
        if self.epoch == 0 {
            as_of = self.truth.count as u8;
        }
        if self.mutant != Some(Mutant::DepartedForgotten) {
            needed |= self.departed;
        }
        let members = self.members[usize::from(replica.epoch)];
        for member in 0..self.setting.replicas {
            if members >> member & 1 == 0 || member == usize::from(at) {
                continue;
            }
            let beat = self.beats[usize::from(at)][member];
            if !beat.is_set {
                return Ok(());
            }
            as_of = as_of.min(beat.as_of);
            needed |= beat.own;
        }
        if !replica.whole || !(needed - self.truth.lost).within(replica.clock) {
            return Ok(());
        }
        self.counters.count(Event::ClaimMade);
        self.told(at);
        let written = Dots::first(usize::from(as_of)) - self.truth.lost - self.truth.excused;
        let written = written - self.truth.rewritten - self.waiting();
        match (written - replica.clock).oldest() {
            Some(dot) => Err(Violation::NotFresh { at, dot }),
            None => Ok(()),
        }
    }
}
