//! A node that has lost everything joins again.

use std::fs;
use std::time::Duration;

use client::{CallOptions, Client};
use jepsen::cluster::Cluster;
use proto::{Code, v1};
use tokio::time::{Instant, sleep};

use super::{Failed, READY_MAX};

/// Time between two looks at the members.
const POLL: Duration = Duration::from_millis(100);

/// Kills `node`, removes all its data, replaces it by a new member of the same name, and waits until
/// that is a voter which serves. Returns how long all of it took.
///
/// The steps are those of an operator: `kv cluster remove`, `kv cluster add`, then a start with
/// `cluster.join` in place of `cluster.initial`.
///
/// # Errors
/// A step is refused, or it does not serve within `patience`.
pub async fn replace(
    cluster: &mut Cluster,
    client: &Client,
    node: usize,
    patience: Duration,
) -> Result<Duration, Failed> {
    let begin = Instant::now();
    let deadline = begin + patience;
    let name = cluster.name(node).to_owned();
    cluster.kill(node);
    let data = cluster.data_dir(node);
    fs::remove_dir_all(&data)?;
    fs::create_dir_all(&data)?;
    let others: Vec<usize> = (0..cluster.len()).filter(|other| *other != node).collect();
    cluster.joins(node, &others)?;
    let peer = cluster.peer_address(node);
    let options = CallOptions::default();
    // A change is carried out in the background; until it is, no other one is taken.
    let early = |code| matches!(code, Code::ChangeInProgress) && Instant::now() < deadline;
    while let Err(error) = client.members().remove_losing(&name, false, &options).await {
        if !early(error.code()) {
            return Err(error.into());
        }
        sleep(POLL).await;
    }
    let early = |code| early(code) || matches!(code, Code::MemberExists);
    while let Err(error) = client.members().add(&name, &peer, false, false, &options).await {
        if !early(error.code()) || Instant::now() >= deadline {
            return Err(error.into());
        }
        sleep(POLL).await;
    }
    cluster.start(node)?;
    cluster.wait_ready(node, patience.max(READY_MAX)).await?;
    loop {
        let v1::MembersReply { members, change, .. } = client.members().list(&options).await?;
        // Until its promotion is carried out, the groups may not count it yet.
        if change.is_empty() && members.iter().any(|view| serves(view, &name)) {
            return Ok(begin.elapsed());
        }
        if Instant::now() >= deadline {
            return Err(format!("{name} does not serve after {patience:?}: {members:?}").into());
        }
        cluster.check_alive()?;
        sleep(POLL).await;
    }
}

fn serves(view: &v1::MemberView, name: &str) -> bool {
    let named = view.member.as_ref().is_some_and(|member| member.name == name);
    named && view.role == "voter" && view.state == "serving"
}
