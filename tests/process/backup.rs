//! Backup, restore into a new cluster, and recovery when no majority is left.

use std::path::Path;

use client::CallOptions;

use crate::eventual::json;
use crate::fleet::{Fleet, Writer};
use crate::programs::{self, kvstore, text};

/// The revision of keyspace `default` and the cluster's id, as the nodes say.
fn revision(fleet: &Fleet) -> (u64, String) {
    let (code, out, err) = fleet.kv().outcome(&["cluster", "status", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let status = json(&out);
    (status["rev"].as_u64().unwrap(), status["cluster_id"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_becomes_a_new_cluster_and_revisions_go_on() {
    let old = Fleet::boot(3, 0).await;
    let kv = old.kv();
    let create = ["keyspace", "create", "orders", "--kind", "linearizable"];
    assert_eq!(kv.outcome(&create).0, 0);
    assert_eq!(kv.outcome(&["-k", "orders", "put", "o", "1"]).0, 0);
    old.fill("k", 60, 2_000).await;
    assert_eq!(kv.outcome(&["del", "k-000"]).0, 0);
    let writer = Writer::start(old.client());
    writer.goes_on().await;
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup.exp");
    let (code, saved, err) = kv.outcome(&["snapshot", "save", text(&backup), "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    writer.goes_on().await;
    writer.finish(&old.client()).await;

    let (code, out, err) = kvstore(&["snapshot", "verify", text(&backup), "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let (verified, saved) = (json(&out), json(&saved));
    assert_eq!((&verified["sha256"], &verified["bytes"]), (&saved["sha256"], &saved["bytes"]));
    let (_, old_id) = revision(&old);
    assert_eq!(verified["cluster_id"], old_id.as_str());
    let saved_revision = verified["keyspaces"][0]["rev"].as_u64().unwrap();
    drop(old);

    // New certificates of a new authority, new ids, new addresses: only the data is old.
    let mut new = Fleet::prepare(&programs::server(), 3, 0);
    for node in 0..3 {
        let data_dir = new.cluster.data_dir(node);
        let (code, out, err) =
            kvstore(&["snapshot", "restore", text(&backup), "--data-dir", text(&data_dir)]);
        assert!(code == 0 && out.contains("initial"), "{out}{err}");
        new.cluster.start(node).unwrap();
    }
    new.members_ready().await;
    let (restored, new_id) = revision(&new);
    assert_ne!(new_id, old_id);
    assert_eq!(restored, saved_revision);
    let content = new.compare(&[0, 1, 2]);
    assert!(content.contains("k-059") && !content.contains("\"k-000\""), "{content}");
    assert_eq!(new.kv().outcome(&["-k", "orders", "get", "o"]).1, "1");
    let written =
        new.client().put_value("after", "1", &CallOptions::default()).await.unwrap().revision;
    assert_eq!(written, saved_revision + 1, "revisions never fall and never come twice");
    // The new cluster backs up and restarts as any other; its epoch is one higher.
    let second = dir.path().join("second.exp");
    assert_eq!(new.kv().outcome(&["snapshot", "save", text(&second)]).0, 0);
    let (code, out, _) = kvstore(&["snapshot", "verify", text(&second), "-o", "json"]);
    assert_eq!((code, &json(&out)["epoch"]), (0, &1.into()), "{out}");
    for node in 0..3 {
        new.cluster.kill(node);
    }
    new.cluster.start_all().unwrap();
    new.members_ready().await;
    assert_eq!(new.kv().outcome(&["get", "after"]).1, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn b30_a_damaged_backup_is_refused_with_its_place_and_changes_nothing() {
    let fleet = Fleet::boot(1, 0).await;
    fleet.fill("k", 20, 1_000).await;
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup.exp");
    assert_eq!(fleet.kv().outcome(&["snapshot", "save", text(&backup)]).0, 0);
    flip(&backup, b"k-010");
    let (code, out, err) = kvstore(&["snapshot", "verify", text(&backup)]);
    assert_eq!((code, out.as_str()), (9, ""), "{err}");
    assert!(err.contains("KV1709") && err.contains("at byte "), "{err}");
    let (code, _, err) = kvstore(&["snapshot", "verify", text(&backup), "-o", "json"]);
    assert_eq!(code, 9);
    assert!(json(&err)["error"]["offset"].is_u64(), "{err}");
    let target = dir.path().join("data");
    let (code, _, err) =
        kvstore(&["snapshot", "restore", text(&backup), "--data-dir", text(&target)]);
    assert!(code == 9 && !target.exists(), "{err}");
    assert_eq!(kvstore(&["snapshot", "verify", text(&target)]).0, 3, "there is none");
}

/// Flips a bit of the first place in a file that holds these bytes.
pub fn flip(path: &Path, needle: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(needle.len()).position(|window| window == needle);
    let at = at.unwrap_or_else(|| panic!("{} does not hold {needle:?}", path.display()));
    bytes[at] ^= 0x04;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_of_three_holds_is_recovered_after_the_loss_of_two() {
    let mut old = Fleet::boot(3, 0).await;
    old.fill("k", 60, 1_000).await;
    let before = old.compare(&[0, 1, 2]);
    let (old_revision, old_id) = revision(&old);
    let config = old.cluster.config(1).to_owned();
    let arguments = ["recover", "--config", text(&config), "--yes"];
    let (code, _, err) = kvstore(&arguments);
    assert!(code == 1 && err.contains("KV1704"), "a node that runs is left alone: {err}");
    for node in 0..3 {
        old.cluster.kill(node);
    }
    for lost in [0, 2] {
        std::fs::remove_dir_all(old.cluster.data_dir(lost)).unwrap();
    }
    let (code, _, err) = kvstore(&arguments[..3]);
    assert!(code == 2 && err.contains("--yes") && err.contains("may be lost"), "{err}");
    assert!(err.contains("everything up to index"), "{err}");
    let (code, out, err) = kvstore(&arguments);
    assert_eq!(code, 0, "{err}");
    for part in ["the log is whole", "recovered: ", "before-recover-1", "snapshot restore"] {
        assert!(out.contains(part), "{part} is missing: {out}");
    }
    // Once more says the same thing and harms nothing.
    let (code, again, err) = kvstore(&arguments);
    assert_eq!(code, 0, "{err}");
    assert!(again.contains("it is only completed"), "{again}");
    let data_dir = old.cluster.data_dir(1);
    assert!(data_dir.join("before-recover-1").join("wal").is_dir());
    let seed = data_dir.join("seed.exp");
    for node in [0, 2] {
        let target = old.cluster.data_dir(node);
        let (code, _, err) =
            kvstore(&["snapshot", "restore", text(&seed), "--data-dir", text(&target)]);
        assert_eq!(code, 0, "{err}");
    }
    old.cluster.start_all().unwrap();
    old.members_ready().await;
    let (new_revision, new_id) = revision(&old);
    assert_eq!(new_revision, old_revision);
    assert_ne!(new_id, old_id);
    assert_eq!(old.compare(&[0, 1, 2]), before);
    assert_eq!(old.kv().outcome(&["put", "after", "1"]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn b29_recovery_of_a_damaged_log_says_up_to_where_and_keeps_the_rest() {
    let mut fleet = Fleet::boot(1, 0).await;
    fleet.fill("k", 60, 1_000).await;
    fleet.stop(0).await;
    let wal = fleet.cluster.data_dir(0).join("wal");
    flip(&segment_with(&wal, b"k-040:"), b"k-040:");
    fleet.cluster.start(0).unwrap();
    let how = fleet.ended(0).await;
    assert!(how.contains("exit status: 9") && how.contains("kvstore recover"), "{how}");
    let config = fleet.cluster.config(0).to_owned();
    let (code, out, err) = kvstore(&["recover", "--config", text(&config), "--yes"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("does not verify at byte ") && out.contains("up to index"), "{out}");
    fleet.start(0).await;
    let kv = fleet.kv();
    assert!(kv.outcome(&["get", "k-039"]).1.starts_with("k-039:"));
    assert_eq!(kv.outcome(&["get", "k-041"]).0, 3, "it came after the damage");
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_without_a_log_takes_the_newest_state_or_export() {
    for keeps_state in [true, false] {
        let mut fleet = Fleet::boot(1, 0).await;
        fleet.fill("k", 30, 1_000).await;
        let (code, _, err) = fleet.kv().outcome(&["node", "compact", "n1"]);
        assert_eq!(code, 0, "{err}");
        fleet.stop(0).await;
        let data_dir = fleet.cluster.data_dir(0);
        std::fs::remove_dir_all(data_dir.join("wal")).unwrap();
        fleet.cluster.start(0).unwrap();
        let how = fleet.ended(0).await;
        assert!(how.contains("exit status: 9") && how.contains("KV1707"), "{how}");
        if !keeps_state {
            std::fs::remove_dir_all(data_dir.join("state")).unwrap();
        }
        let config = fleet.cluster.config(0).to_owned();
        let (code, out, err) = kvstore(&["recover", "--config", text(&config), "--yes"]);
        assert_eq!(code, 0, "{err}");
        let found = if keeps_state { "the state that was" } else { "the newest export that" };
        assert!(out.contains("there is no log") && out.contains(found), "{out}");
        assert!(out.contains("nothing is kept of eventual keyspaces"), "{out}");
        fleet.start(0).await;
        let kv = fleet.kv();
        assert!(kv.outcome(&["get", "k-029"]).1.starts_with("k-029:"));
        assert_eq!(kv.outcome(&["put", "after", "1"]).0, 0);
    }
}

/// Whose files these are is not known any more; but an export says so itself.
#[tokio::test(flavor = "multi_thread")]
async fn without_identity_or_cluster_the_newest_export_is_the_way_out() {
    let mut fleet = Fleet::boot(1, 0).await;
    let data_dir = fleet.cluster.data_dir(0);
    let config = fleet.cluster.config(0).to_owned();
    let recover = ["recover", "--config", text(&config), "--yes"];
    for (round, record) in ["identity", "cluster"].into_iter().enumerate() {
        let prefix = format!("r{round}");
        fleet.fill(&prefix, 30, 1_000).await;
        let (code, _, err) = fleet.kv().outcome(&["node", "compact", "n1"]);
        assert_eq!(code, 0, "{err}");
        fleet.stop(0).await;
        flip(&data_dir.join(record), b"n1");
        fleet.cluster.start(0).unwrap();
        let how = fleet.ended(0).await;
        assert!(how.contains("exit status: 9") && how.contains("KV1706"), "{how}");
        let (code, _, err) = kvstore(&recover);
        assert_eq!(code, 9, "{err}");
        assert!(err.contains("KV1706") && err.contains(&format!("{record}: ")), "{err}");
        assert!(data_dir.join("wal").is_dir(), "nothing was moved");
        // Word by word, with the directory moved away as it says.
        let words: Vec<&str> = err.split_whitespace().collect();
        let at = words.windows(2).position(|pair| pair == ["snapshot", "restore"]);
        let export = Path::new(words[at.unwrap_or_else(|| panic!("{err}")) + 2]);
        let aside = data_dir.with_extension(prefix.clone());
        std::fs::rename(&data_dir, &aside).unwrap();
        let export = aside.join(export.strip_prefix(&data_dir).unwrap());
        let (code, _, err) =
            kvstore(&["snapshot", "restore", text(&export), "--data-dir", text(&data_dir)]);
        assert_eq!(code, 0, "{err}");
        fleet.start(0).await;
        for number in [0, 29] {
            let key = format!("{prefix}-{number:03}");
            assert!(fleet.kv().outcome(&["get", &key]).1.starts_with(&key), "{key}");
        }
    }
    // Without an export there is only a backup.
    fleet.stop(0).await;
    flip(&data_dir.join("identity"), b"n1");
    std::fs::remove_dir_all(data_dir.join("exports")).unwrap();
    let (code, _, err) = kvstore(&recover);
    assert!(code == 9 && err.contains("only a backup is left"), "{err}");
}

/// The segment of a log that holds these bytes.
pub fn segment_with(wal: &Path, needle: &[u8]) -> std::path::PathBuf {
    let entries = std::fs::read_dir(wal).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    let found: Vec<_> = entries.filter(holds).collect();
    assert!(!found.is_empty(), "no segment in {} holds {needle:?}", wal.display());
    found[0].clone()
}
