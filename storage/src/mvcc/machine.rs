//! The state machine of a data group.

mod items;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::{Code, KeyspaceId, LogIndex, Revision, Term, log, v1};

use super::checkpoint::{CheckpointJob, CheckpointParts, load_outcomes};
use super::cover::Cover;
use super::digest;
use super::directory::Directory;
use super::error::ReadError;
use super::export::ExportJob;
use super::garbage::{DeadVersion, Garbage, Remains};
use super::history::{self, HistoryPage, HistoryQuery};
use super::key::KeyPrefix;
use super::keyspace::KeyspaceInfo;
use super::layer::Layer;
use super::outcome::Outcome;
use super::range::{self, RangePage, RangeQuery};
use super::recall::Recall;
use super::renew::RenewJob;
use super::retention::{self, HistoryClock};
use super::retired::Retired;
use super::session::{Admission, Name, Sessions};
use super::superseded::Replacement;
use super::survey::Survey;
use super::transaction::{self, Done, Stop};
use super::view::{Horizon, Layers};
use crate::state::{StateError, StateStore};

/// Keys of layers that are no longer needed which each apply frees, and once more for each key it
/// writes: so they go faster than new ones come, and no apply waits for all.
const RETIRED_KEYS_FREED: usize = 2;

/// Bounds of a [`Machine`]. They decide what apply does, so all replicas have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineOptions {
    /// Most outcomes that the exactly-once table keeps, at least 1. With fewer, clients that are
    /// slow to retry are refused more often.
    pub outcomes_max: usize,
    /// Most bytes that the exactly-once table takes, roughly. The newest outcome always stays.
    pub outcome_bytes_max: usize,
}

impl Default for MachineOptions {
    fn default() -> Self {
        Self { outcomes_max: 1 << 20, outcome_bytes_max: 64 * 1024 * 1024 }
    }
}

/// The state machine of one data group: keyspaces, versions, tombstones, the exactly-once table.
///
/// Invariants:
/// 1. [`Machine::applied`] rises by one with each entry, and with nothing else.
/// 2. The revision of a keyspace never falls, also not over a crash (etcd-io/etcd#17780).
/// 3. At most one layer is frozen, exactly while a checkpoint runs or after one was abandoned.
/// 4. What a read returns depends on the applied entries alone, not on when checkpoints ran.
/// 5. The store does not change while an export or a renewal runs, and a renewal changes only which
///    store it is.
#[derive(Debug)]
pub struct Machine {
    layers: Layers,
    directory: Directory,
    sessions: Sessions,
    applied: LogIndex,
    term: Term,
    /// The last configuration of the group, with the membership change that it carries out.
    conf: Option<(log::ConfState, u64)>,
    /// What the last finished checkpoint covers.
    cover: Option<Arc<Cover>>,
    work: Work,
    /// Records in the store that are dead, for the next checkpoint.
    garbage: Garbage,
    /// What else the store held when it was opened, for the next checkpoint.
    remains: Remains,
    /// Outcomes in the store that were dropped before its checkpoint.
    dropped: Arc<BTreeSet<LogIndex>>,
    retired: Retired,
}

/// What is being done to the store.
#[derive(Debug)]
enum Work {
    /// Nothing.
    Idle,
    /// A checkpoint is being written.
    Checkpoint {
        cover: Arc<Cover>,
        /// Set when the store durably holds it.
        done: Arc<AtomicBool>,
    },
    /// An export reads it.
    Export,
    /// It is being copied into another one.
    Renewal {
        /// Set when the other one durably holds everything.
        done: Arc<AtomicBool>,
    },
    /// A checkpoint was given up because the store failed.
    Abandoned,
}

