//! What is believed of a peer's message.
//!
//! A member's certificate proves who speaks, not that it speaks sense: it may run a broken version,
//! or have lost a part of its disk. The library trusts its input and panics on much of what such a
//! peer says, so everything is checked here first, by an allow-list: the kind, the two ends,
//! the range of every number, the fields the kind may carry, and what it claims against what this
//! node knows. A refused message counts as lost, which Raft survives.
//!
//! Who is a member is not the same on all nodes at all times: a node behind in its log may not know
//! yet that the sender became one, and a node that joins knows no members at all. So what a leader
//! says, and a request for a vote, is taken from anyone with a certificate unless its term is over
//! (Raft thesis section 4.1); were it not, a group whose only remaining majority includes a node
//! behind could not elect a leader. Votes and confirmations count only from members.

use proto::log::{Entry, EntryKind};
use proto::peer::{RaftKind, RaftMessage};
use proto::{LogIndex, NodeId, Term};
use raft::CAMPAIGN_TRANSFER;

use crate::error::Rejected;
use crate::membership;
use crate::read::CONTEXT_BYTES;
use crate::snapshot::SnapshotMeta;
use crate::status::Role;
use crate::wire;

/// Terms and indexes stay below this, so that adding to them never overflows. At a million entries
/// a second it takes 146,000 years to get there.
const NUMBER_END: u64 = 1 << 62;

/// What this node knows when a message arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    pub(crate) term: Term,
    pub(crate) leader: Option<NodeId>,
    pub(crate) last_index: LogIndex,
    /// It knows who the members are; if not, it joins.
    pub(crate) knows_members: bool,
    /// What the sender confirmed to hold, if this node leads; `None` if it is no member.
    pub(crate) sender_matched: Option<LogIndex>,
}

/// Checks a message that arrived over the link of `from`, except a snapshot's.
///
/// # Errors
/// [`Rejected`] says what is wrong with it; the message must be dropped.
pub(crate) fn check(view: &View, from: NodeId, message: &RaftMessage) -> Result<(), Rejected> {
    let kind = check_kind(message.kind)?;
    if kind == RaftKind::Snapshot {
        return Err(Rejected::Snapshot);
    }
    let matched = check_ends(view, from, kind, message)?;
    check_numbers(message)?;
    check_fields(kind, message)?;
    match kind {
        RaftKind::Append => {
            check_sole_leader(view, from, message)?;
            check_previous(message)?;
            if message.index == 0 && !view.knows_members {
                return Err(Rejected::NoMembersYet);
            }
            check_entries(message)
        }
        RaftKind::AppendResponse => check_answer(view, matched, message),
        RaftKind::Heartbeat => {
            check_sole_leader(view, from, message)?;
            check_heartbeat(view, message)
        }
        RaftKind::Vote | RaftKind::PreVote => check_previous(message),
        RaftKind::TimeoutNow => check_sole_leader(view, from, message),
        RaftKind::HeartbeatResponse | RaftKind::VoteResponse | RaftKind::PreVoteResponse => Ok(()),
        RaftKind::Snapshot | RaftKind::Unspecified => unreachable!("refused above"),
    }
}

/// Checks the message of a snapshot whose content is here, and returns its header.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_snapshot(
    view: &View,
    from: NodeId,
    message: &RaftMessage,
) -> Result<SnapshotMeta, Rejected> {
    let kind = check_kind(message.kind)?;
    if kind != RaftKind::Snapshot {
        return Err(Rejected::Kind { kind: message.kind });
    }
    check_ends(view, from, kind, message)?;
    check_numbers(message)?;
    check_fields(kind, message)?;
    check_sole_leader(view, from, message)?;
    let wrong = |why| Rejected::SnapshotHeader { why };
    let header = message.snapshot.clone().ok_or(wrong("it is missing"))?;
    let meta = wire::meta_from_header(header).ok_or(wrong("a part of it is missing"))?;
    let (index, term) = (meta.index, meta.term);
    if index == LogIndex(0) || index.get() >= NUMBER_END {
        return Err(Rejected::OutOfRange { field: "index", value: index.get() });
    }
    if term == Term(0) || term > Term(message.term) {
        return Err(Rejected::TermOrder { index, term });
    }
    membership::check_members(&meta.conf_state).map_err(wrong)?;
    if !membership::lists(&meta.conf_state, view.node) {
        return Err(wrong("this node is not among its members"));
    }
    Ok(meta)
}

