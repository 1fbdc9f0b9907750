//! Disks that lose a part, and what a replica does about it.

use super::super::truth::{ACTORS_MAX, KEYS_MAX};
use super::writes::Draft;
use super::{Cause, Dots, Effect, Event, Follow, Mutant, Violation, World};

impl<F: Follow> World<F> {
    /// Whether the disk lost something and nobody knows.
    pub(super) fn is_damaged(&self, at: u8) -> bool {
        let replica = &self.replicas[usize::from(at)];
        !(replica.damaged | replica.damaged_pending).is_empty()
    }

    /// Loses a record, or all records of its key with what was pending for it. One replica at a time.
    pub(super) fn damage(
        &mut self,
        at: u8,
        pick: u8,
        leaf: bool,
        rebuildable: bool,
    ) -> Result<(), Violation> {
        if !self.is_member(at)
            || (0..self.setting.replicas as u8).any(|other| self.is_damaged(other))
        {
            return Ok(());
        }
        let replica = &mut self.replicas[usize::from(at)];
        let Some(dot) = replica.stored.pick(pick) else { return Ok(()) };
        let of_key = self.truth.of_key[usize::from(self.truth.write(dot).key)];
        if leaf {
            replica.damaged = replica.stored & of_key;
            replica.damaged_pending = replica.pending & of_key;
        } else {
            replica.damaged = Dots::one(dot);
        }
        replica.damaged_contexts = replica.damaged & replica.contexts;
        replica.stored -= replica.damaged;
        replica.contexts -= replica.damaged;
        replica.pending -= replica.damaged_pending;
        replica.rebuildable = rebuildable;
        self.effect(Effect::Damaged { at });
        self.settled(at);
        self.told(at);
        self.note_losses()
    }

    /// Loses the clock. It shows at once; without it no record can be judged, so the replica starts over.
    pub(super) fn lose_clock(&mut self, at: u8) -> Result<(), Violation> {
        if !self.is_member(at) || self.is_damaged(at) {
            return Ok(());
        }
        self.counters.count(Event::DamageFound);
        self.effect(Effect::ClockLost { at });
        self.replicas[usize::from(at)].clock = Dots::NONE;
        self.replicas[usize::from(at)].pending = Dots::NONE;
        self.start_over(at)
    }

    /// Verifies all leaves.
    pub(super) fn scrub(&mut self, at: u8) -> Result<(), Violation> {
        if self.is_member(at) {
            for key in 0..self.setting.keys {
                self.verify(at, key)?;
            }
        }
        Ok(())
    }

    /// Verifies the leaf of a key before it is used, and mends the replica if it must. False means
    /// that the replica is not what it was, so whoever asked begins again.
    pub(super) fn verify(&mut self, at: u8, key: usize) -> Result<bool, Violation> {
        let replica = &mut self.replicas[usize::from(at)];
        let lost = replica.damaged | replica.damaged_pending;
        if (lost & self.truth.of_key[key]).is_empty() {
            return Ok(true);
        }
        self.counters.count(Event::DamageFound);
        if !replica.rebuildable {
            self.start_over(at)?;
            return Ok(false);
        }
        self.counters.count(Event::DamageRebuilt);
        self.follow.effect(&self.truth, Effect::Rebuilt { at });
        // The log is replayed through apply, later records included: what has been superseded since
        // does not come back, and what came back for want of `pending` goes again.
        replica.stored |= replica.damaged;
        replica.contexts |= replica.damaged & replica.damaged_contexts;
        replica.pending = (replica.pending | replica.damaged_pending) - replica.clock;
        replica.damaged = Dots::NONE;
        replica.damaged_pending = Dots::NONE;
        for dot in replica.stored {
            if !(self.truth.superseders(dot) & replica.clock).is_empty() {
                replica.stored -= Dots::one(dot);
            }
        }
        replica.contexts &= replica.stored;
        self.collapse(at, key)?;
        self.settled(at);
        self.told(at);
        Ok(false)
    }

