//! A running node of a cluster of one, over a simulated disk.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use proto::v1::{self, op::Op};
use proto::{ClusterId, Failure, NodeId, log};
use storage::disk::SimDisk;
use storage::mvcc::MachineOptions;
use storage::wal::{SEGMENT_BYTES_MIN, Wal, WalOptions};

use super::{Admission, Fatal, Mailbox, NodeHandle, Shell, ShellParts};
use crate::durable::{DataFiles, Founding, MemoryDirs, Opened, first_states};
use crate::metrics::Metrics;
use crate::node::{EXPORT_LOG_BYTES, Node, NodeBounds, NodeConfig, Reply, Request};
use crate::replication::EventualOptions;
use crate::secrets::Entropy;

/// Longer than anything in a test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of the memory layer at which a checkpoint begins.
pub(crate) const LAYER_BYTES: usize = 1024 * 1024;

pub(crate) const CLUSTER: ClusterId = ClusterId([5; 16]);

/// A node that leads itself.
pub(crate) struct SingleNode {
    pub(crate) shell: Shell,
    pub(crate) disk: SimDisk,
    pub(crate) metrics: Arc<Metrics>,
    /// What the node reported when it could not go on.
    pub(crate) failures: mpsc::Receiver<String>,
}

/// What this thread logs meanwhile, one line an event.
pub(crate) fn logged(run: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, run);
    String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
}

/// Takes the lines of a log; clones share them.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A node of a cluster of one, from what is on `disk`; its log is created where there is none.
pub(crate) fn opened(disk: &SimDisk) -> (Node, Wal, DataFiles) {
    opened_with(disk, |_| {})
}

/// The same with another configuration.
pub(crate) fn opened_with(
    disk: &SimDisk,
    adjust: impl FnOnce(&mut NodeConfig),
) -> (Node, Wal, DataFiles) {
    let options = WalOptions::new(CLUSTER);
    reopened(
        DataFiles {
            disk: Arc::new(disk.clone()),
            dir: "/data".into(),
            cluster: CLUSTER,
            states: Arc::new(MemoryDirs::default()),
            wal: WalOptions { segment_bytes: SEGMENT_BYTES_MIN * 2, ..options },
            machine: MachineOptions::default(),
        },
        adjust,
    )
}

/// The same with what is left of its state.
pub(crate) fn reopened(
    files: DataFiles,
    adjust: impl FnOnce(&mut NodeConfig),
) -> (Node, Wal, DataFiles) {
    let founding = Founding { members: vec![(NodeId(1), "n1".into())], joined: false };
    if !Wal::exists(files.disk.as_ref(), &files.wal_dir()).unwrap() {
        let states = first_states(&founding);
        Wal::create(files.disk.clone(), &files.wal_dir(), files.wal.clone(), states).unwrap();
    }
    let ready = match files.open(&founding).unwrap() {
        Opened::Ready(ready) => ready,
        Opened::Damaged(damage) => panic!("{damage:?}"),
    };
    let mut config = NodeConfig {
        id: NodeId(1),
        name: "n1".into(),
        cluster: CLUSTER,
        client_address: "127.0.0.1:7610".into(),
        peer_address: "127.0.0.1:7611".into(),
        boot: 1,
        seed: 1,
        entropy: Entropy::predictable(1),
        checkpoint_layer_bytes: LAYER_BYTES,
        epoch: 0,
        export_log_bytes: EXPORT_LOG_BYTES,
        log_bytes: 0,
        bounds: NodeBounds::default(),
    };
    adjust(&mut config);
    let node = Node::new(config, ready.start).unwrap();
    (node, ready.wal, files)
}

impl SingleNode {
    /// Creates a log on `disk`, or opens the one that is there.
    pub(crate) fn start(disk: &SimDisk) -> Self {
        Self::start_with(disk, |_| {})
    }

    /// The same with another configuration.
    pub(crate) fn start_with(disk: &SimDisk, adjust: impl FnOnce(&mut NodeConfig)) -> Self {
        let (node, wal, files) = opened_with(disk, adjust);
        let metrics = Arc::new(Metrics::default());
        let (failed, failures) = mpsc::channel();
        let fatal = Fatal::new(move |why| {
            // The test may have ended.
            let _ = failed.send(why.to_owned());
        });
        let shell = Shell::start(ShellParts {
            name: "n1".into(),
            node,
            wal,
            files,
            mailbox: Mailbox::default(),
            admission: Arc::new(Admission::default()),
            send: Arc::new(|_, _| {}),
            tell_members: Box::new(|_, _| {}),
            metrics: Arc::clone(&metrics),
            fatal,
            campaign_with_links: Some(0),
        })
        .unwrap();
        Self { shell, disk: disk.clone(), metrics, failures }
    }

    /// Waits until the node serves.
    pub(crate) async fn ready(&self) -> NodeHandle {
        let handle = self.shell.handle();
        let mut summaries = handle.summaries();
        let ready = summaries.wait_for(|summary| summary.ready);
        tokio::time::timeout(PATIENCE, ready).await.unwrap().unwrap();
        handle
    }

    /// Stops the node.
    pub(crate) async fn stop(self) {
        tokio::task::spawn_blocking(move || self.shell.stop()).await.unwrap();
    }
}

pub(crate) fn put_request(key: &str, value: &[u8]) -> Request {
    let op = Op::Put(v1::PutOp {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value),
        prev: false,
    });
    let write = log::Write { then_ops: vec![v1::Op { op: Some(op) }], ..log::Write::default() };
    Request::Write { keyspace: "default".into(), write, options: EventualOptions::default() }
}

pub(crate) async fn put(node: &NodeHandle, key: &str, value: &[u8]) -> Result<Reply, Failure> {
    node.call(put_request(key, value), PATIENCE).await
}

/// The value of a key, read linearizably.
pub(crate) async fn get(node: &NodeHandle, key: &str) -> Option<Bytes> {
    let request = v1::GetRequest {
        keyspace: "default".into(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..v1::GetRequest::default()
    };
    match node.call(Request::Get(request), PATIENCE).await.unwrap() {
        Reply::Get(reply) => reply.item.map(|item| item.value),
        other => panic!("{other:?}"),
    }
}
