//! Conversion between the library's types and ours, field by field.
//!
//! The library's types and its protobuf decoder (RUSTSEC-2024-0437) never see a byte from the
//! network or the disk: those are decoded as our own messages, which are converted here. Every
//! function takes its input apart by naming all fields, so that a field added on either side does
//! not compile until it is handled.

use bytes::Bytes;
use proto::log;
use proto::peer::{RaftKind, RaftMessage, SnapshotHeader};
use proto::{LogIndex, Term};
use raft::eraftpb::{
    ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
};

use crate::snapshot::SnapshotMeta;

/// The kinds of messages that cross the network. All others are local to the library, or ways to
/// forward client requests that we do not use; `None` for them.
fn kind_from_type(kind: MessageType) -> Option<RaftKind> {
    match kind {
        MessageType::MsgAppend => Some(RaftKind::Append),
        MessageType::MsgAppendResponse => Some(RaftKind::AppendResponse),
        MessageType::MsgHeartbeat => Some(RaftKind::Heartbeat),
        MessageType::MsgHeartbeatResponse => Some(RaftKind::HeartbeatResponse),
        MessageType::MsgRequestVote => Some(RaftKind::Vote),
        MessageType::MsgRequestVoteResponse => Some(RaftKind::VoteResponse),
        MessageType::MsgRequestPreVote => Some(RaftKind::PreVote),
        MessageType::MsgRequestPreVoteResponse => Some(RaftKind::PreVoteResponse),
        MessageType::MsgSnapshot => Some(RaftKind::Snapshot),
        MessageType::MsgTimeoutNow => Some(RaftKind::TimeoutNow),
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp => None,
    }
}

fn type_from_kind(kind: RaftKind) -> Option<MessageType> {
    match kind {
        RaftKind::Unspecified => None,
        RaftKind::Append => Some(MessageType::MsgAppend),
        RaftKind::AppendResponse => Some(MessageType::MsgAppendResponse),
        RaftKind::Heartbeat => Some(MessageType::MsgHeartbeat),
        RaftKind::HeartbeatResponse => Some(MessageType::MsgHeartbeatResponse),
        RaftKind::Vote => Some(MessageType::MsgRequestVote),
        RaftKind::VoteResponse => Some(MessageType::MsgRequestVoteResponse),
        RaftKind::PreVote => Some(MessageType::MsgRequestPreVote),
        RaftKind::PreVoteResponse => Some(MessageType::MsgRequestPreVoteResponse),
        RaftKind::Snapshot => Some(MessageType::MsgSnapshot),
        RaftKind::TimeoutNow => Some(MessageType::MsgTimeoutNow),
    }
}

/// A message of the library for a peer.
///
/// # Panics
/// If its kind never crosses the network: the library would be forwarding a proposal or a read,
/// which it is never given unless it leads.
pub(crate) fn message_to_peer(message: Message) -> RaftMessage {
    let Message {
        msg_type,
        to,
        from,
        term,
        log_term,
        index,
        entries,
        commit,
        commit_term,
        snapshot,
        request_snapshot,
        reject,
        reject_hint,
        context,
        deprecated_priority,
        priority,
        unknown_fields: _,
        cached_size: _,
    } = message;
    let Some(kind) = kind_from_type(msg_type) else {
        panic!("the library sends {msg_type:?}, which never crosses the network")
    };
    RaftMessage {
        kind: kind as i32,
        to,
        from,
        term,
        log_term,
        index,
        entries: entries.into_iter().map(entry_to_log).collect(),
        commit,
        commit_term,
        reject,
        reject_hint,
        context,
        request_snapshot,
        deprecated_priority,
        priority,
        snapshot: snapshot.into_option().map(snapshot_to_peer),
    }
}

/// A message of a peer for the library; `None` for an unknown kind of message or entry.
pub(crate) fn message_from_peer(message: RaftMessage) -> Option<Message> {
    let RaftMessage {
        kind,
        to,
        from,
        term,
        log_term,
        index,
        entries,
        commit,
        commit_term,
        reject,
        reject_hint,
        context,
        request_snapshot,
        deprecated_priority,
        priority,
        snapshot,
    } = message;
    let entries: Option<Vec<Entry>> = entries.into_iter().map(entry_from_log).collect();
    Some(Message {
        msg_type: RaftKind::try_from(kind).ok().and_then(type_from_kind)?,
        to,
        from,
        term,
        log_term,
        index,
        entries: entries?.into(),
        commit,
        commit_term,
        snapshot: snapshot.map(snapshot_from_peer).into(),
        request_snapshot,
        reject,
        reject_hint,
        context,
        deprecated_priority,
        priority,
        unknown_fields: Default::default(),
        cached_size: Default::default(),
    })
}

