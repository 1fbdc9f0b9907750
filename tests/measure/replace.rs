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
    let peer = join_instead(cluster, node)?;
    let options = CallOptions::default();
    // A change is carried out in the background; until it is, no other one is taken.
    let early = |code| matches!(code, Code::ChangeInProgress) && Instant::now() < deadline;
    while let Err(error) = client.members().remove(&name, false, &options).await {
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
        let members = client.members().list(&options).await?.members;
        if members.iter().any(|view| serves(view, &name)) {
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

/// Makes the configuration of a node that of one which joins. Returns its peer address.
fn join_instead(cluster: &Cluster, node: usize) -> Result<String, Failed> {
    let others = (0..cluster.len()).filter(|other| *other != node);
    let addresses: Result<Vec<_>, Failed> =
        others.map(|other| peer_address(&read(cluster, other)?)).collect();
    let mut config = read(cluster, node)?;
    let own = peer_address(&config)?;
    let section = config.get_mut("cluster").and_then(toml::Value::as_table_mut);
    let section = section.ok_or("the configuration has no section `cluster`")?;
    section.remove("initial");
    section.insert("join".to_owned(), addresses?.into());
    fs::write(cluster.config(node), toml::to_string(&config)?)?;
    Ok(own)
}

fn read(cluster: &Cluster, node: usize) -> Result<toml::Table, Failed> {
    Ok(fs::read_to_string(cluster.config(node))?.parse()?)
}

fn peer_address(config: &toml::Table) -> Result<String, Failed> {
    let address = config.get("listen").and_then(|listen| listen.get("peer"));
    let address = address.and_then(toml::Value::as_str);
    Ok(address.ok_or("the configuration has no `listen.peer`")?.to_owned())
}
