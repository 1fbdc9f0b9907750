//! Ends and new beginnings of processes and disks.

use super::super::replica::Replica;
use super::super::truth::ACTORS_PLANNED;
use super::freshness::Beat;
use super::{Disk, Dots, Effect, Event, Follow, Mutant, REPLICAS_MAX, Violation, World, majority};

impl<F: Follow> World<F> {
    /// A process ends and begins on the same disk: with a new actor.
    pub(super) fn restart(&mut self, at: u8) -> Result<(), Violation> {
        if !self.may_fail(at) {
            return Ok(());
        }
        if self.mutant != Some(Mutant::DamagedLeafServed) {
            // A start reads everything.
            self.scrub(at)?;
        }
        let mut replica = self.replicas[usize::from(at)];
        self.retirement.seal(replica.actor, replica.counter);
        if self.renew_actor(at, &mut replica) {
            self.begin_again(at, replica, Disk::Same);
        }
        Ok(())
    }

    /// A process ends before its last batches are durable, and begins on what is. Nobody was told of
    /// what is gone.
    pub(super) fn crash(&mut self, at: u8, pick: u8) -> Result<(), Violation> {
        if !self.may_fail(at) || self.is_damaged(at) {
            return Ok(());
        }
        let tail = &self.tails[usize::from(at)];
        let last = usize::from(pick) % tail.len();
        let cut = tail.len() - 1 - last;
        let mut replica = tail[last];
        // What superseded a loss may be in the batches that go: then the loss is there again.
        if !(replica.damaged | replica.damaged_pending).is_empty() {
            return Ok(());
        }
        self.retirement.seal(replica.actor, replica.counter);
        if !self.renew_actor(at, &mut replica) {
            return Ok(());
        }
        if cut > 0 {
            self.counters.count(Event::BatchesCut);
        }
        self.begin_again(at, replica, Disk::Cut(cut));
        self.note_losses()
    }

    /// A process begins on its own disk.
    fn begin_again(&mut self, at: u8, replica: Replica, disk: Disk) {
        self.cut_sessions(at);
        self.forget_volatile(at);
        self.effect(Effect::Started { at, actor: replica.actor, disk });
        self.replicas[usize::from(at)] = replica;
        self.settled(at);
        self.told(at);
    }

    /// The disk is lost, the node begins with an empty one.
    pub(super) fn wipe(&mut self, at: u8) -> Result<(), Violation> {
        if !self.may_fail(at) {
            return Ok(());
        }
        self.counters.count(Event::Wiped);
        self.begin_empty(at)
    }

    /// What a wipe does, whatever it was that emptied the disk.
    pub(super) fn begin_empty(&mut self, at: u8) -> Result<(), Violation> {
        if self.empty(at) {
            self.note_losses()?;
        }
        Ok(())
    }

    /// The same, before anybody looks at what is lost by it; false if there is no actor left.
    pub(super) fn empty(&mut self, at: u8) -> bool {
        let Some(actor) = self.truth.mint(at, 0) else { return false };
        self.take_place(at, Replica { actor, ..Replica::default() }, Disk::Empty);
        true
    }

    /// Keeps a copy of the disk.
    pub(super) fn image(&mut self, at: u8) -> Result<(), Violation> {
        if self.is_member(at) && !self.is_damaged(at) && !self.replicas[usize::from(at)].recovering
        {
            self.told(at);
            self.images[usize::from(at)] = Some(self.replicas[usize::from(at)]);
            self.effect(Effect::Imaged { at });
        }
        Ok(())
    }

    /// The disk is replaced by its copy.
    pub(super) fn rollback(&mut self, at: u8) -> Result<(), Violation> {
        let exists = self.may_fail(at);
        let Some(mut image) = self.images[usize::from(at) % REPLICAS_MAX].filter(|_| exists) else {
            return Ok(());
        };
        self.retirement.seal(image.actor, image.counter);
        let keeps = [Some(Mutant::DotReused), Some(Mutant::RollbackByHandshake)];
        if keeps.contains(&self.mutant) || self.renew_actor(at, &mut image) {
            self.counters.count(Event::RolledBack);
            return self.come_back(at, image, Disk::Image);
        }
        Ok(())
    }

