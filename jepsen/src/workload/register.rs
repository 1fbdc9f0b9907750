//! Concurrent reads, writes, cas and deletes on few keys.
//!
//! Every process keeps what it last saw of each key and bases its cas on that: "only if the key
//! still has this revision". Written values are unique, so a cas by revision is a cas by value, and
//! the history can be judged both as registers and by its revisions.
//!
//! Half of the processes talk to one node only, so that every node is asked even while another one
//! leads; the others know all nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use client::{CallOptions, Client, ClientError};
use proto::v1;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::load::Load;
use crate::error::LabError;
use crate::operation::{Call, Function, Operation};
use crate::recorder::{Open, Process, Recorder};
use crate::target::Target;
use crate::value::Value;
use crate::wire;

/// How long a process pauses after an operation that found no one to talk to. Without it an
/// unreachable node would fill the history with failures.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// At which level processes read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ReadLevel {
    /// The newest value.
    #[default]
    Linearizable,
    /// What the asked node has.
    Eventual,
}

impl ReadLevel {
    /// The word of the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Eventual => "eventual",
        }
    }

    pub(super) const fn wire(self) -> v1::Level {
        match self {
            Self::Linearizable => v1::Level::Linearizable,
            Self::Eventual => v1::Level::Eventual,
        }
    }
}

/// The workload, as its load says.
#[derive(Clone, Debug, Default)]
pub struct RegisterWorkload(pub Load);

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterSummary {
    /// Operations that succeeded.
    pub ok: usize,
    /// Operations that certainly had no effect.
    pub fail: usize,
    /// Operations with an unknown outcome.
    pub info: usize,
}

impl RegisterSummary {
    /// Counts the outcomes in a history.
    #[must_use]
    pub fn of(history: &[Operation]) -> Self {
        use crate::operation::Outcome;
        let count = |outcome| history.iter().filter(|o| o.outcome == outcome).count();
        Self { ok: count(Outcome::Ok), fail: count(Outcome::Fail), info: count(Outcome::Info) }
    }
}

impl RegisterWorkload {
    /// The name of a key.
    fn key(number: usize) -> String {
        format!("r{number}")
    }

