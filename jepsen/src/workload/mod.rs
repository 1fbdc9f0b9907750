//! Workloads: what clients do to a cluster while it is being disturbed.
//!
//! A workload is a [`Script`], what one process does, operation by operation; `script` drives all of
//! them and reads the whole state at the end. Each names the models that its history is judged by.
//! The workload of registers is older and drives itself. [`causal_calls`]: single calls of eventual
//! keyspaces, also for others.
//!
//! To add one: a file with a `Script` whose operations look as `docs/lab.md` says, and a line in each
//! match of [`WorkloadKind`].
//!
//! There is none of watches, as the server has no watch yet.

pub mod causal_calls;
pub mod register;

mod bank;
mod cas;
mod counter;
mod eventual;
mod list_append;
mod load;
mod script;
mod session;
mod set;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use client::CallOptions;
use proto::v1;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::load::Load;
pub use self::register::{ReadLevel, RegisterSummary, RegisterWorkload};
pub use self::script::{Hand, Script, Step};
use crate::error::LabError;
use crate::recorder::Recorder;
use crate::target::Target;

/// The workloads by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadKind {
    /// Reads, writes, cas by revision and deletes.
    Register,
    /// Cas by value.
    Cas,
    /// Transfers between accounts.
    Bank,
    /// Adds to sets.
    Set,
    /// Adds to counters.
    Counter,
    /// Transactions on lists.
    ListAppend,
    /// Clients that move between replicas.
    Session,
    /// Eventual keyspaces.
    Eventual,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Register,
        Self::Cas,
        Self::Bank,
        Self::Set,
        Self::Counter,
        Self::ListAppend,
        Self::Session,
        Self::Eventual,
    ];

    /// The word of the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Cas => "cas",
            Self::Bank => "bank",
            Self::Set => "set",
            Self::Counter => "counter",
            Self::ListAppend => "list-append",
            Self::Session => "session",
            Self::Eventual => "eventual",
        }
    }

    /// What its clients do, in a line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Register => "reads, writes, cas by revision and deletes on few keys",
            Self::Cas => "reads and cas by value on few keys",
            Self::Bank => "transfers between accounts by transactions, reads of all accounts",
            Self::Set => "a key for each element of a set, reads of ranges",
            Self::Counter => "adds by read and cas, reads",
            Self::ListAppend => "transactions that append to several lists and read them",
            Self::Session => "clients that move between replicas and never go back",
            Self::Eventual => "puts, deletes and reads of eventual keyspaces at single nodes",
        }
    }

    /// The models that it is judged by, where reads are of this level.
    #[must_use]
    pub const fn models(self, level: ReadLevel) -> &'static [&'static str] {
        match (self, level) {
            (Self::Register | Self::Cas, _) => &["register", "revision"],
            (Self::Bank, _) => &["bank"],
            (Self::Set, ReadLevel::Linearizable) => &["set", "set-full"],
            (Self::Set, ReadLevel::Eventual) => &["set"],
            (Self::Counter, _) => &["counter"],
            (Self::ListAppend, _) => &["list-append", "list-append-strict"],
            (Self::Session, _) => &[
                "read-your-writes",
                "monotonic-reads",
                "monotonic-writes",
                "writes-follow-reads",
                "sequential",
            ],
            (Self::Eventual, _) => &["convergence"],
        }
    }

    /// The scripts of its processes; what they share belongs to this value.
    #[must_use]
    pub fn begin(self, load: &Load) -> Work {
        Work { kind: self, load: load.clone(), next: Arc::new(AtomicU64::new(0)) }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for WorkloadKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.into_iter().map(Self::as_str).collect();
            format!("there is no workload \"{word}\"; there are {}", all.join(", "))
        })
    }
}

/// A workload in a run.
#[derive(Clone, Debug)]
pub struct Work {
    kind: WorkloadKind,
    load: Load,
    next: Arc<AtomicU64>,
}

impl Work {
    /// Starts the processes. They run until the operations are used up or `stop` becomes true.
    ///
    /// # Errors
    ///
    /// [`LabError::Parameters`] for nonsense, or if its state cannot be made within `patience`,
    /// [`LabError::Client`] if a client cannot be set up.
    pub async fn start(
        &self,
        target: &dyn Target,
        recorder: &Recorder,
        stop: &watch::Receiver<bool>,
        patience: Duration,
    ) -> Result<JoinSet<()>, LabError> {
        let load = &self.load;
        if load.clients == 0 || load.keys == 0 {
            return Err(LabError::Parameters("clients and keys must be at least 1".to_owned()));
        }
        if self.kind == WorkloadKind::Register {
            return self.registers().start(target, recorder, stop);
        }
        script::start(&|| self.script(), load, target, recorder, stop, patience).await
    }

    /// Reads the whole state after the faults have ended.
    ///
    /// # Errors
    ///
    /// [`LabError`] if that does not succeed within `patience`: the cluster did not recover.
    pub async fn finish(
        &self,
        target: &dyn Target,
        recorder: &Recorder,
        patience: Duration,
    ) -> Result<(), LabError> {
        if self.kind == WorkloadKind::Register {
            return self.registers().read_all(target, recorder, patience).await;
        }
        script::finish(&|| self.script(), &self.load, target, recorder, patience).await
    }

    fn registers(&self) -> RegisterWorkload {
        RegisterWorkload(self.load.clone())
    }

    /// The script of one process.
    fn script(&self) -> Box<dyn Script> {
        let (keys, next) = (self.load.keys, Arc::clone(&self.next));
        match self.kind {
            WorkloadKind::Register | WorkloadKind::Cas => {
                Box::new(cas::Cas { keys, next, known: HashMap::new() })
            }
            // Money needs somewhere to go.
            WorkloadKind::Bank => Box::new(bank::Bank { accounts: keys + 2 }),
            WorkloadKind::Set => Box::new(set::Set { next }),
            WorkloadKind::Counter => Box::new(counter::Counter { keys }),
            WorkloadKind::ListAppend => Box::new(list_append::ListAppend { keys, next }),
            WorkloadKind::Session => Box::new(session::Session { keys, next, seen: 0 }),
            WorkloadKind::Eventual => Box::new(eventual::Eventual::new(keys, next)),
        }
    }
}

/// Options of a call at this level.
fn options(level: v1::Level) -> CallOptions {
    CallOptions { level: Some(level), ..CallOptions::default() }
}

/// Options of what must see the newest.
fn strong() -> CallOptions {
    options(v1::Level::Linearizable)
}

/// The condition that a key still has this revision; 0: that it is absent.
fn unchanged(key: &str, revision: u64) -> v1::Compare {
    let target = Some(v1::compare::Target::ModRev(revision));
    v1::Compare { key: key.to_owned().into(), target }
}

/// A put as part of a transaction.
fn put(key: &str, value: String) -> v1::Op {
    let put = v1::PutOp { key: key.to_owned().into(), value: value.into(), prev: false };
    v1::Op { op: Some(v1::op::Op::Put(put)) }
}
