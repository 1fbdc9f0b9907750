//! Where a measured cluster lies, and clients of it.

use std::path::PathBuf;
use std::time::Duration;

use client::{CallOptions, Client, Config};
use jepsen::cluster::{Cluster, ClusterOptions};
use tokio::time::{Instant, sleep};

use super::Failed;

/// How long nodes may take to become ready at first.
pub const READY_MAX: Duration = Duration::from_secs(60);
/// Time between two questions for the leader.
const POLL: Duration = Duration::from_millis(50);

/// Which server is measured, and where its data goes.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// The server; by default the release build beside this program.
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Where data and logs go, and stay; by default a temporary directory that is removed.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

impl Place {
    /// Where the server is.
    ///
    /// # Errors
    /// What keeps this program from knowing where it is itself.
    pub fn binary(&self) -> Result<PathBuf, Failed> {
        match &self.binary {
            Some(binary) => Ok(binary.clone()),
            None => Ok(std::env::current_exe()?.with_file_name("kvstore")),
        }
    }

    /// Starts three nodes; `name` is their directory below that of the place.
    ///
    /// # Errors
    /// What keeps them from becoming ready.
    pub async fn boot(&self, name: &str) -> Result<Cluster, Failed> {
        let dir = self.dir.as_ref().map(|dir| dir.join(name));
        let options = ClusterOptions { binary: self.binary()?, nodes: 3, dir };
        Ok(Cluster::boot(&options, READY_MAX).await?)
    }

    /// A client of all nodes with so many connections to each.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub fn connect(
        cluster: &Cluster,
        timeout: Duration,
        connections: usize,
    ) -> Result<Client, Failed> {
        let config = cluster.client_config(cluster.endpoints(), timeout)?;
        Ok(Client::connect(Config { connections, ..config })?)
    }
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Number of the node.
    pub node: usize,
    /// Its term in the data group.
    pub term: u64,
}

/// The node that the cluster itself calls leader.
///
/// # Errors
/// Nobody answers, or nobody leads.
pub async fn leader(cluster: &Cluster, client: &Client) -> Result<Leader, Failed> {
    let status = client.status(&CallOptions::default()).await?;
    let leads = |node: &&proto::v1::NodeStatus| node.role() == proto::v1::Role::Leader;
    let leading = status.nodes.iter().find(leads).ok_or("nobody leads")?;
    let name = leading.member.as_ref().map_or("", |member| member.name.as_str());
    let node = cluster.find(name).ok_or("the leader is no member")?;
    Ok(Leader { node, term: leading.term })
}

/// The same, asked again until somebody leads.
///
/// # Errors
/// Nobody does within `patience`.
pub async fn leader_soon(
    cluster: &Cluster,
    client: &Client,
    patience: Duration,
) -> Result<Leader, Failed> {
    let deadline = Instant::now() + patience;
    loop {
        match leader(cluster, client).await {
            Ok(leader) => return Ok(leader),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => sleep(POLL).await,
        }
    }
}
