//! Hands leadership on while clients write.

use client::CallOptions;

use super::strike::Strike;
use crate::error::LabError;

/// Asks the cluster to be led by a random node. It may refuse, for example while that one is down.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let to = strike.random_node();
    let field = strike.field;
    let fault = strike.note("move leader to", &[to], "a request to the cluster");
    let moved = field.client.members().move_leader(&field.names[to], &CallOptions::default()).await;
    if let Err(error) = &moved {
        field.faults.place(fault, format!("a request to the cluster: {error}"));
    }
    strike.over(fault, Some(u64::from(moved.is_ok())));
    Ok(())
}
