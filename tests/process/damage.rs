//! State that is gone, bits that flip, disks that are full: what the others have is never lost, and
//! the node comes back.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use client::CallOptions;

use crate::backup::{flip, segment_with};
use crate::fleet::{Fleet, until, until_async};
use crate::programs;

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_all_nodes_can_be_deleted_without_a_loss() {
    let mut fleet = Fleet::boot(3, 0).await;
    fleet.fill("k", 80, 2_000).await;
    let (code, _, err) = fleet.kv().outcome(&["node", "compact", "n1"]);
    assert_eq!(code, 0, "{err}");
    fleet.fill("l", 20, 2_000).await;
    let before = fleet.compare(&[0, 1, 2]);
    for node in 0..3 {
        fleet.cluster.kill(node);
        std::fs::remove_dir_all(fleet.cluster.data_dir(node).join("state")).unwrap();
    }
    fleet.cluster.start_all().unwrap();
    fleet.members_ready().await;
    assert_eq!(fleet.compare(&[0, 1, 2]), before);
    assert_eq!(fleet.kv().outcome(&["put", "after", "1"]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn b29_a_flipped_bit_in_the_log_is_repaired_from_the_others() {
    let mut fleet = Fleet::boot(3, 0).await;
    fleet.fill("k", 80, 1_000).await;
    // Twice, since a new log, which begins with what was fetched, can be damaged as well.
    for round in 0..2 {
        let needle = format!("r{round}-050:");
        fleet.fill(&format!("r{round}"), 80, 1_000).await;
        fleet.compare(&[0, 1, 2]);
        for node in 0..3 {
            fleet.stop(node).await;
        }
        let wal = fleet.cluster.data_dir(2).join("wal");
        flip(&segment_with(&wal, needle.as_bytes()), needle.as_bytes());
        // Nobody there to repair it from: it waits, and says so.
        fleet.cluster.start(2).unwrap();
        until_async("word of the repair", || async {
            match fleet.probe(2, "/readyz").await {
                Some((status, body)) => status == 503 && body.contains("repairs its data"),
                None => false,
            }
        })
        .await;
        assert_eq!(fleet.probe(2, "/livez").await.unwrap().0, 200);
        fleet.cluster.start(0).unwrap();
        fleet.cluster.start(1).unwrap();
        fleet.members_ready().await;
        assert_eq!(fleet.probe(2, "/readyz").await.unwrap().0, 200);
        let content = fleet.compare(&[0, 1, 2]);
        assert!(content.contains(&needle), "what was damaged here is there");
    }
    // What was repaired is one of the majority again.
    fleet.cluster.kill(0);
    assert!(fleet.client().get_value("k-001", &CallOptions::default()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn b29_flipped_bits_in_state_and_export_are_served_right() {
    let mut fleet = Fleet::boot(3, 0).await;
    fleet.fill("k", 80, 1_000).await;
    let (code, _, err) = fleet.kv().outcome(&["node", "compact", "n3"]);
    assert_eq!(code, 0, "{err}");
    let before = fleet.compare(&[0, 1, 2]);
    let data = fleet.cluster.data_dir(2);
    let exports = files(&data.join("exports"), |name| name.starts_with("1-"));
    let stores = || files(&data.join("state"), |name| name == "db");
    assert!(!exports.is_empty() && !stores().is_empty(), "the node has written both");
    let said = |fleet: &Fleet, words: &str| {
        std::fs::read_to_string(fleet.cluster.log(2)).unwrap().contains(words)
    };
    // The state alone.
    fleet.stop(2).await;
    stores().iter().for_each(|path| flip_many(path));
    assert!(!said(&fleet, "the state is rebuilt"));
    fleet.start(2).await;
    assert!(said(&fleet, "the state is rebuilt"));
    assert_eq!(fleet.compare(&[0, 1, 2]), before);
    // The export as well, so that nothing is left to rebuild the state from.
    fleet.stop(2).await;
    stores().iter().for_each(|path| flip_many(path));
    for path in files(&data.join("exports"), |name| name.starts_with("1-")) {
        flip(&path, b"k-040:");
    }
    assert!(!said(&fleet, "fetched anew from the leader"));
    fleet.start(2).await;
    assert!(said(&fleet, "fetched anew from the leader"));
    assert_eq!(fleet.compare(&[0, 1, 2]), before);
    assert_eq!(fleet.kv_at(2).outcome(&["put", "after", "1"]).0, 0);
}

/// The files below a directory whose name is one of these.
fn files(dir: &Path, wanted: fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, wanted));
        } else if wanted(path.file_name().unwrap().to_str().unwrap()) {
            found.push(path);
        }
    }
    found
}

/// Flips bits all over what was written, which may be far less than the file is long.
fn flip_many(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    for at in written.iter().step_by((written.len() / 64).max(1)) {
        bytes[*at] ^= 0x04;
    }
    std::fs::write(path, bytes).unwrap();
}

/// Whether this machine lets anybody mount a small file system for one process.
fn can_mount() -> bool {
    let script = "mount -t tmpfs -o size=1m tmpfs /mnt";
    let tried = Command::new("unshare").args(["-Urm", "sh", "-c", script]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// A server whose data is on a file system of its own when there is one of these files beside its
/// configuration:
///
/// - `small`: its size; it is empty at first.
/// - `full`: it holds a copy of the data, and nothing more fits.
///
/// The server leaves its process id beside it: through that the file system can be seen.
fn on_small_disks(dir: &Path) -> PathBuf {
    let server = programs::server().display().to_string();
    let script = r#"#!/bin/sh
home=$(dirname "$3")
if [ -f "$home/small" ] || [ -f "$home/full" ]; then
    exec unshare -Urm sh -e -c '
        home=$0
        if [ -f "$home/small" ]; then
            mount -t tmpfs -o size=$(cat "$home/small") tmpfs "$home/data"
        else
            mkdir -p "$home/copy"
            size=$(du -sm "$home/data" | cut -f 1)
            mount -t tmpfs -o size=$((size + 1))m tmpfs "$home/copy"
            cp -a "$home/data/." "$home/copy/"
            mount --bind "$home/copy" "$home/data"
            dd if=/dev/zero of="$home/data/filler" bs=4k 2>/dev/null || true
        fi
        echo $$ > "$home/pid"
        exec "$@"' "$home" SERVER "$@"
fi
exec SERVER "$@"
"#;
    let path = dir.join("kvstore-on-small-disks");
    std::fs::write(&path, script.replace("SERVER", &server)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The file that fills the file system of the node with this home.
fn filler(home: &Path) -> PathBuf {
    let pid = std::fs::read_to_string(home.join("pid")).unwrap();
    let inside = Path::new("/proc").join(pid.trim()).join("root");
    inside.join(home.strip_prefix("/").unwrap()).join("data").join("filler")
}

#[tokio::test(flavor = "multi_thread")]
async fn b33_a_start_on_a_full_disk_removes_nothing() {
    if !can_mount() {
        eprintln!("skipped: this machine lets nobody mount a file system without privileges");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::prepare(&on_small_disks(dir.path()), 3, 0);
    fleet.cluster.start_all().unwrap();
    fleet.members_ready().await;
    fleet.fill("k", 40, 1_000).await;
    let before = fleet.compare(&[0, 1, 2]);
    let home = fleet.cluster.config(2).parent().unwrap().to_owned();
    // Killed, so that there is something to recover from the log.
    fleet.cluster.kill(2);
    std::fs::write(home.join("full"), "").unwrap();
    fleet.start(2).await;
    let filler = filler(&home);
    assert!(std::fs::metadata(&filler).unwrap().len() > 0, "it was full when the node started");
    assert_eq!(fleet.compare(&[0, 1, 2]), before);
    std::fs::remove_file(&filler).unwrap();
    fleet.fill("l", 10, 1_000).await;
    assert!(fleet.compare(&[0, 1, 2]).contains("l-009"));
}

#[tokio::test(flavor = "multi_thread")]
async fn b33_a_full_disk_stops_one_node_from_writing_and_nothing_else() {
    if !can_mount() {
        eprintln!("skipped: this machine lets nobody mount a file system without privileges");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::prepare(&on_small_disks(dir.path()), 3, 0);
    let home = fleet.cluster.config(2).parent().unwrap().to_owned();
    std::fs::write(home.join("small"), "300m").unwrap();
    fleet.cluster.start_all().unwrap();
    fleet.members_ready().await;
    let (code, _, err) = fleet.kv().outcome(&["cluster", "move-leader", "n3"]);
    assert_eq!(code, 0, "{err}");

    // Fill it, all but nothing.
    let filler = filler(&home);
    let script = "dd if=/dev/zero of=\"$0\" bs=64k 2>/dev/null; test -s \"$0\"";
    assert!(Command::new("sh").args(["-c", script]).arg(&filler).status().unwrap().success());

    // The segments that were prepared are used up, then it cannot go on.
    let client = fleet.client();
    let value = "x".repeat(1_000_000);
    let (mut count, mut acknowledged) = (0, Vec::new());
    while fleet.metric(2, "kvstore_read_only").await != Some(1.0) {
        assert!(count < 400, "400 MB went into 300 MB");
        let key = format!("big-{count}");
        count += 1;
        match client.put_value(key.clone(), value.clone(), &CallOptions::default()).await {
            Ok(_) => acknowledged.push(key),
            Err(error) => assert_ne!(error.applied(), Some(proto::Applied::Yes), "{error}"),
        }
    }
    until("another leader", || {
        fleet.members_json().is_some_and(|json| {
            let members = json["members"].as_array().unwrap();
            members.iter().any(|member| member["leader"] == true && member["name"] != "n3")
        })
    })
    .await;
    for number in 0..10 {
        let key = format!("other-{number}");
        client.put_value(key.clone(), "1", &CallOptions::default()).await.unwrap();
        acknowledged.push(key);
    }
    assert_eq!(fleet.probe(2, "/livez").await.unwrap().0, 200, "it lives");

    std::fs::remove_file(&filler).unwrap();
    until_async("end of the shortage", || async {
        fleet.metric(2, "kvstore_read_only").await == Some(0.0)
    })
    .await;
    let local = fleet.kv_at(2);
    for key in acknowledged {
        assert_eq!(local.outcome(&["get", &key]).0, 0, "{key}");
    }
}
