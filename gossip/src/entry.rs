//! What a replica stores of one key.

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
    /// What was put.
    pub body: Body,
    /// From this time on reads hide the value.
    pub deadline: Option<Stamp>,
    /// What the write superseded; `None` once that was dropped.
    pub context: Option<Context>,
}

impl Sibling {
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

    /// The write as a record, unless its context was dropped.
    #[must_use]
    pub fn record(&self, key: &EntryKey, dot: Dot) -> Option<Record> {
        Some(Record {
            key: key.clone(),
            dot,
            stamp: self.stamp,
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
    pending: Clock,
    stamp: Stamp,
}

impl Entry {
    /// Values and certificates, in the order of their dots.
    #[must_use]
    pub const fn siblings(&self) -> &BTreeMap<Dot, Sibling> {
        &self.siblings
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
        self.siblings.is_empty() && self.pending.is_empty()
    }

    /// What an `lww` keyspace shows: the value with the highest stamp, and of equal ones the highest
    /// dot, if it is not past its deadline.
    #[must_use]
    pub fn winner(&self, now: Stamp) -> Option<(Dot, &Sibling)> {
        let highest = self.live().max_by_key(|(dot, sibling)| (sibling.stamp, *dot));
        highest.filter(|(_, sibling)| sibling.is_shown(now))
    }

    /// What an `lww` keyspace has to collapse: the highest certificate and the values below it. A
    /// certificate is no value and competes with none at a read, so a later delete would lose to an
    /// earlier put.
    #[must_use]
    pub fn collapse(&self) -> Option<(Dot, Vec<Dot>)> {
        let certificates = self.siblings.iter().filter(|(_, sibling)| !sibling.is_live());
        let (top, certificate) = certificates.max_by_key(|(dot, s)| (s.stamp, **dot))?;
        let below =
            |(dot, value): &(Dot, &Sibling)| (value.stamp, *dot) < (certificate.stamp, *top);
        let losers: Vec<Dot> = self.live().filter(below).map(|(dot, _)| dot).collect();
        (!losers.is_empty()).then_some((*top, losers))
    }

    pub(crate) fn put(&mut self, dot: Dot, sibling: Sibling) -> Option<Sibling> {
        self.siblings.insert(dot, sibling)
    }

    pub(crate) fn remove(&mut self, dot: Dot) -> Option<Sibling> {
        self.siblings.remove(&dot)
    }

    pub(crate) fn set_header(&mut self, pending: Clock, stamp: Stamp) {
        self.pending = pending;
        self.stamp = stamp;
    }
}
