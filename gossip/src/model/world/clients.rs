//! Clients: reads with tokens, writes over them, sessions, and writes that are repeated.

use super::writes::Draft;
use super::{Basis, Cause, Dot, Dots, Effect, Event, Follow, Mutant, Violation, World};

/// The context that a client got with a read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Token {
    pub(super) is_set: bool,
    pub(super) key: u8,
    /// What the read saw or knew to be obsolete.
    pub(super) seen: Dots,
    /// What the token says.
    pub(super) carried: Dots,
}

/// A client whose reads must not go back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Client {
    /// The join of the clocks that it saw.
    token: Dots,
    /// Values that were gone when it read their key.
    gone: Dots,
    /// Its own writes.
    own: Dots,
}

impl<F: Follow> World<F> {
    /// What a client's write here has as its context. Who has no token of the key takes what is held.
    pub(super) fn draft(&self, at: u8, key: usize, tomb: bool, basis: Basis) -> Draft {
        let local = self.replicas[usize::from(at)].effective(&self.truth, key);
        match basis {
            Basis::Local => Draft::of_client(key, tomb, Basis::Local, (local, local)),
            Basis::Empty => Draft::of_client(key, tomb, basis, (Dots::NONE, Dots::NONE)),
            Basis::Token(slot) => {
                let slot = slot % self.tokens.len() as u8;
                let token = self.tokens[usize::from(slot)];
                if token.is_set && usize::from(token.key) == key {
                    let basis = Basis::Token(slot);
                    Draft::of_client(key, tomb, basis, (token.seen, token.carried))
                } else {
                    Draft::of_client(key, tomb, Basis::Local, (local, local))
                }
            }
        }
    }

    pub(super) fn client_write(
        &mut self,
        at: u8,
        key: u8,
        delete: bool,
        expires: bool,
        mail: bool,
        basis: Basis,
    ) -> Result<(), Violation> {
        if !self.takes_writes(at, key) || !self.verify(at, usize::from(key))? {
            return Ok(());
        }
        let key = usize::from(key);
        let draft = Draft { expires: expires && !delete, ..self.draft(at, key, delete, basis) };
        if let Some(dot) = self.make(at, draft)?
            && mail
        {
            self.mail |= Dots::one(dot);
            self.told(at);
        }
        Ok(())
    }

    pub(super) fn client_read(&mut self, at: u8, key: u8, slot: u8) -> Result<(), Violation> {
        if !self.is_member(at) || usize::from(key) >= self.setting.keys {
            return Ok(());
        }
        if self.replicas[usize::from(at)].recovering {
            self.counters.count(Event::RecoveringRefused);
            return Ok(());
        }
        if !self.verify(at, usize::from(key))? {
            return Ok(());
        }
        let token = self.token_of(at, usize::from(key));
        let slot = slot % self.tokens.len() as u8;
        self.tokens[usize::from(slot)] = token;
        self.told(at);
        self.effect(Effect::Read { at, key, slot });
        Ok(())
    }

    fn token_of(&self, at: u8, key: usize) -> Token {
        let replica = &self.replicas[usize::from(at)];
        let seen = replica.effective(&self.truth, key);
        let of_key = self.truth.of_key[key];
        let carried = match self.mutant {
            Some(Mutant::TokenOfSiblings) => replica.stored & of_key,
            Some(Mutant::TokenWithoutExceptions) => {
                (self.truth.base(replica.clock) | replica.stored) & of_key
            }
            Some(Mutant::ClockAsToken) => replica.clock & of_key,
            _ => seen,
        };
        Token { is_set: true, key: key as u8, seen, carried }
    }

    /// Serves a read of a session, if the clock covers its token, and holds it against what the
    /// session saw before.
    pub(super) fn session_read(&mut self, client: u8, at: u8, key: u8) -> Result<(), Violation> {
        if !self.may_serve(client, at, key)? {
            return Ok(());
        }
        let replica = &self.replicas[usize::from(at)];
        let state = &mut self.clients[usize::from(client)];
        let key = usize::from(key);
        let live = replica.live(&self.truth, key);
        let own_missing = ((state.own & self.truth.of_key[key]) - live - self.truth.tombs)
            .any(|dot| (self.truth.superseders(dot) & replica.clock).is_empty());
        if !(live & state.gone).is_empty() || own_missing {
            return Err(Violation::SessionBackwards { client, at });
        }
        state.gone |= (replica.clock & self.truth.of_key[key]) - live - self.truth.tombs;
        state.token |= replica.clock;
        self.effect(Effect::Saw { client, at, own: None });
        Ok(())
    }

