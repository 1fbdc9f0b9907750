//! Members that come and go, one at a time.

use super::super::replica::Replica;
use super::{EPOCHS, Effect, Event, Follow, Mutant, Violation, World, majority};

impl<F: Follow> World<F> {
    /// Adds a replica that is none, or removes one.
    ///
    /// The members change only when half of the last configuration but one follows the last one: no
    /// majority is left in it then, so writes are acknowledged in two configurations at most; and when nobody is
    /// recovering. Who leaves has made sure that a majority of those who stay hold all its writes.
    pub(super) fn change_member(&mut self, pick: u8) -> Result<(), Violation> {
        if usize::from(self.epoch) + 1 == EPOCHS || self.truth.actors > 32 {
            return Ok(());
        }
        let members = self.member_bits();
        let recovering = (0..self.setting.replicas)
            .any(|at| self.is_member(at as u8) && self.replicas[at].recovering);
        if recovering || !self.is_adopted() {
            return Ok(());
        }
        for at in 0..self.setting.replicas as u8 {
            self.told(at);
        }
        let place = usize::from(pick >> 1) % self.setting.replicas;
        let is_member = members >> place & 1 == 1;
        if !is_member && pick & 1 == 0 {
            self.add(place)
        } else if is_member && pick & 1 == 1 && members.count_ones() > 3 && self.is_drained(place) {
            self.remove(place)
        } else {
            Ok(())
        }
    }

    /// A replica hears of the newest configuration.
    pub(super) fn adopt(&mut self, at: u8) -> Result<(), Violation> {
        if self.is_member(at) {
            self.replicas[usize::from(at)].epoch = self.epoch;
            self.replicas[usize::from(at)].epoch_as_of = self.truth.count as u8;
            self.told(at);
        }
        Ok(())
    }

    fn is_adopted(&self) -> bool {
        let Some(before) = self.epoch.checked_sub(1) else { return true };
        if self.mutant == Some(Mutant::EpochNotAdopted) {
            return true;
        }
        let former = self.members[usize::from(before)];
        let followers = (0..self.setting.replicas)
            .filter(|&at| former >> at & 1 == 1 && self.replicas[at].epoch == self.epoch)
            .count();
        followers as u32 >= former.count_ones().div_ceil(2)
    }

    fn is_drained(&self, place: usize) -> bool {
        let stay = self.member_bits() & !(1 << place);
        let needed = match self.mutant {
            Some(Mutant::DrainToOne) => 1,
            _ => majority(stay.count_ones()),
        };
        if !self.replicas[place].kept.is_empty() {
            return false;
        }
        let mut own = self.replicas[place].clock;
        own.all(|dot| {
            let holders = (0..self.setting.replicas)
                .filter(|&at| stay >> at & 1 == 1 && self.replicas[at].clock.has(dot))
                .count();
            holders as u32 >= needed
        })
    }

    fn add(&mut self, place: usize) -> Result<(), Violation> {
        self.next_epoch(self.member_bits() | 1 << place);
        self.counters.count(Event::MemberAdded);
        self.images[place] = None;
        self.begin_empty(place as u8)
    }

    fn remove(&mut self, place: usize) -> Result<(), Violation> {
        self.counters.count(Event::MemberRemoved);
        self.departed |= self.truth.of_node(place as u8) & self.replicas[place].clock;
        self.next_epoch(self.member_bits() & !(1 << place));
        self.replicas[place] = Replica { epoch: self.epoch, ..Replica::default() };
        self.images[place] = None;
        self.cut_sessions(place as u8);
        self.effect(Effect::Left { at: place as u8 });
        self.note_losses()
    }

    fn next_epoch(&mut self, members: u8) {
        self.epoch += 1;
        self.members[usize::from(self.epoch)] = members;
        self.retirement.start_over();
    }
}
