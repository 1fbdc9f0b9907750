//! From a locked data directory to a node that can be driven.
//!
//! The record `cluster` is written before the log is created, the file `started` after it. So a
//! crash in between is told apart from a log that was lost: only the former begins anew.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::{ClusterId, Code, Failure, GroupId, LogIndex, NodeId, log};
use storage::disk::{Disk, OpenMode, RealDisk};
use storage::state::StateStore;
use storage::wal::{Recovered, RecoveredGroup, Tail, Wal, WalOptions};

use super::error::ServerError;
use crate::node::{CHECKPOINT_LAYER_BYTES, Node, NodeConfig};
use crate::shell;

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
    /// The members it formed with.
    pub(super) members: Vec<(NodeId, String)>,
    /// Length of new segments of the log.
    pub(super) segment_bytes: u64,
    /// Where clients reach this node.
    pub(super) client_address: String,
    /// Where peers reach this node.
    pub(super) peer_address: String,
}

/// A node that can be driven, with what its driver needs.
#[derive(Debug)]
pub(super) struct Opened {
    /// The node.
    pub(super) node: Node,
    /// Its log.
    pub(super) wal: Wal,
    /// Its state store.
    pub(super) store: Arc<dyn StateStore>,
    /// The directory of the store.
    pub(super) store_dir: PathBuf,
    /// The index that the log knew to be committed in the data group.
    pub(super) commit: u64,
}

/// Creates or opens the log, opens the state, makes the node. Blocks on the disk.
pub(super) fn open(plan: Plan) -> Result<Opened, ServerError> {
    let dir = plan.data_dir.join("wal");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (wal, recovered) = open_log(&disk, &dir, &plan)?;
    if let Tail::Torn { segment, offset } = recovered.tail {
        tracing::info!(segment, offset, "the log ended in an unfinished batch, which was cut");
    }
    let data = recovered.groups.get(&GroupId::DATA);
    let last = data.map_or(LogIndex(0), last_index);
    let commit = data.map_or(0, |group| group.hard_state.commit);
    let checkpoint = data.map_or(LogIndex(0), |group| group.checkpoint);
    let state = shell::open_state(&plan.data_dir, GroupId::DATA, last, checkpoint)?;
    tracing::info!(%last, commit, applied = %state.machine.applied(), "log and state are open");
    let config = NodeConfig {
        id: plan.id,
        name: plan.name,
        cluster: plan.cluster,
        client_address: plan.client_address,
        peer_address: plan.peer_address,
        boot: plan.boot,
        seed: rand::random(),
        checkpoint_layer_bytes: CHECKPOINT_LAYER_BYTES,
    };
    let node = Node::new(config, &plan.members, recovered, state.machine)
        .map_err(|error| ServerError::node(dir, &error))?;
    Ok(Opened { node, wal, store: state.store, store_dir: state.dir, commit })
}

fn open_log(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    plan: &Plan,
) -> Result<(Wal, Recovered), ServerError> {
    let failed = |error| ServerError::log(dir.to_owned(), error);
    let options = WalOptions { cluster: plan.cluster, segment_bytes: plan.segment_bytes };
    let exists = Wal::exists(disk.as_ref(), dir)
        .map_err(|source| ServerError::System { what: "look for the log", source })?;
    let started = plan.data_dir.join(STARTED);
    if !exists {
        // Either proves that there was a log.
        if started.exists() || plan.data_dir.join("state").exists() {
            return Err(log_lost(dir, &plan.name).into());
        }
        let groups = first_states(&plan.members);
        Wal::create(Arc::clone(disk), dir, options.clone(), groups).map_err(failed)?;
    }
    let opened = Wal::open(Arc::clone(disk), dir, options).map_err(failed)?;
    mark_started(disk.as_ref(), &plan.data_dir, &started)
        .map_err(|source| ServerError::System { what: "mark the log as created", source })?;
    Ok(opened)
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

/// The states with which the log of a new cluster begins: every member votes, nothing happened.
fn first_states(members: &[(NodeId, String)]) -> BTreeMap<GroupId, log::GroupState> {
    let mut voters: Vec<u64> = members.iter().map(|(id, _)| id.get()).collect();
    voters.sort_unstable();
    let state = |state_dir| log::GroupState {
        hard_state: Some(log::HardState::default()),
        conf_state: Some(log::ConfState { voters: voters.clone(), ..log::ConfState::default() }),
        state_dir,
        ..log::GroupState::default()
    };
    BTreeMap::from([
        // The catalogue lives in memory.
        (GroupId::META, state(String::new())),
        (GroupId::DATA, state(shell::dir_name(GroupId::DATA))),
    ])
}

fn last_index(group: &RecoveredGroup) -> LogIndex {
    group.entries.last().map_or(group.start_index, |entry| LogIndex(entry.index))
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
            members: vec![(NodeId(9), "n2".into()), (NodeId(7), "n1".into())],
            segment_bytes: storage::wal::SEGMENT_BYTES_MIN,
            client_address: "127.0.0.1:7610".into(),
            peer_address: "127.0.0.1:7611".into(),
        }
    }

    #[test]
    fn a_new_node_begins_with_all_members_as_voters() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(plan(dir.path())).unwrap();
        assert_eq!(opened.node.summary().voters, [NodeId(7), NodeId(9)]);
        assert_eq!(opened.commit, 0);
        drop(opened);
        let again = open(plan(dir.path())).unwrap();
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
