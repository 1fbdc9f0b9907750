//! What all nemeses of a run share: the cluster, who strikes which node, and the record.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{CallOptions, Client};
use proto::v1::Role;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep};

use super::fault::Faults;
use crate::cluster::Cluster;
use crate::error::LabError;
use crate::network::{Rule, Site};
use crate::recorder::Recorder;

/// How often a condition is looked at.
pub const LOOK: Duration = Duration::from_millis(25);

/// Timeout of the question who leads.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// The shared part; see the module.
///
/// Invariants: a node is struck by one nemesis of processes or files at a time, and at most one node
/// has lost anything that it had promised to keep, so that a majority of whole nodes stays.
#[derive(Debug)]
pub struct Field {
    /// Locked for moments, never while a nemesis lets time pass.
    pub cluster: AsyncMutex<Cluster>,
    /// Number of nodes.
    pub nodes: usize,
    /// Names of the nodes.
    pub names: Vec<String>,
    /// A client of all nodes for questions and changes of members.
    pub client: Client,
    /// The clock of the history.
    pub recorder: Recorder,
    /// What was done.
    pub faults: Faults,
    claims: Arc<Mutex<Claims>>,
    /// What each nemesis has told each node to do to itself.
    instructions: Mutex<BTreeMap<(usize, &'static str), String>>,
}

#[derive(Debug, Default)]
struct Claims {
    struck: BTreeSet<usize>,
    lossy: bool,
}

/// Nodes that nobody else strikes while this is held.
#[derive(Debug)]
pub struct Claim {
    claims: Arc<Mutex<Claims>>,
    nodes: Vec<usize>,
    lossy: bool,
}

impl Claim {
    /// The nodes.
    pub fn nodes(&self) -> &[usize] {
        &self.nodes
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        for node in &self.nodes {
            claims.struck.remove(node);
        }
        claims.lossy &= !self.lossy;
    }
}

impl Field {
    /// Shares this cluster.
    ///
    /// # Errors
    ///
    /// [`LabError::Client`] if the certificates cannot be used.
    pub fn new(cluster: Cluster, recorder: Recorder, faults: Faults) -> Result<Self, LabError> {
        let client = cluster.client(cluster.endpoints(), STATUS_TIMEOUT)?;
        Ok(Self {
            nodes: cluster.len(),
            names: (0..cluster.len()).map(|node| cluster.name(node).to_owned()).collect(),
            client,
            recorder,
            faults,
            claims: Arc::default(),
            instructions: Mutex::default(),
            cluster: AsyncMutex::new(cluster),
        })
    }

    /// Claims those of these nodes that nobody strikes; `None` if there are none.
    pub fn claim(&self, nodes: &[usize]) -> Option<Claim> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let free: Vec<usize> =
            nodes.iter().copied().filter(|node| !claims.struck.contains(node)).collect();
        if free.is_empty() {
            return None;
        }
        claims.struck.extend(&free);
        Some(Claim { claims: Arc::clone(&self.claims), nodes: free, lossy: false })
    }

    /// Claims a node to take something from it; `None` while that or another node is struck so.
    pub fn claim_lossy(&self, node: usize) -> Option<Claim> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.lossy || !claims.struck.insert(node) {
            return None;
        }
        claims.lossy = true;
        Some(Claim { claims: Arc::clone(&self.claims), nodes: vec![node], lossy: true })
    }

    /// The node that leads, as the cluster says; `None` if nobody answers or knows.
    pub async fn leader(&self) -> Option<usize> {
        let status = self.client.status(&CallOptions::default()).await.ok()?;
        let leader = status.nodes.into_iter().find(|node| node.role() == Role::Leader);
        let name = leader?.member?.name;
        self.names.iter().position(|known| *known == name)
    }

    /// Replaces the rules that a nemesis has made for the network.
    pub async fn set_network(&self, layer: &'static str, rules: Vec<(Site, Site, Rule)>) {
        if let Some(network) = self.cluster.lock().await.network() {
            network.set(layer, rules);
        }
    }

    /// How often any rule of the network had an effect so far.
    pub async fn network_effects(&self) -> u64 {
        let cluster = self.cluster.lock().await;
        cluster.network().map_or(0, |network| network.counters().effects())
    }

    /// Tells a node what to do to itself, as lines of its file of instructions; nothing ends what this
    /// nemesis told it before. The node follows within a moment.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the file cannot be written.
    pub async fn instruct(
        &self,
        node: usize,
        layer: &'static str,
        lines: &str,
    ) -> Result<(), LabError> {
        let path = self.cluster.lock().await.instructions(node);
        let mut all = self.instructions.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((node, layer), lines.to_owned());
        let own = all.iter().filter(|((told, _), _)| *told == node);
        let text: String = own.map(|(_, lines)| lines.as_str()).collect();
        // The node never sees half a file.
        let new = path.with_extension("new");
        fs::write(&new, text).map_err(LabError::io(&new))?;
        fs::rename(&new, &path).map_err(LabError::io(&path))
    }

    /// The sum of these counts of what a node did to itself since it was started.
    pub async fn counted(&self, node: usize, names: &[&str]) -> u64 {
        let path = self.cluster.lock().await.instructions(node).with_extension("counts");
        let text = fs::read_to_string(path).unwrap_or_default();
        let counts: toml::Table = text.parse().unwrap_or_default();
        let all = names.iter().filter_map(|name| counts.get(*name)?.as_integer());
        all.filter_map(|count| u64::try_from(count).ok()).sum()
    }

    /// Fails if a node that nobody strikes has ended, or a proxy has.
    ///
    /// # Errors
    ///
    /// [`LabError::Node`] with the end of its log.
    pub async fn check_unstruck(&self) -> Result<(), LabError> {
        let mut cluster = self.cluster.lock().await;
        if cluster.network().is_some_and(|network| !network.is_alive()) {
            return Err(LabError::Parameters("a proxy of the lab has ended".to_owned()));
        }
        for node in 0..self.nodes {
            // It may be struck at any moment, but not while the cluster is locked.
            let struck = {
                let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
                claims.struck.contains(&node)
            };
            if !struck {
                cluster.check_node(node)?;
            }
        }
        Ok(())
    }

    /// Ends all nodes.
    pub async fn kill_all(&self) {
        let mut cluster = self.cluster.lock().await;
        (0..self.nodes).for_each(|node| cluster.kill(node));
    }

    /// Waits until these nodes are ready.
    ///
    /// # Errors
    ///
    /// [`LabError::Node`] if one ends by itself or takes longer than `patience`.
    pub async fn wait_ready(&self, nodes: &[usize], patience: Duration) -> Result<(), LabError> {
        let deadline = Instant::now() + patience;
        loop {
            let mut cluster = self.cluster.lock().await;
            for &node in nodes {
                cluster.check_node(node)?;
            }
            let late = nodes.iter().copied().find(|node| !cluster.is_ready(*node));
            let Some(late) = late else { return Ok(()) };
            if Instant::now() >= deadline {
                // Says what it waited for, with the end of its log.
                return cluster.wait_ready(late, Duration::ZERO).await;
            }
            drop(cluster);
            sleep(LOOK).await;
        }
    }
}
