//! Backups of eventual keyspaces on real nodes: what is in them, and clusters that begin with them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::backup::{flip, segment_with};
use crate::eventual::{all_have, json, values};
use crate::fleet::{Fleet, until};
use crate::programs::{self, Kv, kvstore, text};

/// Puts keys `w0`, `w1` and so on at one node until it is told to stop, and counts what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(kv: Kv) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                kv.done(&["-k", "carts", "put", &format!("w{number}"), "v"]);
                count.store(number + 1, Ordering::Release);
            }
        });
        Self { stop, written, thread }
    }

    fn written(&self) -> usize {
        self.written.load(Ordering::Acquire)
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// The context of a key.
fn context(kv: &Kv, key: &str) -> String {
    let (_, out, _) = kv.outcome(&["-k", "carts", "get", key, "-o", "json"]);
    json(&out)["context"].as_str().unwrap().to_owned()
}

/// Starts a cluster whose members all begin with this backup; one more is prepared.
async fn restored(backup: &Path) -> Fleet {
    let mut new = Fleet::prepare(&programs::server(), 3, 1);
    for node in 0..3 {
        let data_dir = new.cluster.data_dir(node);
        let (code, _, err) =
            kvstore(&["snapshot", "restore", text(backup), "--data-dir", text(&data_dir)]);
        assert_eq!(code, 0, "{err}");
        new.cluster.start(node).unwrap();
    }
    new.members_ready().await;
    new
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_writes_becomes_a_cluster_in_which_deletes_stay() {
    let old = Fleet::boot(3, 0).await;
    old.kv().done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    for number in 0..40 {
        let kv = old.kv_at(number % 3);
        kv.done(&["-k", "carts", "put", &format!("k{number}"), "v"]);
    }
    old.kv_at(0).done(&["-k", "carts", "put", "s", "first", "--ack", "all"]);
    let seen = context(&old.kv_at(0), "s");
    for (node, value) in [(1, "left"), (2, "right")] {
        old.kv_at(node).done(&["-k", "carts", "put", "s", value, "--causal", &seen]);
    }
    all_have(&old, &[0, 1, 2], "k39", &["v"]).await;
    for number in 0..10 {
        old.kv_at(1).done(&["-k", "carts", "del", &format!("k{number}")]);
    }
    // Another node takes writes all the time; what it has acknowledged before has to be there.
    let load = Load::start(old.kv_at(2));
    until("some writes", || load.written() > 20).await;
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup.exp");
    let before = load.written();
    let save = ["snapshot", "save", text(&backup), "-o", "json"];
    let saved = json(&old.kv_at(0).done(&save));
    load.finish();
    assert_eq!(saved["eventual"]["covered"], serde_json::json!(["n1", "n2", "n3"]), "{saved}");
    assert_eq!(saved["eventual"]["missing"], serde_json::json!([]), "{saved}");

    let (code, out, err) = kvstore(&["snapshot", "verify", text(&backup), "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let verified = json(&out);
    assert_eq!((&verified["sha256"], &verified["bytes"]), (&saved["sha256"], &saved["bytes"]));
    let carts = &verified["eventual"]["keyspaces"][0];
    assert_eq!(carts["name"], "carts", "{verified}");
    assert!(carts["keys"].as_u64().unwrap() >= (31 + before) as u64, "{before}: {verified}");
    let (code, out, err) = kvstore(&["snapshot", "verify", text(&backup)]);
    assert!(code == 0 && out.contains("covered    n1, n2, n3"), "{out}{err}");
    drop(old);

    let mut new = restored(&backup).await;
    let nodes = [0, 1, 2];
    all_have(&new, &nodes, "s", &["left", "right"]).await;
    for number in 0..40 {
        let expected: &[&str] = if number < 10 { &[] } else { &["v"] };
        all_have(&new, &nodes, &format!("k{number}"), expected).await;
    }
    for number in 0..before {
        all_have(&new, &nodes, &format!("w{number}"), &["v"]).await;
    }
    // What clients carry from before says nothing here.
    let old_token = ["-k", "carts", "put", "s", "old", "--causal", seen.as_str()];
    let (code, _, err) = new.kv_at(1).outcome(&old_token);
    assert!(code == 8 && err.contains("KV1402"), "{code} {err}");
    assert_eq!(values(&new.kv_at(1), "s").unwrap(), ["left", "right"]);
    // All goes on, with a node more.
    new.kv_at(1).done(&["-k", "carts", "put", "s", "merged"]);
    new.kv_at(2).done(&["-k", "carts", "del", "k39", "--ack", "all"]);
    let at = format!("n4={}", new.cluster.peer_address(3));
    new.kv().done(&["cluster", "add", &at]);
    new.start(3).await;
    let nodes = [0, 1, 2, 3];
    all_have(&new, &nodes, "s", &["merged"]).await;
    for number in [0, 5, 9, 39] {
        all_have(&new, &nodes, &format!("k{number}"), &[]).await;
    }
    all_have(&new, &nodes, "k20", &["v"]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for node in nodes {
        for number in [0, 5, 9, 39] {
            let what = format!("k{number} at node {node}");
            assert_eq!(values(&new.kv_at(node), &format!("k{number}")).unwrap(), [""; 0], "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_could_not_be_asked_is_named() {
    let mut old = Fleet::boot(3, 0).await;
    old.kv().done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    old.kv_at(0).done(&["-k", "carts", "put", "a", "1", "--ack", "all"]);
    old.cluster.kill(2);
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup.exp");
    let (code, out, err) = old.kv_at(0).outcome(&["snapshot", "save", text(&backup), "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("could not ask n3"), "{err}");
    assert_eq!(json(&out)["eventual"]["missing"], serde_json::json!(["n3"]), "{out}");
    let (code, out, err) = kvstore(&["snapshot", "verify", text(&backup)]);
    assert!(code == 0 && out.contains("missing    n3"), "{out}{err}");
    let new = restored(&backup).await;
    all_have(&new, &[0, 1, 2], "a", &["1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_last_node_has_is_recovered() {
    let mut old = Fleet::boot(3, 0).await;
    old.kv().done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    for number in 0..20 {
        old.kv_at(0).done(&["-k", "carts", "put", &format!("k{number}"), "v", "--ack", "all"]);
    }
    old.kv_at(0).done(&["-k", "carts", "del", "k7", "--ack", "all"]);
    for node in 0..3 {
        old.cluster.kill(node);
    }
    for lost in [0, 2] {
        std::fs::remove_dir_all(old.cluster.data_dir(lost)).unwrap();
    }
    let config = old.cluster.config(1).to_owned();
    let (code, out, err) = kvstore(&["recover", "--config", text(&config), "--yes"]);
    assert!(code == 0 && out.contains("eventual keyspaces are kept as this node"), "{out}{err}");
    let seed = old.cluster.data_dir(1).join("seed.exp");
    for node in [0, 2] {
        let data_dir = old.cluster.data_dir(node);
        let (code, _, err) =
            kvstore(&["snapshot", "restore", text(&seed), "--data-dir", text(&data_dir)]);
        assert_eq!(code, 0, "{err}");
    }
    old.cluster.start_all().unwrap();
    old.members_ready().await;
    for number in 0..20 {
        let expected: &[&str] = if number == 7 { &[] } else { &["v"] };
        all_have(&old, &[0, 1, 2], &format!("k{number}"), expected).await;
    }
}

/// The state or the export of the data group that is left holds all that the log before its damage does, or more. What that
/// log says of eventual keyspaces is kept all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_damaged_log_says_of_eventual_keyspaces_is_recovered() {
    for (keeps_state, is_ahead) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut fleet = Fleet::boot(1, 0).await;
        fleet.kv().done(&["keyspace", "create", "carts", "--kind", "eventual"]);
        fleet.kv().done(&["put", "linear", "1"]);
        fleet.kv().done(&["node", "compact", "n1"]);
        let value = "v".repeat(1_000);
        for number in 0..40 {
            fleet.kv().done(&["-k", "carts", "put", &format!("e-{number:03}:"), &value]);
        }
        if is_ahead {
            fleet.kv().done(&["put", "linear", "2"]);
            fleet.kv().done(&["node", "compact", "n1"]);
        }
        fleet.stop(0).await;
        let data_dir = fleet.cluster.data_dir(0);
        let wal = data_dir.join("wal");
        flip(&segment_with(&wal, b"e-030:"), b"e-030:");
        if !keeps_state {
            std::fs::remove_dir_all(data_dir.join("state")).unwrap();
        }
        let config = fleet.cluster.config(0).to_owned();
        let (code, out, err) = kvstore(&["recover", "--config", text(&config), "--yes"]);
        assert_eq!(code, 0, "{err}");
        let found = if keeps_state { "the state that was" } else { "the newest export that" };
        assert!(out.contains(found) && out.contains("eventual keyspaces are kept as"), "{out}");
        fleet.start(0).await;
        let kv = fleet.kv();
        let linear = if is_ahead { "2" } else { "1" };
        assert_eq!(kv.outcome(&["get", "linear"]).1.trim_end(), linear);
        all_have(&fleet, &[0], "e-029:", &[&value]).await;
        all_have(&fleet, &[0], "e-031:", &[]).await;
        assert_eq!(kv.outcome(&["-k", "carts", "put", "after", "1"]).0, 0);
    }
}
