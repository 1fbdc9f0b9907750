//! A cluster of real processes on this machine.
//!
//! Each node is a `kvstore serve` process with its own configuration and data below one directory,
//! on free ports of 127.0.0.1, with certificates of a CA made for the cluster. Nodes can be killed,
//! stopped, paused and started again; only processes that this cluster started are ever signalled.
//! Should the lab itself be killed, a process beside it ends the nodes.
//!
//! ```text
//! DIR/pki/            ca.crt, ca.key, n1.crt, n1.key .., lab.crt, lab.key
//! DIR/n1/config.toml  DIR/n1/data/  DIR/n1/log  DIR/n1/clock
//! ```
//!
//! Dropping the cluster kills all its processes. A temporary directory is then removed, unless
//! something panicked or [`Cluster::keep`] was called, so that logs survive failures.

mod clock;
mod files;
mod guardian;
mod node;
mod ports;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use client::pki::{self, Credentials};
use client::{Client, Config};
use tempfile::TempDir;

pub use self::clock::{ClockLibrary, NodeClock};
use self::guardian::Guardian;
use self::node::Node;
use crate::error::LabError;
use crate::network::{Listening, Network, Processes};
use crate::target::{Given, Target};

/// Most nodes of a cluster.
pub const NODES_MAX: usize = 9;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The server binary.
    pub binary: PathBuf,
    /// Number of nodes, 1 to [`NODES_MAX`]; they are named n1, n2 and so on.
    pub nodes: usize,
    /// Where everything goes; must be empty or absent. `None`: a temporary directory.
    pub dir: Option<PathBuf>,
}

/// A cluster of processes; see the module.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    pki: PathBuf,
    /// The proxies in front of the nodes, if there are any.
    network: Option<Network>,
    /// The processes that run, for the proxies.
    processes: Processes,
    /// Dropped after the nodes have ended.
    guardian: Guardian,
    /// Dropped last, after the processes.
    dir: Directory,
}

#[derive(Debug)]
enum Directory {
    Given(PathBuf),
    /// `None` once it is to be kept.
    Temporary(Option<TempDir>),
}

impl Cluster {
    /// Writes certificates and configurations. Starts nothing yet.
    ///
    /// # Errors
    ///
    /// [`LabError::Parameters`], [`LabError::Io`] and [`LabError::Client`].
    pub fn create(options: &ClusterOptions) -> Result<Self, LabError> {
        if !(1..=NODES_MAX).contains(&options.nodes) {
            let why = format!("a cluster has 1 to {NODES_MAX} nodes, not {}", options.nodes);
            return Err(LabError::Parameters(why));
        }
        let binary = options.binary.canonicalize().map_err(LabError::io(&options.binary))?;
        let (dir, root) = match &options.dir {
            Some(dir) => {
                files::create_empty(dir)?;
                let dir = dir.canonicalize().map_err(LabError::io(dir))?;
                (Directory::Given(dir.clone()), dir)
            }
            None => {
                let parent = std::env::temp_dir();
                let dir = tempfile::Builder::new().prefix("kv-lab-").tempdir();
                let dir = dir.map_err(LabError::io(&parent))?;
                let root = dir.path().to_owned();
                (Directory::Temporary(Some(dir)), root)
            }
        };
        let pki = root.join("pki");
        let names: Vec<String> = (1..=options.nodes).map(|n| format!("n{n}")).collect();
        files::create_pki(&pki, &names)?;
        let ports = ports::free(names.len()).map_err(LabError::io(&root))?;
        let mut nodes = Vec::new();
        for (name, own) in names.iter().zip(&ports) {
            let config = files::write_config(&root, name, *own, &names, &ports)?;
            nodes.push(Node::new(&binary, name, &root, config, *own));
        }
        let guardian = Guardian::start().map_err(LabError::io(Path::new("sh")))?;
        let processes = Processes::default();
        Ok(Self { nodes, pki, network: None, processes, guardian, dir })
    }

    /// Creates a cluster in which everybody reaches a node by its proxies only. Must be called within
    /// the async runtime.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create), and [`LabError::Io`] if no proxy can listen.
    pub fn create_proxied(options: &ClusterOptions) -> Result<Self, LabError> {
        let mut cluster = Self::create(options)?;
        let listening: Vec<Listening> =
            cluster.nodes.iter().map(|node| node.ports().listening()).collect();
        let network = Network::start(&listening, Arc::clone(&cluster.processes));
        cluster.network = Some(network.map_err(LabError::io(Path::new("a proxy")))?);
        let all: Vec<usize> = (0..cluster.len()).collect();
        for node in 0..cluster.len() {
            files::set_advertised(cluster.config(node), &cluster.peer_address(node))?;
            cluster.forms_with(node, &all)?;
        }
        Ok(cluster)
    }

