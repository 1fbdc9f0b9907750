//! The nodes of a throw-away cluster, in one process.

use std::io;
use std::time::{Duration, Instant};

use proto::Code;
use tokio::task::JoinSet;

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

/// Running nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    servers: Vec<Server>,
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
    ) -> Result<Self, ServerError> {
        let mut attempt = 1;
        loop {
            let usual = if usual_ports { ports::usual(nodes) } else { None };
            let ports = match usual {
                Some(ports) => ports,
                None => ports::free(nodes)
                    .map_err(|source| ServerError::System { what: "find free ports", source })?,
            };
            match Self::start_on(directory, nodes, &ports, fatal).await {
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
    ) -> Result<Self, ServerError> {
        let mut cluster = Self { servers: Vec::new() };
        for name in names(nodes) {
            let options = ServerOptions { fatal: fatal.clone(), segment_bytes: SEGMENT_BYTES };
            match Server::start(config(directory, &name, nodes, ports)?, options).await {
                Ok(server) => cluster.servers.push(server),
                Err(error) => {
                    cluster.stop().await;
                    return Err(error);
                }
            }
        }
        let deadline = Instant::now() + READY_PATIENCE;
        for server in &mut cluster.servers {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match tokio::time::timeout(left, server.ready()).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(_) => {
                    let patience = READY_PATIENCE.as_secs();
                    ServerError::Fatal(format!("the cluster did not come up in {patience} s"))
                }
            };
            cluster.stop().await;
            return Err(error);
        }
        Ok(cluster)
    }

    /// The client addresses, in the form that `kv` takes.
    pub(super) fn endpoints(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.addresses().client.to_string()).collect()
    }

    /// The admin address of the first node.
    pub(super) fn admin(&self) -> Option<std::net::SocketAddr> {
        self.servers.first().map(|server| server.addresses().admin)
    }

    /// Stops all nodes at the same time.
    pub(super) async fn stop(self) {
        let mut stopping = JoinSet::new();
        for server in self.servers {
            stopping.spawn(server.stop());
        }
        stopping.join_all().await;
    }
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
