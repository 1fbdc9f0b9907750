//! The nodes of a throw-away cluster, in one process.
//!
//! A node that the cluster removes is stopped, as `kvstore serve` would stop it; the others go on.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::Code;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::directory::Directory;
use super::ports::{self, NodePorts};
use crate::config::{
    AdvertiseSection, ClusterSection, Config, InitialMember, ListenSection, NodeSection, TlsSection,
};
use crate::server::{Server, ServerError, ServerOptions};
use crate::shell::Fatal;

/// Name of the cluster and of the context for `kv`.
pub(super) const NAME: &str = "dev";

/// Short segments of the log: a throw-away cluster is to be up at once and to take little space.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// A cluster that is not up by then does not come up.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// Attempts with other ports, for the case that another process takes one in between.
const PORT_ATTEMPTS: usize = 3;

/// Takes what there is to say beside the banner.
pub(super) type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Running nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    servers: Servers,
    /// One task per node, which stops the node when it is removed.
    watchers: JoinSet<()>,
    /// Ends those that still wait.
    stopping: CancellationToken,
}

/// The nodes that run, by name. Shared with those that stop a node which was removed.
#[derive(Clone, Debug, Default)]
struct Servers(Arc<Mutex<BTreeMap<String, Server>>>);

impl Servers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        // Whole at any time: only single insertions and removals are made under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }
}

/// Names of the nodes: n1, n2, ...
pub(super) fn names(nodes: u8) -> Vec<String> {
    (1..=nodes).map(|number| format!("n{number}")).collect()
}

impl Cluster {
    /// Starts all nodes and waits until they are ready.
    pub(super) async fn start(
        directory: &Directory,
        nodes: u8,
        usual_ports: bool,
        fatal: &Fatal,
        say: &Say,
    ) -> Result<Self, ServerError> {
        let mut attempt = 1;
        loop {
            let usual = if usual_ports { ports::usual(nodes) } else { None };
            let ports = match usual {
                Some(ports) => ports,
                None => ports::free(nodes)
                    .map_err(|source| ServerError::System { what: "find free ports", source })?,
            };
            match Self::start_on(directory, nodes, &ports, fatal, say).await {
                Err(ServerError::Listen { source, .. })
                    if source.kind() == io::ErrorKind::AddrInUse && attempt < PORT_ATTEMPTS =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn start_on(
        directory: &Directory,
        nodes: u8,
        ports: &[NodePorts],
        fatal: &Fatal,
        say: &Say,
    ) -> Result<Self, ServerError> {
        let mut servers = BTreeMap::new();
        for name in names(nodes) {
            let options = ServerOptions { fatal: fatal.clone(), segment_bytes: SEGMENT_BYTES };
            match Server::start(config(directory, &name, nodes, ports)?, options).await {
                Ok(server) => drop(servers.insert(name, server)),
                Err(error) => {
                    stop_all(servers).await;
                    return Err(error);
                }
            }
        }
        let deadline = Instant::now() + READY_PATIENCE;
        let mut running = BTreeMap::new();
        while let Some((name, mut server)) = servers.pop_first() {
            let left = deadline.saturating_duration_since(Instant::now());
            match settled(&name, &mut server, left).await {
                Ok(Settled::Ready) => drop(running.insert(name, server)),
                Ok(Settled::Removed) => {
                    say(&format!("note: the cluster has removed {name} (KV1708): not started"));
                    server.stop().await;
                }
                Err(error) => {
                    servers.insert(name, server);
                    servers.append(&mut running);
                    stop_all(servers).await;
                    return Err(error);
                }
            }
        }
        Ok(Self::watched(running, say))
    }

    /// From now on nodes that are removed are stopped.
    fn watched(running: BTreeMap<String, Server>, say: &Say) -> Self {
        let (mut watchers, stopping) = (JoinSet::new(), CancellationToken::new());
        let removals: Vec<_> =
            running.iter().map(|(name, server)| (name.clone(), server.removed())).collect();
        let servers = Servers(Arc::new(Mutex::new(running)));
        for (name, removed) in removals {
            let (servers, say, stopping) = (servers.clone(), Arc::clone(say), stopping.clone());
            watchers.spawn(async move {
                tokio::select! {
                    _ = removed => stop_removed(&name, &servers, &say).await,
                    () = stopping.cancelled() => {}
                }
            });
        }
        Self { servers, watchers, stopping }
    }

    /// The names of the nodes that run.
    pub(super) fn running(&self) -> Vec<String> {
        self.servers.names()
    }

    /// The client addresses, in the form that `kv` takes.
    pub(super) fn endpoints(&self) -> Vec<String> {
        let servers = self.servers.lock();
        servers.values().map(|server| server.addresses().client.to_string()).collect()
    }

    /// The admin address of the first node.
    pub(super) fn admin(&self) -> Option<std::net::SocketAddr> {
        self.servers.lock().values().next().map(|server| server.addresses().admin)
    }

    /// Stops all nodes at the same time.
    pub(super) async fn stop(self) {
        self.stopping.cancel();
        let servers = std::mem::take(&mut *self.servers.lock());
        stop_all(servers).await;
        self.watchers.join_all().await;
    }
}

/// What becomes of a node that was started.
enum Settled {
    Ready,
    Removed,
}

async fn settled(
    name: &str,
    server: &mut Server,
    patience: Duration,
) -> Result<Settled, ServerError> {
    let removed = server.removed();
    tokio::select! {
        ready = server.ready() => ready.map(|()| Settled::Ready),
        _ = removed => Ok(Settled::Removed),
        () = tokio::time::sleep(patience) => {
            let patience = READY_PATIENCE.as_secs();
            let why = format!("the cluster did not come up in {patience} s: {name} is not ready");
            Err(ServerError::Fatal(why))
        }
    }
}

/// Stops a node that the cluster has removed.
async fn stop_removed(name: &str, servers: &Servers, say: &Say) {
    // Gone already where the whole cluster is being stopped.
    let Some(server) = servers.lock().remove(name) else { return };
    let others = servers.names().join(", ");
    server.stop().await;
    say(&format!("note: the cluster has removed {name} (KV1708): stopped; {others} go on"));
}

async fn stop_all(servers: BTreeMap<String, Server>) {
    let mut stopping = JoinSet::new();
    for server in servers.into_values() {
        stopping.spawn(server.stop());
    }
    stopping.join_all().await;
}

fn config(
    directory: &Directory,
    name: &str,
    nodes: u8,
    ports: &[NodePorts],
) -> Result<Config, ServerError> {
    let all = names(nodes);
    let position = all.iter().position(|other| other == name);
    let own = position.and_then(|at| ports.get(at)).copied();
    let own = own.expect("there are ports for every node");
    let initial = all.into_iter().zip(ports).map(|(name, ports)| {
        let address =
            ports.peer.to_string().parse().map_err(|why: String| {
                proto::Failure::new(Code::ConfigInvalid, "peer address", why)
            })?;
        Ok::<_, ServerError>(InitialMember { name, address })
    });
    let files = directory.node_files(name);
    Ok(Config {
        node: NodeSection { name: name.to_owned(), data_dir: directory.data_dir(name) },
        listen: ListenSection { client: own.client, peer: own.peer, admin: own.admin },
        advertise: AdvertiseSection::default(),
        cluster: ClusterSection {
            name: NAME.to_owned(),
            initial: initial.collect::<Result<_, _>>()?,
            join: Vec::new(),
        },
        tls: TlsSection { ca: files.ca, cert: files.cert, key: files.key },
    })
}
