//! Planted bugs. Each must be found, or the simulation sees nothing.

use std::fmt;

/// A bug that the simulated world plants around the shipped node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// An append is reported durable before it is synced (etcd#14370, NATS#7564; B03, B27).
    AckBeforeSync,
    /// The vote does not reach the disk: a node that restarts votes again in the same term.
    VoteForgotten,
    /// A checkpoint's position becomes durable before its records (etcd#13766; B01).
    AppliedIndexApart,
    /// Linearizable reads are answered from the local state (etcd 0.4, Consul).
    ReadWithoutQuorum,
    /// A repeated write is executed again (etcd#18424; B22).
    DoubleApply,
}

impl Mutant {
    /// Every planted bug.
    pub const ALL: [Self; 5] = [
        Self::AckBeforeSync,
        Self::VoteForgotten,
        Self::AppliedIndexApart,
        Self::ReadWithoutQuorum,
        Self::DoubleApply,
    ];

    /// Reads the name that [`fmt::Display`] writes.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.to_string() == name)
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AckBeforeSync => "ack-before-sync",
            Self::VoteForgotten => "vote-forgotten",
            Self::AppliedIndexApart => "applied-index-apart",
            Self::ReadWithoutQuorum => "read-without-quorum",
            Self::DoubleApply => "double-apply",
        })
    }
}
