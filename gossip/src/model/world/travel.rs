//! What travels between replicas: rumors and sessions.

use super::super::session::{Sent, Session};
use super::{Dot, Dots, Effect, Event, Follow, Mutant, SESSIONS, Violation, World};

/// Entries that travel at most, with the rule that only a broken variant follows.
const ENTRIES: usize = 16;

/// A key's entry with its sender's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EntryMessage {
    key: u8,
    stored: Dots,
    clock: Dots,
}

impl<F: Follow> World<F> {
    /// Sends one record that has its context. Nobody who is recovering passes on what is not new and
    /// his own.
    pub(super) fn send(&mut self, from: u8, pick: u8) -> Result<(), Violation> {
        if !self.is_member(from) {
            return Ok(());
        }
        let replica = self.replicas[usize::from(from)];
        let mut records = replica.stored & replica.contexts;
        if replica.recovering {
            records &= self.truth.of_actor(replica.actor);
        }
        let Some(dot) = records.pick(pick) else { return Ok(()) };
        self.mail |= Dots::one(dot);
        self.told(from);
        if self.mutant == Some(Mutant::SenderClockAsContext) {
            let key = self.truth.write(dot).key;
            let of_key = self.truth.of_key[usize::from(key)];
            if self.entries.len() == ENTRIES {
                self.entries.remove(0);
            }
            let (stored, clock) = (replica.stored & of_key, replica.clock & of_key);
            self.entries.push(EntryMessage { key, stored, clock });
        }
        Ok(())
    }

    /// Delivers one of all records that were ever sent.
    pub(super) fn deliver(&mut self, to: u8, pick: u8) -> Result<(), Violation> {
        if !self.is_member(to) {
            return Ok(());
        }
        if self.mutant == Some(Mutant::SenderClockAsContext) {
            if !self.entries.is_empty() {
                self.deliver_entry(to, self.entries[usize::from(pick) % self.entries.len()]);
            }
            return Ok(());
        }
        let Some(dot) = self.mail.pick(pick) else { return Ok(()) };
        let write = *self.truth.write(dot);
        let replica = self.replicas[usize::from(to)];
        if self.truth.lost.has(dot) || self.is_retiring(to, dot) {
            self.counters.count(Event::RefusedRetiring);
            return Ok(());
        }
        let had = replica.clock.has(dot) || replica.pending.has(dot);
        if had && !replica.stored.has(dot) {
            self.counters.count(Event::RefusedObsolete);
        }
        if !(replica.stored & write.carried).is_empty() {
            self.counters.count(Event::ContextOfOther);
        }
        self.effect(Effect::Applied { at: to, dot });
        self.apply(to, dot)?;
        self.wake(to, dot)?;
        self.settled(to);
        Ok(())
    }

    /// Wakes the certificates that cover an obsolete record which has arrived.
    fn wake(&mut self, at: u8, dot: Dot) -> Result<(), Violation> {
        if self.replicas[usize::from(at)].reactivate(&self.truth, dot) {
            self.counters.count(Event::Reactivated);
            self.effect(Effect::Woke { at, dot });
            self.collapse(at, usize::from(self.truth.write(dot).key))?;
        }
        Ok(())
    }

    fn deliver_entry(&mut self, to: u8, message: EntryMessage) {
        let replica = &mut self.replicas[usize::from(to)];
        let absent =
            (replica.live(&self.truth, usize::from(message.key)) & message.clock) - message.stored;
        replica.stored -= absent;
        replica.contexts -= absent;
        let new = message.stored - replica.clock - replica.pending;
        replica.stored |= new;
        replica.contexts |= new;
        replica.clock |= new;
        replica.pending = (replica.pending | message.clock) - replica.clock;
        self.settled(to);
    }

    /// Begins a session and returns its slot. Who holds a write that was declared lost is emptied
    /// instead.
    pub(super) fn begin(&mut self, from: u8, to: u8) -> Result<Option<usize>, Violation> {
        if from == to || !self.is_member(from) || !self.is_member(to) {
            return Ok(None);
        }
        for end in [from, to] {
            if !(self.replicas[usize::from(end)].clock & self.truth.lost).is_empty() {
                self.counters.count(Event::Emptied);
                self.start_over(end)?;
                return Ok(None);
            }
        }
        let Some(slot) = (0..SESSIONS).find(|&slot| !self.sessions[slot].is_open) else {
            return Ok(None);
        };
        if self.mutant == Some(Mutant::RollbackByHandshake) {
            self.notice_rollback(from, to);
            self.notice_rollback(to, from);
        }
        let sender = self.replicas[usize::from(from)];
        let receiver = &self.replicas[usize::from(to)];
        let session = Session::begin(from, to, &sender, receiver, self.setting.keys, self.mutant);
        let flagged = session.is_flagged;
        if flagged && self.mutant != Some(Mutant::DamagedLeafServed) {
            // What is pending goes first, of all keys.
            for key in 0..self.setting.keys {
                if !(sender.damaged_pending & self.truth.of_key[key]).is_empty() {
                    self.verify(from, key)?;
                    return Ok(None);
                }
            }
        }
        self.sessions[slot] = session;
        if flagged {
            self.counters.count(Event::SessionFlagged);
        }
        self.told(to);
        self.effect(Effect::Began { slot: slot as u8, from, to, flagged });
        Ok(Some(slot))
    }

    fn notice_rollback(&mut self, me: u8, peer: u8) {
        let known = self.replicas[usize::from(peer)].clock;
        let mine = &mut self.replicas[usize::from(me)];
        let highest = (self.truth.of_actor(mine.actor) & known)
            .map(|dot| self.truth.write(dot).counter)
            .max()
            .unwrap_or(0);
        if highest > mine.counter
            && let Some(actor) = self.truth.mint(me, 0)
        {
            mine.actor = actor;
            mine.counter = 0;
        }
    }

