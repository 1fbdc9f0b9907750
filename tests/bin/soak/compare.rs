//! The end: all nodes hold the same, and just what the writers know.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use client::{CallOptions, Client, ClientError, Pages};
use jepsen::cluster::Cluster;
use proto::{Code, v1};
use tests::measure::{Failed, Promises};
use tokio::time::{Instant, sleep};

use super::ledger::Ledger;

/// How long a call may take, and how long a node may take to come up to the newest revision.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two questions whether it has.
const POLL: Duration = Duration::from_millis(100);
/// Contradictions that are shown.
const SHOWN: usize = 10;

/// Everything in a keyspace.
type Content = Vec<(Bytes, Bytes)>;

/// Reads all keyspaces from each node by itself, at one revision, and compares them with each other
/// and with the ledgers.
///
/// # Errors
/// A node does not answer.
pub async fn nodes(
    cluster: &Cluster,
    ledgers: &[Ledger],
    promises: &mut Promises,
) -> Result<(), Failed> {
    let all = cluster.client(cluster.endpoints(), PATIENCE)?;
    let mut by_keyspace: BTreeMap<&str, Vec<&Ledger>> = BTreeMap::new();
    for ledger in ledgers {
        by_keyspace.entry(&ledger.keyspace).or_default().push(ledger);
    }
    let (mut differ, mut wrong, mut keys) = (0_usize, Vec::new(), 0_usize);
    for (keyspace, ledgers) in by_keyspace {
        let revision = newest(&all, keyspace).await?;
        let mut first: Option<Content> = None;
        for node in 0..cluster.len() {
            let alone = cluster.client(vec![cluster.endpoint(node)], PATIENCE)?;
            let content = read(&alone, keyspace, revision).await?;
            if let Some(first) = &first {
                differ += usize::from(*first != content);
            }
            first.get_or_insert(content);
        }
        let content = first.unwrap_or_default();
        keys += content.len();
        wrong.extend(ledgers.iter().filter_map(|ledger| contradiction(ledger, &content)));
        let foreign = content.iter().filter(|(key, _)| owner(&ledgers, key).is_none());
        wrong.extend(foreign.map(|(key, _)| format!("{key:?} is nobody's")));
    }
    promises.figure("keys compared on each node", keys);
    promises.at_most("keyspaces that differ between nodes", differ, 0, "");
    promises.at_most("writers whose acknowledged writes are not there", wrong.len(), 0, "");
    for why in wrong.iter().take(SHOWN) {
        println!("  {why}");
    }
    Ok(())
}

fn owner<'l>(ledgers: &[&'l Ledger], key: &[u8]) -> Option<&'l Ledger> {
    ledgers.iter().copied().find(|ledger| ledger.find(key).is_some())
}

/// What is wrong with the keys of one writer.
fn contradiction(ledger: &Ledger, content: &Content) -> Option<String> {
    let own = content.iter().filter(|(key, _)| ledger.find(key).is_some());
    let own: Content = own.cloned().collect();
    ledger.contradiction(0, ledger.cells.len(), &own)
}

/// The newest revision of a keyspace.
async fn newest(client: &Client, keyspace: &str) -> Result<u64, ClientError> {
    let request = v1::GetRequest {
        keyspace: keyspace.to_owned(),
        key: "none".into(),
        level: v1::Level::Linearizable.into(),
        ..v1::GetRequest::default()
    };
    let reply = client.get(request, &CallOptions::default()).await?;
    Ok(reply.proof.map_or(0, |proof| proof.revision))
}

/// Everything that a node has at a revision, once it has come so far.
async fn read(client: &Client, keyspace: &str, revision: u64) -> Result<Content, ClientError> {
    let request = v1::RangeRequest {
        keyspace: keyspace.to_owned(),
        revision,
        level: v1::Level::Eventual.into(),
        ..v1::RangeRequest::default()
    };
    let deadline = Instant::now() + PATIENCE;
    let mut pages = Pages::new(client, request, None, CallOptions::default());
    let mut content = Content::new();
    loop {
        match pages.next().await {
            Ok(Some(page)) => {
                content.extend(page.items.into_iter().map(|item| (item.key, item.value)));
            }
            Ok(None) => return Ok(content),
            Err(error) if error.code() == Code::FutureRevision && Instant::now() < deadline => {
                sleep(POLL).await;
            }
            Err(error) => return Err(error),
        }
    }
}