impl Machine {
    /// Opens the machine on `store`, in the state of the last finished checkpoint; without one, at
    /// index 0 with the keyspace [`DEFAULT_KEYSPACE`](super::DEFAULT_KEYSPACE) empty.
    ///
    /// Reads the whole store once: every item is checked, what lives is compared with what the
    /// checkpoint has counted, and what a crash left behind is found. Changes nothing. Takes about
    /// 1 us per version, see `examples/open_store.rs`.
    ///
    /// # Errors
    /// Any [`StateError`]; the caller opens on an empty store and replays the log.
    ///
    /// # Panics
    /// When the options forbid to keep any outcome.
    pub fn open(store: Arc<dyn StateStore>, options: MachineOptions) -> Result<Self, StateError> {
        Self::open_for(store, options, Recall::new())
    }

    /// As [`Machine::open`], for a log that is about to write the keys in `recall`.
    ///
    /// # Errors
    /// As [`Machine::open`].
    ///
    /// # Panics
    /// As [`Machine::open`].
    pub fn open_for(
        store: Arc<dyn StateStore>,
        options: MachineOptions,
        recall: Recall,
    ) -> Result<Self, StateError> {
        assert!(options.outcomes_max > 0, "the exactly-once table keeps at least one outcome");
        let cover = Cover::load(&*store)?.map(Arc::new);
        let at = |part: fn(&Cover) -> LogIndex| cover.as_deref().map_or(LogIndex(0), part);
        let (index, floor) = (at(|cover| cover.index), at(|cover| cover.floor));
        let mut sessions = Sessions::new(options.outcomes_max, options.outcome_bytes_max);
        sessions.restore(index, floor, load_outcomes(&*store))?;
        if let Some(cover) = &cover {
            cover.check_outcomes(sessions.kept().len() as u64)?;
        }
        let Survey { remains, superseded, recall } =
            Survey::take(&*store, cover.as_deref(), recall)?;
        let directory = match &cover {
            Some(cover) => Directory::restore(cover, superseded)?,
            None => Directory::new(),
        };
        let horizon = Horizon {
            index,
            revisions: cover.as_ref().map_or_else(Default::default, |c| c.revisions()),
        };
        let layers = Layers {
            active: Layer::default(),
            frozen: None,
            settled: None,
            store,
            horizon,
            recall,
        };
        Ok(Self {
            layers,
            directory,
            applied: index,
            term: cover.as_ref().map_or(Term(0), |cover| cover.term),
            conf: cover.as_ref().and_then(|cover| cover.conf.clone()),
            cover,
            work: Work::Idle,
            garbage: Garbage::default(),
            remains,
            dropped: Arc::new(sessions.dropped()),
            sessions,
            retired: Retired::default(),
        })
    }

    /// The store, which the jobs of this machine work on.
    #[must_use]
    pub fn store(&self) -> Arc<dyn StateStore> {
        Arc::clone(&self.layers.store)
    }

    /// Index of the last applied entry.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Term of the last applied entry.
    #[must_use]
    pub fn applied_term(&self) -> Term {
        self.term
    }

    /// Index of the last finished checkpoint: replay begins behind it.
    #[must_use]
    pub fn checkpointed(&self) -> LogIndex {
        self.layers.horizon.index
    }

    /// The configuration of the last conf change that was applied, with the membership change of
    /// group 0 that it carries out; `None` before the first. Kept by checkpoints and exports; not
    /// part of the digest.
    #[must_use]
    pub fn conf(&self) -> Option<(&log::ConfState, u64)> {
        self.conf.as_ref().map(|(conf, change)| (conf, *change))
    }

    /// Applies the committed conf change at `index`, which led to `conf`.
    ///
    /// # Panics
    /// As [`Machine::apply`].
    pub fn apply_conf(&mut self, index: LogIndex, term: Term, conf: &log::ConfState, change: u64) {
        self.check_order(index, term);
        self.conf = Some((conf.clone(), change));
        self.advance(index, term);
    }

