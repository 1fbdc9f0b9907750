//! Reads that wait for a confirmed index.
//!
//! All reads that arrive between two polls share one *round*: the leader confirms its leadership
//! once for them (Raft thesis section 6.4), a follower asks the leader once for them. A round that
//! is not answered in time, or that a change of leader voids, gives its reads back; they join a
//! new round under a new name, because a late answer to an old name must not confirm a new
//! question (etcd-io/raft#397).

use std::collections::{BTreeMap, BTreeSet};

use consensus::ReadId;
use proto::{LogIndex, NodeId};

use crate::node::{RequestId, Ticks};
use crate::replication::Read;

/// Ticks after which an unanswered round is given up and its reads join another one.
pub const ROUND_TICKS: u64 = 6;

/// Rounds that may be open at once; later reads wait and share the next one.
pub const ROUNDS_MAX: usize = 4;

/// Who waits for a confirmed index.
#[derive(Debug)]
pub enum Reader {
    /// A read of a client of this node.
    Local(Read),
    /// A replica that asked this one as the leader.
    Remote {
        /// The asking node.
        node: NodeId,
        /// Its name for the round.
        id: u64,
        /// Its boot.
        boot: u64,
    },
    /// The replica itself: it serves once everything committed before its start is applied.
    Startup,
    /// A node whose log is damaged, and that wants an export of everything that it may ever have
    /// acknowledged: what the leader's log held when it asked, once leadership is confirmed since.
    Repair {
        /// The damaged node.
        node: NodeId,
        /// Its name for the request.
        id: u64,
        /// Where the leader's log ended.
        at: LogIndex,
    },
}

/// Names a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Round {
    /// This replica leads and asked its followers.
    Led(ReadId),
    /// This replica asked the leader.
    Asked {
        /// Name of the question within this boot.
        id: u64,
    },
}

#[derive(Debug)]
struct Open {
    started: Ticks,
    /// The leader that was asked; `None` for a round of the leader's own.
    leader: Option<NodeId>,
    readers: Vec<Reader>,
}

/// The reads of one replica.
///
/// Invariants: a reader is in exactly one place: waiting, in one open round, or behind one
/// confirmed index. The reads of clients are in `alive` for as long as somebody waits for them; one
/// that is forgotten stays in its place and is dropped when it would leave it.
#[derive(Debug, Default)]
pub struct Reads {
    alive: BTreeSet<RequestId>,
    waiting: Vec<Reader>,
    rounds: BTreeMap<Round, Open>,
    confirmed: BTreeMap<LogIndex, Vec<Reader>>,
    next_question: u64,
}

impl Reads {
    /// A reader waits for the next round.
    pub fn wait(&mut self, reader: Reader) {
        if let Reader::Local(read) = &reader {
            self.alive.insert(read.id);
        }
        self.waiting.push(reader);
    }

    /// Whether somebody still waits for a reader that leaves its place for good.
    fn leaves(&mut self, reader: &Reader) -> bool {
        match reader {
            Reader::Local(read) => self.alive.remove(&read.id),
            Reader::Remote { .. } | Reader::Startup | Reader::Repair { .. } => true,
        }
    }

    /// Whether a new round has somebody to serve and room to start.
    #[must_use]
    pub fn wants_round(&self) -> bool {
        !self.waiting.is_empty() && self.rounds.len() < ROUNDS_MAX
    }

    /// A name for a question to the leader, never used before in this boot.
    pub fn next_question(&mut self) -> u64 {
        self.next_question += 1;
        self.next_question
    }

    /// Everybody who waits joins this new round.
    pub fn start(&mut self, round: Round, leader: Option<NodeId>, now: Ticks) {
        let readers = std::mem::take(&mut self.waiting);
        let open = Open { started: now, leader, readers };
        let older = self.rounds.insert(round, open);
        assert!(older.is_none(), "a round's name was used twice: {round:?}");
    }

