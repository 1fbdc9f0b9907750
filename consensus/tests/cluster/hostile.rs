//! Peers that say anything at all: no message of theirs makes a node panic, break an
//! invariant of the group, or answer a read without a majority.

use bytes::Bytes;
use consensus::{Group, GroupConfig, GroupLog, Rejected};
use proptest::prelude::*;
use proto::log::{ConfState, Entry, HardState};
use proto::peer::{RaftKind, RaftMessage};
use proto::{GroupId, LogIndex, NodeId};

/// A group of three with this node as the first; the log holds one entry for each of `terms`.
fn group(terms: &[u64], commit: u64) -> Group {
    let entry = |(position, term): (usize, &u64)| Entry {
        index: position as u64 + 1,
        term: *term,
        ..Default::default()
    };
    let log = GroupLog {
        hard_state: HardState { term: terms.last().copied().unwrap_or(0), vote: 0, commit },
        conf_state: ConfState { voters: vec![1, 2, 3], ..Default::default() },
        entries: terms.iter().enumerate().map(entry).collect(),
        ..Default::default()
    };
    let config = GroupConfig { group: GroupId::DATA, node: NodeId(1), boot: 1, seed: 1 };
    Group::new(config, log).unwrap()
}

/// Does all that effects ask for, at once. Returns the messages.
fn drain(group: &mut Group) -> Vec<RaftMessage> {
    let mut sent = Vec::new();
    while let Some(effects) = group.poll() {
        sent.extend(effects.send.into_iter().map(|outgoing| outgoing.message));
        if let Some(last) = effects.committed.last() {
            group.applied(LogIndex(last.index));
        }
        if let Some(persist) = effects.persist {
            group.persisted(persist.ready);
        }
    }
    sent
}

fn answer(kind: RaftKind, term: u64) -> RaftMessage {
    RaftMessage { kind: kind as i32, from: 2, to: 1, term, ..Default::default() }
}

/// Makes the group leader with the help of node 2.
fn elect(group: &mut Group) {
    group.campaign();
    drain(group);
    let term = group.term().get() + 1;
    group.step(NodeId(2), answer(RaftKind::PreVoteResponse, term)).unwrap();
    drain(group);
    group.step(NodeId(2), answer(RaftKind::VoteResponse, term)).unwrap();
    drain(group);
    assert!(group.is_leader());
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (0..12_u64, 0..6_u64).prop_map(|(index, term)| Entry {
        index,
        term,
        data: Bytes::from_static(b"x"),
        ..Default::default()
    });
    let any = proptest::collection::vec(entry, 0..4);
    let contiguous = (1..12_u64, 1..6_u64, 0..4_u64).prop_map(|(first, term, count)| {
        (first..first + count).map(|index| Entry { index, term, ..Default::default() }).collect()
    });
    prop_oneof![any, contiguous]
}

fn number(small: u64) -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..small, 1 => any::<u64>()]
}

