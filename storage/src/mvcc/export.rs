//! Reading the state of a finished checkpoint as records, in the order of an export.
//!
//! 1. Every keyspace, open and closed, ascending by id.
//! 2. Every living version, ascending by keyspace and key, each key's newest first.
//! 3. The *floor* of the exactly-once table: an outcome without a record, whose index is the floor.
//! 4. Every outcome of the table, ascending by index.
//!
//! What is exported is what a digest covers, so a machine that opens on an import has the digest
//! that this one had at the same index.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use log::export_record::Body;
use proto::{LogIndex, Revision, Term, log};

use super::cover::{Cover, Covered};
use super::digest::ContentSum;
use super::held::Held;
use super::item;
use super::key::{self, KeyPrefix, VersionKey};
use super::liveness::Liveness;
use super::version::{StoredVersion, damaged};
use crate::state::{StateError, StateStore};

/// Items of the store that one step reads, roughly: it finishes the version it is at.
const STEP_ITEMS: usize = 256;

/// What a step of an export came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportProgress {
    /// Call [`ExportJob::step`] again.
    Continue,
    /// Every record was given.
    Done,
}

/// Why a step of an export failed; the export is lost.
#[derive(Debug, thiserror::Error)]
pub enum ExportStepError<E> {
    /// The store failed, or is not what its checkpoint has counted: it has to be rebuilt.
    #[error(transparent)]
    State(#[from] StateError),
    /// The receiver of the records failed, with this error of its own.
    #[error("the receiver of an export failed: {0}")]
    Out(E),
}

/// An export on its way.
///
/// Reads the store alone, beside the machine, on a thread of its own if the caller likes. May be
/// dropped at any step.
#[derive(Debug)]
pub struct ExportJob {
    cover: Arc<Cover>,
    /// Outcomes in the store that are not part of the table.
    dropped: Arc<BTreeSet<LogIndex>>,
    /// Number of outcomes that were given.
    outcomes: u64,
    place: Place,
}

/// What comes next.
#[derive(Debug)]
enum Place {
    /// The keyspace with this position.
    Keyspaces(usize),
    /// Versions of the keyspace with this position, if there is one.
    Versions(usize, Option<Walk>),
    Floor,
    /// The outcomes from this key on.
    Outcomes(Bytes),
    Done,
}

/// Where an export is in a keyspace.
#[derive(Debug)]
struct Walk {
    /// The first key that was not read.
    from: Bytes,
    to: Bytes,
    key: Option<(KeyPrefix, Liveness)>,
    /// Over what was exported.
    sum: ContentSum,
}

/// A living version with as much of its value as was read.
struct Partial {
    stored: StoredVersion,
    value: BytesMut,
    next_chunk: u16,
}

impl ExportJob {
    /// An export that has not begun.
    pub(super) fn new(cover: Arc<Cover>, dropped: Arc<BTreeSet<LogIndex>>) -> Self {
        Self { cover, dropped, outcomes: 0, place: Place::Keyspaces(0) }
    }

    /// Log index that the export covers.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.cover.index
    }

    /// Term of the entry at that index.
    #[must_use]
    pub fn term(&self) -> Term {
        self.cover.term
    }

    /// The configuration of the group at that index, as [`Machine::conf`](super::Machine::conf).
    #[must_use]
    pub fn conf(&self) -> Option<(&log::ConfState, u64)> {
        self.cover.conf.as_ref().map(|(conf, change)| (conf, *change))
    }

    /// Gives the next records to `out`, in order: as many as some 256 items of `store` hold, which
    /// must be the machine's own. None of them is larger than a value and its key.
    ///
    /// # Errors
    /// Any [`ExportStepError`].
    pub fn step<E>(
        &mut self,
        store: &dyn StateStore,
        out: &mut dyn FnMut(&log::ExportRecord) -> Result<(), E>,
    ) -> Result<ExportProgress, ExportStepError<E>> {
        let mut give =
            |body: Body| out(&log::ExportRecord { body: Some(body) }).map_err(ExportStepError::Out);
        let place = std::mem::replace(&mut self.place, Place::Done);
        self.place = match place {
            Place::Keyspaces(position) => {
                let end = self.cover.keyspaces.len().min(position + STEP_ITEMS);
                for covered in &self.cover.keyspaces[position..end] {
                    give(Body::Keyspace(covered.state.clone()))?;
                }
                if end < self.cover.keyspaces.len() {
                    Place::Keyspaces(end)
                } else {
                    Place::Versions(0, None)
                }
            }
            Place::Versions(position, walk) => match self.cover.keyspaces.get(position) {
                None => Place::Floor,
                Some(covered) if covered.state.closed => Place::Versions(position + 1, None),
                Some(covered) => {
                    let mut walk = walk.unwrap_or_else(|| Walk::new(covered));
                    if walk.step(store, covered, &mut give)? {
                        walk.check(covered, self.cover.index)?;
                        Place::Versions(position + 1, None)
                    } else {
                        Place::Versions(position, Some(walk))
                    }
                }
            },
            Place::Floor => {
                let index = self.cover.floor.get();
                give(Body::Outcome(log::OutcomeState { index, record: Bytes::new() }))?;
                Place::Outcomes(key::outcome_bounds().0)
            }
            Place::Outcomes(from) => match self.outcomes(store, &from, &mut give)? {
                Some(from) => Place::Outcomes(from),
                None => Place::Done,
            },
            Place::Done => Place::Done,
        };
        Ok(match self.place {
            Place::Done => ExportProgress::Done,
            Place::Keyspaces(_) | Place::Versions(..) | Place::Floor | Place::Outcomes(_) => {
                ExportProgress::Continue
            }
        })
    }