    /// Takes those who wait and match, out of the waiting line only.
    pub fn take_waiting(&mut self, matches: impl Fn(&Reader) -> bool) -> Vec<Reader> {
        let (mut taken, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|r| matches(r));
        self.waiting = kept;
        taken.retain(|reader| self.leaves(reader));
        taken
    }

    /// The readers of a round that was answered by whom it asked; empty for an unknown round, such
    /// as one that was given up.
    pub fn finish(&mut self, round: Round, from: Option<NodeId>) -> Vec<Reader> {
        match self.rounds.get(&round) {
            Some(open) if open.leader == from => {}
            _ => return Vec::new(),
        }
        self.rounds.remove(&round).map(|open| open.readers).unwrap_or_default()
    }

    /// These readers may be answered once `index` is applied.
    pub fn confirm(&mut self, index: LogIndex, readers: Vec<Reader>) {
        if !readers.is_empty() {
            self.confirmed.entry(index).or_default().extend(readers);
        }
    }

    /// Takes the readers whose index is applied, in the order of their indexes.
    pub fn release(&mut self, applied: LogIndex) -> Vec<Reader> {
        let mut released = Vec::new();
        while let Some(entry) = self.confirmed.first_entry() {
            if *entry.key() > applied {
                break;
            }
            released.extend(entry.remove());
        }
        released.retain(|reader| self.leaves(reader));
        released
    }

    /// Gives up a round; its readers wait again.
    pub fn give_up(&mut self, round: Round) {
        if let Some(open) = self.rounds.remove(&round) {
            self.waiting.extend(open.readers);
        }
    }

    /// Gives up the rounds that are older than [`ROUND_TICKS`].
    pub fn give_up_old(&mut self, now: Ticks) {
        self.give_up_where(|open| now.0 >= open.started.0 + ROUND_TICKS);
    }

    /// Gives up every round: the leader or the term changed.
    pub fn give_up_all(&mut self) {
        self.give_up_where(|_| true);
    }

    fn give_up_where(&mut self, matches: impl Fn(&Open) -> bool) {
        let rounds: Vec<Round> =
            self.rounds.iter().filter(|(_, open)| matches(open)).map(|(round, _)| *round).collect();
        for round in rounds {
            self.give_up(round);
        }
    }

    /// The client no longer waits.
    pub fn forget(&mut self, id: RequestId) {
        self.alive.remove(&id);
    }

    /// Reads that wait, anywhere.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.waiting.len()
            + self.rounds.values().map(|open| open.readers.len()).sum::<usize>()
            + self.confirmed.values().map(Vec::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(id: u64) -> Reader {
        Reader::Remote { node: NodeId(1), id, boot: 0 }
    }

    #[test]
    fn a_late_answer_to_a_given_up_round_confirms_nothing() {
        let mut reads = Reads::default();
        reads.wait(remote(1));
        let first = Round::Asked { id: reads.next_question() };
        reads.start(first, Some(NodeId(9)), Ticks(0));
        reads.give_up_old(Ticks(ROUND_TICKS - 1));
        assert!(!reads.wants_round());
        reads.give_up_old(Ticks(ROUND_TICKS));
        assert!(reads.wants_round());
        let second = Round::Asked { id: reads.next_question() };
        reads.start(second, Some(NodeId(9)), Ticks(7));
        assert!(reads.finish(first, Some(NodeId(9))).is_empty());
        assert!(reads.finish(second, Some(NodeId(8))).is_empty(), "not the one that was asked");
        assert_eq!(reads.finish(second, Some(NodeId(9))).len(), 1);
    }

    #[test]
    fn readers_are_released_in_order_and_not_before_their_index() {
        let mut reads = Reads::default();
        reads.confirm(LogIndex(7), vec![remote(2)]);
        reads.confirm(LogIndex(5), vec![remote(1)]);
        assert!(reads.release(LogIndex(4)).is_empty());
        assert_eq!(reads.release(LogIndex(6)).len(), 1);
        assert_eq!(reads.pending(), 1);
        assert_eq!(reads.release(LogIndex(7)).len(), 1);
    }
}
