//! Nemeses: what is done to a cluster while clients use it.
//!
//! A nemesis strikes again and again, with calm in between that is longer than an election, so that
//! both calm and disturbed operation are seen. After each strike all nodes are ready again. What it
//! does follows from its seed.

mod kill;
mod pause;

use std::time::Duration;

use client::CallOptions;
use proto::v1::Role;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::error::LabError;
use crate::recorder::Recorder;

/// How long all nodes may take to become ready after a fault.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// Time without a fault, in milliseconds.
const CALM_MS: std::ops::Range<u64> = 500..2_500;

/// Timeout of the question who leads.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// What disturbs the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NemesisKind {
    /// Nothing.
    #[default]
    None,
    /// SIGKILL of one node, the leader or all nodes, and restarts.
    Kill,
    /// SIGSTOP of one node or the leader, and SIGCONT: a node that does not notice how late it is.
    Pause,
}

impl NemesisKind {
    /// The word of the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Pause => "pause",
        }
    }
}

/// One thing that was done, for the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What was done, such as `kill leader`.
    pub what: &'static str,
    /// To which nodes.
    pub nodes: Vec<String>,
    /// When it began, in nanoseconds of the history's clock.
    pub begin_ns: u64,
    /// When the nodes had recovered; `None` if the run ended first.
    pub end_ns: Option<u64>,
}

/// Disturbs the cluster until `stop` becomes true, and adds what it did to `faults`. All nodes are
/// ready when it returns.
///
/// # Errors
///
/// [`LabError::Node`] if a node ends by itself or does not become ready again: that is a finding,
/// too.
pub async fn run(
    kind: NemesisKind,
    seed: u64,
    cluster: &mut Cluster,
    recorder: &Recorder,
    mut stop: watch::Receiver<bool>,
    faults: &mut Vec<Fault>,
) -> Result<(), LabError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    loop {
        let calm = Duration::from_millis(rng.random_range(CALM_MS));
        let stopped = tokio::time::timeout(calm, stop.wait_for(|stop| *stop)).await.is_ok();
        cluster.check_alive()?;
        if stopped {
            return Ok(());
        }
        let mut strike = Strike { rng: &mut rng, cluster, recorder, faults };
        match kind {
            NemesisKind::None => continue,
            NemesisKind::Kill => kill::strike(&mut strike).await?,
            NemesisKind::Pause => pause::strike(&mut strike).await?,
        }
        cluster.wait_all_ready(RECOVERY_MAX).await?;
        if let Some(fault) = faults.last_mut() {
            fault.end_ns = Some(recorder.now_ns());
        }
    }
}

/// What a strike works with.
struct Strike<'r> {
    rng: &'r mut ChaCha8Rng,
    cluster: &'r mut Cluster,
    recorder: &'r Recorder,
    faults: &'r mut Vec<Fault>,
}

impl Strike<'_> {
    /// A random node.
    fn random_node(&mut self) -> usize {
        self.rng.random_range(0..self.cluster.len())
    }

    /// The node that leads, as the cluster says; a random one if nobody answers or knows.
    async fn leader(&mut self) -> Result<usize, LabError> {
        let random = self.random_node();
        let client = self.cluster.client(self.cluster.endpoints(), STATUS_TIMEOUT)?;
        let Ok(status) = client.status(&CallOptions::default()).await else { return Ok(random) };
        let leader = status.nodes.into_iter().find(|node| node.role() == Role::Leader);
        let name = leader.and_then(|node| node.member).map(|member| member.name);
        Ok(name.and_then(|name| self.cluster.find(&name)).unwrap_or(random))
    }

    /// Notes what is about to be done.
    fn note(&mut self, what: &'static str, nodes: &[usize]) {
        let nodes = nodes.iter().map(|&node| self.cluster.name(node).to_owned()).collect();
        self.faults.push(Fault { what, nodes, begin_ns: self.recorder.now_ns(), end_ns: None });
    }

    /// Lets some time pass, in milliseconds.
    async fn wait(&mut self, range_ms: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(range_ms))).await;
    }
}
