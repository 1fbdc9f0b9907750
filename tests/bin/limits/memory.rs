//! Memory with many keys, and how soon nodes are back when one or all of them were killed.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use client::CallOptions;
use client::bench::{self, Mix, Operation, Pace, Plan, Running};
use jepsen::cluster::Cluster;
use tests::measure::{Failed, MIB, Memory, Place, Promises, READY_MAX, processor_seconds};

/// Bytes of each value.
const VALUE_BYTES: usize = 128;
/// Most memory of a node.
const MEMORY_MAX_MIB: u64 = 600;
/// Longest time until all nodes are ready again.
const READY_AGAIN_MAX_S: f64 = 5.0;
/// How long the load goes on before memory is read, or all nodes are killed.
const LOAD: Duration = Duration::from_secs(30);
/// A kill hits a cluster that has acknowledged so many writes since the last one.
const WRITES_BEFORE_KILL: u64 = 60_000;
/// How often it is looked at how many there were.
const LOOK: Duration = Duration::from_millis(50);
/// Operations at once under load.
const IN_FLIGHT: u32 = 64;
/// How long a call may take: an election, and the start of all nodes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Loads so many keys, puts load on them, then kills one node so often, and all nodes so often.
pub async fn measure(
    place: &Place,
    keys: u64,
    kills: u32,
    promises: &mut Promises,
) -> Result<(), Failed> {
    println!("\n{keys} keys of {VALUE_BYTES} B");
    let mut cluster = place.boot("memory").await?;
    let client = Place::connect(&cluster, PATIENCE, 4)?;
    let in_flight = NonZeroU32::new(IN_FLIGHT).expect("the constant is not 0");
    let plan = Plan {
        mix: Mix::parse("get=50,put=50")?,
        pace: Pace::Closed { in_flight },
        duration: LOAD,
        keys,
        value_bytes: VALUE_BYTES,
        seed: 1,
    };
    let begin = Instant::now();
    bench::load(&client, &plan).await?;
    promises.figure("loaded in, s", format!("{:.1}", begin.elapsed().as_secs_f64()));
    peaks(&cluster, "after loading", promises)?;
    let mut running = Running::start(&client, plan.clone());
    running.wait().await;
    let report = running.report();
    promises.figure(
        "operations/s, gets and puts",
        format!("{:.0}", report.per_second(&report.total())),
    );
    judge_peaks(&cluster, "under load", promises)?;

    let plan = Plan { mix: Mix::only(Operation::Put), duration: 2 * READY_MAX, ..plan };
    for kill in 1..=kills {
        let node = (kill as usize - 1) % cluster.len();
        let what = format!("kill -9 of {} under load, {kill}: ready", cluster.name(node));
        let mut running = kill_under_load(&mut cluster, &client, &plan, &[node]).await?;
        start_all(&mut cluster, &client, &what, READY_AGAIN_MAX_S, promises).await?;
        running.wait().await;
    }
    let all: Vec<usize> = (0..cluster.len()).collect();
    for kill in 1..=kills {
        let what = format!("kill -9 of all under load, {kill}: all ready");
        let mut running = kill_under_load(&mut cluster, &client, &plan, &all).await?;
        start_all(&mut cluster, &client, &what, READY_AGAIN_MAX_S, promises).await?;
        running.wait().await;
    }
    judge_peaks(&cluster, "after the last kill", promises)
}

/// Puts load on the cluster and kills these nodes in the middle of it. No more is begun after that.
async fn kill_under_load(
    cluster: &mut Cluster,
    client: &client::Client,
    plan: &Plan,
    nodes: &[usize],
) -> Result<Running, Failed> {
    let mut running = Running::start(client, plan.clone());
    while running.progress().ok < WRITES_BEFORE_KILL {
        if running.elapsed() > READY_MAX {
            return Err(format!("not {WRITES_BEFORE_KILL} writes within {READY_MAX:?}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
    nodes.iter().for_each(|node| cluster.kill(*node));
    running.stop();
    Ok(running)
}

/// Starts all nodes that do not run, and prints how long that took: on the clock, and of the processors,
/// for they share one machine.
pub async fn start_all(
    cluster: &mut Cluster,
    client: &client::Client,
    what: &str,
    most: f64,
    promises: &mut Promises,
) -> Result<(), Failed> {
    let begin = Instant::now();
    let seconds = || (begin.elapsed().as_secs_f64() * 100.0).round() / 100.0;
    let nodes: Vec<usize> = (0..cluster.len()).filter(|node| !cluster.is_started(*node)).collect();
    cluster.start_all()?;
    cluster.wait_all_ready(READY_MAX).await?;
    let ready = seconds();
    let used: f64 =
        nodes.into_iter().map(|node| processor_seconds(cluster, node)).sum::<Result<_, _>>()?;
    client.put_value("restart", "again", &CallOptions::default()).await?;
    promises.at_most(what, ready, most, "s");
    promises.figure("  first write acknowledged, s", seconds());
    promises.figure("  processor time of what was started until then, s", format!("{used:.2}"));
    Ok(())
}

/// Prints the memory of each node, and judges the most that it ever was.
fn judge_peaks(cluster: &Cluster, when: &str, promises: &mut Promises) -> Result<(), Failed> {
    for (node, memory) in peaks(cluster, when, promises)?.into_iter().enumerate() {
        let what = format!("{}: most memory since its start, {when}", cluster.name(node));
        promises.at_most(&what, memory.peak / MIB, MEMORY_MAX_MIB, "MiB");
    }
    Ok(())
}

/// Prints the memory of each node.
fn peaks(cluster: &Cluster, when: &str, promises: &Promises) -> Result<Vec<Memory>, Failed> {
    let nodes = 0..cluster.len();
    let all: Vec<Memory> =
        nodes.map(|node| Memory::of_node(cluster, node)).collect::<Result<_, _>>()?;
    let shown: Vec<String> = all.iter().map(|memory| (memory.now / MIB).to_string()).collect();
    promises.figure(&format!("memory of the nodes {when}, MiB"), shown.join(" "));
    Ok(all)
}
