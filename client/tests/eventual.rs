//! Eventual keyspaces: where their writes go, what is remembered of their keys, and how values are merged.

mod fake;

use std::time::Duration;

use client::{CallOptions, Client, Pages, Retry};
use fake::siblings::dot;
use fake::{Act, FakeCluster};
use proto::error::Partial;
use proto::v1::keyspace::Kind;
use proto::{Applied, Code, Failure, v1};
use tonic::Status;

const KEYSPACE: &str = "likes";

fn within(timeout: u64) -> CallOptions {
    CallOptions {
        timeout: Some(Duration::from_millis(timeout)),
        keyspace: Some(KEYSPACE.into()),
        ..Default::default()
    }
}

fn refusal(code: Code, applied: Applied) -> Act {
    Act::Refuse(Failure::new(code, "write", "the test says so").applied(applied))
}

async fn cluster(nodes: usize) -> FakeCluster {
    let cluster = FakeCluster::start(nodes).await;
    cluster.add_eventual(KEYSPACE);
    cluster
}

/// A client that knows the kind and has said Hello: scripts of nodes meet its writes only.
async fn ready(cluster: &FakeCluster) -> Client {
    let client = cluster.client();
    let mut kind = None;
    // It gives up early, and the machine may have other things to do.
    for _ in 0..10 {
        kind = kind.or(client.kind(&within(3_000)).await);
    }
    assert_eq!(kind, Some(Kind::Eventual));
    client.prepare_writes(&within(3_000)).await.unwrap();
    client
}

/// Writes values that do not know of each other.
async fn split(cluster: &FakeCluster, key: &'static str, values: &[&'static str]) {
    let client = ready(cluster).await;
    for value in values {
        let (key, value, beside) = (key.into(), (*value).into(), true);
        let request = v1::PutRequest { key, value, beside, ..Default::default() };
        client.put(request, &within(3_000)).await.unwrap();
    }
}

fn nodes(cluster: &FakeCluster) -> Vec<String> {
    cluster.eventual_writes().into_iter().map(|write| write.node).collect()
}

#[tokio::test]
async fn a_write_is_repeated_at_the_node_that_may_have_taken_it() {
    let cluster = cluster(3).await;
    let client = ready(&cluster).await;
    cluster.nodes[0].next([Act::ServeThenStatus(Status::unknown("lost"))]);
    let reply = client.put_value("a", "1", &within(5_000)).await.unwrap();
    assert!(reply.proof.unwrap().replayed);
    assert_eq!(nodes(&cluster), ["n1", "n1"]);
    let writes = cluster.eventual_writes();
    assert_eq!(writes[0].id, writes[1].id);
    assert_eq!(cluster.values(KEYSPACE, "a"), ["1"]);
}

#[tokio::test]
async fn a_node_that_stays_away_leaves_the_outcome_unknown() {
    let cluster = cluster(3).await;
    let client = ready(&cluster).await;
    cluster.nodes[0].next([Act::ServeThenHang]);
    let write = {
        let client = client.clone();
        tokio::spawn(async move { client.put_value("a", "1", &within(2_000)).await })
    };
    while cluster.eventual_writes().is_empty() {
        tokio::task::yield_now().await;
    }
    cluster.nodes[0].stop();
    let error = write.await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::WriteTimedOut, Some(Applied::Unknown)));
    assert_eq!(error.exit(), 6);
    assert_eq!(nodes(&cluster), ["n1"], "no other node can tell the copy from a new write");
}

