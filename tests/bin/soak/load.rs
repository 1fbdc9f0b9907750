//! All writers together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::{CallOptions, ClientError};
use hdrhistogram::Histogram;
use jepsen::cluster::Cluster;
use proto::{Applied, Code, v1};
use tests::measure::{Failed, Place, Promises};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ledger::Ledger;
use super::writer::Writer;

/// Writers.
const WRITERS: usize = 32;
/// Keys of each writer: about 32 MB of values in all, so that the log, not the state, decides when an
/// export is due.
const KEYS: usize = 1_000;
/// The keyspaces, with the revisions of history that each keeps: few, so that compaction never rests.
const KEYSPACES: [(&str, u64); 3] = [("soak-a", 2_000), ("soak-b", 5_000), ("soak-c", 10_000)];
/// How long an operation may take: longer than an election and a pause.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Most contradictions that are kept in words.
const WRONG_SHOWN: usize = 10;

/// Counts that all writers share.
#[derive(Clone)]
pub struct Counts(Arc<Mutex<Tally>>);

struct Tally {
    minute: Minute,
    answered: u64,
    /// Certainly not applied, or reads, by code.
    failed: BTreeMap<Code, u64>,
    /// Writes of which nobody knows.
    unknown: u64,
    wrong: u64,
    wrongs: Vec<String>,
}

/// What happened since the last row.
pub struct Minute {
    /// Operations that were answered.
    pub answered: u64,
    /// All others.
    pub failed: u64,
    /// Microseconds of the answered ones.
    pub times: Histogram<u64>,
}

impl Minute {
    fn new() -> Self {
        let times = Histogram::new(3).expect("3 significant digits are allowed");
        Self { answered: 0, failed: 0, times }
    }
}

impl Counts {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Tally {
            minute: Minute::new(),
            answered: 0,
            failed: BTreeMap::new(),
            unknown: 0,
            wrong: 0,
            wrongs: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation was answered, and well.
    pub fn answered(&self, took: Duration) {
        let mut tally = self.lock();
        tally.answered += 1;
        tally.minute.answered += 1;
        tally.minute.times += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    }

    /// An operation failed.
    pub fn failed(&self, error: &ClientError) {
        let mut tally = self.lock();
        tally.minute.failed += 1;
        *tally.failed.entry(error.code()).or_default() += 1;
        if error.applied().is_some_and(|applied| applied != Applied::No) {
            tally.unknown += 1;
        }
    }

    /// An answer contradicts what its writer knows.
    pub fn wrong(&self, why: String) {
        let mut tally = self.lock();
        tally.wrong += 1;
        if tally.wrongs.len() < WRONG_SHOWN {
            tally.wrongs.push(why);
        }
    }
}

/// The writers at work.
pub struct Load {
    writers: JoinSet<Ledger>,
    stop: watch::Sender<bool>,
    counts: Counts,
}

/// What the writers know in the end.
pub struct Done {
    /// One per writer.
    pub ledgers: Vec<Ledger>,
    counts: Counts,
}

impl Load {
    /// Creates the keyspaces and starts the writers, `rate` operations a second in all.
    ///
    /// # Errors
    /// A keyspace cannot be created, a client not be set up.
    pub async fn start(cluster: &Cluster, rate: u32, seed: u64) -> Result<Self, Failed> {
        let client = Place::connect(cluster, TIMEOUT, 1)?;
        for (name, history_revisions) in KEYSPACES {
            let settings =
                v1::keyspace::Settings { history_revisions, ..v1::keyspace::Settings::default() };
            let kind = v1::keyspace::Kind::Linearizable;
            client.keyspaces().create(name, kind, settings, &CallOptions::default()).await?;
        }
        let (counts, (stop, stopped)) = (Counts::new(), watch::channel(false));
        let mut writers = JoinSet::new();
        let interval = Duration::from_secs(1) * u32::try_from(WRITERS)? / rate.max(1);
        for number in 0..WRITERS {
            let (keyspace, _) = KEYSPACES[number % KEYSPACES.len()];
            let ledger = Ledger::new(keyspace, number, KEYS);
            // A client each: each has write ids of its own.
            let client = Place::connect(cluster, TIMEOUT, 1)?;
            let seed = seed * 1_000 + number as u64;
            let writer = Writer::new(client, ledger, seed, counts.clone());
            writers.spawn(writer.run(interval, stopped.clone()));
        }
        Ok(Self { writers, stop, counts })
    }

    /// What happened since this was last asked.
    pub fn take_minute(&self) -> Minute {
        std::mem::replace(&mut self.counts.lock().minute, Minute::new())
    }

    /// Ends the load; operations that are open are waited for.
    ///
    /// # Errors
    /// A writer panicked.
    pub async fn stop(mut self) -> Result<Done, Failed> {
        self.stop.send_replace(true);
        let mut ledgers = Vec::new();
        while let Some(ledger) = self.writers.join_next().await {
            ledgers.push(ledger?);
        }
        ledgers.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        Ok(Done { ledgers, counts: self.counts })
    }
}

impl Done {
    /// Prints the counts.
    pub fn report(&self, promises: &mut Promises) {
        let tally = self.counts.lock();
        promises.figure("operations answered", tally.answered);
        for (code, count) in &tally.failed {
            promises.figure(&format!("operations that failed with {code}"), count);
        }
        promises.figure("writes with an unknown outcome", tally.unknown);
        promises.at_most("answers that contradict their writer", tally.wrong, 0, "");
        for why in &tally.wrongs {
            println!("  {why}");
        }
    }
}
