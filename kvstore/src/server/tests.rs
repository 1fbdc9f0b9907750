//! Whole servers on loopback, with real certificates and files.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::{CallOptions, Client, pki};
use proto::Code;
use storage::disk::RealDisk;
use storage::wal::SEGMENT_BYTES_DEFAULT;

use super::{Server, ServerError, ServerOptions};
use crate::config::{
    AdvertiseSection, ClusterSection, Config, InitialMember, ListenSection, NodeSection,
};
use crate::identity::{DataDir, MemberList};
use crate::rpc::front::Stage;
use crate::shell::Fatal;
use crate::tls::testing::Pki;

/// Longer than anything in a test takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a stop may take, whatever the state of the cluster.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Certificates and a data directory for node n1.
struct Site {
    pki: Pki,
    data: tempfile::TempDir,
    failures: Arc<AtomicUsize>,
}

impl Site {
    fn new() -> Self {
        let pki = Pki::new();
        pki.node("n1");
        pki.client("alice");
        Self { pki, data: tempfile::tempdir().unwrap(), failures: Arc::default() }
    }

    fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Free ports; the cluster consists of these members.
    fn config(&self, members: &[&str]) -> Config {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // Nobody listens on port 1.
        let member = |name: &&str| InitialMember {
            name: (*name).to_owned(),
            address: "127.0.0.1:1".parse().unwrap(),
        };
        Config {
            node: NodeSection { name: "n1".into(), data_dir: self.data_dir().to_owned() },
            listen: ListenSection { client: free, peer: free, admin: free },
            advertise: AdvertiseSection::default(),
            cluster: ClusterSection {
                name: "test".into(),
                initial: members.iter().map(member).collect(),
                join: Vec::new(),
            },
            tls: self.pki.section("n1"),
        }
    }

    async fn start(&self, members: &[&str]) -> Result<Server, ServerError> {
        let failures = Arc::clone(&self.failures);
        let fatal = Fatal::new(move |_| {
            failures.fetch_add(1, Ordering::Relaxed);
        });
        let segment_bytes = SEGMENT_BYTES_DEFAULT / 8;
        Server::start(self.config(members), ServerOptions { fatal, segment_bytes }).await
    }

    fn client(&self, server: &Server) -> Client {
        let files = self.pki.section("alice");
        let credentials = pki::load(&files.ca, &files.cert, &files.key).unwrap();
        let endpoints = vec![server.addresses().client.to_string()];
        Client::connect(client::Config::new(endpoints, credentials)).unwrap()
    }
}

async fn ready(server: &mut Server) {
    tokio::time::timeout(PATIENCE, server.ready()).await.unwrap().unwrap();
}

