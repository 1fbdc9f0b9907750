//! Offers a cluster twice the load that it can carry.
//!
//! Three real processes on loopback, and this program, share the machine. First the capacity: 128
//! writers, each with the next write as soon as the one before was answered. Then writes are started
//! on a schedule, twice as many a second as that, each sent once: what cannot be taken in must be
//! refused at once, typed and certainly not applied, and what is taken in must not suffer.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use client::bench::{Mix, Operation, Pace, Plan, Running};
use hdrhistogram::Histogram;
use proto::{Applied, Code, v1};
use tests::measure::{Attempt, Failed, Leader, Place, Promises, Single, leader_soon};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Bytes of each value.
const VALUE_BYTES: usize = 256;
/// Keys that are written.
const KEYS: u64 = 10_000;
/// Writers while the capacity is measured.
const CLOSED_IN_FLIGHT: u32 = 128;
/// Writes that may be open under overload: more than a node admits, so that its bound is what acts.
const SLOTS: usize = 12_000;
/// Connections that carry them; a connection carries 1,024 requests at once.
const CONNECTIONS: usize = 16;
/// How long a write waits for its answer: the default of the client library.
const PATIENCE: Duration = Duration::from_secs(5);
/// The cluster runs under load for this long before anything counts.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long the cluster may take to answer once the load is over.
const LEADER_MAX: Duration = Duration::from_secs(10);
/// Time between two looks at the schedule.
const TICK: Duration = Duration::from_millis(1);

/// Measures the capacity of a cluster, then offers more.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    place: Place,
    /// Seconds of each of the two measurements.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Offered load, as a multiple of the capacity.
    #[arg(long, default_value_t = 2.0)]
    factor: f64,
    /// Fails when less than this share of the capacity remains, in per cent.
    #[arg(long, default_value_t = 80.0)]
    goodput_per_cent: f64,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(&args)).map_err(|error| error as Box<dyn Error>)
}

async fn measure(args: &Args) -> Result<ExitCode, Failed> {
    let mut cluster = args.place.boot("overload").await?;
    let client = Place::connect(&cluster, PATIENCE, 4)?;
    let time = Duration::from_secs(args.seconds);
    closed(&client, WARM_UP).await;
    let capacity = closed(&client, time).await;
    let before = leader_soon(&cluster, &client, LEADER_MAX).await?;
    println!("capacity: {capacity:.0} writes/s of {VALUE_BYTES} B, {CLOSED_IN_FLIGHT} in flight");

    let single = Single::connect(&cluster, before.node, CONNECTIONS).await?;
    let rate = capacity * args.factor;
    let found = open(single, rate, time).await?;
    let after = leader_soon(&cluster, &client, LEADER_MAX).await?;
    cluster.check_alive()?;
    let again = closed(&client, WARM_UP).await;
    Ok(report(args, capacity, rate, &found, (before, after), again))
}

/// Acknowledged writes a second, closed loop.
async fn closed(client: &client::Client, time: Duration) -> f64 {
    let in_flight = NonZeroU32::new(CLOSED_IN_FLIGHT).expect("the constant is not 0");
    let mut running = Running::start(
        client,
        Plan {
            mix: Mix::only(Operation::Put),
            pace: Pace::Closed { in_flight },
            duration: time,
            keys: KEYS,
            value_bytes: VALUE_BYTES,
            seed: 1,
        },
    );
    running.wait().await;
    let report = running.report();
    report.per_second(&report.total())
}

/// What came of the writes of an open loop.
#[derive(Debug)]
struct Found {
    offered: u64,
    acknowledged: u64,
    /// Typed refusals, by code.
    refused: BTreeMap<Code, u64>,
    /// Refusals that say `applied=no` and when to come back.
    honest: u64,
    /// Typed errors of writes that may have been applied.
    unknown: u64,
    /// Neither acknowledged nor typed, with an example.
    untyped: (u64, String),
    /// Never answered.
    silent: u64,
    /// Due, but not sent, because too many were open.
    late: u64,
    seconds: f64,
    /// Microseconds from the send to the answer, of the acknowledged and of the refused.
    answered: Histogram<u64>,
    turned_away: Histogram<u64>,
}

impl Found {
    fn new() -> Result<Self, Failed> {
        Ok(Self {
            offered: 0,
            acknowledged: 0,
            refused: BTreeMap::new(),
            honest: 0,
            unknown: 0,
            untyped: (0, String::new()),
            silent: 0,
            late: 0,
            seconds: 0.0,
            answered: Histogram::new(3)?,
            turned_away: Histogram::new(3)?,
        })
    }