    /// The proxies, if the cluster has any.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Tells proxies and guardian which processes there are.
    fn note_processes(&mut self) -> Result<(), LabError> {
        let running = self.nodes.iter().enumerate();
        let running: Vec<(usize, u32)> =
            running.filter_map(|(number, node)| Some((number, node.process_id()?))).collect();
        let mut known = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tell = || -> std::io::Result<()> {
            for (_, gone) in known.iter().filter(|process| !running.contains(process)) {
                self.guardian.ended(*gone)?;
            }
            for (_, new) in running.iter().filter(|process| !known.contains(process)) {
                self.guardian.started(*new)?;
            }
            Ok(())
        };
        let told = tell();
        *known = running;
        told.map_err(LabError::io(Path::new("the guardian of the nodes")))
    }

    /// Creates a cluster, starts all nodes and waits until they are ready.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create), [`start`](Self::start) and
    /// [`wait_ready`](Self::wait_ready).
    pub async fn boot(options: &ClusterOptions, patience: Duration) -> Result<Self, LabError> {
        let mut cluster = Self::create(options)?;
        cluster.start_all()?;
        cluster.wait_all_ready(patience).await?;
        Ok(cluster)
    }

    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes; never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The directory of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        match &self.dir {
            Directory::Given(dir) => dir,
            Directory::Temporary(dir) => {
                dir.as_ref().expect("the directory is given up only when dropped").path()
            }
        }
    }

    /// Lets a temporary directory stay when the cluster is dropped.
    pub fn keep(&mut self) {
        if let Directory::Temporary(dir) = &mut self.dir
            && let Some(dir) = dir.take()
        {
            self.dir = Directory::Given(dir.keep());
        }
    }

    /// The name of a node.
    ///
    /// # Panics
    ///
    /// This and all calls with a node number panic if there is no such node.
    #[must_use]
    pub fn name(&self, node: usize) -> &str {
        self.nodes[node].name()
    }

    /// The number of the node with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name() == name)
    }

    /// The file that receives all output of a node.
    #[must_use]
    pub fn log(&self, node: usize) -> &Path {
        self.nodes[node].log()
    }

    /// The directory in which a node keeps its data.
    #[must_use]
    pub fn data_dir(&self, node: usize) -> PathBuf {
        files::data_dir(self.dir(), self.name(node))
    }

    /// The configuration file of a node; changes take effect at its next start.
    #[must_use]
    pub fn config(&self, node: usize) -> &Path {
        self.nodes[node].config()
    }

    /// The file from which a server built with the feature `lab` reads what to do to itself.
    #[must_use]
    pub fn instructions(&self, node: usize) -> PathBuf {
        self.nodes[node].instructions()
    }

    /// Lets the lab move the wall clock of each node, from their next start on.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the file of a clock cannot be written.
    pub fn clocks_by(&mut self, library: &ClockLibrary) -> Result<(), LabError> {
        self.nodes.iter_mut().try_for_each(|node| node.clock_by(library))
    }

    /// The wall clock of a node, if the lab can move it.
    #[must_use]
    pub fn clock(&self, node: usize) -> Option<&NodeClock> {
        self.nodes[node].clock()
    }

    /// Starts a node that is not running. Returns at once; see [`wait_ready`](Self::wait_ready).
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the binary, the log or the guardian cannot be used.
    pub fn start(&mut self, node: usize) -> Result<(), LabError> {
        self.nodes[node].start()?;
        self.note_processes()
    }

    /// Starts all nodes that are not running.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start); the nodes before it are running then.
    pub fn start_all(&mut self) -> Result<(), LabError> {
        let idle: Vec<usize> = (0..self.len()).filter(|node| !self.is_started(*node)).collect();
        idle.into_iter().try_for_each(|node| self.start(node))
    }

    /// Waits until a node has printed its `ready` line.
    ///
    /// # Errors
    ///
    /// [`LabError::Node`] if the process ends first, is not running, or takes longer than that.
    pub async fn wait_ready(&mut self, node: usize, patience: Duration) -> Result<(), LabError> {
        self.nodes[node].wait_ready(patience).await
    }

    /// Whether a node has printed its `ready` line since it was started.
    #[must_use]
    pub fn is_ready(&self, node: usize) -> bool {
        self.nodes[node].is_ready()
    }

    /// Waits until all nodes are ready, all together no longer than `patience`.
    ///
    /// # Errors
    ///
    /// Those of [`wait_ready`](Self::wait_ready).
    pub async fn wait_all_ready(&mut self, patience: Duration) -> Result<(), LabError> {
        let deadline = tokio::time::Instant::now() + patience;
        for node in &mut self.nodes {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            node.wait_ready(left).await?;
        }
        Ok(())
    }

    /// Kills a node as a power switch would (SIGKILL) and waits for its end. No effect on one
    /// that is not running.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
        // Without a guardian the node is dead as well.
        let _ = self.note_processes();
    }

    /// Asks a node to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    ///
    /// [`LabError::Node`] if it is not running or takes longer than `patience`; it keeps running.
    pub async fn terminate(
        &mut self,
        node: usize,
        patience: Duration,
    ) -> Result<ExitStatus, LabError> {
        let status = self.nodes[node].terminate(patience).await?;
        self.note_processes()?;
        Ok(status)
    }

    /// Stops the clock of a node (SIGSTOP): its connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// [`LabError::Node`] if it is not running.
    pub fn pause(&mut self, node: usize) -> Result<(), LabError> {
        self.nodes[node].pause()
    }

    /// Lets a paused node go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// [`LabError::Node`] if it is not running.
    pub fn resume(&mut self, node: usize) -> Result<(), LabError> {
        self.nodes[node].resume()
    }

    /// Whether a node was started and has not been stopped by us. It may have ended by itself.
    #[must_use]
    pub fn is_started(&self, node: usize) -> bool {
        self.nodes[node].is_started()
    }

    /// The id of a node's process, to look at; `None` while it is not started.
    #[must_use]
    pub fn process_id(&self, node: usize) -> Option<u32> {
        self.nodes[node].process_id()
    }

    /// Fails if a node ended though nobody stopped it.
    ///
    /// # Errors
    ///
    /// [`LabError::Node`] naming the first one, with its exit status and the end of its log.
    pub fn check_alive(&mut self) -> Result<(), LabError> {
        self.nodes.iter_mut().try_for_each(Node::check_alive)
    }

    /// Fails if a node ended though nobody stopped it.
    ///
    /// # Errors
    ///
    /// [`LabError::Node`] with its exit status and the end of its log.
    pub fn check_node(&mut self, node: usize) -> Result<(), LabError> {
        self.nodes[node].check_alive()
    }

    /// The client address of a node, or that of its proxy.
    #[must_use]
    pub fn endpoint(&self, node: usize) -> String {
        match &self.network {
            Some(network) => network.proxied(node).client.to_string(),
            None => self.nodes[node].ports().client_address(),
        }
    }

    /// Where a node listens for the others, or its proxy does.
    #[must_use]
    pub fn peer_address(&self, node: usize) -> String {
        match &self.network {
            Some(network) => network.proxied(node).peer.to_string(),
            None => self.nodes[node].ports().peer_address(),
        }
    }

    /// Lets a node form a cluster with these, itself among them, from its next start on.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] and [`LabError::Parameters`]: the configuration cannot be changed.
    pub fn forms_with(&self, node: usize, members: &[usize]) -> Result<(), LabError> {
        let initial = members
            .iter()
            .map(|member| format!("{}={}", self.name(*member), self.peer_address(*member)));
        files::set_members(self.config(node), "initial", initial.collect())
    }

    /// Lets a node join these, from its next start on.
    ///
    /// # Errors
    ///
    /// Those of [`forms_with`](Self::forms_with).
    pub fn joins(&self, node: usize, members: &[usize]) -> Result<(), LabError> {
        let join = members.iter().map(|member| self.peer_address(*member));
        files::set_members(self.config(node), "join", join.collect())
    }

    /// The admin address (HTTP) of a node.
    #[must_use]
    pub fn admin_address(&self, node: usize) -> String {
        self.nodes[node].ports().admin_address()
    }

    /// The client addresses of all nodes.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.len()).map(|node| self.endpoint(node)).collect()
    }

    /// The directory of the certificates, with `ca.crt`, and `lab.crt` and `lab.key` of a client.
    #[must_use]
    pub fn pki(&self) -> &Path {
        &self.pki
    }

    /// The certificate of the lab's own client.
    ///
    /// # Errors
    ///
    /// [`LabError::Client`] if the files cannot be used.
    pub fn credentials(&self) -> Result<Credentials, LabError> {
        let [ca, cert, key] =
            ["ca.crt", files::CLIENT_CERT, files::CLIENT_KEY].map(|name| self.pki.join(name));
        pki::load(&ca, &cert, &key).map_err(LabError::client("load certificates"))
    }

    /// The cluster as those see it who only talk to it.
    #[must_use]
    pub fn given(&self) -> Given {
        Given {
            endpoints: self.endpoints(),
            ca: self.pki.join("ca.crt"),
            cert: self.pki.join(files::CLIENT_CERT),
            key: self.pki.join(files::CLIENT_KEY),
            keyspace: None,
        }
    }

    /// What a client of these endpoints and no others is set up with.
    ///
    /// # Errors
    ///
    /// Those of [`credentials`](Self::credentials).
    pub fn client_config(
        &self,
        endpoints: Vec<String>,
        timeout: Duration,
    ) -> Result<Config, LabError> {
        let credentials = self.credentials()?;
        Ok(Config { timeout, discover: false, ..Config::new(endpoints, credentials) })
    }

    /// A client of these endpoints and no others.
    ///
    /// # Errors
    ///
    /// [`LabError::Client`] if the certificates cannot be used.
    pub fn client(&self, endpoints: Vec<String>, timeout: Duration) -> Result<Client, LabError> {
        let config = self.client_config(endpoints, timeout)?;
        Client::connect(config).map_err(LabError::client("set up a client"))
    }
}

impl Target for Cluster {
    fn endpoints(&self) -> Vec<String> {
        Self::endpoints(self)
    }

    fn client(&self, endpoints: Vec<String>, timeout: Duration) -> Result<Client, LabError> {
        Self::client(self, endpoints, timeout)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
        // All have ended, and the guardian must not kill others that got their numbers.
        let _ = self.note_processes();
        if std::thread::panicking() {
            self.keep();
            eprintln!("the files of the cluster are kept in {}", self.dir().display());
        }
    }
}
