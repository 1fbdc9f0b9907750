//! What a group wants done: the answer of [`Group::poll`](crate::Group::poll).

use std::fmt;

use proto::log::{Entry, HardState};
use proto::peer::RaftMessage;
use proto::{LogIndex, NodeId, Term};

use crate::read::ReadId;
use crate::snapshot::SnapshotMeta;

/// Counts what a group handed out for persisting; grows by one with each unit of work and starts
/// anew with each start of the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadyNumber(pub u64);

impl fmt::Display for ReadyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message for another member.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The addressee; never this node.
    pub to: NodeId,
    /// The message.
    pub message: RaftMessage,
}

/// What the write-ahead log has to take, in this order: entries, then hard state, in one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Persist {
    /// What to pass to [`Group::persisted`](crate::Group::persisted) once all of it is durable.
    pub ready: ReadyNumber,
    /// Entries with contiguous indexes; the first replaces everything at and above its index.
    pub entries: Vec<Entry>,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// False when only the commit index changed. Then it need only be *appended*, in order with
    /// the rest: nothing waits for it, no sync is owed and `persisted` need not be called. A crash
    /// that loses it costs nothing, for the commit index is learned anew.
    pub must_sync: bool,
}

/// One unit of work. It may be empty, when only the role changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupEffects {
    /// Messages that may leave at once, before anything below is done; for one addressee in the
    /// order in which they should arrive.
    pub send: Vec<Outgoing>,
    /// Messages of snapshots, which must not leave alone: each goes with an offer of the snapshot
    /// that was [set](crate::Group::set_snapshot). If none can be made, report it with
    /// [`Group::snapshot_failed`](crate::Group::snapshot_failed).
    pub offers: Vec<Outgoing>,
    /// The group continues from this snapshot, which was [handed in](crate::Group::install): the
    /// log has to take a state of the group that says so (an empty log after `index`, these members)
    /// before everything in `persist`, in the same batch. `persist` is then there, has the hard
    /// state and must be synced. Entries handed out before and not applied yet are void.
    pub installed: Option<SnapshotMeta>,
    /// What to append to the write-ahead log.
    pub persist: Option<Persist>,
    /// Entries to apply, in order, each exactly once per start, those that change members with
    /// [`Group::apply_conf_change`](crate::Group::apply_conf_change); then call
    /// [`Group::applied`](crate::Group::applied). They are durable on this node already.
    pub committed: Vec<Entry>,
    /// Confirmed reads: all that is committed up to the index must be applied before the read.
    pub reads: Vec<(ReadId, LogIndex)>,
    /// Reads that will never be confirmed, because this node lost its leadership; ask again, at the
    /// new leader.
    pub reads_lost: Vec<ReadId>,
}

/// Where a proposal stands in the log. It is committed once an entry with this index *and* this
/// term is handed out; another term at that index means that it was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Term of the entry.
    pub term: Term,
    /// Index of the entry.
    pub index: LogIndex,
}
