//! The cluster, its keys, and what happens to all nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use client::CallOptions;
use jepsen::checker::{Checker, ConvergenceChecker, Verdict};
use jepsen::cluster::{Cluster, ClusterOptions};
use jepsen::network::{Rule, Site};
use jepsen::workload::causal_calls::Seen;
use jepsen::{Function, Operation, Recorder, Value};
use proto::v1;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::calls::{self, KEYSPACE, Node};
use super::latencies::Latencies;
use super::worker::{Work, Worker};
use crate::measure::Failed;

/// How long nodes may take to become ready.
pub const READY_MAX: Duration = Duration::from_secs(60);

/// Time of one call, over all attempts.
const CALL_MAX: Duration = Duration::from_secs(5);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Keys that are read at the same time.
const READERS: usize = 16;

/// The layer of the network's rules.
const LAYER: &str = "apart";

/// What a field is made of.
#[derive(Clone, Debug)]
pub struct ApartOptions {
    /// Server, nodes, and where they lie.
    pub cluster: ClusterOptions,
    /// Keys that are written before anything else, and known to all nodes.
    pub keys: usize,
}

/// Nodes behind the proxies of the lab with an eventual keyspace; see the module.
#[derive(Debug)]
pub struct Field {
    /// The nodes.
    pub cluster: Cluster,
    keys: usize,
    nodes: Vec<Node>,
    recorder: Recorder,
    next: Arc<AtomicU64>,
}

impl Field {
    /// Starts the nodes and writes all keys.
    ///
    /// # Errors
    /// What keeps a node from becoming ready, or a key from being written.
    pub async fn boot(options: &ApartOptions) -> Result<Self, Failed> {
        let mut cluster = Cluster::create_proxied(&options.cluster)?;
        cluster.start_all()?;
        cluster.wait_all_ready(READY_MAX).await?;
        let mut nodes = Vec::new();
        for node in 0..cluster.len() {
            let client = cluster.client(vec![cluster.endpoint(node)], CALL_MAX)?;
            nodes.push(Node { client, name: cluster.name(node).to_owned() });
        }
        let (recorder, next) = (Recorder::new(), Arc::new(AtomicU64::new(1)));
        let field = Self { cluster, keys: options.keys, nodes, recorder, next };
        let (kind, settings) = (v1::keyspace::Kind::Eventual, v1::keyspace::Settings::default());
        let call = CallOptions { timeout: Some(READY_MAX), ..CallOptions::default() };
        field.nodes[0].client.keyspaces().create(KEYSPACE, kind, settings, &call).await?;
        field.fill().await?;
        Ok(field)
    }

