//! Connections over pipes in memory, in paused time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use proto::log;
use proto::peer::{RaftKind, RaftMessage};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;
use crate::config::InitialMember;
use crate::peer::lanes::BULK_BYTES_MAX;
use crate::peer::network::NetworkConfig;
use crate::tls::testing::Pki;

/// One side of a pair of nodes, n1 and n2.
struct Side {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    events: Arc<Mutex<Vec<LinkEvent>>>,
}

fn both() -> Formed {
    Formed::derive("prod", [(NodeId(1), "n1".into()), (NodeId(2), "n2".into())])
}

fn side(id: u64, formed: Option<Formed>) -> Side {
    let name = format!("n{id}");
    let pki = Pki::new();
    pki.node(&name);
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let member = |name: &str| InitialMember {
        name: name.to_owned(),
        address: "127.0.0.1:1".parse().unwrap(),
    };
    let config = NetworkConfig {
        cluster_name: "prod".into(),
        node_name: name.clone(),
        node: NodeId(id),
        boot: 0,
        listen,
        initial: ["n1", "n2"].map(member).to_vec(),
        join: Vec::new(),
        seed: None,
        formed,
        members: None,
        members_file: None,
        material: pki.material(&name),
    };
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let events = Arc::clone(&events);
        Arc::new(move |event| events.lock().unwrap().push(event))
    };
    let (shared, mut connections) = Shared::new(config, sink);
    let (peer, _) = connections.remove(0);
    Side { shared: Arc::new(shared), peer, events }
}

impl Side {
    /// Greets and serves one connection.
    fn run(&self, io: DuplexStream) -> JoinHandle<LinkEnd> {
        let (shared, peer) = (Arc::clone(&self.shared), Arc::clone(&self.peer));
        tokio::spawn(async move {
            let greeted = if peer.dials {
                greet(Box::new(io), &shared, &peer.name).await
            } else {
                answer(Box::new(io), &shared, &peer.name).await
            };
            match greeted {
                Ok(greeted) => serve(&shared, &peer, greeted).await,
                Err(end) => end,
            }
        })
    }

    fn events(&self) -> Vec<LinkEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Waits until so many events have come. Paused time passes only while nothing else can
    /// happen, so this ends at once or never.
    async fn until(&self, events: usize) -> Vec<LinkEvent> {
        let reached = async {
            while self.events.lock().unwrap().len() < events {
                time::sleep(Duration::from_millis(1)).await;
            }
        };
        time::timeout(Duration::from_secs(60), reached).await.expect("the events come");
        self.events()
    }
}

fn raft(kind: RaftKind, index: u64, data_bytes: usize) -> PeerMessage {
    let data = Bytes::from(vec![7; data_bytes]);
    let entries = vec![log::Entry { index, data, ..Default::default() }];
    let raft = RaftMessage { kind: kind.into(), index, entries, ..Default::default() };
    PeerMessage { group: 1, body: Some(Body::Raft(raft)) }
}

/// The test as the other side: says hello by hand.
struct ByHand {
    io: DuplexStream,
    buffer: BytesMut,
}

impl ByHand {
    fn new(io: DuplexStream) -> Self {
        Self { io, buffer: BytesMut::new() }
    }

    async fn say(&mut self, hello: &peer::Hello) {
        let mut out = BytesMut::new();
        put_hello(&mut out, hello);
        self.io.write_all(&out).await.unwrap();
    }

    async fn say_message(&mut self, kind: Kind, payload: &[u8]) {
        let mut out = BytesMut::new();
        put_header(&mut out, kind, payload.len());
        out.extend_from_slice(payload);
        self.io.write_all(&out).await.unwrap();
    }

    /// The next frame that is neither ping nor pong.
    async fn hear(&mut self) -> Option<(Kind, Bytes)> {
        loop {
            match take_frame(&mut self.buffer).unwrap() {
                Some((Kind::Urgent, payload)) if is_ping(&payload) => {}
                Some(frame) => return Some(frame),
                None => {
                    if self.io.read_buf(&mut self.buffer).await.unwrap() == 0 {
                        return None;
                    }
                }
            }
        }
    }
}

fn is_ping(payload: &Bytes) -> bool {
    let message = PeerMessage::decode(payload.clone()).unwrap();
    matches!(message.body, Some(Body::Ping(_) | Body::Pong(_)))
}