    /// Applies the committed entry at `index`; without a command it is a no-op, as the entries
    /// that only consensus reads are. Returns what a command of a data group came to; of those
    /// that are no writes only `revision`, `succeeded` and `refused` are of interest.
    ///
    /// Keys and values are not copied: the layer shares the memory the command was decoded from.
    ///
    /// # Errors
    /// Any [`StateError`]; nothing was applied, and the store is of no use any more.
    ///
    /// # Panics
    /// When `index` does not follow the last applied index, or `term` lies below its term: an
    /// entry was skipped, repeated or replaced.
    pub fn apply(
        &mut self,
        index: LogIndex,
        term: Term,
        command: Option<&log::Command>,
    ) -> Result<Option<log::WriteOutcome>, StateError> {
        use log::command::Body;
        self.check_order(index, term);
        let outcome = match command.and_then(|command| command.body.as_ref()) {
            Some(Body::Write(write)) => Some(self.write(index, write)?),
            Some(Body::OpenKeyspace(open)) => Some(self.open_keyspace(open)),
            Some(Body::CloseKeyspace(close)) => Some(self.close_keyspace(close)),
            Some(Body::Compact(compact)) => Some(self.compact(compact)),
            Some(Body::PutItems(put)) => Some(self.put_items(index, put)?),
            Some(
                Body::SetMember(_)
                | Body::ChangeMember(_)
                | Body::BindMember(_)
                | Body::ChangeDone(_)
                | Body::PutKeyspace(_)
                | Body::PutSecret(_)
                | Body::RetireActors(_)
                | Body::FoldActors(_),
            )
            | None => None,
        };
        self.advance(index, term);
        Ok(outcome)
    }

    fn check_order(&self, index: LogIndex, term: Term) {
        assert!(index == self.applied.next(), "entry {index} after {}", self.applied);
        assert!(term >= self.term, "term {term} after {}", self.term);
    }

    fn advance(&mut self, index: LogIndex, term: Term) {
        self.applied = index;
        self.term = term;
        self.retired.shed(RETIRED_KEYS_FREED);
    }

    fn open_keyspace(&mut self, open: &log::OpenKeyspace) -> log::WriteOutcome {
        let wanted = open.keyspace.clone().unwrap_or_default();
        match self.directory.open(&wanted) {
            Ok(keyspace) => done(keyspace.revision),
            Err(code) => self.refusal(wanted.id, code),
        }
    }

    fn close_keyspace(&mut self, close: &log::CloseKeyspace) -> log::WriteOutcome {
        let keyspace = match self.directory.close(close.id) {
            Ok(keyspace) => keyspace,
            Err(code) => return self.refusal(close.id, code),
        };
        if let Some(keyspace) = keyspace {
            self.garbage.close(keyspace.id());
            self.retired.layer(self.layers.active.take(keyspace.id()));
            self.retired.superseded(keyspace.superseded);
        }
        done(Revision(0))
    }

    /// Raises the compacted revision and drops what no revision shows any more: from the layer at
    /// once, from the store with a later checkpoint. Takes about 1 us per dead version.
    fn compact(&mut self, compact: &log::Compact) -> log::WriteOutcome {
        let (id, compacted) = (KeyspaceId(compact.keyspace), Revision(compact.revision));
        let Some(keyspace) = self.directory.get_mut(id) else {
            return self.refusal(compact.keyspace, Code::KeyspaceNotFound);
        };
        if compacted > keyspace.revision {
            return self.refusal(compact.keyspace, Code::CompactionAhead);
        }
        keyspace.compacted = keyspace.compacted.max(compacted);
        while let Some(replacement) = keyspace.superseded.pop(keyspace.compacted) {
            let Replacement { revision, tombstone, packed, old_value_bytes, old, key } =
                replacement;
            let prefix = KeyPrefix::new(id, &key);
            keyspace.sum.subtract(&prefix, old);
            let stays = self.layers.active.bury(id, &key, revision, tombstone);
            if tombstone {
                keyspace.sum.subtract(&prefix, revision);
                if stays || revision <= keyspace.settled {
                    self.garbage.tombstones.push(prefix.version(revision, 0));
                }
            }
            if old > keyspace.settled {
                continue;
            }
            if packed {
                self.garbage.packs.add(id, key, old);
            } else {
                let value_bytes = old_value_bytes;
                let dead = DeadVersion { keyspace: id, key, revision: old, value_bytes };
                self.garbage.versions.push_back(dead);
            }
        }
        done(keyspace.revision)
    }

