//! What is known about one peer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::{NodeId, v1};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::Greeted;
use super::lanes::Lanes;
use crate::config::Address;

/// Greeted connections that wait for the task of their peer. It takes each at once.
const INCOMING_MAX: usize = 4;

/// Held by the task of a peer as long as it lives: of two peers of the same name that follow each
/// other, the second begins when the first has ended.
pub(super) type Turn = Arc<tokio::sync::Mutex<()>>;

/// Another member of the cluster, and the link to it.
pub(super) struct Peer {
    pub(super) name: String,
    /// This node dials at once, the other one only when it was not dialed for a while; else the
    /// other way round.
    pub(super) dials: bool,
    pub(super) lanes: Lanes,
    /// Takes connections that the peer made.
    pub(super) incoming: mpsc::Sender<Greeted>,
    /// Cancelled when the peer leaves or the network stops.
    pub(super) stop: CancellationToken,
    pub(super) turn: Turn,
    /// Where it listens, where that is known.
    address: watch::Sender<Option<Address>>,
    /// 0 until it is known.
    node: AtomicU64,
    removed: AtomicBool,
    busy: AtomicBool,
    connected: AtomicBool,
    rtt_us: AtomicU64,
    last_heard: Mutex<Instant>,
    status: Mutex<Option<v1::NodeStatus>>,
}

/// One peer as this node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerView {
    /// Its id; 0 until it is known.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The link is up.
    pub connected: bool,
    /// The last measured round trip; 0 when none was measured yet.
    pub rtt_us: u64,
    /// What it last said about itself.
    pub status: Option<v1::NodeStatus>,
    /// Time since it was last heard; since this node's start when it never was.
    pub silent_ms: u64,
}

impl Peer {
    /// A peer without a connection, and the connections that it will make.
    pub(super) fn new(
        name: String,
        address: Option<Address>,
        dials: bool,
        stop: CancellationToken,
        turn: Turn,
    ) -> (Self, mpsc::Receiver<Greeted>) {
        let (incoming, connections) = mpsc::channel(INCOMING_MAX);
        let peer = Self {
            name,
            dials,
            lanes: Lanes::default(),
            incoming,
            stop,
            turn,
            address: watch::Sender::new(address),
            node: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            rtt_us: AtomicU64::new(0),
            last_heard: Mutex::new(Instant::now()),
            status: Mutex::default(),
        };
        (peer, connections)
    }

    pub(super) fn view(&self) -> PeerView {
        PeerView {
            node: self.node(),
            name: self.name.clone(),
            connected: self.connected.load(Ordering::Relaxed),
            rtt_us: self.rtt_us.load(Ordering::Relaxed),
            status: self.status.lock().expect("nothing panics under this lock").clone(),
            silent_ms: u64::try_from(self.silent().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Its id; 0 until it is known.
    pub(super) fn node(&self) -> NodeId {
        NodeId(self.node.load(Ordering::Relaxed))
    }

    pub(super) fn set_node(&self, node: NodeId) {
        self.node.store(node.get(), Ordering::Relaxed);
    }

    /// Where it listens, and whenever that changes.
    pub(super) fn addresses(&self) -> watch::Receiver<Option<Address>> {
        self.address.subscribe()
    }

    pub(super) fn set_address(&self, address: Address) {
        self.address.send_if_modified(|known| {
            let news = known.as_ref() != Some(&address);
            *known = Some(address);
            news
        });
    }

    /// Ends the link; `removed`: the peer is told that it was removed from the cluster.
    pub(super) fn leave(&self, removed: bool) {
        self.removed.store(removed, Ordering::Relaxed);
        self.stop.cancel();
    }

    pub(super) fn was_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// A connection is being served.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    pub(super) fn heard(&self) {
        *self.last_heard.lock().expect("nothing panics under this lock") = Instant::now();
    }

    pub(super) fn silent(&self) -> Duration {
        self.last_heard.lock().expect("nothing panics under this lock").elapsed()
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    pub(super) fn set_rtt(&self, rtt_us: u64) {
        self.rtt_us.store(rtt_us, Ordering::Relaxed);
    }

    pub(super) fn set_status(&self, status: Option<v1::NodeStatus>) {
        if status.is_some() {
            *self.status.lock().expect("nothing panics under this lock") = status;
        }
    }
}
