//! All links of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use proto::peer::PeerMessage;
use proto::{NodeId, v1};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::connection::Greeted;
use super::error::NetworkError;
use super::hello::Local;
use super::links;
use super::peers::{Peer, PeerView};
use crate::config::{Address, InitialMember};
use crate::forming::{Decision, FormError, Formed, Forming, Report};
use crate::tls::{AcceptCounters, Acceptor, AcceptorOptions, Material, Throttle};

/// Connections that one node may hold: the link, one that replaces it, and a few that are dying.
const CONNECTIONS_PER_NODE: usize = 8;

/// What a network needs to know.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The name of the cluster.
    pub cluster_name: String,
    /// This node's name, as in its certificate.
    pub node_name: String,
    /// This node's id, durable.
    pub node: NodeId,
    /// Random, new at every start of the process.
    pub boot: u64,
    /// Where to listen for peers. Port 0 takes a free port.
    pub listen: SocketAddr,
    /// Members and where they listen; this node may be among them.
    pub initial: Vec<InitialMember>,
    /// What the node formed with, once it has; durable.
    pub formed: Option<Formed>,
    /// The node's certificate.
    pub material: Material,
}

/// What happens on the links. For each peer: up, then messages, then down, and so on.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every event is a message, and a box would cost an allocation for each"
)]
pub enum LinkEvent {
    /// The link is up: messages can be sent. The peer has formed the same cluster.
    Up(NodeId),
    /// The link is gone. What was sent and not answered may have arrived or not.
    Down(NodeId),
    /// A peer said something.
    Message {
        /// Who, proven by its certificate and the list of members.
        from: NodeId,
        /// What; neither a ping nor a pong.
        message: PeerMessage,
    },
}

/// Takes events. It is called from within the runtime and must not block.
pub type Sink = Arc<dyn Fn(LinkEvent) + Send + Sync>;

/// The links to all other members. It listens and dials from its start on, and stops when it is
/// dropped.
pub struct Network {
    shared: Arc<Shared>,
    local: SocketAddr,
    accepts: Arc<AcceptCounters>,
    tasks: Mutex<JoinSet<()>>,
}

/// A peer and the connections that it will make: what its task works with.
pub(super) type PeerTask = (Arc<Peer>, mpsc::Receiver<Greeted>);

/// What the tasks of a network share.
pub(super) struct Shared {
    pub(super) local: Local,
    pub(super) material: Material,
    pub(super) peers: BTreeMap<String, Arc<Peer>>,
    pub(super) stop: CancellationToken,
    /// For log lines about connections of nobody we know.
    pub(super) throttle: Throttle,
    formed: watch::Sender<Option<Formed>>,
    by_id: OnceLock<BTreeMap<NodeId, Arc<Peer>>>,
    reports: watch::Sender<BTreeMap<String, Report>>,
    status: watch::Sender<Option<v1::NodeStatus>>,
    sink: Sink,
    started: Instant,
}

