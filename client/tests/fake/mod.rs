//! A small cluster for tests: real TLS and HTTP/2, one shared map behind all nodes, and faults on
//! demand.
//!
//! Here is the data; `siblings` is that of eventual keyspaces, `operators` what changes and shows the cluster
//! itself.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod operators;
pub mod siblings;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Client, Config, pki};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::v1::cluster_server::ClusterServer;
use proto::v1::keyspaces_server::KeyspacesServer;
use proto::v1::kv_server::{Kv, KvServer};
use proto::v1::node_server::NodeServer;
use proto::{Failure, v1};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status, async_trait};
use tower::Service;

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a node does with a call.
#[derive(Clone)]
pub enum Act {
    /// Answers it.
    Serve,
    /// Never answers, and does nothing.
    Hang,
    /// Carries it out, then never answers.
    ServeThenHang,
    /// Carries it out, then answers with an error that has no detail.
    ServeThenStatus(Status),
    /// Refuses it.
    Refuse(Failure),
    /// Answers with an error that has no detail.
    Status(Status),
}

/// A write id as a node saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenId {
    pub node: String,
    pub id: v1::WriteId,
}

/// What all nodes share: the data, as a correct cluster would keep it.
#[derive(Default)]
pub struct Shared {
    pub items: BTreeMap<Vec<u8>, v1::Item>,
    pub revision: u64,
    pub executed: HashMap<(Vec<u8>, u64), u64>,
    pub seen: Vec<SeenId>,
    pub hellos: Vec<String>,
    pub reads: Vec<(String, i32)>,
    pub born: u64,
    /// All versions of each key, oldest first.
    pub versions: BTreeMap<Vec<u8>, Vec<v1::KeyVersion>>,
    /// The first page of a range from the beginning is empty and says where to go on.
    pub stepwise: bool,
    /// Most puts that were being carried out at once.
    pub puts_open: usize,
    pub puts_open_max: usize,
    pub operators: operators::Operators,
    pub eventual: siblings::Eventual,
}

/// Certificates of a test.
pub struct Pki {
    pub dir: tempfile::TempDir,
}

impl Pki {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init_ca(dir.path(), None, 10 * DAY).unwrap();
        pki::issue_client(dir.path(), "alice", DAY).unwrap();
        Self { dir }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn load(&self, name: &str) -> pki::Credentials {
        load(self.dir.path(), name)
    }
}

