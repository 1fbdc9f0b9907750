//! The settings of every group, as named constants, and the library configuration made of them.
//!
//! They are not tunable at run time: nodes that disagree about them elect badly, and the
//! simulation should run what production runs.

use std::ops::Range;
use std::time::Duration;

use proto::{GroupId, LogIndex, NodeId};
use raft::ReadOnlyOption;

/// Time between two calls of [`Group::tick`](crate::Group::tick). All other times count ticks.
pub const TICK: Duration = Duration::from_millis(50);
/// Ticks between two heartbeats of a leader.
pub const HEARTBEAT_TICKS: usize = 2;
/// Shortest time without a leader before a follower stands for election, the time for which a
/// follower that hears its leader refuses to vote for another, and how often a leader checks that
/// a majority still answers.
pub const ELECTION_TICKS: usize = 20;
/// Election timeouts are drawn from `[start, end)`, anew at every change of term or role.
pub const ELECTION_TIMEOUT_TICKS: Range<usize> = ELECTION_TICKS..2 * ELECTION_TICKS;
/// Most bytes of proposals a leader holds that are not committed yet; above, proposals are refused
/// with [`ProposeError::LogFull`](crate::ProposeError::LogFull). One proposal is always accepted
/// when nothing else is waiting.
pub const UNCOMMITTED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most bytes of entries in one append message; a single larger entry travels alone.
pub const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;
/// Most append messages on their way to one follower.
pub const INFLIGHT_MESSAGES_MAX: usize = 256;
/// Most bytes of committed entries handed out by one [`Group::poll`](crate::Group::poll); a single
/// larger entry comes alone.
pub const READY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most read indexes waiting for confirmation; above, reads are refused. Each may stand for any
/// number of client reads.
pub const READS_PENDING_MAX: usize = 1024;

/// A learner has caught up when it is at most this many entries behind its leader ...
pub const CAUGHT_UP_ENTRIES: u64 = 1_000;
/// ... at this many heartbeats in a row.
pub const CAUGHT_UP_HEARTBEATS: u32 = 3;
/// How long a leader waits for a follower to install the snapshot it was offered; then it begins
/// anew, with the log if that reaches the follower again, else with another offer. A follower that
/// is still fetching loses nothing by an offer it has already.
pub const SNAPSHOT_PATIENCE_TICKS: u64 = 1_200;

/// Who a group is.
#[derive(Clone, Copy, Debug)]
pub struct GroupConfig {
    /// The group. Messages of different groups never meet.
    pub group: GroupId,
    /// This node. Never 0.
    pub node: NodeId,
    /// Random and new at every start of the process: part of every read context, so that an answer
    /// to a question of an earlier life confirms nothing.
    pub boot: u64,
    /// Where all chance comes from. It is mixed with the three above, so several groups and nodes
    /// may share one seed.
    pub seed: u64,
}

impl GroupConfig {
    /// The seed of the group's generator.
    pub(crate) fn generator_seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        let parts = [self.seed, self.node.get(), self.group.get(), self.boot];
        for (bytes, part) in seed.chunks_exact_mut(8).zip(parts) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        seed
    }

    /// The library's configuration of a group that has applied everything up to `applied`.
    pub(crate) fn library(&self, applied: LogIndex) -> raft::Config {
        raft::Config {
            id: self.node.get(),
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: applied.get(),
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: true,
            min_election_tick: ELECTION_TIMEOUT_TICKS.start,
            max_election_tick: ELECTION_TIMEOUT_TICKS.end,
            read_only_option: ReadOnlyOption::Safe,
            skip_bcast_commit: false,
            batch_append: true,
            priority: 0,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: READY_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The library's own defaults are unsafe or unbounded in five places; none may slip through.
    #[test]
    fn the_library_is_configured_as_documented() {
        let config = GroupConfig { group: GroupId::DATA, node: NodeId(7), boot: 1, seed: 2 };
        let library = config.library(LogIndex(5));
        assert_eq!((library.id, library.applied), (7, 5));
        assert!(library.pre_vote);
        assert!(library.check_quorum);
        assert_eq!(library.read_only_option, ReadOnlyOption::Safe);
        assert_eq!((library.heartbeat_tick, library.election_tick), (2, 20));
        assert_eq!((library.min_election_tick(), library.max_election_tick()), (20, 40));
        assert_eq!(library.max_uncommitted_size, 67_108_864);
        assert_eq!(library.max_size_per_msg, 1_048_576);
        assert_eq!(library.max_inflight_msgs, 256);
        assert_eq!(library.max_committed_size_per_ready, 16_777_216);
        assert_eq!(library.priority, 0);
        assert!(library.batch_append);
        assert!(!library.skip_bcast_commit);
        library.validate().unwrap();
        assert_eq!(TICK, Duration::from_millis(50));
    }

    #[test]
    fn the_same_seed_differs_by_node_group_and_boot() {
        let base = GroupConfig { group: GroupId::DATA, node: NodeId(1), boot: 1, seed: 9 };
        let others = [
            GroupConfig { group: GroupId::META, ..base },
            GroupConfig { node: NodeId(2), ..base },
            GroupConfig { boot: 2, ..base },
            GroupConfig { seed: 10, ..base },
        ];
        for other in others {
            assert_ne!(base.generator_seed(), other.generator_seed(), "{other:?}");
        }
        assert_eq!(base.generator_seed(), base.generator_seed());
    }
}
