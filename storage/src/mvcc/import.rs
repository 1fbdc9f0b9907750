//! Building a store from the records of an export.
//!
//! Versions and outcomes are written as they come, in batches. What makes them visible is written
//! last, as by a checkpoint: the keyspace records, a flush, the base record, a flush. A store that
//! was not finished is as good as empty to a machine, but not to another import, which wants a
//! store without any item. Versions of a key that follow its newest are packed, as by a checkpoint.

use std::collections::BTreeSet;

use bytes::Bytes;
use log::export_record::Body;
use prost::Message;
use proto::limits::{ITEM_KEY_BYTES_MAX, ITEM_VALUE_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX};
use proto::{KeyspaceId, LogIndex, Revision, Term, log};

use super::cover::{Cover, Covered};
use super::digest::ContentSum;
use super::key::{self, KeyPrefix};
use super::liveness::Liveness;
use super::outcome::OutcomeRecord;
use super::version::{Head, Version};
use super::{directory, item, pack};
use crate::state::{BATCH_ITEMS_MAX, BatchItem, StateError, StateStore};

/// Bytes of items after which an import or a renewal makes them durable: what was not flushed, an engine
/// keeps in memory.
pub(super) const FLUSH_BYTES: usize = 32 * 1024 * 1024;

/// Why an import failed. The store is of no use; the directory is removed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store is not empty: the caller has the wrong one.
    #[error("the store to import into is not empty")]
    NotEmpty,
    /// A record stands where none of its kind or name can stand. The export is not one of ours, or
    /// its parts were mixed up.
    #[error("{what} is out of order")]
    OutOfOrder {
        /// Which record.
        what: String,
    },
    /// A record says what no state of ours can hold. The export is not one of ours.
    #[error("{what}: {why}")]
    Implausible {
        /// Which record.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The records end too early, or do not add up to what the export says about itself.
    #[error("{what} is incomplete")]
    Incomplete {
        /// What lacks something.
        what: String,
    },
}

/// An import on its way into an empty store. May be dropped at any step.
#[derive(Debug)]
pub struct ImportJob {
    index: LogIndex,
    term: Term,
    conf: (log::ConfState, u64),
    keyspaces: Vec<Covered>,
    names: BTreeSet<String>,
    stage: Stage,
    outcomes: u64,
    gathered: Option<Gathered>,
    batch: Vec<BatchItem>,
    /// Bytes of items that were written since the last flush.
    unflushed: usize,
}

/// Versions of a key that will be a pack.
#[derive(Debug)]
struct Gathered {
    prefix: KeyPrefix,
    /// Newest first.
    versions: Vec<Version>,
    room: pack::Room,
}

/// What came last.
#[derive(Debug)]
enum Stage {
    /// Nothing: the store was not looked at.
    Start,
    Keyspaces,
    Versions(Tally),
    /// The floor, once it has come, and the index of what came last.
    Outcomes {
        floor: Option<LogIndex>,
        last: LogIndex,
    },
}

/// What was imported of one keyspace.
#[derive(Debug)]
struct Tally {
    /// Its position among all.
    position: usize,
    /// The last key, with the last of its versions.
    last: Option<(Bytes, Revision, Liveness)>,
    keys: u64,
    bytes: u64,
}

impl ImportJob {
    /// An import of an export at `index`, the entry of `term`, by a group that has the
    /// configuration `conf`, the outcome of membership change `change`.
    #[must_use]
    pub fn new(index: LogIndex, term: Term, conf: log::ConfState, change: u64) -> Self {
        Self {
            index,
            term,
            conf: (conf, change),
            keyspaces: Vec::new(),
            names: BTreeSet::new(),
            stage: Stage::Start,
            outcomes: 0,
            gathered: None,
            batch: Vec::new(),
            unflushed: 0,
        }
    }