fn snapshot_to_peer(snapshot: Snapshot) -> SnapshotHeader {
    let Snapshot { data, metadata, unknown_fields: _, cached_size: _ } = snapshot;
    let SnapshotMetadata { conf_state, index, term, unknown_fields: _, cached_size: _ } =
        metadata.into_option().unwrap_or_default();
    SnapshotHeader {
        index,
        term,
        conf_state: conf_state.into_option().map(conf_state_to_log),
        data,
    }
}

fn snapshot_from_peer(header: SnapshotHeader) -> Snapshot {
    let SnapshotHeader { index, term, conf_state, data } = header;
    let metadata = SnapshotMetadata {
        conf_state: conf_state.map(conf_state_from_log).into(),
        index,
        term,
        unknown_fields: Default::default(),
        cached_size: Default::default(),
    };
    Snapshot {
        data,
        metadata: Some(metadata).into(),
        unknown_fields: Default::default(),
        cached_size: Default::default(),
    }
}

/// A snapshot without its content. What the library takes for the content is the number of the last
/// membership change in it, for which it has no field.
pub(crate) fn snapshot_from_meta(meta: &SnapshotMeta) -> Snapshot {
    let SnapshotMeta { index, term, conf_state, change } = meta;
    snapshot_from_peer(SnapshotHeader {
        index: index.get(),
        term: term.get(),
        conf_state: Some(conf_state.clone()),
        data: Bytes::copy_from_slice(&change.to_be_bytes()),
    })
}

/// What a snapshot's header says; `None` if it is not of the form that [`snapshot_from_meta`] makes.
pub(crate) fn meta_from_header(header: SnapshotHeader) -> Option<SnapshotMeta> {
    let SnapshotHeader { index, term, conf_state, data } = header;
    Some(SnapshotMeta {
        index: LogIndex(index),
        term: Term(term),
        conf_state: conf_state?,
        change: u64::from_be_bytes(<[u8; 8]>::try_from(&*data).ok()?),
    })
}

/// As [`meta_from_header`], from the library's form.
pub(crate) fn meta_from_snapshot(snapshot: Snapshot) -> Option<SnapshotMeta> {
    meta_from_header(snapshot_to_peer(snapshot))
}

/// An entry of the library as it is written and sent.
///
/// # Panics
/// If it is a membership change in the old form, which is never proposed.
pub(crate) fn entry_to_log(entry: Entry) -> log::Entry {
    let Entry {
        entry_type,
        term,
        index,
        data,
        context,
        // Deprecated; nothing sets or reads it.
        sync_log: _,
        unknown_fields: _,
        cached_size: _,
    } = entry;
    let kind = match entry_type {
        EntryType::EntryNormal => log::EntryKind::Normal,
        EntryType::EntryConfChangeV2 => log::EntryKind::ConfChange,
        EntryType::EntryConfChange => panic!("entry {index} is a membership change in old form"),
    };
    log::Entry { term, index, kind: kind as i32, data, context }
}

/// An entry from disk or a peer for the library; `None` for an unknown kind.
pub(crate) fn entry_from_log(entry: log::Entry) -> Option<Entry> {
    let log::Entry { term, index, kind, data, context } = entry;
    let entry_type = match log::EntryKind::try_from(kind).ok()? {
        log::EntryKind::Normal => EntryType::EntryNormal,
        log::EntryKind::ConfChange => EntryType::EntryConfChangeV2,
    };
    Some(Entry {
        entry_type,
        term,
        index,
        data,
        context,
        sync_log: false,
        unknown_fields: Default::default(),
        cached_size: Default::default(),
    })
}

/// The hard state as it is written.
pub(crate) fn hard_state_to_log(state: HardState) -> log::HardState {
    let HardState { term, vote, commit, unknown_fields: _, cached_size: _ } = state;
    log::HardState { term, vote, commit }
}

/// The hard state from disk.
pub(crate) fn hard_state_from_log(state: log::HardState) -> HardState {
    let log::HardState { term, vote, commit } = state;
    HardState {
        term,
        vote,
        commit,
        unknown_fields: Default::default(),
        cached_size: Default::default(),
    }
}

/// The members as they are written.
pub(crate) fn conf_state_to_log(state: ConfState) -> log::ConfState {
    let ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave,
        unknown_fields: _,
        cached_size: _,
    } = state;
    log::ConfState { voters, learners, voters_outgoing, learners_next, auto_leave }
}

