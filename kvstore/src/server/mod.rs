//! One server: a node with its listeners, from its configuration to its last reply.
//!
//! Order of a start: TLS material, data directory (lock, identity), listeners, peer links; then in
//! the background: form the cluster or find it formed, open log and state, run the node. The
//! client port answers from the beginning: until the node runs, with "not ready, not applied".
//! The admin port says how far the start has come.
//!
//! Order of a stop: refuse new requests, hand over leadership and what only this node has of eventual
//! keyspaces, let what is inside finish, answer the rest with "outcome unknown", seal the log, close the
//! links. Every step has a time limit, so that the whole takes less than five seconds with a dead quorum or a
//! stuck disk as well, and less than ten where writes are on no other node.

mod boot;
mod error;
mod stop;

#[cfg(test)]
mod tests;

pub use error::ServerError;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use proto::Failure;
use storage::disk::RealDisk;
use storage::wal::SEGMENT_BYTES_DEFAULT;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use tracing::Instrument;

use self::boot::{OpenNode, Opened, Plan};
use crate::admin::Admin;
use crate::config::Config;
use crate::durable::{Damage, DataFiles, Founding};
use crate::forming::{FormError, Formed};
use crate::identity::DataDir;
use crate::metrics::{Metrics, Snapshot};
use crate::node::Summary;
use crate::peer::{LinkEvent, Network, NetworkConfig};
use crate::rpc;
use crate::rpc::cluster::own_status;
use crate::rpc::front::{Front, Identity, Running, Stage};
use crate::shell::{
    self, Admission, Fatal, Inbox, Mailbox, Repaired, SendToPeer, Shell, ShellParts,
};
use crate::tls::{AcceptCounters, Acceptor, AcceptorOptions, Material, Rejection};

/// How often this node's state is refreshed for the pings to its peers.
const STATUS_PERIOD: Duration = Duration::from_millis(200);

/// Peers of whose convergence pings tell. Where there are more, they tell of none: pings are sent often, to all of
/// them, and have to be short.
const TOLD_PEERS_MAX: usize = 16;

/// The addresses that were bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC for clients.
    pub client: SocketAddr,
    /// Links between nodes.
    pub peer: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
}

/// What the configuration does not say.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Called when the node cannot go on.
    pub fatal: Fatal,
    /// Length of new segments of the log. Two of them are written with zeros at the first start.
    pub segment_bytes: u64,
}

impl ServerOptions {
    /// The options of a production server.
    pub fn new(fatal: Fatal) -> Self {
        Self { fatal, segment_bytes: SEGMENT_BYTES_DEFAULT }
    }
}

/// A server that listens. Its node may still be on its way.
pub struct Server {
    addresses: Addresses,
    front: Arc<Front>,
    admission: Arc<Admission>,
    network: Arc<Network>,
    node: NodeState,
    stop_repair: Arc<AtomicBool>,
    rpc: JoinHandle<()>,
    stop_rpc: oneshot::Sender<()>,
    background: Vec<AbortHandle>,
    span: tracing::Span,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// The node of a server.
#[derive(Debug)]
enum NodeState {
    /// Forming or opening.
    Booting(JoinHandle<Result<Booted, ServerError>>),
    /// Driven by its shell.
    Running(Booted),
    /// It did not start; the error was given out.
    Failed,
}

/// A node that runs, in a directory that stays locked.
#[derive(Debug)]
struct Booted {
    shell: Shell,
    data_dir: Arc<DataDir>,
}

impl Server {
    /// Starts a server. On return it listens; [`Server::ready`] follows the rest.
    ///
    /// # Errors
    /// Any [`ServerError`]; nothing is left running then.
    pub async fn start(config: Config, options: ServerOptions) -> Result<Self, ServerError> {
        let span = tracing::info_span!("node", name = config.node.name);
        let scope = span.clone();
        Self::start_inside(config, options, span).instrument(scope).await
    }