    /// Takes the next record, in the order of the export. Writes what fills a batch, and flushes the
    /// store now and then.
    ///
    /// # Errors
    /// Any [`ImportError`].
    pub fn push(
        &mut self,
        store: &dyn StateStore,
        record: log::ExportRecord,
    ) -> Result<(), ImportError> {
        match record.body {
            Some(Body::Keyspace(state)) => self.keyspace(store, state),
            Some(Body::Version(version)) => self.version(store, version),
            Some(Body::Outcome(outcome)) => self.outcome(store, outcome),
            Some(Body::Catalogue(_)) => Err(out_of_order("a catalogue")),
            None => Err(implausible("a record", "is empty")),
        }
    }

    fn keyspace(
        &mut self,
        store: &dyn StateStore,
        state: log::KeyspaceState,
    ) -> Result<(), ImportError> {
        let descriptor = state.descriptor.clone().unwrap_or_default();
        let what = format!("keyspace {}", descriptor.id);
        match self.stage {
            Stage::Start => check_empty(store)?,
            Stage::Keyspaces => {}
            Stage::Versions(_) | Stage::Outcomes { .. } => return Err(out_of_order(what)),
        }
        self.stage = Stage::Keyspaces;
        let id = directory::usable(descriptor.id)
            .map_err(|_| implausible(&what, "has an id that no keyspace has"))?;
        if self.keyspaces.last().is_some_and(|last| last.id() >= id) {
            return Err(out_of_order(what));
        }
        if state.closed {
            if id == KeyspaceId::DEFAULT {
                return Err(implausible(what, "cannot be closed"));
            }
        } else {
            let name = descriptor.name;
            if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX || !self.names.insert(name) {
                return Err(implausible(what, "has a name that is invalid or taken"));
            }
            if state.compacted < Revision::EMPTY.get() || state.revision < state.compacted {
                return Err(implausible(what, "has revisions that contradict each other"));
            }
        }
        self.keyspaces.push(Covered { state, sum: ContentSum::default() });
        Ok(())
    }

    fn version(
        &mut self,
        store: &dyn StateStore,
        state: log::VersionState,
    ) -> Result<(), ImportError> {
        let id = KeyspaceId(state.keyspace);
        let what = || {
            let key = state.key.escape_ascii();
            format!("the version of key \"{key}\" at revision {} of keyspace {id}", state.mod_rev)
        };
        let tally = loop {
            match &mut self.stage {
                Stage::Versions(tally) if self.keyspaces[tally.position].id() >= id => break tally,
                Stage::Keyspaces | Stage::Versions(_) => self.advance()?,
                Stage::Start | Stage::Outcomes { .. } => return Err(out_of_order(what())),
            }
        };
        let covered = &mut self.keyspaces[tally.position];
        if covered.id() != id || covered.state.closed {
            return Err(out_of_order(what()));
        }
        let version = plausible(&state, &covered.state, self.index)
            .map_err(|why| implausible(what(), why))?;
        let counted = tally.count(&state.key, &version.head, Revision(covered.state.compacted));
        let newest = counted.map_err(|misfit| match misfit {
            Misfit::Order => out_of_order(what()),
            Misfit::Dead => implausible(what(), "is hidden by a compaction"),
        })?;
        let prefix = KeyPrefix::new(id, &state.key);
        covered.sum.add(&prefix, version.head.revision);
        if newest {
            self.write_gathered(store)?;
            return self.write_alone(store, &prefix, &version);
        }
        self.gather(store, prefix, version)
    }

    /// Adds a version of a key to a pack, behind the newer ones.
    fn gather(
        &mut self,
        store: &dyn StateStore,
        prefix: KeyPrefix,
        version: Version,
    ) -> Result<(), ImportError> {
        if let Some(gathered) = &mut self.gathered
            && gathered.room.take(&version)
        {
            gathered.versions.push(version);
            return Ok(());
        }
        self.write_gathered(store)?;
        let mut room = pack::Room::new(&prefix);
        if !room.take(&version) {
            return self.write_alone(store, &prefix, &version);
        }
        self.gathered = Some(Gathered { prefix, versions: vec![version], room });
        Ok(())
    }

    /// Writes what was gathered; to be called whenever another key may begin.
    fn write_gathered(&mut self, store: &dyn StateStore) -> Result<(), ImportError> {
        let Some(Gathered { prefix, versions, .. }) = self.gathered.take() else { return Ok(()) };
        if let [version] = &versions[..] {
            return self.write_alone(store, &prefix, version);
        }
        let versions: Vec<&Version> = versions.iter().collect();
        self.write(store, pack::seal(&prefix, &versions))
    }

