//! A whole node with its threads, alone in its cluster.

use std::io::ErrorKind;
use std::time::Duration;

use proto::{Applied, Code};
use storage::disk::{Operation, SimDisk};

use super::testing::{LAYER_BYTES, PATIENCE, SingleNode, get, put, put_request};
use crate::node::{Reply, Request};

fn revision(reply: &Reply) -> u64 {
    match reply {
        Reply::Write { outcome, .. } => outcome.revision,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_write_is_read_back_and_survives_a_restart() {
    let disk = SimDisk::new();
    let node = SingleNode::start(&disk);
    let handle = node.ready().await;
    assert_eq!(revision(&put(&handle, "a", b"1").await.unwrap()), 2);
    assert_eq!(get(&handle, "a").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&handle, "b").await, None);
    assert_eq!(handle.summary().await.unwrap().revision, 2);
    assert!(handle.is_alive());
    assert_eq!(handle.admission().requests(), 0, "every reply gave its room back");
    node.stop().await;
    let failure = put(&handle, "a", b"2").await.unwrap_err();
    assert_eq!((failure.code, failure.applied), (Code::NotReady, Some(Applied::No)));

    let node = SingleNode::start(&disk);
    let handle = node.ready().await;
    assert_eq!(get(&handle, "a").await.as_deref(), Some(&b"1"[..]));
    node.stop().await;
}

/// A store only grows, unless it is replaced by a copy of itself.
#[tokio::test]
async fn a_store_is_renewed_beside_writes_and_nothing_is_lost() {
    let node = SingleNode::start_with(&SimDisk::new(), |config| {
        config.checkpoint_layer_bytes = 4 * 1024;
        config.bounds.store_times = 1;
        config.bounds.store_slack_bytes = 0;
    });
    let handle = node.ready().await;
    // What lives is known from an export.
    put(&handle, "k0", &[7; 500]).await.unwrap();
    let exported = handle.call(Request::Export, PATIENCE).await;
    assert!(matches!(exported, Ok(Reply::Export(_))), "{exported:?}");
    let (mut most, mut written, mut renewals) = (0, 0, 0);
    let all = async {
        while renewals < 2 {
            written += 1;
            let value = [7; 500];
            put(&handle, &format!("k{written}"), &value).await.unwrap();
            let bytes = handle.summary().await.unwrap().store_bytes;
            renewals += u32::from(bytes < most);
            most = if bytes < most { bytes } else { most.max(bytes) };
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the store is renewed");
    for number in 1..=written {
        let found = get(&handle, &format!("k{number}")).await;
        assert_eq!(found.as_deref(), Some(&[7; 500][..]), "k{number}");
    }
    node.stop().await;
}

#[tokio::test]
async fn writes_that_come_together_share_syncs() {
    const WRITES: usize = 400;
    let node = SingleNode::start(&SimDisk::new());
    let handle = node.ready().await;
    let before = node.disk.counters().syncs;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..WRITES {
        let handle = handle.clone();
        calls.spawn(async move { put(&handle, &format!("k{number}"), b"v").await });
    }
    let mut revisions: Vec<u64> =
        calls.join_all().await.iter().map(|reply| revision(reply.as_ref().unwrap())).collect();
    revisions.sort_unstable();
    let expected: Vec<u64> = (2..2 + WRITES as u64).collect();
    assert_eq!(revisions, expected, "each write has a revision of its own");
    let syncs = node.disk.counters().syncs - before;
    assert!(syncs < WRITES as u64 / 2, "{syncs} syncs for {WRITES} writes");
    assert!(node.metrics.render(&crate::metrics::Snapshot::default()).contains("log_fsync"));
    node.stop().await;
}

/// B50: what a failed fdatasync leaves on the disk is unknown. Nothing is acknowledged after it.
#[tokio::test]
async fn b50_a_failed_sync_ends_the_node_and_acknowledges_nothing() {
    let node = SingleNode::start(&SimDisk::new());
    let handle = node.ready().await;
    put(&handle, "a", b"1").await.unwrap();
    node.disk.fail_next(Operation::Sync, ErrorKind::Other);
    let failure = handle.call(put_request("a", b"2"), Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(failure.applied, Some(Applied::Unknown), "{failure}");
    let why = node.failures.recv_timeout(PATIENCE).unwrap();
    assert!(why.contains("write-ahead log"), "{why}");
    node.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_recovers_unaided() {
    let node = SingleNode::start(&SimDisk::new());
    let handle = node.ready().await;
    put(&handle, "first", b"1").await.unwrap();
    node.disk.set_quota_bytes(Some(node.disk.used_bytes()));
    let refused = write_until_refused(&node).await;
    assert_eq!(refused.applied, Some(Applied::No));
    assert!(refused.retry_after.is_some());
    assert!(handle.log_is_full());
    assert_eq!(get(&handle, "first").await.as_deref(), Some(&b"1"[..]), "reads go on");
    assert!(node.failures.try_recv().is_err(), "a full disk is no reason to end");

    node.disk.set_quota_bytes(None);
    let recovered = async {
        loop {
            match put(&handle, "later", b"2").await {
                Ok(_) => return,
                Err(failure) if failure.code == Code::ReadOnly => {
                    tokio::task::yield_now().await;
                }
                Err(failure) => panic!("{failure}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, recovered).await.unwrap();
    assert!(!handle.log_is_full());
    node.stop().await;
}

/// Fills the log until a write is refused because the disk is full.
async fn write_until_refused(node: &SingleNode) -> proto::Failure {
    let handle = node.shell.handle();
    let value = vec![b'x'; 4 * 1024];
    for _ in 0..1_000 {
        let patience = Duration::from_millis(500);
        match handle.call(put_request("filler", &value), patience).await {
            Ok(_) => {}
            // The write that found the disk full stays in memory, undecided.
            Err(failure) if failure.code == Code::WriteTimedOut => {}
            Err(failure) => {
                assert_eq!(failure.code, Code::ReadOnly, "{failure}");
                return failure;
            }
        }
    }
    panic!("the disk never became full");
}

#[tokio::test]
async fn a_stop_answers_what_is_open() {
    let node = SingleNode::start(&SimDisk::new());
    let handle = node.ready().await;
    // A full disk keeps the write open.
    node.disk.set_quota_bytes(Some(0));
    let value = vec![b'x'; 60 * 1024];
    let open = tokio::spawn({
        let handle = handle.clone();
        async move { put(&handle, "open", &value).await }
    });
    let pending = async { while handle.summary().await.unwrap().proposals_pending == 0 {} };
    tokio::time::timeout(PATIENCE, pending).await.unwrap();
    node.stop().await;
    let failure = open.await.unwrap().unwrap_err();
    assert_eq!((failure.code, failure.applied), (Code::WriteTimedOut, Some(Applied::Unknown)));
    assert_eq!(handle.admission().requests(), 0);
}

#[tokio::test]
async fn a_full_memory_layer_moves_into_the_store() {
    let node = SingleNode::start(&SimDisk::new());
    let handle = node.ready().await;
    let value = vec![b'x'; 16 * 1024];
    for number in 0..LAYER_BYTES / value.len() + 8 {
        put(&handle, &format!("k{number}"), &value).await.unwrap();
    }
    let moved =
        async { while handle.summary().await.unwrap().layer_bytes >= LAYER_BYTES as u64 {} };
    tokio::time::timeout(PATIENCE, moved).await.unwrap();
    assert_eq!(get(&handle, "k0").await.as_deref(), Some(&value[..]), "read from the store");
    node.stop().await;
}
