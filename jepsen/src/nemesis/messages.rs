//! Messages between nodes that are lost, doubled or overtaken, in the servers themselves: what is
//! encrypted cannot be told apart from outside.

use rand::RngExt;

use super::strike::Strike;
use crate::error::LabError;

/// How long it lasts, in milliseconds.
const LASTS_MS: std::ops::Range<u64> = 1_000..6_000;

/// Of a thousand messages so many suffer each fate.
const PER_MILLE: std::ops::Range<u32> = 10..250;

/// What is counted.
const COUNTS: [&str; 3] = ["lost", "doubled", "overtaken"];

/// Lets all nodes mistreat what they send for a while.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let [lose, duplicate, reorder] = [0; 3].map(|_| strike.rng.random_range(PER_MILLE));
    let lines = format!(
        "lose_per_mille = {lose}\nduplicate_per_mille = {duplicate}\nreorder_per_mille = \
         {reorder}\n"
    );
    let all: Vec<usize> = (0..strike.field.nodes).collect();
    let (field, layer) = (strike.field, strike.kind.as_str());
    let before = effects(strike).await;
    let place = format!(
        "links of the servers, of 1000 messages {lose} lost, {duplicate} doubled, {reorder} overtaken"
    );
    let fault = strike.note("mistreat messages of", &all, &place);
    for &node in &all {
        field.instruct(node, layer, &lines).await?;
    }
    strike.wait(LASTS_MS).await;
    for &node in &all {
        field.instruct(node, layer, "").await?;
    }
    // A node that was started anew meanwhile counts from 0 again.
    let after = effects(strike).await;
    strike.over(fault, Some(after.checked_sub(before).unwrap_or(after)));
    Ok(())
}

async fn effects(strike: &Strike<'_>) -> u64 {
    let mut sum = 0;
    for node in 0..strike.field.nodes {
        sum += strike.field.counted(node, &COUNTS).await;
    }
    sum
}