    fn write_alone(
        &mut self,
        store: &dyn StateStore,
        prefix: &KeyPrefix,
        version: &Version,
    ) -> Result<(), ImportError> {
        for chunk in 0..version.chunks(prefix) {
            self.write(store, version.chunk(prefix, chunk))?;
        }
        Ok(())
    }

    fn outcome(
        &mut self,
        store: &dyn StateStore,
        outcome: log::OutcomeState,
    ) -> Result<(), ImportError> {
        self.write_gathered(store)?;
        let index = LogIndex(outcome.index);
        let what = format!("the outcome at index {index}");
        let (floor, last) = loop {
            match &mut self.stage {
                Stage::Outcomes { floor, last } => break (floor, last),
                Stage::Start => return Err(out_of_order(what)),
                Stage::Keyspaces | Stage::Versions(_) => self.advance()?,
            }
        };
        if index > self.index {
            return Err(implausible(what, "was written after the export"));
        }
        let is_floor = outcome.record.is_empty();
        // The floor stands before every outcome, once.
        if is_floor != floor.is_none() || (!is_floor && index <= *last) {
            return Err(out_of_order(what));
        }
        *last = index;
        if is_floor {
            *floor = Some(index);
            return Ok(());
        }
        let record = OutcomeRecord::decode(outcome.record.clone()).ok();
        let kept = record.and_then(|record| record.read(index));
        if kept.is_none_or(|kept| kept.seq < kept.first_open) {
            return Err(implausible(what, "is no outcome"));
        }
        self.outcomes += 1;
        self.write(store, item::seal(key::outcome(index), &[&outcome.record]))
    }

    /// Makes what was imported visible and durable; [`Machine::open`](super::Machine::open) then
    /// finds a finished checkpoint.
    ///
    /// To be called when the export is known to have ended, by its trailer: that outcomes are
    /// missing at its end does not show in the records.
    ///
    /// # Errors
    /// Any [`ImportError`].
    pub fn finish(mut self, store: &dyn StateStore) -> Result<(), ImportError> {
        self.write_gathered(store)?;
        let floor = loop {
            match self.stage {
                Stage::Outcomes { floor: Some(floor), .. } => break floor,
                Stage::Outcomes { floor: None, .. } => {
                    return Err(ImportError::Incomplete { what: "the exactly-once table".into() });
                }
                Stage::Start | Stage::Keyspaces | Stage::Versions(_) => self.advance()?,
            }
        };
        let default = self.keyspaces.first().map(Covered::id);
        if default != Some(KeyspaceId::DEFAULT) {
            return Err(ImportError::Incomplete { what: "the list of keyspaces".into() });
        }
        let keyspaces = std::mem::take(&mut self.keyspaces);
        for covered in &keyspaces {
            self.write(store, covered.item(self.index))?;
        }
        self.write_batch(store)?;
        store.flush()?;
        let (index, term, outcomes) = (self.index, self.term, self.outcomes);
        let cover = Cover { index, term, floor, outcomes, conf: Some(self.conf), keyspaces };
        store.write(&[cover.item()])?;
        store.flush()?;
        Ok(())
    }

    /// Goes on to the next keyspace, or behind the last one, once the current one is whole.
    fn advance(&mut self) -> Result<(), ImportError> {
        let position = match &self.stage {
            Stage::Start => {
                return Err(ImportError::Incomplete { what: "the list of keyspaces".into() });
            }
            Stage::Keyspaces => 0,
            Stage::Versions(tally) => {
                let Covered { state, .. } = &self.keyspaces[tally.position];
                if (tally.keys, tally.bytes) != (state.live_keys, state.live_bytes) {
                    let id = self.keyspaces[tally.position].id();
                    return Err(ImportError::Incomplete { what: format!("keyspace {id}") });
                }
                tally.position + 1
            }
            Stage::Outcomes { .. } => unreachable!("nothing follows the outcomes"),
        };
        self.stage = if position == self.keyspaces.len() {
            Stage::Outcomes { floor: None, last: LogIndex(0) }
        } else {
            Stage::Versions(Tally { position, last: None, keys: 0, bytes: 0 })
        };
        Ok(())
    }

