//! The state machine of a data group.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use proto::{Code, KeyspaceId, LogIndex, Revision, Term, log, v1};

use super::checkpoint::{
    CheckpointJob, CheckpointParts, CheckpointRecord, KeyspaceRecord, load_outcomes, revisions,
};
use super::digest::{self, ContentSum};
use super::error::ReadError;
use super::layer::Layer;
use super::outcome::Outcome;
use super::range::{self, RangePage, RangeQuery};
use super::session::{Admission, Name, Sessions};
use super::transaction::{self, Stop};
use super::view::{Horizon, Layers};
use crate::state::{StateError, StateStore};

/// Name of the keyspace that always exists, [`KeyspaceId::DEFAULT`].
pub const DEFAULT_KEYSPACE: &str = "default";

/// Keys of a layer that is no longer needed which each apply frees: in most workloads a layer has
/// taken one apply per key or more, so it is gone before the next one comes, and no apply waits
/// for all.
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
/// 1. [`Machine::applied`] rises by one with each [`Machine::apply`], and with nothing else.
/// 2. The revision of a keyspace never falls, also not over a crash (etcd-io/etcd#17780).
/// 3. At most one layer is frozen, exactly while a checkpoint runs.
/// 4. What a read returns depends on the applied entries alone, not on when checkpoints ran.
#[derive(Debug)]
pub struct Machine {
    layers: Layers,
    keyspaces: BTreeMap<KeyspaceId, Keyspace>,
    sessions: Sessions,
    applied: LogIndex,
    term: Term,
    /// Sum over the versions in the store.
    sum: ContentSum,
    checkpoint: Option<Running>,
    /// Remains of a layer that is no longer read.
    retired: Layer,
}

#[derive(Clone, Debug)]
struct Keyspace {
    name: String,
    revision: Revision,
    /// The oldest revision that can be read.
    compacted: Revision,
}

/// The checkpoint that runs.
#[derive(Debug)]
struct Running {
    horizon: Horizon,
    /// Set when the store durably holds the checkpoint.
    sum: Arc<OnceLock<ContentSum>>,
}

impl Machine {
    /// Opens the machine on `store`, in the state of the last finished checkpoint; without one, at
    /// index 0 with the keyspace [`DEFAULT_KEYSPACE`] empty.
    ///
    /// # Errors
    /// Any [`StateError`]; the caller opens on an empty store and replays the log.
    ///
    /// # Panics
    /// When the options forbid to keep any outcome.
    pub fn open(store: Arc<dyn StateStore>, options: MachineOptions) -> Result<Self, StateError> {
        assert!(options.outcomes_max > 0, "the exactly-once table keeps at least one outcome");
        let mut sessions = Sessions::new(options.outcomes_max, options.outcome_bytes_max);
        let record = CheckpointRecord::load(&*store)?;
        let (index, floor) = record
            .as_ref()
            .map_or((LogIndex(0), LogIndex(0)), |r| (LogIndex(r.index), LogIndex(r.floor)));
        sessions.restore(index, floor, load_outcomes(&*store))?;
        let horizon = Horizon {
            index,
            revisions: record.as_ref().map(|r| revisions(r).collect()).unwrap_or_default(),
        };
        let (keyspaces, term, sum) = match &record {
            Some(record) => (
                record.keyspaces.iter().map(Keyspace::from_record).collect(),
                Term(record.term),
                record.sum()?,
            ),
            None => (
                BTreeMap::from([(KeyspaceId::DEFAULT, Keyspace::empty(DEFAULT_KEYSPACE))]),
                Term(0),
                ContentSum::default(),
            ),
        };
        let layers =
            Layers { active: Layer::default(), frozen: None, settled: None, store, horizon };
        Ok(Self {
            layers,
            keyspaces,
            sessions,
            applied: index,
            term,
            sum,
            checkpoint: None,
            retired: Layer::default(),
        })
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

    /// Applies the committed entry at `index`; without a command it is a no-op, as the entries
    /// that only consensus reads are. Returns what a write came to.
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
        assert!(index == self.applied.next(), "entry {index} after {}", self.applied);
        assert!(term >= self.term, "term {term} after {}", self.term);
        let outcome = match command.and_then(|command| command.body.as_ref()) {
            Some(log::command::Body::Write(write)) => Some(self.write(index, write)?),
            Some(
                log::command::Body::SetMember(_)
                | log::command::Body::ChangeMember(_)
                | log::command::Body::BindMember(_)
                | log::command::Body::ChangeDone(_)
                | log::command::Body::PutKeyspace(_)
                | log::command::Body::OpenKeyspace(_)
                | log::command::Body::CloseKeyspace(_)
                | log::command::Body::Compact(_),
            )
            | None => None,
        };
        self.applied = index;
        self.term = term;
        self.retired.shed(RETIRED_KEYS_FREED);
        Ok(outcome)
    }