    /// Starts the processes. They run until the operations are used up or `stop` becomes true.
    ///
    /// # Errors
    ///
    /// [`LabError::Parameters`] for nonsense, [`LabError::Client`] if a client cannot be set up.
    pub fn start(
        &self,
        target: &dyn Target,
        recorder: &Recorder,
        stop: &watch::Receiver<bool>,
    ) -> Result<JoinSet<()>, LabError> {
        if self.0.clients == 0 || self.0.keys == 0 {
            return Err(LabError::Parameters("clients and keys must be at least 1".to_owned()));
        }
        let shared = Arc::new(Shared {
            parameters: self.0.clone(),
            next_value: AtomicU64::new(1),
            operations: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        for number in 0..self.0.clients {
            let endpoints = Load::endpoints_of(number, target.endpoints());
            let worker = Worker {
                shared: Arc::clone(&shared),
                client: target.client(endpoints, self.0.timeout)?,
                process: recorder.process(),
                rng: self.0.rng_of(number),
                known: HashMap::new(),
                last: None,
            };
            tasks.spawn(worker.run(stop.clone()));
        }
        Ok(tasks)
    }

    /// Reads each key once after the faults have ended, repeating until it succeeds. What was
    /// lost shows here at the latest.
    ///
    /// # Errors
    ///
    /// [`LabError::Client`] if a key cannot be read within `patience`: the cluster did not recover.
    pub async fn read_all(
        &self,
        target: &dyn Target,
        recorder: &Recorder,
        patience: Duration,
    ) -> Result<(), LabError> {
        let deadline = Instant::now() + patience;
        let client = target.client(target.endpoints(), self.0.timeout)?;
        let level = Some(v1::Level::Linearizable);
        let options = CallOptions { level, ..CallOptions::default() };
        let mut process = recorder.process();
        for key in (0..self.0.keys).map(Self::key) {
            loop {
                let open = process.invoke(Call::read(&key));
                match wire::read(&client, &key, &options).await {
                    Ok(seen) => {
                        open.ok(|operation| seen.fill(operation));
                        break;
                    }
                    Err(error) if Instant::now() < deadline => {
                        open.fail(error.code().to_string());
                        sleep(PAUSE_AFTER_FAILURE).await;
                    }
                    Err(error) => {
                        open.fail(error.code().to_string());
                        let what = format!("read {key:?} after all faults ended");
                        return Err(LabError::client(what)(error));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What all processes share.
#[derive(Debug)]
struct Shared {
    parameters: Load,
    next_value: AtomicU64,
    operations: AtomicUsize,
}

/// What a process knows of a key: its value and the revision that wrote it, 0 for an absent key.
#[derive(Clone, Debug)]
struct Known {
    value: Option<Value>,
    revision: u64,
}

/// One process.
#[derive(Debug)]
struct Worker {
    shared: Arc<Shared>,
    client: Client,
    process: Process,
    rng: ChaCha8Rng,
    known: HashMap<String, Known>,
    /// The key of the last operation, if it told what the key holds.
    last: Option<String>,
}

impl Worker {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let parameters = &self.shared.parameters;
        let (max, think) = (parameters.operations_max, parameters.think);
        // An operation that has begun is finished, so that few outcomes stay unknown.
        while !*stop.borrow() && self.shared.operations.fetch_add(1, Ordering::Relaxed) < max {
            let reached = self.one().await;
            let pause = if reached { think } else { PAUSE_AFTER_FAILURE };
            tokio::select! {
                () = sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Does one operation; false if nobody answered.
    async fn one(&mut self) -> bool {
        let random = RegisterWorkload::key(self.rng.random_range(0..self.shared.parameters.keys));
        // Coming back to a key at once gives a cas a chance to find it unchanged.
        let back = self.last.take().filter(|_| self.rng.random_bool(0.5));
        let key = back.unwrap_or(random);
        let known = self.known.get(&key).cloned();
        let dice = self.rng.random_range(0..100);
        let (call, revision) = match (dice, known) {
            (0..45, _) => (Call::read(&key), None),
            (45..70, Some(known)) => {
                (Call::cas(&key, known.value, self.value()), Some(known.revision))
            }
            (70..78, _) => (Call::delete(&key), None),
            _ => (Call::write(&key, self.value()), None),
        };
        let level = Some(self.shared.parameters.level.wire());
        let options = CallOptions { level, ..CallOptions::default() };
        let open = self.process.invoke(call.clone());
        let known = match call.function {
            Function::Read => match wire::read(&self.client, &key, &options).await {
                Ok(seen) => {
                    let revision = seen.revision.unwrap_or(0);
                    let known = Known { value: seen.value.clone(), revision };
                    open.ok(|operation| seen.fill(operation));
                    Some(known)
                }
                Err(error) => return read_failed(open, &error),
            },
            _ => match wire::write(&self.client, &call, revision, &options).await {
                Ok(Some(written)) => {
                    let revision = written.revision.filter(|_| call.value.is_some());
                    open.ok(|operation| written.fill(operation));
                    Some(Known { value: call.value, revision: revision.unwrap_or(0) })
                }
                Ok(None) => {
                    open.fail("the condition did not hold");
                    None
                }
                Err(error) => return write_failed(open, &error),
            },
        };
        match known {
            Some(known) => {
                self.last = Some(key.clone());
                self.known.insert(key, known);
            }
            // What was known is outdated; the next cas waits for a new look.
            None => {
                self.known.remove(&key);
            }
        }
        true
    }

    fn value(&self) -> String {
        self.shared.next_value.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

/// Records a failed read, which had no effect whatever happened. False if nobody answered.
fn read_failed(open: Open<'_>, error: &ClientError) -> bool {
    open.fail(error.to_string());
    answered(error)
}

/// Records a failed write by what is certain about it. False if nobody answered.
fn write_failed(open: Open<'_>, error: &ClientError) -> bool {
    match error.applied() {
        Some(proto::Applied::No) => open.fail(error.to_string()),
        // Applied at some time, but nobody knows its revision: also told by an unknown outcome.
        Some(proto::Applied::Yes | proto::Applied::Unknown) | None => open.info(error.to_string()),
    }
    answered(error)
}

fn answered(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(_))
}
