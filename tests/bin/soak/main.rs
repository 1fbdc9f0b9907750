//! Half an hour of load and faults: memory and disk stay flat, and nothing is lost.
//!
//! Three real processes on loopback with their usual thresholds. Writers of about 1 MiB a second
//! make checkpoints every minute or so and exports every few minutes; keyspaces keep so little
//! history that compaction never rests. Every few minutes a node is killed or paused, or the leader
//! moves. In the end all nodes must hold the same, and just what the writers know they wrote.
//!
//! - `ledger`: what a writer knows. `writer`: what it does. `load`: all of them.
//! - `trouble`: faults. `watch`: samples, and the table. `compare`: the end.

mod compare;
mod ledger;
mod load;
mod trouble;
mod watch;
mod writer;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use jepsen::cluster::Cluster;
use jepsen::judgement::{Judgement, Word};
use jepsen::workload::{self, RegisterWorkload};
use jepsen::{Checker, Operation, Recorder};
use tests::measure::{Failed, Place, Promises};
use tokio::sync::watch as signal;
use tokio::time::{Instant, sleep_until};

use self::load::Load;
use self::trouble::Trouble;
use self::watch::Watch;

/// Time between two samples.
const SAMPLE: Duration = Duration::from_secs(10);
/// Samples in a row of the table.
const ROW_SAMPLES: u32 = 6;
/// Time between two operations of a process of the judged sample: the sample is about 100 operations
/// a second.
const SAMPLE_THINK: Duration = Duration::from_millis(40);
/// Processes of the judged sample.
const SAMPLE_CLIENTS: usize = 4;
/// How long the cluster may take to answer all after the last fault.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// Puts load on a cluster for long, and looks for growth and loss.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    place: Place,
    /// Minutes of load.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Seconds between two faults.
    #[arg(long, default_value_t = 300)]
    fault_every: u64,
    /// Seconds at the beginning that do not count for growth.
    #[arg(long, default_value_t = 300)]
    settle: u64,
    /// Operations a second.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Fails when memory or disk grows by more than so many per cent.
    #[arg(long, default_value_t = 10.0)]
    growth_per_cent: f64,
    /// Seed of the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(soak(&args)).map_err(|error| error as Box<dyn Error>)
}

async fn soak(args: &Args) -> Result<ExitCode, Failed> {
    let mut cluster = args.place.boot("soak").await?;
    let load = Load::start(&cluster, args.rate, args.seed).await?;
    let (recorder, (stop, stopped)) = (Recorder::new(), signal::channel(false));
    let sample = RegisterWorkload(workload::Load {
        seed: args.seed,
        clients: SAMPLE_CLIENTS,
        operations_max: usize::MAX,
        think: SAMPLE_THINK,
        ..workload::Load::default()
    });
    let mut processes = sample.start(&cluster, &recorder, &stopped)?;

    let watch = run(args, &mut cluster, &load).await?;
    stop.send_replace(true);
    while let Some(process) = processes.join_next().await {
        process?;
    }
    let done = load.stop().await?;
    cluster.wait_all_ready(RECOVERY_MAX).await?;
    sample.read_all(&cluster, &recorder, RECOVERY_MAX).await?;

    let mut promises = Promises::default();
    println!();
    watch.judge(Duration::from_secs(args.settle), args.growth_per_cent, &mut promises);
    done.report(&mut promises);
    compare::nodes(&cluster, &done.ledgers, &mut promises).await?;
    judge(&recorder.take(), &mut promises);
    cluster.check_alive()?;
    if promises.is_broken() {
        cluster.keep();
        println!("data and logs are kept in {}", cluster.dir().display());
    }
    Ok(promises.verdict())
}

/// The time of load: samples, rows and faults, one after the other.
async fn run(args: &Args, cluster: &mut Cluster, load: &Load) -> Result<Watch, Failed> {
    let begin = Instant::now();
    let mut watch = Watch::new(cluster.len());
    let mut trouble = Trouble::new(Duration::from_secs(args.fault_every));
    watch.print_head();
    let samples = u32::try_from(args.minutes * 60 / SAMPLE.as_secs())?;
    for number in 1..=samples {
        sleep_until(begin + SAMPLE * number).await;
        cluster.check_alive()?;
        watch.sample(begin.elapsed(), cluster)?;
        // The last stretch is for the cluster to come to rest.
        if number < samples
            && let Some(fault) = trouble.strike(begin.elapsed(), cluster).await?
        {
            watch.note(begin.elapsed(), &fault);
        }
        if number % ROW_SAMPLES == 0 {
            watch.print_row(load.take_minute());
        }
    }
    Ok(watch)
}

/// Lets the lab judge the sample.
fn judge(history: &[Operation], promises: &mut Promises) {
    let checkers: [&dyn Checker; 2] =
        [&jepsen::checker::RegisterChecker::default(), &jepsen::checker::RevisionChecker];
    for checker in checkers {
        let judgement = Judgement::of(checker, history);
        let valid = judgement.verdict == Word::Valid;
        let what = format!("judged sample, model {}", judgement.model);
        let found = format!("{} operations", judgement.operations);
        promises.holds(&what, &found, "valid", valid);
        if !valid {
            println!("{judgement}");
        }
    }
}
