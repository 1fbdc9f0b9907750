//! What scripts rely on: outputs and exit codes of `kv`, and `kvstore dev -- CMD`.

use std::process::{Command, Stdio};

use crate::fleet::{Fleet, until_async};
use crate::programs::{self, Kv};

#[tokio::test(flavor = "multi_thread")]
async fn outputs_and_exit_codes_are_as_documented() {
    let cluster = programs::cluster().await;
    let kv = Kv::to(&cluster.endpoints(), cluster.pki(), "lab");
    let run = |args: &[&str]| kv.outcome(args);

    assert_eq!(run(&["put", "a", "1"]), (0, String::new(), String::new()));
    assert_eq!(run(&["get", "a"]), (0, "1".into(), String::new()));
    let (code, out, _) = run(&["get", "a", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["schema"], &json["value"]), (0, &1.into(), &"1".into()), "{out}");
    let rev = json["rev"].as_u64().unwrap().to_string();

    // Absent: 3; with --missing-ok: 0. Condition lost: 4. Empty key: 2.
    assert_eq!(run(&["get", "absent"]).0, 3);
    assert_eq!(run(&["get", "absent", "--missing-ok"]).0, 0);
    assert_eq!(run(&["put", "a", "2", "--if-absent"]).0, 4);
    assert_eq!(run(&["put", "a", "2", "--if-rev", &rev]).0, 0);
    assert_eq!(run(&["put", "a", "3", "--if-rev", &rev]).0, 4);
    assert_eq!(run(&["put", "", "x"]).0, 2);
    // Empty value is a value.
    assert_eq!(run(&["put", "empty", ""]).0, 0);
    assert_eq!(run(&["get", "empty"]).1, "");

    // Lists and deletes.
    assert_eq!(run(&["ls", "--keys-only"]).1, "a\nempty\n");
    assert_eq!(run(&["del", "empty"]).1.trim(), "1");
    let (code, out, _) = run(&["del", "empty"]);
    assert_eq!((code, out.trim()), (3, "0"));
    assert_eq!(run(&["del", "--prefix", "a"]).0, 2, "destructive without --yes");
    let (code, out, _) = run(&["del", "--prefix", "a", "--yes"]);
    assert_eq!((code, out.trim()), (0, "1"));
    let (code, out, _) = run(&["del", "--prefix", "a", "--yes"]);
    assert_eq!((code, out.trim()), (0, "0"));

    // Levels: met or refused.
    assert_eq!(run(&["put", "l", "1"]).0, 0);
    assert_eq!(run(&["get", "l", "--consistency", "quorum"]).1, "1");
    let (code, _, err) = run(&["get", "l", "--consistency", "session"]);
    assert_eq!(code, 8);
    assert!(err.contains("error[KV1007]"), "{err}");
    // Revisions that do not exist yet.
    assert_eq!(run(&["get", "l", "--rev", "999999"]).0, 8);

    // What is not built is unknown; help and explanations are there.
    assert_eq!(run(&["watch", "a"]).0, 2);
    let (code, out, _) = run(&["explain", "KV1201"]);
    assert!(code == 0 && out.contains("no quorum"), "{out}");
    let (code, out, _) = run(&["version", "--json"]);
    assert!(code == 0 && serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
    let (code, out, _) = run(&["cluster", "status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(code == 0 && status.to_string().contains("n3"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_take_one_branch() {
    let cluster = programs::cluster().await;
    let kv = Kv::to(&cluster.endpoints(), cluster.pki(), "lab");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("txn.json");
    let text = r#"{"if":[{"key":"t","absent":true}],
        "then":[{"put":"t","value":"1"}],"else":[{"get":"t"}]}"#;
    std::fs::write(&file, text).unwrap();
    let args = ["txn", "-f", file.to_str().unwrap()];
    for expected in [true, false] {
        let (code, out, err) = kv.outcome(&args);
        let reply: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &reply["succeeded"]), (0, &expected.into()), "{out}{err}");
    }
    assert_eq!(kv.outcome(&["txn", "--strict", "-f", args[2]]).0, 4);
}

