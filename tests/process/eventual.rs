//! Eventual keyspaces of real nodes: written anywhere, also where a node is alone; kept through kills.

use crate::fleet::{Fleet, until};
use crate::programs::Kv;

pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The values of a key at one node.
pub fn values(kv: &Kv, key: &str) -> Option<Vec<String>> {
    let (code, out, _) = kv.outcome(&["-k", "carts", "get", key, "-o", "json"]);
    if code != 0 && code != 3 {
        return None;
    }
    let reply = json(&out);
    if let Some(value) = reply["value"].as_str() {
        return Some(vec![value.to_owned()]);
    }
    let siblings = reply["siblings"].as_array().cloned().unwrap_or_default();
    let text = |sibling: &serde_json::Value| sibling["value"].as_str().unwrap_or("?").to_owned();
    let mut values: Vec<String> = siblings.iter().map(text).collect();
    values.sort();
    Some(values)
}

pub async fn all_have(fleet: &Fleet, nodes: &[usize], key: &str, expected: &[&str]) {
    for node in nodes {
        let kv = fleet.kv_at(*node);
        let what = format!("{key} = {expected:?} at node {node}");
        until(&what, || values(&kv, key).is_some_and(|values| values == expected)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b55_a_node_alone_takes_reads_and_writes_and_all_come_to_the_same() {
    let mut fleet = Fleet::boot(3, 0).await;
    fleet.kv().done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    fleet.kv_at(0).done(&["-k", "carts", "put", "a", "1", "--ack", "all"]);
    all_have(&fleet, &[0, 1, 2], "a", &["1"]).await;
    // One is left alone: nothing is agreed on any more, and this goes on.
    for node in [1, 2] {
        fleet.cluster.kill(node);
    }
    let alone = fleet.kv_at(0);
    alone.done(&["-k", "carts", "put", "a", "alone"]);
    assert_eq!(values(&alone, "a").unwrap(), ["alone"]);
    let (code, _, err) = alone.outcome(&["-k", "carts", "put", "a", "2", "--ack", "quorum"]);
    assert!(code == 5 && err.contains("KV1407"), "{code} {err}");
    assert_eq!(values(&alone, "a").unwrap(), ["alone"], "nothing was written");
    // The other two write without it.
    fleet.cluster.kill(0);
    for node in [1, 2] {
        fleet.cluster.start(node).unwrap();
    }
    for node in [1, 2] {
        fleet.ready(node).await;
    }
    fleet.kv_at(1).done(&["-k", "carts", "put", "a", "apart", "--ack", "quorum"]);
    fleet.start(0).await;
    all_have(&fleet, &[0, 1, 2], "a", &["alone", "apart"]).await;
    // What was read is superseded, and nothing else.
    let (_, read, _) = fleet.kv_at(2).outcome(&["-k", "carts", "get", "a", "-o", "json"]);
    let context = json(&read)["context"].as_str().unwrap().to_owned();
    let merge = ["-k", "carts", "put", "a", "both", "--causal", context.as_str()];
    fleet.kv_at(2).done(&merge);
    all_have(&fleet, &[0, 1, 2], "a", &["both"]).await;
    fleet.kv_at(0).done(&["-k", "carts", "del", "a"]);
    all_have(&fleet, &[0, 1, 2], "a", &[]).await;
}

/// A node hears of nothing while it is away; a read through it sees what the other two acknowledged all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_read_sees_what_a_majority_acknowledged_through_any_node() {
    let mut fleet = Fleet::boot(3, 0).await;
    fleet.kv().done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    fleet.kv_at(0).done(&["-k", "carts", "put", "a", "old", "--ack", "all"]);
    let quorum = |kv: &Kv, key: &str| {
        let args = ["-k", "carts", "get", key, "--consistency", "quorum", "-o", "json"];
        json(&kv.done(&args))
    };
    for (round, away) in [2, 0, 1].into_iter().enumerate() {
        fleet.cluster.kill(away);
        let (at, value) = ((away + 1) % 3, format!("v{round}"));
        let there = fleet.kv_at(at);
        there.done(&["-k", "carts", "put", "a", &value, "--ack", "quorum"]);
        there.done(&["-k", "carts", "put", &value, "v", "--ack", "quorum"]);
        fleet.start(away).await;
        for node in 0..3 {
            let reply = quorum(&fleet.kv_at(node), "a");
            assert_eq!(reply["value"], value.as_str(), "at {node}: {reply}");
            assert_eq!(reply["level"], "quorum");
            assert!(reply["answered_by"].as_array().is_some_and(|by| by.len() >= 2), "{reply}");
        }
        let back = fleet.kv_at(away);
        let listed = back.done(&["-k", "carts", "ls", "--keys-only", "--consistency", "quorum"]);
        assert_eq!(listed.lines().count(), 2 + round, "{listed}");
    }
    // Alone there is no majority.
    for node in [1, 2] {
        fleet.cluster.kill(node);
    }
    let alone = fleet.kv_at(0);
    let read = ["-k", "carts", "get", "a", "--consistency", "quorum", "--timeout", "3s"];
    let mut last = String::new();
    until("a read without a majority is refused", || {
        let (code, _, err) = alone.outcome(&read);
        last = err;
        code == 5 && (last.contains("KV1407") || last.contains("KV1205"))
    })
    .await;
    assert_eq!(values(&alone, "a").unwrap(), ["v2"], "what it has it shows: {last}");
}

/// A member comes and another one goes; majorities are those of the members that there are.
#[tokio::test(flavor = "multi_thread")]
async fn majorities_follow_the_members() {
    let mut fleet = Fleet::boot(3, 1).await;
    let kv = fleet.kv();
    kv.done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    fleet.kv_at(0).done(&["-k", "carts", "put", "a", "three", "--ack", "quorum"]);
    kv.done(&["cluster", "add", &format!("n4={}", fleet.cluster.peer_address(3))]);
    fleet.start(3).await;
    until("promotion", || fleet.role("n4") == "voter").await;
    let fourth = fleet.kv_at(3);
    let read = ["-k", "carts", "get", "a", "--consistency", "quorum", "-o", "json"];
    let answered_by = |kv: &Kv| {
        let (code, out, _) = kv.outcome(&read);
        (code == 0).then(|| json(&out)["answered_by"].as_array().map_or(0, Vec::len))
    };
    until("a majority of four", || answered_by(&fourth) == Some(3)).await;
    fourth.done(&["-k", "carts", "put", "a", "four", "--ack", "all"]);
    // Two of four are none.
    for node in [0, 1] {
        fleet.cluster.kill(node);
    }
    let (code, _, err) = fourth.outcome(&["-k", "carts", "put", "a", "x", "--ack", "quorum"]);
    assert!(code == 5 && err.contains("KV1407"), "{code} {err}");
    for node in [0, 1] {
        fleet.start(node).await;
    }
    // One change after the other is carried out.
    for gone in ["n4", "n3"] {
        let remove = ["cluster", "remove", gone, "--yes"];
        until(&format!("{gone} is removed"), || kv.outcome(&remove).0 == 0).await;
        until(&format!("{gone} has left"), || fleet.role(gone).is_empty()).await;
    }
    let first = fleet.kv_at(0);
    until("a majority of two", || answered_by(&first) == Some(2)).await;
    first.done(&["-k", "carts", "put", "a", "two", "--ack", "all"]);
    assert_eq!(values(&fleet.kv_at(1), "a").unwrap(), ["two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_all_nodes_were_killed() {
    let mut fleet = Fleet::boot(3, 0).await;
    fleet.kv().done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    for number in 0..60 {
        let (node, key) = (number % 3, format!("k{number}"));
        fleet.kv_at(node).done(&["-k", "carts", "put", &key, "v"]);
    }
    fleet.kv_at(1).done(&["-k", "carts", "del", "k7"]);
    for node in 0..3 {
        fleet.cluster.kill(node);
    }
    fleet.cluster.start_all().unwrap();
    fleet.members_ready().await;
    for number in (0..60).filter(|number| *number != 7) {
        all_have(&fleet, &[0, 1, 2], &format!("k{number}"), &["v"]).await;
    }
    all_have(&fleet, &[0, 1, 2], "k7", &[]).await;
}

/// The state directory of one node's replica is deleted: it is built anew from the log.
#[tokio::test(flavor = "multi_thread")]
async fn b52_a_deleted_state_is_built_anew_and_says_nothing_is_gone() {
    let mut fleet = Fleet::boot(3, 0).await;
    fleet.kv().done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    for number in 0..20 {
        fleet.kv_at(0).done(&["-k", "carts", "put", &format!("k{number}"), "v"]);
    }
    fleet.cluster.kill(0);
    std::fs::remove_dir_all(fleet.cluster.data_dir(0).join("state")).unwrap();
    fleet.start(0).await;
    for number in 0..20 {
        all_have(&fleet, &[0, 1, 2], &format!("k{number}"), &["v"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_kind_does_not_offer_is_refused_by_name() {
    let fleet = Fleet::boot(1, 0).await;
    let kv = fleet.kv();
    kv.done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    kv.done(&["-k", "carts", "put", "a", "1"]);
    for (args, exit, code) in [
        (&["-k", "carts", "put", "a", "2", "--if-absent"][..], 8, "KV1401"),
        (&["-k", "carts", "get", "a", "--rev", "2"], 8, "KV1401"),
        (&["-k", "carts", "history", "a"], 8, "KV1401"),
        (&["-k", "carts", "get", "a", "--consistency", "linearizable"], 8, "KV1007"),
        (&["-k", "carts", "put", "a", "2", "--causal", "AAAA"], 8, "KV1402"),
        (&["put", "a", "2", "--ack", "all"], 8, "KV1401"),
        (&["keyspace", "create", "more", "--kind", "eventual", "--max-keys", "5"], 8, "KV1019"),
    ] {
        let (exited, out, err) = kv.outcome(args);
        assert!(exited == exit && out.is_empty() && err.contains(code), "{args:?}: {exited} {err}");
    }
    assert_eq!(kv.done(&["-k", "carts", "get", "a"]), "1");
}
