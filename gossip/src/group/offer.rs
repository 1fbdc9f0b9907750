//! Large values on their way to the others: offered, and fetched once.
//!
//! A value above [`OFFERED_BYTES`] does not go out with the rumor of its write. What goes is an offer: the record with nothing for
//! its value. Who knows the write already applies it as it is, since only what it superseded matters then; who does not
//! asks one of those who offered it, [`FETCHES_MAX`] at a time, and the value comes in a rumor. One that does not come
//! within [`FETCH_SILENT_MS`] is asked of another one who offered it, or left to exchanges.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use proto::NodeId;

use super::Group;
use super::message::Message;
use super::reads::TOLD_BYTES_MAX;
use crate::batch;
use crate::clock::FoldNumber;
use crate::dot::Dot;
use crate::record::{Body, Record};
use crate::replica::Standing;

/// Values up to this length go out with their rumors.
pub const OFFERED_BYTES: usize = 16 * 1024;

/// Values that are asked for and have not come.
pub const FETCHES_MAX: usize = 16;

/// Offers that wait. What does not fit is left to exchanges.
pub const OFFERS_MAX: usize = 4_096;

/// Milliseconds after which a value that has not come is asked of another one.
const FETCH_SILENT_MS: u64 = 2_000;

/// Offered writes that are not known here.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Who offered them, with the names of their messages; the first is asked.
    open: BTreeMap<Dot, VecDeque<(NodeId, u64)>>,
    /// Since when they are asked for.
    asked: BTreeMap<Dot, u64>,
    /// Those that are not asked for yet, oldest first, and some that are not open any more.
    queue: VecDeque<Dot>,
}

/// Whether only an offer of the record goes out.
pub(super) fn is_large(record: &Record) -> bool {
    record.body.value_bytes() > OFFERED_BYTES
}

/// The bytes of an offer, for those who know the folds up to `through`.
pub(super) fn encode(record: &Record, through: FoldNumber) -> Bytes {
    let offer = Record { body: Body::Value(Bytes::new()), ..record.clone() };
    batch::encode(&[offer], usize::MAX, through).0.into()
}

impl Group {
    /// A peer offers a write.
    pub(super) fn offered(&mut self, from: NodeId, id: u64, offer: &[u8]) {
        let folds = self.replica.state().folds();
        let offer = batch::decode(offer, folds).ok().and_then(only);
        let Some(offer) = offer else {
            self.counts.malformed += 1;
            return;
        };
        if self.replica.is_retiring(offer.dot) {
            // Its value would come for nothing.
            self.counts.retiring += 1;
            return;
        }
        let is_open = matches!(self.replica.keyspace(offer.key.keyspace), Some(Standing::Open(_)));
        if is_open && !self.replica.state().knows(&offer.key, offer.dot) {
            return self.want(offer.dot, from, id);
        }
        // Its value would not be stored.
        if self.apply(&offer) && id != 0 {
            let epoch = self.configuration.epoch;
            self.send(from, Message::Stored { id, epoch });
        }
    }

    fn want(&mut self, dot: Dot, from: NodeId, id: u64) {
        if let Some(sources) = self.offers.open.get_mut(&dot) {
            if !sources.iter().any(|(node, _)| *node == from) {
                sources.push_back((from, id));
            }
        } else if self.offers.open.len() < OFFERS_MAX {
            self.offers.open.insert(dot, [(from, id)].into());
            self.offers.queue.push_back(dot);
            self.fetch_more();
        } else {
            self.counts.offers_left += 1;
        }
    }

    /// Asks for values as long as few have not come.
    fn fetch_more(&mut self) {
        while self.offers.asked.len() < FETCHES_MAX
            && let Some(dot) = self.offers.queue.pop_front()
        {
            let Some((source, _)) = self.offers.open.get(&dot).and_then(|all| all.front()).copied()
            else {
                continue;
            };
            if self.replica.state().clock().contains(dot) {
                // It came by an exchange, and the clock says so.
                self.offers.open.remove(&dot);
                continue;
            }
            self.offers.asked.insert(dot, self.now_ms);
            self.send(source, Message::Fetch { dot });
        }
    }

    /// A peer asks for what was offered to it.
    pub(super) fn fetched(&mut self, by: NodeId, dot: Dot) {
        if self.reads.told_bytes > TOLD_BYTES_MAX {
            // It asks somebody else, or has it by an exchange.
            return;
        }
        let state = self.replica.state();
        let stored = state.key_of(dot).and_then(|key| {
            let sibling = state.entry(key)?.siblings().get(&dot)?;
            sibling.record(key, dot)
        });
        // What was superseded since, or is everywhere, comes by exchanges.
        let Some(record) = stored else { return };
        let through = self.folds_at(by);
        let (batch, _) = batch::encode(&[record], usize::MAX, through);
        self.reads.told_bytes += batch.len();
        self.send(by, Message::Rumor { id: 0, batch: batch.into() });
    }

    /// A write was applied: whoever offered it and waits hears of it.
    pub(super) fn offer_done(&mut self, dot: Dot) {
        let Some(sources) = self.offers.open.remove(&dot) else { return };
        self.counts.fetched += u64::from(self.offers.asked.remove(&dot).is_some());
        let epoch = self.configuration.epoch;
        for (node, id) in sources.into_iter().filter(|(_, id)| *id != 0) {
            self.send(node, Message::Stored { id, epoch });
        }
        self.fetch_more();
    }

    /// Asks others for what did not come, where there are others.
    pub(super) fn fetch_elsewhere(&mut self) {
        let since_ms = self.now_ms.saturating_sub(FETCH_SILENT_MS);
        let silent = self.offers.asked.iter().filter(|(_, asked_ms)| **asked_ms < since_ms);
        let silent: BTreeSet<Dot> = silent.map(|(dot, _)| *dot).collect();
        for dot in silent {
            self.offers.asked.remove(&dot);
            let Some(sources) = self.offers.open.get_mut(&dot) else { continue };
            sources.pop_front();
            // It may have come by an exchange meanwhile.
            if sources.is_empty() || self.replica.state().clock().contains(dot) {
                self.offers.open.remove(&dot);
                self.counts.offers_left += 1;
            } else {
                self.offers.queue.push_front(dot);
            }
        }
        self.fetch_more();
    }
}

/// The record of an offer: one, with nothing for its value.
fn only(mut records: Vec<Record>) -> Option<Record> {
    let record = records.pop().filter(|_| records.is_empty())?;
    let is_bare = matches!(&record.body, Body::Value(value) if value.is_empty());
    is_bare.then_some(record)
}