#[tokio::test]
async fn what_was_certainly_not_applied_goes_to_another_node_at_once() {
    for code in [Code::ReplicasMissing, Code::Recovering, Code::NotReady] {
        let cluster = cluster(2).await;
        let client = ready(&cluster).await;
        cluster.nodes[0].always(refusal(code, Applied::No));
        client.put_value("a", "1", &within(3_000)).await.unwrap();
        assert_eq!(nodes(&cluster), ["n2"], "{code}");
    }
    let cluster = cluster(2).await;
    let client = ready(&cluster).await;
    // The last attempt ends long before the time is up: one that is cut off is truly unknown.
    let wait = Duration::from_millis(2_100);
    for node in &cluster.nodes {
        let failure = Failure::new(Code::ReplicasMissing, "write", "the test says so");
        node.always(Act::Refuse(failure.applied(Applied::No).retry_after(wait)));
    }
    let options = CallOptions { ack: Some(v1::Ack::All), ..within(6_000) };
    let error = client.put_value("a", "1", &options).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::ReplicasMissing, Some(Applied::No)));
    assert_eq!(error.exit(), 5);
}

#[tokio::test]
async fn at_least_once_sends_another_write_that_supersedes_nothing() {
    let cluster = cluster(2).await;
    let client = ready(&cluster).await;
    client.put_value("a", "0", &within(3_000)).await.unwrap();
    cluster.nodes[0].next([Act::ServeThenStatus(Status::unknown("lost"))]);
    let any = CallOptions { retry: Retry::AtLeastOnce, ..within(5_000) };
    client.put_value("a", "1", &any).await.unwrap();
    assert_eq!(nodes(&cluster), ["n1", "n1", "n2"]);
    let writes = cluster.eventual_writes();
    assert_ne!(writes[1].id.seq, writes[2].id.seq);
    assert_eq!((writes[1].covers(), writes[1].beside), (1, false));
    assert_eq!((writes[2].covers(), writes[2].beside), (0, true));
    assert_eq!(cluster.values(KEYSPACE, "a"), ["1", "1"], "it may add a value, it replaces none");

    // The node says that another directory may have taken it.
    cluster.nodes[1].next([refusal(Code::WriteElsewhere, Applied::Unknown)]);
    client.put_value("b", "1", &any).await.unwrap();
    let exact = within(3_000);
    for node in &cluster.nodes {
        node.next([refusal(Code::WriteElsewhere, Applied::Unknown)]);
    }
    let error = client.put_value("b", "2", &exact).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), (Code::WriteElsewhere, 6));
}

#[tokio::test]
async fn at_least_once_a_delete_ends_what_was_read_and_no_more() {
    let cluster = cluster(2).await;
    let client = ready(&cluster).await;
    let any = CallOptions { retry: Retry::AtLeastOnce, ..within(5_000) };
    client.put_value("a", "0", &any).await.unwrap();
    let lost = || [Act::Status(Status::unknown("lost"))];
    let delete = || v1::DeleteRequest { key: "a".into(), ..Default::default() };
    cluster.nodes[0].next(lost());
    let reply = client.delete(delete(), &any).await.unwrap();
    assert_eq!((reply.deleted, nodes(&cluster)), (1, vec!["n1".to_owned(), "n2".to_owned()]));
    let last = cluster.eventual_writes().pop().unwrap();
    assert_eq!((last.covers(), last.beside), (1, false));

    // Without a token it would end what was written since.
    let blind = CallOptions { remember: Some(false), ..any };
    cluster.nodes[1].next(lost());
    client.delete(delete(), &blind).await.unwrap();
    assert_eq!(nodes(&cluster)[2..], ["n2"]);
}

#[tokio::test]
async fn a_keyspace_of_unknown_kind_is_written_as_if_it_were_eventual() {
    let cluster = cluster(2).await;
    let client = cluster.client();
    client.prepare_writes(&within(3_000)).await.unwrap();
    cluster.shared.lock().unwrap().eventual.mute = true;
    assert_eq!(client.kind(&within(400)).await, None);
    // The first answer to the write is lost.
    cluster.nodes[0].next([Act::ServeThenStatus(Status::unknown("lost"))]);
    cluster.nodes[1].next([Act::ServeThenStatus(Status::unknown("lost"))]);
    let reply = client.put_value("a", "1", &within(20_000)).await.unwrap();
    assert!(reply.written.is_some());
    let nodes = nodes(&cluster);
    assert_eq!(nodes.len(), 2);
    assert!(nodes.iter().all(|node| *node == nodes[0]), "{nodes:?}");
    assert_eq!(cluster.values(KEYSPACE, "a"), ["1"]);
    // The answer said it.
    assert_eq!(client.kind(&within(400)).await, Some(Kind::Eventual));
}

