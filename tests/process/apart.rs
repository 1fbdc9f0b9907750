//! Eventual keyspaces on nodes that are cut off from each other, killed, or lose what they had: the short form of
//! `make eventual`.

use std::time::Duration;

use jepsen::cluster::ClusterOptions;
use tests::apart::Work;
use tests::apart::trials::{self, Outcome, Size};

use crate::programs;

/// The 99th percentile of reads and of writes at a node that is alone, on a machine that runs other tests as well. The
/// long form asks for 250 ms.
const ANSWER_MAX: Duration = Duration::from_secs(1);

fn size(nodes: usize, seed: u64) -> Size {
    Size {
        cluster: ClusterOptions { binary: programs::server(), nodes, dir: None },
        work: Work {
            keys: 200,
            lasts: Duration::from_secs(6),
            pairs: 300,
            delete_percent: 30,
            seed,
        },
        converged_max: Duration::from_secs(60),
    }
}

fn valid(outcome: &Outcome) {
    let Outcome { verdict, calls, converged, .. } = outcome;
    println!("{calls} calls, the same after {converged:?}");
    assert!(verdict.is_valid(), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_alone_answers_and_all_come_to_the_same() {
    let outcome = trials::cut_off(&size(5, 1)).await.unwrap();
    valid(&outcome);
    let calm = &outcome.calm;
    assert_eq!(calm.failed, 0, "{:?}", calm.failure);
    assert!(calm.gets() >= 200 && calm.writes() >= 200, "{calm:?}");
    assert!(calm.deletes * 10 > calm.writes(), "{calm:?}");
    assert!(calm.get_p99() <= ANSWER_MAX, "reads took {:?}", calm.get_p99());
    assert!(calm.write_p99() <= ANSWER_MAX, "writes took {:?}", calm.write_p99());
    // The one that was restarted alone took writes as well: before its end no more than half of the 300 were due, and
    // its client then catches up.
    assert!(outcome.struck.writes() > 200, "{:?}", outcome.struck);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_took_alone_is_there_after_all_were_killed() {
    let outcome = trials::all_killed(&size(3, 2)).await.unwrap();
    valid(&outcome);
    assert!(outcome.struck.writes() >= 100, "{:?}", outcome.struck);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_loses_nothing_that_others_have() {
    let outcome = trials::disk_lost(&size(3, 3)).await.unwrap();
    valid(&outcome);
    assert!(outcome.calm.writes() >= 100, "{:?}", outcome.calm);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_image_loses_nothing_and_brings_nothing_back() {
    let (outcome, runs) = trials::old_image(&size(3, 4)).await.unwrap();
    println!("the node {}", if runs { "runs" } else { "does not run" });
    valid(&outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_directory_loses_nothing_and_brings_nothing_back() {
    let (outcome, runs) = trials::copied(&size(3, 5)).await.unwrap();
    assert!(!runs, "a directory says whose it is");
    valid(&outcome);
}
