//! Eventual keyspaces on real nodes, at length: every node alone for minutes, then all of them the same again; kills,
//! lost disks, old images and copied directories.
//!
//! Each trial has a cluster of its own behind the proxies of the lab. Every call is recorded and judged by the
//! convergence checker.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use jepsen::cluster::ClusterOptions;
use tests::apart::Work;
use tests::apart::trials::{self, Outcome, Size};
use tests::measure::{Failed, Place, Promises};

/// Cuts nodes off, kills them and takes their disks, and prints what became of their writes.
#[derive(Debug, Parser)]
struct Args {
    /// How many minutes each node is alone.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Keys, all of which are written on some node meanwhile.
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
    /// Reads and writes of each node in that time.
    #[arg(long, default_value_t = 30_000)]
    pairs: u32,
    /// Nodes that are alone.
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// Seed of what is written.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Trial>,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Trial {
    CutOff,
    AllKilled,
    DiskLost,
    OldImage,
    Copied,
    Doubled,
}

/// The part of time and work that the trials after the first one have.
const PART: u32 = 20;

/// Longest time from the healing until all nodes are the same.
const CONVERGED_MS: u128 = 10_000;

/// The 99th percentile of answers of a node that is alone.
const ANSWER_MS: f64 = 250.0;

/// How long is waited for what should take [`CONVERGED_MS`].
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<ExitCode, Failed> {
    let args = Args::parse();
    let mut promises = Promises::default();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(&args, &mut promises))?;
    Ok(promises.verdict())
}

async fn run(args: &Args, promises: &mut Promises) -> Result<(), Failed> {
    let whole = Size {
        cluster: ClusterOptions {
            binary: args.place.binary()?,
            nodes: args.nodes,
            dir: args.place.dir.clone(),
        },
        work: Work {
            keys: args.keys,
            lasts: Duration::from_secs_f64(args.minutes * 60.0),
            pairs: args.pairs,
            delete_percent: 30,
            seed: args.seed,
        },
        converged_max: PATIENCE,
    };
    let mut part = whole.clone();
    part.work.lasts /= PART;
    part.work.pairs /= PART;
    let wanted = |trial| args.only.is_empty() || args.only.contains(&trial);
    if wanted(Trial::CutOff) {
        let outcome = trials::cut_off(&whole).await?;
        cut_off(promises, &outcome);
    }
    if wanted(Trial::AllKilled) {
        judged(promises, "all killed while alone", &trials::all_killed(&part).await?);
    }
    if wanted(Trial::DiskLost) {
        judged(promises, "a lost disk", &trials::disk_lost(&part).await?);
    }
    if wanted(Trial::OldImage) {
        let (outcome, runs) = trials::old_image(&part).await?;
        promises.figure("an old image: the node", if runs { "runs" } else { "refuses to run" });
        judged(promises, "an old image", &outcome);
    }
    if wanted(Trial::Copied) {
        let (outcome, runs) = trials::copied(&part).await?;
        promises
            .figure("a copied directory: the node", if runs { "runs" } else { "refuses to run" });
        judged(promises, "a copied directory", &outcome);
    }
    if wanted(Trial::Doubled) {
        let (outcome, fate) = trials::doubled(&part).await?;
        promises.figure("a copy under the same name", fate);
        judged(promises, "a copy under the same name", &outcome);
    }
    Ok(())
}

fn cut_off(promises: &mut Promises, outcome: &Outcome) {
    let millis = |time: Duration| (time.as_secs_f64() * 1e5).round() / 100.0;
    let calm = &outcome.calm;
    promises.figure("cut off: reads", calm.gets());
    promises.figure("cut off: writes", calm.writes());
    promises.figure("cut off: deletes among them", calm.deletes);
    promises.at_most("cut off: p99 of reads", millis(calm.get_p99()), ANSWER_MS, "ms");
    promises.at_most("cut off: p99 of writes", millis(calm.write_p99()), ANSWER_MS, "ms");
    promises.at_most("cut off: calls that failed", calm.failed, 0, "");
    if let Some(failure) = &calm.failure {
        println!("the first of them: {failure}");
    }
    let converged = outcome.converged.as_millis();
    promises.at_most(
        "cut off: healed to all the same, with reading all",
        converged,
        CONVERGED_MS,
        "ms",
    );
    judged(promises, "cut off", outcome);
}

fn judged(promises: &mut Promises, what: &str, outcome: &Outcome) {
    promises.figure(&format!("{what}: calls judged"), outcome.calls);
    promises.figure(&format!("{what}: all the same after, ms"), outcome.converged.as_millis());
    let verdict = &outcome.verdict;
    promises.holds(
        &format!("{what}: what the lab says"),
        verdict.as_str(),
        "valid",
        verdict.is_valid(),
    );
    if !verdict.is_valid() {
        println!("{verdict}");
    }
}
