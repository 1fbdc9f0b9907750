//! What a node is doing, in a word.
//!
//! `kv cluster status`, `kv cluster members` and `kv node ping` show these words, and nodes tell them
//! each other. Which one holds is decided here and nowhere else. `docs/operations.md` says what each
//! means to an operator.

use std::fmt;

use crate::node::Summary;

/// A node this many entries behind is shown as slow.
const SLOW_LAG: u64 = 1_000;

/// The state of a node. The first that applies of the order of declaration counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// The answering node does not hear it. Only others say so of a node.
    Unreachable,
    /// It was asked to stop.
    Stopping,
    /// It fetches data that it lost, and serves nothing.
    Repairing,
    /// Its loop makes no progress.
    Stuck,
    /// It has not applied and confirmed yet all that was committed when it started. Without a quorum it
    /// stays so.
    Starting,
    /// It has started, and knows no leader now: there is no quorum, or an election goes on.
    Leaderless,
    /// As leader it refuses writes until it has written an export.
    Overloaded,
    /// It serves, and is far behind the leader. Only others say so of a node.
    Slow,
    /// It serves.
    Serving,
}

impl NodeState {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Stopping => "stopping",
            Self::Repairing => "repairing",
            Self::Stuck => "stuck",
            Self::Starting => "starting",
            Self::Leaderless => "leaderless",
            Self::Overloaded => "overloaded",
            Self::Slow => "slow",
            Self::Serving => "serving",
        }
    }

    /// The state of a node that runs and says this about itself.
    #[must_use]
    pub fn of_running(is_alive: bool, summary: &Summary) -> Self {
        match (is_alive, summary.ready, summary.leader, summary.overloaded) {
            (false, ..) => Self::Stuck,
            (true, false, ..) => Self::Starting,
            (true, true, None, _) => Self::Leaderless,
            (true, true, Some(_), true) => Self::Overloaded,
            (true, true, Some(_), false) => Self::Serving,
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state of a peer: what it says of itself (nothing before its node runs), and what is known of it
/// here. A word that this version does not know is passed on.
#[must_use]
pub fn of_peer(reachable: bool, says: &str, lag: u64) -> &str {
    match (reachable, says) {
        // What it was when it was last heard may be wrong by now.
        (false, _) => NodeState::Unreachable.as_str(),
        (true, "") => NodeState::Starting.as_str(),
        (true, says) if says == NodeState::Serving.as_str() && lag > SLOW_LAG => {
            NodeState::Slow.as_str()
        }
        (true, says) => says,
    }
}

#[cfg(test)]
mod tests {
    use proto::NodeId;

    use super::*;

    #[test]
    fn a_node_that_runs_is_in_one_state() {
        let led = Some(NodeId(2));
        for (alive, ready, leader, overloaded, state) in [
            (true, true, led, false, NodeState::Serving),
            (true, true, led, true, NodeState::Overloaded),
            (true, true, None, false, NodeState::Leaderless),
            (true, true, None, true, NodeState::Leaderless),
            (true, false, led, false, NodeState::Starting),
            (true, false, None, false, NodeState::Starting),
            (false, true, led, false, NodeState::Stuck),
        ] {
            let summary = Summary { ready, leader, overloaded, ..Summary::default() };
            assert_eq!(NodeState::of_running(alive, &summary), state, "{summary:?}");
        }
    }

    #[test]
    fn a_peer_says_itself_what_it_is_busy_with() {
        for (says, shown) in [
            ("", "starting"),
            ("starting", "starting"),
            ("repairing", "repairing"),
            ("overloaded", "overloaded"),
            ("leaderless", "leaderless"),
            ("of a newer version", "of a newer version"),
            ("serving", "slow"),
        ] {
            assert_eq!(of_peer(true, says, SLOW_LAG + 1), shown);
            assert_eq!(of_peer(false, says, 0), "unreachable");
        }
        assert_eq!(of_peer(true, "serving", SLOW_LAG), "serving");
    }
}
