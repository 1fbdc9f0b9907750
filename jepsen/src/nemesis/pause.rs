//! Stops the clock of nodes with SIGSTOP and lets them go on: a leader may wake up deposed, and a
//! request that waited in its socket is then answered by a node that knows nothing of what happened
//! meanwhile.

use rand::RngExt;

use super::strike::Strike;
use crate::error::LabError;

/// How long a node is stopped, in milliseconds: from shorter than an election to several times as
/// long as clients wait, so that some requests begin while the node is stopped and others work.
const STOPPED_MS: std::ops::Range<u64> = 100..5_000;

/// Stops one node or the leader for a while.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let (what, victim) = match strike.rng.random_range(0..2) {
        0 => ("pause one", strike.random_node()),
        _ => ("pause leader", strike.leader().await),
    };
    let field = strike.field;
    let Some(_claim) = field.claim(&[victim]) else { return Ok(()) };
    let fault = strike.note(what, &[victim], "SIGSTOP of the process");
    field.cluster.lock().await.pause(victim)?;
    strike.wait(STOPPED_MS).await;
    field.cluster.lock().await.resume(victim)?;
    strike.over(fault, Some(1));
    Ok(())
}
