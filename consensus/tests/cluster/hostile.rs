//! Peers that say anything at all: no message of theirs makes a node panic, break an
//! invariant of the group, or answer a read without a majority.

use bytes::Bytes;
use consensus::config::SNAPSHOT_PATIENCE_TICKS;
use consensus::{Group, GroupConfig, GroupLog, ProposeError, Rejected, SnapshotMeta};
use proptest::prelude::*;
use prost::Message as _;
use proto::log::conf_change_step::Kind;
use proto::log::{ConfChange, ConfChangeStep, ConfState, Entry, EntryKind, HardState};
use proto::peer::{RaftKind, RaftMessage, SnapshotHeader};
use proto::{GroupId, LogIndex, NodeId, Term};

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
        let messages = effects.send.into_iter().chain(effects.offers);
        sent.extend(messages.map(|outgoing| outgoing.message));
        for entry in &effects.committed {
            if entry.kind() == EntryKind::ConfChange {
                group.apply_conf_change(entry).unwrap();
            }
        }
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

fn change() -> impl Strategy<Value = ConfChange> {
    let step = (0..5_i32, 0..6_u64).prop_map(|(kind, node)| ConfChangeStep { kind, node });
    (proptest::collection::vec(step, 0..3), 0..9_u64)
        .prop_map(|(steps, change)| ConfChange { steps, change })
}

/// Entries that change members: to leave, of any content, and of no form at all.
fn change_entry() -> impl Strategy<Value = Entry> {
    let data = prop_oneof![
        Just(Bytes::new()),
        Just(Bytes::from_static(b"\xff\xff")),
        change().prop_map(|change| Bytes::from(change.encode_to_vec())),
    ];
    (1..12_u64, 1..6_u64, data).prop_map(|(index, term, data)| {
        let kind = EntryKind::ConfChange as i32;
        Entry { index, term, kind, data, ..Default::default() }
    })
}

