//! What waits to be sent to one peer.
//!
//! Three lanes: urgent messages (votes, heartbeats, answers, read indexes, pings) leave before probes of
//! liveness, and those before bulk ones (entries, forwarded writes). Within a lane the order is kept. All are bounded; at
//! the bound the newest message is dropped and counted, because whoever sent it tries again: raft
//! repeats what is not answered, a forwarded write is repeated by its client under its id, and probes are made to
//! be lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use prost::Message;
use proto::peer::{self, PeerMessage, RaftKind, peer_message::Body};
use tokio::sync::Notify;

use super::frame::MESSAGE_BYTES_MAX;

/// Messages that wait in the urgent lane.
pub(super) const URGENT_MAX: usize = 4_096;
/// Probes of liveness that wait. A peer that takes none for so long is not up.
pub(super) const PROBES_MAX: usize = 128;
/// Bytes that wait in the bulk lane.
pub(super) const BULK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest urgent message. What is longer takes the bulk lane, whatever its kind, so that nothing
/// urgent waits for it.
pub(super) const URGENT_BYTES_MAX: usize = 16 * 1024;

/// Which lane a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Urgent,
    Probe,
    Bulk,
}

impl Lane {
    pub(super) fn of(message: &PeerMessage, bytes: usize) -> Self {
        if bytes > URGENT_BYTES_MAX {
            return Self::Bulk;
        }
        match &message.body {
            Some(Body::Raft(raft)) => match RaftKind::try_from(raft.kind) {
                // Also an append without entries: were it to overtake one with entries, the
                // follower would refuse it and the leader start probing.
                Ok(RaftKind::Append | RaftKind::Snapshot) => Self::Bulk,
                Ok(
                    RaftKind::AppendResponse
                    | RaftKind::Heartbeat
                    | RaftKind::HeartbeatResponse
                    | RaftKind::Vote
                    | RaftKind::VoteResponse
                    | RaftKind::PreVote
                    | RaftKind::PreVoteResponse
                    | RaftKind::TimeoutNow,
                ) => Self::Urgent,
                Ok(RaftKind::Unspecified) | Err(_) => Self::Bulk,
            },
            Some(
                Body::Forward(_)
                | Body::SnapshotOffer(_)
                | Body::SnapshotChunk(_)
                | Body::Gossip(_),
            )
            | None => Self::Bulk,
            Some(Body::Liveness(_)) => Self::Probe,
            Some(
                Body::SnapshotFetch(_)
                | Body::Repair(_)
                | Body::MoveLeader(_)
                | Body::DiskFull(_)
                | Body::SecretRequest(_)
                | Body::SecretReply(_)
                | Body::ReadIndex(_)
                | Body::ReadIndexReply(_)
                | Body::ForwardReply(_)
                | Body::Ping(_)
                | Body::Pong(_),
            ) => Self::Urgent,
        }
    }
}

/// Something to send.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every item is a message, and a box would cost an allocation for each"
)]
pub(super) enum Item {
    Hello(peer::Hello),
    Message(PeerMessage),
}

/// Something to send, with its encoded length.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) item: Item,
    pub(super) bytes: usize,
    pub(super) lane: Lane,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// There is no connection.
    #[default]
    Closed,
    /// There is one, but only hellos and pings may be sent on it.
    Control,
    /// The link is up.
    Open,
    /// What is queued is sent, then the connection ends.
    Finishing,
}

/// What a writer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// At least one item.
    Some,
    /// Nothing waits.
    Nothing,
    /// Nothing waits and nothing will.
    Finished,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    urgent: VecDeque<Queued>,
    probes: VecDeque<Queued>,
    bulk: VecDeque<Queued>,
    bulk_bytes: usize,
}

/// The lanes to one peer. Any thread may push; the writer of the one connection takes.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    state: Mutex<State>,
    wake: Notify,
    dropped_down: AtomicU64,
    dropped_full: AtomicU64,
    #[cfg(feature = "lab")]
    lab: crate::lab::Messages,
}