/// Checks positions in the log of a leader against what is committed here: `known` has the term of
/// every committed index that this node still remembers. A leader has all that was committed before
/// its term (Raft paper figure 3, leader completeness), so only the messages of terms that are over
/// may honestly differ.
pub(crate) fn check_committed(
    view: &View,
    message: &RaftMessage,
    positions: impl IntoIterator<Item = (LogIndex, Term)>,
    known: impl Fn(LogIndex) -> Option<Term>,
) -> Result<(), Rejected> {
    if Term(message.term) < view.term {
        return Ok(());
    }
    for (index, claimed) in positions {
        if let Some(known) = known(index).filter(|known| *known != claimed) {
            return Err(Rejected::ContradictsCommitted { index, claimed, known });
        }
    }
    Ok(())
}

/// The positions that an append names: the one before its entries, and those of the entries.
pub(crate) fn positions(message: &RaftMessage) -> impl Iterator<Item = (LogIndex, Term)> {
    let entries = message.entries.iter().map(|entry| (entry.index, entry.term));
    let all = std::iter::once((message.index, message.log_term)).chain(entries);
    all.map(|(index, term)| (LogIndex(index), Term(term)))
}

fn check_kind(kind: i32) -> Result<RaftKind, Rejected> {
    match RaftKind::try_from(kind) {
        Ok(RaftKind::Unspecified) | Err(_) => Err(Rejected::Kind { kind }),
        Ok(kind) => Ok(kind),
    }
}

/// The message is for this node and from the node at the other end of the link, which may say this.
/// Returns what the sender confirmed to hold.
fn check_ends(
    view: &View,
    from: NodeId,
    kind: RaftKind,
    message: &RaftMessage,
) -> Result<LogIndex, Rejected> {
    if NodeId(message.from) != from {
        return Err(Rejected::ForeignSender { from, claimed: NodeId(message.from) });
    }
    if NodeId(message.to) != view.node {
        return Err(Rejected::NotForUs { to: NodeId(message.to) });
    }
    let from_anyone = match kind {
        RaftKind::Append
        | RaftKind::Heartbeat
        | RaftKind::Snapshot
        | RaftKind::Vote
        | RaftKind::PreVote => Term(message.term) >= view.term,
        RaftKind::AppendResponse
        | RaftKind::HeartbeatResponse
        | RaftKind::VoteResponse
        | RaftKind::PreVoteResponse
        | RaftKind::Unspecified => false,
        // A leader that was just removed names its heir.
        RaftKind::TimeoutNow => Term(message.term) == view.term && view.leader == Some(from),
    };
    let stranger = from_anyone.then_some(LogIndex(0));
    view.sender_matched
        .or(stranger)
        .filter(|_| from != view.node)
        .ok_or(Rejected::NotMember { from })
}

/// Term 0 would pass as a message of this node to itself, and large numbers would overflow.
fn check_numbers(message: &RaftMessage) -> Result<(), Rejected> {
    if message.term == 0 {
        return Err(Rejected::OutOfRange { field: "term", value: 0 });
    }
    let numbers = [
        ("term", message.term),
        ("log_term", message.log_term),
        ("index", message.index),
        ("commit", message.commit),
        ("commit_term", message.commit_term),
        ("reject_hint", message.reject_hint),
    ];
    match numbers.into_iter().find(|(_, value)| *value >= NUMBER_END) {
        Some((field, value)) => Err(Rejected::OutOfRange { field, value }),
        None => Ok(()),
    }
}

/// A field that a kind does not use must be empty: what no code reads today some code may read
/// tomorrow. Priorities and snapshot requests are features that nothing here uses.
fn check_fields(kind: RaftKind, message: &RaftMessage) -> Result<(), Rejected> {
    let context_fits = match kind {
        RaftKind::Heartbeat | RaftKind::HeartbeatResponse => {
            message.context.is_empty() || message.context.len() == CONTEXT_BYTES
        }
        RaftKind::Vote => message.context.is_empty() || message.context == CAMPAIGN_TRANSFER,
        _ => message.context.is_empty(),
    };
    let unexpected = [
        ("context", !context_fits),
        ("entries", kind != RaftKind::Append && !message.entries.is_empty()),
        ("snapshot", kind != RaftKind::Snapshot && message.snapshot.is_some()),
        ("request_snapshot", message.request_snapshot != 0),
        ("priority", message.priority != 0),
        ("deprecated_priority", message.deprecated_priority != 0),
    ];
    match unexpected.into_iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(Rejected::UnexpectedField { field }),
        None => Ok(()),
    }
}

