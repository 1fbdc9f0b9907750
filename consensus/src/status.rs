//! What can be seen of a group from outside.

use std::collections::BTreeSet;

use proto::{LogIndex, NodeId, Term};

/// What a node is in its group at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one. Learners are always followers.
    Follower,
    /// Asks whether an election could be won, without disturbing anyone.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads. Another node may have been elected in a later term already; only a confirmed read
    /// index or a committed entry proves the contrary.
    Leader,
}

/// How far another member has come, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The member.
    pub node: NodeId,
    /// It confirmed to hold everything up to this index durably.
    pub matched: LogIndex,
    /// It was heard within the last [`ELECTION_TICKS`](crate::config::ELECTION_TICKS).
    pub active: bool,
    /// It was offered a snapshot at this index and has not answered yet. The log should not be
    /// freed beyond it meanwhile, or the snapshot will have been in vain.
    pub snapshot: Option<LogIndex>,
}

/// What a group holds of its log in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogExtent {
    /// The first entry; one after `last` when the log is empty.
    pub first: LogIndex,
    /// The last entry.
    pub last: LogIndex,
    /// Size of the entries, as counted for [`MESSAGE_BYTES_MAX`](crate::config::MESSAGE_BYTES_MAX).
    pub bytes: u64,
}

/// A group at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// This node's role.
    pub role: Role,
    /// The leader of the term, if this node knows it.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: Term,
    /// Everything up to here is committed.
    pub commit: LogIndex,
    /// Everything up to here is applied; never above `commit`.
    pub applied: LogIndex,
    /// Last index of the log, durable or not.
    pub last_index: LogIndex,
    /// Voters, ascending; during a change of members those of both sides.
    pub voters: Vec<NodeId>,
    /// Learners, ascending.
    pub learners: Vec<NodeId>,
    /// A change of voters has begun and is not finished: majorities of two lists are needed.
    pub joint: bool,
    /// A change of members may be in the log that is not applied yet; another one is refused.
    pub conf_pending: bool,
    /// The voters, of both sides, heard within the last
    /// [`ELECTION_TICKS`](crate::config::ELECTION_TICKS), this node included if it votes;
    /// ascending. Only a leader hears all of them.
    pub active_voters: Vec<NodeId>,
    /// The learners that hold the log up to
    /// [`CAUGHT_UP_ENTRIES`](crate::config::CAUGHT_UP_ENTRIES) entries before its end, now and at
    /// the last [`CAUGHT_UP_HEARTBEATS`](crate::config::CAUGHT_UP_HEARTBEATS) heartbeats;
    /// ascending. Empty unless this node leads.
    pub learners_caught_up: Vec<NodeId>,
    /// This node leads and has committed an entry in its term: read indexes may be asked for.
    pub ready_for_reads: bool,
    /// This node leads and heard a majority within the last
    /// [`ELECTION_TICKS`](crate::config::ELECTION_TICKS). If not, it is about to step down.
    pub majority_active: bool,
    /// Who leadership is being handed to.
    pub transferring_to: Option<NodeId>,
    /// The other members, ascending; empty unless this node leads.
    pub peers: Vec<PeerProgress>,
}

/// Whether `present` includes a majority of `voters`. During a change of members both the incoming
/// and the outgoing voters must agree; an empty set has nothing to say.
pub(crate) fn has_majority(voters: &BTreeSet<u64>, present: impl Fn(u64) -> bool) -> bool {
    let count = voters.iter().filter(|id| present(**id)).count();
    voters.is_empty() || count > voters.len() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        let cases: [(&[u64], &[u64], bool); 6] = [
            (&[1], &[1], true),
            (&[1], &[2], false),
            (&[1, 2], &[1], false),
            (&[1, 2, 3], &[1, 3], true),
            (&[1, 2, 3, 4], &[1, 3], false),
            (&[], &[], true),
        ];
        for (voters, present, expected) in cases {
            let voters = voters.iter().copied().collect();
            assert_eq!(has_majority(&voters, |id| present.contains(&id)), expected);
        }
    }
}
