//! The files of a node, and everything that is done to them beside the log's own appends.
//!
//! ```text
//! wal/                       the log                                       storage::wal
//! state/<group>-<n>/         what a checkpoint wrote; the log names n      StateDirs
//! exports/<group>-<i>.exp    exports of this node, and received ones       storage::export
//!                            .new while it is written, .part while it is fetched
//! secrets/<kind>-<n>         keys that all members share                   crate::secrets
//! ```
//!
//! - [`open`](DataFiles::open) brings log, exports and state directories together at a start: it
//!   rebuilds what can be rebuilt, removes what nobody needs, and says what has to be repaired from
//!   peers.
//! - [`ExportTask`] writes an export, [`Receiver`] takes one from a peer, [`BuildTask`] makes a state
//!   of it, [`RenewTask`] copies a state into another directory, [`CheckTask`] reads an export whole. Each
//!   works in short steps, so that a thread of the shell, or the simulator between two crashes, can run
//!   them beside everything else.
//!
//! State directories are caches: whatever is wrong with one, it is moved aside and built again.

mod build;
mod check_task;
mod export_task;
mod open;
mod open_own;
mod receive;
mod renew_task;
mod repair_log;
mod replayer;
mod seed;
mod seed_catalogue;
mod seed_own;
mod state_dirs;

pub use build::{BuildStep, BuildTask};
pub use check_task::CheckTask;
pub use export_task::{ExportTask, Step as ExportStep};
pub use open::{Damage, DamagedGroup, OpenError, Opened, Ready};
pub use receive::Receiver;
pub use renew_task::{RenewStep, RenewTask};
pub use replayer::Replayer;
pub use seed::{SeedError, first_states};
pub use seed_catalogue::SeedCatalogue;
pub use state_dirs::{MemoryDirs, SledDirs, StateDirs};
pub(crate) use state_dirs::{StateNames, next_state_dir};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proto::{ClusterId, NodeId};
use storage::disk::Disk;
use storage::export::{ChunkReader, ExportError};
use storage::mvcc::MachineOptions;
use storage::wal::WalOptions;

use crate::secrets::SecretFiles;

/// Where a node's files are, and how they are made.
#[derive(Clone, Debug)]
pub struct DataFiles {
    /// The disk they are on.
    pub disk: Arc<dyn Disk>,
    /// The data directory.
    pub dir: PathBuf,
    /// The cluster; files of others are refused.
    pub cluster: ClusterId,
    /// The directories below `state/`.
    pub states: Arc<dyn StateDirs>,
    /// How the log is kept.
    pub wal: WalOptions,
    /// Bounds of the data group's state machine.
    pub machine: MachineOptions,
}

/// What a node is a member of, as far as its identity files know.
#[derive(Clone, Debug)]
pub struct Founding {
    /// The members the cluster formed with.
    pub members: Vec<(NodeId, String)>,
    /// This node joined later: it is none of them, and learns everything from a leader.
    pub joined: bool,
}

impl DataFiles {
    /// The directory of the log.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        self.dir.join("wal")
    }

    /// The directory of the exports.
    #[must_use]
    pub fn exports_dir(&self) -> PathBuf {
        self.dir.join("exports")
    }

    /// The secrets of the cluster that this node has.
    #[must_use]
    pub fn secrets(&self) -> SecretFiles {
        let (disk, dir) = (Arc::clone(&self.disk), self.dir.join("secrets"));
        SecretFiles { disk, dir, cluster: self.cluster }
    }

    /// The export that a restored or recovered cluster begins with.
    #[must_use]
    pub fn seed_path(&self) -> PathBuf {
        self.dir.join("seed.exp")
    }
}

/// The bytes of an export from `offset` on that travel at once; empty at its end.
///
/// # Errors
/// What the disk reports, or that the file has become shorter.
pub fn read_chunk(disk: &dyn Disk, path: &Path, offset: u64) -> Result<Bytes, ExportError> {
    Ok(ChunkReader::open(disk, path)?.read(offset)?.into())
}