    async fn start_inside(
        config: Config,
        options: ServerOptions,
        span: tracing::Span,
    ) -> Result<Self, ServerError> {
        let material = Material::load(&config.tls, &config.node.name)?;
        let data_dir = open_data_dir(&config).await?;
        let admin = listen_admin(config.listen.admin).await?;
        let acceptor = Acceptor::bind(
            config.listen.client,
            material.client_listener(),
            AcceptorOptions::default(),
        )
        .map_err(|source| listen_error("clients", config.listen.client, source))?;
        let mailbox = Mailbox::default();
        let boot = rand::random();
        let network = start_network(&config, &material, &data_dir, boot, mailbox.inbox())?;
        let addresses =
            Addresses { client: acceptor.local_addr(), peer: network.local_addr(), admin: admin.1 };
        let identity = Identity {
            cluster_name: config.cluster.name.clone(),
            name: config.node.name.clone(),
            id: data_dir.node(),
            client_address: config.client_address(addresses.client),
            peer_address: config.peer_address(addresses.peer),
            certificate_expiry: material.certificate_expiry(),
        };
        let metrics = Arc::new(Metrics::default());
        metrics.certificate_expiry("node", i64::try_from(identity.certificate_expiry).unwrap_or(0));
        let peers = Arc::clone(&network);
        let front = Arc::new(Front::new(identity, Arc::clone(&metrics), move || peers.peers()));
        let admission = Arc::new(Admission::default());
        let snapshot = Scrape {
            front: Arc::clone(&front),
            admission: Arc::clone(&admission),
            inbox: mailbox.inbox(),
            clients: acceptor.counters(),
            network: Arc::clone(&network),
        };
        let admin_page = Admin::new(addresses.admin, Arc::clone(&front), move || snapshot.take());
        let (stop_rpc, stopped) = oneshot::channel::<()>();
        let rpc =
            tokio::spawn(serve_clients(Arc::clone(&front), acceptor, stopped).in_current_span());
        let background = vec![
            tokio::spawn(admin_page.serve(admin.0).in_current_span()).abort_handle(),
            tokio::spawn(tell_peers(Arc::clone(&front), Arc::clone(&network))).abort_handle(),
        ];
        let stop_repair = Arc::new(AtomicBool::new(false));
        let booting = Booting {
            config,
            boot,
            data_dir: Arc::new(data_dir),
            stop: Arc::clone(&stop_repair),
            front: Arc::clone(&front),
            network: Arc::clone(&network),
            mailbox,
            admission: Arc::clone(&admission),
            metrics,
            options,
        };
        let node = NodeState::Booting(tokio::spawn(booting.run().in_current_span()));
        Ok(Self {
            addresses,
            front,
            admission,
            network,
            node,
            stop_repair,
            rpc,
            stop_rpc,
            background,
            span,
        })
    }

    /// The addresses that were bound.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Waits until the cluster has removed this node, for good: it has to stop. Cancel-safe.
    pub fn removed(&self) -> impl Future<Output = ServerError> + Send + use<> {
        let name = self.front.identity().name.clone();
        let removed = self.network.removed();
        async move {
            let subject = format!("node \"{name}\"");
            let error = FormError::Removed { name, witness: removed.await };
            Failure::from(error).subject(subject).into()
        }
    }