prop_compose! {
    fn message()(
        kind in 0..12_i32,
        from in 1..5_u64,
        to in prop_oneof![20 => Just(1_u64), 1 => 0..4_u64],
        term in number(8),
        log_term in number(6),
        index in number(12),
        entries in entries(),
        follows in any::<bool>(),
        commit in number(12),
        commit_term in number(6),
        reject in any::<bool>(),
        reject_hint in number(12),
        context in prop_oneof![
            10 => Just(Bytes::new()),
            1 => Just(Bytes::from_static(b"CampaignTransfer")),
            1 => Just(Bytes::from_static(&[0; 24])),
        ],
        request_snapshot in prop_oneof![20 => Just(0_u64), 1 => 0..4_u64],
        priority in prop_oneof![20 => Just(0_i64), 1 => -2..2_i64],
    ) -> RaftMessage {
        // Half of the appends begin where their entries do, so that many pass the gate.
        let index = match entries.first() {
            Some(first) if follows && first.index > 0 => first.index - 1,
            _ => index,
        };
        let log_term = if index == 0 { 0 } else { log_term };
        let entries = if kind == RaftKind::Append as i32 { entries } else { Vec::new() };
        RaftMessage {
            kind, to, from, term, log_term, index, entries, commit, commit_term, reject,
            reject_hint, context, request_snapshot, priority,
            deprecated_priority: 0, snapshot: None,
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Message(Box<RaftMessage>),
    Tick,
    Campaign,
    Propose,
    Read,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        30 => message().prop_map(|message| Act::Message(Box::new(message))),
        10 => Just(Act::Tick),
        1 => Just(Act::Campaign),
        2 => Just(Act::Propose),
        2 => Just(Act::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_a_peer_says_makes_a_node_panic(
        leads in any::<bool>(),
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let mut group = group(&[1, 1, 2, 3], 2);
        drain(&mut group);
        if leads {
            elect(&mut group);
        }
        for act in acts {
            match act {
                Act::Message(message) => {
                    let before = format!("{:?}", group.status());
                    let from = NodeId(message.from);
                    if group.step(from, *message).is_err() {
                        prop_assert_eq!(before, format!("{:?}", group.status()));
                    }
                }
                Act::Tick => group.tick(),
                Act::Campaign => group.campaign(),
                Act::Propose => { let _ = group.propose(Bytes::from_static(b"y")); }
                Act::Read => { let _ = group.read_index(); }
            }
            drain(&mut group);
        }
    }

    /// Votes go to logs that are at least as long *by last term, then by index* (Raft paper section
    /// 5.4.1); comparing them any other way blocks elections or loses data (B43).
    #[test]
    fn a_vote_goes_to_a_log_that_is_at_least_as_up_to_date(
        mut own in proptest::collection::vec(1..4_u64, 0..6),
        term in 1..4_u64,
        index in 1..8_u64,
    ) {
        own.sort_unstable();
        let mine = (own.last().copied().unwrap_or(0), own.len() as u64);
        for (kind, reply) in [
            (RaftKind::Vote, RaftKind::VoteResponse),
            (RaftKind::PreVote, RaftKind::PreVoteResponse),
        ] {
            let mut group = group(&own, 0);
            let request = RaftMessage { index, log_term: term, ..answer(kind, 9) };
            group.step(NodeId(2), request).unwrap();
            let replies = drain(&mut group);
            prop_assert_eq!(replies.len(), 1);
            prop_assert_eq!(replies[0].kind, reply as i32);
            prop_assert_eq!(!replies[0].reject, (term, index) >= mine);
        }
    }
}

/// B42: one echo too few never confirms a read, even if it comes over and over.
#[test]
fn one_peer_repeating_itself_is_no_majority() {
    let config = GroupConfig { group: GroupId::DATA, node: NodeId(1), boot: 1, seed: 1 };
    let conf_state = ConfState { voters: (1..=5).collect(), ..Default::default() };
    let mut group = Group::new(config, GroupLog { conf_state, ..Default::default() }).unwrap();
    let from = |id: u64, message: RaftMessage| (NodeId(id), RaftMessage { from: id, ..message });
    group.campaign();
    for kind in [RaftKind::PreVoteResponse, RaftKind::VoteResponse] {
        drain(&mut group);
        for id in [2, 3] {
            let (id, message) = from(id, answer(kind, 1));
            group.step(id, message).unwrap();
        }
    }
    drain(&mut group);
    for id in [2, 3] {
        let (id, message) =
            from(id, RaftMessage { index: 1, ..answer(RaftKind::AppendResponse, 1) });
        group.step(id, message).unwrap();
    }
    drain(&mut group);
    let read = group.read_index().unwrap();
    let heartbeat = drain(&mut group).into_iter().find(|message| !message.context.is_empty());
    let context = heartbeat.unwrap().context;
    let echo = RaftMessage { context, ..answer(RaftKind::HeartbeatResponse, 1) };
    for _ in 0..10 {
        let (id, message) = from(2, echo.clone());
        group.step(id, message).unwrap();
        while let Some(effects) = group.poll() {
            assert_eq!(effects.reads, [], "a majority of five is three");
        }
    }
    let (id, message) = from(3, echo);
    group.step(id, message).unwrap();
    let answered: Vec<_> = std::iter::from_fn(|| group.poll()).flat_map(|e| e.reads).collect();
    assert_eq!(answered, [(read, LogIndex(1))]);
}

/// A lone voter that was told of a later term must not win an election while its own log is not
/// durable; the library would panic.
#[test]
fn a_lone_voter_waits_for_its_disk_before_it_wins() {
    let config = GroupConfig { group: GroupId::DATA, node: NodeId(1), boot: 1, seed: 1 };
    let conf_state = ConfState { voters: vec![1], learners: vec![2], ..Default::default() };
    let mut group = Group::new(config, GroupLog { conf_state, ..Default::default() }).unwrap();
    group.campaign();
    drain(&mut group);
    assert!(group.is_leader());
    group.propose(Bytes::from_static(b"a")).unwrap();
    let written = group.poll().unwrap().persist.unwrap();
    // A later term, from the learner: not honest, but it has a certificate.
    group.step(NodeId(2), answer(RaftKind::HeartbeatResponse, 9)).unwrap();
    assert!(!group.is_leader());
    group.campaign();
    for _ in 0..100 {
        group.tick();
    }
    group.step(NodeId(2), answer(RaftKind::TimeoutNow, 9)).unwrap();
    assert!(!group.is_leader());
    group.persisted(written.ready);
    group.campaign();
    assert!(group.is_leader());
}

/// The read of a leader is not given away by a second leader's claim.
#[test]
fn a_second_leader_of_the_same_term_is_refused() {
    let mut group = group(&[1], 1);
    elect(&mut group);
    let term = group.term();
    let claim = answer(RaftKind::Heartbeat, term.get());
    let refused = Rejected::SecondLeader { from: NodeId(2), term, leader: NodeId(1) };
    assert_eq!(group.step(NodeId(2), claim), Err(refused));
    assert!(group.is_leader());
}
