//! All links of a node.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use proto::peer::PeerMessage;
use proto::{NodeId, v1};
use tokio::task::JoinSet;
use tracing::info;

use super::error::NetworkError;
use super::peers::PeerView;
use super::shared::Shared;
use super::{joining, keeping, links};
use crate::config::{Address, InitialMember};
use crate::forming::{Decision, FormError, Formed, Forming, Joining};
use crate::identity::{MemberList, MembersFile};
use crate::tls::{AcceptCounters, Acceptor, AcceptorOptions, Material};

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
    /// Founding members and where they listen, this node among them. Once the node has formed only
    /// addresses, which are tried now and then beside those that the cluster tells.
    pub initial: Vec<InitialMember>,
    /// Where to ask whether this node may join; empty for a founding member.
    pub join: Vec<Address>,
    /// SHA-256 of the export that this node starts from.
    pub seed: Option<[u8; 32]>,
    /// What the node formed with, once it has; durable.
    pub formed: Option<Formed>,
    /// The members as they were known last.
    pub members: Option<MemberList>,
    /// Where newer lists of members are kept.
    pub members_file: Option<MembersFile>,
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
    /// A node that was added, and whose id is not known yet, asks to join. It comes again and again
    /// until the members say that it has this id.
    Joining {
        /// Its name, proven by its certificate.
        name: String,
        /// Its id.
        node: NodeId,
    },
    /// A peer said something.
    Message {
        /// Who, proven by its certificate and the members of its cluster.
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
    join: Vec<Address>,
    tasks: Mutex<JoinSet<()>>,
}

impl Network {
    /// Listens and dials at once. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`NetworkError`]; nothing runs then.
    ///
    /// # Panics
    /// When the node neither joined nor is among the members of `formed`.
    pub fn start(config: NetworkConfig, sink: Sink) -> Result<Self, NetworkError> {
        check_certificate_cluster(&config.material, &config.cluster_name)?;
        let options =
            AcceptorOptions { per_identity_max: CONNECTIONS_PER_NODE, ..Default::default() };
        let address = config.listen;
        let acceptor = Acceptor::bind(address, config.material.peer_listener(), options)
            .map_err(|source| NetworkError::Listen { address, source })?;
        let (local, accepts) = (acceptor.local_addr(), acceptor.counters());
        let join = if config.formed.is_none() { config.join.clone() } else { Vec::new() };
        let members_file = config.members_file.clone();
        let (shared, peers) = Shared::new(config, sink);
        let shared = Arc::new(shared);
        let mut tasks = JoinSet::new();
        if let Some(file) = members_file {
            tasks.spawn(keeping::keep_lists(shared.lists(), file, shared.stop.clone()));
        }
        tasks.spawn(links::accept(Arc::clone(&shared), acceptor));
        for task in peers {
            shared.spawn(task);
        }
        for address in &join {
            tasks.spawn(joining::keep_asking(Arc::clone(&shared), address.clone()));
        }
        Ok(Self { shared, local, accepts, join, tasks: Mutex::new(tasks) })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits until the cluster can be formed, or has been by others with this node in it, or until
    /// a member says that this node, which wants to join, was added. The caller writes the result
    /// down before it passes it to [`Network::set_formed`].
    ///
    /// # Errors
    /// [`FormError`]: this node can never form as it is.
    pub async fn form(&self) -> Result<Formed, FormError> {
        tokio::select! {
            formed = async {
                if self.join.is_empty() { self.found().await } else { self.join().await }
            } => formed,
            witness = self.removed() => {
                Err(FormError::Removed { name: self.shared.local.node_name.clone(), witness })
            }
            () = self.shared.stop.cancelled() => Err(FormError::Stopping),
        }
    }

    /// Forms a cluster with the other founding members.
    async fn found(&self) -> Result<Formed, FormError> {
        let local = &self.shared.local;
        let forming = Forming {
            cluster_name: local.cluster_name.clone(),
            name: local.node_name.clone(),
            node: local.node,
            initial: local.initial.clone(),
            seed: local.seed,
        };
        let mut reports = self.shared.reports();
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
            reports.changed().await.expect("the sender is borrowed from self");
        }
    }

