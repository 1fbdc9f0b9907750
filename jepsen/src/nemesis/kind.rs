//! The nemeses by name.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// What disturbs the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NemesisKind {
    /// Nothing.
    #[default]
    None,
    /// SIGKILL of one node, the leader or all nodes, and restarts.
    Kill,
    /// SIGSTOP of one node or the leader, and SIGCONT: a node that does not notice how late it is.
    Pause,
    /// Nodes that cannot talk to each other: one, a majority, a ring, a bridge, one way only.
    Partition,
    /// Messages between nodes that arrive late.
    Delay,
    /// Narrow lines between nodes.
    Throttle,
    /// Connections that are reset, between nodes and of clients.
    Reset,
    /// A member that is removed and comes back with nothing.
    Members,
    /// Leadership that is handed on.
    Leader,
    /// Files of a stopped node that are damaged.
    Files,
    /// A disk that is full, slow, fails, or loses what was not synced; crashes at chosen operations.
    Disk,
    /// Messages between nodes that are lost, doubled or overtaken.
    Messages,
    /// Wall clocks that jump and drift.
    Clock,
}

impl NemesisKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::None,
        Self::Kill,
        Self::Pause,
        Self::Partition,
        Self::Delay,
        Self::Throttle,
        Self::Reset,
        Self::Members,
        Self::Leader,
        Self::Files,
        Self::Disk,
        Self::Messages,
        Self::Clock,
    ];

    /// The word of the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::Delay => "delay",
            Self::Throttle => "throttle",
            Self::Reset => "reset",
            Self::Members => "members",
            Self::Leader => "leader",
            Self::Files => "files",
            Self::Disk => "disk",
            Self::Messages => "messages",
            Self::Clock => "clock",
        }
    }

    /// What it does, in a line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Kill => "SIGKILL of one node, the leader or all, and restarts",
            Self::Pause => "SIGSTOP of one node or the leader, and SIGCONT",
            Self::Partition => {
                "nodes cut off or stalled: one, a majority, a ring of majorities, a bridge, one way"
            }
            Self::Delay => "messages between nodes arrive late",
            Self::Throttle => "few bytes a second between nodes",
            Self::Reset => "connections between nodes and of clients are reset",
            Self::Members => "a member is removed, and added again with an empty directory",
            Self::Leader => "leadership is handed to another node",
            Self::Files => {
                "flipped bits, cut files, lost state, exports in wrong places, on one stopped node"
            }
            Self::Disk => {
                "a full, slow or failing disk, lost unsynced writes, crashes at chosen operations \
                 (needs a server built with the feature `lab`)"
            }
            Self::Messages => {
                "messages between nodes are lost, doubled or overtaken (needs a server built with \
                 the feature `lab`)"
            }
            Self::Clock => {
                "wall clocks of one node, a minority or all jump or drift (needs libfaketime, else \
                 it is skipped)"
            }
        }
    }

    /// Whether it can disturb a cluster that the lab did not start.
    #[must_use]
    pub const fn needs_own_cluster(self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether it needs a server that was built with the feature `lab`.
    #[must_use]
    pub const fn needs_lab_server(self) -> bool {
        matches!(self, Self::Disk | Self::Messages)
    }

    /// Whether it needs nodes whose wall clocks the lab can move. Where it cannot, the nemesis is left
    /// out of a run, which says so.
    #[must_use]
    pub const fn moves_clocks(self) -> bool {
        matches!(self, Self::Clock)
    }

    /// Whether it takes from a node what that had promised to keep.
    #[must_use]
    pub const fn is_lossy(self) -> bool {
        matches!(self, Self::Members | Self::Files)
    }

    /// Whether it and another one strike at the same time. Where both are lossy, one waits for the
    /// other.
    #[must_use]
    pub const fn goes_with(self, other: Self) -> bool {
        !(self.is_lossy() && other.is_lossy())
    }

    /// How many nodes there must be for it to make sense.
    #[must_use]
    pub const fn nodes_min(self) -> usize {
        match self {
            Self::None | Self::Kill | Self::Pause | Self::Reset | Self::Disk | Self::Clock => 1,
            Self::Partition | Self::Delay | Self::Throttle | Self::Leader | Self::Messages => 2,
            Self::Members | Self::Files => 3,
        }
    }
}

impl fmt::Display for NemesisKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for NemesisKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.into_iter().map(Self::as_str).collect();
            format!("there is no nemesis \"{word}\"; there are {}", all.join(", "))
        })
    }
}
