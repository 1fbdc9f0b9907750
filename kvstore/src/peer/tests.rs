//! Networks over loopback and real TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use prost::Message;
use proto::peer::{self, RaftKind, RaftMessage, peer_message::Body};
use proto::{NodeId, v1};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::config::InitialMember;
use crate::forming::{FormError, Formed};
use crate::tls::testing::Pki;
use crate::tls::{ALPN_PEER, Rejection};

mod membership;

/// How long a test waits for what should happen soon, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Certificates and addresses of n1, n2, ...
struct Cluster {
    pki: Pki,
    members: Vec<InitialMember>,
}

struct Node {
    network: Network,
    events: mpsc::UnboundedReceiver<LinkEvent>,
}

impl Cluster {
    fn new(nodes: usize) -> Self {
        let pki = Pki::new();
        let mut held = Vec::new();
        let mut members = Vec::new();
        for at in 1..=nodes {
            let name = format!("n{at}");
            pki.node(&name);
            // Held together, so that all ports differ.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string().parse().unwrap();
            held.push(listener);
            members.push(InitialMember { name, address });
        }
        Self { pki, members }
    }

    fn address(&self, name: &str) -> SocketAddr {
        let member = self.members.iter().find(|member| member.name == name).unwrap();
        member.address.to_string().parse().unwrap()
    }

    fn config(&self, name: &str, id: u64, formed: Option<Formed>) -> NetworkConfig {
        NetworkConfig {
            cluster_name: "prod".into(),
            node_name: name.into(),
            node: NodeId(id),
            boot: 1,
            listen: self.address(name),
            initial: self.members.clone(),
            join: Vec::new(),
            seed: None,
            formed,
            members: None,
            members_file: None,
            material: self.pki.material(name),
        }
    }

    async fn start(&self, name: &str, id: u64, formed: Option<Formed>) -> Node {
        soon(Node::start(self.config(name, id, formed))).await
    }
}

