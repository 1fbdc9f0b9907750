//! Fresh writes on their way to the others.
//!
//! A rumor is lost with its message, and nobody repeats it: what it would have told comes with the next exchange.
//! In groups of up to [`MAILED_MEMBERS_MAX`] members every write is mailed to all of them; in larger ones each batch is pushed
//! to one random member a turn, until [`KNEW_MAX`] of those that were told knew all of it already (Demers and
//! others: push, feedback, counter).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proto::NodeId;
use rand::RngExt;

use super::message::Message;
use super::{Ahead, Group, MAILED_MEMBERS_MAX, RUMOR_BYTES, RUMOR_BYTES_MAX, offer};
use crate::batch;
use crate::dot::Dot;
use crate::hlc::Seen;
use crate::record::Record;

/// Members that knew a batch already after which nobody is told any more.
const KNEW_MAX: u32 = 3;

/// Batches that one turn pushes, newest first.
const PUSHED_MAX: usize = 16;

/// Batches that are hot. Older ones give way.
const HOT_MAX: usize = 256;

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Rumors {
    /// Not sent to anybody yet.
    fresh: Vec<Record>,
    /// Batches that are pushed, newest first.
    hot: VecDeque<Hot>,
    next_id: u64,
    /// Dots that a peer makes durable, by the message that told it of them.
    told: BTreeMap<(NodeId, u64), Vec<Dot>>,
}

/// What is pushed to one member after the other.
#[derive(Debug)]
struct Hot {
    telling: Telling,
    dots: Vec<Dot>,
    knew: u32,
}

/// Fresh writes in their bytes.
#[derive(Clone, Debug)]
enum Telling {
    Whole(Bytes),
    Offered(Bytes),
}

impl Telling {
    fn message(self, id: u64) -> Message {
        match self {
            Self::Whole(batch) => Message::Rumor { id, batch },
            Self::Offered(batch) => Message::Offer { id, batch },
        }
    }
}

impl Rumors {
    /// Names messages from this number on.
    pub(super) fn starting(next_id: u64) -> Self {
        Self { next_id, ..Self::default() }
    }

    pub(super) fn add(&mut self, record: Record) {
        self.fresh.push(record);
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Nothing that was told before is waited for.
    pub(super) fn forget(&mut self, is_waited: impl Fn(Dot) -> bool) {
        self.told.retain(|_, dots| dots.iter().any(|dot| is_waited(*dot)));
    }
}

impl Group {
    /// Sends what is fresh.
    pub(super) fn mail(&mut self) {
        let fresh = std::mem::take(&mut self.rumors.fresh);
        let through = self.folds_everywhere();
        let (large, fresh): (Vec<Record>, Vec<Record>) =
            fresh.into_iter().partition(offer::is_large);
        for record in &large {
            let offer = offer::encode(record, through);
            self.spread_batch(Telling::Offered(offer), vec![record.dot]);
        }
        let (mut left, mut bytes) = (&fresh[..], 0);
        while !left.is_empty() {
            let (batch, count) = batch::encode(left, RUMOR_BYTES, through);
            let (told, rest) = left.split_at(count);
            left = rest;
            bytes += batch.len();
            if bytes > RUMOR_BYTES_MAX {
                self.counts.rumors_left += told.len() as u64 + left.len() as u64;
                break;
            }
            let dots: Vec<Dot> = told.iter().map(|record| record.dot).collect();
            self.spread_batch(Telling::Whole(batch.into()), dots);
        }
    }

    fn spread_batch(&mut self, telling: Telling, dots: Vec<Dot>) {
        let is_waited = dots.iter().any(|dot| self.acks.waits(*dot));
        if self.size() > MAILED_MEMBERS_MAX && !is_waited {
            self.rumors.hot.push_front(Hot { telling, dots, knew: 0 });
            if let Some(left) = self.rumors.hot.get(HOT_MAX) {
                self.counts.rumors_left += left.dots.len() as u64;
                self.rumors.hot.truncate(HOT_MAX);
            }
            return;
        }
        let peers: Vec<NodeId> = self.linked().collect();
        for peer in peers {
            let mut id = 0;
            if is_waited {
                id = self.rumors.next_id();
                self.rumors.told.insert((peer, id), dots.clone());
            }
            self.send(peer, telling.clone().message(id));
        }
    }

    /// Tells one random member of everything that is hot.
    pub(super) fn push(&mut self) {
        if self.size() <= MAILED_MEMBERS_MAX {
            return;
        }
        let peers: Vec<NodeId> = self.linked().collect();
        if peers.is_empty() || self.rumors.hot.is_empty() {
            return;
        }
        let peer = peers[self.rng.random_range(0..peers.len())];
        let member = self.members.get(&peer).expect("a linked member is a member");
        for hot in self.rumors.hot.iter_mut().take(PUSHED_MAX) {
            // As far as it is known here, without asking.
            let knew = hot.dots.iter().all(|dot| member.clock.contains(*dot));
            hot.knew += u32::from(knew);
            if !knew {
                self.sends.push((peer, hot.telling.clone().message(0)));
            }
        }
        self.rumors.hot.retain(|hot| hot.knew < KNEW_MAX);
    }

    pub(super) fn rumor(&mut self, from: NodeId, id: u64, batch: &[u8]) {
        let Ok(records) = batch::decode(batch, self.replica.state().folds()) else {
            self.counts.malformed += 1;
            return;
        };
        let mut is_stored = true;
        for record in &records {
            is_stored &= self.apply(record);
        }
        if id != 0 && is_stored {
            let epoch = self.configuration.epoch;
            self.send(from, Message::Stored { id, epoch });
        }
    }

    /// Takes note of the stamp of a record of a peer, which is about to be applied. One that is far ahead is counted
    /// and does not move the clock; the record is stored as it is.
    pub(super) fn note_stamp(&mut self, record: &Record) {
        let seen = self.hlc.see(self.wall_ms, record.stamp);
        let is_new = !self.replica.state().clock().contains(record.dot);
        if let (Seen::Ahead { by_ms }, true) = (seen, is_new) {
            self.counts.ahead += 1;
            self.ahead = Some(Ahead { actor: record.dot.actor, by_ms, at_ms: self.now_ms });
        }
    }

    /// Applies a record of a peer; false if that could not be done.
    pub(super) fn apply(&mut self, record: &Record) -> bool {
        use crate::replica::{NotApplied, Outcome};

        self.note_stamp(record);
        match self.replica.apply_mailed(record) {
            Ok(applied) => {
                match applied.outcome {
                    Outcome::Stored => {
                        self.counts.stored += 1;
                        if self.size() > MAILED_MEMBERS_MAX {
                            self.rumors.add(record.clone());
                        }
                    }
                    _ => self.counts.known += 1,
                }
                self.spread(applied.collapse);
                self.offer_done(record.dot);
                true
            }
            Err(NotApplied::Retiring) => {
                self.counts.retiring += 1;
                false
            }
            Err(why) => {
                self.counts.not_applied += 1;
                if why == NotApplied::OwnActorAhead {
                    self.mint();
                }
                false
            }
        }
    }

    pub(super) fn stored(&mut self, from: NodeId, id: u64, epoch: u64) {
        let Some(dots) = self.rumors.told.remove(&(from, id)) else { return };
        for dot in dots {
            self.acks.durable(dot, from, epoch);
        }
        self.settle_acks();
    }
}
