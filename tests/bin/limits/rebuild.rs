//! A node that lost everything, in a cluster that holds much and goes on.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use client::bench::{self, Mix, Operation, Pace, Plan};
use client::{CallOptions, Pages};
use proto::v1;
use tests::measure::{
    Failed, GapWriter, MIB, Memory, Place, Promises, Usage, leader_soon, replace,
};

use crate::memory::start_all;

/// Bytes of each value.
const VALUE_BYTES: usize = 4_000;
/// Longest time until the node serves again.
const SERVES_AGAIN_MAX_S: f64 = 120.0;
/// Longest time until all nodes are ready again, with this much data.
const READY_AGAIN_MAX_S: f64 = 10.0;
/// Longest time that a writer may wait meanwhile: an election, for the lost node may have led.
const GAP_MAX_S: f64 = 3.0;
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a node may take before the measurement is given up.
const REBUILD_MAX: Duration = Duration::from_secs(300);

/// Loads so much data, restarts all nodes, then loses one and replaces it while a writer goes on.
pub async fn measure(place: &Place, mebibytes: u64, promises: &mut Promises) -> Result<(), Failed> {
    println!("\n{mebibytes} MiB of data");
    let mut cluster = place.boot("rebuild").await?;
    let client = Place::connect(&cluster, PATIENCE, 4)?;
    let keys = mebibytes * MIB / VALUE_BYTES as u64;
    let plan = Plan {
        mix: Mix::only(Operation::Put),
        pace: Pace::Closed { in_flight: NonZeroU32::MIN },
        duration: Duration::ZERO,
        keys,
        value_bytes: VALUE_BYTES,
        seed: 1,
    };
    let begin = Instant::now();
    bench::load(&client, &plan).await?;
    promises.figure("loaded in, s", format!("{:.1}", begin.elapsed().as_secs_f64()));
    for node in 0..cluster.len() {
        let (usage, memory) = (Usage::of_node(&cluster, node)?, Memory::of_node(&cluster, node)?);
        let disk = [usage.log, usage.state, usage.exports].map(|bytes| bytes / MIB);
        let what = format!("{}: log, state, exports, peak of memory, MiB", cluster.name(node));
        let [log, state, exports] = disk;
        promises.figure(&what, format!("{log} {state} {exports} {}", memory.peak / MIB));
    }

    (0..cluster.len()).for_each(|node| cluster.kill(node));
    let what = "kill -9 of all with this data: all ready";
    start_all(&mut cluster, &client, what, READY_AGAIN_MAX_S, promises).await?;

    let leader = leader_soon(&cluster, &client, PATIENCE).await?.node;
    let lost = (leader + 1) % cluster.len();
    for (what, node) in [("a follower", lost), ("the leader", leader)] {
        let writer = GapWriter::start(client.clone(), "writer");
        let took = replace(&mut cluster, &client, node, REBUILD_MAX).await?;
        let gaps = writer.stop().await?;
        let seconds = |time: Duration| (time.as_secs_f64() * 100.0).round() / 100.0;
        let name = format!("{what} lost everything: serves again");
        promises.at_most(&name, seconds(took), SERVES_AGAIN_MAX_S, "s");
        promises.at_most("  longest gap of the writer", seconds(gaps.longest), GAP_MAX_S, "s");
        promises.figure("  writes meanwhile", gaps.acknowledged);
        promises.at_most("  failed writes meanwhile", gaps.failed, 0, "");
        let count = count(&cluster, node).await?;
        promises.at_least("  keys on the new node itself", count, keys, "");
        let peak = Memory::of_node(&cluster, node)?.peak / MIB;
        promises.figure("  its peak of memory, MiB", peak);
    }
    Ok(())
}

/// The keys that a node counts by itself.
async fn count(cluster: &jepsen::cluster::Cluster, node: usize) -> Result<u64, Failed> {
    let client = cluster.client(vec![cluster.endpoint(node)], PATIENCE)?;
    let request = v1::RangeRequest {
        from: "bench/".into(),
        to: client::prefix_end(b"bench/"),
        count_only: true,
        level: v1::Level::Eventual.into(),
        ..v1::RangeRequest::default()
    };
    let (count, _) = Pages::new(&client, request, None, CallOptions::default()).count().await?;
    Ok(count)
}