/// A term has one leader (Raft paper figure 3, election safety). Anything else means that votes
/// were lost, and that must be heard of.
fn check_sole_leader(view: &View, from: NodeId, message: &RaftMessage) -> Result<(), Rejected> {
    let term = view.term;
    let known = if view.role == Role::Leader { Some(view.node) } else { view.leader };
    match known {
        Some(leader) if Term(message.term) == term && leader != from => {
            Err(Rejected::SecondLeader { from, term, leader })
        }
        Some(_) | None => Ok(()),
    }
}

/// The position (index, term) in the sender's log. Index 0 and term 0 belong together: for any
/// other index the library takes term 0 as "matches beyond the end of my log".
fn check_previous(message: &RaftMessage) -> Result<(), Rejected> {
    let (index, term) = (LogIndex(message.index), Term(message.log_term));
    if (index == LogIndex(0)) != (term == Term(0)) || term > Term(message.term) {
        return Err(Rejected::TermOrder { index, term });
    }
    Ok(())
}

/// The entries follow the position before them, in terms that neither fall nor exceed the
/// message's.
fn check_entries(message: &RaftMessage) -> Result<(), Rejected> {
    let mut index = LogIndex(message.index);
    let mut term = Term(message.log_term).max(Term(1));
    for entry in &message.entries {
        let Entry { term: own, index: found, kind, data, context: _ } = entry;
        let (own, found) = (Term(*own), LogIndex(*found));
        if found != index.next() {
            return Err(Rejected::Gap { expected: index.next(), found });
        }
        if own < term || own > Term(message.term) {
            return Err(Rejected::TermOrder { index: found, term: own });
        }
        match EntryKind::try_from(*kind) {
            Ok(EntryKind::Normal) => {}
            Ok(EntryKind::ConfChange) if membership::decode(data).is_some() => {}
            Ok(EntryKind::ConfChange) | Err(_) => {
                return Err(Rejected::EntryKind { index: found });
            }
        }
        (index, term) = (found, own);
    }
    Ok(())
}

/// A heartbeat commits at most what the leader knows this node to hold. An append's commit index,
/// in contrast, is the leader's own and may well be beyond what this node has.
fn check_heartbeat(view: &View, message: &RaftMessage) -> Result<(), Rejected> {
    let commit = LogIndex(message.commit);
    if commit > view.last_index {
        return Err(Rejected::CommitBeyondLog { commit, last: view.last_index });
    }
    Ok(())
}

