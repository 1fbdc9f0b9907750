//! What a write's outcome is reported as, and which ids reach the nodes (catalogue ids B22, B66).

mod fake;

use std::time::Duration;

use client::{CallOptions, Client, ClientError, Config, Pages};
use fake::{Act, FakeCluster, dead_address, silent_address};
use proto::{Applied, Code, Failure, v1};
use tonic::Status;

fn within(timeout: u64) -> CallOptions {
    CallOptions { timeout: Some(Duration::from_millis(timeout)), ..Default::default() }
}

fn refusal(code: Code, applied: Applied) -> Failure {
    Failure::new(code, "write", "the test says so").applied(applied)
}

#[tokio::test]
async fn a_write_goes_on_to_the_next_endpoint_with_the_same_id() {
    let cluster = FakeCluster::start(2).await;
    cluster.nodes[0].always(Act::ServeThenHang);
    let client = cluster.client();
    let reply = client.put_value("a", "1", &within(3_000)).await.unwrap();
    assert_eq!(reply.revision, 2);
    assert!(reply.proof.unwrap().replayed, "the first attempt had executed it");
    let seen = cluster.seen();
    assert_eq!([&seen[0].node[..], &seen[1].node[..]], ["n1", "n2"]);
    assert_eq!(seen[0].id, seen[1].id);
    assert_eq!((seen[0].id.seq, seen[0].id.first_open, seen[0].id.born), (1, 1, 5));
    assert_eq!(cluster.shared.lock().unwrap().revision, 2);
    client.put_value("b", "1", &within(3_000)).await.unwrap();
    assert_eq!(cluster.seen()[2].id.born, 6, "the newest index that an answer named");
}

#[tokio::test]
async fn the_longest_timeout_there_is_is_taken_for_a_long_one() {
    let cluster = FakeCluster::start(1).await;
    let endless = CallOptions { timeout: Some(Duration::MAX), ..CallOptions::default() };
    cluster.client().put_value("a", "1", &endless).await.unwrap();
    let request = v1::RangeRequest { count_only: true, ..v1::RangeRequest::default() };
    let pages = Pages::new(&cluster.client(), request, None, endless);
    let (count, _) = pages.within(Duration::MAX).count().await.unwrap();
    assert_eq!(count, 1);
}

#[tokio::test]
async fn first_open_is_the_lowest_write_without_an_answer() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client();
    client.put_value("a", "1", &within(3_000)).await.unwrap();
    cluster.nodes[0].next([Act::Hang]);
    let hanging = {
        let client = client.clone();
        tokio::spawn(async move { client.put_value("b", "1", &within(60_000)).await })
    };
    while cluster.seen().len() < 2 {
        tokio::task::yield_now().await;
    }
    client.put_value("c", "1", &within(3_000)).await.unwrap();
    hanging.abort();
    assert!(hanging.await.unwrap_err().is_cancelled());
    client.put_value("d", "1", &within(3_000)).await.unwrap();
    let seqs: Vec<_> =
        cluster.seen().iter().map(|seen| (seen.id.seq, seen.id.first_open)).collect();
    assert_eq!(seqs, [(1, 1), (2, 2), (3, 2), (4, 4)]);
    assert_eq!(cluster.shared.lock().unwrap().hellos.len(), 1);
}

#[tokio::test]
async fn b66_refusals_are_not_repeated_for_ever_and_stay_certain() {
    let cluster = FakeCluster::start(2).await;
    // The last attempt ends long before the time is up: one that is cut off is truly unknown.
    let (wait, total) = (Duration::from_millis(700), 2_000);
    for node in &cluster.nodes {
        let refusal = refusal(Code::NoQuorum, Applied::No).retry_after(wait);
        node.always(Act::Refuse(refusal));
    }
    let error = cluster.client().put_value("a", "1", &within(total)).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::NoQuorum, Some(Applied::No)));
    assert_eq!(error.exit(), 5);
    assert!(cluster.seen().len() > 2, "it was tried again: {}", cluster.seen().len());
    assert!(cluster.seen().iter().all(|seen| seen.id == cluster.seen()[0].id));
}

