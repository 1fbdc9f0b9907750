//! The write-ahead log: one per node, all groups and kinds of frames together.
//!
//! # How it works
//!
//! [`Wal::append`] collects frames in memory. [`Wal::sync`] writes them as one *batch*, one
//! contiguous write and one fdatasync; when it returns, they are durable (B03). A batch is
//! numbered, and its checksum covers its numbers, so that recovery can tell a write that was
//! interrupted, a *torn tail*, from *damage* to something that was synced (B51).
//!
//! Batches go into *segments*, files that are filled with zeros and synced ahead of their use:
//! [`Wal::prepare_step`] does that in slices while the log is idle, and [`Wal::sync`] does its
//! share when that falls behind. A batch that does not fit goes to the next segment, behind one
//! `GroupState` frame for each group; so no segment depends on an older one for a vote, a term or
//! where a log begins.
//!
//! After 20 ms of silence the caller adds a *seal* ([`Wal::seal`]), a batch that says the state of
//! every group once more. It makes damage to the batch before it visible, and tells term, vote and
//! end of each group whatever happens to older batches.
//!
//! Once a state durably moves the beginning of a group's log, [`Wal::free`] gives up the oldest
//! segments that no group needs for its entries. The first segment that remains may then speak of
//! entries that are gone; recovery accepts such a *hole* if the end of the log covers it.
//!
//! [`replay()`] reads entries again that [`Wal::open`] did not return. [`salvage()`] reads what is
//! left of a damaged log, and [`Wal::replace`] puts another one in its place.
//!
//! The format, byte by byte, is in `docs/disk.md`.
//!
//! # Errors
//!
//! Failing to prepare a segment is [`WalError::Full`]: nothing is lost, and the call can be
//! repeated. Any failure while writing or syncing a batch poisons the log: what the disk holds is
//! then unknown, and a second fdatasync might succeed without having written it (B50). So does a
//! failure to free a segment. Damage and foreign files stop [`Wal::open`] before it changes
//! anything.
//!
//! # Files
//!
//! - `wal-<number>.seg`: a segment; number in 16 hex digits, ascending without gaps, never reused.
//! - `wal-<number>.new`: a segment in the making; means nothing and is removed at the next start.
//! - `wal-<number>.old`: a segment that was freed; means nothing, and the next segment is made of
//!   it.

mod batch;
mod error;
mod free;
mod open;
mod outline;
mod prepare;
mod recover;
mod replace;
mod replay;
mod salvage;
mod segment;
mod track;
mod writer;

pub use error::{ReplayError, WalError};
pub use replay::replay;
pub use salvage::{SalvagedGroup, salvage};
pub use writer::Wal;

use std::collections::BTreeMap;

use proto::{ClusterId, GroupId, LogIndex, Term, limits, log};

/// Length of a segment in production.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// Least length of a segment.
pub const SEGMENT_BYTES_MIN: u64 = 32 * 1024;
/// Most frame bytes of one batch, whatever the length of the segments. More open frames than that
/// become several batches, each synced on its own.
pub const BATCH_FRAME_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How much of a group's entries that a checkpoint covers [`Wal::open`] returns, in production.
pub const KEEP_BYTES_DEFAULT: u64 = 8 * 1024 * 1024;
/// Most freed segments that are kept for the segments to come; others are removed.
pub const RECYCLED_MAX: usize = 2;

/// Number of the first segment of a log.
const FIRST_SEGMENT: u64 = 1;
/// Number of the first batch of a log.
const FIRST_BATCH: u64 = 1;

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// The cluster of this node; logs of others are refused.
    pub cluster: ClusterId,
    /// Length of new segments: at least [`SEGMENT_BYTES_MIN`], a multiple of 4096. Short ones cost
    /// more preparation, long ones more time at start and coarser freeing. Changing it affects
    /// segments made from then on.
    pub segment_bytes: u64,
    /// Most bytes, of the entries of a group that a checkpoint covers, that [`Wal::open`] returns.
    /// Much costs memory at start; little makes followers that are only a bit behind wait until
    /// older entries are read again, or take a snapshot. Entries behind the checkpoint are always
    /// returned.
    pub keep_bytes: u64,
}