    /// Runs a write unless it ran before.
    fn write(
        &mut self,
        index: LogIndex,
        write: &log::Write,
    ) -> Result<log::WriteOutcome, StateError> {
        let name = match Name::read(write.id.as_ref()) {
            Ok(name) => name,
            Err(code) => return Ok(self.refusal(write.keyspace, code)),
        };
        match name.as_ref().map_or(Admission::Execute, |name| self.sessions.admit(name)) {
            Admission::Execute => {}
            Admission::Replay(outcome) => return Ok(outcome.replay()),
            Admission::Refuse(code) => return Ok(self.refusal(write.keyspace, code)),
        }
        let outcome = self.execute(index, write)?;
        if let Some(name) = name {
            self.sessions.record(index, &name, Outcome::strip(&outcome));
        }
        Ok(outcome)
    }

    fn execute(
        &mut self,
        index: LogIndex,
        write: &log::Write,
    ) -> Result<log::WriteOutcome, StateError> {
        let id = KeyspaceId(write.keyspace);
        let Some(keyspace) = self.directory.get_mut(id) else {
            return Ok(self.refusal(write.keyspace, Code::KeyspaceNotFound));
        };
        let extent = (keyspace.compacted, keyspace.revision);
        let done = match transaction::evaluate(&self.layers, extent, index, write) {
            Ok(done) => done,
            Err(Stop::Refused(code)) => return Ok(self.refusal(write.keyspace, code)),
            Err(Stop::State(error)) => return Err(error),
        };
        if let Err(code) = keyspace.grow(done.growth()) {
            return Ok(self.refusal(write.keyspace, code));
        }
        Ok(self.commit(id, done))
    }

    /// Writes what a transaction on an open keyspace came to.
    fn commit(&mut self, id: KeyspaceId, done: Done) -> log::WriteOutcome {
        let keyspace = self.directory.get_mut(id).expect("transactions run on open keyspaces");
        if !done.writes.is_empty() {
            keyspace.revision = keyspace.revision.next();
        }
        self.retired.shed(done.writes.len());
        for written in done.writes {
            let transaction::Written { key, version, replaces, known } = written;
            let (revision, tombstone) = (version.head.revision, version.head.tombstone);
            assert!(revision == keyspace.revision, "all writes have one revision");
            keyspace.sum.add(&KeyPrefix::new(id, &key), revision);
            if let Some(old) = replaces {
                keyspace.superseded.push(Replacement {
                    revision,
                    tombstone,
                    // The newest version in a layer that was frozen stands alone in the store.
                    packed: old.revision > keyspace.settled,
                    old_value_bytes: old.value_bytes,
                    old: old.revision,
                    key: key[..].into(),
                });
            }
            self.layers.active.push(id, key, version, known);
        }
        log::WriteOutcome {
            revision: keyspace.revision.get(),
            succeeded: done.succeeded,
            results: done.results,
            replayed: false,
            refused: 0,
        }
    }

    fn refusal(&self, keyspace: u64, code: Code) -> log::WriteOutcome {
        log::WriteOutcome {
            revision: self.revision(KeyspaceId(keyspace)).get(),
            succeeded: false,
            results: Vec::new(),
            replayed: false,
            refused: code.number(),
        }
    }

    /// The id of the open keyspace with this name.
    #[must_use]
    pub fn keyspace(&self, name: &str) -> Option<KeyspaceId> {
        self.directory.find(name)
    }

    /// The open keyspaces, ascending by id.
    pub fn keyspaces(&self) -> impl Iterator<Item = KeyspaceInfo> {
        self.directory.iter().map(|keyspace| keyspace.info())
    }

    /// One open keyspace.
    #[must_use]
    pub fn keyspace_info(&self, keyspace: KeyspaceId) -> Option<KeyspaceInfo> {
        self.directory.get(keyspace).map(|keyspace| keyspace.info())
    }

    /// The highest id that a keyspace has or had. Ids above it are free.
    #[must_use]
    pub fn max_id(&self) -> KeyspaceId {
        self.directory.max_id()
    }

