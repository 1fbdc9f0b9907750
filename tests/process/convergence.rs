//! What people see of how far eventual keyspaces agree, and nodes that stop with writes that nobody else has.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, until, until_async};

/// What a node that stops waits for another one to have what it took.
const REPLICATION_PATIENCE: Duration = Duration::from_secs(5);

/// What a node says of itself; null while it says nothing. The status of a cluster without a quorum is an exit code too.
fn convergence(fleet: &Fleet, node: usize) -> serde_json::Value {
    let (_, out, _) = fleet.kv_at(node).outcome(&["cluster", "status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
    let name = fleet.cluster.name(node);
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    let own = nodes.iter().find(|found| found["name"] == name);
    own.map(|own| own["convergence"].clone()).unwrap_or_default()
}

/// What a node says of another one.
fn of_peer(fleet: &Fleet, node: usize, peer: usize) -> serde_json::Value {
    let said = convergence(fleet, node);
    let name = fleet.cluster.name(peer);
    let peers = said["peers"].as_array().cloned().unwrap_or_default();
    peers.iter().find(|found| found["name"] == name).cloned().unwrap_or_default()
}

/// Three nodes with an eventual keyspace that all of them serve.
async fn carts() -> Fleet {
    let fleet = Fleet::boot(3, 0).await;
    fleet.kv().done(&["keyspace", "create", "carts", "--kind", "eventual"]);
    fleet.kv_at(0).done(&["-k", "carts", "put", "first", "1", "--ack", "all"]);
    until("all compared, and each write known to be elsewhere", || {
        let said = convergence(&fleet, 0);
        let compared = |peer| of_peer(&fleet, 0, peer)["compared"]["roots_agree"] == true;
        said["unreplicated_writes"] == 0 && compared(1) && compared(2)
    })
    .await;
    fleet
}

fn says(fleet: &Fleet, node: usize, words: &str) -> bool {
    std::fs::read_to_string(fleet.cluster.log(node)).unwrap().contains(words)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lacks_what_is_shown_while_it_does() {
    let mut fleet = carts().await;
    fleet.cluster.kill(2);
    for key in ["a", "b", "c"] {
        fleet.kv_at(0).done(&["-k", "carts", "put", key, "1"]);
    }
    fleet.kv_at(0).done(&["-k", "carts", "del", "a"]);
    until("a delete that waits for n3", || {
        let away = of_peer(&fleet, 0, 2);
        away["linked"] == false
            && away["blocked_certificates"] == 1
            && away["lag_ms"].as_u64().is_some_and(|lag| lag >= 1_000)
    })
    .await;
    until("n3 is found to be down", || of_peer(&fleet, 0, 2)["seems"] == "down").await;
    assert_eq!(of_peer(&fleet, 0, 1)["seems"], "up");
    until("nothing that n2 lacks", || {
        let said = convergence(&fleet, 0);
        said["unreplicated_writes"] == 0 && of_peer(&fleet, 0, 1)["lag_ms"] == 0
    })
    .await;
    let blocked = r#"kvstore_gossip_certificates_blocked{peer="n3"}"#;
    assert_eq!(fleet.metric(0, blocked).await, Some(1.0));
    let lag = r#"kvstore_gossip_convergence_lag_seconds{peer="n3"}"#;
    assert!(fleet.metric(0, lag).await.unwrap() >= 1.0);
    let brief = fleet.kv_at(0).done(&["cluster", "status", "-o", "table", "--color", "never"]);
    let full = fleet.kv_at(0).done(&["cluster", "status", "-v", "-o", "table", "--color", "never"]);
    for word in ["EVENTUAL", "UNREPLICATED", "OFFSET"] {
        assert!(full.contains(word) && !brief.contains(word), "{word}: {brief}\n{full}");
    }

    fleet.start(2).await;
    until("all the same", || {
        let said = convergence(&fleet, 0);
        said["certificates"] == 0
            && said["lag_ms"] == 0
            && of_peer(&fleet, 0, 2)["compared"]["roots_agree"] == true
            && of_peer(&fleet, 0, 2)["seems"] == "up"
    })
    .await;
    until_async("no lag in the metrics", || async {
        fleet.metric(0, blocked).await == Some(0.0) && fleet.metric(0, lag).await == Some(0.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_first_hands_on_what_it_took() {
    let mut fleet = carts().await;
    for number in 0..40 {
        fleet.kv_at(0).done(&["-k", "carts", "put", &format!("k{number}"), "v"]);
    }
    let begun = Instant::now();
    fleet.stop(0).await;
    assert!(begun.elapsed() < REPLICATION_PATIENCE, "{:?}", begun.elapsed());
    assert!(!says(&fleet, 0, "no other node is known to have"));
    // Whoever has it tells the other one.
    for number in 0..40 {
        let kv = fleet.kv_at(1 + number % 2);
        let key = format!("k{number}");
        until(&key, || kv.outcome(&["-k", "carts", "get", &key]).1 == "v").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_hears_says_how_many_writes_it_alone_has() {
    let mut fleet = carts().await;
    fleet.cluster.kill(1);
    fleet.cluster.kill(2);
    let mut taken = 0_u32;
    for key in ["a", "b", "c"] {
        let said = fleet.kv_at(0).done(&["-k", "carts", "put", key, "1", "-o", "json"]);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        // An actor numbers what it takes.
        let number = said["dot"].as_str().and_then(|dot| dot.rsplit(':').next());
        taken = number.and_then(|number| number.parse().ok()).unwrap();
    }
    let metric = "kvstore_gossip_unreplicated_acked_writes";
    until_async("three writes", || async { fleet.metric(0, metric).await == Some(3.0) }).await;
    let begun = Instant::now();
    let status = fleet.cluster.terminate(0, 3 * REPLICATION_PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() >= REPLICATION_PATIENCE, "{:?}", begun.elapsed());
    assert!(says(&fleet, 0, "no other node is known to have"));
    assert!(says(&fleet, 0, "writes=3") || says(&fleet, 0, "\"writes\":3"));

    // They are on its disk, and a second signal ends the wait. What the others have is not known at a start, so all that
    // it ever took counts.
    fleet.cluster.start(0).unwrap();
    let all = || async { fleet.metric(0, metric).await == Some(f64::from(taken)) };
    until_async("all writes", all).await;
    let second = Duration::from_secs(1);
    assert!(fleet.cluster.terminate(0, second).await.is_err(), "it did not wait");
    let status = fleet.cluster.terminate(0, second).await.unwrap();
    assert_eq!(status.code(), Some(1));
    fleet.cluster.start_all().unwrap();
    fleet.members_ready().await;
    for key in ["a", "b", "c"] {
        let kv = fleet.kv_at(2);
        until(key, || kv.outcome(&["-k", "carts", "get", key]).1 == "1").await;
    }
}
