//! What the group knows of a snapshot: where it stands and who the members are there. Its content
//! travels beside the group, which never sees it.

use proto::{LogIndex, Term, log};

/// A snapshot: the state of the group after the entry at `index`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotMeta {
    /// The last entry that the state contains.
    pub index: LogIndex,
    /// Term of that entry.
    pub term: Term,
    /// The members at that index.
    pub conf_state: log::ConfState,
    /// The membership changes up to this one are in `conf_state`.
    pub change: u64,
}
