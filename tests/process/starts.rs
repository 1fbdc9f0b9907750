//! Nodes that start again and again: what their clocks and contexts cost.

use std::collections::BTreeSet;

use crate::fleet::{Fleet, until};

/// Starts of each of three nodes.
const STARTS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn former_starts_are_folded_once_all_members_have_what_they_wrote() {
    let mut fleet = Fleet::boot(3, 0).await;
    let (code, _, err) = fleet.kv().outcome(&["keyspace", "create", "carts", "--kind", "eventual"]);
    assert_eq!(code, 0, "{err}");
    let context = |fleet: &Fleet, node: usize| {
        let (_, out, _) = fleet.kv_at(node).outcome(&["-k", "carts", "get", "a", "-o", "json"]);
        let reply: serde_json::Value = serde_json::from_str(&out).unwrap();
        reply["context"].as_str().unwrap().to_owned()
    };
    // Who wrote. It need not be the node that was asked: clients go on to another one.
    let mut actors = BTreeSet::new();
    let mut put = |fleet: &Fleet, node: usize, key: &str| {
        let out = fleet.kv_at(node).done(&["-k", "carts", "put", key, "1", "-o", "json"]);
        let reply: serde_json::Value = serde_json::from_str(&out).unwrap();
        let (actor, _) = reply["dot"].as_str().unwrap().split_once(':').unwrap();
        actors.insert(actor.to_owned());
    };
    let mut before = String::new();
    for start in 0..STARTS * 3 {
        let node = start % 3;
        put(&fleet, node, "a");
        before = context(&fleet, node);
        fleet.cluster.kill(node);
        fleet.start(node).await;
    }
    for node in 0..3 {
        put(&fleet, node, "b");
    }
    assert!(actors.len() > STARTS * 2, "{actors:?}");
    for node in 0..3 {
        let metric =
            async |name| fleet.metric(node, &format!("kvstore_gossip_actors_{name}")).await;
        let is_folded = |(unfolded, folded): (Option<f64>, Option<f64>)| {
            let (unfolded, folded) = (unfolded.unwrap_or(f64::MAX), folded.unwrap_or_default());
            unfolded <= 3.0 && unfolded + folded >= actors.len() as f64
        };
        let mut found = (None, None);
        for _ in 0..300 {
            found = (metric("unfolded").await, metric("folded").await);
            if is_folded(found) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(is_folded(found), "unfolded and folded at node {node}: {found:?}");
    }
    // Three present actors and a run of folds.
    until("contexts are short", || context(&fleet, 1).len() < 150).await;
    // What was read when the starts were still named is understood.
    let args = ["-k", "carts", "put", "a", "2", "--causal", before.as_str()];
    let (code, _, err) = fleet.kv_at(0).outcome(&args);
    assert_eq!(code, 0, "{err}");
    fleet.cluster.kill(2);
    fleet.start(2).await;
    assert!(context(&fleet, 2).len() < 150);
    for node in 0..3 {
        let kv = fleet.kv_at(node);
        until("all have it", || kv.outcome(&["-k", "carts", "get", "a"]).1 == "2").await;
    }
}