    /// Executes a write of a session, if the clock covers its token, over what the replica holds.
    pub(super) fn session_write(
        &mut self,
        client: u8,
        at: u8,
        key: u8,
        delete: bool,
    ) -> Result<(), Violation> {
        if !self.takes_writes(at, key) || !self.may_serve(client, at, key)? {
            return Ok(());
        }
        let key = usize::from(key);
        let draft = self.draft(at, key, delete, Basis::Local);
        if let Some(dot) = self.make(at, draft)? {
            self.told(at);
            let number = client;
            let client = &mut self.clients[usize::from(number)];
            client.own |= Dots::one(dot);
            client.token |= Dots::one(dot);
            self.effect(Effect::Saw { client: number, at, own: Some(dot) });
        }
        Ok(())
    }

    fn may_serve(&mut self, client: u8, at: u8, key: u8) -> Result<bool, Violation> {
        let exists =
            usize::from(client) < self.clients.len() && usize::from(key) < self.setting.keys;
        if !exists || !self.is_member(at) {
            return Ok(false);
        }
        let token = self.clients[usize::from(client)].token;
        if !(token & self.truth.lost).is_empty() {
            // What the session saw is declared lost. It is told so, and begins anew.
            self.counters.count(Event::SessionLost);
            self.clients[usize::from(client)] = Client::default();
            return Ok(false);
        }
        let covered = token.within(self.replicas[usize::from(at)].clock);
        self.effect(Effect::Session { client, at, seen: token, covered });
        if self.replicas[usize::from(at)].recovering || !covered {
            self.counters.count(Event::SessionNotYet);
            return Ok(false);
        }
        if !self.verify(at, usize::from(key))? {
            return Ok(false);
        }
        self.counters.count(Event::SessionServed);
        self.told(at);
        Ok(true)
    }

    /// Repeats a write whose answer did not arrive. Where it was first taken, its id is known;
    /// elsewhere, if at all, it is a blind sibling.
    pub(super) fn retry(&mut self, pick: u8, at: u8) -> Result<(), Violation> {
        let Some(first) = self.truth.issued().pick(pick) else { return Ok(()) };
        let write = *self.truth.write(first);
        if write.system || !self.takes_writes(at, write.key) {
            return Ok(());
        }
        let key = usize::from(write.key);
        let replica = &self.replicas[usize::from(at)];
        let mut basis = Basis::Empty;
        if write.node == at {
            if replica.directory == write.directory {
                return self.retry_here(at, first);
            }
            if self.mutant != Some(Mutant::RetryAfterLoss) {
                self.counters.count(Event::RetryUnknown);
                return Ok(());
            }
            basis = Basis::Local;
        } else if self.mutant == Some(Mutant::RetryElsewhere) {
            basis = Basis::Local;
        }
        let draft = self.draft(at, key, write.tomb, basis);
        if !(draft.context & self.truth.superseders(first)).is_empty() {
            return Err(Violation::RetriedOver { dot: first });
        }
        self.counters.count(Event::RetriedElsewhere);
        self.make(at, draft)?;
        self.told(at);
        Ok(())
    }

    /// Repeats a write where it was first taken. The id is known there, unless the write went with the
    /// last batches and nobody had heard of it; then it is taken as if for the first time.
    fn retry_here(&mut self, at: u8, first: Dot) -> Result<(), Violation> {
        if self.replicas[usize::from(at)].ids.has(first) {
            self.counters.count(Event::RetriedHere);
            self.told(at);
            return Ok(());
        }
        assert!(
            self.truth.excused.has(first),
            "the directory that took write {first} knows its id"
        );
        self.counters.count(Event::RetriedAfterCrash);
        let write = *self.truth.write(first);
        let (key, tomb) = (usize::from(write.key), write.tomb);
        let (context, carried) = (write.context, write.carried);
        let cause = Cause::Again(first);
        self.make(at, Draft { key, tomb, cause, context, carried, expires: false })?;
        self.told(at);
        Ok(())
    }
}