#[tokio::test]
async fn without_a_leader_a_read_says_the_kind() {
    let cluster = cluster(1).await;
    let client = cluster.client();
    client.prepare_writes(&within(3_000)).await.unwrap();
    cluster.nodes[0].next([refusal(Code::KeyspaceExists, Applied::No)]);
    assert_eq!(client.kind(&within(20_000)).await, Some(Kind::Eventual));
    let other = cluster.client();
    cluster.nodes[0].next([refusal(Code::KeyspaceExists, Applied::No)]);
    let options = CallOptions { keyspace: Some("orders".into()), ..within(20_000) };
    assert_eq!(other.kind(&options).await, Some(Kind::Linearizable));
}

#[tokio::test]
async fn the_context_of_the_last_read_or_write_of_a_key_is_sent_along() {
    let cluster = cluster(1).await;
    let (one, other) = (ready(&cluster).await, ready(&cluster).await);
    let options = within(3_000);
    one.put_value("a", "1", &options).await.unwrap();
    let (key, value, beside) = ("a".into(), "2".into(), true);
    let request = v1::PutRequest { key, value, beside, ..Default::default() };
    other.put(request, &options).await.unwrap();
    assert_eq!(cluster.values(KEYSPACE, "a"), ["2", "1"]);
    other.put_value("a", "3", &options).await.unwrap();
    assert_eq!(cluster.values(KEYSPACE, "a"), ["3", "1"], "a client supersedes what it wrote");

    let read = |key: &'static str| v1::GetRequest { key: key.into(), ..Default::default() };
    let reply = one.get(read("a"), &options).await.unwrap();
    assert_eq!((reply.siblings.len(), reply.item), (2, None));
    let error = one.get_value("a", &options).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), (Code::SeveralValues, 4));
    one.put_value("a", "4", &options).await.unwrap();
    assert_eq!(cluster.values(KEYSPACE, "a"), ["4"]);
    assert_eq!(one.get_value("a", &options).await.unwrap().as_deref(), Some(&b"4"[..]));

    // It is of one key, and can be switched off.
    one.put_value("b", "1", &options).await.unwrap();
    let blind = CallOptions { remember: Some(false), ..options.clone() };
    one.put_value("a", "5", &blind).await.unwrap();
    assert_eq!(cluster.values(KEYSPACE, "a"), ["5"]);
    let covers: Vec<usize> = cluster.eventual_writes().iter().map(|seen| seen.covers()).collect();
    assert_eq!(covers, [0, 0, 1, 3, 0, 0]);
}

#[tokio::test]
async fn a_token_that_was_named_stands_above_the_remembered_one() {
    let cluster = cluster(1).await;
    let client = ready(&cluster).await;
    let options = within(3_000);
    let first = client.put_value("a", "1", &options).await.unwrap().written.unwrap();
    client.put_value("a", "2", &options).await.unwrap();
    let causal = first.context;
    let request =
        v1::PutRequest { key: "a".into(), value: "3".into(), causal, ..Default::default() };
    client.put(request, &options).await.unwrap();
    assert_eq!(cluster.values(KEYSPACE, "a"), ["3", "2"]);
    let request = v1::DeleteRequest { key: "a".into(), ..Default::default() };
    let reply = client.delete(request, &options).await.unwrap();
    assert_eq!(reply.deleted, 1);
    assert_eq!(
        cluster.values(KEYSPACE, "a"),
        ["2"],
        "it was not covered by the token named before"
    );
}

