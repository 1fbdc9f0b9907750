//! What a node hears from its peers, with the planted bug in between.

use std::sync::atomic::{AtomicU64, Ordering};

use proto::NodeId;
use proto::peer::peer_message::Body;
use proto::peer::{PeerMessage, RaftKind, RaftMessage};

use super::mutant::{Mutant, planted};

/// Of so many appends with entries one is acknowledged and forgotten.
const EVERY: u64 = 50;

/// What the node hears instead of this message; `send` sends to a peer.
pub fn hear(
    from: NodeId,
    message: PeerMessage,
    send: &dyn Fn(NodeId, PeerMessage),
) -> Option<PeerMessage> {
    if planted() != Some(Mutant::AcksUnwritten) {
        return Some(message);
    }
    static APPENDS: AtomicU64 = AtomicU64::new(1);
    let Some(answer) = acknowledgement(&message) else { return Some(message) };
    if !APPENDS.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY) {
        return Some(message);
    }
    send(from, answer);
    None
}

/// What a follower answers once it has written the entries of this append; `None` if it has none.
fn acknowledgement(message: &PeerMessage) -> Option<PeerMessage> {
    let Some(Body::Raft(append)) = &message.body else { return None };
    let last = append.entries.last().filter(|_| append.kind() == RaftKind::Append)?;
    let answer = RaftMessage {
        kind: RaftKind::AppendResponse.into(),
        to: append.from,
        from: append.to,
        term: append.term,
        index: last.index,
        ..RaftMessage::default()
    };
    Some(PeerMessage { group: message.group, body: Some(Body::Raft(answer)) })
}

#[cfg(test)]
mod tests {
    use proto::log::Entry;

    use super::*;

    #[test]
    fn only_appends_with_entries_are_acknowledged() {
        let append = |kind: RaftKind, indexes: &[u64]| {
            let entry = |index: &u64| Entry { index: *index, ..Entry::default() };
            let entries = indexes.iter().map(entry).collect();
            let (kind, to, from, term) = (kind.into(), 2, 1, 5);
            let raft = RaftMessage { kind, to, from, term, entries, ..RaftMessage::default() };
            PeerMessage { group: 7, body: Some(Body::Raft(raft)) }
        };
        assert_eq!(acknowledgement(&append(RaftKind::Append, &[])), None);
        assert_eq!(acknowledgement(&append(RaftKind::Heartbeat, &[3])), None);
        let answer = acknowledgement(&append(RaftKind::Append, &[3, 4])).unwrap();
        let Some(Body::Raft(raft)) = &answer.body else { panic!() };
        assert_eq!((answer.group, raft.kind(), raft.index), (7, RaftKind::AppendResponse, 4));
        assert_eq!((raft.from, raft.to, raft.term), (2, 1, 5));
    }
}