impl Node {
    async fn start(config: NetworkConfig) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        // A test that has seen enough has dropped the receiver.
        let sink: Sink = Arc::new(move |event| drop(sender.send(event)));
        loop {
            match Network::start(config.clone(), Arc::clone(&sink)) {
                Ok(network) => return Self { network, events },
                // A network that was dropped closes its port soon after.
                Err(NetworkError::Listen { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn form(&self) -> Formed {
        let formed = soon(self.network.form()).await.unwrap();
        self.network.set_formed(formed.clone());
        formed
    }

    async fn event(&mut self) -> LinkEvent {
        soon(self.events.recv()).await.unwrap()
    }

    /// The peers that come up next.
    async fn ups(&mut self, count: usize) -> Vec<u64> {
        let mut ups = Vec::new();
        for _ in 0..count {
            match self.event().await {
                LinkEvent::Up(node) => ups.push(node.get()),
                other => panic!("{other:?}"),
            }
        }
        ups.sort_unstable();
        ups
    }
}

fn vote(index: u64) -> PeerMessage {
    let raft = RaftMessage { kind: RaftKind::Vote.into(), index, ..Default::default() };
    PeerMessage { group: 1, body: Some(Body::Raft(raft)) }
}

fn formed(ids: &[u64]) -> Formed {
    let members = ids.iter().enumerate();
    Formed::derive("prod", members.map(|(at, id)| (NodeId(*id), format!("n{}", at + 1))))
}

#[tokio::test]
async fn three_nodes_form_and_talk() {
    let cluster = Cluster::new(3);
    let mut n3 = cluster.start("n3", 3, None).await;
    let mut n1 = cluster.start("n1", 1, None).await;
    assert!(n1.network.peers().iter().all(|peer| !peer.connected && peer.node == NodeId(0)));
    let mut n2 = cluster.start("n2", 2, None).await;
    let (a, b, c) = tokio::join!(n1.form(), n2.form(), n3.form());
    assert_eq!((&a, &b, &c), (&formed(&[1, 2, 3]), &a, &a));
    assert_eq!(n1.ups(2).await, [2, 3]);
    assert_eq!(n2.ups(2).await, [1, 3]);
    assert_eq!(n3.ups(2).await, [1, 2]);
    let status = v1::NodeStatus { term: 5, ..Default::default() };
    n1.network.set_status(status.clone());
    n1.network.send(NodeId(3), vote(7));
    n1.network.send(NodeId(99), vote(8));
    assert_eq!(n3.event().await, LinkEvent::Message { from: NodeId(1), message: vote(7) });
    n3.network.send(NodeId(1), vote(9));
    assert_eq!(n1.event().await, LinkEvent::Message { from: NodeId(3), message: vote(9) });
    let seen = async {
        loop {
            let peers = n3.network.peers();
            assert!(peers.iter().all(|peer| peer.connected));
            assert_eq!((peers[0].node, peers[0].name.as_str()), (NodeId(1), "n1"));
            if peers[0].status.as_ref() == Some(&status) && peers[0].rtt_us > 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(seen).await;
    n2.network.shutdown().await;
    assert_eq!(n1.event().await, LinkEvent::Down(NodeId(2)));
    assert_eq!(n3.event().await, LinkEvent::Down(NodeId(2)));
}

#[tokio::test]
async fn a_node_that_comes_back_is_linked_again() {
    let cluster = Cluster::new(2);
    let all = formed(&[1, 2]);
    let mut n1 = cluster.start("n1", 1, Some(all.clone())).await;
    for round in 0..3 {
        let mut n2 = cluster.start("n2", 2, Some(all.clone())).await;
        assert_eq!((n1.ups(1).await, n2.ups(1).await), (vec![2], vec![1]));
        n2.network.send(NodeId(1), vote(round));
        assert_eq!(n1.event().await, LinkEvent::Message { from: NodeId(2), message: vote(round) });
        // Once as a polite end, then as a crash.
        if round == 0 {
            n2.network.shutdown().await;
        }
        drop(n2);
        assert_eq!(n1.event().await, LinkEvent::Down(NodeId(2)));
    }
    n1.network.send(NodeId(2), vote(0));
    assert_eq!(n1.network.dropped(), (1, 0));
}

#[tokio::test]
async fn a_node_that_missed_forming_adopts_it() {
    let cluster = Cluster::new(3);
    let all = formed(&[1, 2, 3]);
    let mut n1 = cluster.start("n1", 1, Some(all.clone())).await;
    // n2 never comes; n3 had reported its id and crashed before it formed.
    let mut n3 = cluster.start("n3", 3, None).await;
    assert_eq!(n3.form().await, all);
    assert_eq!((n1.ups(1).await, n3.ups(1).await), (vec![3], vec![1]));
}

#[tokio::test]
async fn a_node_that_lost_its_directory_learns_it_whoever_dials() {
    let cluster = Cluster::new(3);
    let all = formed(&[1, 2, 3]);
    // n1 dials n2, n3 is dialed by n2.
    for witness in ["n1", "n3"] {
        let id = all.id_of(witness).unwrap().get();
        let mut formed_one = cluster.start(witness, id, Some(all.clone())).await;
        let wiped = cluster.start("n2", 77, None).await;
        let error = soon(wiped.network.form()).await.unwrap_err();
        assert_eq!(error, FormError::DataLost { name: "n2".into(), witness: witness.into() });
        assert_eq!(proto::Failure::from(error).code.exit(), 9);
        formed_one.network.shutdown().await;
        assert!(formed_one.events.try_recv().is_err(), "the link never came up");
    }
}

#[tokio::test]
async fn forming_ends_when_the_node_stops() {
    let cluster = Cluster::new(2);
    let n1 = cluster.start("n1", 1, None).await;
    let (formed, ()) = tokio::join!(n1.network.form(), n1.network.shutdown());
    assert_eq!(formed, Err(FormError::Stopping));
}

#[tokio::test]
async fn one_node_alone_forms() {
    let cluster = Cluster::new(1);
    let n1 = cluster.start("n1", 1, None).await;
    assert_eq!(n1.form().await, formed(&[1]));
    assert_eq!(n1.network.peers(), []);
}

#[tokio::test]
async fn a_taken_port_and_a_foreign_certificate_are_errors() {
    let cluster = Cluster::new(2);
    let _n1 = cluster.start("n1", 1, None).await;
    let sink: Sink = Arc::new(|_| {});
    let config = cluster.config("n1", 1, None);
    let error = Network::start(config.clone(), Arc::clone(&sink)).err().unwrap();
    assert!(matches!(error, NetworkError::Listen { .. }), "{error}");
    let scoped = Pki::for_cluster("test");
    scoped.node("n1");
    let config = NetworkConfig { material: scoped.material("n1"), ..config };
    let error = Network::start(config, sink).err().unwrap();
    assert!(matches!(error, NetworkError::CertificateCluster { .. }), "{error}");
    assert_eq!(error.code().exit(), 7);
}

/// A node made by hand: a TLS connection with n1's certificate.
struct ByHand {
    stream: TlsStream<TcpStream>,
}

impl ByHand {
    async fn dial(cluster: &Cluster, name: &str, to: &str) -> Self {
        let address = cluster.address(to);
        let tcp = TcpStream::connect(address).await.unwrap();
        let tls = TlsConnector::from(cluster.pki.dialer(name, ALPN_PEER));
        Self { stream: tls.connect(ServerName::from(address.ip()), tcp).await.unwrap() }
    }

    async fn say(&mut self, hello: &peer::Hello) {
        let mut out = BytesMut::new();
        out.put_u32_le(u32::try_from(hello.encoded_len()).unwrap());
        out.put_u8(0);
        hello.encode(&mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    /// Reads until the other side closes.
    async fn closed(&mut self) {
        let mut rest = Vec::new();
        // How the end looks depends on what was in flight.
        let _ = soon(self.stream.read_to_end(&mut rest)).await;
    }
}

fn hello(name: &str, id: u64, formed: &Formed) -> peer::Hello {
    peer::Hello {
        protocol: 1,
        cluster_name: "prod".into(),
        node_name: name.into(),
        node_id: id,
        boot: 3,
        cluster_id: formed.cluster.0.to_vec().into(),
        members: formed.wire_members(),
        ..peer::Hello::default()
    }
}

#[tokio::test]
async fn a_new_connection_of_a_peer_replaces_the_old_one() {
    let cluster = Cluster::new(2);
    let all = formed(&[1, 2]);
    let mut n2 = cluster.start("n2", 2, Some(all.clone())).await;
    let mut first = ByHand::dial(&cluster, "n1", "n2").await;
    first.say(&hello("n1", 1, &all)).await;
    assert_eq!(n2.event().await, LinkEvent::Up(NodeId(1)));
    // One that does not say hello, or not the right one, replaces nothing.
    let silent = ByHand::dial(&cluster, "n1", "n2").await;
    let mut wrong = ByHand::dial(&cluster, "n1", "n2").await;
    wrong.say(&hello("n1", 9, &formed(&[9, 2]))).await;
    wrong.closed().await;
    assert!(n2.events.try_recv().is_err());
    let mut second = ByHand::dial(&cluster, "n1", "n2").await;
    second.say(&hello("n1", 1, &all)).await;
    assert_eq!(n2.event().await, LinkEvent::Down(NodeId(1)));
    assert_eq!(n2.event().await, LinkEvent::Up(NodeId(1)));
    first.closed().await;
    drop((silent, second));
    assert_eq!(n2.event().await, LinkEvent::Down(NodeId(1)));
}

#[tokio::test]
async fn strangers_are_refused_and_honest_nodes_are_not_disturbed() {
    let cluster = Cluster::new(2);
    cluster.pki.node("n0");
    cluster.pki.node("n9");
    cluster.pki.client("alice");
    let all = formed(&[1, 2]);
    let mut n2 = cluster.start("n2", 2, Some(all.clone())).await;
    // A certificate of the CA, but no member; and a client.
    let mut stranger = ByHand::dial(&cluster, "n0", "n2").await;
    stranger.say(&hello("n0", 5, &formed(&[5, 6]))).await;
    stranger.closed().await;
    let mut client = ByHand::dial(&cluster, "alice", "n2").await;
    client.closed().await;
    let told = async {
        while n2.network.accept_counters().rejected(Rejection::WrongRole) == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(told).await;
    // A member that tells lies of every kind.
    let good = hello("n1", 1, &all);
    for lie in [
        peer::Hello { protocol: 2, ..good.clone() },
        peer::Hello { cluster_name: "test".into(), ..good.clone() },
        peer::Hello { node_name: "n2".into(), ..good.clone() },
        peer::Hello { node_id: 9, ..good.clone() },
        peer::Hello { node_id: 9, cluster_id: Default::default(), ..good.clone() },
        hello("n1", 9, &formed(&[9, 2])),
    ] {
        let mut liar = ByHand::dial(&cluster, "n1", "n2").await;
        liar.say(&lie).await;
        liar.closed().await;
    }
    // And one that announces 4 GiB.
    let mut huge = ByHand::dial(&cluster, "n1", "n2").await;
    huge.stream.write_all(&[0xff; 64]).await.unwrap();
    huge.closed().await;
    assert!(n2.events.try_recv().is_err(), "no link ever came up");
    let mut n1 = cluster.start("n1", 1, Some(all)).await;
    assert_eq!((n1.ups(1).await, n2.ups(1).await), (vec![2], vec![1]));
}

/// 1,000 connections that never say a word, TLS or not, and a link that comes up all the same.
#[tokio::test]
async fn silent_connections_do_not_stop_a_link() {
    let cluster = Cluster::new(2);
    let all = formed(&[1, 2]);
    let mut n2 = cluster.start("n2", 2, Some(all.clone())).await;
    let mut silent = Vec::new();
    for _ in 0..1_000 {
        silent.push(TcpStream::connect(cluster.address("n2")).await.unwrap());
    }
    let mut n1 = cluster.start("n1", 1, Some(all)).await;
    assert_eq!((n1.ups(1).await, n2.ups(1).await), (vec![2], vec![1]));
    drop(silent);
}

#[tokio::test]
async fn megabytes_cross_real_tls() {
    let cluster = Cluster::new(2);
    let all = formed(&[1, 2]);
    let mut n1 = cluster.start("n1", 1, Some(all.clone())).await;
    let mut n2 = cluster.start("n2", 2, Some(all)).await;
    n1.ups(1).await;
    n2.ups(1).await;
    let message = |index: u64| {
        let data = vec![u8::try_from(index).unwrap(); 1024 * 1024].into();
        let entries = vec![proto::log::Entry { index, data, ..Default::default() }];
        let raft =
            RaftMessage { kind: RaftKind::Append.into(), index, entries, ..Default::default() };
        PeerMessage { group: 1, body: Some(Body::Raft(raft)) }
    };
    for index in 0..20 {
        n1.network.send(NodeId(2), message(index));
    }
    n1.network.send(NodeId(2), vote(99));
    let mut next = 0;
    let mut overtook = false;
    while next < 20 || !overtook {
        match n2.event().await {
            LinkEvent::Message { message: got, .. } if got == vote(99) => {
                assert!(next < 20, "a vote waits for no entries");
                overtook = true;
            }
            LinkEvent::Message { message: got, .. } => {
                assert_eq!(got, message(next));
                next += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(n1.network.dropped(), (0, 0));
}