    fn write(&mut self, store: &dyn StateStore, item: BatchItem) -> Result<(), ImportError> {
        self.batch.push(item);
        if self.batch.len() == BATCH_ITEMS_MAX {
            self.write_batch(store)?;
        }
        Ok(())
    }

    fn write_batch(&mut self, store: &dyn StateStore) -> Result<(), ImportError> {
        if !self.batch.is_empty() {
            store.write(&self.batch)?;
            let items = self.batch.drain(..);
            self.unflushed += items
                .map(|(key, value)| key.len() + value.map_or(0, |value| value.len()))
                .sum::<usize>();
        }
        if self.unflushed >= FLUSH_BYTES {
            store.flush()?;
            self.unflushed = 0;
        }
        Ok(())
    }
}

/// Why a version cannot follow the one before it.
enum Misfit {
    Order,
    Dead,
}

impl Tally {
    /// Counts a version, if it can follow the last one; tells whether it is its key's newest.
    fn count(&mut self, key: &Bytes, head: &Head, compacted: Revision) -> Result<bool, Misfit> {
        let mut liveness = Liveness::new(compacted);
        let newest = match &self.last {
            Some((last, revision, seen)) if last == key => {
                if head.revision >= *revision {
                    return Err(Misfit::Order);
                }
                liveness = *seen;
                false
            }
            Some((last, _, _)) if last > key => return Err(Misfit::Order),
            Some(_) | None => true,
        };
        if !liveness.lives(head.revision, head.tombstone) {
            return Err(Misfit::Dead);
        }
        if newest && !head.tombstone {
            self.keys += 1;
            self.bytes += key.len() as u64 + u64::from(head.value_bytes);
        }
        self.last = Some((key.clone(), head.revision, liveness));
        Ok(newest)
    }
}

/// Reads a version, if an apply up to the entry at `last` can have written it.
fn plausible(
    state: &log::VersionState,
    keyspace: &log::KeyspaceState,
    last: LogIndex,
) -> Result<Version, &'static str> {
    if state.key.is_empty() || state.key.len() > ITEM_KEY_BYTES_MAX {
        return Err("has a key that is empty or too long");
    }
    if state.value.len() > ITEM_VALUE_BYTES_MAX {
        return Err("has a value that is too long");
    }
    if state.mod_rev <= Revision::EMPTY.get() || state.mod_rev > keyspace.revision {
        return Err("has a revision that its keyspace has not reached");
    }
    if state.index == 0 || state.index > last.get() {
        return Err("was written after the export");
    }
    let (revision, index) = (Revision(state.mod_rev), LogIndex(state.index));
    if state.tombstone {
        if state.create_rev != 0 || state.version != 0 || !state.value.is_empty() {
            return Err("is a tombstone and holds something");
        }
        return Ok(Version { head: Head::delete(revision, index), value: Bytes::new() });
    }
    let created = Revision::EMPTY.get() < state.create_rev && state.create_rev <= state.mod_rev;
    let first = state.create_rev == state.mod_rev;
    if !created || state.version == 0 || (state.version == 1) != first {
        return Err("contradicts its creation");
    }
    let head = Head {
        create_rev: Revision(state.create_rev),
        version: state.version,
        ..Head::put(None, revision, index, &state.value)
    };
    Ok(Version { head, value: state.value.clone() })
}

fn check_empty(store: &dyn StateStore) -> Result<(), ImportError> {
    match store.first_in(&[0], &[0xff; 16])? {
        None => Ok(()),
        Some(_) => Err(ImportError::NotEmpty),
    }
}

fn out_of_order(what: impl Into<String>) -> ImportError {
    ImportError::OutOfOrder { what: what.into() }
}

fn implausible(what: impl Into<String>, why: &'static str) -> ImportError {
    ImportError::Implausible { what: what.into(), why }
}
