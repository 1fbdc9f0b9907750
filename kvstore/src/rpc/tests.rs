//! The client port without TLS, spoken to in plain HTTP/2.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use hyper::body::Body as _;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use proto::limits::{ADMISSION_BYTES_MAX, REQUEST_BYTES_MAX, VALUE_BYTES_MAX};
use proto::v1::{self, Level};
use proto::{Applied, Code, Failure, NodeId};
use storage::disk::SimDisk;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::front::{Front, Identity, Running, Stage};
use crate::metrics::{Metrics, Snapshot};
use crate::shell::testing::{CLUSTER, PATIENCE, SingleNode};

/// A connection to a client port.
struct Port {
    front: Arc<Front>,
    sender: SendRequest<Body>,
}

/// What came back.
struct Response {
    /// Headers and trailers together.
    headers: HeaderMap,
    body: Bytes,
}

impl Response {
    fn failure(&self) -> Option<Failure> {
        Failure::from_status(&Status::from_header_map(&self.headers).unwrap())
    }

    /// Code and certainty of an error of ours.
    fn refused(&self) -> (Code, Option<Applied>) {
        let failure = self.failure().expect("an error of the catalogue");
        (failure.code, failure.applied)
    }

    fn message<M: Message + Default>(&self) -> M {
        assert_eq!(self.headers["grpc-status"], "0", "{:?}", self.failure());
        M::decode(self.body.slice(5..)).unwrap()
    }
}

fn front() -> Arc<Front> {
    let identity = Identity {
        cluster_name: "test".into(),
        name: "n1".into(),
        id: NodeId(1),
        client_address: "127.0.0.1:7610".into(),
        peer_address: "127.0.0.1:7611".into(),
        certificate_expiry: 1_900_000_000,
    };
    Arc::new(Front::new(identity, Arc::new(Metrics::default()), Vec::new))
}

impl Port {
    /// A port whose node is still forming.
    async fn forming() -> Self {
        let front = front();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let connections = tokio_stream::once(Ok::<_, io::Error>(far));
        let connections = connections.chain(tokio_stream::pending());
        let serving = Arc::clone(&front);
        tokio::spawn(async move {
            super::serve(serving, connections, std::future::pending()).await.unwrap();
        });
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near))
                .await
                .unwrap();
        tokio::spawn(connection);
        Self { front, sender }
    }

    /// A port whose node leads a cluster of one.
    async fn serving() -> (Self, SingleNode) {
        let port = Self::forming().await;
        let node = SingleNode::start(&SimDisk::new());
        let handle = node.ready().await;
        let running = Running { handle, cluster: CLUSTER, commit_at_start: 0 };
        port.front.set_stage(Stage::Running(running));
        (port, node)
    }

    async fn call(&mut self, path: &str, message: &impl Message) -> Response {
        self.send(path, frame(&message.encode_to_vec()), &[]).await
    }

    async fn send(
        &mut self,
        path: &str,
        body: Bytes,
        headers: &[(&'static str, &'static str)],
    ) -> Response {
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        let answered = tokio::time::timeout(PATIENCE, self.sender.send_request(request));
        let (parts, mut incoming) = answered.await.unwrap().unwrap().into_parts();
        let (mut headers, mut body) = (parts.headers, BytesMut::new());
        loop {
            let frame = std::future::poll_fn(|context| {
                std::pin::Pin::new(&mut incoming).poll_frame(context)
            });
            match frame.await {
                Some(frame) => match frame.unwrap().into_data() {
                    Ok(data) => body.extend_from_slice(&data),
                    Err(frame) => headers.extend(frame.into_trailers().unwrap()),
                },
                None => return Response { headers, body: body.freeze() },
            }
        }
    }

    /// The health of a service, once it is as expected.
    async fn wait_for_health(&mut self, service: &str, expected: ServingStatus) {
        let request = HealthCheckRequest { service: service.to_owned() };
        let as_expected = async {
            loop {
                let response = self.call("/grpc.health.v1.Health/Check", &request).await;
                if response.message::<HealthCheckResponse>().status() == expected {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, as_expected).await.unwrap();
    }
}

/// A message as gRPC frames it.
fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.extend_from_slice(message);
    framed.freeze()
}

fn put(key: &'static str, value: Bytes) -> v1::PutRequest {
    v1::PutRequest {
        keyspace: "default".into(),
        key: Bytes::from_static(key.as_bytes()),
        value,
        ..v1::PutRequest::default()
    }
}