impl Network {
    /// Listens and dials at once. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`NetworkError`]; nothing runs then.
    ///
    /// # Panics
    /// When the node is not among the members of `formed`.
    pub fn start(config: NetworkConfig, sink: Sink) -> Result<Self, NetworkError> {
        let cluster = &config.cluster_name;
        if let Some(certified) = config.material.cluster().filter(|name| name != cluster) {
            let (certified, cluster) = (certified.to_owned(), cluster.clone());
            return Err(NetworkError::CertificateCluster { certified, cluster });
        }
        let options =
            AcceptorOptions { per_identity_max: CONNECTIONS_PER_NODE, ..Default::default() };
        let address = config.listen;
        let acceptor = Acceptor::bind(address, config.material.peer_listener(), options)
            .map_err(|source| NetworkError::Listen { address, source })?;
        let (local, accepts) = (acceptor.local_addr(), acceptor.counters());
        let (shared, connections) = Shared::new(config, sink);
        let shared = Arc::new(shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(links::accept(Arc::clone(&shared), acceptor));
        for (peer, incoming) in connections {
            tasks.spawn(links::keep(Arc::clone(&shared), peer, incoming));
        }
        Ok(Self { shared, local, accepts, tasks: Mutex::new(tasks) })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits until the cluster can be formed, or has been by others with this node in it. The
    /// caller writes the result down before it passes it to [`Network::set_formed`].
    ///
    /// # Errors
    /// [`FormError`]: this node can never form as it is.
    pub async fn form(&self) -> Result<Formed, FormError> {
        let local = &self.shared.local;
        let forming = Forming {
            cluster_name: local.cluster_name.clone(),
            name: local.node_name.clone(),
            node: local.node,
            initial: local.initial.clone(),
        };
        let mut reports = self.shared.reports.subscribe();
        let mut last = None;
        loop {
            let decision = forming.decide(&reports.borrow_and_update());
            match decision {
                Decision::Form(formed) => return Ok(formed),
                Decision::Refuse(error) => return Err(error),
                Decision::Wait { missing } => {
                    if last.as_ref() != Some(&missing) {
                        info!(missing = missing.join(", "), "forming: waiting for members");
                        last = Some(missing);
                    }
                }
            }
            tokio::select! {
                changed = reports.changed() => changed.expect("the sender is borrowed from self"),
                () = self.shared.stop.cancelled() => return Err(FormError::Stopping),
            }
        }
    }

    /// The node has formed and knows it durably. From now on its hello says so, and links come up.
    ///
    /// # Panics
    /// When the node is not among the members, or has formed before.
    pub fn set_formed(&self, formed: Formed) {
        self.shared.set_formed(formed);
    }

    /// Sends to a peer, if the link is up and has room; else the message is dropped and counted.
    /// Never blocks; may be called from any thread. Messages of one lane keep their order.
    pub fn send(&self, to: NodeId, message: PeerMessage) {
        if let Some(peer) = self.shared.by_id.get().and_then(|peers| peers.get(&to)) {
            peer.lanes.push(message);
        }
    }

    /// What the next pings tell peers about this node.
    pub fn set_status(&self, status: v1::NodeStatus) {
        self.shared.set_status(status);
    }

    /// All peers, by name.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerView> {
        let formed = self.shared.formed.borrow();
        let id = |name: &str| formed.as_ref().and_then(|formed| formed.id_of(name));
        self.shared
            .peers
            .values()
            .map(|peer| peer.view(id(&peer.name).unwrap_or_default()))
            .collect()
    }

    /// Counts of the accept loop of the peer port.
    #[must_use]
    pub fn accept_counters(&self) -> &AcceptCounters {
        &self.accepts
    }

    /// Messages that were not sent: because the link was not up, and because its lane was full.
    #[must_use]
    pub fn dropped(&self) -> (u64, u64) {
        let dropped = self.shared.peers.values().map(|peer| peer.lanes.dropped());
        dropped.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Stops listening, sends what is queued if the peers take it within half a second, and closes
    /// all links. Safe to call twice.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().expect("nothing panics under this lock"));
        while tasks.join_next().await.is_some() {}
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    /// State without tasks, and for each peer the connections that it will make.
    pub(super) fn new(config: NetworkConfig, sink: Sink) -> (Self, Vec<PeerTask>) {
        let NetworkConfig {
            cluster_name, node_name, node, boot, initial, formed, material, ..
        } = config;
        let addresses: BTreeMap<String, Address> =
            initial.into_iter().map(|member| (member.name, member.address)).collect();
        let mut names: BTreeSet<&String> = addresses.keys().collect();
        if let Some(formed) = &formed {
            names = formed.members.iter().map(|(_, name)| name).collect();
        }
        let mut peers = BTreeMap::new();
        let mut connections = Vec::new();
        for name in names.into_iter().filter(|name| **name != node_name) {
            let address = addresses.get(name).cloned();
            let (peer, incoming) = Peer::new(name.clone(), address, node_name < *name);
            let peer = Arc::new(peer);
            connections.push((Arc::clone(&peer), incoming));
            peers.insert(name.clone(), peer);
        }
        let initial = addresses.into_keys().collect();
        let shared = Self {
            local: Local { cluster_name, node_name, node, boot, initial },
            material,
            peers,
            stop: CancellationToken::new(),
            throttle: Throttle::default(),
            formed: watch::Sender::new(None),
            by_id: OnceLock::new(),
            reports: watch::Sender::new(BTreeMap::new()),
            status: watch::Sender::new(None),
            sink,
            started: Instant::now(),
        };
        if let Some(formed) = formed {
            shared.set_formed(formed);
        }
        (shared, connections)
    }

    /// What this node has formed with.
    pub(super) fn formed(&self) -> Option<Formed> {
        self.formed.borrow().clone()
    }

    pub(super) fn formed_changes(&self) -> watch::Receiver<Option<Formed>> {
        self.formed.subscribe()
    }

    /// Notes what a peer said about itself, for forming.
    pub(super) fn report(&self, name: &str, report: &Report) {
        self.reports.send_if_modified(|reports| {
            let news = reports.get(name) != Some(report);
            if news {
                reports.insert(name.to_owned(), report.clone());
            }
            news
        });
    }

    pub(super) fn tell(&self, event: LinkEvent) {
        (self.sink)(event);
    }

    pub(super) fn set_status(&self, status: v1::NodeStatus) {
        self.status.send_if_modified(|known| {
            let told = known.as_ref().map(|known| (&known.state, known.role));
            let news = told != Some((&status.state, status.role));
            *known = Some(status);
            news
        });
    }

    /// Changes when this node's state or role did: worth a ping of its own.
    pub(super) fn status_changes(&self) -> watch::Receiver<Option<v1::NodeStatus>> {
        self.status.subscribe()
    }

    pub(super) fn status(&self) -> Option<v1::NodeStatus> {
        self.status.borrow().clone()
    }

    /// Microseconds since the start of the network.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn set_formed(&self, formed: Formed) {
        let local = &self.local;
        let own = formed.id_of(&local.node_name);
        assert_eq!(own, Some(local.node), "{} is not in {formed:?}", local.node_name);
        let by_id = formed
            .members
            .iter()
            .filter_map(|(id, name)| Some((*id, Arc::clone(self.peers.get(name)?))))
            .collect();
        assert!(self.by_id.set(by_id).is_ok(), "a node forms once");
        info!(cluster = %formed.cluster, members = formed.members.len(), "formed");
        self.formed.send_replace(Some(formed));
    }
}
