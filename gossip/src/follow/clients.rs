//! What clients carry: tokens of keys, tokens of sessions, and reads that ask several replicas.

use std::sync::Arc;

use super::follower::{Checked, EPOCH, Follower};
use crate::clock::{Clock, FoldNumber};
use crate::model;
use crate::model::dots::{self, Dots};
use crate::model::truth::Truth;
use crate::position::Leaving;
use crate::quorum::{self, Answer, Joined};
use crate::replica::Basis;
use crate::token::{self, Reach, Token, TokenScope};

/// A quorum read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) key: u8,
    pub(super) answers: Vec<(u8, Answer)>,
    pub(super) joined: Option<Joined>,
}

impl Follower {
    pub(super) fn basis(
        &self,
        truth: &Truth,
        at: u8,
        dot: dots::Dot,
        basis: model::Basis,
    ) -> Checked<Basis> {
        Ok(match basis {
            model::Basis::Local => Basis::Held,
            model::Basis::Empty => Basis::Nothing,
            model::Basis::Token(slot) => {
                let bytes = self.tokens[usize::from(slot)].as_ref();
                let bytes = bytes.expect("the model has a token in this slot");
                let token = self.scope(at).verify(self.names.key_of(truth, dot), bytes);
                let refused = |error| self.comparison(truth, at).difference("token", error);
                let Token { context, stamp } = token.map_err(refused)?;
                Basis::Seen { context, stamp }
            }
        })
    }

    /// What the client of a write had seen.
    pub(super) fn seen_by(&self, truth: &Truth, at: u8, first: dots::Dot) -> Checked<Basis> {
        let record = self.record(truth, at, first)?;
        let context = Arc::new(record.context.to_clock());
        Ok(Basis::Seen { context, stamp: record.stamp })
    }

    fn scope(&self, at: u8) -> TokenScope<'_> {
        let folds = self.nodes[usize::from(at)].replica.state().folds();
        TokenScope {
            keys: &self.keys,
            names: &self.actors,
            folds,
            folds_everywhere: FoldNumber::NONE,
            epoch: EPOCH,
        }
    }

    pub(super) fn read(&mut self, truth: &Truth, at: u8, key: u8, slot: u8) -> Checked<()> {
        let key = &self.names.keys()[usize::from(key)];
        let node = &mut self.nodes[usize::from(at)];
        let token = node.replica.token(key);
        let token = node.let_out(token);
        let bytes = self.scope(at).issue(key, &token);
        let refused = |error| self.comparison(truth, at).difference("token", error);
        self.tokens[usize::from(slot)] = Some(bytes.map_err(refused)?);
        Ok(())
    }

    /// What the session token of a client says at a replica.
    fn session_seen(&self, truth: &Truth, client: u8, at: u8) -> Checked<Clock> {
        match &self.clients[usize::from(client)] {
            None => Ok(Clock::default()),
            Some(bytes) => {
                let refused = |error| self.comparison(truth, at).difference("session token", error);
                self.scope(at).verify_session(bytes).map_err(refused)
            }
        }
    }

    pub(super) fn ask(
        &self,
        truth: &Truth,
        client: u8,
        at: u8,
        seen: Dots,
        covered: bool,
    ) -> Checked<()> {
        let comparison = self.comparison(truth, at);
        let clock = self.session_seen(truth, client, at)?;
        comparison.same("session token", &comparison.set("session token", &clock)?, &seen)?;
        let reached = token::reach(&self.nodes[usize::from(at)].replica, &clock);
        comparison.same("reach of a session", &(reached == Reach::Covered), &covered)
    }

    pub(super) fn saw(
        &mut self,
        truth: &Truth,
        client: u8,
        at: u8,
        own: Option<dots::Dot>,
    ) -> Checked<()> {
        let mut clock = self.session_seen(truth, client, at)?;
        match own {
            Some(dot) => {
                clock.add(self.names.dot(dot));
            }
            None => {
                let node = &mut self.nodes[usize::from(at)];
                clock.join(node.replica.state().clock());
                let after = node.replica.position();
                node.let_out(Leaving { after, what: () });
            }
        }
        let refused = |error| self.comparison(truth, at).difference("session token", error);
        let bytes = self.scope(at).issue_session(&clock).map_err(refused)?;
        self.clients[usize::from(client)] = Some(bytes);
        Ok(())
    }

    /// Joins the answers of a read, and keeps its token for the client.
    pub(super) fn join(
        &mut self,
        truth: &Truth,
        slot: u8,
        answer: Dots,
        seen: Dots,
    ) -> Checked<()> {
        let read = &self.reads[usize::from(slot)];
        let (at, _) = read.answers.last().expect("a read that is joined was answered");
        let comparison = self.comparison(truth, *at);
        let answers: Vec<Answer> = read.answers.iter().map(|(_, answer)| answer.clone()).collect();
        let joined = quorum::join(&answers);
        let live = comparison.set("quorum read", &joined.live.keys().copied().collect())?;
        comparison.same("quorum read", &live, &answer)?;
        let context = comparison.set("token of a quorum read", &joined.seen.context)?;
        let of_key = truth.of_key[usize::from(read.key)];
        comparison.same("token of a quorum read", &(context & of_key), &seen)?;
        let key = &self.names.keys()[usize::from(read.key)];
        let token = self.scope(*at).issue(key, &joined.seen);
        let token = token.map_err(|error| comparison.difference("token", error))?;
        self.tokens[usize::from(slot)] = Some(token);
        self.reads[usize::from(slot)].joined = Some(joined);
        Ok(())
    }

    /// A replica gets what it lacked in its answer.
    pub(super) fn repair(
        &mut self,
        truth: &Truth,
        slot: u8,
        at: u8,
        dot: dots::Dot,
    ) -> Checked<()> {
        let read = &self.reads[usize::from(slot)];
        let name = self.names.dot(dot);
        let key = self.names.key_of(truth, dot);
        let answer = read.answers.iter().find(|(from, _)| *from == at);
        let lacking = read.joined.iter().zip(answer);
        let mut lacking = lacking.flat_map(|(joined, (_, answer))| joined.lacking(key, answer));
        if !lacking.any(|record| record.dot == name) {
            return Err(self.comparison(truth, at).difference("repair of the model", name));
        }
        self.apply(truth, at, dot)
    }
}