    /// Whether a keyspace was closed: its id will never be open again.
    #[must_use]
    pub fn is_closed(&self, keyspace: KeyspaceId) -> bool {
        self.directory.is_closed(keyspace)
    }

    /// The current revision of a keyspace; 0 when there is no such keyspace.
    #[must_use]
    pub fn revision(&self, keyspace: KeyspaceId) -> Revision {
        self.directory.get(keyspace).map_or(Revision(0), |keyspace| keyspace.revision)
    }

    /// The oldest revision of a keyspace that can be read; 0 when there is no such keyspace.
    #[must_use]
    pub fn compacted(&self, keyspace: KeyspaceId) -> Revision {
        self.directory.get(keyspace).map_or(Revision(0), |keyspace| keyspace.compacted)
    }

    /// The revision to which a leader should propose to compact a keyspace now, by its settings;
    /// `None` when nothing is due. `now_s` is the time on any clock of the leader that only goes
    /// forward, in seconds; `clock` remembers for it what was seen when.
    pub fn compaction_due(
        &self,
        keyspace: KeyspaceId,
        clock: &mut HistoryClock,
        now_s: u64,
    ) -> Option<Revision> {
        retention::due(self.directory.get(keyspace)?, clock, now_s)
    }

    /// The item of a key at revision `at`, by default the newest; `None` when the key does not
    /// exist there.
    ///
    /// # Errors
    /// Any [`ReadError`].
    pub fn get(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        at: Option<Revision>,
    ) -> Result<Option<v1::Item>, ReadError> {
        let at = self.readable(keyspace, at)?;
        Ok(self.layers.item_at(keyspace, key, at)?)
    }

    /// One page of the keys in a range.
    ///
    /// # Errors
    /// Any [`ReadError`].
    pub fn range(&self, keyspace: KeyspaceId, query: &RangeQuery) -> Result<RangePage, ReadError> {
        let at = self.readable(keyspace, query.at)?;
        Ok(range::read(&self.layers, keyspace, query, at)?)
    }

    /// One page of the versions of a key that history keeps, newest first: only those older than
    /// `before`, at most `limit` of them, without values if `keys_only`.
    ///
    /// # Errors
    /// Any [`ReadError`] but those about the revision.
    pub fn history(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        before: Option<Revision>,
        limit: usize,
        keys_only: bool,
    ) -> Result<HistoryPage, ReadError> {
        let found = self.directory.get(keyspace).ok_or(ReadError::UnknownKeyspace)?;
        let between = (found.revision, found.compacted);
        let query = HistoryQuery { key, before, limit, keys_only };
        Ok(history::read(&self.layers, keyspace, query, between)?)
    }

    /// The revision to read, if it can be read.
    fn readable(&self, keyspace: KeyspaceId, at: Option<Revision>) -> Result<Revision, ReadError> {
        let keyspace = self.directory.get(keyspace).ok_or(ReadError::UnknownKeyspace)?;
        let (oldest, newest) = (keyspace.compacted, keyspace.revision);
        match at {
            None => Ok(newest),
            Some(asked) if asked < oldest => Err(ReadError::Compacted { asked, oldest }),
            Some(asked) if asked > newest => Err(ReadError::Future { asked, newest }),
            Some(asked) => Ok(asked),
        }
    }

    /// Memory that the layers take, roughly, without the one that was moved into the store last:
    /// the measure of when a checkpoint is due. In all the machine takes up to three times what
    /// a layer holds when it is frozen.
    #[must_use]
    pub fn layer_bytes(&self) -> usize {
        self.layers.active.bytes() + self.layers.frozen.as_ref().map_or(0, |layer| layer.bytes())
    }

    /// The part of [`Machine::layer_bytes`] that is not being moved: while a checkpoint runs, what was
    /// written since it began.
    #[must_use]
    pub fn active_bytes(&self) -> usize {
        self.layers.active.bytes()
    }

    /// Bytes that the state store occupies, roughly.
    #[must_use]
    pub fn store_bytes(&self) -> u64 {
        self.layers.store.size_bytes()
    }

