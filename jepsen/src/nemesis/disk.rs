//! Disks that misbehave under a running server, which does this to itself: slow, full, failing, without
//! what was not synced, or gone in the middle of a chosen operation.

use std::time::Duration;

use client::CallOptions;
use rand::RngExt;
use tokio::time::{Instant, sleep};

use super::RECOVERY_MAX;
use super::field::{Field, LOOK};
use super::strike::Strike;
use crate::error::LabError;

/// How long a disk is slow or full, in milliseconds.
const LASTS_MS: std::ops::Range<u64> = 500..4_000;

/// How much longer each operation takes, in milliseconds.
const SLOW_MS: std::ops::Range<u64> = 2..100;

/// How long to wait for a node to end by itself.
const END_MAX: Duration = Duration::from_secs(4);

/// Operations to crash at.
const POINTS: [&str; 9] = [
    "write:wal",
    "sync:wal",
    "create:wal",
    "rename:wal",
    "remove:wal",
    "sync_dir:wal",
    "write:exports",
    "rename:exports",
    "sync_dir:exports",
];

/// Lets the disk of one node misbehave in one way.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let victim =
        if strike.rng.random_bool(0.5) { strike.leader().await } else { strike.random_node() };
    let field = strike.field;
    let Some(_claim) = field.claim(&[victim]) else { return Ok(()) };
    match strike.count % 5 {
        0 => {
            let slow = strike.rng.random_range(SLOW_MS);
            let lines = format!("slow_disk_ms = {slow}\n");
            lasting(strike, victim, "slow disk of", &lines, "slowed").await
        }
        1 => lasting(strike, victim, "full disk of", "disk_full = true\n", "failed").await,
        2 => {
            let lines = "hold_unsynced = true\n";
            let fault = begin(strike, victim, "lose unsynced writes of", lines).await?;
            strike.wait(LASTS_MS).await;
            let held = field.counted(victim, &["held"]).await;
            restart(strike, victim, fault, held).await
        }
        3 => {
            let point = POINTS[strike.rng.random_range(0..POINTS.len())];
            let lines = format!("hold_unsynced = true\ncrash_at = \"{point}\"\n");
            let fault = begin(strike, victim, "crash at an operation of", &lines).await?;
            provoke(field, victim).await;
            let ended = ends(field, victim).await;
            restart(strike, victim, fault, u64::from(ended)).await
        }
        _ => {
            let which = if strike.rng.random_bool(0.5) { "write" } else { "sync" };
            let lines = format!("{which}_error = true\n");
            let fault = begin(strike, victim, "failing disk of", &lines).await?;
            let ended = ends(field, victim).await;
            let failed = field.counted(victim, &["failed"]).await;
            restart(strike, victim, fault, failed.max(u64::from(ended))).await
        }
    }
}

/// Notes a fault and tells the node.
async fn begin(
    strike: &mut Strike<'_>,
    node: usize,
    what: &'static str,
    lines: &str,
) -> Result<usize, LabError> {
    let place = format!("the server's disk: {}", lines.trim_end().replace('\n', ", "));
    let fault = strike.note(what, &[node], &place);
    strike.field.instruct(node, strike.kind.as_str(), lines).await?;
    Ok(fault)
}

/// A fault that a node survives.
async fn lasting(
    strike: &mut Strike<'_>,
    node: usize,
    what: &'static str,
    lines: &str,
    counts: &str,
) -> Result<(), LabError> {
    let field = strike.field;
    let before = field.counted(node, &[counts]).await;
    let fault = begin(strike, node, what, lines).await?;
    strike.wait(LASTS_MS).await;
    field.instruct(node, strike.kind.as_str(), "").await?;
    let effects = field.counted(node, &[counts]).await.saturating_sub(before);
    if field.cluster.lock().await.check_node(node).is_err() {
        // Ending is a fair answer to a disk that is full at the wrong moment.
        return restart(strike, node, fault, effects.max(1)).await;
    }
    strike.over(fault, Some(effects));
    Ok(())
}

/// Asks a node for an export, after which it frees a part of its log: else it does so rarely. It may
/// crash before it answers.
async fn provoke(field: &Field, node: usize) {
    let endpoint = field.cluster.lock().await.endpoint(node);
    if let Ok(client) = field.client.node(&endpoint) {
        let _ = client.compact(&field.names[node], &CallOptions::default()).await;
    }
}

/// Waits for a node to end by itself; false if it does not.
async fn ends(field: &Field, node: usize) -> bool {
    let deadline = Instant::now() + END_MAX;
    while Instant::now() < deadline {
        if field.cluster.lock().await.check_node(node).is_err() {
            return true;
        }
        sleep(LOOK).await;
    }
    false
}

/// Kills a node and starts it on a sound disk.
async fn restart(
    strike: &mut Strike<'_>,
    node: usize,
    fault: usize,
    effects: u64,
) -> Result<(), LabError> {
    let field = strike.field;
    field.cluster.lock().await.kill(node);
    field.instruct(node, strike.kind.as_str(), "").await?;
    field.cluster.lock().await.start(node)?;
    field.wait_ready(&[node], RECOVERY_MAX).await?;
    strike.over(fault, Some(effects));
    Ok(())
}
