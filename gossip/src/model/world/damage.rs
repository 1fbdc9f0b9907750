//! Disks that lose a part, and what a replica does about it.

use super::writes::Draft;
use super::{Cause, Dots, Effect, Event, Follow, Violation, World};

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

    /// Loses the clock. It shows at once; without it no record can be judged, so the replica offers
    /// what it has and starts over.
    pub(super) fn lose_clock(&mut self, at: u8) -> Result<(), Violation> {
        if !self.is_member(at) || self.is_damaged(at) {
            return Ok(());
        }
        self.counters.count(Event::DamageFound);
        self.effect(Effect::Damaged { at });
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
        self.follow.effect(&self.truth, Effect::Damaged { at });
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

    /// Hands what can be read to a peer, and begins with an empty disk.
    ///
    /// A record with its context is a record as any. One without is written anew by the peer: over
    /// all that was known of its key where that is intact, else over nothing but itself. Then what it
    /// had superseded may stand beside it again, as a sibling; nothing is lost.
    pub(super) fn start_over(&mut self, at: u8) -> Result<(), Violation> {
        self.counters.count(Event::StartedOver);
        let replica = self.replicas[usize::from(at)];
        let peer = (1..self.setting.replicas as u8)
            .map(|step| (at + step) % self.setting.replicas as u8)
            .find(|&peer| self.is_member(peer) && !self.is_damaged(peer));
        if let Some(peer) = peer {
            for dot in replica.stored - self.truth.lost {
                if self.replicas[usize::from(peer)].clock.has(dot) {
                    continue;
                }
                if replica.contexts.has(dot) {
                    self.effect(Effect::Applied { at: peer, dot });
                    self.apply(peer, dot)?;
                    self.settled(peer);
                } else if !self.truth.tombs.has(dot) {
                    self.rewrite(at, peer, dot)?;
                }
            }
        }
        self.begin_empty(at)
    }

    fn rewrite(&mut self, at: u8, peer: u8, dot: u8) -> Result<(), Violation> {
        let replica = self.replicas[usize::from(at)];
        let write = *self.truth.write(dot);
        let key = usize::from(write.key);
        let damaged = (replica.damaged | replica.damaged_pending) & self.truth.of_key[key];
        let context = if damaged.is_empty() {
            (replica.effective(&self.truth, key) - replica.stored) | Dots::one(dot)
        } else {
            Dots::one(dot)
        };
        self.counters.count(Event::RewrittenWithoutContext);
        let cause = Cause::Rewrite(dot);
        let draft = Draft { key, tomb: false, cause, context, carried: context, expires: false };
        self.make(peer, draft)?;
        Ok(())
    }
}
