//! Kills nodes with SIGKILL and starts them again: what was not synced is still in the page cache,
//! but everything in memory is lost, and nobody says goodbye.

use super::RECOVERY_MAX;
use super::strike::Strike;
use crate::error::LabError;

/// Time between a kill and the restart, in milliseconds.
const DOWN_MS: std::ops::Range<u64> = 0..2_000;

/// Kills one node, the leader or all nodes, in turn, and starts them again.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let (what, victims) = match strike.count % 3 {
        0 => ("kill one", vec![strike.random_node()]),
        1 => ("kill leader", vec![strike.leader().await]),
        _ => ("kill all", (0..strike.field.nodes).collect()),
    };
    let field = strike.field;
    let Some(claim) = field.claim(&victims) else { return Ok(()) };
    let fault = strike.note(what, claim.nodes(), "SIGKILL of the process");
    {
        let mut cluster = field.cluster.lock().await;
        claim.nodes().iter().for_each(|node| cluster.kill(*node));
    }
    strike.wait(DOWN_MS).await;
    {
        let mut cluster = field.cluster.lock().await;
        claim.nodes().iter().try_for_each(|node| cluster.start(*node))?;
    }
    field.wait_ready(claim.nodes(), RECOVERY_MAX).await?;
    strike.over(fault, Some(claim.nodes().len() as u64));
    Ok(())
}
