//! Slow lines between nodes, and connections that are reset.

use std::time::Duration;

use rand::RngExt;

use super::kind::NemesisKind;
use super::strike::Strike;
use crate::error::LabError;
use crate::network::{Rule, Site};

/// How long lines are slow, in milliseconds.
const SLOW_MS: std::ops::Range<u64> = 1_000..6_000;

/// Delays of a message, in milliseconds: from what a long line costs to more than an election takes.
const DELAYS_MS: std::ops::Range<u64> = 10..1_500;

/// Bytes a second of a narrow line: some that heartbeats pass, and some that they hardly do.
const RATES: std::ops::Range<u64> = 2_000..200_000;

/// Resets in a row, and the time between them in milliseconds.
const RESETS: std::ops::Range<u32> = 1..6;
const RESETS_APART_MS: std::ops::Range<u64> = 10..500;

/// Slows down what one node sends, or all of them.
pub async fn slow(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let count = strike.field.nodes;
    let one = strike.rng.random_bool(0.5).then(|| strike.random_node());
    let senders: Vec<usize> = one.map_or_else(|| (0..count).collect(), |node| vec![node]);
    let (rule, what, place) = if strike.kind == NemesisKind::Delay {
        let delay = Duration::from_millis(strike.rng.random_range(DELAYS_MS));
        (Rule { delay, ..Rule::PASS }, "delay", format!("TCP proxies, {delay:?} late"))
    } else {
        let rate = strike.rng.random_range(RATES);
        let rule = Rule { bytes_per_second: Some(rate), ..Rule::PASS };
        (rule, "throttle", format!("TCP proxies, {rate} bytes a second"))
    };
    let pairs = senders.iter().flat_map(|&from| (0..count).map(move |to| (from, to)));
    let rules = pairs.filter(|(from, to)| from != to);
    let rules = rules.map(|(from, to)| (Site::Node(from), Site::Node(to), rule)).collect();
    let field = strike.field;
    let before = field.network_effects().await;
    let fault = strike.note(what, &senders, &place);
    field.set_network(strike.kind.as_str(), rules).await;
    strike.wait(SLOW_MS).await;
    field.set_network(strike.kind.as_str(), Vec::new()).await;
    strike.over(fault, Some(field.network_effects().await - before));
    Ok(())
}

/// Resets connections between two nodes, or those of the clients of one.
pub async fn reset(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let field = strike.field;
    let node = strike.random_node();
    let other = (node + strike.rng.random_range(0..field.nodes)) % field.nodes;
    let (what, site, nodes) = if other == node {
        ("reset clients of", Site::Clients, vec![node])
    } else {
        ("reset between", Site::Node(other), vec![node, other])
    };
    let before = field.network_effects().await;
    let fault = strike.note(what, &nodes, "TCP proxies, connections reset");
    for _ in 0..strike.rng.random_range(RESETS) {
        if let Some(network) = field.cluster.lock().await.network() {
            network.reset(Site::Node(node), site);
        }
        strike.wait(RESETS_APART_MS).await;
    }
    strike.over(fault, Some(field.network_effects().await - before));
    Ok(())
}
