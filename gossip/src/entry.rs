//! What a replica stores of one key.

mod codec;

pub(crate) use codec::{nowhere, put_sibling, read_sibling};

use std::collections::BTreeMap;

use crate::clock::Clock;
use crate::context::Context;
use crate::dot::Dot;
use crate::hlc::Stamp;
use crate::record::{Body, EntryKey, Record};

/// One write as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The stamp of the write.
    pub stamp: Stamp,
    /// The dot that decides between equal stamps: the write's own, or the rank of the write that it stands for.
    pub rank: Dot,
    /// What was put.
    pub body: Body,
    /// From this time on reads hide the value.
    pub deadline: Option<Stamp>,
    /// What the write superseded; `None` once that was dropped.
    pub context: Option<Context>,
}

impl Sibling {
    /// The place among the writes of a key where the last writer wins. Who stands for another write has the
    /// place of that one: a collapse that of its certificate, the end of an expired value that of the value.
    #[must_use]
    pub const fn place(&self) -> (Stamp, Dot) {
        (self.stamp, self.rank)
    }

    /// A value, expired or not; certificates are not live.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        !self.body.is_certificate()
    }

    /// A value that reads show at that time.
    #[must_use]
    pub fn is_shown(&self, now: Stamp) -> bool {
        self.is_live() && self.deadline.is_none_or(|deadline| now < deadline)
    }

    /// When a value ends, if ever.
    #[must_use]
    pub fn ends(&self) -> Option<Stamp> {
        self.deadline.filter(|_| self.is_live())
    }

    /// The write as a record, unless its context was dropped.
    #[must_use]
    pub fn record(&self, key: &EntryKey, dot: Dot) -> Option<Record> {
        Some(Record {
            key: key.clone(),
            dot,
            stamp: self.stamp,
            rank: self.rank,
            body: self.body.clone(),
            deadline: self.deadline,
            context: self.context.clone()?,
        })
    }
}

/// What a replica stores of one key.
///
/// Writes that superseded each other are never both here: what is here are siblings, and certificates
/// of deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    siblings: BTreeMap<Dot, Sibling>,
    dormant: BTreeMap<Dot, Sibling>,
    pending: Clock,
    stamp: Stamp,
}

impl Entry {
    /// Values and certificates, in the order of their dots.
    #[must_use]
    pub const fn siblings(&self) -> &BTreeMap<Dot, Sibling> {
        &self.siblings
    }

    /// Certificates that sleep, in the order of their dots. They are no siblings.
    #[must_use]
    pub const fn dormant(&self) -> &BTreeMap<Dot, Sibling> {
        &self.dormant
    }

    /// The values, in the order of their dots; also those that expired.
    pub fn live(&self) -> impl Iterator<Item = (Dot, &Sibling)> {
        self.siblings.iter().filter(|(_, sibling)| sibling.is_live()).map(|(dot, s)| (*dot, s))
    }

    /// Dots that a write here superseded and that had not arrived when it did. They are refused when
    /// they do.
    #[must_use]
    pub const fn pending(&self) -> &Clock {
        &self.pending
    }

    /// The highest stamp of any write to the key that was seen since the entry exists.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Nothing is left to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.siblings.is_empty() && self.dormant.is_empty() && self.pending.is_empty()
    }

    /// What an `lww` keyspace shows: the value with the highest place ([`Sibling::place`]), if it is not past
    /// its deadline.
    #[must_use]
    pub fn winner(&self, now: Stamp) -> Option<(Dot, &Sibling)> {
        let highest = self.live().max_by_key(|(dot, sibling)| (sibling.place(), *dot));
        highest.filter(|(_, sibling)| sibling.is_shown(now))
    }

    /// What an `lww` keyspace has to collapse: the highest certificate and the values that have no higher
    /// place. A certificate is no value and competes with none at a read, so a later delete would lose to an
    /// earlier put. A value of the same place is a copy of what has expired.
    #[must_use]
    pub fn collapse(&self) -> Option<(Dot, Vec<Dot>)> {
        let certificates = self.siblings.iter().filter(|(_, sibling)| !sibling.is_live());
        let (top, certificate) = certificates.max_by_key(|(dot, s)| (s.place(), **dot))?;
        let below = |(_, value): &(Dot, &Sibling)| value.place() <= certificate.place();
        let losers: Vec<Dot> = self.live().filter(below).map(|(dot, _)| dot).collect();
        (!losers.is_empty()).then_some((*top, losers))
    }

    pub(crate) fn put(&mut self, dot: Dot, sibling: Sibling) -> Option<Sibling> {
        self.siblings.insert(dot, sibling)
    }

    pub(crate) fn remove(&mut self, dot: Dot) -> Option<Sibling> {
        self.siblings.remove(&dot).or_else(|| self.dormant.remove(&dot))
    }

    /// Lets a stored write sleep; false if there is none.
    pub(crate) fn sleep(&mut self, dot: Dot) -> bool {
        let sibling = self.siblings.remove(&dot);
        sibling.is_some_and(|sibling| self.dormant.insert(dot, sibling).is_none())
    }

    /// Wakes what sleeps; false if it does not.
    pub(crate) fn wake(&mut self, dot: Dot) -> bool {
        let sibling = self.dormant.remove(&dot);
        sibling.is_some_and(|sibling| self.siblings.insert(dot, sibling).is_none())
    }

    pub(crate) fn set_header(&mut self, pending: Clock, stamp: Stamp) {
        self.pending = pending;
        self.stamp = stamp;
    }
}