#[tokio::test]
async fn a_token_that_is_no_good_is_forgotten() {
    let cluster = cluster(1).await;
    let client = ready(&cluster).await;
    let options = within(3_000);
    client.put_value("a", "1", &options).await.unwrap();
    cluster.nodes[0].next([refusal(Code::TokenExpired, Applied::No)]);
    let error = client.put_value("a", "2", &options).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::TokenExpired, Some(Applied::No)));
    client.put_value("a", "3", &options).await.unwrap();
    assert_eq!(cluster.eventual_writes().last().unwrap().covers(), 0);

    let long = vec![0; proto::limits::TOKEN_BYTES_MAX + 1].into();
    let request = v1::PutRequest { key: "a".into(), causal: long, ..Default::default() };
    let error = client.put(request, &options).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), (Code::TokenInvalid, 8));
    let ttl_ms = proto::limits::TTL_MS_MAX + 1;
    let request = v1::PutRequest { key: "a".into(), ttl_ms, ..Default::default() };
    assert_eq!(client.put(request, &options).await.unwrap_err().exit(), 8);
    assert_eq!(cluster.eventual_writes().len(), 2, "these were not even sent");
}

#[tokio::test]
async fn a_write_on_too_few_replicas_says_what_it_came_to() {
    let cluster = cluster(2).await;
    let client = ready(&cluster).await;
    let context = dot(1).to_string().into_bytes();
    let partial = Partial { durable_on: 1, wanted: 3, dot: dot(1), context: context.into() };
    let failure = Failure::new(Code::AckMissed, "write", "n2 and n3 are silent");
    let failure = failure.applied(Applied::Yes).partial(partial.clone());
    cluster.nodes[0].next([Act::Refuse(failure)]);
    let options = CallOptions { ack: Some(v1::Ack::All), ..within(3_000) };
    let error = client.put_value("a", "1", &options).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::AckMissed, Some(Applied::Yes)));
    assert_eq!(error.exit(), 10);
    assert_eq!(error.failure().partial.as_deref(), Some(&partial));
    client.put_value("a", "2", &options).await.unwrap();
    let seen = cluster.eventual_writes();
    assert_eq!((seen[0].covers(), seen[0].ack), (1, v1::Ack::All));
}

#[tokio::test]
async fn values_are_merged_over_exactly_what_was_read() {
    let cluster = cluster(1).await;
    let options = within(3_000);
    split(&cluster, "set", &["x", "y", "z"]).await;
    cluster.shared.lock().unwrap().eventual.page = 2;
    let client = ready(&cluster).await;
    let union = |found: &[v1::Sibling]| -> Option<bytes::Bytes> {
        let mut values: Vec<&[u8]> = found.iter().map(|sibling| &sibling.value[..]).collect();
        values.sort_unstable();
        (values.len() > 1).then(|| values.concat().into())
    };
    let reply = client.resolve("set", union, &options).await.unwrap();
    assert!(reply.unwrap().written.is_some());
    assert_eq!(cluster.values(KEYSPACE, "set"), ["xyz"]);
    assert_eq!(client.resolve("set", union, &options).await.unwrap(), None);

    // Without a token nothing is merged: it would supersede what was not read.
    cluster.shared.lock().unwrap().eventual.no_tokens = true;
    let error = client.resolve("set", |_| Some("q".into()), &options).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::NotReady, Some(Applied::No)));
    assert_eq!(cluster.values(KEYSPACE, "set"), ["xyz"]);
}

