//! Writes: how one is made, and the ones that replicas make by themselves.

use super::super::operation::Basis;
use super::super::truth::Write;
use super::{
    Cause, Dot, Dots, Effect, Event, Follow, LIFETIME, Mutant, ROOM, Violation, World, latest, rank,
};

/// A write that is about to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    pub(super) key: usize,
    pub(super) tomb: bool,
    pub(super) cause: Cause,
    /// What it supersedes.
    pub(super) context: Dots,
    /// What it says that it supersedes.
    pub(super) carried: Dots,
    pub(super) expires: bool,
}

impl Draft {
    /// What a client writes.
    pub(super) fn of_client(
        key: usize,
        tomb: bool,
        basis: Basis,
        (context, carried): (Dots, Dots),
    ) -> Self {
        Self { key, tomb, cause: Cause::Client(basis), context, carried, expires: false }
    }
}

impl<F: Follow> World<F> {
    /// Makes a write at a replica: one dot, one record, durable there.
    pub(super) fn make(&mut self, at: u8, draft: Draft) -> Result<Option<Dot>, Violation> {
        if !self.truth.has_room(1) {
            return Ok(None);
        }
        let replica = &mut self.replicas[usize::from(at)];
        replica.counter += 1;
        if self.truth.is_made(replica.actor, replica.counter) {
            return Err(Violation::DotReused { at });
        }
        let clock = i32::from(self.now) + i32::from(self.setting.skew[usize::from(at)]) + 1000;
        let covered = draft.context.map(|dot| self.truth.write(dot).stamp).max().unwrap_or(0);
        let mut stamp = (clock.max(1) as u32).max(covered + 1).max(replica.hlc + 1);
        let mut rank = self.truth.count as Dot;
        let mut deadline = if draft.expires { self.now + LIFETIME } else { 0 };
        // The place among stamps of the write that it stands for, in place of a new one.
        let stands_for = match draft.cause {
            Cause::Client(_) | Cause::Again(_) => None,
            Cause::Collapse(_) if self.mutant == Some(Mutant::CollapseRankedAnew) => None,
            Cause::Collapse(dot) | Cause::Expiry(dot) | Cause::Rewrite(dot) => Some(dot),
        };
        if let Some(other) = stands_for.map(|dot| self.truth.write(dot)) {
            (stamp, rank) = (other.stamp, other.rank);
            deadline = if draft.tomb { 0 } else { other.deadline };
        }
        let dot = self.truth.note(Write {
            key: draft.key as u8,
            node: at,
            actor: replica.actor,
            counter: replica.counter,
            directory: replica.directory,
            tomb: draft.tomb,
            system: matches!(draft.cause, Cause::Collapse(_)),
            context: draft.context,
            carried: draft.carried,
            clock: replica.clock,
            stamp,
            rank,
            deadline,
        });
        if !(draft.context - replica.clock).is_empty() {
            self.counters.count(Event::PendingLeft);
        }
        replica.ids |= Dots::one(dot);
        self.effect(Effect::Made { at, dot, cause: draft.cause, now: self.now });
        self.replicas[usize::from(at)].apply(&self.truth, self.mutant, dot);
        if !matches!(draft.cause, Cause::Collapse(_)) {
            self.collapse(at, draft.key)?;
            self.settled(at);
        }
        Ok(Some(dot))
    }

    /// Whether a client's write may begin here.
    ///
    /// Where the last writer wins, not at a replica that lost its disk and has not had a session with
    /// one that did not: its stamps could be below that of a delete which everybody has forgotten.
    pub(super) fn takes_writes(&self, at: u8, key: u8) -> bool {
        if !self.is_member(at) || usize::from(key) >= self.setting.keys {
            return false;
        }
        let replica = &self.replicas[usize::from(at)];
        let is_late = self.is_lww(usize::from(key)) && replica.recovering && replica.trusted == 0;
        self.truth.has_room(ROOM) && (!is_late || self.mutant == Some(Mutant::LwwWritesAtOnce))
    }

    /// Writes the collapses that are due at a replica.
    pub(super) fn collapse_all(&mut self, at: u8) -> Result<(), Violation> {
        for key in 0..self.setting.keys {
            self.collapse(at, key)?;
        }
        Ok(())
    }

    /// Writes a collapse if it is due: where a certificate meets live siblings that have no later place,
    /// by (stamp, rank), they end. An equal place is that of a copy of what has expired. It belongs to
    /// the batch of what made it due.
    pub(super) fn collapse(&mut self, at: u8, key: usize) -> Result<(), Violation> {
        if !self.is_lww(key) || self.mutant == Some(Mutant::LwwWithoutCollapse) {
            return Ok(());
        }
        let replica = &self.replicas[usize::from(at)];
        let certificates =
            replica.stored & replica.contexts & self.truth.of_key[key] & self.truth.tombs;
        let Some(certificate) = latest(&self.truth, certificates) else { return Ok(()) };
        let mut losers = Dots::NONE;
        for sibling in replica.live(&self.truth, key) {
            if rank(&self.truth, sibling) <= rank(&self.truth, certificate) {
                losers |= Dots::one(sibling);
            }
        }
        if losers.is_empty() {
            return Ok(());
        }
        let mut context = losers | Dots::one(certificate);
        for dot in context & replica.contexts {
            context |= self.truth.write(dot).carried;
        }
        self.counters.count(Event::Collapsed);
        let cause = Cause::Collapse(certificate);
        let draft = Draft { key, tomb: true, cause, context, carried: context, expires: false };
        self.make(at, draft)?;
        Ok(())
    }