#[tokio::test]
async fn one_lost_attempt_makes_the_outcome_unknown() {
    let cluster = FakeCluster::start(2).await;
    cluster.nodes[0].next([Act::Status(Status::unavailable("no detail"))]);
    for node in &cluster.nodes {
        node.always(Act::Refuse(refusal(Code::NoLeader, Applied::No)));
    }
    let error = cluster.client().put_value("a", "1", &within(400)).await.unwrap_err();
    assert!(matches!(error, ClientError::Lost(_)), "{error}");
    assert_eq!((error.code(), error.applied()), (Code::WriteTimedOut, Some(Applied::Unknown)));
    assert_eq!(error.exit(), 6);
}

#[tokio::test]
async fn b66_silence_ends_at_the_deadline_with_an_unknown_outcome() {
    let cluster = FakeCluster::start(1).await;
    cluster.nodes[0].always(Act::Hang);
    let error = cluster.client().put_value("a", "1", &within(300)).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::WriteTimedOut, Some(Applied::Unknown)));
    assert!(error.failure().why.contains("no answer within"), "{error}");
    assert_eq!(error.failure().subject, "write to \"a\"");
}

#[tokio::test]
async fn a_final_refusal_after_a_lost_attempt_is_unknown() {
    let cluster = FakeCluster::start(2).await;
    cluster.nodes[0].always(Act::ServeThenStatus(Status::unknown("x")));
    let forgotten = refusal(Code::OutcomeForgotten, Applied::No);
    cluster.nodes[1].always(Act::Refuse(forgotten));
    let error = cluster.client().put_value("a", "1", &within(2_000)).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::OutcomeForgotten, Some(Applied::Unknown)));
    assert_eq!(error.exit(), 6);
}

#[tokio::test]
async fn a_write_forgotten_at_its_first_attempt_is_sent_under_a_new_identity() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client();
    cluster.nodes[0].next([Act::Refuse(refusal(Code::OutcomeForgotten, Applied::Unknown))]);
    client.put_value("a", "1", &within(2_000)).await.unwrap();
    let seen = cluster.seen();
    assert_ne!(seen[0].id.client_id, seen[1].id.client_id);
    assert_eq!(seen[1].id.seq, 1);

    cluster.nodes[0].always(Act::Refuse(refusal(Code::OutcomeForgotten, Applied::Unknown)));
    let error = client.put_value("a", "2", &within(2_000)).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::OutcomeForgotten, Some(Applied::No)));
    assert_eq!(cluster.seen().len(), 4);
}

#[tokio::test]
async fn a_broken_connection_is_replaced_and_the_write_executes_once() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client();
    cluster.nodes[0].next([Act::ServeThenHang]);
    let write = {
        let client = client.clone();
        tokio::spawn(async move { client.put_value("a", "1", &within(5_000)).await })
    };
    while cluster.value("a").is_none() {
        tokio::task::yield_now().await;
    }
    cluster.nodes[0].drop_connections();
    let reply = write.await.unwrap().unwrap();
    assert_eq!(reply.revision, 2);
    let seen = cluster.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].id, seen[1].id);
}

#[tokio::test]
async fn reads_are_repeated_whatever_happened() {
    let cluster = FakeCluster::start(3).await;
    cluster.nodes[0].next([Act::Hang]);
    cluster.nodes[1].next([Act::Status(Status::internal("x"))]);
    let client = cluster.client();
    assert_eq!(client.get_value("a", &within(3_000)).await.unwrap(), None);
    for node in &cluster.nodes {
        node.always(Act::Hang);
    }
    let error = client.get_value("a", &within(300)).await.unwrap_err();
    assert_eq!((error.code(), error.applied(), error.exit()), (Code::ReadTimedOut, None, 5));
}

#[tokio::test]
async fn writes_go_to_the_leader_that_an_answer_named() {
    let cluster = FakeCluster::start(3).await;
    let mut config = cluster.config();
    config.endpoints = vec![cluster.nodes[2].address.clone()];
    let client = Client::connect(config.clone()).unwrap();
    let eventual = CallOptions { level: Some(v1::Level::Eventual), ..within(3_000) };
    client.get_value("a", &eventual).await.unwrap();
    client.put_value("a", "1", &within(3_000)).await.unwrap();
    client.get_value("a", &eventual).await.unwrap();
    assert_eq!(cluster.seen()[0].node, "n1");
    let reads = cluster.shared.lock().unwrap().reads.clone();
    let weak = v1::Level::Eventual as i32;
    assert_eq!(reads, [("n3".to_owned(), weak), ("n3".to_owned(), weak)]);

    config.discover = false;
    let pinned = Client::connect(config).unwrap();
    pinned.put_value("a", "2", &within(3_000)).await.unwrap();
    pinned.put_value("a", "3", &within(3_000)).await.unwrap();
    assert!(cluster.seen()[1..].iter().all(|seen| seen.node == "n3"));
}

