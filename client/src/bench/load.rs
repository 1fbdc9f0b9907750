//! The load: workers that share a client, closed or on schedule.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::v1;
use proto::v1::keyspace::Kind;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::plan::{Operation, Pace, Plan};
use super::report::{Report, Tally};
use crate::client::Client;
use crate::config::CallOptions;
use crate::error::ClientError;
use crate::pages::{Pages, prefix_end};

/// Prefix of all keys.
const PREFIX: &str = "bench/";
/// Bytes from which values are cut: values differ, but none is made anew.
const NOISE_BYTES: usize = 1024 * 1024;
/// Most keys written by one transaction when loading.
const LOAD_BATCH_KEYS: usize = proto::limits::TXN_OPERATIONS_MAX;
/// Most bytes written by one transaction when loading.
const LOAD_BATCH_BYTES: usize = 512 * 1024;
/// Transactions at once when loading.
const LOAD_IN_FLIGHT: usize = 8;
/// The schedule is looked at no more often than this.
const TICK: Duration = Duration::from_micros(50);
/// How long after its end the last operations of a schedule may be started.
const LAST_CALL: Duration = Duration::from_millis(20);

/// Key number `at`.
fn key(at: u64) -> Bytes {
    Bytes::from(format!("{PREFIX}{at:08}"))
}

/// Random bytes that values are cut from.
fn noise(plan: &Plan) -> Bytes {
    let mut noise = vec![0; NOISE_BYTES + plan.value_bytes];
    StdRng::seed_from_u64(plan.seed).fill_bytes(&mut noise);
    noise.into()
}

fn value(noise: &Bytes, rng: &mut StdRng, bytes: usize) -> Bytes {
    let from = rng.random_range(0..=noise.len() - bytes);
    noise.slice(from..from + bytes)
}

/// Writes the keys of a plan, unless as many are there. Returns how many were written.
///
/// # Errors
/// The first error; some keys are written then.
pub async fn load(client: &Client, plan: &Plan) -> Result<u64, ClientError> {
    let options = CallOptions::default();
    let eventual = client.kind(&options).await == Some(Kind::Eventual);
    let level = if eventual { v1::Level::Eventual } else { v1::Level::Linearizable };
    let request = v1::RangeRequest {
        level: level as i32,
        from: PREFIX.into(),
        to: prefix_end(PREFIX.as_bytes()),
        count_only: true,
        ..Default::default()
    };
    let (there, _) = Pages::new(client, request, None, options.clone()).count().await?;
    if there >= plan.keys {
        return Ok(0);
    }
    let noise = noise(plan);
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let per_batch = (LOAD_BATCH_BYTES / (plan.value_bytes + 64)).clamp(1, LOAD_BATCH_KEYS) as u64;
    let mut batches = JoinSet::new();
    let mut next = 0;
    while next < plan.keys {
        let end = plan.keys.min(next + per_batch);
        let pair = |at| (key(at), value(&noise, &mut rng, plan.value_bytes));
        let pairs: Vec<(Bytes, Bytes)> = (next..end).map(pair).collect();
        next = end;
        if batches.len() >= LOAD_IN_FLIGHT {
            batches.join_next().await.map_or(Ok(()), finished)?;
        }
        let (client, options) = (client.clone(), options.clone());
        batches.spawn(async move {
            match eventual {
                true => write_each(&client, pairs, &options).await,
                false => write_at_once(&client, pairs, &options).await,
            }
        });
    }
    while let Some(outcome) = batches.join_next().await {
        finished(outcome)?;
    }
    Ok(plan.keys)
}

async fn write_at_once(
    client: &Client,
    pairs: Vec<(Bytes, Bytes)>,
    options: &CallOptions,
) -> Result<(), ClientError> {
    let put = |(key, value)| v1::PutOp { key, value, prev: false };
    let then_ops = pairs.into_iter().map(put).map(|put| v1::Op { op: Some(v1::op::Op::Put(put)) });
    let request = v1::TxnRequest { then_ops: then_ops.collect(), ..Default::default() };
    client.txn(request, options).await.map(drop)
}

/// An eventual keyspace has no transactions.
async fn write_each(
    client: &Client,
    pairs: Vec<(Bytes, Bytes)>,
    options: &CallOptions,
) -> Result<(), ClientError> {
    for (key, value) in pairs {
        client.put_value(key, value, options).await?;
    }
    Ok(())
}

fn finished(
    outcome: Result<Result<(), ClientError>, tokio::task::JoinError>,
) -> Result<(), ClientError> {
    outcome.expect("a batch neither panics nor is cancelled")
}

/// Counts so far, for progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Answered.
    pub ok: u64,
    /// Not answered, whatever is known of them.
    pub failed: u64,
}

/// What the workers share.
#[derive(Debug)]
struct Shared {
    client: Client,
    options: CallOptions,
    plan: Plan,
    noise: Bytes,
    start: Instant,
    stop: AtomicBool,
    ok: AtomicU64,
    failed: AtomicU64,
    /// Of an open pace: operations that are due and not started, and the number of the next one.
    due: Semaphore,
    next: AtomicU64,
}

/// A measurement that is under way. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    workers: JoinSet<Vec<(Operation, Tally)>>,
    finished: Vec<Vec<(Operation, Tally)>>,
    stopped_at: Option<Instant>,
}

