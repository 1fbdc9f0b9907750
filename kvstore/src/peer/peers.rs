//! What is known about one peer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proto::{NodeId, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connection::Greeted;
use super::lanes::Lanes;
use crate::config::Address;

/// Greeted connections that wait for the task of their peer. It takes each at once.
const INCOMING_MAX: usize = 4;

/// Another member of the cluster, and the link to it.
pub(super) struct Peer {
    pub(super) name: String,
    /// Where it listens; unknown for a member that is missing from the configuration.
    pub(super) address: Option<Address>,
    /// This node dials, the other one only accepts; else the other way round.
    pub(super) dials: bool,
    pub(super) lanes: Lanes,
    /// Takes connections that the peer made.
    pub(super) incoming: mpsc::Sender<Greeted>,
    connected: AtomicBool,
    rtt_us: AtomicU64,
    last_heard: Mutex<Instant>,
    status: Mutex<Option<v1::NodeStatus>>,
}

/// One peer as this node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerView {
    /// Its id; 0 until this node has formed.
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
    ) -> (Self, mpsc::Receiver<Greeted>) {
        let (incoming, connections) = mpsc::channel(INCOMING_MAX);
        let peer = Self {
            name,
            address,
            dials,
            lanes: Lanes::default(),
            incoming,
            connected: AtomicBool::new(false),
            rtt_us: AtomicU64::new(0),
            last_heard: Mutex::new(Instant::now()),
            status: Mutex::default(),
        };
        (peer, connections)
    }

    pub(super) fn view(&self, node: NodeId) -> PeerView {
        PeerView {
            node,
            name: self.name.clone(),
            connected: self.connected.load(Ordering::Relaxed),
            rtt_us: self.rtt_us.load(Ordering::Relaxed),
            status: self.status.lock().expect("nothing panics under this lock").clone(),
            silent_ms: u64::try_from(self.silent().as_millis()).unwrap_or(u64::MAX),
        }
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