#[tokio::test]
async fn pages_of_different_nodes_have_no_common_token() {
    let cluster = cluster(1).await;
    let options = within(3_000);
    split(&cluster, "a", &["x", "y", "z"]).await;
    let client = ready(&cluster).await;
    {
        let eventual = &mut cluster.shared.lock().unwrap().eventual;
        (eventual.page, eventual.pages_wander) = (2, true);
    }
    let request = v1::GetRequest { key: "a".into(), ..Default::default() };
    let found = client.siblings(request.clone(), &options).await.unwrap();
    assert_eq!((found.values.len(), found.context.is_empty()), (3, true));
    // A first page alone is not remembered either.
    assert_eq!(client.get(request.clone(), &options).await.unwrap().more, 1);
    client.put_value("a", "4", &options).await.unwrap();
    assert_eq!(cluster.eventual_writes().last().unwrap().covers(), 0);

    split(&cluster, "a", &["x", "y"]).await;
    cluster.shared.lock().unwrap().eventual.pages_wander = false;
    let found = client.siblings(request, &options).await.unwrap();
    assert_eq!((found.values.len(), found.context.is_empty()), (3, false));
    client.put_value("a", "5", &options).await.unwrap();
    assert!(cluster.eventual_writes().last().unwrap().covers() >= 3);
    assert_eq!(cluster.values(KEYSPACE, "a"), ["5"]);
}

/// The context of the first page covers what its majority had, and another one does not show all of it.
#[tokio::test]
async fn pages_of_different_majorities_have_no_common_token() {
    let cluster = cluster(1).await;
    let options = within(3_000);
    split(&cluster, "a", &["x", "y", "z"]).await;
    let client = ready(&cluster).await;
    {
        let eventual = &mut cluster.shared.lock().unwrap().eventual;
        (eventual.page, eventual.majorities_wander) = (2, true);
    }
    let request = v1::GetRequest { key: "a".into(), ..Default::default() };
    let found = client.siblings(request, &options).await.unwrap();
    assert_eq!((found.values.len(), found.context.is_empty()), (3, true));
    client.put_value("a", "4", &options).await.unwrap();
    assert_eq!(cluster.eventual_writes().last().unwrap().covers(), 0);
}

#[tokio::test]
async fn reads_name_the_level_that_the_kind_offers_and_stay_where_they_are_answered() {
    let cluster = cluster(3).await;
    let client = cluster.client();
    cluster.shared.lock().unwrap().eventual.asks_for_level = true;
    let request = v1::GetRequest { key: "a".into(), ..Default::default() };
    for _ in 0..3 {
        client.get(request.clone(), &within(3_000)).await.unwrap();
    }
    let strong = CallOptions { level: Some(v1::Level::Linearizable), ..within(3_000) };
    let error = client.get(request.clone(), &strong).await.unwrap_err();
    assert_eq!((error.code(), error.exit()), (Code::LevelNotOffered, 8));
    let reads = cluster.shared.lock().unwrap().eventual.reads.clone();
    let levels: Vec<v1::Level> = reads.iter().map(|(_, level)| *level).collect();
    let eventual = v1::Level::Eventual;
    let strong = v1::Level::Linearizable;
    assert_eq!(levels, [v1::Level::Unspecified, eventual, eventual, eventual, strong]);

    // A replica that knows too little is passed over.
    let refuse = Failure::new(Code::Recovering, "", "it lost its data");
    cluster.nodes[0].always(Act::Refuse(refuse));
    client.get(request, &within(3_000)).await.unwrap();
    let reads = cluster.shared.lock().unwrap().eventual.reads.clone();
    assert_eq!(reads.last().unwrap().0, "n2");
}

#[tokio::test]
async fn pages_of_an_eventual_keyspace_hold_entries() {
    let cluster = cluster(1).await;
    let client = ready(&cluster).await;
    for key in ["a", "b", "c"] {
        client.put_value(key, key, &within(3_000)).await.unwrap();
    }
    let all = |limit| Pages::new(&client, v1::RangeRequest::default(), limit, within(3_000));
    let mut pages = all(None);
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await.unwrap() {
        assert!(page.items.is_empty());
        keys.extend(page.entries.into_iter().map(|entry| entry.key));
    }
    assert_eq!(keys, ["a", "b", "c"]);
    let first = all(Some(1)).next().await.unwrap().unwrap();
    assert_eq!(first.entries.len(), 1);
}