impl Running {
    /// Starts a measurement. Reads have the client's level.
    #[must_use]
    pub fn start(client: &Client, plan: Plan) -> Self {
        assert!(plan.keys > 0, "a plan has keys");
        let shared = Arc::new(Shared {
            client: client.clone(),
            options: CallOptions::default(),
            noise: noise(&plan),
            start: Instant::now(),
            stop: AtomicBool::new(false),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            due: Semaphore::new(0),
            next: AtomicU64::new(0),
            plan,
        });
        let mut workers = JoinSet::new();
        for worker in 0..shared.plan.pace.in_flight().get() {
            workers.spawn(work(shared.clone(), u64::from(worker)));
        }
        if let Pace::Open { rate, .. } = shared.plan.pace {
            let shared = shared.clone();
            thread::spawn(move || keep_schedule(&shared, rate.get()));
        }
        Self { shared, workers, finished: Vec::new(), stopped_at: None }
    }

    /// Counts so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            ok: self.shared.ok.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
        }
    }

    /// How long it has been under way.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Starts no more operations; open ones are waited for.
    pub fn stop(&mut self) {
        self.stopped_at.get_or_insert_with(Instant::now);
        self.shared.end();
    }

    /// Waits until all operations have ended. May be cancelled and called again.
    pub async fn wait(&mut self) {
        while let Some(tallies) = self.workers.join_next().await {
            self.finished.push(tallies.expect("a worker neither panics nor is cancelled"));
        }
    }

    /// What was found, of the operations that have ended.
    #[must_use]
    pub fn report(self) -> Report {
        let plan = &self.shared.plan;
        let until_stop = self.stopped_at.map(|stopped| stopped - self.shared.start);
        let mut tallies: Vec<(Operation, Tally)> = Operation::ALL
            .into_iter()
            .filter(|operation| plan.mix.has(*operation))
            .map(|operation| (operation, Tally::default()))
            .collect();
        for (operation, found) in self.finished.iter().flatten() {
            for (_, tally) in tallies.iter_mut().filter(|(of, _)| of == operation) {
                tally.add(found);
            }
        }
        Report {
            elapsed: until_stop.unwrap_or(plan.duration).min(plan.duration),
            tallies,
            missed: self.shared.due.available_permits() as u64,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Shared {
    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the workers that wait for their turn. What is due can still be counted.
        self.due.close();
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.start.elapsed() >= self.plan.duration
    }

    /// When the next operation of a worker starts, or started; `None` when all is over.
    async fn turn(&self) -> Option<Instant> {
        let Pace::Open { rate, .. } = self.plan.pace else {
            return (!self.is_over()).then(Instant::now);
        };
        self.due.acquire().await.ok()?.forget();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some(self.start + offset(number, rate.get()))
    }
}

/// When operation `number` is scheduled, from the start.
fn offset(number: u64, rate: u32) -> Duration {
    let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Makes operations due on time. A thread of its own: the timers of the runtime are too coarse.
fn keep_schedule(shared: &Shared, rate: u32) {
    let all = shared.plan.duration.as_nanos() * u128::from(rate) / 1_000_000_000;
    let mut released: u128 = 0;
    while released < all && !shared.stop.load(Ordering::Relaxed) {
        let passed = shared.start.elapsed().as_nanos();
        let due = (passed * u128::from(rate) / 1_000_000_000 + 1).min(all);
        let new = usize::try_from(due - released).expect("a tick makes few operations due");
        shared.due.add_permits(new);
        released = due;
        let next = offset(u64::try_from(released).unwrap_or(u64::MAX), rate);
        thread::sleep(next.saturating_sub(shared.start.elapsed()).max(TICK));
    }
    // Who became due at the very end still gets its turn, if a worker is free.
    while shared.start.elapsed() < shared.plan.duration + LAST_CALL
        && !shared.stop.load(Ordering::Relaxed)
    {
        thread::sleep(LAST_CALL / 4);
    }
    shared.due.close();
}

/// One worker: one operation after the other.
async fn work(shared: Arc<Shared>, number: u64) -> Vec<(Operation, Tally)> {
    // Far apart, so that neighbouring seeds share no worker's sequence.
    let seed = shared.plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut tallies: Vec<(Operation, Tally)> =
        Operation::ALL.map(|operation| (operation, Tally::default())).into();
    while let Some(start) = shared.turn().await {
        let operation = shared.plan.mix.draw(&mut rng);
        let outcome = act(&shared, operation, &mut rng).await;
        let tally = tallies.iter_mut().find(|(of, _)| *of == operation);
        let (_, tally) = tally.expect("there is a tally for every operation");
        match outcome {
            Ok(()) => {
                tally.answered(start.elapsed());
                shared.ok.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                tally.failed(&error);
                shared.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    tallies
}

async fn act(shared: &Shared, operation: Operation, rng: &mut StdRng) -> Result<(), ClientError> {
    let key = key(rng.random_range(0..shared.plan.keys));
    match operation {
        Operation::Get => {
            let request = v1::GetRequest { key, ..Default::default() };
            shared.client.get(request, &shared.options).await.map(drop)
        }
        Operation::Put => {
            let value = value(&shared.noise, rng, shared.plan.value_bytes);
            let request = v1::PutRequest { key, value, ..Default::default() };
            shared.client.put(request, &shared.options).await.map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_does_not_drift() {
        assert_eq!(offset(0, 3), Duration::ZERO);
        assert_eq!(offset(3, 3), Duration::from_secs(1));
        assert_eq!(offset(3_000_000_000, 3), Duration::from_secs(1_000_000_000));
    }

    #[test]
    fn keys_sort_as_they_are_numbered() {
        assert!(key(9) < key(10));
        assert_eq!(key(42), "bench/00000042");
    }
}