    /// Ends a value whose time is over: that value and what it had superseded, nothing else. The
    /// certificate has the place of the value, so that it wins over nothing that the value did not.
    pub(super) fn expire(&mut self, at: u8, pick: u8) -> Result<(), Violation> {
        if !self.takes_writes(at, 0) || self.replicas[usize::from(at)].recovering {
            return Ok(());
        }
        let replica = &self.replicas[usize::from(at)];
        let mut due = Dots::NONE;
        for dot in replica.stored - self.truth.tombs {
            let deadline = self.truth.write(dot).deadline;
            if deadline != 0 && deadline <= self.now {
                due |= Dots::one(dot);
            }
        }
        let Some(dot) = due.pick(pick) else { return Ok(()) };
        let write = *self.truth.write(dot);
        let key = usize::from(write.key);
        let siblings = replica.live(&self.truth, key);
        let own = Dots::one(dot);
        let context = if replica.contexts.has(dot) { own | write.carried } else { own };
        let carried = match self.mutant {
            Some(Mutant::ExpiryOfAll) => replica.effective(&self.truth, key),
            Some(Mutant::ExpiryOfOne) => own,
            _ => context,
        };
        self.counters.count(Event::Expired);
        if siblings.len() > 1 {
            self.counters.count(Event::ExpiredBesideOthers);
        }
        self.mail |= Dots::one(self.truth.count as Dot);
        let cause = Cause::Expiry(dot);
        self.make(at, Draft { key, tomb: true, cause, context, carried, expires: false })?;
        self.told(at);
        let ended = (siblings & carried) - own;
        match (ended - write.context).oldest() {
            Some(dot) => Err(Violation::ExpiredOther { at, dot }),
            None => Ok(()),
        }
    }

    /// Drops a certificate at any age. Where the last writer wins, only a stable one.
    pub(super) fn drop_certificate(&mut self, at: u8, pick: u8) -> Result<(), Violation> {
        if let Some((dot, stable)) = self.certificate(at, pick) {
            self.counters.count(Event::DroppedCertificate);
            self.effect(Effect::ForgotCertificate { at, dot, stable });
            self.replicas[usize::from(at)].drop_certificate(&self.truth, self.mutant, dot);
            self.settled(at);
        }
        Ok(())
    }

    /// Puts a certificate to sleep at any age.
    pub(super) fn put_to_sleep(&mut self, at: u8, pick: u8) -> Result<(), Violation> {
        if let Some((dot, stable)) = self.certificate(at, pick) {
            self.counters.count(Event::Slept);
            self.effect(Effect::Slept { at, dot, stable });
            self.replicas[usize::from(at)].put_to_sleep(&self.truth, self.mutant, dot);
            self.settled(at);
        }
        Ok(())
    }

    /// Drops the context of a live value at any age.
    pub(super) fn drop_context(&mut self, at: u8, pick: u8) -> Result<(), Violation> {
        if !self.is_member(at) {
            return Ok(());
        }
        let values = self.replicas[usize::from(at)].contexts - self.truth.tombs;
        if let Some(dot) = values.pick(pick) {
            self.counters.count(Event::DroppedContext);
            self.forget_context(at, dot);
        }
        Ok(())
    }

    /// Drops what every member has up to, in the order of each actor's writes.
    pub(super) fn drop_stable(&mut self, at: u8) -> Result<(), Violation> {
        if !self.is_member(at) {
            return Ok(());
        }
        let mut stable = self.stable();
        if !self.lww_may_forget() {
            for key in 0..self.setting.keys {
                if self.is_lww(key) {
                    stable -= self.truth.of_key[key] & self.truth.tombs;
                }
            }
        }
        for dot in self.replicas[usize::from(at)].contexts & stable {
            self.counters.count(Event::DroppedStable);
            if self.truth.tombs.has(dot) {
                let stable = self.lww_may_forget();
                self.effect(Effect::ForgotCertificate { at, dot, stable });
                self.replicas[usize::from(at)].drop_certificate(&self.truth, self.mutant, dot);
                self.settled(at);
            } else {
                self.forget_context(at, dot);
            }
        }
        Ok(())
    }

    fn forget_context(&mut self, at: u8, dot: Dot) {
        self.effect(Effect::ForgotContext { at, dot });
        self.replicas[usize::from(at)].drop_context(&self.truth, self.mutant, dot);
        self.settled(at);
    }

    /// A certificate that may go, and whether that is because it is stable.
    fn certificate(&mut self, at: u8, pick: u8) -> Option<(Dot, bool)> {
        if !self.is_member(at) {
            return None;
        }
        let replica = &self.replicas[usize::from(at)];
        let dot = (replica.stored & replica.contexts & self.truth.tombs).pick(pick)?;
        if !self.is_lww(usize::from(self.truth.write(dot).key)) {
            return Some((dot, false));
        }
        (self.stable().has(dot) && self.lww_may_forget()).then_some((dot, true))
    }

    /// Whether stable certificates may go where the last writer wins. A write that was on a lost disk
    /// only, and turns up again, would win over a delete that nobody remembers; so its actor has to
    /// be retired before.
    fn lww_may_forget(&self) -> bool {
        self.mutant == Some(Mutant::LwwStableOnly) || !self.retirement.has_orphans()
    }

    /// What all members have, each actor's writes up to the first that one of them lacks.
    fn stable(&mut self) -> Dots {
        let mut stable = self.truth.issued();
        for at in 0..self.setting.replicas {
            if self.is_member(at as u8) {
                self.told(at as u8);
                stable &= self.truth.base(self.replicas[at].clock);
            }
        }
        stable
    }
}
