//! Exports: the state of a group as of one log index, in one file.
//!
//! One format is Raft snapshot, backup, what a node keeps for its own safety, and what a restored
//! or recovered cluster starts from. A file is written once, by [`ExportWriter`], and never changed;
//! [`ExportReader`] gives its records back in the order in which they were pushed. What the records
//! mean is the business of the state machine; here they are an ordered list.
//!
//! ```text
//! header    whose state this is, as of which index, with which members
//! chunks    records, up to 256 KiB of them in a chunk; a larger record is a chunk of its own
//! trailer   how many chunks and records, and the SHA-256 of everything before it
//! ```
//!
//! Each part has a checksum of its own (`header`, `chunk` and `trailer` have the layouts byte by
//! byte), and those of chunks and trailer begin with the header: a chunk that is damaged, moved, or
//! taken from another export does not verify, and none of its records is returned. That nothing is
//! missing is known at the trailer only, so whoever builds something from an export uses it after
//! [`ExportReader::next`] returned `None`, not before.
//!
//! A file gets its name (`<group>-<index>.exp`, [`path_of`]) after it was synced. What a crash
//! leaves of an unfinished one is called `.new`, or `.part` when it is being received ([`PartFile`]);
//! [`sweep`] removes those at the next start. Nothing here removes anything because a file is
//! damaged: [`prune`] removes what a whole and newer export makes superfluous.

mod chunk;
mod error;
mod files;
mod header;
mod reader;
mod trailer;
mod transfer;
mod writer;

pub use error::ExportError;
pub use files::{exports_in, path_of, prune, set_aside, sweep};
pub use header::{ExportHeader, FORMAT_VERSION};
pub use reader::{ExportReader, inspect, verify};
pub use transfer::{ChunkReader, PartFile, TRANSFER_CHUNK_BYTES};
pub use writer::{ExportWriter, RECORD_BYTES_MAX};

use std::path::PathBuf;

/// A whole export on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub header: ExportHeader,
    /// Length of the file.
    pub bytes: u64,
    /// How many records it holds.
    pub records: u64,
    /// SHA-256 of all of the file but the end of its trailer, as the trailer has it. Two exports
    /// with the same hash are the same.
    pub sha256: [u8; 32],
}

/// How much is written between two syncs. A sync of a whole large export at once would make those
/// of the log wait for it.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;
