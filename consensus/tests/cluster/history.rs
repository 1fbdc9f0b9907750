//! What happened in a cluster, and the invariants that must hold of it whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use consensus::{Group, Proposed, ReadId, SnapshotMeta};
use proto::log::{ConfState, Entry, EntryKind};
use proto::peer::{RaftKind, RaftMessage};
use proto::{LogIndex, Term};

use crate::harness::{Cluster, Disk, Log};

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
    /// The members from an index on, and the number of the last change in them.
    members: BTreeMap<u64, (ConfState, u64)>,
    /// Who voted for whom, by term and candidate.
    votes: BTreeMap<(u64, u64), BTreeSet<u64>>,
    pub answered: usize,
    pub lost: usize,
    /// Snapshots that were installed.
    pub installed: usize,
}

impl History {
    pub fn new(first_members: ConfState) -> Self {
        Self { members: BTreeMap::from([(0, (first_members, 0))]), ..Self::default() }
    }

    /// How often the members changed.
    pub fn member_changes(&self) -> usize {
        self.members.len() - 1
    }

    /// The members after the entry at an index.
    pub fn members_at(&self, index: u64) -> (ConfState, u64) {
        let (_, members) = self.members.range(..=index).next_back().expect("from 0 on");
        members.clone()
    }

    /// What describes the state after the entry at an index.
    pub fn snapshot(&self, index: u64) -> SnapshotMeta {
        let entry = &self.committed[usize::try_from(index).unwrap() - 1];
        let (conf_state, change) = self.members_at(index);
        let (index, term) = (LogIndex(entry.index), Term(entry.term));
        SnapshotMeta { index, term, conf_state, change }
    }