    /// Runs a write unless it ran before.
    fn write(
        &mut self,
        index: LogIndex,
        write: &log::Write,
    ) -> Result<log::WriteOutcome, StateError> {
        let name = match Name::read(write.id.as_ref()) {
            Ok(name) => name,
            Err(code) => return Ok(self.refusal(write, code)),
        };
        match name.as_ref().map_or(Admission::Execute, |name| self.sessions.admit(name)) {
            Admission::Execute => {}
            Admission::Replay(outcome) => return Ok(outcome.replay()),
            Admission::Refuse(code) => return Ok(self.refusal(write, code)),
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
        let Some(keyspace) = self.keyspaces.get_mut(&id) else {
            return Ok(self.refusal(write, Code::KeyspaceNotFound));
        };
        let done = match transaction::evaluate(&self.layers, keyspace.revision, index, write) {
            Ok(done) => done,
            Err(Stop::Refused(code)) => return Ok(self.refusal(write, code)),
            Err(Stop::State(error)) => return Err(error),
        };
        if !done.writes.is_empty() {
            keyspace.revision = keyspace.revision.next();
        }
        for (key, version) in done.writes {
            assert!(version.head.revision == keyspace.revision, "all writes have one revision");
            self.layers.active.push(id, key, version);
        }
        Ok(log::WriteOutcome {
            revision: keyspace.revision.get(),
            succeeded: done.succeeded,
            results: done.results,
            replayed: false,
            refused: 0,
        })
    }

    fn refusal(&self, write: &log::Write, code: Code) -> log::WriteOutcome {
        let keyspace = self.keyspaces.get(&KeyspaceId(write.keyspace));
        log::WriteOutcome {
            revision: keyspace.map_or(0, |keyspace| keyspace.revision.get()),
            succeeded: false,
            results: Vec::new(),
            replayed: false,
            refused: code.number(),
        }
    }

    /// The id of the keyspace with this name.
    #[must_use]
    pub fn keyspace(&self, name: &str) -> Option<KeyspaceId> {
        let mut all = self.keyspaces.iter();
        all.find(|(_, keyspace)| keyspace.name == name).map(|(id, _)| *id)
    }

    /// The current revision of a keyspace; 0 when there is no such keyspace.
    #[must_use]
    pub fn revision(&self, keyspace: KeyspaceId) -> Revision {
        self.keyspaces.get(&keyspace).map_or(Revision(0), |keyspace| keyspace.revision)
    }

    /// The oldest revision of a keyspace that can be read; 0 when there is no such keyspace.
    #[must_use]
    pub fn compacted(&self, keyspace: KeyspaceId) -> Revision {
        self.keyspaces.get(&keyspace).map_or(Revision(0), |keyspace| keyspace.compacted)
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

    /// The revision to read, if it can be read.
    fn readable(&self, keyspace: KeyspaceId, at: Option<Revision>) -> Result<Revision, ReadError> {
        let keyspace = self.keyspaces.get(&keyspace).ok_or(ReadError::UnknownKeyspace)?;
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

    /// Bytes that the state store occupies, roughly.
    #[must_use]
    pub fn store_bytes(&self) -> u64 {
        self.layers.store.size_bytes()
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

    /// Freezes the layer and returns the checkpoint that moves it into the store. `None` while one
    /// runs, and when nothing was applied since the last one.
    ///
    /// The caller steps the job to its end, appends the frame `CheckpointDone` to the log and then
    /// calls [`Machine::finish_checkpoint`].
    pub fn begin_checkpoint(&mut self) -> Option<CheckpointJob> {
        let last = self.layers.horizon.index;
        if self.checkpoint.is_some() || self.applied == last {
            return None;
        }
        assert!(self.layers.frozen.is_none(), "a layer is frozen only while a checkpoint runs");
        if let Some(layer) = self.layers.settled.take().and_then(Arc::into_inner) {
            self.retired = layer;
        }
        let layer = Arc::new(std::mem::take(&mut self.layers.active));
        self.layers.frozen = Some(Arc::clone(&layer));
        let (outcomes, garbage) = self.sessions.checkpoint(last, self.applied);
        let floor = self.sessions.floor();
        let record = CheckpointRecord::new(self.applied, self.term, floor, self.keyspace_records());
        let horizon = Horizon { index: self.applied, revisions: revisions(&record).collect() };
        let result = Arc::new(OnceLock::new());
        self.checkpoint = Some(Running { horizon, sum: Arc::clone(&result) });
        let sum = self.sum;
        let parts = CheckpointParts { record, layer, sum, outcomes, garbage, result };
        Some(CheckpointJob::new(parts))
    }

    /// Notes that the store holds everything up to `index`.
    ///
    /// The layer stays as a cache of the store until the next checkpoint begins, and is then freed
    /// bit by bit, so neither call takes long.
    ///
    /// # Panics
    /// When no checkpoint at `index` runs, or its job has not done its last step.
    pub fn finish_checkpoint(&mut self, index: LogIndex) {
        let running = self.checkpoint.take().expect("a checkpoint is finished once it was begun");
        assert!(
            running.horizon.index == index,
            "checkpoint {index} is finished, {} runs",
            running.horizon.index
        );
        self.sum = *running.sum.get().expect("the store holds the checkpoint that is finished");
        self.layers.horizon = running.horizon;
        self.layers.settled = self.layers.frozen.take();
    }

    /// SHA-256 over everything that was applied: equal on replicas at equal index, whenever they
    /// took checkpoints. Reads all versions, so it takes time in proportion.
    ///
    /// # Errors
    /// Those of the store.
    pub fn digest(&self) -> Result<[u8; 32], StateError> {
        digest::digest(&self.layers, &self.keyspace_records(), &self.sessions)
    }

    /// Reads the whole store and compares it with the sum in its checkpoint record.
    ///
    /// # Errors
    /// [`StateError::Damaged`] when a version is missing or differs; those of the store.
    pub fn verify(&self) -> Result<(), StateError> {
        if digest::stored_sum(&self.layers)? == self.sum {
            return Ok(());
        }
        let index = self.layers.horizon.index;
        let why = format!("its versions do not add up to the sum of checkpoint {index}");
        Err(StateError::Damaged { why })
    }

    fn keyspace_records(&self) -> Vec<KeyspaceRecord> {
        let record = |(id, keyspace): (&KeyspaceId, &Keyspace)| KeyspaceRecord {
            id: id.get(),
            name: keyspace.name.clone(),
            revision: keyspace.revision.get(),
            compacted: keyspace.compacted.get(),
        };
        self.keyspaces.iter().map(record).collect()
    }
}

impl Keyspace {
    fn empty(name: &str) -> Self {
        Self { name: name.to_owned(), revision: Revision::EMPTY, compacted: Revision::EMPTY }
    }

    fn from_record(record: &KeyspaceRecord) -> (KeyspaceId, Self) {
        let keyspace = Self {
            name: record.name.clone(),
            revision: Revision(record.revision),
            compacted: Revision(record.compacted),
        };
        (KeyspaceId(record.id), keyspace)
    }
}
