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