#[test]
fn nobody_there_is_certainly_not_applied() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let kv = Kv::new();
    let at = pki.to_str().unwrap();
    assert_eq!(kv.outcome(&["cert", "init-ca", "--dir", at]).0, 0);
    assert_eq!(kv.outcome(&["cert", "issue", "client", "alice", "--dir", at]).0, 0);
    let kv = Kv::to(&["127.0.0.1:1".into()], &pki, "alice");
    let (code, _, err) = kv.outcome(&["put", "a", "1"]);
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("error[KV1801]") && err.contains("NOT applied"), "{err}");
    assert_eq!(Kv::new().outcome(&["get", "a"]).0, 2, "no cluster chosen");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_write_says_that_its_outcome_is_unknown() {
    let mut fleet = Fleet::boot(3, 0).await;
    let leader = fleet.leader().await;
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    for node in &others {
        fleet.cluster.pause(*node).unwrap();
    }
    let kv = fleet.kv_at(leader);
    let mut command = kv.command(&["put", "in-flight", "1", "--timeout", "30s"]);
    let put = command.stderr(Stdio::piped()).spawn().unwrap();
    let fleet_ref = &fleet;
    until_async("the write waits for a majority", || async move {
        fleet_ref.metric(leader, "kvstore_raft_proposals_pending").await == Some(1.0)
    })
    .await;
    let process = put.id().to_string();
    assert!(Command::new("kill").args(["-INT", &process]).status().unwrap().success());
    let output = put.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("UNKNOWN") && err.contains("kv get in-flight"), "{err}");
    for node in others {
        fleet.cluster.resume(node).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_fails_while_there_is_no_quorum() {
    let mut fleet = Fleet::boot(3, 0).await;
    let kv = fleet.kv_at(0);
    assert_eq!(kv.outcome(&["cluster", "status"]).0, 0);
    for node in [1, 2] {
        fleet.cluster.kill(node);
    }
    until_async("the loss is seen", || async {
        let (code, out, _) = kv.outcome(&["cluster", "status", "-o", "json"]);
        code == 5 && out.contains("\"verdict\":\"NO QUORUM\"")
    })
    .await;
    // It takes the node a moment longer to give up its leader; then all commands have one word for it.
    until_async("the leader is given up", || async {
        let (_, out, _) = kv.outcome(&["cluster", "status", "-o", "json"]);
        let status: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        status["nodes"][0]["state"] == "leaderless"
    })
    .await;
    let (code, out, err) = kv.outcome(&["node", "ping", "n1", "-o", "json"]);
    assert!(code == 0 && out.contains("\"state\":\"leaderless\""), "{out}{err}");
}

/// Runs a script against a throw-away cluster and returns exit code, stdout and stderr.
fn dev(script: &str) -> (i32, String, String) {
    programs::kvstore(&["dev", "--", "sh", "-c", script])
}

#[test]
fn dev_runs_a_command_against_a_throw_away_cluster() {
    let (code, out, err) = dev("kv put hello world && kv get hello");
    assert_eq!((code, out.as_str()), (0, "world"), "{err}");
    assert_eq!(dev("exit 7").0, 7);
    assert_eq!(dev("kill -TERM $$").0, 128 + 15);
    assert_eq!(dev("kv get absent").0, 3);
}

/// As `kvstore serve` would: the removed node ends, and the others go on.
#[test]
fn dev_stops_a_node_that_is_removed_and_says_so() {
    // Only a port on which nobody listens is certain to be that of a node that was stopped.
    let script = "kv put a 1 && kv cluster remove n3 --yes || exit 90
        tries=0
        until kv --endpoints \"${KV_ENDPOINTS##*,}\" --timeout 300ms get a 2>&1 | grep -q KV1801; do
            tries=$((tries + 1)); [ $tries -lt 300 ] || exit 91; sleep 0.1
        done
        kv put b 2 && kv get b && exit 7";
    let (code, out, err) = dev(script);
    assert_eq!(code, 7, "{out}{err}");
    assert!(out.ends_with('2'), "{out}");
    let note = "the cluster has removed n3 (KV1708): stopped; n1, n2 go on";
    assert!(err.contains(note), "{err}");
}
