//! What the handlers of a server see of its node, before, while and after it runs.

use std::fmt;
use std::sync::Arc;

use proto::v1;
use proto::{Applied, ClusterId, Code, Failure, NodeId};
use tokio::sync::watch;

use super::cluster::nodes;
use super::state::NodeState;
use crate::metrics::Metrics;
use crate::node::Summary;
use crate::peer::PeerView;
use crate::shell::NodeHandle;

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name of the cluster.
    pub cluster_name: String,
    /// Name of this node.
    pub name: String,
    /// Id of this node.
    pub id: NodeId,
    /// Where clients reach this node.
    pub client_address: String,
    /// Where peers reach this node.
    pub peer_address: String,
    /// Unix time at which its certificate ends.
    pub certificate_expiry: u64,
}

/// How far a server has come.
#[derive(Clone, Debug)]
pub enum Stage {
    /// Waiting for the other members of a new cluster.
    Forming,
    /// Opening the log and the state.
    Opening,
    /// A part of the node's data does not verify: it is being fetched from the leader.
    Repairing(String),
    /// The node runs. It may still be replaying or looking for a leader.
    Running(Running),
    /// Stopping: no new requests.
    Stopping,
}

/// A node that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Speaks to it.
    pub handle: NodeHandle,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// What its log knew to be committed when it started.
    pub commit_at_start: u64,
}

/// What a server can do right now. Each check is `Ok` or says what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// The loop of the node makes progress; `Ok` as well while there is no node yet.
    pub live: Result<(), String>,
    /// The cluster has formed and the node runs.
    pub running: Result<(), String>,
    /// Everything that was committed at the start is applied.
    pub replayed: Result<(), String>,
    /// A read index was confirmed since the start.
    pub confirmed: Result<(), String>,
    /// A leader is known.
    pub leader: Result<(), String>,
}

impl Checks {
    /// Whether reads from this replica's own state can be answered.
    pub fn local(&self) -> bool {
        self.live.is_ok() && self.running.is_ok() && self.replayed.is_ok()
    }

    /// Whether linearizable reads and writes can be answered.
    pub fn linearizable(&self) -> bool {
        self.local() && self.confirmed.is_ok() && self.leader.is_ok()
    }
}

type Peers = Box<dyn Fn() -> Vec<PeerView> + Send + Sync>;

/// Shared by the gRPC handlers, the health service and the admin listener.
pub struct Front {
    identity: Identity,
    stage: watch::Sender<Stage>,
    metrics: Arc<Metrics>,
    peers: Peers,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Front {
    /// A front at stage [`Stage::Forming`]. `peers` tells how the links to the peers are.
    pub fn new(
        identity: Identity,
        metrics: Arc<Metrics>,
        peers: impl Fn() -> Vec<PeerView> + Send + Sync + 'static,
    ) -> Self {
        let (stage, _) = watch::channel(Stage::Forming);
        Self { identity, stage, metrics, peers: Box::new(peers) }
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where measurements go.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How the links to the peers are.
    pub fn peers(&self) -> Vec<PeerView> {
        (self.peers)()
    }

    /// Moves on.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// The stages as they come.
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// The running node.
    ///
    /// # Errors
    /// [`Code::NotReady`], certainly not applied.
    pub fn running(&self) -> Result<Running, Failure> {
        let name = &self.identity.name;
        let (code, why) = match &*self.stage.borrow() {
            Stage::Running(running) if running.handle.has_begun() => return Ok(running.clone()),
            Stage::Running(_) => (Code::NotReady, format!("{name} replays its log")),
            Stage::Forming => {
                (Code::NotReady, format!("{name} waits for the other members to form the cluster"))
            }
            Stage::Opening => (Code::NotReady, format!("{name} opens its log")),
            Stage::Repairing(what) => (Code::Repairing, format!("{name} repairs its data: {what}")),
            Stage::Stopping => (Code::NotReady, format!("{name} is stopping")),
        };
        Err(Failure::new(code, "request", why).applied(Applied::No))
    }

    /// What the node is doing.
    pub fn state(&self) -> NodeState {
        match &*self.stage.borrow() {
            Stage::Running(Running { handle, .. }) if handle.has_begun() => {
                NodeState::of_running(handle.is_alive(), &handle.summaries().borrow())
            }
            Stage::Forming | Stage::Opening | Stage::Running(_) => NodeState::Starting,
            Stage::Repairing(_) => NodeState::Repairing,
            Stage::Stopping => NodeState::Stopping,
        }
    }

    /// A handle to the running node.
    ///
    /// # Errors
    /// As [`Front::running`].
    pub fn handle(&self) -> Result<NodeHandle, Failure> {
        Ok(self.running()?.handle)
    }

    /// What the node knew about itself at its last tick; `None` while there is no node.
    pub fn summary(&self) -> Option<Summary> {
        let handle = self.handle().ok()?;
        let summary = handle.summaries().borrow().clone();
        Some(summary)
    }

    /// The reply to a client that asks who is here.
    ///
    /// # Errors
    /// [`Code::NotReady`] while there is no node.
    pub async fn hello(&self) -> Result<v1::HelloReply, Failure> {
        let running = self.running()?;
        let summary = running.handle.summary().await?;
        let leader = summary.leader;
        let nodes = nodes(&self.identity, &summary, &self.peers());
        Ok(v1::HelloReply {
            cluster_name: self.identity.cluster_name.clone(),
            cluster_id: running.cluster.0.to_vec().into(),
            node: self.identity.name.clone(),
            node_id: self.identity.id.get(),
            leader: leader.map_or(0, NodeId::get),
            born: summary.applied,
            members: nodes.into_iter().filter_map(|status| status.member).collect(),
            version: client::version::VERSION.to_owned(),
        })
    }

    /// What the server can do right now.
    pub fn checks(&self) -> Checks {
        let running = match self.running() {
            Ok(running) => running,
            Err(failure) => {
                let missing = || Err(failure.why.clone());
                return Checks {
                    live: Ok(()),
                    running: missing(),
                    replayed: missing(),
                    confirmed: missing(),
                    leader: missing(),
                };
            }
        };
        let summary = running.handle.summaries().borrow().clone();
        let (applied, commit) = (summary.applied, running.commit_at_start);
        Checks {
            live: check(running.handle.is_alive(), || "the node's loop is stuck".into()),
            running: Ok(()),
            replayed: check(applied >= commit, || format!("{applied} of {commit} entries")),
            confirmed: check(summary.ready, || "no read index was confirmed yet".into()),
            leader: check(summary.leader.is_some(), || "no leader is known".into()),
        }
    }
}

fn check(fine: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if fine { Ok(()) } else { Err(why()) }
}