    /// Begins with an empty disk, and takes back what can be read of the old one.
    ///
    /// A record with its context is a record as any. One without waits beside the replica, and nobody is told of it,
    /// until every other member has brought the replica up: then what is known by now is let go, and the rest is written
    /// anew, over all that was known of its key where that is intact, else over nothing but itself. Then what it had
    /// superseded may stand beside it again, as a sibling; nothing is lost.
    pub(super) fn start_over(&mut self, at: u8) -> Result<(), Violation> {
        let old = self.replicas[usize::from(at)];
        if self.truth.actors == ACTORS_MAX {
            return Ok(());
        }
        self.effect(Effect::StartedOver { at });
        assert!(self.empty(at), "there is an actor for it");
        self.counters.count(Event::StartedOver);
        for dot in ((old.stored & old.contexts) | old.dormant) - self.truth.lost {
            self.effect(Effect::Applied { at, dot });
            self.apply(at, dot)?;
            self.settled(at);
        }
        let bare = old.stored - old.contexts - old.dormant - self.truth.tombs;
        let bare = (bare | old.kept) - self.truth.lost;
        self.truth.owed |= bare;
        if bare.is_empty() || self.mutant == Some(Mutant::KeptForgotten) {
            self.told(at);
            return self.note_losses();
        }
        let mut over = [Dots::NONE; KEYS_MAX];
        for (key, over) in over.iter_mut().enumerate().take(self.setting.keys) {
            let of_key = self.truth.of_key[key];
            let is_whole = ((old.damaged | old.damaged_pending) & of_key).is_empty();
            if is_whole {
                *over = old.effective(&self.truth, key) - old.stored;
            }
        }
        self.effect(Effect::Kept { at });
        let replica = &mut self.replicas[usize::from(at)];
        replica.kept = bare;
        // What waited already is not written over what was known when it began to.
        replica.kept_known = bare - old.kept;
        replica.kept_over = over;
        self.settled(at);
        self.told(at);
        self.note_losses()
    }

    /// Settles what waits beside a replica, once every other member has brought it up.
    pub(super) fn settle_kept(&mut self, at: u8) -> Result<(), Violation> {
        if !self.replicas[usize::from(at)].whole {
            return Ok(());
        }
        for dot in self.replicas[usize::from(at)].kept {
            let replica = &mut self.replicas[usize::from(at)];
            if replica.clock.has(dot) || replica.pending.has(dot) || self.truth.lost.has(dot) {
                self.counters.count(Event::KeptKnown);
                // Where it is pending, what superseded it is known, and it may be known to nobody itself.
                self.truth.rewritten |= Dots::one(dot);
                self.effect(Effect::LetGo { at, dot });
                self.replicas[usize::from(at)].kept -= Dots::one(dot);
                self.settled(at);
            } else if self.truth.has_room(1) {
                self.rewrite(at, dot)?;
            }
        }
        Ok(())
    }

    fn rewrite(&mut self, at: u8, dot: u8) -> Result<(), Violation> {
        let key = usize::from(self.truth.write(dot).key);
        let replica = &mut self.replicas[usize::from(at)];
        let mut context = Dots::one(dot);
        if replica.kept_known.has(dot) {
            context |= replica.kept_over[key];
        }
        replica.kept -= Dots::one(dot);
        self.truth.rewritten |= Dots::one(dot);
        self.promised -= Dots::one(dot);
        self.counters.count(Event::RewrittenWithoutContext);
        let cause = Cause::Rewrite(dot);
        self.make(
            at,
            Draft { key, tomb: false, cause, context, carried: context, expires: false },
        )?;
        Ok(())
    }

    /// All that waits beside members.
    pub(super) fn waiting(&self) -> Dots {
        let mut waiting = Dots::NONE;
        for at in 0..self.setting.replicas {
            if self.is_member(at as u8) {
                waiting |= self.replicas[at].kept;
            }
        }
        waiting
    }
}