pub fn load(dir: &Path, name: &str) -> pki::Credentials {
    let [cert, key] = ["crt", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
    pki::load(&dir.join("ca.crt"), &cert, &key).unwrap()
}

#[derive(Clone)]
pub struct FakeNode {
    pub name: String,
    pub address: String,
    shared: Arc<Mutex<Shared>>,
    members: Arc<Mutex<Vec<v1::Member>>>,
    script: Arc<Mutex<VecDeque<Act>>>,
    otherwise: Arc<Mutex<Act>>,
    status: Arc<Mutex<Option<v1::StatusReply>>>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    accepting: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Nodes n1, n2, .. that share data. n1 leads.
pub struct FakeCluster {
    pub pki: Pki,
    pub nodes: Vec<FakeNode>,
    pub shared: Arc<Mutex<Shared>>,
}

impl FakeCluster {
    pub async fn start(count: usize) -> Self {
        let pki = Pki::new();
        let shared = Arc::new(Mutex::new(Shared { revision: 1, born: 5, ..Default::default() }));
        let members = Arc::new(Mutex::new(Vec::new()));
        let mut nodes = Vec::new();
        for number in 1..=count {
            let name = format!("n{number}");
            pki::issue_node(pki.dir.path(), &name, &["127.0.0.1".into()], DAY).unwrap();
            let node = FakeNode::start(&name, &pki, &pki, shared.clone(), members.clone()).await;
            members.lock().unwrap().push(v1::Member {
                id: number as u64,
                name,
                client_address: node.address.clone(),
                peer_address: String::new(),
            });
            nodes.push(node);
        }
        Self { pki, nodes, shared }
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    pub fn config(&self) -> Config {
        Config::new(self.endpoints(), self.pki.load("alice"))
    }

    pub fn client(&self) -> Client {
        Client::connect(self.config()).unwrap()
    }

    /// Lets all nodes advertise this address for one of them.
    pub fn set_client_address(&self, node: usize, address: &str) {
        self.nodes[0].members.lock().unwrap()[node].client_address = address.to_owned();
    }

    pub fn seen(&self) -> Vec<SeenId> {
        self.shared.lock().unwrap().seen.clone()
    }

    pub fn value(&self, key: &str) -> Option<String> {
        let shared = self.shared.lock().unwrap();
        let item = shared.items.get(key.as_bytes())?;
        Some(String::from_utf8(item.value.to_vec()).unwrap())
    }
}

impl FakeNode {
    /// Starts a node whose own certificate comes from `own` and which trusts the CA of `trusts`.
    pub async fn start(
        name: &str,
        own: &Pki,
        trusts: &Pki,
        shared: Arc<Mutex<Shared>>,
        members: Arc<Mutex<Vec<v1::Member>>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Self {
            name: name.to_owned(),
            address: listener.local_addr().unwrap().to_string(),
            shared,
            members,
            script: Arc::default(),
            otherwise: Arc::new(Mutex::new(Act::Serve)),
            status: Arc::default(),
            connections: Arc::default(),
            accepting: Arc::default(),
        };
        let own = own.load(name);
        let config = server_config(own.chain, own.key, trusts);
        node.listen(listener, TlsAcceptor::from(Arc::new(config)));
        node
    }

    /// Starts a node that shows this certificate.
    pub async fn start_showing(
        name: &str,
        pki: &Pki,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        let node = Self::start(name, pki, pki, Arc::default(), Arc::default()).await;
        node.stop();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Self { address: listener.local_addr().unwrap().to_string(), ..node };
        let config = server_config(chain, key, pki);
        node.listen(listener, TlsAcceptor::from(Arc::new(config)));
        node
    }

    fn listen(&self, listener: TcpListener, acceptor: TlsAcceptor) {
        let node = self.clone();
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (serving, acceptor) = (node.clone(), acceptor.clone());
                let task = tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        let node = serving.clone();
                        async move { node.route(request).await }
                    });
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tls), service)
                        .await;
                });
                node.connections.lock().unwrap().push(task);
            }
        });
        *self.accepting.lock().unwrap() = Some(task);
    }

    async fn route(
        self,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<tonic::body::Body>, std::convert::Infallible> {
        match request.uri().path().split('/').nth(1) {
            Some("kv.v1.Kv") => KvServer::new(self).call(request).await,
            Some("kv.v1.Keyspaces") => KeyspacesServer::new(self).call(request).await,
            Some("kv.v1.Node") => NodeServer::new(self).call(request).await,
            _ => ClusterServer::new(self).call(request).await,
        }
    }

    /// Closes the port and all connections.
    pub fn stop(&self) {
        if let Some(task) = self.accepting.lock().unwrap().take() {
            task.abort();
        }
        self.drop_connections();
    }

    /// Closes all connections; new ones are accepted.
    pub fn drop_connections(&self) {
        for task in self.connections.lock().unwrap().drain(..) {
            task.abort();
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Queues what is done with the next calls, Hello aside.
    pub fn next(&self, acts: impl IntoIterator<Item = Act>) -> &Self {
        self.script.lock().unwrap().extend(acts);
        self
    }

    /// What is done with all calls after the queued ones, Hello aside.
    pub fn always(&self, act: Act) -> &Self {
        *self.otherwise.lock().unwrap() = act;
        self
    }

    pub fn set_status(&self, status: v1::StatusReply) {
        *self.status.lock().unwrap() = Some(status);
    }

    fn proof(&self, level: i32) -> v1::Proof {
        let leader = self.members.lock().unwrap().first().cloned().unwrap_or_default();
        let (revision, born) = {
            let shared = self.shared.lock().unwrap();
            (shared.revision, shared.born)
        };
        // What names none is read at the strongest.
        let level = level.max(v1::Level::Linearizable as i32);
        v1::Proof {
            level,
            node: self.name.clone(),
            revision,
            leader: leader.id,
            leader_address: leader.client_address,
            acknowledged_by: vec![],
            index: born + 1,
            ..Default::default()
        }
    }

    fn write_proof(&self) -> v1::Proof {
        let mut proof = self.proof(v1::Level::Linearizable as i32);
        proof.acknowledged_by =
            self.members.lock().unwrap().iter().map(|member| member.id).collect();
        proof
    }

    /// Runs `serve` as the script says.
    async fn act<T>(&self, serve: impl FnOnce() -> T) -> Result<Response<T>, Status> {
        let act = self.script.lock().unwrap().pop_front();
        match act.unwrap_or_else(|| self.otherwise.lock().unwrap().clone()) {
            Act::Serve => Ok(Response::new(serve())),
            Act::Hang => std::future::pending().await,
            Act::ServeThenHang => {
                serve();
                std::future::pending().await
            }
            Act::ServeThenStatus(status) => {
                serve();
                Err(status)
            }
            Act::Refuse(failure) => Err(failure.to_status()),
            Act::Status(status) => Err(status),
        }
    }

    /// Notes a write id; runs `write` unless the id was executed before. Returns its revision and
    /// whether it was a replay.
    fn once(&self, id: Option<v1::WriteId>, write: impl FnOnce(&mut Shared)) -> (u64, bool) {
        let id = id.expect("every write carries an id");
        let mut shared = self.shared.lock().unwrap();
        let key = (id.client_id.to_vec(), id.seq);
        if let Some(revision) = shared.executed.get(&key) {
            return (*revision, true);
        }
        shared.revision += 1;
        let revision = shared.revision;
        write(&mut shared);
        shared.executed.insert(key, revision);
        (revision, false)
    }

    fn see(&self, id: &Option<v1::WriteId>) {
        let id = id.clone().expect("every write carries an id");
        self.shared.lock().unwrap().seen.push(SeenId { node: self.name.clone(), id });
    }
}

/// Counts a put while it is being carried out.
struct OpenPut(Arc<Mutex<Shared>>);

impl OpenPut {
    fn new(shared: &Arc<Mutex<Shared>>) -> Self {
        let mut counts = shared.lock().unwrap();
        counts.puts_open += 1;
        counts.puts_open_max = counts.puts_open_max.max(counts.puts_open);
        Self(shared.clone())
    }
}

impl Drop for OpenPut {
    fn drop(&mut self) {
        self.0.lock().unwrap().puts_open -= 1;
    }
}

fn put(shared: &mut Shared, key: &[u8], value: bytes::Bytes) -> Option<v1::Item> {
    let revision = shared.revision;
    let before = shared.items.get(key).cloned();
    let item = v1::Item {
        key: key.to_vec().into(),
        value_size: value.len() as u64,
        value,
        create_rev: before.as_ref().map_or(revision, |item| item.create_rev),
        mod_rev: revision,
        version: before.as_ref().map_or(1, |item| item.version + 1),
        lease: 0,
    };
    let versions = shared.versions.entry(key.to_vec()).or_default();
    versions.push(v1::KeyVersion { item: Some(item.clone()), deleted: false });
    shared.items.insert(key.to_vec(), item);
    before
}

fn holds(shared: &Shared, compare: &v1::Compare) -> bool {
    use v1::compare::Target;
    let item = shared.items.get(&compare.key[..]);
    match compare.target.as_ref().expect("checked by the client") {
        Target::ModRev(revision) => item.map_or(0, |item| item.mod_rev) == *revision,
        Target::CreateRev(revision) => item.is_some_and(|item| item.create_rev == *revision),
        Target::Version(version) => item.map_or(0, |item| item.version) == *version,
        Target::Value(value) => item.is_some_and(|item| item.value == *value),
        Target::Absent(absent) => item.is_none() == *absent,
    }
}

fn delete(shared: &mut Shared, key: &[u8], end: &[u8]) -> Vec<v1::Item> {
    let doomed: Vec<Vec<u8>> = shared
        .items
        .keys()
        .filter(|found| match end {
            [] => found[..] == *key,
            end => found[..] >= *key && found[..] < *end,
        })
        .cloned()
        .collect();
    for key in &doomed {
        let tombstone =
            v1::Item { key: key.clone().into(), mod_rev: shared.revision, ..Default::default() };
        let versions = shared.versions.get_mut(key).expect("it was put");
        versions.push(v1::KeyVersion { item: Some(tombstone), deleted: true });
    }
    doomed.iter().map(|key| shared.items.remove(key).unwrap()).collect()
}

#[async_trait]
impl Kv for FakeNode {
    /// Two versions to a page.
    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryReply>, Status> {
        let request = request.into_inner();
        self.act(|| {
            let shared = self.shared.lock().unwrap();
            let kept = shared.versions.get(&request.key[..]).cloned().unwrap_or_default();
            drop(shared);
            let revision = |version: &v1::KeyVersion| version.item.as_ref().unwrap().mod_rev;
            let mut versions: Vec<v1::KeyVersion> = kept
                .into_iter()
                .rev()
                .filter(|version| request.before == 0 || revision(version) < request.before)
                .collect();
            let limit = if request.limit == 0 { 2 } else { request.limit.min(2) } as usize;
            let more = versions.len() > limit;
            versions.truncate(limit);
            if request.keys_only {
                for version in &mut versions {
                    version.item.as_mut().unwrap().value.clear();
                }
            }
            v1::HistoryReply {
                proof: Some(self.proof(request.level)),
                versions,
                more,
                compacted: 1,
            }
        })
        .await
    }

    async fn hello(
        &self,
        _request: Request<v1::HelloRequest>,
    ) -> Result<Response<v1::HelloReply>, Status> {
        let mut shared = self.shared.lock().unwrap();
        shared.hellos.push(self.name.clone());
        Ok(Response::new(v1::HelloReply {
            cluster_name: "dev".into(),
            node: self.name.clone(),
            leader: 1,
            born: shared.born,
            members: self.members.lock().unwrap().clone(),
            ..Default::default()
        }))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetReply>, Status> {
        let request = request.into_inner();
        if self.is_eventual(&request.keyspace) {
            return self.eventual_get(request).await;
        }
        self.shared.lock().unwrap().reads.push((self.name.clone(), request.level));
        self.act(|| v1::GetReply {
            proof: Some(self.proof(request.level)),
            item: self.shared.lock().unwrap().items.get(&request.key[..]).cloned(),
            ..Default::default()
        })
        .await
    }

    async fn range(
        &self,
        request: Request<v1::RangeRequest>,
    ) -> Result<Response<v1::RangeReply>, Status> {
        let request = request.into_inner();
        if self.is_eventual(&request.keyspace) {
            return self.eventual_range(request).await;
        }
        self.act(|| {
            let shared = self.shared.lock().unwrap();
            let all: Vec<v1::Item> = shared
                .items
                .range(request.from.to_vec()..)
                .map(|(_, item)| item.clone())
                .filter(|item| request.to.is_empty() || item.key < request.to)
                .collect();
            drop(shared);
            let limit = if request.limit == 0 { 3 } else { request.limit.min(3) } as usize;
            let proof = Some(self.proof(request.level));
            if self.shared.lock().unwrap().stepwise && request.from.is_empty() {
                let next = b"\0"[..].into();
                return v1::RangeReply { proof, more: true, next, ..Default::default() };
            }
            let behind = all.get(limit).map(|item| item.key.clone());
            let mut reply = v1::RangeReply { proof, more: behind.is_some(), ..Default::default() };
            let page = all.into_iter().take(limit);
            if request.count_only {
                reply.count = page.count() as u64;
                reply.next = behind.unwrap_or_default();
            } else {
                reply.items = page.collect();
            }
            reply
        })
        .await
    }

    async fn put(
        &self,
        request: Request<v1::PutRequest>,
    ) -> Result<Response<v1::PutReply>, Status> {
        let request = request.into_inner();
        self.see(&request.id);
        if self.is_eventual(&request.keyspace) {
            return self.eventual_put(request).await;
        }
        let _open = OpenPut::new(&self.shared);
        self.act(|| {
            let (mut prev, mut succeeded) = (None, true);
            let (revision, replayed) = self.once(request.id, |shared| {
                succeeded = request.condition.as_ref().is_none_or(|check| holds(shared, check));
                if succeeded {
                    prev = put(shared, &request.key, request.value);
                } else {
                    shared.revision -= 1;
                }
            });
            let proof = v1::Proof { replayed, ..self.write_proof() };
            let prev = prev.filter(|_| request.prev);
            v1::PutReply { proof: Some(proof), succeeded, revision, prev, ..Default::default() }
        })
        .await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteReply>, Status> {
        let request = request.into_inner();
        self.see(&request.id);
        if self.is_eventual(&request.keyspace) {
            return self.eventual_delete(request).await;
        }
        self.act(|| {
            let mut prev = vec![];
            let (revision, _) = self.once(request.id, |shared| {
                prev = delete(shared, &request.key, &request.range_end);
            });
            let deleted = prev.len() as u64;
            let prev = if request.prev { prev } else { vec![] };
            let proof = Some(self.write_proof());
            let succeeded = true;
            v1::DeleteReply { proof, succeeded, deleted, revision, prev, ..Default::default() }
        })
        .await
    }

    async fn txn(
        &self,
        request: Request<v1::TxnRequest>,
    ) -> Result<Response<v1::TxnReply>, Status> {
        let request = request.into_inner();
        self.see(&request.id);
        self.act(|| {
            let (mut succeeded, mut results) = (true, vec![]);
            let (revision, _) = self.once(request.id, |shared| {
                succeeded = request.compares.iter().all(|compare| holds(shared, compare));
                let ops = if succeeded { request.then_ops } else { request.else_ops };
                results = ops.into_iter().map(|op| run(shared, op)).collect();
            });
            v1::TxnReply { proof: Some(self.write_proof()), succeeded, revision, results }
        })
        .await
    }
}

fn run(shared: &mut Shared, op: v1::Op) -> v1::OpResult {
    use v1::op::Op;
    use v1::op_result::Result as Done;
    let done = match op.op.expect("checked by the client") {
        Op::Put(op) => {
            let prev = put(shared, &op.key, op.value).filter(|_| op.prev);
            Done::Put(v1::PutResult { prev })
        }
        Op::Delete(op) => {
            let prev = delete(shared, &op.key, &op.range_end);
            Done::Delete(v1::DeleteResult { deleted: prev.len() as u64, prev: vec![] })
        }
        Op::Get(op) => Done::Get(v1::GetResult { item: shared.items.get(&op.key[..]).cloned() }),
    };
    v1::OpResult { result: Some(done) }
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    trusts: &Pki,
) -> rustls::ServerConfig {
    let mut roots = RootCertStore::empty();
    for root in pki::certificates(&trusts.path("ca.crt")).unwrap() {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// An address on which nothing listens.
pub async fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    address.to_string()
}

/// A port that accepts connections and never says a word.
pub async fn silent_address() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    (address, task)
}
