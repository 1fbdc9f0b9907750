//! Measures how long a write waits after the leader was killed.
//!
//! Three real processes on loopback; the leader is killed with SIGKILL while a client waits to
//! write; the clock runs from the kill to the next acknowledged write.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use client::{CallOptions, Client};
use hdrhistogram::Histogram;
use jepsen::cluster::{Cluster, ClusterOptions};

/// How long nodes may take to become ready.
const READY_MAX: Duration = Duration::from_secs(30);
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
    /// The server; by default the release build beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Fails when the median is above this many milliseconds.
    #[arg(long, default_value_t = 1500)]
    p50_ms: u64,
    /// Fails when the 99th percentile is above this many milliseconds.
    #[arg(long, default_value_t = 3000)]
    p99_ms: u64,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
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

async fn measure(args: &Args) -> Result<Histogram<u64>, Box<dyn Error>> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("kvstore"),
    };
    let options = ClusterOptions { binary, nodes: 3, dir: None };
    let mut cluster = Cluster::boot(&options, READY_MAX).await?;
    let client = cluster.client(cluster.endpoints(), WRITE_MAX)?;
    let mut times = Histogram::new(3)?;
    for kill in 0..args.kills {
        write(&client, kill).await?;
        let leader = leader(&cluster, &client).await?;
        let begin = Instant::now();
        cluster.kill(leader);
        write(&client, kill).await?;
        times.record(u64::try_from(begin.elapsed().as_millis())?)?;
        cluster.start(leader)?;
        cluster.wait_ready(leader, READY_MAX).await?;
    }
    Ok(times)
}

async fn write(client: &Client, kill: u32) -> Result<(), Box<dyn Error>> {
    let value = format!("{kill}");
    client.put_value("failover", value, &CallOptions::default()).await?;
    Ok(())
}

/// The node that the cluster itself calls leader.
async fn leader(cluster: &Cluster, client: &Client) -> Result<usize, Box<dyn Error>> {
    let status = client.status(&CallOptions::default()).await?;
    let leads = |node: &&proto::v1::NodeStatus| node.role() == proto::v1::Role::Leader;
    let leader = status.nodes.iter().find(leads).and_then(|node| node.member.as_ref());
    let name = leader.map(|member| member.name.as_str()).ok_or("nobody leads")?;
    Ok(cluster.find(name).ok_or("the leader is no member")?)
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
