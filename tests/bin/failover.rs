//! Measures how long a write waits after the leader was killed.
//!
//! Three real processes on loopback; the leader is killed with SIGKILL while a client waits to
//! write; the clock runs from the kill to the next acknowledged write.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use client::{CallOptions, Client};
use hdrhistogram::Histogram;
use tests::measure::{Failed, Place, READY_MAX, leader};

/// How long one write may take before the run fails.
const WRITE_MAX: Duration = Duration::from_secs(20);
/// Width of a row of the histogram, in milliseconds.
const ROW_MS: u64 = 250;

/// Kills the leader again and again and prints how long the next acknowledged write took.
#[derive(Debug, Parser)]
struct Args {
    /// How often the leader is killed.
    #[arg(long, default_value_t = 30)]
    kills: u32,
    #[command(flatten)]
    place: Place,
    /// Fails when the median is above this many milliseconds.
    #[arg(long, default_value_t = 1500)]
    p50_ms: u64,
    /// Fails when the 99th percentile is above this many milliseconds.
    #[arg(long, default_value_t = 3000)]
    p99_ms: u64,
}

fn main() -> Result<ExitCode, Failed> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    let times = runtime.block_on(measure(&args))?;
    print(&times);
    let (p50, p99) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
    let fine = p50 <= args.p50_ms && p99 <= args.p99_ms;
    println!(
        "{} kills: p50 {p50} ms (<= {}), p99 {p99} ms (<= {}): {}",
        times.len(),
        args.p50_ms,
        args.p99_ms,
        if fine { "met" } else { "NOT met" }
    );
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args) -> Result<Histogram<u64>, Failed> {
    let mut cluster = args.place.boot("failover").await?;
    let client = Place::connect(&cluster, WRITE_MAX, 1)?;
    let mut times = Histogram::new(3)?;
    for kill in 0..args.kills {
        write(&client, kill).await?;
        let leader = leader(&cluster, &client).await?.node;
        let begin = Instant::now();
        cluster.kill(leader);
        write(&client, kill).await?;
        times.record(u64::try_from(begin.elapsed().as_millis())?)?;
        cluster.start(leader)?;
        cluster.wait_ready(leader, READY_MAX).await?;
    }
    Ok(times)
}

async fn write(client: &Client, kill: u32) -> Result<(), Failed> {
    let value = format!("{kill}");
    client.put_value("failover", value, &CallOptions::default()).await?;
    Ok(())
}

fn print(times: &Histogram<u64>) {
    println!("{:>14}  kills", "ms");
    for row in times.iter_linear(ROW_MS) {
        let count = row.count_since_last_iteration();
        let to = row.value_iterated_to();
        let bar = "#".repeat(usize::try_from(count).unwrap_or(usize::MAX));
        println!("{:>6} - {to:>5}  {count:>3} {bar}", to.saturating_sub(ROW_MS - 1));
    }
}