    /// Returns once everything that was committed at the start is applied and confirmed by one
    /// read index. Without a quorum it waits. Cancel-safe.
    ///
    /// # Errors
    /// Why the node did not start.
    pub async fn ready(&mut self) -> Result<(), ServerError> {
        if let NodeState::Booting(booting) = &mut self.node {
            let booted = booting.await.unwrap_or_else(|error| {
                Err(ServerError::Fatal(format!("the start of the node panicked: {error}")))
            });
            self.node = NodeState::Failed;
            self.node = NodeState::Running(booted?);
        }
        let NodeState::Running(Booted { shell, .. }) = &self.node else {
            return Err(ServerError::Fatal("the node did not start".into()));
        };
        let mut summaries = shell.handle().summaries();
        match summaries.wait_for(|summary| summary.ready).await {
            Ok(_) => Ok(()),
            Err(_) => Err(ServerError::Fatal("the node has stopped".into())),
        }
    }
}

/// Reads the records of the data directory, and the whole seed of one that was restored.
async fn open_data_dir(config: &Config) -> Result<DataDir, ServerError> {
    let (path, name) = (config.node.data_dir.clone(), config.node.name.clone());
    let cluster = config.cluster.name.clone();
    #[cfg(feature = "lab")]
    crate::lab::guard(&path)
        .map_err(|source| crate::identity::DataDirError::Io { path: path.clone(), source })?;
    let span = tracing::Span::current();
    let open = move || span.in_scope(|| DataDir::open(Arc::new(RealDisk), &path, &name, &cluster));
    let opened = tokio::task::spawn_blocking(open).await.map_err(|error| {
        ServerError::Fatal(format!("opening the data directory panicked: {error}"))
    })?;
    Ok(opened?)
}

fn listen_error(purpose: &'static str, address: SocketAddr, source: std::io::Error) -> ServerError {
    ServerError::Listen { purpose, address, source }
}

async fn listen_admin(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| listen_error("admin", address, source);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn start_network(
    config: &Config,
    material: &Material,
    data_dir: &DataDir,
    boot: u64,
    inbox: Inbox,
) -> Result<Arc<Network>, ServerError> {
    let sink = move |event| match event {
        LinkEvent::Up(node) => inbox.link(node, true),
        LinkEvent::Down(node) => inbox.link(node, false),
        LinkEvent::Message { from, message } => inbox.message(from, message),
        LinkEvent::Joining { name, node } => inbox.joining(name, node),
    };
    let network = NetworkConfig {
        cluster_name: config.cluster.name.clone(),
        node_name: config.node.name.clone(),
        node: data_dir.node(),
        boot,
        listen: config.listen.peer,
        initial: config.cluster.initial.clone(),
        join: config.cluster.join.clone(),
        seed: data_dir.seed(),
        formed: data_dir.formed().cloned(),
        members: data_dir.members().cloned(),
        members_file: Some(data_dir.members_file()),
        material: material.clone(),
    };
    Ok(Arc::new(Network::start(network, Arc::new(sink))?))
}

async fn serve_clients(front: Arc<Front>, acceptor: Acceptor, stopped: oneshot::Receiver<()>) {
    let shutdown = async {
        // A sender that is gone means the same.
        let _ = stopped.await;
    };
    if let Err(error) = rpc::serve(front, acceptor.into_stream(), shutdown).await {
        tracing::error!(%error, "the client port has ended");
    }
}

/// Keeps what pings tell the peers about this node up to date.
async fn tell_peers(front: Arc<Front>, network: Arc<Network>) {
    let mut period = tokio::time::interval(STATUS_PERIOD);
    let mut last = Summary::default();
    loop {
        period.tick().await;
        // Without a node there is nothing newer to say than what it was doing last.
        last = front.summary().unwrap_or(last);
        let mut status = own_status(front.identity(), &last, front.state());
        if let Some(convergence) = &mut status.convergence
            && convergence.peers.len() > TOLD_PEERS_MAX
        {
            convergence.peers.clear();
        }
        network.set_status(status);
    }
}

/// What a scrape reads.
struct Scrape {
    front: Arc<Front>,
    admission: Arc<Admission>,
    inbox: Inbox,
    clients: Arc<AcceptCounters>,
    network: Arc<Network>,
}

impl Scrape {
    fn take(&self) -> Snapshot {
        let connected = self.front.peers().into_iter().filter(|peer| peer.connected);
        let listeners = [("client", &*self.clients), ("peer", self.network.accept_counters())];
        let accepted = listeners.iter().map(|(name, counters)| (*name, counters.accepted()));
        let rejected = listeners.iter().flat_map(|(name, counters)| {
            Rejection::ALL.map(|reason| (*name, reason.as_str(), counters.rejected(reason)))
        });
        Snapshot {
            summary: self.front.summary(),
            peer_rtt: connected
                .map(|peer| (peer.name, Duration::from_micros(peer.rtt_us)))
                .collect(),
            admission_requests: self.admission.requests(),
            admission_bytes: self.admission.bytes(),
            admission_refused: self.admission.refused(),
            inbox_dropped: self.inbox.dropped(),
            unsent: self.network.dropped(),
            read_only: self.front.handle().is_ok_and(|handle| handle.log_is_full()),
            accepted: accepted.collect(),
            rejected: rejected.collect(),
        }
    }
}

/// What the background part of a start needs.
struct Booting {
    config: Config,
    boot: u64,
    /// Shared with what runs on the disk: the directory stays locked until that has ended, also when
    /// nobody waits for it any more.
    data_dir: Arc<DataDir>,
    /// Ends a repair.
    stop: Arc<AtomicBool>,
    front: Arc<Front>,
    network: Arc<Network>,
    mailbox: Mailbox,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    options: ServerOptions,
}

impl Booting {
    /// Forms the cluster or finds it formed, opens log and state, runs the node.
    async fn run(mut self) -> Result<Booted, ServerError> {
        let identity = self.front.identity().clone();
        let known = self.data_dir.formed().cloned();
        let formed_before = known.is_some();
        let formed = match known {
            Some(formed) => formed,
            None => {
                let formed = self.network.form().await?;
                let data_dir = Arc::get_mut(&mut self.data_dir);
                data_dir.expect("nothing runs on the disk yet").save_formed(&formed)?;
                formed
            }
        };
        self.front.set_stage(Stage::Opening);
        let plan = Plan {
            data_dir: self.config.node.data_dir.clone(),
            id: identity.id,
            name: identity.name.clone(),
            boot: self.boot,
            cluster: formed.cluster,
            founding: Founding { members: formed.members.clone(), joined: formed.joined },
            segment_bytes: self.options.segment_bytes,
            client_address: identity.client_address.clone(),
            peer_address: identity.peer_address.clone(),
        };
        let files = plan.files();
        let network = Arc::clone(&self.network);
        let send: SendToPeer = Arc::new(move |to, message| network.send(to, message));
        let opened = self.open(plan, &files, &send).await?;
        let commit_at_start = opened.commit;
        let cluster = formed.cluster;
        let campaign_with_links = self.campaign(&formed);
        if !formed_before {
            self.network.set_formed(formed);
        }
        let network = Arc::clone(&self.network);
        let parts = ShellParts {
            name: identity.name,
            node: opened.node,
            wal: opened.wal,
            files,
            mailbox: self.mailbox,
            admission: self.admission,
            send,
            tell_members: Box::new(move |members, removed| network.set_members(members, removed)),
            metrics: self.metrics,
            fatal: self.options.fatal,
            campaign_with_links,
        };
        let shell = Shell::start(parts)
            .map_err(|source| ServerError::System { what: "start the node's threads", source })?;
        let handle = shell.handle();
        self.front.set_stage(Stage::Running(Running { handle, cluster, commit_at_start }));
        Ok(Booted { shell, data_dir: self.data_dir })
    }

    /// Opens the node, after a repair if need be.
    async fn open(
        &mut self,
        plan: Plan,
        files: &DataFiles,
        send: &SendToPeer,
    ) -> Result<OpenNode, ServerError> {
        let damage = match open_blocking(plan.clone(), Arc::clone(&self.data_dir)).await? {
            Opened::Node(node) => return Ok(*node),
            Opened::Damaged(damage) => damage,
        };
        let (path, offset) = (damage.path.display().to_string(), damage.offset);
        tracing::error!(path, offset, why = damage.why, "data does not verify");
        check_repairable(&damage)?;
        let what = format!("{path} at byte {offset}: {}", damage.why);
        self.front.set_stage(Stage::Repairing(what));
        self.repair(files.clone(), damage, send).await?;
        tracing::warn!(path, "the data was fetched anew from the leader");
        self.front.set_stage(Stage::Opening);
        match open_blocking(plan, Arc::clone(&self.data_dir)).await? {
            Opened::Node(node) => Ok(*node),
            Opened::Damaged(damage) => Err(ServerError::damaged(&damage, "right after a repair")),
        }
    }

    /// Fetches what was lost and begins a new log with it.
    async fn repair(
        &mut self,
        files: DataFiles,
        damage: Damage,
        send: &SendToPeer,
    ) -> Result<(), ServerError> {
        let mailbox = std::mem::take(&mut self.mailbox);
        let (send, stop, span) =
            (Arc::clone(send), Arc::clone(&self.stop), tracing::Span::current());
        let lock = Arc::clone(&self.data_dir);
        let repair = move || {
            let repaired = span.in_scope(|| repair(&files, &damage, &mailbox, &send, &stop));
            drop(lock);
            (repaired, mailbox)
        };
        let (repaired, mailbox) = tokio::task::spawn_blocking(repair)
            .await
            .map_err(|error| ServerError::Fatal(format!("the repair panicked: {error}")))?;
        self.mailbox = mailbox;
        repaired
    }

    /// The first member stands for election as soon as it reaches a majority, so that a cluster
    /// that forms, or starts again as a whole, need not wait for an election timeout. Where there
    /// is a leader, the pre-vote fails and nothing changes (Raft thesis 9.6).
    fn campaign(&self, formed: &Formed) -> Option<usize> {
        let first = self.config.cluster.initial.first()?;
        let others_needed = formed.members.len() / 2;
        (first.name == self.config.node.name).then_some(others_needed)
    }
}

async fn open_blocking(plan: Plan, lock: Arc<DataDir>) -> Result<Opened, ServerError> {
    let span = tracing::Span::current();
    let open = move || {
        let opened = span.in_scope(|| boot::open(plan));
        drop(lock);
        opened
    };
    tokio::task::spawn_blocking(open)
        .await
        .map_err(|error| ServerError::Fatal(format!("opening the log panicked: {error}")))?
}

/// Fetches what was lost and begins a new log with it. Blocks on the links and the disk.
fn repair(
    files: &DataFiles,
    damage: &Damage,
    mailbox: &Mailbox,
    send: &SendToPeer,
    stop: &AtomicBool,
) -> Result<(), ServerError> {
    let groups = damage.groups.keys().copied().collect();
    match shell::repair(files, groups, mailbox, send, stop) {
        Repaired::Fetched(exports) => files
            .replace_log(damage, &exports)
            .map_err(|error| ServerError::log(files.wal_dir(), error)),
        Repaired::NoLeader => {
            let minutes = shell::REPAIR_PATIENCE.as_secs() / 60;
            let why = format!("no leader offered the data within {minutes} minutes");
            Err(ServerError::damaged(damage, &why))
        }
        Repaired::Stopped => Err(ServerError::Fatal("stopped during a repair".into())),
    }
}

/// Whether a damaged node may be repaired by others.
fn check_repairable(damage: &Damage) -> Result<(), ServerError> {
    match damage.refusal() {
        Some(reason) => Err(ServerError::damaged(damage, reason)),
        None => Ok(()),
    }
}