    /// All replicas have the same members after the same entry, and no majority before it is
    /// disjoint from a majority after it.
    pub fn members_changed(&mut self, index: u64, conf: ConfState, change: u64) {
        let (before, number) = self.members_at(index - 1);
        assert!(number <= change, "change {change} after {number}");
        let disjoint = disjoint_majorities(&before, &conf);
        assert!(disjoint.is_none(), "{disjoint:?} of {before:?} and {conf:?}");
        let now = (conf, change);
        if let Some(known) = self.members.insert(index, now.clone()) {
            assert_eq!(known, now, "the members differ after {index}");
        }
    }

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
                let normal = entry.kind() == EntryKind::Normal;
                assert!(!normal || data == entry.data, "{entry:?} is not what was proposed");
                self.committed.push(entry.clone());
            }
        }
    }

    /// Election safety and leader completeness (Raft paper figure 3). A leader was elected by a
    /// majority of the members it knows: on both sides, while they change.
    pub fn led(&mut self, id: u64, group: &Group, log: impl FnOnce() -> Log) {
        if !group.is_leader() {
            return;
        }
        let term = group.term();
        let conf = group.conf_state();
        assert!(conf.voters.contains(&id) || conf.voters_outgoing.contains(&id), "n{id} votes");
        if let Some(leader) = self.leaders.insert(term, id) {
            assert_eq!(leader, id, "two leaders in term {term}");
            return;
        }
        let granted = self.votes.get(&(term.get(), id));
        let voted = |node: u64| node == id || granted.is_some_and(|all| all.contains(&node));
        assert!(is_quorum(&conf, voted), "n{id} leads term {term} by {granted:?} of {conf:?}");
        let log = log();
        assert!(log.start <= self.commit(), "n{id} freed what is not committed");
        for entry in &self.committed[usize::try_from(log.start).unwrap()..] {
            assert_eq!(log.get(entry.index), Some(entry), "n{id} leads without what is committed");
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

    /// A node that stops takes its unanswered reads with it. If it elected itself alone and its term
    /// is not durable yet, nobody has heard of that term, and it never was.
    pub fn stopped(&mut self, id: u64, durable_term: u64) {
        self.reads.retain(|(node, _), _| *node != id);
        self.leaders.retain(|term, leader| *leader != id || term.get() <= durable_term);
        self.proposals.retain(|(_, term), proposal| proposal.node != id || *term <= durable_term);
    }

    pub fn unanswered(&self) -> usize {
        self.reads.len()
    }

    /// What a message promises is on the sender's disk when it leaves.
    pub fn promised(&mut self, disk: &Disk, id: u64, message: &RaftMessage) {
        let (hard_state, durable) = (&disk.hard_state, disk.log.last());
        let voted = |vote: u64| {
            hard_state.term > message.term
                || (hard_state.term == message.term && hard_state.vote == vote)
        };
        match RaftKind::try_from(message.kind).unwrap() {
            RaftKind::Vote => assert!(voted(id), "n{id} asks for votes before its own is durable"),
            RaftKind::VoteResponse if !message.reject => {
                assert!(voted(message.to), "n{id} grants a vote that is not durable");
                self.votes.entry((message.term, message.to)).or_default().insert(id);
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

/// Whether these nodes are a majority of the voters, on both sides while they change.
fn is_quorum(conf: &ConfState, present: impl Fn(u64) -> bool) -> bool {
    [&conf.voters, &conf.voters_outgoing].into_iter().all(|voters| {
        let count = voters.iter().filter(|id| present(**id)).count();
        voters.is_empty() || count > voters.len() / 2
    })
}

/// Two majorities, one of each list of members, that have no node in common.
fn disjoint_majorities(one: &ConfState, other: &ConfState) -> Option<(Vec<u64>, Vec<u64>)> {
    let lists = [&one.voters, &one.voters_outgoing, &other.voters, &other.voters_outgoing];
    let nodes: BTreeSet<u64> = lists.into_iter().flatten().copied().collect();
    let nodes: Vec<u64> = nodes.into_iter().collect();
    assert!(nodes.len() < 16, "{} nodes are too many to try all sets", nodes.len());
    for chosen in 0..1_u32 << nodes.len() {
        let is_chosen =
            |id: u64| nodes.binary_search(&id).is_ok_and(|position| chosen & (1 << position) != 0);
        // If a set and what it leaves are both quorums, smaller ones need not be tried.
        if is_quorum(one, is_chosen) && is_quorum(other, |id| !is_chosen(id)) {
            let (ours, theirs) = nodes.iter().partition(|id| is_chosen(**id));
            return Some((ours, theirs));
        }
    }
    None
}

/// Log matching (Raft paper figure 3): logs that agree on the term of an index agree up to it.
pub fn check_logs(cluster: &Cluster) {
    let logs: Vec<Log> = cluster.members.values().map(|member| member.disk.log()).collect();
    for (position, one) in logs.iter().enumerate() {
        for other in &logs[position + 1..] {
            let from = one.start.max(other.start) + 1;
            let to = one.last().min(other.last());
            let same = |index: &u64| {
                one.get(*index).map(|entry| entry.term) == other.get(*index).map(|entry| entry.term)
            };
            if let Some(last) = (from..=to).rev().find(same) {
                for index in from..=last {
                    assert_eq!(one.get(index), other.get(index), "logs with a common end differ");
                }
            }
        }
    }
}

#[test]
fn the_check_for_disjoint_majorities_finds_them() {
    let conf = |voters: &[u64], outgoing: &[u64]| ConfState {
        voters: voters.to_vec(),
        voters_outgoing: outgoing.to_vec(),
        ..Default::default()
    };
    let (three, joint, five) = (&[1, 2, 3], &[1, 2, 3, 4, 5], &[1, 4, 5]);
    assert!(disjoint_majorities(&conf(three, &[]), &conf(five, &[])).is_some());
    assert!(disjoint_majorities(&conf(three, &[]), &conf(joint, &[])).is_some());
    assert!(disjoint_majorities(&conf(three, &[]), &conf(five, three)).is_none());
    assert!(disjoint_majorities(&conf(five, three), &conf(five, &[])).is_none());
    assert!(disjoint_majorities(&conf(three, &[]), &conf(&[1, 2, 3, 4], &[])).is_none());
}
