//! Actors that end: in two steps, so that nothing which a member holds is declared lost.

use super::super::truth::ACTORS_MAX;
use super::{Dot, Dots, Effect, Event, Follow, Mutant, Violation, World};

/// A set of actors.
#[derive(Clone, Copy)]
struct Bits(u64);

impl Bits {
    fn pick(self, place: u8) -> Option<u8> {
        let mut rest = self.0;
        for _ in 0..u32::from(place).checked_rem(rest.count_ones())? {
            rest &= rest - 1;
        }
        Some(rest.trailing_zeros() as u8)
    }
}

/// What the members have agreed on about former actors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Retirement {
    /// Actors whose retirement has begun, one bit each.
    open: u64,
    /// Actors that are retired.
    done: u64,
    /// Who reported, one bit each.
    reported: [u8; ACTORS_MAX],
    /// What was reported.
    union: [Dots; ACTORS_MAX],
    /// Writes of a former actor as its node's disk said at the next start, if there was one.
    seals: [u8; ACTORS_MAX],
    /// Actors that were sealed.
    sealed: u64,
    /// Actors of disks that were lost or put back.
    orphans: u64,
}

impl Default for Retirement {
    fn default() -> Self {
        Self {
            open: 0,
            done: 0,
            reported: [0; ACTORS_MAX],
            union: [Dots::NONE; ACTORS_MAX],
            seals: [0; ACTORS_MAX],
            sealed: 0,
            orphans: 0,
        }
    }
}

impl Retirement {
    pub(super) fn reset(&mut self) {
        self.open = 0;
        self.done = 0;
        self.sealed = 0;
        self.orphans = 0;
    }

    /// Notes that the disk of an actor was lost or put back: somewhere a write of it may be left that
    /// no member knows.
    pub(super) fn orphan(&mut self, actor: u8) {
        self.orphans |= 1 << actor;
    }

    /// Whether such a write may still come.
    pub(super) fn has_orphans(&self) -> bool {
        self.orphans & !self.done != 0
    }

    /// Forgets what was reported: a disk changed, or the members did.
    pub(super) fn start_over(&mut self) {
        self.open = 0;
    }

    /// Notes how many writes a former actor had made, by its node's disk.
    pub(super) fn seal(&mut self, actor: u8, counter: u8) {
        self.seals[usize::from(actor)] = counter;
        self.sealed |= 1 << actor;
    }
}

impl<F: Follow> World<F> {
    /// Whether a write is of an actor that retires, and new here. Then nobody takes it from outside the group.
    pub(super) fn is_retiring(&self, at: u8, dot: Dot) -> bool {
        let replica = &self.replicas[usize::from(at)];
        replica.retiring >> self.truth.write(dot).actor & 1 == 1 && !replica.clock.has(dot)
    }

    /// Begins to retire an actor that nobody has any more.
    pub(super) fn retire(&mut self, pick: u8) -> Result<(), Violation> {
        let mut former = Bits(!(self.retirement.open | self.retirement.done));
        for actor in 0..ACTORS_MAX {
            if actor >= self.truth.actors || self.truth.of_actor(actor as u8).is_empty() {
                former.0 &= !(1 << actor);
            }
        }
        for at in 0..self.setting.replicas {
            if self.is_member(at as u8) {
                former.0 &= !(1 << self.replicas[at].actor);
            }
        }
        let Some(actor) = former.pick(pick) else { return Ok(()) };
        let bit = 1 << actor;
        self.counters.count(Event::RetirementBegun);
        self.retirement.open |= bit;
        self.retirement.reported[usize::from(actor)] = 0;
        self.retirement.union[usize::from(actor)] = Dots::NONE;
        for replica in &mut self.replicas {
            replica.retiring &= !bit;
        }
        Ok(())
    }

    /// A member hears which actors retire. From now on it takes nothing of theirs from outside the
    /// group, and it says what it holds.
    pub(super) fn report(&mut self, at: u8) -> Result<(), Violation> {
        if !self.is_member(at) {
            return Ok(());
        }
        let replica = &mut self.replicas[usize::from(at)];
        for actor in 0..self.truth.actors {
            let bit = 1 << actor;
            if self.retirement.open & bit == 0 || replica.retiring & bit != 0 {
                continue;
            }
            replica.retiring |= bit;
            let of_actor = self.truth.of_actor(actor as u8);
            self.retirement.reported[actor] |= 1 << at;
            self.retirement.union[actor] |= replica.clock & of_actor;
            if self.mutant == Some(Mutant::RetireWhenHeard) {
                replica.clock |= of_actor;
                self.touched |= 1 << at;
            }
        }
        self.told(at);
        Ok(())
    }

    /// Completes a retirement once all members have reported and each covers what any of them did.
    pub(super) fn retired(&mut self, pick: u8) -> Result<(), Violation> {
        let Some(actor) = Bits(self.retirement.open).pick(pick).map(usize::from) else {
            return Ok(());
        };
        let bit = 1 << actor;
        let of_actor = self.truth.of_actor(actor as u8);
        let mut union = self.retirement.union[actor];
        let is_sealed = self.retirement.sealed & bit != 0;
        if self.mutant == Some(Mutant::FoldAtSeal) && is_sealed {
            let seal = self.retirement.seals[actor];
            union = Dots::NONE;
            for dot in of_actor {
                if self.truth.write(dot).counter <= seal {
                    union |= Dots::one(dot);
                }
            }
        }
        let members = self.member_bits();
        for at in 0..self.setting.replicas as u8 {
            self.told(at);
        }
        if members & !self.retirement.reported[actor] != 0 {
            return Ok(());
        }
        for at in 0..self.setting.replicas {
            if self.is_member(at as u8) && !union.within(self.replicas[at].clock) {
                return Ok(());
            }
        }
        let lost = of_actor - union;
        self.retirement.open &= !bit;
        self.retirement.done |= bit;
        self.counters.count(Event::RetirementDone);
        if !lost.is_empty() {
            self.counters.count(Event::RetiredLost);
        }
        for at in 0..self.setting.replicas {
            if self.is_member(at as u8)
                && let Some(dot) = (self.replicas[at].clock & lost).oldest()
            {
                return Err(Violation::RetiredHeld { at: at as u8, dot });
            }
        }
        self.truth.lost |= lost;
        self.effect(Effect::Retired);
        Ok(())
    }
}
