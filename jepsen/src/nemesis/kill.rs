//! Kills nodes with SIGKILL and starts them again.

use std::time::Duration;

use client::CallOptions;
use proto::v1::Role;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Fault;
use crate::cluster::Cluster;
use crate::error::LabError;
use crate::recorder::Recorder;

/// How long all nodes may take to become ready after a fault.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// Time without a fault, in milliseconds. Longer than an election, so that both calm and disturbed
/// operation are seen.
const CALM_MS: std::ops::Range<u64> = 500..2_500;

/// Time between a kill and the restart, in milliseconds.
const DOWN_MS: std::ops::Range<u64> = 0..2_000;

/// Timeout of the question who leads.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Whom to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// A random node.
    One,
    /// The leader; a random node if nobody knows one.
    Leader,
    /// All nodes at once.
    All,
}

impl Kill {
    const ALL: [Self; 3] = [Self::One, Self::Leader, Self::All];

    /// The words of the report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::One => "kill one",
            Self::Leader => "kill leader",
            Self::All => "kill all",
        }
    }
}

/// Kills and restarts nodes at random, by its seed.
#[derive(Debug)]
pub struct KillNemesis {
    rng: ChaCha8Rng,
}

impl KillNemesis {
    /// A nemesis whose choices follow from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Disturbs the cluster until `stop` becomes true, and adds what it did to `faults`. All nodes
    /// are ready again when it returns.
    ///
    /// # Errors
    ///
    /// [`LabError::Node`] if a node ends by itself or does not become ready again: that is a
    /// finding, too.
    pub async fn run(
        mut self,
        cluster: &mut Cluster,
        recorder: &Recorder,
        mut stop: watch::Receiver<bool>,
        faults: &mut Vec<Fault>,
    ) -> Result<(), LabError> {
        loop {
            let calm = Duration::from_millis(self.rng.random_range(CALM_MS));
            let stopped = tokio::time::timeout(calm, stop.wait_for(|stop| *stop)).await.is_ok();
            cluster.check_alive()?;
            if stopped {
                return Ok(());
            }
            self.strike(cluster, recorder, faults).await?;
        }
    }

    /// Kills, waits, starts again and waits for recovery.
    async fn strike(
        &mut self,
        cluster: &mut Cluster,
        recorder: &Recorder,
        faults: &mut Vec<Fault>,
    ) -> Result<(), LabError> {
        let kill = Kill::ALL[self.rng.random_range(0..Kill::ALL.len())];
        let victims = self.victims(cluster, kill).await?;
        faults.push(Fault {
            what: kill.as_str().to_owned(),
            nodes: victims.iter().map(|&node| cluster.name(node).to_owned()).collect(),
            begin_ns: recorder.now_ns(),
            end_ns: None,
        });
        for &node in &victims {
            cluster.kill(node);
        }
        sleep(Duration::from_millis(self.rng.random_range(DOWN_MS))).await;
        for &node in &victims {
            cluster.start(node)?;
        }
        cluster.wait_all_ready(RECOVERY_MAX).await?;
        if let Some(fault) = faults.last_mut() {
            fault.end_ns = Some(recorder.now_ns());
        }
        Ok(())
    }

    async fn victims(&mut self, cluster: &Cluster, kill: Kill) -> Result<Vec<usize>, LabError> {
        let random = self.rng.random_range(0..cluster.len());
        Ok(match kill {
            Kill::One => vec![random],
            Kill::All => (0..cluster.len()).collect(),
            Kill::Leader => vec![leader(cluster).await?.unwrap_or(random)],
        })
    }
}

/// The node that leads, as the cluster says; `None` if nobody answers or knows.
async fn leader(cluster: &Cluster) -> Result<Option<usize>, LabError> {
    let client = cluster.client(cluster.endpoints(), STATUS_TIMEOUT)?;
    let Ok(status) = client.status(&CallOptions::default()).await else { return Ok(None) };
    let leader = status.nodes.into_iter().find(|node| node.role() == Role::Leader);
    let name = leader.and_then(|node| node.member).map(|member| member.name);
    Ok(name.and_then(|name| cluster.find(&name)))
}