async fn stop(server: Server) {
    let start = Instant::now();
    server.stop().await;
    assert!(start.elapsed() < STOP_MAX, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_serves_stops_and_comes_back_with_its_data() {
    let site = Site::new();
    let options = CallOptions::default();
    let mut server = site.start(&["n1"]).await.unwrap();
    ready(&mut server).await;
    let client = site.client(&server);
    let reply = client.put_value("a", "1", &options).await.unwrap();
    assert_eq!((reply.succeeded, reply.revision), (true, 2));
    stop(server).await;

    let mut server = site.start(&["n1"]).await.unwrap();
    ready(&mut server).await;
    let client = site.client(&server);
    assert_eq!(client.get_value("a", &options).await.unwrap().as_deref(), Some(&b"1"[..]));
    let status = client.status(&options).await.unwrap();
    assert_eq!((status.revision, status.voters, status.nodes.len()), (2, 1, 1));
    stop(server).await;
    assert_eq!(site.failures.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_others_says_so_and_stops_at_once() {
    let site = Site::new();
    let server = site.start(&["n1", "n2"]).await.unwrap();
    assert!(matches!(*server.front.stages().borrow(), Stage::Forming));
    let checks = server.front.checks();
    assert!(checks.live.is_ok() && !checks.local() && !checks.linearizable(), "{checks:?}");
    let options = CallOptions { timeout: Some(Duration::from_secs(1)), ..CallOptions::default() };
    let client = site.client(&server);
    let error = client.put_value("a", "1", &options).await.unwrap_err();
    assert!(error.to_string().contains("KV1207"), "{error}");
    stop(server).await;
    assert!(!site.data_dir().join("wal").exists(), "nothing was decided yet");
}

/// What a node listens on may be every address; the others know one at which it is reached.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_its_peers_where_it_is_reached() {
    let site = Site::new();
    let mut config = site.config(&["n1", "n2"]);
    config.listen.peer = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let options = ServerOptions::new(Fatal::new(|_| {}));
    let server = Server::start(config, options).await.unwrap();
    assert_eq!(server.front.identity().peer_address, "127.0.0.1:1");
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_serves_one_process() {
    let site = Site::new();
    let mut server = site.start(&["n1"]).await.unwrap();
    ready(&mut server).await;
    let refused = site.start(&["n1"]).await.unwrap_err();
    assert!(refused.describe().contains("KV1704"), "{}", refused.describe());
    assert_eq!(refused.exit(), 1);
    stop(server).await;
    stop(site.start(&["n1"]).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut config = site.config(&["n1"]);
    config.listen.client = taken.local_addr().unwrap();
    let options = ServerOptions::new(Fatal::new(|_| {}));
    match Server::start(config, options).await.unwrap_err() {
        ServerError::Listen { purpose, address, .. } => {
            assert_eq!((purpose, address), ("clients", taken.local_addr().unwrap()));
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_is_refused() {
    let site = Site::new();
    let mut server = site.start(&["n1"]).await.unwrap();
    ready(&mut server).await;
    stop(server).await;
    std::fs::remove_dir_all(site.data_dir().join("wal")).unwrap();
    let mut server = site.start(&["n1"]).await.unwrap();
    match tokio::time::timeout(PATIENCE, server.ready()).await.unwrap().unwrap_err() {
        ServerError::Failure(failure) => assert_eq!(failure.code, Code::DataLost, "{failure}"),
        other => panic!("{other}"),
    }
    stop(server).await;
}

/// A start that is stuck on the disk may still write when it comes through.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_stuck_keeps_the_directory_locked() {
    let site = Site::new();
    let mut server = site.start(&["n1"]).await.unwrap();
    ready(&mut server).await;
    stop(server).await;
    // A pipe without a writer: whoever opens it to read hangs, as on a dead disk.
    let wal = site.data_dir().join("wal");
    let first = std::fs::read_dir(&wal).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let kept = first.with_extension("kept");
    std::fs::rename(&first, &kept).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&first).status().unwrap();
    assert!(made.success());
    let pipe = site.data_dir().join("pipe");
    std::fs::hard_link(&first, &pipe).unwrap();
    let server = site.start(&["n1"]).await.unwrap();
    let opening = async {
        let mut stages = server.front.stages();
        stages.wait_for(|stage| matches!(stage, Stage::Opening)).await.unwrap();
    };
    tokio::time::timeout(PATIENCE, opening).await.unwrap();
    stop(server).await;
    let refused = site.start(&["n1"]).await.unwrap_err();
    assert!(refused.describe().contains("KV1704"), "{}", refused.describe());
    // The disk comes back: the file first, as a start that finds a damaged log reads it once more. Then
    // whoever opens the pipe to write waits for the reader, and frees it.
    std::fs::rename(&kept, &first).unwrap();
    let open = move || std::fs::OpenOptions::new().write(true).open(pipe).map(drop);
    tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(open))
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let freed = async {
        loop {
            match site.start(&["n1"]).await {
                Ok(server) => return server,
                Err(error) => assert!(error.describe().contains("KV1704"), "{error}"),
            }
        }
    };
    let mut server = tokio::time::timeout(PATIENCE, freed).await.unwrap();
    ready(&mut server).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b20_a_node_that_knows_that_it_was_removed_says_so_and_what_to_do() {
    let site = Site::new();
    let mut server = site.start(&["n1"]).await.unwrap();
    ready(&mut server).await;
    stop(server).await;
    let dir = DataDir::open(Arc::new(RealDisk), site.data_dir(), "n1", "test").unwrap();
    let list = MemberList { members: Vec::new(), removed: [dir.node()].into() };
    dir.members_file().write(&list).unwrap();
    drop(dir);
    let server = site.start(&["n1"]).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, server.removed()).await.unwrap();
    assert_eq!(error.exit(), 9);
    let text = error.describe();
    for part in ["error[KV1708]: node \"n1\"", "has removed n1", "empty data_dir", "kv cluster add"]
    {
        assert!(text.contains(part), "{text}");
    }
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_waits_and_a_seed_is_refused() {
    let site = Site::new();
    let start = || async {
        let mut config = site.config(&[]);
        config.cluster.join = vec!["127.0.0.1:1".parse().unwrap()];
        Server::start(config, ServerOptions::new(Fatal::new(|_| {}))).await.unwrap()
    };
    let server = start().await;
    assert!(matches!(*server.front.stages().borrow(), Stage::Forming));
    stop(server).await;
    assert!(!site.data_dir().join("wal").exists(), "nothing was decided yet");
    std::fs::write(site.data_dir().join("seed.exp"), "an export").unwrap();
    let mut server = start().await;
    let refused = tokio::time::timeout(PATIENCE, server.ready()).await.unwrap().unwrap_err();
    assert_eq!(refused.exit(), 2);
    assert!(refused.describe().contains("seed.exp"), "{}", refused.describe());
    stop(server).await;
}