    /// Versions that a compaction could drop: each costs memory besides its place in the store.
    #[must_use]
    pub fn superseded_versions(&self) -> usize {
        self.directory.iter().map(|keyspace| keyspace.superseded.len()).sum()
    }

    /// Number of outcomes that the exactly-once table keeps.
    #[must_use]
    pub fn outcomes_kept(&self) -> usize {
        self.sessions.kept().len()
    }

    /// Index of the newest write whose outcome was evicted; 0 when none was.
    #[must_use]
    pub fn outcomes_floor(&self) -> LogIndex {
        self.sessions.floor()
    }

    /// Freezes the layer and returns the checkpoint that moves it into the store. `None` while one,
    /// an export or a renewal runs, after one was abandoned, and when nothing was applied since the last one.
    ///
    /// The caller steps the job to its end, appends the frame `CheckpointDone` to the log and then
    /// calls [`Machine::finish_checkpoint`]. Takes some microseconds, and one per keyspace.
    pub fn begin_checkpoint(&mut self) -> Option<CheckpointJob> {
        if !matches!(self.work, Work::Idle) || self.applied == self.layers.horizon.index {
            return None;
        }
        assert!(self.layers.frozen.is_none(), "a layer is frozen only while a checkpoint runs");
        if let Some(layer) = self.layers.settled.take().and_then(Arc::into_inner) {
            self.retired.layer(layer);
        }
        let layer = Arc::new(std::mem::take(&mut self.layers.active));
        self.layers.frozen = Some(Arc::clone(&layer));
        self.directory.settle();
        let (outcomes, dropped) = self.sessions.checkpoint(self.applied);
        let cover = Arc::new(Cover {
            index: self.applied,
            term: self.term,
            floor: self.sessions.floor(),
            outcomes: self.sessions.kept().len() as u64,
            conf: self.conf.clone(),
            keyspaces: self.directory.covered(),
        });
        let done = Arc::new(AtomicBool::new(false));
        self.work = Work::Checkpoint { cover: Arc::clone(&cover), done: Arc::clone(&done) };
        Some(CheckpointJob::new(CheckpointParts {
            cover,
            layer,
            outcomes,
            remains: std::mem::take(&mut self.remains),
            dropped,
            garbage: std::mem::take(&mut self.garbage),
            recall: std::mem::take(&mut self.layers.recall),
            done,
        }))
    }

    /// Notes that the store holds everything up to `index`.
    ///
    /// The layer stays as a cache of the store until the next checkpoint begins, and is then freed
    /// bit by bit, so neither call takes long.
    ///
    /// # Panics
    /// When no checkpoint at `index` runs, or its job has not done its last step.
    pub fn finish_checkpoint(&mut self, index: LogIndex) {
        let Work::Checkpoint { cover, done } = std::mem::replace(&mut self.work, Work::Idle) else {
            panic!("a checkpoint is finished once it was begun");
        };
        let begun = cover.index;
        assert!(begun == index, "checkpoint {index} is finished, {begun} runs");
        let done = done.load(Ordering::Acquire);
        assert!(done, "the store holds the checkpoint that is finished");
        self.layers.horizon = Horizon { index, revisions: cover.revisions() };
        self.layers.settled = self.layers.frozen.take();
        self.cover = Some(cover);
        self.dropped = Arc::default();
    }

    /// Gives the running checkpoint up because its store failed.
    ///
    /// Entries are applied and reads answered as before, from the frozen layer, the new one, and as
    /// far as it answers the store; the layers grow. No further checkpoint or export begins on this
    /// machine. The caller builds a new store, from the last export or an empty one, opens another
    /// machine on it, replays the log up to what is applied here, and changes over; or it restarts
    /// the node, which does the same.
    ///
    /// # Panics
    /// When no checkpoint runs.
    pub fn abandon_checkpoint(&mut self) {
        let runs = matches!(self.work, Work::Checkpoint { .. });
        assert!(runs, "only a checkpoint that runs can be abandoned");
        self.work = Work::Abandoned;
    }

