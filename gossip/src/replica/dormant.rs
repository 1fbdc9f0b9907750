//! Certificates that sleep: kept with their contexts, out of the stream.
//!
//! A certificate that is old and not stable costs every session and every scrub. A few replicas may keep it aside
//! instead of dropping it: it is no sibling, is listed in no session and is sent to nobody. When an obsolete copy of
//! what it ended shows up, it wakes: it is a record again and travels to whoever has such copies. That only makes
//! the end of old copies faster and says who deleted what and when; safety never rests on it.
//!
//! # Guarantees
//! - To fall asleep raises the horizon exactly as to be dropped does. Peers are told of it by entries from then on.
//! - Waking changes no clock and no horizon.
//! - A write that supersedes a dormant certificate removes it.

use super::{Policy, Replica, Stable, Standing};
use crate::change::Change;
use crate::context::Context;
use crate::dot::Dot;
use crate::entry::Entry;
use crate::record::{EntryKey, Record};

/// Certificates woke.
#[derive(Clone, Debug, Default)]
pub struct Woken {
    /// The certificates, to be spread once the changes are durable.
    pub dots: Vec<Dot>,
    /// A write of this replica that follows, in an `lww` keyspace.
    pub collapse: Option<Record>,
    /// What to make durable.
    pub changes: Vec<Change>,
}

impl Replica {
    /// Puts a certificate to sleep, where it could be dropped ([`Replica::forget_certificate`]). Nothing happens
    /// elsewhere.
    pub fn sleep(&mut self, key: &EntryKey, dot: Dot, stable: &Stable) -> Vec<Change> {
        let Some(mut changes) = self.may_go(key, dot, stable) else { return Vec::new() };
        changes.push(Change::Slept { key: key.clone(), dot });
        self.commit(&changes);
        changes
    }

    /// Wakes the certificates of a key that cover `copy`, a write that is obsolete here and of which somebody has
    /// a copy. The caller limits how many wake in a second.
    pub fn wake(&mut self, key: &EntryKey, copy: Dot) -> Woken {
        let covers = |context: &Context| context.contains(copy);
        let dormant = self.entry(key).map(Entry::dormant).into_iter().flatten();
        let dots: Vec<Dot> = dormant
            .filter(|(_, certificate)| certificate.context.as_ref().is_some_and(covers))
            .map(|(dot, _)| *dot)
            .collect();
        let woke = |dot: &Dot| Change::Woke { key: key.clone(), dot: *dot };
        let mut changes: Vec<Change> = dots.iter().map(woke).collect();
        self.commit(&changes);
        let collapse = match self.keyspace(key.keyspace) {
            Some(Standing::Open(Policy::Lww)) if !dots.is_empty() => {
                self.collapse_if(Policy::Lww, key, &mut changes)
            }
            Some(Standing::Open(_) | Standing::Removed) | None => None,
        };
        Woken { dots, collapse, changes }
    }
}
