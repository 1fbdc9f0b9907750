//! The end of a schedule: sessions alone make all members agree on what is right.

use super::{Dot, Dots, Event, Follow, Violation, World, latest};

/// Rounds of all pairs after which members must agree. One that starts over needs a few more.
const ROUNDS: usize = 8;

impl<F: Follow> World<F> {
    /// Verifies all disks, lets every pair of members have sessions until nothing changes, and checks
    /// what they agree on.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn heal(&mut self) -> Result<(), Violation> {
        let replicas = self.setting.replicas as u8;
        for slot in 0..self.sessions.len() {
            self.cut(slot);
        }
        for at in 0..replicas {
            self.scrub(at)?;
            self.check_touched()?;
        }
        for _ in 0..ROUNDS {
            for from in 0..replicas {
                for to in 0..replicas {
                    if from != to && self.is_member(from) && self.is_member(to) {
                        self.now += 1;
                        self.whole_session(from, to)?;
                        self.check_touched()?;
                    }
                }
            }
            if self.disagreement().is_none() {
                break;
            }
        }
        if let Some((at, other)) = self.disagreement() {
            return Err(Violation::NoAgreement { at, other });
        }
        self.check_agreed()
    }

    fn disagreement(&self) -> Option<(u8, u8)> {
        let members = self.member_bits();
        let at = members.trailing_zeros() as u8;
        (0..self.setting.replicas as u8)
            .filter(|&other| self.is_member(other))
            .find(|&other| {
                let (mine, theirs) =
                    (&self.replicas[usize::from(at)], &self.replicas[usize::from(other)]);
                mine.clock != theirs.clock
                    || mine.stored - self.truth.tombs != theirs.stored - self.truth.tombs
            })
            .map(|other| (at, other))
    }

    /// All members agree: so what is live must be what nothing known supersedes, and what nobody
    /// knows must have been on no disk at some time.
    fn check_agreed(&mut self) -> Result<(), Violation> {
        let at = self.member_bits().trailing_zeros() as u8;
        let agreed = self.replicas[usize::from(at)];
        let unknown = self.truth.issued() - agreed.clock - self.truth.lost - self.truth.excused;
        // What waits for want of room in the schedule is not lost.
        let unknown = unknown - self.truth.rewritten - self.waiting();
        if let Some(dot) = unknown.oldest() {
            return Err(Violation::Lost { dot });
        }
        for dot in agreed.clock - self.truth.tombs - self.truth.lost {
            let is_superseded = !(self.truth.superseders(dot) & agreed.clock).is_empty();
            match (is_superseded, agreed.stored.has(dot)) {
                (true, true) => return Err(Violation::Zombie { at, dot }),
                (false, false) => return Err(Violation::Vanished { at, dot }),
                _ => {}
            }
        }
        for key in 0..self.setting.keys {
            if self.is_lww(key) {
                self.check_winner(at, key)?;
            }
        }
        Ok(())
    }

    /// The last writer wins: of the writes that no client's write supersedes, deletes included, the
    /// one with the highest (stamp, dot) is what the key shows.
    fn check_winner(&mut self, at: u8, key: usize) -> Result<(), Violation> {
        let agreed = self.replicas[usize::from(at)];
        let mut lost = self.truth.of_key[key] - agreed.clock;
        if lost.any(|dot| self.truth.write(dot).system) {
            // A collapse is as durable as any write. If all disks that had it are lost, what it ended
            // may be back, while the delete that it stood for is forgotten where it was stable.
            return Ok(());
        }
        let mut made = agreed.clock & self.truth.of_key[key];
        let mut ended = Dots::NONE;
        for dot in made {
            // A delete or an expiry whose disk was lost lives on in the collapse that stands for it.
            if self.truth.write(dot).system {
                ended |= Dots::one(self.truth.write(dot).rank);
            }
        }
        made |= ended;
        let mut rivals = Dots::NONE;
        for dot in made {
            let is_rival = !self.truth.write(dot).system
                && (self.truth.superseders_by_users(dot) & agreed.clock).is_empty();
            if is_rival {
                rivals |= Dots::one(dot);
            }
        }
        let expected: Option<Dot> =
            latest(&self.truth, rivals).filter(|&dot| !(self.truth.tombs | ended).has(dot));
        let shown = latest(&self.truth, agreed.live(&self.truth, key));
        if expected != shown {
            return Err(Violation::WrongWinner { key: key as u8 });
        }
        if rivals.is_empty() {
            return Ok(());
        }
        let event = if shown.is_some() { Event::WinnerShown } else { Event::WinnerIsDelete };
        self.counters.count(event);
        Ok(())
    }
}
