//! kill -9 of one node, of the leader, of all, under concurrent clients; the lab judges.

use std::collections::BTreeSet;
use std::time::Duration;

use jepsen::nemesis::NemesisKind;
use jepsen::run::{self, Parameters, RunOptions, System};
use jepsen::workload::{Load, WorkloadKind};

use crate::programs::{self, READY_MAX};

/// How long clients work.
const TIME_LIMIT: Duration = Duration::from_secs(30);
const SEED: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn b03_b24_b27_nothing_acknowledged_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let parameters = Parameters {
        system: System::Own { binary: programs::server(), nodes: 3 },
        workload: WorkloadKind::Register,
        nemeses: vec![NemesisKind::Kill],
        time_limit: TIME_LIMIT,
        seed: SEED,
        load: Load::default(),
    };
    let options = RunOptions { parameters, dir: dir.path().join("run"), progress: false };
    let result = run::run(&options, std::future::pending()).await.unwrap();
    assert!(result.failure.is_none(), "{result:#?}");
    assert_eq!(run::exit(&result), 0, "{result:#?}");
    let kinds: BTreeSet<&str> = result.faults.iter().map(|fault| fault.what).collect();
    let expected = BTreeSet::from(["kill all", "kill leader", "kill one"]);
    assert_eq!(kinds, expected, "{:#?}", result.faults);
    assert!(result.summary.ok >= 500, "{:?}", result.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_cluster_keeps_what_it_acknowledged() {
    let mut cluster = programs::cluster().await;
    let client = cluster.client(cluster.endpoints(), READY_MAX).unwrap();
    let options = client::CallOptions::default();
    for number in 0..200_u32 {
        client.put_value(format!("k{number}"), format!("{number}"), &options).await.unwrap();
    }
    for node in 0..cluster.len() {
        cluster.kill(node);
    }
    cluster.start_all().unwrap();
    cluster.wait_all_ready(READY_MAX).await.unwrap();
    for number in 0..200_u32 {
        let value = client.get_value(format!("k{number}"), &options).await.unwrap();
        assert_eq!(value.as_deref(), Some(number.to_string().as_bytes()), "k{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stops_politely_also_without_a_quorum() {
    let mut cluster = programs::cluster().await;
    let patience = Duration::from_secs(5);
    for node in 0..cluster.len() {
        let status = cluster.terminate(node, patience).await.unwrap();
        assert_eq!(status.code(), Some(0), "node {node}");
    }
}
