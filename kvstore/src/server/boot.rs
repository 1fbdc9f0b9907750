//! From a locked data directory to a node that can be driven.
//!
//! The record `cluster` is written before the log is created, the file `started` after it. So a
//! crash in between is told apart from a log that was lost: only the former begins anew.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::{ClusterId, Code, Failure, NodeId};
use storage::disk::{Disk, OpenMode};
use storage::mvcc::MachineOptions;
use storage::wal::{Tail, Wal, WalOptions};

use super::error::ServerError;
use crate::durable::{
    Damage, DataFiles, Founding, Opened as FilesOpened, Ready, SledDirs, first_states,
};
use crate::node::{CHECKPOINT_LAYER_BYTES, EXPORT_LOG_BYTES, Node, NodeBounds, NodeConfig};
use crate::secrets::Entropy;

/// The file that says that a log was created.
const STARTED: &str = "started";

/// What a node is opened with.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The node's data directory.
    pub(super) data_dir: PathBuf,
    /// The node's id.
    pub(super) id: NodeId,
    /// The node's name.
    pub(super) name: String,
    /// Random, new at every start of the process.
    pub(super) boot: u64,
    /// The cluster.
    pub(super) cluster: ClusterId,
    /// What it formed with.
    pub(super) founding: Founding,
    /// Length of new segments of the log.
    pub(super) segment_bytes: u64,
    /// Where clients reach this node.
    pub(super) client_address: String,
    /// Where peers reach this node.
    pub(super) peer_address: String,
}

impl Plan {
    /// The files that the node works on.
    pub(super) fn files(&self) -> DataFiles {
        let options = WalOptions::new(self.cluster);
        DataFiles {
            disk: disk(),
            dir: self.data_dir.clone(),
            cluster: self.cluster,
            states: Arc::new(SledDirs::new(&self.data_dir)),
            wal: WalOptions { segment_bytes: self.segment_bytes, ..options },
            machine: MachineOptions::default(),
        }
    }
}

/// The disk of the node.
#[cfg(not(feature = "lab"))]
fn disk() -> Arc<dyn Disk> {
    Arc::new(storage::disk::RealDisk)
}

/// The disk of the node, which does what the lab asks for.
#[cfg(feature = "lab")]
fn disk() -> Arc<dyn Disk> {
    crate::lab::disk()
}

/// A node that can be driven, with what its driver needs; or one that has to be repaired first.
#[derive(Debug)]
pub(super) enum Opened {
    /// It can be driven.
    Node(Box<OpenNode>),
    /// It has to be repaired.
    Damaged(Damage),
}

/// A node and its log.
#[derive(Debug)]
pub(super) struct OpenNode {
    /// The node.
    pub(super) node: Node,
    /// Its log.
    pub(super) wal: Wal,
    /// The index that the log knew to be committed in the data group.
    pub(super) commit: u64,
}

/// Creates or opens the log, opens the state, makes the node. Blocks on the disk.
pub(super) fn open(plan: Plan) -> Result<Opened, ServerError> {
    let files = plan.files();
    create_log(&files, &plan)?;
    let ready = match files.open(&plan.founding)? {
        FilesOpened::Ready(ready) => ready,
        FilesOpened::Damaged(damage) => return Ok(Opened::Damaged(damage)),
    };
    let started = plan.data_dir.join(STARTED);
    mark_started(files.disk.as_ref(), &plan.data_dir, &started)
        .map_err(|source| ServerError::System { what: "mark the log as created", source })?;
    let Ready { wal, start, epoch, commit } = ready;
    if let Tail::Torn { segment, offset } = start.recovered.tail {
        tracing::info!(segment, offset, "the log ended in an unfinished batch, which was cut");
    }
    tracing::info!(%commit, applied = %start.machine.applied(), "log and state are open");
    let entropy = Entropy::of_system()
        .map_err(|source| ServerError::System { what: "draw random bytes", source })?;
    let config = NodeConfig {
        id: plan.id,
        name: plan.name,
        cluster: plan.cluster,
        client_address: plan.client_address,
        peer_address: plan.peer_address,
        boot: plan.boot,
        seed: rand::random(),
        entropy,
        checkpoint_layer_bytes: CHECKPOINT_LAYER_BYTES,
        epoch,
        export_log_bytes: EXPORT_LOG_BYTES,
        log_bytes: wal.bytes_in_use(),
        bounds: NodeBounds::default(),
    };
    let node =
        Node::new(config, start).map_err(|error| ServerError::node(files.wal_dir(), &error))?;
    Ok(Opened::Node(Box::new(OpenNode { node, wal, commit: commit.get() })))
}

