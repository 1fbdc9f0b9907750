//! What can be read of a replica that is damaged.
//!
//! A write whose context is known means the same wherever it arrives, so it is taken as it is. One whose context was
//! dropped has a meaning only under the clock of its replica, which may say too much: as *bare* it waits beside the
//! replica that begins anew, and is written again only where no other member knows of it
//! ([`Replica::settle_kept`](crate::Replica::settle_kept)).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::codec;
use super::restore::{Found, join_pieces};
use crate::clock::{Clock, Fold, Folds};
use crate::context::Context;
use crate::dot::Dot;
use crate::entry::{Entry, Sibling};
use crate::record::{EntryKey, Record};
use crate::replica::Kept;

/// What can be read of a replica that is damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Writes with their contexts.
    pub records: BTreeMap<(EntryKey, Dot), Record>,
    /// What contexts may name actors by.
    pub folds: Vec<Fold>,
    /// Values without. What each stands for in place of its context is what it is to be written over, the value itself
    /// among it.
    pub bare: Kept,
}

impl Salvaged {
    /// Of the items of a store. Nothing tells which of them are older than they should be, so what is bare is to be
    /// written over itself alone. `known` are folds that may be missing among the items, and that contexts name actors by.
    #[must_use]
    pub fn of_items(items: impl IntoIterator<Item = (Bytes, Bytes)>, known: &Folds) -> Self {
        let mut found = Found::default();
        for (key, value) in items {
            // What cannot be read is what is lost.
            let _ = found.take(key, value);
        }
        let mut salvaged = Self::default();
        for record in std::mem::take(&mut found.kept) {
            salvaged.take_kept(record);
        }
        let mut folds = found.parts.folds.clone();
        for fold in known.iter() {
            let _ = folds.try_learn(*fold);
        }
        salvaged.folds = folds.iter().copied().collect();
        for (key, item, first) in std::mem::take(&mut found.entries) {
            let joined = join_pieces(&key, &item, first, &mut found.pieces);
            let Ok((bytes, _)) = joined else { continue };
            let mut missing = Vec::new();
            let entry = codec::read_entry(&bytes, &folds, |dot| {
                let value = found.values.remove(&(key.clone(), dot));
                if value.is_none() {
                    missing.push(dot);
                }
                Ok(value.unwrap_or_default())
            });
            let Ok(entry) = entry else { continue };
            salvaged.take_entry(&key, &entry, |dot| !missing.contains(&dot), None);
        }
        salvaged
    }

    /// Takes what an entry has. `known` is what was known of the key, where that can be relied on.
    pub(crate) fn take_entry(
        &mut self,
        key: &EntryKey,
        entry: &Entry,
        is_there: impl Fn(Dot) -> bool,
        known: Option<&Clock>,
    ) {
        let siblings = entry.siblings().iter().chain(entry.dormant());
        for (dot, sibling) in siblings.filter(|(dot, _)| is_there(**dot)) {
            let at = (key.clone(), *dot);
            if let Some(record) = sibling.record(key, *dot) {
                self.records.insert(at, record);
            } else if sibling.is_live() {
                let present: Clock = entry.siblings().keys().copied().collect();
                let mut over = known.map(|known| known.minus(&present)).unwrap_or_default();
                over.add(*dot);
                self.bare.insert(at, bare(key, *dot, sibling, over));
            }
        }
    }

    /// Takes what was waiting already. What was known then is not relied on twice.
    pub(crate) fn take_kept(&mut self, record: Record) {
        let at = (record.key.clone(), record.dot);
        if record.context.contains(record.dot) {
            let alone = Context::new(Arc::new([record.dot].into_iter().collect()));
            self.bare.insert(at, Record { context: alone, ..record });
        } else {
            self.records.insert(at, record);
        }
    }

    /// Adds what was read elsewhere of the same replica. Of a write that both have with its context, that of `other`
    /// stays; of one that is bare, that which is here.
    pub fn join(&mut self, other: Self) {
        self.records.extend(other.records);
        let new = other.folds.into_iter().filter(|fold| !self.folds.contains(fold));
        let new: Vec<Fold> = new.collect();
        self.folds.extend(new);
        for (at, record) in other.bare {
            self.bare.entry(at).or_insert(record);
        }
        let records = &self.records;
        self.bare.retain(|at, _| !records.contains_key(at));
    }
}

fn bare(key: &EntryKey, dot: Dot, sibling: &Sibling, over: Clock) -> Record {
    Record {
        key: key.clone(),
        dot,
        stamp: sibling.stamp,
        rank: sibling.rank,
        body: sibling.body.clone(),
        deadline: sibling.deadline,
        context: Context::new(Arc::new(over)),
    }
}