    /// Gives the next outcomes; returns where the next step goes on.
    fn outcomes<E>(
        &mut self,
        store: &dyn StateStore,
        from: &Bytes,
        give: &mut dyn FnMut(Body) -> Result<(), ExportStepError<E>>,
    ) -> Result<Option<Bytes>, ExportStepError<E>> {
        let (floor, last) = (self.cover.floor, self.cover.index);
        let to = key::outcome(last.next());
        let mut looked = 0;
        for found in item::scan(store, from, &to) {
            let (state_key, record) = found?;
            let index = key::outcome_index(&state_key).ok_or_else(|| StateError::Damaged {
                why: format!("no outcome has the key \"{}\"", state_key.escape_ascii()),
            })?;
            if index > floor && !self.dropped.contains(&index) {
                give(Body::Outcome(log::OutcomeState { index: index.get(), record }))?;
                self.outcomes += 1;
            }
            looked += 1;
            if looked == STEP_ITEMS {
                return Ok(Some(key::after(&state_key)));
            }
        }
        self.cover.check_outcomes(self.outcomes)?;
        Ok(None)
    }
}

impl Walk {
    fn new(covered: &Covered) -> Self {
        let (from, to) = key::keyspace_bounds(covered.id(), covered.id().next());
        Self { from, to, key: None, sum: ContentSum::default() }
    }

    /// Gives the next versions; true at the end of the keyspace.
    fn step<E>(
        &mut self,
        store: &dyn StateStore,
        covered: &Covered,
        give: &mut dyn FnMut(Body) -> Result<(), ExportStepError<E>>,
    ) -> Result<bool, ExportStepError<E>> {
        let mut partial: Option<Partial> = None;
        let from = self.from.clone();
        for (looked, found) in item::scan(store, &from, &self.to).enumerate() {
            let (state_key, content) = found?;
            let version = VersionKey::parse(&state_key).ok_or_else(|| StateError::Damaged {
                why: "a key in a keyspace is too short".into(),
            })?;
            if let Some(current) = &mut partial {
                current.add(&version, &content)?;
            } else if looked >= STEP_ITEMS {
                return Ok(false);
            } else {
                for stored in self.begin(covered, version, content)? {
                    if stored.is_whole() {
                        give(self.record(covered, &stored, stored.first.clone())?)?;
                    } else {
                        partial = Some(Partial::new(stored));
                    }
                }
            }
            self.from = key::after(&state_key);
            if let Some(whole) = partial.take_if(|partial| partial.is_whole()) {
                give(self.record(covered, &whole.stored, whole.value.freeze())?)?;
            }
        }
        match partial {
            None => Ok(true),
            Some(cut) => Err(cut.damaged().into()),
        }
    }

    /// The record of a living version.
    fn record(
        &mut self,
        covered: &Covered,
        StoredVersion { prefix, head, .. }: &StoredVersion,
        value: Bytes,
    ) -> Result<Body, StateError> {
        self.sum.add(prefix, head.revision);
        let key = prefix.user_key();
        let key = key.ok_or_else(|| damaged(prefix, head.revision, "has no valid key"))?;
        Ok(Body::Version(head.export(covered.id(), key, value)))
    }

    /// The living versions that begin with this item, newest first.
    fn begin(
        &mut self,
        covered: &Covered,
        version: VersionKey,
        content: Bytes,
    ) -> Result<Vec<StoredVersion>, StateError> {
        let VersionKey { prefix, revision, chunk } = version;
        if revision > Revision(covered.state.revision) || chunk != 0 {
            return Ok(Vec::new());
        }
        if self.key.as_ref().is_none_or(|(current, _)| *current != prefix) {
            let liveness = Liveness::new(Revision(covered.state.compacted));
            self.key = Some((prefix.clone(), liveness));
        }
        let (_, liveness) = self.key.as_mut().expect("the key was set above");
        let versions = Held::decode(prefix, revision, content)?.versions();
        let lives =
            |stored: &StoredVersion| liveness.lives(stored.head.revision, stored.head.tombstone);
        Ok(versions.filter(lives).collect())
    }

    fn check(&self, covered: &Covered, index: LogIndex) -> Result<(), StateError> {
        if self.sum == covered.sum {
            return Ok(());
        }
        let id = covered.id();
        let why = format!("keyspace {id} is not what checkpoint {index} has counted");
        Err(StateError::Damaged { why })
    }
}

impl Partial {
    fn new(stored: StoredVersion) -> Self {
        let mut value = BytesMut::with_capacity(stored.head.value_bytes as usize);
        value.put_slice(&stored.first);
        Self { stored, value, next_chunk: 1 }
    }

    fn is_whole(&self) -> bool {
        self.value.len() == self.stored.head.value_bytes as usize
    }

    fn add(&mut self, found: &VersionKey, content: &Bytes) -> Result<(), StateError> {
        let StoredVersion { prefix, head, .. } = &self.stored;
        let fits = found.prefix == *prefix
            && found.revision == head.revision
            && found.chunk == self.next_chunk
            && self.value.len() + content.len() <= head.value_bytes as usize;
        if !fits {
            return Err(self.damaged());
        }
        self.value.put_slice(content);
        self.next_chunk += 1;
        Ok(())
    }

    fn damaged(&self) -> StateError {
        damaged(&self.stored.prefix, self.stored.head.revision, "lacks a part of its value")
    }
}