/// The members from disk.
pub(crate) fn conf_state_from_log(state: log::ConfState) -> ConfState {
    let log::ConfState { voters, learners, voters_outgoing, learners_next, auto_leave } = state;
    ConfState {
        voters,
        learners,
        voters_outgoing,
        learners_next,
        auto_leave,
        unknown_fields: Default::default(),
        cached_size: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 1..20).prop_map(Bytes::from)
    }

    fn ids() -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(any::<u64>(), 1..4)
    }

    fn entry() -> impl Strategy<Value = log::Entry> {
        (any::<u64>(), any::<u64>(), 0..=1_i32, bytes(), bytes()).prop_map(
            |(term, index, kind, data, context)| log::Entry { term, index, kind, data, context },
        )
    }

    fn conf_state() -> impl Strategy<Value = log::ConfState> {
        (ids(), ids(), ids(), ids(), any::<bool>()).prop_map(
            |(voters, learners, voters_outgoing, learners_next, auto_leave)| log::ConfState {
                voters,
                learners,
                voters_outgoing,
                learners_next,
                auto_leave,
            },
        )
    }

    fn snapshot() -> impl Strategy<Value = SnapshotHeader> {
        (any::<u64>(), any::<u64>(), proptest::option::of(conf_state()), bytes()).prop_map(
            |(index, term, conf_state, data)| SnapshotHeader { index, term, conf_state, data },
        )
    }

    prop_compose! {
        fn message()(
            kind in 1..=10_i32,
            numbers in any::<[u64; 9]>(),
            reject in any::<bool>(),
            request_snapshot in any::<u64>(),
            priority in any::<i64>(),
            context in bytes(),
            entries in proptest::collection::vec(entry(), 0..4),
            snapshot in proptest::option::of(snapshot()),
        ) -> RaftMessage {
            let [to, from, term, log_term, index, commit, commit_term, reject_hint, old] = numbers;
            RaftMessage {
                kind, to, from, term, log_term, index, entries, commit, commit_term, reject,
                reject_hint, context, request_snapshot, deprecated_priority: old, priority,
                snapshot,
            }
        }
    }

    proptest! {
        #[test]
        fn messages_survive_the_way_there_and_back(message in message()) {
            let inner = message_from_peer(message.clone()).unwrap();
            prop_assert_eq!(message_to_peer(inner.clone()), message.clone());
            // And once more through the bytes of the wire.
            let decoded = RaftMessage::decode(message.encode_to_vec().as_slice()).unwrap();
            prop_assert_eq!(message_from_peer(decoded).unwrap(), inner);
        }

        #[test]
        fn entries_survive_the_way_there_and_back(entry in entry()) {
            prop_assert_eq!(entry_to_log(entry_from_log(entry.clone()).unwrap()), entry);
        }

        #[test]
        fn states_survive_the_way_there_and_back(
            term in any::<u64>(), vote in any::<u64>(), commit in any::<u64>(), conf in conf_state(),
        ) {
            let hard = log::HardState { term, vote, commit };
            prop_assert_eq!(hard_state_to_log(hard_state_from_log(hard)), hard);
            prop_assert_eq!(conf_state_to_log(conf_state_from_log(conf.clone())), conf);
        }
    }

    /// The one field of the two forms that shares no name: the kind, in both directions.
    #[test]
    fn kinds_pair_up() {
        for number in 0..=10 {
            let kind = RaftKind::try_from(number).unwrap();
            assert_eq!(type_from_kind(kind).and_then(kind_from_type).is_some(), number != 0);
            if let Some(library) = type_from_kind(kind) {
                assert_eq!(kind_from_type(library), Some(kind));
            }
        }
        assert_eq!(message_from_peer(RaftMessage { kind: 11, ..Default::default() }), None);
        assert_eq!(message_from_peer(RaftMessage::default()), None);
        assert_eq!(entry_from_log(log::Entry { kind: 2, ..Default::default() }), None);
    }

    #[test]
    fn a_forwarded_proposal_is_a_panic() {
        use MessageType::*;
        let local = [
            MsgHup,
            MsgBeat,
            MsgPropose,
            MsgUnreachable,
            MsgSnapStatus,
            MsgCheckQuorum,
            MsgTransferLeader,
            MsgReadIndex,
            MsgReadIndexResp,
        ];
        for msg_type in local {
            let message = Message { msg_type, ..Default::default() };
            let sent = std::panic::catch_unwind(|| message_to_peer(message));
            assert!(sent.is_err(), "{msg_type:?}");
        }
    }
}
