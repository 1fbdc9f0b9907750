//! What is done to the cluster: one fault each few minutes, in turn.

use std::time::Duration;

use client::CallOptions;
use jepsen::cluster::Cluster;
use tests::measure::{Failed, Place, leader_soon};

/// How long a node is paused.
const PAUSE: Duration = Duration::from_secs(3);
/// How long the cluster may take to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is done, again and again in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    KillLeader,
    PauseFollower,
    MoveLeader,
    KillFollower,
    PauseLeader,
}

const ORDER: [Kind; 5] = [
    Kind::KillLeader,
    Kind::PauseFollower,
    Kind::MoveLeader,
    Kind::KillFollower,
    Kind::PauseLeader,
];

/// A fault that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In words.
    pub what: String,
    /// The node that was started anew, if one was.
    pub restarted: Option<usize>,
}

/// Faults on schedule.
#[derive(Debug)]
pub struct Trouble {
    every: Duration,
    struck: u32,
}

impl Trouble {
    /// One fault each `every`.
    pub fn new(every: Duration) -> Self {
        Self { every, struck: 0 }
    }

    /// Does what is due. A node that was killed is started again and waited for, one that was paused is
    /// let go on; whoever is behind then catches up under load.
    ///
    /// # Errors
    /// Nobody leads when a fault is due, or the node does not come back.
    pub async fn strike(
        &mut self,
        now: Duration,
        cluster: &mut Cluster,
    ) -> Result<Option<Fault>, Failed> {
        if now < self.every * (self.struck + 1) {
            return Ok(None);
        }
        let kind = ORDER[self.struck as usize % ORDER.len()];
        self.struck += 1;
        let client = Place::connect(cluster, PATIENCE, 1)?;
        let leader = leader_soon(cluster, &client, PATIENCE).await?.node;
        let follower = (leader + 1) % cluster.len();
        let (node, verb) = match kind {
            Kind::KillLeader => (leader, "kill leader"),
            Kind::KillFollower => (follower, "kill follower"),
            Kind::PauseLeader => (leader, "pause leader"),
            Kind::PauseFollower => (follower, "pause follower"),
            Kind::MoveLeader => (follower, "leader to"),
        };
        let what = format!("{verb} {}", cluster.name(node));
        match kind {
            Kind::KillLeader | Kind::KillFollower => {
                cluster.kill(node);
                cluster.start(node)?;
                cluster.wait_ready(node, PATIENCE).await?;
                return Ok(Some(Fault { what, restarted: Some(node) }));
            }
            Kind::PauseLeader | Kind::PauseFollower => {
                cluster.pause(node)?;
                tokio::time::sleep(PAUSE).await;
                cluster.resume(node)?;
            }
            Kind::MoveLeader => {
                client.members().move_leader(cluster.name(node), &CallOptions::default()).await?;
            }
        }
        Ok(Some(Fault { what, restarted: None }))
    }
}