    /// Puts all keys, at all nodes in turn, and waits until all nodes have them.
    async fn fill(&self) -> Result<(), Failed> {
        let mut tasks = JoinSet::new();
        for reader in 0..READERS {
            let (nodes, next, keys) = (self.nodes.clone(), Arc::clone(&self.next), self.keys);
            let mut process = self.recorder.process();
            tasks.spawn(async move {
                for number in (reader..keys).step_by(READERS) {
                    let (node, key) = (&nodes[number % nodes.len()], calls::key(number));
                    let deadline = Instant::now() + READY_MAX;
                    // Each node hears of the keyspace by itself.
                    loop {
                        let value = next.fetch_add(1, Ordering::Relaxed).to_string();
                        let over = Seen::default();
                        let put = calls::write(
                            node,
                            &mut process,
                            &key,
                            Some(value),
                            &over,
                            v1::Ack::All,
                        );
                        match put.await {
                            Ok(()) => break,
                            Err(error) if Instant::now() >= deadline => return Err(error),
                            Err(_) => sleep(LOOK).await,
                        }
                    }
                }
                Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        self.converge(&self.all(), READY_MAX).await.map(drop)
    }

    /// All nodes.
    #[must_use]
    pub fn all(&self) -> Vec<usize> {
        (0..self.nodes.len()).collect()
    }

    /// Cuts each node off from every other one. Clients reach all of them.
    pub fn cut_all(&self) {
        let all = self.all();
        let pairs = all.iter().flat_map(|&a| all.iter().map(move |&b| (a, b)));
        let cut = pairs.filter(|(a, b)| a != b);
        let rules = cut.map(|(a, b)| (Site::Node(a), Site::Node(b), Rule::CUT));
        self.network().set(LAYER, rules.collect());
    }

    /// Lets all nodes reach each other again.
    pub fn heal(&self) {
        self.network().set(LAYER, Vec::new());
    }

    fn network(&self) -> &jepsen::network::Network {
        self.cluster.network().expect("a field has proxies")
    }

    /// Starts a client at each of these nodes. They work while other things happen.
    pub fn work(&self, nodes: &[usize], work: &Work) -> JoinSet<(usize, Latencies)> {
        let mut tasks = JoinSet::new();
        for &node in nodes {
            let worker = Worker {
                node: self.nodes[node].clone(),
                process: self.recorder.process(),
                next: Arc::clone(&self.next),
                number: node as u64,
            };
            let work = work.clone();
            tasks.spawn(async move { (node, worker.run(work).await) });
        }
        tasks
    }

    /// Waits until a node answers reads of the keyspace, as it does without the others once it has started.
    ///
    /// # Errors
    /// It does not within [`READY_MAX`], or has ended.
    pub async fn answers(&mut self, node: usize) -> Result<Duration, Failed> {
        let begin = Instant::now();
        let mut process = self.recorder.process();
        loop {
            let read = calls::read(&self.nodes[node], &mut process, &calls::key(0)).await;
            match read {
                Ok(_) => return Ok(begin.elapsed()),
                Err(error) if begin.elapsed() >= READY_MAX => return Err(error.into()),
                Err(_) => sleep(LOOK).await,
            }
            self.cluster.check_node(node)?;
        }
    }

    /// Reads all keys at these nodes until they say the same, and returns how long that took, with the reads. These
    /// are the last reads of each key.
    ///
    /// # Errors
    /// They do not within `patience`.
    pub async fn converge(&self, nodes: &[usize], patience: Duration) -> Result<Duration, Failed> {
        let begin = Instant::now();
        let mut open: Vec<usize> = (0..self.keys).collect();
        loop {
            let mut tasks = JoinSet::new();
            for part in open.chunks(open.len().div_ceil(READERS).max(1)) {
                let nodes = nodes.iter().map(|&node| self.nodes[node].clone()).collect();
                tasks.spawn(differing(nodes, self.recorder.process(), part.to_vec()));
            }
            open.clear();
            while let Some(ended) = tasks.join_next().await {
                open.extend(ended?);
            }
            if open.is_empty() {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() >= patience {
                let (count, key) = (open.len(), calls::key(open[0]));
                return Err(format!("{count} keys differ after {patience:?}, such as {key}").into());
            }
            sleep(LOOK).await;
        }
    }

    /// What the lab says of all calls so far. They are taken: a second judgement knows only later ones.
    #[must_use]
    pub fn judge(&self) -> (Verdict, usize) {
        judged(&self.recorder.take())
    }

    /// The same where the others need not have heard of what a node took since then: its writes may be there or not,
    /// and its reads count for nothing.
    #[must_use]
    pub fn judge_others(&self, unheard: usize, since_ns: u64) -> (Verdict, usize) {
        let mut history = self.recorder.take();
        let name = Some(self.nodes[unheard].name.as_str());
        let is_its = |call: &Operation| call.invoke_ns >= since_ns && call.node.as_deref() == name;
        history.retain(|call| call.function != Function::Read || !is_its(call));
        for write in &mut history {
            if is_its(write) {
                write.causal.get_or_insert_default().lost = true;
            }
        }
        judged(&history)
    }

    /// The moment, as the calls are stamped with.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.recorder.now_ns()
    }
}

fn judged(history: &[Operation]) -> (Verdict, usize) {
    (ConvergenceChecker.check(history), history.len())
}

/// The keys that these nodes do not say the same of.
async fn differing(
    nodes: Vec<Node>,
    mut process: jepsen::recorder::Process,
    keys: Vec<usize>,
) -> Vec<usize> {
    let mut differing = Vec::new();
    for number in keys {
        let key = calls::key(number);
        let mut shown: Option<Vec<Option<Value>>> = None;
        let mut same = true;
        for node in &nodes {
            let Ok(mut found) = calls::read(node, &mut process, &key).await else {
                same = false;
                continue;
            };
            found.values.sort();
            same &= *shown.get_or_insert_with(|| found.values.clone()) == found.values;
        }
        if !same {
            differing.push(number);
        }
    }
    differing
}