#[tokio::test]
async fn a_refusal_that_names_the_leader_leads_there() {
    let cluster = FakeCluster::start(3).await;
    let leader = cluster.nodes[2].address.clone();
    let refused = refusal(Code::LeadershipLost, Applied::No).leader(Some(leader));
    cluster.nodes[0].always(Act::Refuse(refused));
    cluster.client().put_value("a", "1", &within(3_000)).await.unwrap();
    let nodes: Vec<_> = cluster.seen().into_iter().map(|seen| seen.node).collect();
    assert_eq!(nodes, ["n1", "n3"]);
}

#[tokio::test]
async fn a_leader_that_cannot_be_reached_is_not_tried_each_time() {
    let cluster = FakeCluster::start(2).await;
    let mut config = cluster.config();
    config.endpoints = vec![cluster.nodes[1].address.clone()];
    // All answers name a leader that accepts connections and says nothing.
    let (silent, task) = silent_address().await;
    cluster.set_client_address(0, &silent);
    let client = Client::connect(config).unwrap();
    let started = std::time::Instant::now();
    for _ in 0..10 {
        client.put_value("a", "1", &within(1_200)).await.unwrap();
    }
    // Ten vain attempts would take 400 ms each.
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    task.abort();
}

#[tokio::test]
async fn dead_endpoints_are_passed_over() {
    let cluster = FakeCluster::start(1).await;
    let mut config = cluster.config();
    config.endpoints.insert(0, dead_address().await);
    let client = Client::connect(config).unwrap();
    client.put_value("a", "1", &within(3_000)).await.unwrap();
    assert_eq!(client.get_value("a", &within(3_000)).await.unwrap().unwrap(), "1");
}

#[tokio::test]
async fn b66_nobody_there_is_certain_and_quick() {
    let pki = fake::Pki::new();
    let endpoints = vec![dead_address().await, dead_address().await];
    let client = Client::connect(Config::new(endpoints, pki.load("alice"))).unwrap();
    let error = client.put_value("a", "1", &within(60_000)).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::CannotConnect, Some(Applied::No)));
    assert_eq!(error.exit(), 5);
    assert!(matches!(&error, ClientError::Unreached { endpoints, .. } if endpoints.len() == 2));
    let error = client.get_value("a", &within(60_000)).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::CannotConnect, None));
}

#[tokio::test]
async fn a_frozen_process_was_sent_nothing() {
    let pki = fake::Pki::new();
    let (address, task) = silent_address().await;
    let client = Client::connect(Config::new(vec![address], pki.load("alice"))).unwrap();
    let error = client.put_value("a", "1", &within(300)).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::CannotConnect, Some(Applied::No)));
    task.abort();
}

#[tokio::test]
async fn sizes_are_checked_before_anything_is_sent() {
    let pki = fake::Pki::new();
    let endpoints = vec![dead_address().await];
    let client = Client::connect(Config::new(endpoints, pki.load("alice"))).unwrap();
    let options = within(300);
    let big = vec![0; proto::limits::VALUE_BYTES_MAX + 1];
    let cases = [
        (client.put_value("", "1", &options).await, Code::KeyEmpty),
        (client.put_value(vec![b'k'; 5_000], "1", &options).await, Code::KeyTooLarge),
        (client.put_value("a", big, &options).await, Code::ValueTooLarge),
    ];
    for (outcome, code) in cases {
        let error = outcome.unwrap_err();
        assert_eq!((error.code(), error.applied(), error.exit()), (code, Some(Applied::No), 8));
    }
    let put = |key: &'static str| v1::PutOp {
        key: key.into(),
        value: vec![0; proto::limits::VALUE_BYTES_MAX].into(),
        prev: false,
    };
    let op = |key| v1::Op { op: Some(v1::op::Op::Put(put(key))) };
    let txn = v1::TxnRequest { then_ops: vec![op("a"), op("b")], ..Default::default() };
    assert_eq!(client.txn(txn, &options).await.unwrap_err().code(), Code::RequestTooLarge);
}