/// Creates the log of a node that has none yet.
fn create_log(files: &DataFiles, plan: &Plan) -> Result<(), ServerError> {
    let dir = files.wal_dir();
    let failed = |error| ServerError::log(dir.clone(), error);
    Wal::finish_replace(files.disk.as_ref(), &files.dir).map_err(failed)?;
    let exists = Wal::exists(files.disk.as_ref(), &dir)
        .map_err(|source| ServerError::System { what: "look for the log", source })?;
    if exists {
        return Ok(());
    }
    // Either proves that there was a log.
    if plan.data_dir.join(STARTED).exists() || plan.data_dir.join("state").exists() {
        return Err(log_lost(&dir, &plan.name).into());
    }
    let seeded = files.seed_path().exists();
    let states = if seeded && !plan.founding.joined {
        files.plant_seed(&plan.founding).map_err(|error| ServerError::seed(&error))?
    } else {
        first_states(&plan.founding)
    };
    drop(Wal::create(Arc::clone(&files.disk), &dir, files.wal.clone(), states).map_err(failed)?);
    Ok(())
}

/// Notes that the log was created, durably, before anything is written to it.
fn mark_started(disk: &dyn Disk, data_dir: &Path, started: &Path) -> io::Result<()> {
    match disk.open(started, OpenMode::CreateNew) {
        Ok(mut file) => file.sync_data()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    disk.sync_dir(data_dir)
}

/// A node whose log is gone has forgotten its votes and what it acknowledged. It must not begin
/// anew under its old identity.
fn log_lost(dir: &Path, name: &str) -> Failure {
    let why = format!("{name} belongs to a cluster, but {} holds no log", dir.display());
    Failure::new(Code::DataLost, format!("node \"{name}\""), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(data_dir: &Path) -> Plan {
        Plan {
            data_dir: data_dir.to_owned(),
            id: NodeId(7),
            name: "n1".into(),
            boot: 1,
            cluster: ClusterId([3; 16]),
            founding: Founding {
                members: vec![(NodeId(9), "n2".into()), (NodeId(7), "n1".into())],
                joined: false,
            },
            segment_bytes: storage::wal::SEGMENT_BYTES_MIN,
            client_address: "127.0.0.1:7610".into(),
            peer_address: "127.0.0.1:7611".into(),
        }
    }

    fn opened(dir: &Path) -> OpenNode {
        match open(plan(dir)).unwrap() {
            Opened::Node(node) => *node,
            Opened::Damaged(damage) => panic!("{damage:?}"),
        }
    }

    #[test]
    fn a_new_node_begins_with_all_members_as_voters() {
        let dir = tempfile::tempdir().unwrap();
        let first = opened(dir.path());
        assert_eq!(first.node.summary().voters, [NodeId(7), NodeId(9)]);
        assert_eq!(first.commit, 0);
        drop(first);
        let again = opened(dir.path());
        assert_eq!(again.node.summary().voters, [NodeId(7), NodeId(9)]);
    }

    #[test]
    fn a_node_that_lost_its_log_does_not_begin_anew() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(plan(dir.path())).unwrap());
        std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
        for proof in ["started", "state"] {
            let lost = open(plan(dir.path())).unwrap_err();
            assert_eq!(lost.exit(), 9, "{lost}");
            assert!(lost.describe().contains("KV1707"), "{}", lost.describe());
            // What is left proves it as well.
            if proof == "started" {
                std::fs::remove_file(dir.path().join(proof)).unwrap();
            }
        }
    }

    #[test]
    fn the_log_of_another_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(plan(dir.path())).unwrap());
        let other = Plan { cluster: ClusterId([4; 16]), ..plan(dir.path()) };
        let refused = open(other).unwrap_err();
        assert!(refused.describe().contains("KV1705"), "{}", refused.describe());
        assert_eq!(refused.exit(), 9);
    }
}