    /// Sends up to `count` things of a session.
    pub(super) fn stream(&mut self, slot: u8, count: u8, refuse: bool) -> Result<(), Violation> {
        let slot = usize::from(slot) % SESSIONS;
        for turn in 0..count {
            if !self.sessions[slot].is_open {
                return Ok(());
            }
            if self.stream_one(slot, refuse && turn == 0)? == Sent::Done {
                return Ok(());
            }
        }
        Ok(())
    }

    fn stream_one(&mut self, slot: usize, refuse: bool) -> Result<Sent, Violation> {
        let Session { from, to, .. } = self.sessions[slot];
        if self.mutant != Some(Mutant::DamagedLeafServed)
            && let Some(key) = self.sessions[slot].next_key(&self.truth)
            && !(self.verify(from, key)? && self.verify(to, key)?)
        {
            self.cut(slot);
            return Ok(Sent::Done);
        }
        let sender = self.replicas[usize::from(from)];
        let receiver = &self.replicas[usize::from(to)];
        let sent = self.sessions[slot].send(&self.truth, &sender, receiver, self.mutant);
        if sent == Sent::Done {
            return Ok(sent);
        }
        self.told(from);
        let records = match sent {
            Sent::Record(dot) => Dots::one(dot),
            Sent::Entry { records, .. } => records,
            Sent::Equal(_) | Sent::Done => Dots::NONE,
        };
        let refused = refuse && !records.is_empty();
        self.effect(Effect::Sent { slot: slot as u8, sent, refused });
        if refused {
            self.sessions[slot].refuse();
        } else {
            self.hand_over(to, records)?;
        }
        match sent {
            Sent::Record(dot) if !refused => self.wake(to, dot)?,
            Sent::Entry { key, vanished, .. } => {
                if vanished {
                    self.counters.count(Event::RecordVanished);
                }
                if self.mutant == Some(Mutant::DropsBeforeClose) {
                    let receiver = &mut self.replicas[usize::from(to)];
                    self.sessions[slot].drop_early(&self.truth, receiver, key);
                }
            }
            Sent::Equal(_) => self.counters.count(Event::WalkEqual),
            Sent::Record(_) | Sent::Done => {}
        }
        self.settled(to);
        Ok(sent)
    }

    /// Applies the records that a session brought at once.
    fn hand_over(&mut self, to: u8, mut records: Dots) -> Result<(), Violation> {
        while let Some(dot) = self.truth.first(records) {
            records -= Dots::one(dot);
            if !self.truth.lost.has(dot) {
                self.apply(to, dot)?;
            }
        }
        Ok(())
    }

    /// Closes a session if everything was sent; then the receiver knows what the sender knew.
    pub(super) fn close(&mut self, slot: u8) -> Result<(), Violation> {
        let slot = usize::from(slot) % SESSIONS;
        let mut session = self.sessions[slot];
        if !session.is_open {
            return Ok(());
        }
        let to = usize::from(session.to);
        let complete = session.is_complete(&self.truth, &self.replicas[to], self.setting.keys);
        self.sessions[slot] = session;
        if !complete {
            return Ok(());
        }
        if self.mutant != Some(Mutant::DamagedLeafServed) {
            for key in 0..self.setting.keys {
                let is_due = session.has_told(&self.truth, key)
                    || session.is_unsure(&self.truth, &self.replicas[to], key);
                if is_due && !self.verify(session.to, key)? {
                    self.cut(slot);
                    return Ok(());
                }
            }
        }
        self.sessions[slot].is_open = false;
        let sender = self.replicas[usize::from(session.from)];
        let is_spoiled = session.is_spoiled(&sender, self.mutant);
        let closed = !is_spoiled && !session.is_refused(self.mutant);
        self.told(session.from);
        self.effect(Effect::Ended { slot: slot as u8, closed });
        if !closed {
            let event = if is_spoiled { Event::SessionSpoiled } else { Event::SessionRefused };
            self.counters.count(event);
            return Ok(());
        }
        let receiver = &mut self.replicas[to];
        session.close(&self.truth, &sender, receiver, self.setting.keys, self.mutant);
        self.counters.count(Event::SessionClosed);
        self.note_heard(session.to, session.from, session.is_trusted);
        self.collapse_all(session.to)?;
        self.settled(session.to);
        self.settle_kept(session.to)
    }

    pub(super) fn abort(&mut self, slot: u8) -> Result<(), Violation> {
        self.cut(usize::from(slot) % SESSIONS);
        Ok(())
    }

    /// A session from beginning to end, with nothing in between.
    pub(super) fn whole_session(&mut self, from: u8, to: u8) -> Result<(), Violation> {
        if let Some(slot) = self.begin(from, to)? {
            while self.sessions[slot].is_open {
                while self.sessions[slot].is_open && self.stream_one(slot, false)? != Sent::Done {}
                self.close(slot as u8)?;
            }
        }
        Ok(())
    }

    /// Cuts off a session.
    pub(super) fn cut(&mut self, slot: usize) {
        self.sessions[slot].is_open = false;
        self.effect(Effect::Cut { slot: slot as u8 });
    }

    /// Cuts off all sessions of a replica whose process ended.
    pub(super) fn cut_sessions(&mut self, at: u8) {
        for slot in 0..SESSIONS {
            if self.sessions[slot].from == at || self.sessions[slot].to == at {
                self.cut(slot);
            }
        }
    }
}