#[tokio::test]
async fn calls_share_one_connection_unless_more_are_asked_for() {
    let cluster = FakeCluster::start(1).await;
    for (connections, expected) in [(1, 1), (4, 5)] {
        let client = Client::connect(Config { connections, ..cluster.config() }).unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let client = client.clone();
            calls.spawn(async move { client.get_value("a", &within(5_000)).await });
        }
        while let Some(outcome) = calls.join_next().await {
            outcome.unwrap().unwrap();
        }
        assert_eq!(cluster.nodes[0].connections(), expected);
    }
}

#[tokio::test]
async fn all_pages_are_read_at_the_revision_of_the_first() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client();
    for key in ["a", "b", "c", "d", "e", "f", "g"] {
        client.put_value(key, "1", &within(3_000)).await.unwrap();
    }
    for (limit, expected) in [(None, "abcdefg"), (Some(4), "abcd"), (Some(3), "abc"), (Some(0), "")]
    {
        let request = v1::RangeRequest::default();
        let mut pages = Pages::new(&client, request, limit, within(3_000));
        let mut keys = String::new();
        while let Some(page) = pages.next().await.unwrap() {
            for item in page.items {
                keys.push_str(std::str::from_utf8(&item.key).unwrap());
            }
        }
        assert_eq!(keys, expected, "{limit:?}");
    }
}

fn changes(cluster: &FakeCluster) -> Vec<String> {
    cluster.shared.lock().unwrap().operators.calls.clone()
}

async fn create(cluster: &FakeCluster, timeout: u64) -> Result<v1::KeyspaceReply, ClientError> {
    let kind = v1::keyspace::Kind::Linearizable;
    let settings = v1::keyspace::Settings::default();
    cluster.client().keyspaces().create("a", kind, settings, &within(timeout)).await
}

#[tokio::test]
async fn a_change_without_id_is_repeated_while_it_was_certainly_not_applied() {
    let cluster = FakeCluster::start(2).await;
    let refused = refusal(Code::NoLeader, Applied::No);
    cluster.nodes[0].next([Act::Refuse(refused.clone()), Act::Refuse(refused)]);
    cluster.nodes[1].next([Act::Refuse(refusal(Code::KeyspaceNotReady, Applied::No))]);
    let created = create(&cluster, 5_000).await.unwrap();
    assert_eq!(created.keyspace.unwrap().name, "a");
    assert_eq!(changes(&cluster), ["create a"]);
}

#[tokio::test]
async fn b22_a_change_without_id_is_never_sent_again_after_an_uncertain_attempt() {
    for uncertain in [
        Act::ServeThenStatus(Status::unavailable("x")),
        Act::Refuse(refusal(Code::ForwardBroken, Applied::Unknown)),
        Act::Refuse(Failure::new(Code::NoLeader, "creation", "it does not say whether")),
    ] {
        let cluster = FakeCluster::start(2).await;
        let served = matches!(uncertain, Act::ServeThenStatus(_));
        cluster.nodes[0].next([uncertain]);
        let error = create(&cluster, 5_000).await.unwrap_err();
        assert_eq!((error.applied(), error.exit()), (Some(Applied::Unknown), 6), "{error}");
        assert_eq!(changes(&cluster).len(), usize::from(served));
        // Now it is there, or not; that this one made it is not claimed.
        let again = create(&cluster, 5_000).await;
        match served {
            true => assert_eq!(again.unwrap_err().code(), Code::KeyspaceExists),
            false => assert!(again.is_ok()),
        }
    }
}

#[tokio::test]
async fn a_change_that_was_refused_certainly_is_not_unknown() {
    let cluster = FakeCluster::start(1).await;
    create(&cluster, 5_000).await.unwrap();
    let error = create(&cluster, 5_000).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::KeyspaceExists, Some(Applied::No)));
    assert_eq!(error.exit(), 4);
    let members = cluster.client().members();
    let error = members.remove("nope", false, &within(3_000)).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::MemberNotFound, Some(Applied::No)));
    let name = "x".repeat(200);
    let error = cluster.client().keyspaces().remove(&name, &within(3_000)).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::InvalidRequest, Some(Applied::No)));
}

#[tokio::test]
async fn a_change_is_waited_for_until_the_deadline_but_a_connection_is_not() {
    let pki_cluster = FakeCluster::start(1).await;
    let (silent, task) = silent_address().await;
    let mut config = pki_cluster.config();
    config.endpoints.insert(0, silent);
    let client = Client::connect(config).unwrap();
    // The silent address takes a third of the time; the change is then made elsewhere.
    let moved = client.members().move_leader("n1", &within(1_500)).await.unwrap();
    assert_eq!(moved.leader, "n1");
    task.abort();
}
