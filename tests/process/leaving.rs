//! Members that are removed while there are eventual keyspaces: what they took goes on, or it is said that it does not.

use crate::fleet::{Fleet, until};

/// A cluster whose third node takes writes to an eventual keyspace, and has taken this one.
async fn with_a_write_at_the_third(key: &str) -> Fleet {
    let fleet = Fleet::boot(3, 0).await;
    fleet.kv().done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    let third = fleet.kv_at(2);
    until("n3 takes writes", || third.outcome(&["-k", "carts", "put", key, "1"]).0 == 0).await;
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_live_member_took_is_there_after_its_removal() {
    let mut fleet = with_a_write_at_the_third("k").await;
    // The other two are away while it takes more, and have to be told before it goes.
    for node in [0, 1] {
        fleet.cluster.pause(node).unwrap();
    }
    for number in 0..20 {
        fleet.kv_at(2).done(&["-k", "carts", "put", &format!("k{number}"), "1"]);
    }
    for node in [0, 1] {
        fleet.cluster.resume(node).unwrap();
    }
    fleet.members_ready().await;
    let kv = fleet.kv_at(0);
    let (code, out, err) = kv.outcome(&["cluster", "remove", "n3", "--yes", "--timeout", "30s"]);
    assert_eq!(code, 0, "{err}");
    assert!(!out.contains("still being carried out"), "{out}");
    let how = fleet.ended(2).await;
    assert!(how.contains("exit status: 9"), "{how}");
    for node in [0, 1] {
        let kv = fleet.kv_at(node);
        for number in 0..20 {
            let key = format!("k{number}");
            until("all are there", || kv.outcome(&["-k", "carts", "get", &key]).1 == "1").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_is_removed_only_by_who_says_that_its_writes_may_be_lost() {
    let mut fleet = with_a_write_at_the_third("a").await;
    let kv = fleet.kv_at(0);
    until("it is told", || kv.outcome(&["-k", "carts", "get", "a"]).1 == "1").await;
    fleet.cluster.kill(2);
    let status = || kv.outcome(&["cluster", "status"]).1;
    until("n3 is missed", || status().contains("unreachable")).await;
    let (code, _, err) = kv.outcome(&["cluster", "remove", "n3", "--yes"]);
    assert!(code == 4 && err.contains("KV1216") && err.contains("--lose-unseen"), "{code} {err}");
    let (code, out, err) = kv.outcome(&["cluster", "remove", "n3", "--lose-unseen", "--dry-run"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("n3 was heard") && out.contains("is lost"), "{out}");
    let args = ["cluster", "remove", "n3", "--yes", "--lose-unseen", "--timeout", "30s"];
    let (code, _, err) = kv.outcome(&args);
    assert_eq!(code, 0, "{err}");
    assert_eq!(kv.outcome(&["-k", "carts", "get", "a"]).1, "1");
}