/// Ends a connection that is expected to end by itself.
async fn end_of(connection: JoinHandle<LinkEnd>) -> LinkEnd {
    time::timeout(Duration::from_secs(60), connection).await.expect("it ends").unwrap()
}

#[tokio::test(start_paused = true)]
async fn messages_of_any_size_arrive_whole_and_in_order() {
    let (n1, n2) = (side(1, Some(both())), side(2, Some(both())));
    let (a, b) = tokio::io::duplex(1_000);
    let (left, right) = (n1.run(a), n2.run(b));
    n1.until(1).await;
    let sizes = [0, 1, 65_000, 65_536, 65_537, 200_000, 1024 * 1024, 2 * 1024 * 1024, 5];
    for (index, bytes) in sizes.into_iter().enumerate() {
        n1.peer.lanes.push(raft(RaftKind::Append, index as u64, bytes));
    }
    let events = n2.until(1 + sizes.len()).await;
    assert_eq!(events[0], LinkEvent::Up(NodeId(1)));
    for (index, bytes) in sizes.into_iter().enumerate() {
        let message = raft(RaftKind::Append, index as u64, bytes);
        assert_eq!(events[index + 1], LinkEvent::Message { from: NodeId(1), message });
    }
    n1.shared.stop.cancel();
    assert!(matches!(end_of(left).await, LinkEnd::Stopping));
    assert!(matches!(end_of(right).await, LinkEnd::Closed));
    assert_eq!(n1.events(), [LinkEvent::Up(NodeId(2)), LinkEvent::Down(NodeId(2))]);
    assert_eq!(n2.events().last(), Some(&LinkEvent::Down(NodeId(1))));
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_is_sent_before_the_node_stops() {
    let (n1, n2) = (side(1, Some(both())), side(2, Some(both())));
    let (a, b) = tokio::io::duplex(1_000);
    let (left, right) = (n1.run(a), n2.run(b));
    n1.until(1).await;
    n2.until(1).await;
    n1.peer.lanes.push(raft(RaftKind::Append, 1, 300_000));
    n1.peer.lanes.push(raft(RaftKind::TimeoutNow, 2, 0));
    n1.shared.stop.cancel();
    assert!(matches!(end_of(left).await, LinkEnd::Stopping));
    end_of(right).await;
    assert_eq!(n2.events().len(), 4, "up, both messages, down");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_does_not_hold_up_the_stop() {
    let n1 = side(1, Some(both()));
    let (a, b) = tokio::io::duplex(1_000);
    let connection = n1.run(a);
    let mut other = ByHand::new(b);
    other.say(&side(2, None).shared.local.hello(Some(&both()))).await;
    n1.until(1).await;
    n1.peer.lanes.push(raft(RaftKind::Append, 1, 300_000));
    let start = Instant::now();
    n1.shared.stop.cancel();
    assert!(matches!(end_of(connection).await, LinkEnd::Stopping));
    assert!(start.elapsed() <= FLUSH_PATIENCE + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_form_while_connected_say_so() {
    let (n1, n2) = (side(1, None), side(2, None));
    let (a, b) = tokio::io::duplex(1_000);
    let (_left, _right) = (n1.run(a), n2.run(b));
    // Long enough for many pings: a connection waits for its members as long as it takes.
    time::sleep(Duration::from_secs(60)).await;
    assert_eq!((n1.events(), n2.events()), (vec![], vec![]));
    n1.peer.lanes.push(raft(RaftKind::Vote, 1, 0));
    n1.shared.set_formed(both());
    time::sleep(Duration::from_secs(10)).await;
    assert_eq!((n1.events(), n2.events()), (vec![], vec![]));
    n2.shared.set_formed(both());
    // The first message may not overtake the hello that allows it.
    n2.until(1).await;
    n2.peer.lanes.push(raft(RaftKind::Vote, 2, 0));
    let message = raft(RaftKind::Vote, 2, 0);
    let expected = [LinkEvent::Up(NodeId(2)), LinkEvent::Message { from: NodeId(2), message }];
    assert_eq!(n1.until(2).await, expected);
    assert_eq!(n1.peer.lanes.dropped(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn forming_at_any_moment_brings_the_link_up_on_both_sides() {
    for seed in 0..40_u32 {
        let (n1, n2) = (side(1, None), side(2, None));
        let (a, b) = tokio::io::duplex(64);
        let (left, right) = (n1.run(a), n2.run(b));
        for step in 0..20 {
            for (side, at) in [(&n1, seed % 7), (&n2, seed % 5)] {
                if step == at {
                    side.shared.set_formed(both());
                }
            }
            tokio::task::yield_now().await;
        }
        n1.until(1).await;
        n2.until(1).await;
        n1.peer.lanes.push(raft(RaftKind::Vote, 1, 0));
        n2.peer.lanes.push(raft(RaftKind::Vote, 1, 0));
        n1.until(2).await;
        n2.until(2).await;
        assert!(!left.is_finished() && !right.is_finished(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up() {
    let n1 = side(1, Some(both()));
    let (a, b) = tokio::io::duplex(100_000);
    let connection = n1.run(a);
    let mut other = ByHand::new(b);
    other.say(&side(2, None).shared.local.hello(Some(&both()))).await;
    n1.until(1).await;
    assert!(n1.peer.view().connected);
    let start = Instant::now();
    assert!(matches!(end_of(connection).await, LinkEnd::Silent));
    let waited = start.elapsed();
    assert!(waited > SILENCE_MAX && waited <= SILENCE_MAX + 2 * PING_INTERVAL, "{waited:?}");
    assert_eq!(n1.events(), [LinkEvent::Up(NodeId(2)), LinkEvent::Down(NodeId(2))]);
    assert!(!n1.peer.view().connected);
}

#[tokio::test(start_paused = true)]
async fn pings_measure_and_carry_the_status() {
    let (n1, n2) = (side(1, Some(both())), side(2, Some(both())));
    let status = v1::NodeStatus { term: 7, state: "serving".into(), ..Default::default() };
    n1.shared.set_status(status.clone());
    let (a, b) = tokio::io::duplex(1_000);
    let (_left, _right) = (n1.run(a), n2.run(b));
    time::sleep(3 * PING_INTERVAL).await;
    let view = n2.peer.view();
    assert_eq!((view.status, view.connected), (Some(status), true));
    assert!(view.silent_ms <= 1_000);
    // Paused time does not pass between ping and pong, so only that one was measured shows here.
    assert_eq!(n2.peer.view().rtt_us, 0);
    n1.peer.set_rtt(9);
    time::sleep(2 * PING_INTERVAL).await;
    assert_eq!(n1.peer.view().rtt_us, 0);
}

/// With the bulk lane full and a receiver that takes 8 MiB/s, a heartbeat arrives within 100 ms.
#[tokio::test(start_paused = true)]
async fn urgent_messages_overtake_bulk_ones() {
    const PIPE_BYTES: usize = 256 * 1024;
    let n1 = side(1, Some(both()));
    let (a, b) = tokio::io::duplex(PIPE_BYTES);
    let _connection = n1.run(a);
    let mut other = ByHand::new(b);
    other.say(&side(2, None).shared.local.hello(Some(&both()))).await;
    n1.until(1).await;
    let (mut pushed, bulk) = (0, raft(RaftKind::Append, 1, 1024 * 1024));
    while n1.peer.lanes.dropped() == (0, 0) {
        n1.peer.lanes.push(bulk.clone());
        pushed += bulk.encoded_len();
    }
    assert!(pushed >= BULK_BYTES_MAX);
    // The receiver stalls: the pipe fills, the writer waits.
    time::sleep(Duration::from_millis(500)).await;
    n1.peer.lanes.push(raft(RaftKind::Heartbeat, 2, 0));
    let start = Instant::now();
    let mut buffer = BytesMut::new();
    let mut portion = vec![0; 8 * 1024];
    let (mut before, mut elapsed) = (0, None);
    while elapsed.is_none() {
        time::sleep(Duration::from_millis(1)).await;
        let read = other.io.read(&mut portion).await.unwrap();
        buffer.extend_from_slice(&portion[..read]);
        while let Some((kind, payload)) = take_frame(&mut buffer).unwrap() {
            match kind {
                Kind::Urgent if !is_ping(&payload) => elapsed = Some(start.elapsed()),
                Kind::Hello | Kind::Urgent => {}
                Kind::Piece | Kind::Bulk => before += payload.len(),
            }
        }
    }
    assert!(before <= PIPE_BYTES + 3 * BATCH_BYTES, "{before} bytes went before it");
    assert!(elapsed.unwrap() <= Duration::from_millis(100), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_of_ours_ends_the_connection() {
    let hello = side(2, None).shared.local.hello(Some(&both()));
    let vote = raft(RaftKind::Vote, 1, 0).encode_to_vec();
    let piece = vec![0; FRAME_BYTES_MAX];
    for row in 0..8 {
        let n1 = side(1, Some(both()));
        let (a, b) = tokio::io::duplex(100_000);
        let connection = n1.run(a);
        let mut other = ByHand::new(b);
        if row > 1 {
            let mut hello = hello.clone();
            if row == 2 {
                // Not formed yet.
                hello.cluster_id = Bytes::new();
            }
            other.say(&hello).await;
        }
        match row {
            0 => other.io.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap(),
            1 => other.say_message(Kind::Urgent, &vote).await,
            2 => other.say_message(Kind::Urgent, &vote).await,
            3 => other.say_message(Kind::Urgent, b"\xff\xff\xff").await,
            4 => other.say_message(Kind::Bulk, b"\xff\xff\xff").await,
            5 => other.io.write_all(&[0xff; 5]).await.unwrap(),
            6 => other.say_message(Kind::Hello, b"").await,
            _ => {
                let mut frame = BytesMut::new();
                put_header(&mut frame, Kind::Piece, piece.len());
                frame.extend_from_slice(&piece);
                // Pieces without end: written until nobody reads any more.
                while other.io.write_all(&frame).await.is_ok() {}
            }
        }
        let end = end_of(connection).await;
        let expected = match row {
            0 | 5 | 7 => matches!(end, LinkEnd::Frame(_)),
            1 => matches!(end, LinkEnd::NoHello),
            2 => matches!(end, LinkEnd::Early),
            3 | 4 => matches!(end, LinkEnd::Malformed(_)),
            _ => matches!(end, LinkEnd::Refused(_)),
        };
        assert!(expected, "row {row}: {end:?}");
        let up = row > 2;
        let events = [LinkEvent::Up(NodeId(2)), LinkEvent::Down(NodeId(2))];
        assert_eq!(n1.events(), if up { events.to_vec() } else { vec![] }, "row {row}");
    }
}

#[tokio::test(start_paused = true)]
async fn random_bytes_do_no_harm() {
    use rand::{Rng, SeedableRng};
    for seed in 0..60 {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        // The side that dialed, and the one that answers.
        let (own, other) = if seed % 5 < 3 { (1, 2) } else { (2, 1) };
        let hello = side(other, None).shared.local.hello(Some(&both()));
        let n1 = side(own, Some(both()));
        let (a, b) = tokio::io::duplex(1_000);
        let connection = n1.run(a);
        let mut other = ByHand::new(b);
        if seed % 2 == 0 {
            other.say(&hello).await;
        }
        let mut noise = vec![0; 2_000];
        rng.fill_bytes(&mut noise);
        if seed % 3 == 0 {
            // Frames of random content.
            for chunk in noise.chunks_mut(40) {
                let kind = chunk[4] % 4;
                chunk[..5].copy_from_slice(&[35, 0, 0, 0, kind]);
            }
        }
        // The other side may close at any byte.
        let _ = other.io.write_all(&noise).await;
        drop(other);
        let end = end_of(connection).await;
        assert!(!matches!(end, LinkEnd::Silent | LinkEnd::Stopping), "seed {seed}: {end:?}");
        let events = n1.events();
        let ups = events.iter().filter(|event| matches!(event, LinkEvent::Up(_))).count();
        let downs = events.iter().filter(|event| matches!(event, LinkEvent::Down(_))).count();
        assert_eq!((ups, downs), if seed % 2 == 0 { (1, 1) } else { (0, 0) }, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_bodies_are_skipped() {
    let n1 = side(1, Some(both()));
    let (a, b) = tokio::io::duplex(100_000);
    let _connection = n1.run(a);
    let mut other = ByHand::new(b);
    other.say(&side(2, None).shared.local.hello(Some(&both()))).await;
    // Field 100 of a later version.
    other.say_message(Kind::Urgent, b"\xa2\x06\x01x").await;
    other.say_message(Kind::Urgent, &raft(RaftKind::Vote, 1, 0).encode_to_vec()).await;
    let message = raft(RaftKind::Vote, 1, 0);
    let expected = [LinkEvent::Up(NodeId(2)), LinkEvent::Message { from: NodeId(2), message }];
    assert_eq!(n1.until(2).await, expected);
    assert_eq!(other.hear().await.unwrap().0, Kind::Hello);
}
