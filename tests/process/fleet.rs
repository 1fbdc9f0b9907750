//! A cluster as an operator sees it: configurations, commands, probes, and a writer that goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::{CallOptions, Client};
use jepsen::cluster::{Cluster, ClusterOptions};
use proto::Applied;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::programs::{self, Kv, READY_MAX};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Nodes of which some may be spare: prepared, not started.
#[derive(Debug)]
pub struct Fleet {
    pub cluster: Cluster,
    members: usize,
}

impl Fleet {
    /// Starts `members` nodes and prepares `spare` more, which shall join.
    pub async fn boot(members: usize, spare: usize) -> Self {
        let mut fleet = Self::prepare(&programs::server(), members, spare);
        for node in 0..members {
            fleet.cluster.start(node).unwrap();
        }
        fleet.members_ready().await;
        fleet
    }

    /// Prepares nodes and starts none.
    pub fn prepare(binary: &Path, members: usize, spare: usize) -> Self {
        let options =
            ClusterOptions { binary: binary.to_owned(), nodes: members + spare, dir: None };
        let fleet = Self { cluster: Cluster::create(&options).unwrap(), members };
        let all: Vec<usize> = (0..members).collect();
        for node in 0..members {
            fleet.cluster.forms_with(node, &all).unwrap();
        }
        for node in members..members + spare {
            fleet.cluster.joins(node, &all).unwrap();
        }
        fleet
    }

    /// Waits until a node is ready.
    pub async fn ready(&mut self, node: usize) {
        self.cluster.wait_ready(node, READY_MAX).await.unwrap();
    }

    /// Waits until all members are ready; spare nodes are left alone.
    pub async fn members_ready(&mut self) {
        for node in 0..self.members {
            self.ready(node).await;
        }
    }

    /// Starts a node and waits until it is ready.
    pub async fn start(&mut self, node: usize) {
        self.cluster.start(node).unwrap();
        self.ready(node).await;
    }

    /// Stops a node politely.
    pub async fn stop(&mut self, node: usize) {
        let status = self.cluster.terminate(node, Duration::from_secs(10)).await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.cluster.name(node));
    }

    /// `kv` with all members as endpoints.
    pub fn kv(&self) -> Kv {
        let endpoints: Vec<String> = (0..self.members).map(|n| self.cluster.endpoint(n)).collect();
        Kv::to(&endpoints, self.cluster.pki(), "lab")
    }

    /// `kv` with one node as endpoint, so that this node answers.
    pub fn kv_at(&self, node: usize) -> Kv {
        Kv::to(&[self.cluster.endpoint(node)], self.cluster.pki(), "lab")
    }

    /// A client of all nodes.
    pub fn client(&self) -> Client {
        self.cluster.client(self.cluster.endpoints(), Duration::from_secs(30)).unwrap()
    }

    /// The number of the leader, once the nodes know one.
    pub async fn leader(&self) -> usize {
        let mut leader = None;
        until("a leader", || {
            leader = self.members_json().and_then(|json| {
                let leads = |m: &&serde_json::Value| m["leader"] == true;
                let name = json["members"].as_array()?.iter().find(leads)?["name"].as_str()?;
                self.cluster.find(name)
            });
            leader.is_some()
        })
        .await;
        leader.unwrap()
    }

    /// What `kv cluster members` says; `None` while nobody answers.
    pub fn members_json(&self) -> Option<serde_json::Value> {
        let (code, out, _) = self.kv().outcome(&["cluster", "members", "-o", "json"]);
        (code == 0).then(|| serde_json::from_str(&out).unwrap())
    }

    /// The role of a member; empty when it is none.
    pub fn role(&self, name: &str) -> String {
        let json = self.members_json().unwrap_or_default();
        let members = json["members"].as_array().cloned().unwrap_or_default();
        let found = members.iter().find(|member| member["name"] == name);
        found.and_then(|m| m["role"].as_str()).unwrap_or_default().to_owned()
    }

    /// Waits until a process has ended by itself, and returns how, with the end of its log.
    pub async fn ended(&mut self, node: usize) -> String {
        let mut how = String::new();
        until("the end of the process", || {
            how = self.cluster.check_alive().err().map(|e| e.to_string()).unwrap_or_default();
            !how.is_empty()
        })
        .await;
        let name = self.cluster.name(node);
        assert!(how.contains(name), "another node than {name} has ended: {how}");
        // It is over; this only forgets the process.
        self.cluster.kill(node);
        how
    }

    /// What a path of the admin port answers: status and body. `None` while nobody listens.
    pub async fn probe(&self, node: usize, path: &str) -> Option<(u16, String)> {
        probe(&self.cluster.admin_address(node), path).await
    }

    /// The value of a metric of one node; `None` while it has none.
    pub async fn metric(&self, node: usize, name: &str) -> Option<f64> {
        let (_, body) = self.probe(node, "/metrics").await?;
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// Everything in a keyspace as one node has it, once it has all that is confirmed.
    pub fn content(&self, node: usize, keyspace: &str) -> String {
        let (code, out, err) = self.kv_at(node).outcome(&["-k", keyspace, "export"]);
        assert_eq!(code, 0, "export at {}: {err}", self.cluster.name(node));
        out
    }

    /// Asserts that these nodes hold the same, byte for byte, and returns it.
    pub fn compare(&self, nodes: &[usize]) -> String {
        let first = self.content(nodes[0], "default");
        for node in &nodes[1..] {
            let other = self.content(*node, "default");
            assert_eq!(first, other, "{} differs", self.cluster.name(*node));
        }
        first
    }

    /// Writes `count` keys of `bytes` bytes each: `PREFIX-000` and so on.
    pub async fn fill(&self, prefix: &str, count: usize, bytes: usize) {
        let client = self.client();
        for number in 0..count {
            let key = format!("{prefix}-{number:03}");
            let value = format!("{key}:{}", "x".repeat(bytes));
            client.put_value(key, value, &CallOptions::default()).await.unwrap();
        }
    }
}

