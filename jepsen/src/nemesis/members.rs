//! Takes a member out and lets it come back with nothing, as an operator would who has lost its disk.

use std::fs;
use std::time::Duration;

use client::CallOptions;
use proto::{Code, v1};
use tokio::time::{Instant, sleep};

use super::RECOVERY_MAX;
use super::field::{Field, LOOK};
use super::strike::Strike;
use crate::error::LabError;

/// Time that a replacement may take while other faults are in force.
const REPLACE_MAX: Duration = Duration::from_secs(120);

/// Time of one request.
const REQUEST_MAX: Duration = Duration::from_secs(3);

/// Removes a member, and adds it again with an empty directory.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let victim = strike.random_node();
    let field = strike.field;
    let Some(_claim) = field.claim_lossy(victim) else { return Ok(()) };
    let fault = strike.note("replace", &[victim], "requests to the cluster, an empty directory");
    replace(field, victim).await?;
    wait_brought_up(field, victim).await?;
    strike.over(fault, Some(1));
    Ok(())
}

/// Kills a node, which the caller has claimed, removes its data, replaces it by a new member of the
/// same name, and waits until that is a voter which serves.
pub async fn replace(field: &Field, node: usize) -> Result<(), LabError> {
    let deadline = Instant::now() + REPLACE_MAX;
    let name = &field.names[node];
    let peer = {
        let mut cluster = field.cluster.lock().await;
        cluster.kill(node);
        let data = cluster.data_dir(node);
        fs::remove_dir_all(&data).map_err(LabError::io(&data))?;
        fs::create_dir_all(&data).map_err(LabError::io(&data))?;
        let others: Vec<usize> = (0..field.nodes).filter(|other| *other != node).collect();
        cluster.joins(node, &others)?;
        cluster.peer_address(node)
    };
    change(field, &Change::Remove, name, deadline).await?;
    // The answer comes before the change is carried out.
    wait_gone(field, name, deadline).await;
    change(field, &Change::Add { peer }, name, deadline).await?;
    field.cluster.lock().await.start(node)?;
    field.wait_ready(&[node], RECOVERY_MAX.max(REPLACE_MAX)).await?;
    wait_serving(field, node, deadline).await
}

fn options() -> CallOptions {
    CallOptions { timeout: Some(REQUEST_MAX), ..CallOptions::default() }
}

/// What is asked of the cluster.
#[derive(Debug)]
enum Change {
    Remove,
    Add { peer: String },
}

/// Asks until it is done. What is asked again may have been done before: then there is nobody to
/// remove, or somebody to add.
async fn change(
    field: &Field,
    change: &Change,
    name: &str,
    deadline: Instant,
) -> Result<(), LabError> {
    let (members, options) = (field.client.members(), options());
    loop {
        let (asked, done) = match change {
            // Its disk is lost, and what it alone took with it.
            Change::Remove => {
                (members.remove_losing(name, false, &options).await, Code::MemberNotFound)
            }
            Change::Add { peer } => {
                (members.add(name, peer, false, false, &options).await, Code::MemberExists)
            }
        };
        match asked {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == done => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(LabError::client(format!("change members: {change:?}"))(error));
            }
            Err(_) => sleep(LOOK * 4).await,
        }
    }
}

/// Waits until nobody of that name is a member, or the time is over, which shows in what comes next.
async fn wait_gone(field: &Field, name: &str, deadline: Instant) {
    let named =
        |view: &v1::MemberView| view.member.as_ref().is_some_and(|member| member.name == name);
    while Instant::now() < deadline {
        if let Ok(reply) = field.client.members().list(&options()).await
            && !reply.members.iter().any(named)
        {
            return;
        }
        sleep(LOOK * 4).await;
    }
}

/// Waits until a node that may have lost its data answers reads of eventual keyspaces, if there are any: then every
/// other member has brought it up, and another node may lose something.
pub async fn wait_brought_up(field: &Field, node: usize) -> Result<(), LabError> {
    let deadline = Instant::now() + REPLACE_MAX;
    let endpoint = field.cluster.lock().await.endpoint(node);
    let client = field.cluster.lock().await.client(vec![endpoint], REQUEST_MAX)?;
    loop {
        if let Ok(keyspaces) = field.client.keyspaces().list(None, &options()).await {
            let mut all = keyspaces.into_iter().filter_map(|view| view.keyspace);
            let Some(keyspace) = all.find(|one| one.kind() == v1::keyspace::Kind::Eventual) else {
                return Ok(());
            };
            let key = "brought-up".into();
            let request =
                v1::GetRequest { keyspace: keyspace.name, key, ..v1::GetRequest::default() };
            if client.get(request, &options()).await.is_ok() {
                return Ok(());
            }
        }
        look_again(field, node, deadline, "does not read eventual keyspaces").await?;
    }
}

/// Waits until a node is a voter that serves, and no change is open.
pub async fn wait_serving(field: &Field, node: usize, deadline: Instant) -> Result<(), LabError> {
    let name = &field.names[node];
    let serves = |view: &v1::MemberView| {
        let named = view.member.as_ref().is_some_and(|member| member.name == *name);
        named && view.role == "voter" && view.state == "serving"
    };
    loop {
        let listed = field.client.members().list(&options()).await;
        if let Ok(reply) = &listed
            && reply.change.is_empty()
            && reply.members.iter().any(serves)
        {
            return Ok(());
        }
        look_again(field, node, deadline, "does not serve").await?;
    }
}

/// Waits until it is time for another look at a node. Fails if that has ended, or at the deadline for this reason.
async fn look_again(
    field: &Field,
    node: usize,
    deadline: Instant,
    why: &str,
) -> Result<(), LabError> {
    let mut cluster = field.cluster.lock().await;
    cluster.check_node(node)?;
    if Instant::now() >= deadline {
        return Err(LabError::Node {
            node: field.names[node].clone(),
            why: format!("{why} after {REPLACE_MAX:?}"),
            log: cluster.log(node).to_owned(),
        });
    }
    drop(cluster);
    sleep(LOOK * 4).await;
    Ok(())
}