    /// Joins a cluster that others have formed.
    async fn join(&self) -> Result<Formed, FormError> {
        let local = &self.shared.local;
        let joining = Joining {
            name: local.node_name.clone(),
            addresses: self.join.iter().map(Address::to_string).collect(),
            seeded: local.seed.is_some(),
        };
        let mut answers = self.shared.answers();
        let mut last = None;
        loop {
            let decision = joining.decide(&answers.borrow_and_update());
            match decision {
                Decision::Form(formed) => return Ok(formed),
                Decision::Refuse(error) => return Err(error),
                Decision::Wait { missing } => {
                    if last.as_ref() != Some(&missing) {
                        let silent = missing.join(", ");
                        let name = local.node_name.as_str();
                        info!(name, silent, "joining: waiting to be added with kv cluster add");
                        last = Some(missing);
                    }
                }
            }
            answers.changed().await.expect("the sender is borrowed from self");
        }
    }

    /// The node has formed and knows it durably. From now on its hello says so, and links come up.
    ///
    /// # Panics
    /// When the node has formed before, or neither joined nor is among the members.
    pub fn set_formed(&self, formed: Formed) {
        self.shared.set_formed(formed);
    }

    /// The members as the catalogue has them, this node among them, and every id that was ever
    /// removed. Links to those that left end, and they are told when they were removed; new ones
    /// are dialed, changed addresses followed. Until the first call the last list that an earlier
    /// process was given counts, or else what the node formed with. May be called from any thread,
    /// as often as wanted; never blocks.
    ///
    /// A list that has removed this node's own id ends in [`Network::removed`], as if a member had
    /// said so.
    ///
    /// # Panics
    /// When the node has not formed yet.
    pub fn set_members(&self, members: Vec<v1::Member>, removed: BTreeSet<NodeId>) {
        self.shared.set_members(MemberList { members, removed });
    }

    /// Waits until the cluster has removed this node, which has to stop then, and names the member
    /// that says so, or this node itself. Cancel-safe.
    pub fn removed(&self) -> impl Future<Output = String> + Send + use<> {
        let mut removed = self.shared.removed();
        async move {
            let witness = match removed.wait_for(Option::is_some).await {
                Ok(witness) => witness.clone(),
                Err(_) => None,
            };
            match witness {
                Some(witness) => witness,
                // The network has gone: nobody says anything any more.
                None => std::future::pending().await,
            }
        }
    }

    /// Sends to a peer, if the link is up and has room; else the message is dropped and counted.
    /// Never blocks; may be called from any thread. Messages of one lane keep their order.
    pub fn send(&self, to: NodeId, message: PeerMessage) {
        self.shared.send(to, message);
    }

    /// What the next pings tell peers about this node.
    pub fn set_status(&self, status: v1::NodeStatus) {
        self.shared.set_status(status);
    }

    /// All peers, by name.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerView> {
        self.shared.views()
    }

    /// Counts of the accept loop of the peer port.
    #[must_use]
    pub fn accept_counters(&self) -> &AcceptCounters {
        &self.accepts
    }

    /// Messages that were not sent: because the link was not up, and because its lane was full.
    #[must_use]
    pub fn dropped(&self) -> (u64, u64) {
        self.shared.dropped()
    }

    /// Stops listening, sends what is queued if the peers take it within half a second, and closes
    /// all links. Safe to call twice.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().expect("nothing panics under this lock"));
        while tasks.join_next().await.is_some() {}
        self.shared.join_tasks().await;
    }
}

/// Whether the node's certificate is good for this cluster.
///
/// # Errors
/// [`NetworkError::CertificateCluster`].
pub fn check_certificate_cluster(material: &Material, cluster: &str) -> Result<(), NetworkError> {
    match material.cluster() {
        Some(certified) if certified != cluster => Err(NetworkError::CertificateCluster {
            certified: certified.to_owned(),
            cluster: cluster.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