/// What a path of an admin port answers: status and body. `None` while nobody listens.
pub async fn probe(admin: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(admin).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Some((status, body))
}

/// Waits for a condition.
///
/// # Panics
/// When it does not hold in time.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + READY_MAX;
    while !holds() {
        assert!(Instant::now() < deadline, "no {what} within {READY_MAX:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for a condition that has to be waited for itself.
pub async fn until_async<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + READY_MAX;
    while !holds().await {
        assert!(Instant::now() < deadline, "no {what} within {READY_MAX:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes one key after the other until it is told to stop, and remembers what was acknowledged.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    task: JoinHandle<BTreeMap<String, String>>,
}

impl Writer {
    /// Starts writing `w-0`, `w-1` and so on.
    pub fn start(client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(write(client, Arc::clone(&stop), Arc::clone(&written)));
        Self { stop, written, task }
    }

    /// Waits until some more writes were acknowledged: whatever was done, writing goes on.
    pub async fn goes_on(&self) {
        let before = self.written.load(Ordering::SeqCst);
        until("further write", || self.written.load(Ordering::SeqCst) >= before + 5).await;
    }

    /// Stops, and asserts that everything that was acknowledged is there.
    pub async fn finish(self, client: &Client) {
        self.stop.store(true, Ordering::SeqCst);
        let written = self.task.await.unwrap();
        assert!(!written.is_empty(), "nothing was written");
        let options = CallOptions::default();
        for (key, value) in written {
            let found = client.get_value(key.clone(), &options).await.unwrap();
            assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key}");
        }
    }
}

async fn write(
    client: Client,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> BTreeMap<String, String> {
    let (mut acknowledged, options) = (BTreeMap::new(), CallOptions::default());
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let (key, value) = (format!("w-{number}"), format!("{number}"));
        number += 1;
        match client.put_value(key.clone(), value.clone(), &options).await {
            Ok(_) => {
                acknowledged.insert(key, value);
                written.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                let certain = [Some(Applied::No), Some(Applied::Unknown)];
                assert!(certain.contains(&error.applied()), "{error}");
            }
        }
    }
    acknowledged
}