fn get(key: &'static str, level: Level) -> v1::GetRequest {
    v1::GetRequest {
        keyspace: "default".into(),
        key: Bytes::from_static(key.as_bytes()),
        level: level.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_the_transport_refuses_was_certainly_not_applied() {
    let mut port = Port::forming().await;
    let no = Some(Applied::No);
    let malformed = port.send("/kv.v1.Kv/Put", frame(b"\xff\xff\xff\xff"), &[]).await;
    assert_eq!(malformed.refused(), (Code::InvalidRequest, no));
    let nothing = port.send("/kv.v1.Kv/Put", Bytes::new(), &[]).await;
    assert_eq!(nothing.refused(), (Code::InvalidRequest, no));
    let cut = port.send("/kv.v1.Kv/Put", frame(b"abcdef").slice(..8), &[]).await;
    assert_eq!(cut.refused(), (Code::InvalidRequest, no));
    let flagged = Bytes::from_static(b"\x01\0\0\0\0");
    let flagged = port.send("/kv.v1.Kv/Put", flagged, &[]).await;
    assert_eq!(flagged.refused(), (Code::InvalidRequest, no));
    let large = put("a", vec![0; REQUEST_BYTES_MAX].into());
    assert_eq!(port.call("/kv.v1.Kv/Put", &large).await.refused(), (Code::RequestTooLarge, no));
    for path in ["/kv.v1.Kv/Nonsense", "/no.Such/Service", "/"] {
        let unknown = port.call(path, &v1::HelloRequest {}).await;
        assert_eq!(unknown.refused(), (Code::Unimplemented, no), "{path}");
    }
    let packed = frame(&put("a", Bytes::new()).encode_to_vec());
    let packed = port.send("/kv.v1.Kv/Put", packed, &[("grpc-encoding", "gzip")]).await;
    assert_eq!(packed.refused(), (Code::Unimplemented, no));
}

#[tokio::test]
async fn a_node_that_forms_is_not_ready_and_says_so() {
    let mut port = Port::forming().await;
    let write = port.call("/kv.v1.Kv/Put", &put("a", Bytes::new())).await;
    assert_eq!(write.refused(), (Code::NotReady, Some(Applied::No)));
    let failure = write.failure().unwrap();
    assert_eq!(failure.subject, "write to \"a\"");
    assert!(failure.why.contains("form"), "{failure}");
    for (path, request) in [
        ("/kv.v1.Kv/Get", get("a", Level::Eventual).encode_to_vec()),
        ("/kv.v1.Kv/Hello", Vec::new()),
        ("/kv.v1.Cluster/Status", Vec::new()),
    ] {
        let read = port.send(path, frame(&request), &[]).await;
        assert_eq!(read.refused(), (Code::NotReady, None), "{path}");
    }
    for service in ["", "kv.linearizable", "kv.local"] {
        port.wait_for_health(service, ServingStatus::NotServing).await;
    }
}

#[tokio::test]
async fn replies_carry_what_they_prove() {
    let (mut port, node) = Port::serving().await;
    let reply: v1::PutReply =
        port.call("/kv.v1.Kv/Put", &put("a", Bytes::from_static(b"1"))).await.message();
    let proof = reply.proof.unwrap();
    assert_eq!((reply.succeeded, reply.revision), (true, 2));
    assert_eq!((proof.level(), proof.node.as_str()), (Level::Linearizable, "n1"));
    assert_eq!((proof.revision, proof.acknowledged_by), (2, vec![1]));

    let reply: v1::GetReply =
        port.call("/kv.v1.Kv/Get", &get("a", Level::Eventual)).await.message();
    assert_eq!(reply.proof.unwrap().level(), Level::Eventual);
    let item = reply.item.unwrap();
    assert_eq!((&item.value[..], item.mod_rev, item.version), (&b"1"[..], 2, 1));

    let hello: v1::HelloReply = port.call("/kv.v1.Kv/Hello", &v1::HelloRequest {}).await.message();
    assert_eq!((hello.cluster_name.as_str(), hello.leader), ("test", 1));
    assert_eq!(&hello.cluster_id[..], CLUSTER.0);
    assert!(hello.born > 0, "the write's index at least");
    assert_eq!(hello.members.len(), 1);

    let status: v1::StatusReply =
        port.call("/kv.v1.Cluster/Status", &v1::StatusRequest {}).await.message();
    assert_eq!((status.revision, status.voters, status.reachable), (2, 1, 1));
    assert_eq!(status.nodes[0].role(), v1::Role::Leader);
    assert_eq!(status.nodes[0].state, "serving");

    for service in ["", "kv.linearizable", "kv.local"] {
        port.wait_for_health(service, ServingStatus::Serving).await;
    }
    node.stop().await;
    port.front.set_stage(Stage::Stopping);
    port.wait_for_health("kv.local", ServingStatus::NotServing).await;
}

#[tokio::test]
async fn status_and_ping_have_one_word_for_a_state() {
    async fn ping(port: &mut Port) -> String {
        let ping = v1::PingRequest::default();
        port.call("/kv.v1.Node/Ping", &ping).await.message::<v1::PingReply>().state
    }
    let mut port = Port::forming().await;
    assert_eq!(ping(&mut port).await, "starting");
    port.front.set_stage(Stage::Repairing("its log".into()));
    assert_eq!(ping(&mut port).await, "repairing");
    let (mut port, node) = Port::serving().await;
    let status: v1::StatusReply =
        port.call("/kv.v1.Cluster/Status", &v1::StatusRequest {}).await.message();
    assert_eq!(status.nodes[0].state, ping(&mut port).await);
    assert!(port.front.checks().linearizable());
    node.stop().await;
    port.front.set_stage(Stage::Stopping);
    assert_eq!(ping(&mut port).await, "stopping");
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let (mut port, node) = Port::serving().await;
    let no = Some(Applied::No);
    let bounded = port.call("/kv.v1.Kv/Get", &get("a", Level::Bounded)).await;
    assert_eq!(bounded.refused(), (Code::LevelNotOffered, None));
    let elsewhere = v1::PutRequest { keyspace: "nowhere".into(), ..put("a", Bytes::new()) };
    let elsewhere = port.call("/kv.v1.Kv/Put", &elsewhere).await;
    assert_eq!(elsewhere.refused(), (Code::KeyspaceNotFound, no));
    let value = port.call("/kv.v1.Kv/Put", &put("a", vec![0; VALUE_BYTES_MAX + 1].into())).await;
    assert_eq!(value.refused(), (Code::ValueTooLarge, no));
    let metrics = port.front.metrics().render(&Snapshot::default());
    let refusal = "kvstore_consistency_refusals_total{level=\"bounded\",reason=\"KV1007\"} 1";
    assert!(metrics.contains(refusal), "{metrics}");
    node.stop().await;
}

#[tokio::test]
async fn a_full_node_refuses_at_once_and_stays_healthy() {
    let (mut port, node) = Port::serving().await;
    let handle = port.front.handle().unwrap();
    let all = handle.admission().admit(ADMISSION_BYTES_MAX).unwrap();
    let refused = port.call("/kv.v1.Kv/Put", &put("a", Bytes::new())).await;
    assert_eq!(refused.refused(), (Code::QueueFull, Some(Applied::No)));
    assert!(refused.failure().unwrap().retry_after > Some(Duration::ZERO));
    port.wait_for_health("kv.linearizable", ServingStatus::Serving).await;
    drop(all);
    let accepted = port.call("/kv.v1.Kv/Put", &put("a", Bytes::new())).await;
    assert!(accepted.message::<v1::PutReply>().succeeded);
    node.stop().await;
}

#[tokio::test]
async fn eventual_keyspaces_are_created_listed_and_removed() {
    use v1::keyspace::{Kind, Policy, Settings, State};
    let (mut port, node) = Port::serving().await;
    let carts = v1::Keyspace {
        name: "carts".into(),
        kind: Kind::Eventual.into(),
        policy: Policy::Lww.into(),
        ..v1::Keyspace::default()
    };
    let create = |keyspace| v1::CreateKeyspaceRequest { keyspace: Some(keyspace) };
    let path = "/kv.v1.Keyspaces/Create";
    let limited = Some(Settings { keys_max: 5, ..Settings::default() });
    let refused =
        port.call(path, &create(v1::Keyspace { settings: limited, ..carts.clone() })).await;
    assert_eq!(refused.refused(), (Code::SettingNotOffered, Some(Applied::No)));
    let made: v1::KeyspaceReply = port.call(path, &create(carts.clone())).await.message();
    let made = made.keyspace.unwrap();
    assert_eq!((made.state(), made.policy(), made.id), (State::Ready, Policy::Lww, 2));

    let list = v1::ListKeyspacesRequest::default();
    let listed: v1::ListKeyspacesReply = port.call("/kv.v1.Keyspaces/List", &list).await.message();
    let kinds: Vec<_> =
        listed.keyspaces.iter().map(|k| k.keyspace.as_ref().unwrap().kind()).collect();
    assert_eq!(kinds, [Kind::Linearizable, Kind::Eventual]);
    let view = v1::KeyspaceView { keyspace: Some(made), ..v1::KeyspaceView::default() };
    assert_eq!(listed.keyspaces[1], view, "it has no revisions");

    let set = v1::SetKeyspaceRequest {
        name: "carts".into(),
        settings: limited,
        ..v1::SetKeyspaceRequest::default()
    };
    let refused = port.call("/kv.v1.Keyspaces/Set", &set).await;
    assert_eq!(refused.refused(), (Code::SettingNotOffered, Some(Applied::No)));
    let remove = v1::RemoveKeyspaceRequest { name: "carts".into() };
    let path = "/kv.v1.Keyspaces/Remove";
    assert!(port.call(path, &remove).await.message::<v1::KeyspaceReply>().keyspace.is_some());
    assert_eq!(port.call(path, &remove).await.refused().0, Code::KeyspaceNotFound);
    node.stop().await;
}