/// An answer to a leader speaks of entries the leader sent in this term. Answers of other terms are
/// not looked at by the library. A late rejection of what was confirmed since, or one that offers to
/// begin anew before it, would set the library back below the confirmed index (tikv/raft-rs#557).
fn check_answer(view: &View, matched: LogIndex, message: &RaftMessage) -> Result<(), Rejected> {
    if view.role != Role::Leader || Term(message.term) != view.term {
        return Ok(());
    }
    let (index, last) = (LogIndex(message.index), view.last_index);
    if index > last {
        return Err(Rejected::AnswerBeyondLog { index, last });
    }
    if message.reject {
        if message.reject_hint > message.index {
            return Err(Rejected::OutOfRange { field: "reject_hint", value: message.reject_hint });
        }
        let next = LogIndex(message.reject_hint).next();
        for index in [index, next] {
            if index <= matched {
                return Err(Rejected::RejectsConfirmed { index, matched });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proto::log::ConfState;
    use proto::peer::SnapshotHeader;

    /// Node 1 follows node 2 in term 5; its log ends at 10.
    const FOLLOWER: View = View {
        node: NodeId(1),
        role: Role::Follower,
        term: Term(5),
        leader: Some(NodeId(2)),
        last_index: LogIndex(10),
        knows_members: true,
        sender_matched: Some(LogIndex(0)),
    };

    const LEADER: View = View {
        role: Role::Leader,
        leader: Some(NodeId(1)),
        sender_matched: Some(LogIndex(7)),
        ..FOLLOWER
    };

    fn message(kind: RaftKind) -> RaftMessage {
        RaftMessage { kind: kind as i32, from: 2, to: 1, term: 5, ..Default::default() }
    }

    fn append(index: u64, log_term: u64, entries: &[(u64, u64)]) -> RaftMessage {
        let entry = |&(index, term): &(u64, u64)| Entry { index, term, ..Default::default() };
        let entries = entries.iter().map(entry).collect();
        RaftMessage { index, log_term, entries, ..message(RaftKind::Append) }
    }

    fn refused(view: &View, message: &RaftMessage) -> Rejected {
        check(view, NodeId(2), message).expect_err(&format!("{message:?}"))
    }

    #[test]
    fn what_honest_peers_send_passes() {
        let context = Bytes::from(vec![7; CONTEXT_BYTES]);
        let commits_ahead = RaftMessage { commit: 1000, ..append(10, 5, &[(11, 5)]) };
        let heartbeat = RaftMessage { commit: 10, context, ..message(RaftKind::Heartbeat) };
        let transfer = RaftMessage {
            term: 6,
            index: 10,
            log_term: 5,
            context: Bytes::from_static(CAMPAIGN_TRANSFER),
            ..message(RaftKind::Vote)
        };
        for message in [
            commits_ahead,
            append(0, 0, &[(1, 1), (2, 3), (3, 5)]),
            append(20, 5, &[]),
            heartbeat,
            transfer,
            message(RaftKind::PreVote),
            message(RaftKind::TimeoutNow),
        ] {
            assert_eq!(check(&FOLLOWER, NodeId(2), &message), Ok(()), "{message:?}");
        }
        let rejection = RaftMessage {
            reject: true,
            index: 10,
            reject_hint: 8,
            log_term: 4,
            ..message(RaftKind::AppendResponse)
        };
        let confirmation = RaftMessage { index: 10, ..message(RaftKind::AppendResponse) };
        for message in [
            rejection,
            confirmation,
            message(RaftKind::HeartbeatResponse),
            message(RaftKind::VoteResponse),
            message(RaftKind::PreVoteResponse),
        ] {
            assert_eq!(check(&LEADER, NodeId(2), &message), Ok(()), "{message:?}");
        }
    }

    #[test]
    fn only_known_kinds_pass() {
        for kind in [0, 11, -1] {
            let unknown = RaftMessage { kind, ..message(RaftKind::Append) };
            assert_eq!(refused(&FOLLOWER, &unknown), Rejected::Kind { kind });
        }
        assert_eq!(refused(&FOLLOWER, &message(RaftKind::Snapshot)), Rejected::Snapshot);
    }

    #[test]
    fn both_ends_are_checked() {
        let message = message(RaftKind::Heartbeat);
        let foreign = Rejected::ForeignSender { from: NodeId(3), claimed: NodeId(2) };
        assert_eq!(check(&FOLLOWER, NodeId(3), &message), Err(foreign));
        let elsewhere = RaftMessage { to: 3, ..message.clone() };
        assert_eq!(refused(&FOLLOWER, &elsewhere), Rejected::NotForUs { to: NodeId(3) });
        let own = RaftMessage { from: 1, ..message };
        let refused = check(&FOLLOWER, NodeId(1), &own);
        assert_eq!(refused, Err(Rejected::NotMember { from: NodeId(1) }));
    }

    /// A node that is behind does not know all members, and one that joins knows none: they hear a
    /// leader and grant votes all the same. What is counted comes from members (B20).
    #[test]
    fn b20_a_stranger_may_lead_and_ask_but_is_not_counted() {
        let stranger = View { sender_matched: None, ..FOLLOWER };
        for kind in [RaftKind::Append, RaftKind::Heartbeat, RaftKind::Vote, RaftKind::PreVote] {
            assert_eq!(check(&stranger, NodeId(2), &message(kind)), Ok(()), "{kind:?}");
            let over = RaftMessage { term: 4, ..message(kind) };
            assert_eq!(refused(&stranger, &over), Rejected::NotMember { from: NodeId(2) });
        }
        for kind in [
            RaftKind::AppendResponse,
            RaftKind::HeartbeatResponse,
            RaftKind::VoteResponse,
            RaftKind::PreVoteResponse,
        ] {
            let refused = refused(&stranger, &message(kind));
            assert_eq!(refused, Rejected::NotMember { from: NodeId(2) }, "{kind:?}");
        }
        let handover = message(RaftKind::TimeoutNow);
        assert_eq!(check(&stranger, NodeId(2), &handover), Ok(()), "it leads");
        let leaderless = View { leader: None, ..stranger };
        assert_eq!(refused(&leaderless, &handover), Rejected::NotMember { from: NodeId(2) });
    }

    #[test]
    fn a_node_that_joins_takes_no_log_from_its_beginning() {
        let joins =
            View { knows_members: false, last_index: LogIndex(0), leader: None, ..FOLLOWER };
        let from_the_beginning = append(0, 0, &[(1, 1)]);
        assert_eq!(refused(&joins, &from_the_beginning), Rejected::NoMembersYet);
        // A probe beyond its empty log passes, so that the leader hears how empty it is.
        assert_eq!(check(&joins, NodeId(2), &append(9, 5, &[])), Ok(()));
        assert_eq!(check(&FOLLOWER, NodeId(2), &from_the_beginning), Ok(()));
    }

    #[test]
    fn changes_of_members_pass_if_they_decode() {
        let with = |data: &'static [u8]| {
            let mut message = append(10, 5, &[(11, 5)]);
            message.entries[0].kind = EntryKind::ConfChange as i32;
            message.entries[0].data = Bytes::from_static(data);
            message
        };
        assert_eq!(check(&FOLLOWER, NodeId(2), &with(b"")), Ok(()));
        let refusal = Rejected::EntryKind { index: LogIndex(11) };
        assert_eq!(refused(&FOLLOWER, &with(b"\xff")), refusal);
        let mut unknown = append(10, 5, &[(11, 5)]);
        unknown.entries[0].kind = 2;
        assert_eq!(refused(&FOLLOWER, &unknown), refusal);
    }

    /// Entries 1 to 10 are committed here, with term 3.
    #[test]
    fn a_leader_does_not_contradict_what_is_committed() {
        let known = |index: LogIndex| (index <= LogIndex(10)).then_some(Term(3));
        let checked =
            |message: &RaftMessage| check_committed(&FOLLOWER, message, positions(message), known);
        let contradicts = |index, claimed| {
            let (index, claimed, known) = (LogIndex(index), Term(claimed), Term(3));
            Err(Rejected::ContradictsCommitted { index, claimed, known })
        };
        assert_eq!(checked(&append(9, 3, &[(10, 3), (11, 5)])), Ok(()));
        assert_eq!(checked(&append(9, 3, &[(10, 4)])), contradicts(10, 4));
        assert_eq!(checked(&append(10, 2, &[])), contradicts(10, 2));
        // A leader whose term is over may have sent anything.
        let over = RaftMessage { term: 4, ..append(9, 3, &[(10, 4)]) };
        assert_eq!(checked(&over), Ok(()));
    }

    fn snapshot(header: SnapshotHeader) -> RaftMessage {
        RaftMessage { snapshot: Some(header), ..message(RaftKind::Snapshot) }
    }

    fn header(index: u64, term: u64, voters: &[u64]) -> SnapshotHeader {
        let conf_state = ConfState { voters: voters.to_vec(), ..Default::default() };
        let data = Bytes::copy_from_slice(&7_u64.to_be_bytes());
        SnapshotHeader { index, term, conf_state: Some(conf_state), data }
    }

    #[test]
    fn a_sound_snapshot_passes() {
        let meta = check_snapshot(&FOLLOWER, NodeId(2), &snapshot(header(20, 4, &[1, 2]))).unwrap();
        assert_eq!((meta.index, meta.term, meta.change), (LogIndex(20), Term(4), 7));
        let alone = snapshot(header(20, 4, &[1, 2]));
        assert_eq!(refused(&FOLLOWER, &alone), Rejected::Snapshot);
    }

    /// The library panics on most of these.
    #[test]
    fn other_snapshots_are_refused() {
        let sound = header(20, 4, &[1, 2]);
        let why = |why| Rejected::SnapshotHeader { why };
        let order = |term| Rejected::TermOrder { index: LogIndex(20), term: Term(term) };
        for (message, refusal) in [
            (message(RaftKind::Snapshot), why("it is missing")),
            (
                snapshot(SnapshotHeader { conf_state: None, ..sound.clone() }),
                why("a part of it is missing"),
            ),
            (
                snapshot(SnapshotHeader { data: Bytes::new(), ..sound.clone() }),
                why("a part of it is missing"),
            ),
            (snapshot(header(0, 4, &[1])), Rejected::OutOfRange { field: "index", value: 0 }),
            (snapshot(header(20, 0, &[1])), order(0)),
            (snapshot(header(20, 6, &[1])), order(6)),
            (snapshot(header(20, 4, &[1, 1])), why("a node is listed twice")),
            (snapshot(header(20, 4, &[2, 3])), why("this node is not among its members")),
            (
                RaftMessage { from: 3, ..snapshot(sound.clone()) },
                Rejected::ForeignSender { from: NodeId(2), claimed: NodeId(3) },
            ),
            (message(RaftKind::Append), Rejected::Kind { kind: RaftKind::Append as i32 }),
        ] {
            assert_eq!(check_snapshot(&FOLLOWER, NodeId(2), &message), Err(refusal), "{message:?}");
        }
        let second = RaftMessage { from: 3, ..snapshot(sound) };
        let refused = check_snapshot(&FOLLOWER, NodeId(3), &second).unwrap_err();
        assert!(matches!(refused, Rejected::SecondLeader { .. }), "{refused}");
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let base = message(RaftKind::Append);
        let value = NUMBER_END;
        for (field, message) in [
            ("term", RaftMessage { term: value, ..base.clone() }),
            ("log_term", RaftMessage { log_term: value, ..base.clone() }),
            ("index", RaftMessage { index: value, ..base.clone() }),
            ("commit", RaftMessage { commit: value, ..base.clone() }),
            ("commit_term", RaftMessage { commit_term: value, ..base.clone() }),
            ("reject_hint", RaftMessage { reject_hint: value, ..base.clone() }),
        ] {
            assert_eq!(refused(&FOLLOWER, &message), Rejected::OutOfRange { field, value });
        }
        let termless = RaftMessage { term: 0, ..base };
        let expected = Rejected::OutOfRange { field: "term", value: 0 };
        assert_eq!(refused(&FOLLOWER, &termless), expected);
    }

    #[test]
    fn fields_of_other_kinds_are_refused() {
        let heartbeat = message(RaftKind::Heartbeat);
        let context = Bytes::from_static(b"short");
        for (field, message) in [
            ("context", RaftMessage { context: context.clone(), ..heartbeat.clone() }),
            ("context", RaftMessage { context: context.clone(), ..message(RaftKind::Vote) }),
            ("context", RaftMessage { context, ..message(RaftKind::Append) }),
            (
                "entries",
                RaftMessage { entries: append(0, 0, &[(1, 1)]).entries, ..heartbeat.clone() },
            ),
            (
                "snapshot",
                RaftMessage { snapshot: Some(SnapshotHeader::default()), ..heartbeat.clone() },
            ),
            ("request_snapshot", RaftMessage { request_snapshot: 1, ..heartbeat.clone() }),
            ("priority", RaftMessage { priority: -1, ..heartbeat.clone() }),
            ("deprecated_priority", RaftMessage { deprecated_priority: 1, ..heartbeat }),
        ] {
            assert_eq!(refused(&FOLLOWER, &message), Rejected::UnexpectedField { field });
        }
    }

    #[test]
    fn entries_are_contiguous() {
        let gap = |expected, found| Rejected::Gap {
            expected: LogIndex(expected),
            found: LogIndex(found),
        };
        assert_eq!(refused(&FOLLOWER, &append(10, 5, &[(12, 5)])), gap(11, 12));
        assert_eq!(refused(&FOLLOWER, &append(10, 5, &[(11, 5), (11, 5)])), gap(12, 11));
        assert_eq!(refused(&FOLLOWER, &append(10, 5, &[(10, 5)])), gap(11, 10));
    }

    #[test]
    fn terms_rise_along_the_log_up_to_the_message() {
        let order = |index, term| Rejected::TermOrder { index: LogIndex(index), term: Term(term) };
        assert_eq!(refused(&FOLLOWER, &append(10, 4, &[(11, 5), (12, 4)])), order(12, 4));
        assert_eq!(refused(&FOLLOWER, &append(10, 4, &[(11, 3)])), order(11, 3));
        assert_eq!(refused(&FOLLOWER, &append(10, 4, &[(11, 6)])), order(11, 6));
        assert_eq!(refused(&FOLLOWER, &append(0, 0, &[(1, 0)])), order(1, 0));
        assert_eq!(refused(&FOLLOWER, &append(10, 6, &[])), order(10, 6));
    }

    /// The library takes term 0 as matching any index beyond the log, appends behind the gap and
    /// panics.
    #[test]
    fn a_position_without_a_term_is_refused() {
        let order = |index, term| Rejected::TermOrder { index: LogIndex(index), term: Term(term) };
        assert_eq!(refused(&FOLLOWER, &append(20, 0, &[(21, 5)])), order(20, 0));
        assert_eq!(refused(&FOLLOWER, &append(0, 1, &[(1, 5)])), order(0, 1));
        let vote = RaftMessage { index: 3, ..message(RaftKind::Vote) };
        assert_eq!(refused(&FOLLOWER, &vote), order(3, 0));
    }

    /// tikv/tikv#7353: the library panics.
    #[test]
    fn b44_a_heartbeat_commits_nothing_beyond_the_log() {
        let ahead = RaftMessage { commit: 11, ..message(RaftKind::Heartbeat) };
        let refusal = Rejected::CommitBeyondLog { commit: LogIndex(11), last: LogIndex(10) };
        assert_eq!(refused(&FOLLOWER, &ahead), refusal);
    }

    #[test]
    fn answers_speak_of_entries_the_leader_has() {
        let last = LogIndex(10);
        let ahead = RaftMessage { index: 11, ..message(RaftKind::AppendResponse) };
        let refusal = Rejected::AnswerBeyondLog { index: LogIndex(11), last };
        assert_eq!(refused(&LEADER, &ahead), refusal);
        let hint = RaftMessage {
            index: 9,
            reject: true,
            reject_hint: 10,
            ..message(RaftKind::AppendResponse)
        };
        let refusal = Rejected::OutOfRange { field: "reject_hint", value: 10 };
        assert_eq!(refused(&LEADER, &hint), refusal);
        let lost = RaftMessage { index: 7, reject: true, ..message(RaftKind::AppendResponse) };
        let refusal = Rejected::RejectsConfirmed { index: LogIndex(7), matched: LogIndex(7) };
        assert_eq!(refused(&LEADER, &lost), refusal);
        // It confirmed 7, so it cannot want to begin at 5 (tikv/raft-rs#557).
        let back = RaftMessage {
            index: 9,
            reject: true,
            reject_hint: 4,
            ..message(RaftKind::AppendResponse)
        };
        let refusal = Rejected::RejectsConfirmed { index: LogIndex(5), matched: LogIndex(7) };
        assert_eq!(refused(&LEADER, &back), refusal);
        // Answers of another term, or to a node that does not lead, are the library's to ignore.
        let newer = RaftMessage { term: 6, ..ahead.clone() };
        assert_eq!(check(&LEADER, NodeId(2), &newer), Ok(()));
        assert_eq!(check(&FOLLOWER, NodeId(2), &ahead), Ok(()));
    }

    #[test]
    fn a_term_has_one_leader() {
        let from_3 = |kind| RaftMessage { from: 3, ..message(kind) };
        let second = |leader| Rejected::SecondLeader {
            from: NodeId(3),
            term: Term(5),
            leader: NodeId(leader),
        };
        for kind in [RaftKind::Append, RaftKind::Heartbeat, RaftKind::TimeoutNow] {
            let message = from_3(kind);
            assert_eq!(check(&FOLLOWER, NodeId(3), &message), Err(second(2)));
            assert_eq!(check(&LEADER, NodeId(3), &message), Err(second(1)));
            let waiting = View { leader: None, ..FOLLOWER };
            assert_eq!(check(&waiting, NodeId(3), &message), Ok(()));
            let newer = RaftMessage { term: 6, ..message };
            assert_eq!(check(&LEADER, NodeId(3), &newer), Ok(()));
        }
    }
}
