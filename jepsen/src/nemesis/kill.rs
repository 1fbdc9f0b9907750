//! Kills nodes with SIGKILL and starts them again: what was not synced is still in the page cache,
//! but everything in memory is lost, and nobody says goodbye.

use super::Strike;
use crate::error::LabError;

/// Time between a kill and the restart, in milliseconds.
const DOWN_MS: std::ops::Range<u64> = 0..2_000;

/// Kills one node, the leader or all nodes, in turn, and starts them again.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let (what, victims) = match strike.faults.len() % 3 {
        0 => ("kill one", vec![strike.random_node()]),
        1 => ("kill leader", vec![strike.leader().await?]),
        _ => ("kill all", (0..strike.cluster.len()).collect()),
    };
    strike.note(what, &victims);
    for &node in &victims {
        strike.cluster.kill(node);
    }
    strike.wait(DOWN_MS).await;
    victims.into_iter().try_for_each(|node| strike.cluster.start(node))
}
