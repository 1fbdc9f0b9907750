//! What must hold after every step.

use super::{Dots, Event, Follow, Violation, World};

impl<F: Follow> World<F> {
    /// Checks every replica that the step changed: by itself, and against those with an equal clock.
    pub(super) fn check_touched(&mut self) -> Result<(), Violation> {
        let touched = std::mem::take(&mut self.touched);
        for at in 0..self.setting.replicas as u8 {
            if touched >> at & 1 == 1 && self.is_judged(at) {
                self.check_replica(at)?;
                self.check_equals(at)?;
            }
        }
        Ok(())
    }

    /// Whether promises bind a replica: not one whose disk lost a part that it does not know of, nor
    /// one that came back with a write which was declared lost; that one serves nothing, and its
    /// next session empties it.
    fn is_judged(&self, at: u8) -> bool {
        self.is_member(at)
            && !self.is_damaged(at)
            && (self.replicas[usize::from(at)].clock & self.truth.lost).is_empty()
    }

    fn check_replica(&mut self, at: u8) -> Result<(), Violation> {
        let replica = &self.replicas[usize::from(at)];
        let live = replica.stored - self.truth.tombs;
        if let Some(dot) = (live & replica.obsolete).oldest() {
            return Err(Violation::Returned { at, dot });
        }
        for dot in live {
            let superseders = self.truth.superseders(dot);
            if !(superseders & live).is_empty() {
                return Err(Violation::FalseSibling { at, dot });
            }
            if !(superseders & replica.clock).is_empty() {
                return Err(Violation::Zombie { at, dot });
            }
        }
        let gone = replica.clock - replica.stored - self.truth.tombs - self.truth.lost;
        for dot in gone - replica.obsolete {
            if (self.truth.superseders(dot) & replica.clock).is_empty() {
                return Err(Violation::Vanished { at, dot });
            }
        }
        self.count_siblings(live);
        self.replicas[usize::from(at)].obsolete |= gone;
        Ok(())
    }

    fn count_siblings(&mut self, live: Dots) {
        for key in 0..self.setting.keys {
            let siblings = (live & self.truth.of_key[key]).len();
            if siblings >= 2 {
                self.counters.count(Event::SiblingsTwo);
            }
            if siblings >= 4 {
                self.counters.count(Event::SiblingsFour);
            }
        }
    }

    fn check_equals(&mut self, at: u8) -> Result<(), Violation> {
        let replica = &self.replicas[usize::from(at)];
        for other in 0..self.setting.replicas as u8 {
            let peer = &self.replicas[usize::from(other)];
            if other == at || peer.clock != replica.clock || !self.is_judged(other) {
                continue;
            }
            if !replica.clock.is_empty() {
                self.counters.count(Event::EqualClocks);
            }
            if (replica.stored - self.truth.tombs) != (peer.stored - self.truth.tombs) {
                return Err(Violation::StoresDiffer { at, other });
            }
        }
        Ok(())
    }
}