    fn note(&mut self, attempt: Attempt, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.offered += 1;
        match attempt {
            Attempt::Acknowledged => {
                self.acknowledged += 1;
                self.answered += micros;
            }
            Attempt::Refused(failure) => {
                *self.refused.entry(failure.code).or_default() += 1;
                match (failure.applied, failure.retry_after) {
                    (Some(Applied::No), Some(_)) => {
                        self.honest += 1;
                        self.turned_away += micros;
                    }
                    (Some(Applied::No), None) => {}
                    (Some(Applied::Unknown | Applied::Yes) | None, _) => self.unknown += 1,
                }
            }
            Attempt::Untyped(why) => self.untyped = (self.untyped.0 + 1, why),
            Attempt::Silent => self.silent += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.acknowledged += other.acknowledged;
        for (code, count) in &other.refused {
            *self.refused.entry(*code).or_default() += count;
        }
        self.honest += other.honest;
        self.unknown += other.unknown;
        if other.untyped.0 > 0 {
            self.untyped = (self.untyped.0 + other.untyped.0, other.untyped.1.clone());
        }
        self.silent += other.silent;
        self.answered += &other.answered;
        self.turned_away += &other.turned_away;
    }
}

/// What the slots of an open loop share.
struct Load {
    single: Single,
    born: u64,
    value: Bytes,
    due: Semaphore,
    sent: AtomicU64,
}

/// Starts `rate` writes a second for so long, whatever becomes of them, and waits for their answers.
/// Each slot sends one write at a time, under a client id of its own.
async fn open(single: Single, rate: f64, time: Duration) -> Result<Found, Failed> {
    let born = single.born().await?;
    let load = Arc::new(Load {
        single,
        born,
        value: vec![7; VALUE_BYTES].into(),
        due: Semaphore::new(0),
        sent: AtomicU64::new(0),
    });
    let mut slots = JoinSet::new();
    for slot in 0..SLOTS {
        slots.spawn(work(Arc::clone(&load), slot, Found::new()?));
    }
    let (load_of_schedule, begin) = (Arc::clone(&load), Instant::now());
    let schedule = std::thread::spawn(move || keep_schedule(&load_of_schedule, rate, time));
    let mut found = Found::new()?;
    while let Some(slot) = slots.join_next().await {
        found.add(&slot?);
    }
    let due = schedule.join().map_err(|_| "the schedule panicked")?;
    found.late = due - load.sent.load(Ordering::Relaxed);
    // What was admitted at the end is answered after it: the time counts until the last answer.
    found.seconds = begin.elapsed().as_secs_f64();
    Ok(found)
}

/// Makes writes due on time. A thread of its own, so that the load cannot delay it. Returns how many.
fn keep_schedule(load: &Load, rate: f64, time: Duration) -> u64 {
    let (begin, mut released) = (Instant::now(), 0);
    while begin.elapsed() < time {
        let due = (begin.elapsed().as_secs_f64() * rate) as u64;
        // No more than the slots can take: what is not sent now would be sent in a burst later.
        let room = (SLOTS as u64).saturating_sub(load.due.available_permits() as u64);
        load.due.add_permits(usize::try_from((due - released).min(room)).unwrap_or(SLOTS));
        released = due;
        std::thread::sleep(TICK);
    }
    load.due.close();
    released
}

async fn work(load: Arc<Load>, slot: usize, mut found: Found) -> Found {
    let client_id = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
    let mut seq = 0;
    while let Ok(turn) = load.due.acquire().await {
        turn.forget();
        let number = load.sent.fetch_add(1, Ordering::Relaxed);
        seq += 1;
        let client_id = client_id.clone();
        let id = v1::WriteId { client_id, seq, first_open: seq, born: load.born };
        let key = Bytes::from(format!("bench/{:08}", number % KEYS));
        let begin = Instant::now();
        let attempt = load.single.put(slot, id, key, load.value.clone(), PATIENCE).await;
        found.note(attempt, begin.elapsed());
    }
    found
}

fn report(
    args: &Args,
    capacity: f64,
    rate: f64,
    found: &Found,
    (before, after): (Leader, Leader),
    again: f64,
) -> ExitCode {
    let mut promises = Promises::default();
    let goodput = found.acknowledged as f64 / found.seconds;
    promises.figure("offered, writes/s", format!("{rate:.0}"));
    promises.figure("writes that were sent", found.offered);
    promises.figure("due, but not sent: too many open", found.late);
    promises.figure("acknowledged", found.acknowledged);
    promises.figure("not answered in time", found.silent);
    for (code, count) in &found.refused {
        promises.figure(&format!("refused with {code}"), count);
    }
    for (what, times) in [("acknowledged", &found.answered), ("refused", &found.turned_away)] {
        let shown = [0.5, 0.99].map(|share| times.value_at_quantile(share) / 1_000);
        promises.figure(&format!("{what}: p50, p99 in ms"), format!("{}, {}", shown[0], shown[1]));
    }
    promises.figure("goodput, writes/s", format!("{goodput:.0}"));
    promises.figure("capacity right after, writes/s", format!("{again:.0}"));
    let share = (goodput / capacity * 1_000.0).round() / 10.0;
    promises.at_least("goodput of the capacity", share, args.goodput_per_cent, "%");
    let changes = after.term - before.term;
    promises.at_most("changes of the leader", changes, 0, "");
    let refused = found.refused.values().sum::<u64>();
    promises.at_most("refused without applied=no and retry-after", refused - found.honest, 0, "");
    promises.at_most("of these: may have been applied", found.unknown, 0, "");
    promises.at_most("ended without a typed error", found.untyped.0, 0, "");
    if found.untyped.0 > 0 {
        println!("such as: {}", found.untyped.1);
    }
    promises.holds("was overloaded: refused some", &refused.to_string(), "> 0", refused > 0);
    promises.verdict()
}
