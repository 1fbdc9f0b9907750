//! Durable bytes of a node.
//!
//! - [`disk`]: the file system behind a trait, real and simulated ([`Disk`]).
//! - [`wal`]: the write-ahead log of a node ([`Wal`]).
//! - [`state`]: engines that keep ordered key-value pairs between checkpoints ([`StateStore`]):
//!   sled on disk, memory for the simulation, and the suite both of them pass.
//! - [`export`]: the state of a group in one file: snapshot, backup, and what a node keeps for its
//!   own safety ([`ExportWriter`], [`ExportReader`]).
//! - [`backup`]: exports of several groups in one file ([`BackupFile`]).
//! - [`mvcc`]: [`Machine`], the state machine of a data group: keyspaces, versions, transactions
//!   and the exactly-once table, over a [`StateStore`].
//!
//! The write-ahead log is the truth, the state store is a cache of it. [`Machine`] applies
//! committed entries to an in-memory layer; from time to time a checkpoint moves the layer into
//! the store. After a crash the machine opens at the last finished checkpoint and the log is
//! replayed from there, so nothing that an engine loses is lost for good. The log is freed up to the
//! newest export that is durable.
//!
//! This crate knows no network, no async runtime and no clock, and starts no thread of its own.

pub mod backup;
pub mod disk;
pub mod export;
pub mod mvcc;
mod numbers;
pub mod state;
pub mod wal;

pub use backup::BackupFile;
pub use disk::Disk;
pub use export::{ExportReader, ExportWriter};
pub use mvcc::Machine;
pub use state::StateStore;
pub use wal::Wal;
