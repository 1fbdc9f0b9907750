//! Nodes that come, go, are lost and are replaced, under load.

use std::time::Duration;

use jepsen::checker::{Checker, RegisterChecker, RevisionChecker};
use jepsen::recorder::Recorder;
use jepsen::workload::{Load, RegisterSummary, RegisterWorkload};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fleet::{Fleet, Writer, until};
use crate::programs::READY_MAX;

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_joins_becomes_a_voter_and_leaves_for_good() {
    let mut fleet = Fleet::boot(3, 1).await;
    fleet.fill("k", 50, 100).await;
    let writer = Writer::start(fleet.client());
    let kv = fleet.kv();
    let at = format!("n4={}", fleet.cluster.peer_address(3));
    let (code, out, err) = kv.outcome(&["cluster", "add", &at, "--dry-run"]);
    assert!(code == 0 && out.contains("voters\t3\t4"), "{out}{err}");
    assert_eq!(fleet.role("n4"), "", "a dry run changes nothing");
    let taken = format!("n4={}", fleet.cluster.peer_address(0));
    for (at, why) in
        [(taken.as_str(), "is the address of n1"), ("n4=nowhere", "as n4=10.0.0.4:7611")]
    {
        let (code, _, err) = kv.outcome(&["cluster", "add", at]);
        assert!(code != 0 && err.contains(why), "{code} {err}");
    }
    let (code, out, err) = kv.outcome(&["cluster", "promote", "n1"]);
    assert!(code == 0 && out.contains("is a voter already"), "{out}{err}");
    let (code, _, err) = kv.outcome(&["cluster", "add", &at]);
    assert_eq!(code, 0, "{err}");
    fleet.start(3).await;
    until("promotion", || fleet.role("n4") == "voter").await;
    writer.goes_on().await;
    assert!(fleet.kv_at(3).outcome(&["get", "k-007"]).1.starts_with("k-007:"));

    let (code, _, err) = kv.outcome(&["cluster", "remove", "n4"]);
    assert_eq!(code, 2, "destructive without --yes: {err}");
    let (code, _, err) = kv.outcome(&["cluster", "remove", "n4", "--yes"]);
    assert_eq!(code, 0, "{err}");
    for attempt in 0..2 {
        let how = fleet.ended(3).await;
        assert!(how.contains("exit status: 9") && how.contains("KV1708"), "{how}");
        if attempt == 0 {
            fleet.cluster.start(3).unwrap();
        }
    }
    assert_eq!(fleet.role("n4"), "");
    writer.goes_on().await;
    writer.finish(&fleet.client()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b28_a_node_that_lost_its_disk_does_not_vote_and_its_advice_works_word_by_word() {
    let mut fleet = Fleet::boot(3, 0).await;
    fleet.fill("k", 50, 100).await;
    let writer = Writer::start(fleet.client());
    fleet.cluster.kill(2);
    std::fs::remove_dir_all(fleet.cluster.data_dir(2)).unwrap();
    writer.goes_on().await;
    fleet.cluster.start(2).unwrap();
    let how = fleet.ended(2).await;
    assert!(how.contains("exit status: 9") && how.contains("KV1707"), "{how}");
    let advice =
        "kv cluster remove n3 --lose-unseen, kv cluster add n3=ADDR, then start it with join";
    assert!(how.contains(advice), "{how}");

    let kv = fleet.kv();
    let (code, _, err) = kv.outcome(&["cluster", "remove", "n3", "--lose-unseen", "--yes"]);
    assert_eq!(code, 0, "{err}");
    let at = format!("n3={}", fleet.cluster.peer_address(2));
    let (code, _, err) = kv.outcome(&["cluster", "add", &at]);
    assert_eq!(code, 0, "{err}");
    fleet.cluster.joins(2, &[0, 1]).unwrap();
    fleet.start(2).await;
    until("promotion", || fleet.role("n3") == "voter").await;
    writer.goes_on().await;
    writer.finish(&fleet.client()).await;
    fleet.compare(&[0, 1, 2]);
    // It counts: with it, one of the old nodes can go.
    fleet.cluster.kill(0);
    assert!(fleet.client().get_value("k-001", &client::CallOptions::default()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_on_request() {
    let fleet = Fleet::boot(3, 0).await;
    let leader = fleet.leader().await;
    for to in [(leader + 1) % 3, (leader + 2) % 3, leader] {
        let name = fleet.cluster.name(to).to_owned();
        let (code, out, err) = fleet.kv().outcome(&["cluster", "move-leader", &name]);
        assert_eq!((code, out.trim()), (0, name.as_str()), "{err}");
        assert_eq!(fleet.leader().await, to);
    }
    let (code, _, err) = fleet.kv().outcome(&["cluster", "move-leader", "n9"]);
    assert_eq!(code, 3, "{err}");
}

/// Clients that read and write, of which the lab judges what they saw.
struct Judged {
    workload: RegisterWorkload,
    recorder: Recorder,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Judged {
    fn start(fleet: &Fleet) -> Self {
        let workload =
            RegisterWorkload(Load { think: Duration::from_millis(5), ..Load::default() });
        let recorder = Recorder::new();
        let (stop, stopped) = watch::channel(false);
        let tasks = workload.start(&fleet.cluster, &recorder, &stopped).unwrap();
        Self { workload, recorder, stop, tasks }
    }

    async fn finish(mut self, fleet: &Fleet) {
        self.stop.send_replace(true);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
        self.workload.read_all(&fleet.cluster, &self.recorder, READY_MAX).await.unwrap();
        let history = self.recorder.take();
        let summary = RegisterSummary::of(&history);
        assert!(summary.ok >= 100, "{summary:?}");
        for checker in [&RegisterChecker::default() as &dyn Checker, &RevisionChecker] {
            let verdict = checker.check(&history);
            assert!(verdict.is_valid(), "{verdict:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b25_a_rolling_restart_is_not_noticed_but_for_time() {
    let mut fleet = Fleet::boot(3, 0).await;
    let judged = Judged::start(&fleet);
    let writer = Writer::start(fleet.client());
    for node in 0..3 {
        writer.goes_on().await;
        fleet.stop(node).await;
        writer.goes_on().await;
        fleet.start(node).await;
    }
    writer.goes_on().await;
    judged.finish(&fleet).await;
    writer.finish(&fleet.client()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b25_members_change_while_nodes_are_killed_and_paused() {
    let mut fleet = Fleet::boot(3, 1).await;
    let judged = Judged::start(&fleet);
    let writer = Writer::start(fleet.client());
    let at = format!("n4={}", fleet.cluster.peer_address(3));
    for round in 0..2 {
        let leader = fleet.leader().await;
        let other = (leader + 1) % 3;
        // The leader dies right after it took the change, a follower while the new node catches up.
        let kv = fleet.kv_at(leader);
        let (code, _, err) = kv.outcome(&["cluster", "add", &at]);
        assert_eq!(code, 0, "{err}");
        fleet.cluster.kill(leader);
        fleet.cluster.joins(3, &[0, 1, 2]).unwrap();
        fleet.cluster.start(3).unwrap();
        fleet.cluster.start(leader).unwrap();
        writer.goes_on().await;
        fleet.cluster.pause(other).unwrap();
        writer.goes_on().await;
        fleet.cluster.resume(other).unwrap();
        until("promotion", || fleet.role("n4") == "voter").await;
        fleet.ready(leader).await;
        fleet.cluster.kill(other);
        let (code, _, err) =
            fleet.kv().outcome(&["cluster", "remove", "n4", "--yes", "--timeout", "30s"]);
        assert_eq!(code, 0, "round {round}: {err}");
        let how = fleet.ended(3).await;
        assert!(how.contains("exit status: 9"), "{how}");
        std::fs::remove_dir_all(fleet.cluster.data_dir(3)).unwrap();
        fleet.start(other).await;
        writer.goes_on().await;
    }
    judged.finish(&fleet).await;
    writer.finish(&fleet.client()).await;
    fleet.compare(&[0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b19_kill_9_at_each_step_of_a_snapshot_leaves_a_node_that_boots() {
    let mut fleet = Fleet::boot(3, 0).await;
    fleet.cluster.kill(2);
    // While a follower was heard lately, the leader keeps the log for it.
    let status = || fleet.kv().outcome(&["cluster", "status"]).1;
    until("n3 is missed", || status().contains("unreachable")).await;
    // More than the leader keeps in memory for a follower that was not heard.
    fleet.fill("big", 40, 1_000_000).await;
    for node in ["n1", "n2"] {
        let (code, _, err) = fleet.kv().outcome(&["node", "compact", node]);
        assert_eq!(code, 0, "{err}");
    }
    let steps = ["fetching a snapshot", "the snapshot is here", "the snapshot is installed"];
    for step in steps {
        let log = fleet.cluster.log(2).to_owned();
        let seen = || std::fs::read_to_string(&log).unwrap_or_default().matches(step).count();
        let before = seen();
        fleet.cluster.start(2).unwrap();
        until(step, || seen() > before).await;
        fleet.cluster.kill(2);
    }
    fleet.start(2).await;
    fleet.compare(&[0, 1, 2]);
    // Whole enough to carry on from.
    fleet.cluster.kill(0);
    assert_eq!(fleet.kv_at(2).outcome(&["put", "after", "1", "--timeout", "30s"]).0, 0);
}