impl Lanes {
    /// Queues a message; drops it when the link is not up or the lane is full. Never blocks.
    pub(super) fn push(&self, message: PeerMessage) {
        #[cfg(feature = "lab")]
        self.lab.pass(message).into_iter().for_each(|message| self.queue(message));
        #[cfg(not(feature = "lab"))]
        self.queue(message);
    }

    fn queue(&self, message: PeerMessage) {
        let bytes = message.encoded_len();
        let lane = Lane::of(&message, bytes);
        let mut state = self.lock();
        if state.phase != Phase::Open {
            self.dropped_down.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let full = match lane {
            Lane::Urgent => state.urgent.len() >= URGENT_MAX,
            Lane::Probe => state.probes.len() >= PROBES_MAX,
            Lane::Bulk => state.bulk_bytes + bytes > BULK_BYTES_MAX || bytes > MESSAGE_BYTES_MAX,
        };
        if full {
            self.dropped_full.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let queued = Queued { item: Item::Message(message), bytes, lane };
        match lane {
            Lane::Urgent => state.urgent.push_back(queued),
            Lane::Probe => state.probes.push_back(queued),
            Lane::Bulk => {
                state.bulk_bytes += bytes;
                state.bulk.push_back(queued);
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Queues a hello, ping or pong, also before the link is up. A full lane drops it: the pings
    /// that wait there do its work.
    pub(super) fn push_control(&self, item: Item) {
        let bytes = match &item {
            Item::Hello(hello) => hello.encoded_len(),
            Item::Message(message) => message.encoded_len(),
        };
        assert!(bytes <= URGENT_BYTES_MAX, "{bytes} bytes are too many for {item:?}");
        let mut state = self.lock();
        let open = matches!(state.phase, Phase::Control | Phase::Open);
        let hello = matches!(item, Item::Hello(_));
        if open && (hello || state.urgent.len() < URGENT_MAX) {
            state.urgent.push_back(Queued { item, bytes, lane: Lane::Urgent });
            drop(state);
            self.wake.notify_one();
        }
    }

    /// A connection begins, with empty lanes.
    pub(super) fn connect(&self) {
        *self.lock() = State { phase: Phase::Control, ..State::default() };
    }

    /// The link is up.
    pub(super) fn open(&self) {
        let mut state = self.lock();
        assert_eq!(state.phase, Phase::Control, "a link opens once per connection");
        state.phase = Phase::Open;
    }

    /// Takes nothing more; the writer ends once all that waits is sent.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        if state.phase != Phase::Closed {
            state.phase = Phase::Finishing;
        }
        drop(state);
        self.wake.notify_one();
    }

    /// The connection has ended; what waits is dropped.
    pub(super) fn close(&self) {
        *self.lock() = State::default();
    }

    /// Moves items of at most about `room` bytes into `into`: urgent ones first, then probes, then, if asked,
    /// bulk ones.
    pub(super) fn take(&self, into: &mut Vec<Queued>, room: usize, bulk: bool) -> Taken {
        let mut state = self.lock();
        let mut taken = 0;
        while taken < room
            && let Some(queued) = state.urgent.pop_front()
        {
            taken += queued.bytes;
            into.push(queued);
        }
        while taken < room
            && let Some(queued) = state.probes.pop_front()
        {
            taken += queued.bytes;
            into.push(queued);
        }
        while bulk
            && taken < room
            && let Some(queued) = state.bulk.pop_front()
        {
            taken += queued.bytes;
            state.bulk_bytes -= queued.bytes;
            into.push(queued);
        }
        if !into.is_empty() {
            return Taken::Some;
        }
        let idle = state.urgent.is_empty() && state.probes.is_empty() && state.bulk.is_empty();
        match state.phase {
            Phase::Finishing | Phase::Closed if idle => Taken::Finished,
            _ => Taken::Nothing,
        }
    }

    /// Waits until something was pushed or the phase changed since the last wait. There is one
    /// waiter, the writer.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// Messages dropped because the link was not up, and because a lane was full.
    pub(super) fn dropped(&self) -> (u64, u64) {
        (self.dropped_down.load(Ordering::Relaxed), self.dropped_full.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::log;

    use super::*;

    fn raft(kind: RaftKind, data_bytes: usize) -> PeerMessage {
        let entry = log::Entry { data: Bytes::from(vec![0; data_bytes]), ..Default::default() };
        let raft =
            peer::RaftMessage { kind: kind.into(), entries: vec![entry], ..Default::default() };
        PeerMessage { group: 1, body: Some(Body::Raft(raft)) }
    }

    fn kind_of(queued: &Queued) -> RaftKind {
        let Item::Message(PeerMessage { body: Some(Body::Raft(raft)), .. }) = &queued.item else {
            panic!("{queued:?}")
        };
        raft.kind()
    }

    fn open() -> Lanes {
        let lanes = Lanes::default();
        lanes.connect();
        lanes.open();
        lanes
    }

    #[test]
    fn kinds_take_their_lanes() {
        use RaftKind as K;
        for (kind, lane) in [
            (K::Append, Lane::Bulk),
            (K::Snapshot, Lane::Bulk),
            (K::Unspecified, Lane::Bulk),
            (K::AppendResponse, Lane::Urgent),
            (K::Heartbeat, Lane::Urgent),
            (K::HeartbeatResponse, Lane::Urgent),
            (K::Vote, Lane::Urgent),
            (K::VoteResponse, Lane::Urgent),
            (K::PreVote, Lane::Urgent),
            (K::PreVoteResponse, Lane::Urgent),
            (K::TimeoutNow, Lane::Urgent),
        ] {
            assert_eq!(Lane::of(&raft(kind, 0), 100), lane, "{kind:?}");
            assert_eq!(Lane::of(&raft(kind, 0), URGENT_BYTES_MAX + 1), Lane::Bulk, "{kind:?}");
        }
        for (body, lane) in [
            (Body::ReadIndex(Default::default()), Lane::Urgent),
            (Body::ReadIndexReply(Default::default()), Lane::Urgent),
            (Body::Forward(Default::default()), Lane::Bulk),
            (Body::ForwardReply(Default::default()), Lane::Urgent),
            (Body::Gossip(Default::default()), Lane::Bulk),
            (Body::Liveness(Default::default()), Lane::Probe),
            (Body::Ping(Default::default()), Lane::Urgent),
            (Body::Pong(Default::default()), Lane::Urgent),
        ] {
            let message = PeerMessage { group: 0, body: Some(body) };
            assert_eq!(Lane::of(&message, 10), lane, "{message:?}");
        }
    }

    #[test]
    fn urgent_items_are_taken_first_and_room_is_kept() {
        let lanes = open();
        for _ in 0..3 {
            lanes.push(raft(RaftKind::Append, 1_000));
        }
        lanes.push(raft(RaftKind::Heartbeat, 0));
        let mut taken = Vec::new();
        assert_eq!(lanes.take(&mut taken, 1_500, true), Taken::Some);
        let kinds: Vec<RaftKind> = taken.iter().map(kind_of).collect();
        assert_eq!(kinds, [RaftKind::Heartbeat, RaftKind::Append, RaftKind::Append]);
        taken.clear();
        assert_eq!(lanes.take(&mut taken, 1_500, false), Taken::Nothing);
        assert_eq!(lanes.take(&mut taken, 1_500, true), Taken::Some);
        taken.clear();
        assert_eq!(lanes.take(&mut taken, 1_500, true), Taken::Nothing);
    }

    #[test]
    fn b07_a_slow_peer_fills_bounded_lanes_and_what_it_misses_is_counted() {
        let lanes = open();
        let message = raft(RaftKind::Append, 1024 * 1024);
        let bytes = message.encoded_len();
        let fit = BULK_BYTES_MAX / bytes;
        for _ in 0..fit + 2 {
            lanes.push(message.clone());
        }
        assert_eq!(lanes.lock().bulk.len(), fit);
        assert_eq!(lanes.dropped(), (0, 2));
        for _ in 0..URGENT_MAX + 3 {
            lanes.push(raft(RaftKind::Heartbeat, 0));
        }
        assert_eq!(lanes.lock().urgent.len(), URGENT_MAX);
        assert_eq!(lanes.dropped(), (0, 5));
        // Room again once something was taken.
        let mut taken = Vec::new();
        lanes.take(&mut taken, usize::MAX, true);
        assert_eq!((taken.len(), lanes.lock().bulk_bytes), (URGENT_MAX + fit, 0));
        lanes.push(raft(RaftKind::Append, MESSAGE_BYTES_MAX));
        assert_eq!(lanes.dropped(), (0, 6));
        lanes.push(message);
        assert_eq!(lanes.dropped(), (0, 6));
    }

    #[test]
    fn probes_leave_between_urgent_and_bulk_and_are_dropped_when_they_are_many() {
        let probe = || PeerMessage { group: 2, body: Some(Body::Liveness(Default::default())) };
        let lanes = Lanes::default();
        lanes.push(probe());
        assert_eq!(lanes.dropped(), (1, 0), "the link is down");
        lanes.connect();
        lanes.open();
        lanes.push(raft(RaftKind::Append, 10));
        for _ in 0..PROBES_MAX + 2 {
            lanes.push(probe());
        }
        lanes.push(raft(RaftKind::Heartbeat, 0));
        assert_eq!(lanes.dropped(), (1, 2));
        let mut taken = Vec::new();
        assert_eq!(lanes.take(&mut taken, usize::MAX, true), Taken::Some);
        let found: Vec<Lane> = taken.iter().map(|queued| queued.lane).collect();
        assert_eq!(found[0], Lane::Urgent);
        assert!(found[1..=PROBES_MAX].iter().all(|lane| *lane == Lane::Probe));
        assert_eq!(found[PROBES_MAX + 1..], [Lane::Bulk]);
    }

    #[test]
    fn messages_wait_for_the_link_to_be_up() {
        let lanes = Lanes::default();
        let ping =
            || Item::Message(PeerMessage { group: 0, body: Some(Body::Ping(Default::default())) });
        let mut taken = Vec::new();
        lanes.push(raft(RaftKind::Vote, 0));
        lanes.push_control(ping());
        assert_eq!(lanes.take(&mut taken, 100, true), Taken::Finished);
        lanes.connect();
        lanes.push(raft(RaftKind::Vote, 0));
        assert_eq!(lanes.take(&mut taken, 100, true), Taken::Nothing);
        lanes.push_control(ping());
        assert_eq!(lanes.take(&mut taken, 100, true), Taken::Some);
        taken.clear();
        assert_eq!(lanes.dropped(), (2, 0));
        lanes.open();
        lanes.push(raft(RaftKind::Vote, 0));
        lanes.finish();
        lanes.push(raft(RaftKind::Vote, 0));
        assert_eq!(lanes.take(&mut taken, 100, true), Taken::Some);
        assert_eq!(taken.len(), 1);
        taken.clear();
        assert_eq!(lanes.take(&mut taken, 100, true), Taken::Finished);
    }

    #[test]
    fn a_new_connection_begins_with_empty_lanes() {
        let lanes = open();
        lanes.push(raft(RaftKind::Append, 10));
        lanes.push(raft(RaftKind::Vote, 0));
        lanes.close();
        lanes.connect();
        assert_eq!(lanes.take(&mut Vec::new(), 100, true), Taken::Nothing);
        assert_eq!(lanes.lock().bulk_bytes, 0);
    }
}
