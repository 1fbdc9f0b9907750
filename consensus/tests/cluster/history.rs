//! What happened in a cluster, and the invariants that must hold of it whatever happens.

use std::collections::BTreeMap;

use bytes::Bytes;
use consensus::{Group, Proposed, ReadId};
use proto::log::Entry;
use proto::peer::{RaftKind, RaftMessage};
use proto::{LogIndex, Term};

use crate::harness::{Cluster, Disk};

/// What a leader was asked to put into the log.
#[derive(Debug)]
pub struct Proposal {
    pub node: u64,
    pub boot: u64,
    pub data: Bytes,
}

/// What is known from watching all nodes at once. Each method asserts its invariant.
#[derive(Debug, Default)]
pub struct History {
    /// The leader of each term.
    leaders: BTreeMap<Term, u64>,
    /// All that was committed anywhere.
    committed: Vec<Entry>,
    proposals: BTreeMap<(u64, u64), Proposal>,
    /// Unanswered reads, with the commit index everyone could know when they were asked.
    reads: BTreeMap<(u64, ReadId), u64>,
    pub answered: usize,
    pub lost: usize,
}

impl History {
    pub fn commit(&self) -> u64 {
        self.committed.len() as u64
    }

    pub fn leaders(&self) -> usize {
        self.leaders.len()
    }

    /// Each place in the log is given away once. A node that crashed before anything of its term
    /// was durable, or had left, may be in that term again.
    pub fn proposed(&mut self, proposed: Proposed, proposal: Proposal) {
        let place = (proposed.index.get(), proposed.term.get());
        let (node, boot) = (proposal.node, proposal.boot);
        if let Some(before) = self.proposals.insert(place, proposal) {
            assert!(before.node == node && before.boot < boot, "{proposed:?} twice");
        }
    }

    /// State machine safety (Raft paper figure 3): what is committed stays.
    pub fn committed(&mut self, entry: &Entry) {
        let position = usize::try_from(entry.index).unwrap() - 1;
        match self.committed.get(position) {
            Some(known) => assert_eq!(known, entry, "a committed entry changed"),
            None => {
                assert_eq!(position, self.committed.len(), "a gap was committed");
                let proposed = self.proposals.get(&(entry.index, entry.term));
                let data = proposed.map_or(&[][..], |proposal| &proposal.data);
                assert_eq!(data, entry.data, "{entry:?} is not what was proposed");
                self.committed.push(entry.clone());
            }
        }
    }

    /// Election safety and leader completeness (Raft paper figure 3).
    pub fn led(&mut self, id: u64, group: &Group, log: impl FnOnce() -> Vec<Entry>) {
        if !group.is_leader() {
            return;
        }
        match self.leaders.insert(group.term(), id) {
            Some(leader) => assert_eq!(leader, id, "two leaders in term {}", group.term()),
            None => {
                let log = log();
                let held = log.get(..self.committed.len());
                assert_eq!(
                    held,
                    Some(&*self.committed),
                    "n{id} leads without all that is committed"
                );
            }
        }
    }

    pub fn asked(&mut self, id: u64, read: ReadId) {
        assert!(self.reads.insert((id, read), self.commit()).is_none(), "read {read} twice");
    }

    /// Linearizability: a read sees all that was committed anywhere when it began.
    pub fn answered(&mut self, id: u64, read: ReadId, index: LogIndex) {
        let floor = self.reads.remove(&(id, read)).expect("the read was asked");
        assert!(index.get() >= floor, "n{id} read {read} at {index}, {floor} was committed");
        self.answered += 1;
    }

    pub fn lost(&mut self, id: u64, read: ReadId) {
        self.reads.remove(&(id, read)).expect("the read was asked");
        self.lost += 1;
    }

    /// A node that stops takes its unanswered reads with it.
    pub fn stopped(&mut self, id: u64) {
        self.reads.retain(|(node, _), _| *node != id);
    }

    pub fn unanswered(&self) -> usize {
        self.reads.len()
    }

    /// What a message promises is on the sender's disk when it leaves.
    pub fn promised(&self, disk: &Disk, id: u64, message: &RaftMessage) {
        let (hard_state, durable) = (&disk.hard_state, disk.entries.len() as u64);
        let voted = |vote: u64| {
            hard_state.term > message.term
                || (hard_state.term == message.term && hard_state.vote == vote)
        };
        match RaftKind::try_from(message.kind).unwrap() {
            RaftKind::Vote => assert!(voted(id), "n{id} asks for votes before its own is durable"),
            RaftKind::VoteResponse if !message.reject => {
                assert!(voted(message.to), "n{id} grants a vote that is not durable");
            }
            RaftKind::AppendResponse if !message.reject && message.term == hard_state.term => {
                assert!(message.index <= durable, "n{id} confirms {} of {durable}", message.index);
            }
            // A request for a pre-vote, and a vote for it, name the term after the sender's.
            RaftKind::PreVote | RaftKind::PreVoteResponse => {}
            _ => assert!(hard_state.term >= message.term, "n{id} speaks in a term not durable"),
        }
    }
}

/// Log matching (Raft paper figure 3): logs that agree on the term of an index agree up to it.
pub fn check_logs(cluster: &Cluster) {
    let logs: Vec<Vec<Entry>> = cluster.members.values().map(|member| member.disk.log()).collect();
    for (position, one) in logs.iter().enumerate() {
        for other in &logs[position + 1..] {
            let same = |pair: &(&Entry, &Entry)| pair.0.term == pair.1.term;
            let pairs: Vec<(&Entry, &Entry)> = one.iter().zip(other).collect();
            if let Some(last) = pairs.iter().rposition(same) {
                assert_eq!(one[..=last], other[..=last], "logs with a common end differ");
            }
        }
    }
}