impl WalOptions {
    /// The options of a production log.
    #[must_use]
    pub const fn new(cluster: ClusterId) -> Self {
        Self { cluster, segment_bytes: SEGMENT_BYTES_DEFAULT, keep_bytes: KEEP_BYTES_DEFAULT }
    }

    /// Most bytes of one encoded frame, its length prefix included. `Entries` frames above that
    /// are divided between entries, so it is a limit for single entries.
    #[must_use]
    pub const fn frame_bytes_max(&self) -> u64 {
        let half = self.segment_bytes / 2;
        if half < BATCH_FRAME_BYTES_MAX { half } else { BATCH_FRAME_BYTES_MAX }
    }

    /// Most bytes of the states of all groups, at the head of a segment or in a seal.
    #[must_use]
    pub const fn state_bytes_max(&self) -> u64 {
        self.segment_bytes / 8
    }

    fn check(&self) {
        assert!(
            self.segment_bytes >= SEGMENT_BYTES_MIN,
            "segments of {} bytes are shorter than {SEGMENT_BYTES_MIN}",
            self.segment_bytes
        );
        assert!(
            self.segment_bytes.is_multiple_of(segment::DATA_START),
            "segments of {} bytes are not made of whole pages",
            self.segment_bytes
        );
    }
}

// The head of a segment, a full batch and a seal fit into a segment: 1/8 + 1/2 + 1/8 of it, its
// header, and header and padding of the two batches.
const _: () = assert!(SEGMENT_BYTES_MIN / 4 >= segment::DATA_START + 4 * batch::SECTOR_BYTES);
// Whatever a peer can send in one message can be logged.
const _: () = assert!(
    WalOptions::new(ClusterId([0; 16])).frame_bytes_max() > limits::PEER_MESSAGE_BYTES_MAX as u64
);

// So can an item that a node remembers by itself, also in segments of an eighth of the usual length.
const _: () = assert!(
    SEGMENT_BYTES_DEFAULT / 8 / 2
        > (limits::ITEM_VALUE_BYTES_MAX + limits::ITEM_KEY_BYTES_MAX + 1024) as u64
);

/// What a log held when it was opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// All groups.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// How the log ended.
    pub tail: Tail,
}

/// One group as recovered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecoveredGroup {
    /// Term, vote and commit; `commit` is at most the last entry.
    pub hard_state: log::HardState,
    /// Members as of the start of the log or later.
    pub conf_state: log::ConfState,
    /// `conf_state` carries out the membership changes up to this one.
    pub change: u64,
    /// The log begins after this entry.
    pub start_index: LogIndex,
    /// Term of the entry at `start_index`.
    pub start_term: Term,
    /// The first of `entries`, or the one after the last entry of the log if there are none. Those
    /// between `start_index` and this one can be [replayed](replay()).
    pub first_kept: LogIndex,
    /// Term of the entry before `first_kept`.
    pub kept_term: Term,
    /// The entries from `first_kept` to the end of the log, ascending without gaps. Above
    /// `checkpoint` none is missing, provided that no frame ever lowered it.
    pub entries: Vec<log::Entry>,
    /// The state store holds everything up to this entry.
    pub checkpoint: LogIndex,
    /// Directory of the group's state; empty when it keeps none.
    pub state_dir: String,
}

/// How a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// With a whole batch.
    Clean,
    /// With remnants of a batch that was never synced. They have been cut.
    Torn {
        /// Number of the segment.
        segment: u64,
        /// Where the batch began.
        offset: u64,
    },
}

/// What a log has done since it was opened, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Syncs of batches, seals included. Equal to the number of batches written.
    pub syncs: u64,
    /// Seals among them.
    pub seals: u64,
    /// Log entries written.
    pub entries: u64,
    /// Bytes written, headers and padding included.
    pub bytes: u64,
    /// Segments started.
    pub segments: u64,
    /// Steps of preparing segments that [`Wal::sync`] had to take because they were not taken
    /// before.
    pub late_steps: u64,
}
