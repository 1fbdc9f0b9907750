//! Stops the clock of nodes with SIGSTOP and lets them go on: a leader may wake up deposed, and a
//! request that waited in its socket is then answered by a node that knows nothing of what happened
//! meanwhile.

use rand::RngExt;

use super::Strike;
use crate::error::LabError;

/// How long a node is stopped, in milliseconds: from shorter than an election to several times as
/// long as clients wait, so that some requests begin while the node is stopped and others work.
const STOPPED_MS: std::ops::Range<u64> = 100..5_000;

/// Stops one node or the leader for a while.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let (what, victim) = match strike.rng.random_range(0..2) {
        0 => ("pause one", strike.random_node()),
        _ => ("pause leader", strike.leader().await?),
    };
    strike.note(what, &[victim]);
    strike.cluster.pause(victim)?;
    strike.wait(STOPPED_MS).await;
    strike.cluster.resume(victim)
}
