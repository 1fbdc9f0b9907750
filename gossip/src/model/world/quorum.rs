//! Quorum writes and reads, in configurations that change.

use super::clients::Token;
use super::{
    Basis, Dot, Dots, Effect, Event, Follow, Mutant, READS, REPLICAS_MAX, Violation, World,
    majority,
};

/// A quorum read that waits for answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct QuorumRead {
    is_open: bool,
    key: u8,
    epoch: u8,
    answered: u8,
    /// Live siblings, everything known of the key, and the whole clock, of each that answered.
    live: [Dots; REPLICAS_MAX],
    effective: [Dots; REPLICAS_MAX],
    /// Values that came with their context in one of the answers.
    records: Dots,
    clocks: Dots,
    /// Quorum writes that were acknowledged before it began.
    owed: Dots,
}

impl<F: Follow> World<F> {
    /// Writes at a coordinator and at those of `reach` that follow the same configuration. A majority
    /// of it acknowledges.
    pub(super) fn quorum_write(
        &mut self,
        at: u8,
        key: u8,
        delete: bool,
        basis: Basis,
        reach: u8,
    ) -> Result<(), Violation> {
        if !self.takes_writes(at, key) || !self.verify(at, usize::from(key))? {
            return Ok(());
        }
        let key = usize::from(key);
        let draft = self.draft(at, key, delete, basis);
        let Some(dot) = self.make(at, draft)? else { return Ok(()) };
        self.mail |= Dots::one(dot);
        self.told(at);
        let epoch = self.replicas[usize::from(at)].epoch;
        let members = self.members[usize::from(epoch)];
        let mut acks = 0u8;
        for target in 0..self.setting.replicas as u8 {
            if target != at && (reach & members & self.member_bits()) >> target & 1 == 0 {
                continue;
            }
            if self.replicas[usize::from(target)].epoch != epoch {
                self.counters.count(Event::EpochRefused);
                continue;
            }
            if target != at {
                self.effect(Effect::Applied { at: target, dot });
                self.apply(target, dot)?;
                self.settled(target);
                self.told(target);
            }
            acks |= 1 << target;
        }
        if (acks & members).count_ones() >= majority(members.count_ones()) {
            self.counters.count(Event::QuorumAcked);
            self.promised |= Dots::one(dot);
            self.note_losses()?;
        } else {
            self.counters.count(Event::QuorumPartial);
        }
        Ok(())
    }

    /// Begins a quorum read in the configuration that its coordinator follows.
    pub(super) fn quorum_read(&mut self, at: u8, key: u8, slot: u8) -> Result<(), Violation> {
        if self.is_member(at) && usize::from(key) < self.setting.keys {
            self.reads[usize::from(slot) % READS] = QuorumRead {
                is_open: true,
                key,
                epoch: self.replicas[usize::from(at)].epoch,
                owed: self.promised & self.truth.of_key[usize::from(key)],
                ..QuorumRead::default()
            };
            self.effect(Effect::Asked { slot: slot % READS as u8, key });
        }
        Ok(())
    }

    /// Takes an answer from a replica of the same configuration that is not recovering; a majority of
    /// answers ends the read.
    pub(super) fn quorum_reply(&mut self, slot: u8, from: u8) -> Result<(), Violation> {
        let slot = usize::from(slot) % READS;
        let read = self.reads[slot];
        if !read.is_open || !self.is_member(from) || read.answered >> from & 1 == 1 {
            return Ok(());
        }
        let members = self.members[usize::from(read.epoch)];
        let key = usize::from(read.key);
        if self.replicas[usize::from(from)].epoch != read.epoch || members >> from & 1 == 0 {
            self.counters.count(Event::EpochRefused);
            return Ok(());
        }
        if self.replicas[usize::from(from)].recovering || !self.verify(from, key)? {
            self.counters.count(Event::RecoveringRefused);
            return Ok(());
        }
        self.told(from);
        self.effect(Effect::Answered { slot: slot as u8, at: from });
        let replica = &self.replicas[usize::from(from)];
        let read = &mut self.reads[slot];
        read.live[usize::from(from)] = replica.live(&self.truth, key);
        read.effective[usize::from(from)] = replica.effective(&self.truth, key);
        read.records |= replica.live(&self.truth, key) & replica.contexts;
        read.clocks |= replica.clock & self.truth.of_key[key];
        read.answered |= 1 << from;
        if read.answered.count_ones() >= majority(members.count_ones()) {
            read.is_open = false;
            return self.finish_read(slot);
        }
        Ok(())
    }

    /// Joins the answers: a value stays if each that lacks it knows nothing of it.
    fn finish_read(&mut self, slot: usize) -> Result<(), Violation> {
        self.counters.count(Event::QuorumReadDone);
        let read = self.reads[slot];
        let mut union = Dots::NONE;
        let mut answer = Dots::NONE;
        for from in 0..REPLICAS_MAX {
            union |= read.effective[from];
            answer |= read.live[from];
        }
        for from in 0..REPLICAS_MAX {
            answer -= read.effective[from] - read.live[from];
        }
        let missed = (read.owed & self.promised) - read.clocks;
        if let Some(dot) = missed.oldest() {
            return Err(Violation::QuorumMissed { dot });
        }
        let gone = (read.clocks - answer) - self.truth.tombs - self.truth.lost;
        for dot in gone | answer {
            let is_superseded = !(self.truth.superseders(dot) & read.clocks).is_empty();
            if is_superseded == answer.has(dot) {
                return Err(Violation::QuorumAnswer { dot });
            }
        }
        self.tokens[slot] = Token { is_set: true, key: read.key, seen: union, carried: union };
        self.effect(Effect::Joined { slot: slot as u8, answer, seen: union });
        for dot in answer & read.records {
            for at in 0..REPLICAS_MAX {
                if read.answered >> at & 1 == 1 && !read.effective[at].has(dot) {
                    self.repair(slot as u8, at as u8, dot)?;
                }
            }
        }
        Ok(())
    }

    /// Sends a record to who answered without it. It comes out of an answer, maybe of somebody who has lost it since;
    /// so it is taken like any record from outside the group.
    fn repair(&mut self, slot: u8, at: u8, dot: Dot) -> Result<(), Violation> {
        if !self.is_member(at) || self.truth.lost.has(dot) {
            return Ok(());
        }
        if self.is_retiring(at, dot) && self.mutant != Some(Mutant::RepairOfRetiring) {
            self.counters.count(Event::RefusedRetiring);
            return Ok(());
        }
        self.effect(Effect::Repaired { slot, at, dot });
        self.apply(at, dot)?;
        self.settled(at);
        self.counters.count(Event::QuorumRepaired);
        Ok(())
    }
}