    /// Gives a replica a new actor. With the broken rule, the number of the start on its disk says
    /// which one.
    fn renew_actor(&mut self, at: u8, replica: &mut Replica) -> bool {
        replica.incarnation += 1;
        let known = match self.mutant {
            Some(Mutant::IncarnationFromDisk) => self.truth.actor_of(at, replica.incarnation),
            _ => None,
        };
        let Some(actor) = known.or_else(|| self.truth.mint(at, replica.incarnation)) else {
            return false;
        };
        replica.actor = actor;
        replica.counter = 0;
        true
    }

    /// A replica with another disk than before is back: recovering, and known to be.
    fn come_back(&mut self, at: u8, state: Replica, disk: Disk) -> Result<(), Violation> {
        self.take_place(at, state, disk);
        self.note_losses()
    }

    fn take_place(&mut self, at: u8, state: Replica, disk: Disk) {
        self.effect(Effect::Started { at, actor: state.actor, disk });
        for actor in 0..self.truth.actors as u8 {
            if self.truth.node_of(actor) == at && actor != state.actor {
                self.retirement.orphan(actor);
            }
        }
        self.directories += 1;
        self.truth.owed -= self.replicas[usize::from(at)].kept;
        self.replicas[usize::from(at)] = Replica {
            directory: self.directories,
            ids: Dots::NONE,
            recovering: true,
            heard: 0,
            trusted: 0,
            whole: false,
            epoch: self.epoch,
            epoch_as_of: self.truth.count as u8,
            retiring: 0,
            obsolete: Dots::NONE,
            ..state
        };
        self.cut_sessions(at);
        self.forget_volatile(at);
        self.retirement.start_over();
        self.settled(at);
        self.told(at);
    }

    fn may_fail(&self, at: u8) -> bool {
        self.is_member(at) && self.truth.actors < ACTORS_PLANNED
    }

    fn forget_volatile(&mut self, at: u8) {
        self.beats[usize::from(at)] = [Beat::default(); REPLICAS_MAX];
    }

    /// Notes what is on no disk any more, and holds it against what was promised.
    ///
    /// A quorum write survives as long as no more than N - W disks are lost or damaged at the same
    /// time; with more, nothing is promised of writes before.
    pub(super) fn note_losses(&mut self) -> Result<(), Violation> {
        let members = self.member_bits().count_ones();
        let mut failed = 0;
        for at in 0..self.setting.replicas as u8 {
            if self.is_member(at)
                && (self.replicas[usize::from(at)].recovering || self.is_damaged(at))
            {
                failed += 1;
            }
        }
        if failed > members - majority(members) {
            self.promised = Dots::NONE;
        }
        let nowhere = self.truth.issued() - self.known_to_members() - self.waiting();
        let nowhere = nowhere - self.truth.owed;
        self.truth.excused |= nowhere;
        match (self.promised & nowhere).oldest() {
            Some(dot) => Err(Violation::QuorumLost { dot }),
            None => Ok(()),
        }
    }

    /// Notes that a session with `peer` closed at a replica, which may end its recovery: after
    /// N - W + 1 other members that were not recovering, or after all others in whatever state.
    pub(super) fn note_heard(&mut self, at: u8, peer: u8, is_trusted: bool) {
        let members = self.member_bits();
        let replica = &mut self.replicas[usize::from(at)];
        if replica.whole {
            return;
        }
        replica.heard |= 1 << peer;
        if is_trusted {
            replica.trusted |= 1 << peer;
        }
        let others = members & !(1 << at);
        let heard_all = others & !replica.heard == 0;
        let count = members.count_ones();
        let needed = match self.mutant {
            Some(Mutant::GateAfterOneSession) => 1,
            _ => count - majority(count) + 1,
        };
        if replica.recovering && ((replica.trusted & others).count_ones() >= needed || heard_all) {
            replica.recovering = false;
            self.counters.count(Event::Recovered);
        }
        if heard_all {
            replica.whole = true;
        }
    }
}