fn header() -> impl Strategy<Value = Option<SnapshotHeader>> {
    let ids = || proptest::collection::vec(0..5_u64, 0..4);
    let conf = (ids(), ids(), ids(), ids(), any::<bool>());
    let conf = conf.prop_map(|(voters, learners, voters_outgoing, learners_next, auto_leave)| {
        ConfState { voters, learners, voters_outgoing, learners_next, auto_leave }
    });
    let sound = Just(ConfState { voters: vec![1, 2, 3], ..Default::default() });
    let joint = Just(ConfState {
        voters: vec![1, 4],
        learners: vec![5],
        voters_outgoing: vec![1, 2, 3],
        learners_next: vec![2],
        auto_leave: false,
    });
    let conf = proptest::option::of(prop_oneof![conf, sound, joint]);
    let data = prop_oneof![8 => Just(Bytes::from_static(&[0; 8])), 1 => Just(Bytes::new())];
    proptest::option::weighted(
        0.9,
        (number(14), number(7), conf, data).prop_map(|(index, term, conf_state, data)| {
            SnapshotHeader { index, term, conf_state, data }
        }),
    )
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
    prop_oneof![any, contiguous, change_entry().prop_map(|entry| vec![entry])]
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
    Install(Box<RaftMessage>),
    Change(ConfChange),
    Compact,
    Snapshot,
    Tick,
    Campaign,
    Propose,
    Read,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        30 => message().prop_map(|message| Act::Message(Box::new(message))),
        6 => (message(), header()).prop_map(|(message, snapshot)| {
            let (kind, entries) = (RaftKind::Snapshot as i32, Vec::new());
            Act::Install(Box::new(RaftMessage { kind, entries, snapshot, ..message }))
        }),
        3 => change().prop_map(Act::Change),
        2 => Just(Act::Compact),
        1 => Just(Act::Snapshot),
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
                Act::Install(message) => {
                    let before = group.status();
                    let from = NodeId(message.from);
                    match group.install(from, *message) {
                        Ok(_) => prop_assert!(group.status().commit >= before.commit),
                        Err(_) => prop_assert_eq!(before, group.status()),
                    }
                }
                Act::Change(change) => { let _ = group.propose_conf_change(&change); }
                Act::Compact => {
                    let applied = group.status().applied;
                    group.compact_to(applied);
                }
                Act::Snapshot => {
                    let (index, conf_state) = (group.status().applied, group.conf_state());
                    let meta = SnapshotMeta { index, term: Term(1), conf_state, change: 0 };
                    // Only the first entries are known to be of this term.
                    if index > LogIndex(0) && index <= LogIndex(2) {
                        group.set_snapshot(Some(meta));
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
    /// 5.4.1); comparing them any other way blocks elections or loses data.
    #[test]
    fn b43_a_vote_goes_to_a_log_that_is_at_least_as_up_to_date(
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

/// One echo too few never confirms a read, even if it comes over and over.
#[test]
fn b42_one_peer_repeating_itself_is_no_majority() {
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

/// A leader whose log differs at a committed index: one of the two lost data, and going on with
/// either log would lose more.
#[test]
fn an_append_that_contradicts_what_is_committed_is_refused() {
    let mut group = group(&[1, 1, 2], 2);
    drain(&mut group);
    let contradicts = |index, claimed| {
        let (index, claimed, known) = (LogIndex(index), Term(claimed), Term(1));
        Err(Rejected::ContradictsCommitted { index, claimed, known })
    };
    let entry = |index| Entry { index, term: 3, ..Default::default() };
    let append = |index, log_term, entries| RaftMessage {
        index,
        log_term,
        entries,
        ..answer(RaftKind::Append, 4)
    };
    let before = group.status();
    assert_eq!(group.step(NodeId(2), append(2, 2, vec![])), contradicts(2, 2));
    assert_eq!(group.step(NodeId(2), append(1, 1, vec![entry(2)])), contradicts(2, 3));
    assert_eq!(group.status(), before);
    // What is not committed may be replaced.
    assert_eq!(group.step(NodeId(2), append(2, 1, vec![entry(3)])), Ok(()));
}

/// An append from before the point up to which the log was freed, repeated by the network, is old
/// news and no conflict: the answer names what is committed, and nothing is thrown away.
#[test]
fn b41_an_append_from_before_the_start_of_the_log_is_old_news() {
    let mut group = group(&[1, 1, 1, 1], 4);
    drain(&mut group);
    group.compact_to(LogIndex(3));
    let before = group.log_extent();
    for first in 1..=4 {
        let entry = Entry { index: first, term: 1, ..Default::default() };
        let log_term = u64::from(first > 1);
        let (index, entries) = (first - 1, vec![entry]);
        let append = RaftMessage { index, log_term, entries, ..answer(RaftKind::Append, 1) };
        group.step(NodeId(2), append).unwrap();
        let answers = drain(&mut group);
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].index, answers[0].reject), (4, false), "{first}");
    }
    assert_eq!(group.log_extent(), before);
}

/// A vote that arrives before its request left would make a leader whose log is not durable; the
/// library would panic.
#[test]
fn a_vote_counts_only_after_it_was_asked_for() {
    let mut group = group(&[1], 1);
    drain(&mut group);
    let entry = Entry { index: 2, term: 1, ..Default::default() };
    let append =
        RaftMessage { index: 1, log_term: 1, entries: vec![entry], ..answer(RaftKind::Append, 1) };
    group.step(NodeId(2), append).unwrap();
    group.poll().unwrap();
    group.campaign();
    group.step(NodeId(2), answer(RaftKind::PreVoteResponse, 2)).unwrap();
    let early = answer(RaftKind::VoteResponse, 2);
    assert_eq!(group.step(NodeId(2), early), Err(Rejected::VoteUnasked));
    assert!(!group.is_leader());
}

/// A late rejection must not set a leader back before what the follower has confirmed: it would
/// send it again, or even a snapshot in its place (tikv/raft-rs#557).
#[test]
fn what_a_follower_confirmed_is_never_sent_again() {
    let mut group = group(&[1, 1, 1], 3);
    drain(&mut group);
    elect(&mut group);
    let term = group.term().get();
    let response = RaftMessage { index: 4, ..answer(RaftKind::AppendResponse, term) };
    group.step(NodeId(2), response).unwrap();
    drain(&mut group);
    group.report_unreachable(NodeId(2));
    group.compact_to(LogIndex(4));
    let late = |index, reject_hint| RaftMessage {
        index,
        reject: true,
        reject_hint,
        log_term: 1,
        ..answer(RaftKind::AppendResponse, term)
    };
    for message in [late(3, 0), late(4, 2)] {
        let refused = group.step(NodeId(2), message).unwrap_err();
        assert!(matches!(refused, Rejected::RejectsConfirmed { .. }), "{refused}");
    }
    group.propose(Bytes::from_static(b"x")).unwrap();
    let sent = drain(&mut group);
    let to_2: Vec<_> = sent.iter().filter(|message| message.to == 2).collect();
    assert!(to_2.iter().all(|message| message.index >= 4), "{to_2:?}");
    assert!(!to_2.is_empty());
}

/// A snapshot that is never answered does not block a follower for ever, although it lives and
/// answers everything else.
#[test]
fn a_snapshot_that_is_never_answered_is_offered_again() {
    let mut group = group(&[1, 1, 1], 3);
    drain(&mut group);
    elect(&mut group);
    let term = group.term().get();
    let response = |index| RaftMessage { index, ..answer(RaftKind::AppendResponse, term) };
    group.step(NodeId(2), response(4)).unwrap();
    drain(&mut group);
    group.compact_to(LogIndex(3));
    let conf_state = group.conf_state();
    let meta = SnapshotMeta { index: LogIndex(3), term: Term(1), conf_state, change: 0 };
    group.set_snapshot(Some(meta));
    let from_3 = |kind| RaftMessage { from: 3, ..answer(kind, term) };
    let empty = RaftMessage { index: 3, reject: true, ..from_3(RaftKind::AppendResponse) };
    group.step(NodeId(3), empty).unwrap();
    let mut offers = 0;
    for _ in 0..2 * SNAPSHOT_PATIENCE_TICKS + 20 {
        let sent = drain(&mut group);
        offers += sent.iter().filter(|message| message.kind() == RaftKind::Snapshot).count();
        for node in [2, 3] {
            let alive = RaftMessage { from: node, ..answer(RaftKind::HeartbeatResponse, term) };
            group.step(NodeId(node), alive).unwrap();
        }
        group.tick();
    }
    assert!(group.is_leader());
    assert_eq!(offers, 3);
}

/// A change of members that does not decode goes no further than the gate.
#[test]
fn an_undecodable_change_of_members_is_refused() {
    let mut group = group(&[1], 1);
    drain(&mut group);
    let (kind, data) = (EntryKind::ConfChange as i32, Bytes::from_static(b"\x08\xff"));
    let entry = Entry { index: 2, term: 1, kind, data, ..Default::default() };
    let append =
        RaftMessage { index: 1, log_term: 1, entries: vec![entry], ..answer(RaftKind::Append, 1) };
    let refused = Rejected::EntryKind { index: LogIndex(2) };
    assert_eq!(group.step(NodeId(2), append), Err(refused));
}

/// A change that is impossible, or done already, is skipped when it is applied; so is one that a
/// newer node could carry out twice.
#[test]
fn impossible_changes_are_skipped() {
    let mut group = group(&[], 0);
    let change = |number, kind: Kind, node| {
        let steps = vec![ConfChangeStep { kind: kind as i32, node }];
        Bytes::from(ConfChange { steps, change: number }.encode_to_vec())
    };
    let data = [
        Bytes::new(),                   // nothing to leave
        change(3, Kind::AddLearner, 4), // possible
        change(3, Kind::AddLearner, 5), // done already
        change(2, Kind::Remove, 4),     // done already
        change(4, Kind::AddVoter, 4),   // possible
        change(5, Kind::Remove, 3),     // while joint
    ];
    let kind = EntryKind::ConfChange as i32;
    let entries: Vec<Entry> = (1..)
        .zip(data)
        .map(|(index, data)| Entry { index, term: 1, kind, data, ..Default::default() })
        .collect();
    let append = RaftMessage { entries, commit: 6, ..answer(RaftKind::Append, 1) };
    group.step(NodeId(2), append).unwrap();
    drain(&mut group);
    assert_eq!(group.status().applied, LogIndex(6));
    let expected = ConfState {
        voters: vec![1, 2, 3, 4],
        voters_outgoing: vec![1, 2, 3],
        ..Default::default()
    };
    assert_eq!((group.conf_state(), group.applied_change()), (expected, 4));
}

/// of two voters, one is not removed while the other is silent, for the group could stop for
/// good.
#[test]
fn a_lone_survivor_of_two_is_not_made_alone() {
    let config = GroupConfig { group: GroupId::DATA, node: NodeId(1), boot: 1, seed: 1 };
    let conf_state = ConfState { voters: vec![1, 2], ..Default::default() };
    let mut group = Group::new(config, GroupLog { conf_state, ..Default::default() }).unwrap();
    elect(&mut group);
    let committed = RaftMessage { index: 1, ..answer(RaftKind::AppendResponse, 1) };
    group.step(NodeId(2), committed).unwrap();
    drain(&mut group);
    // The leader looks for a majority every 20 ticks, at 20 and 40; n2 is heard in between.
    for _ in 0..21 {
        group.tick();
    }
    let steps = vec![ConfChangeStep { kind: Kind::Remove as i32, node: 2 }];
    let removal = ConfChange { steps, change: 1 };
    let alive = answer(RaftKind::HeartbeatResponse, 1);
    group.step(NodeId(2), alive).unwrap();
    for _ in 0..21 {
        group.tick();
    }
    drain(&mut group);
    assert_eq!(group.status().active_voters, [NodeId(1)]);
    assert_eq!(group.propose_conf_change(&removal), Err(ProposeError::VotersSilent));
    group.step(NodeId(2), answer(RaftKind::HeartbeatResponse, 1)).unwrap();
    assert!(group.propose_conf_change(&removal).is_ok());
}

/// The refusal of a pre-vote says what is committed, which a candidate may need to hear: so it is not
/// of an earlier term than the candidate's own, or it would be ignored.
#[test]
fn a_refusal_is_heard_in_a_later_term() {
    let mut group = group(&[1, 1, 2], 3);
    drain(&mut group);
    let behind = RaftMessage { index: 2, log_term: 1, ..answer(RaftKind::PreVote, 9) };
    group.step(NodeId(2), behind).unwrap();
    let answers = drain(&mut group);
    assert_eq!(answers.len(), 1);
    let RaftMessage { term, reject, commit, commit_term, .. } = &answers[0];
    assert_eq!((*term, *reject, *commit, *commit_term), (8, true, 3, 2));
    assert_eq!(group.term(), Term(2));
}