    /// Begins to export what the last finished checkpoint covers. `None` while a checkpoint, a
    /// renewal or another export runs, after a checkpoint was abandoned, and before the first is finished.
    ///
    /// Until [`Machine::end_export`] is called no checkpoint begins, so the layer grows.
    pub fn begin_export(&mut self) -> Option<ExportJob> {
        if !matches!(self.work, Work::Idle) {
            return None;
        }
        let cover = Arc::clone(self.cover.as_ref()?);
        self.work = Work::Export;
        Some(ExportJob::new(cover, Arc::clone(&self.dropped)))
    }

    /// Notes that the export is done or was given up, at whatever step.
    ///
    /// # Panics
    /// When no export runs.
    pub fn end_export(&mut self) {
        assert!(matches!(self.work, Work::Export), "an export is ended once it was begun");
        self.work = Work::Idle;
    }

    /// Begins to copy the store into an empty one. `None` while a checkpoint, an export or another
    /// renewal runs, after a checkpoint was abandoned, and before the first is finished.
    ///
    /// Until [`Machine::end_renewal`] is called no checkpoint begins, so the layer grows. Reads go on.
    pub fn begin_renewal(&mut self) -> Option<RenewJob> {
        if !matches!(self.work, Work::Idle) || self.cover.is_none() {
            return None;
        }
        let done = Arc::new(AtomicBool::new(false));
        self.work = Work::Renewal { done: Arc::clone(&done) };
        Some(RenewJob::new(done))
    }

    /// Notes that the renewal is done, and goes on with `renewed`; without one it was given up, at
    /// whatever step. Returns the store that was replaced.
    ///
    /// # Panics
    /// When no renewal runs, or when there is a new store and the job has not done its last step.
    pub fn end_renewal(
        &mut self,
        renewed: Option<Arc<dyn StateStore>>,
    ) -> Option<Arc<dyn StateStore>> {
        let Work::Renewal { done } = std::mem::replace(&mut self.work, Work::Idle) else {
            panic!("a renewal is ended once it was begun");
        };
        let renewed = renewed?;
        assert!(done.load(Ordering::Acquire), "the new store holds everything");
        Some(std::mem::replace(&mut self.layers.store, renewed))
    }

    /// SHA-256 over everything that was applied and lives: equal on replicas at equal index,
    /// whenever they took checkpoints. Reads all versions, so it takes time in proportion.
    ///
    /// # Errors
    /// Those of the store.
    pub fn digest(&self) -> Result<[u8; 32], StateError> {
        digest::digest(&self.layers, &self.directory.covered(), &self.sessions)
    }

    /// Reads the whole store and compares it with its checkpoint, as [`Machine::open`] does.
    ///
    /// # Errors
    /// [`StateError::Damaged`] when an item is missing or differs; those of the store.
    ///
    /// # Panics
    /// While a checkpoint runs: the store is between two.
    pub fn verify(&self) -> Result<(), StateError> {
        let writes = matches!(self.work, Work::Checkpoint { .. });
        assert!(!writes, "a store is verified between checkpoints");
        let cover = Cover::load(&*self.layers.store)?;
        let (found, known) =
            (cover.as_ref().map(|c| c.index), self.cover.as_ref().map(|c| c.index));
        if found != known {
            let why = format!("it holds checkpoint {found:?} instead of {known:?}");
            return Err(StateError::Damaged { why });
        }
        let mut outcomes = 0;
        for outcome in load_outcomes(&*self.layers.store) {
            let (index, _) = outcome?;
            let covered = cover.as_ref().is_some_and(|c| c.floor < index && index <= c.index);
            outcomes += u64::from(covered && !self.dropped.contains(&index));
        }
        cover.as_ref().map_or(Ok(()), |cover| cover.check_outcomes(outcomes))?;
        Survey::take(&*self.layers.store, cover.as_ref(), Recall::new()).map(drop)
    }
}

/// The outcome of a command that was carried out and is no write.
fn done(revision: Revision) -> log::WriteOutcome {
    log::WriteOutcome { revision: revision.get(), succeeded: true, ..Default::default() }
}
