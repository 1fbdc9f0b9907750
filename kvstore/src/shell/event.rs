//! What reaches the node thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use prost::Message;
use proto::peer::peer_message::Body;
use proto::{Failure, NodeId, peer};
use tokio::sync::oneshot;

use super::admission::Permit;
use super::handle::unanswered;
use crate::node::{Input, Reply, Request, RequestId, Summary, Ticks};

/// Most bytes of peer messages that wait for the node thread. Beyond it messages are dropped, as a
/// network would: Raft repeats them, forwarded writes time out with an unknown outcome.
const PEER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What every waiting peer message is taken to cost beside its payload.
const PEER_MESSAGE_OVERHEAD: usize = 256;

/// One thing that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A client asks.
    Call {
        /// Names the request.
        id: RequestId,
        /// What it asks.
        request: Request,
        /// How long it waits.
        patience: Ticks,
        /// Where the answer goes.
        answer: Answer,
    },
    /// Something happened to the node.
    Input(Input),
    /// A peer said something; it counts against the bound of its inbox.
    Peer {
        /// Who said it.
        from: NodeId,
        /// What it said.
        message: peer::PeerMessage,
        /// Room taken in the inbox.
        room: InboxRoom,
    },
    /// Someone wants to know what the node knows about itself.
    Summarise(oneshot::Sender<Summary>),
    /// Answer what is open and end the thread.
    Shutdown,
}

/// Where the answer to one request goes. Holds the request's room in the admission queue until
/// then.
#[derive(Debug)]
pub(super) struct Answer {
    sender: oneshot::Sender<Result<Reply, Failure>>,
    write: bool,
    _permit: Permit,
}

impl Answer {
    pub(super) fn new(
        write: bool,
        permit: Permit,
    ) -> (Self, oneshot::Receiver<Result<Reply, Failure>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender, write, _permit: permit }, receiver)
    }

    /// Answers; a caller that no longer waits is no error.
    pub(super) fn give(self, reply: Result<Reply, Failure>) {
        let _ = self.sender.send(reply);
    }

    /// Answers that the node ends without knowing the outcome.
    pub(super) fn give_up(self) {
        let failure = unanswered(self.write);
        self.give(Err(failure));
    }
}

/// Takes what peers say and keeps what waits for the node thread bounded.
#[derive(Clone, Debug)]
pub struct Inbox {
    events: mpsc::Sender<Event>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl Inbox {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, waiting: Arc::default(), dropped: Arc::default() }
    }

    /// Passes a peer's message on, or drops it when too much waits.
    pub fn message(&self, from: NodeId, message: peer::PeerMessage) {
        let bytes = PEER_MESSAGE_OVERHEAD + payload_bytes(&message);
        let taken = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
            Some(waiting + bytes).filter(|sum| *sum <= PEER_BYTES_MAX)
        });
        if taken.is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let room = InboxRoom { waiting: Arc::clone(&self.waiting), bytes };
        // A node that has stopped listens to nobody.
        let _ = self.events.send(Event::Peer { from, message, room });
    }

    /// The link to a peer came up or went down.
    pub fn link(&self, node: NodeId, up: bool) {
        let input = if up { Input::LinkUp(node) } else { Input::LinkDown(node) };
        let _ = self.events.send(Event::Input(input));
    }

    /// A node that was added to the cluster says which id it minted.
    pub fn joining(&self, name: String, node: NodeId) {
        let _ = self.events.send(Event::Input(Input::Joining { name, node }));
    }

    /// Messages dropped since the start.
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Room that one peer message takes; given back when dropped.
#[derive(Debug)]
pub(super) struct InboxRoom {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for InboxRoom {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// The bytes of the parts that can be large.
fn payload_bytes(message: &peer::PeerMessage) -> usize {
    match &message.body {
        Some(Body::Raft(raft)) => raft.entries.iter().map(|entry| entry.data.len() + 32).sum(),
        Some(Body::Forward(forward)) => forward.encoded_len(),
        Some(Body::ForwardReply(reply)) => reply.encoded_len(),
        Some(Body::SnapshotOffer(offer)) => offer.encoded_len(),
        Some(Body::SnapshotChunk(chunk)) => chunk.data.len() + 64,
        Some(Body::Gossip(gossip)) => gossip.data.len() + 32,
        Some(Body::Liveness(liveness)) => liveness.packet.len() + 32,
        Some(
            Body::ReadIndex(_)
            | Body::ReadIndexReply(_)
            | Body::SnapshotFetch(_)
            | Body::Repair(_)
            | Body::MoveLeader(_)
            | Body::DiskFull(_)
            | Body::SecretRequest(_)
            | Body::SecretReply(_)
            | Body::Ping(_)
            | Body::Pong(_),
        )
        | None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proto::log;

    fn append(bytes: usize) -> peer::PeerMessage {
        let entry = log::Entry { data: Bytes::from(vec![0; bytes]), ..log::Entry::default() };
        let raft = peer::RaftMessage { entries: vec![entry], ..peer::RaftMessage::default() };
        peer::PeerMessage { group: 1, body: Some(Body::Raft(raft)) }
    }

    #[test]
    fn what_waits_is_bounded_and_room_comes_back() {
        let (events, receiver) = mpsc::channel();
        let inbox = Inbox::new(events);
        for _ in 0..100 {
            inbox.message(NodeId(2), append(1024 * 1024));
        }
        let waiting: Vec<Event> = receiver.try_iter().collect();
        assert_eq!(waiting.len(), 63, "63 messages of 1 MiB and overhead fit in 64 MiB");
        assert_eq!(inbox.dropped(), 37);
        drop(waiting);
        inbox.message(NodeId(2), append(1024 * 1024));
        assert_eq!(receiver.try_iter().count(), 1);
    }

    #[test]
    fn small_messages_are_bounded_in_number() {
        let (events, receiver) = mpsc::channel();
        let inbox = Inbox::new(events);
        let most = PEER_BYTES_MAX / PEER_MESSAGE_OVERHEAD;
        for _ in 0..most + 10 {
            inbox.message(NodeId(2), peer::PeerMessage::default());
        }
        assert_eq!(receiver.try_iter().count(), most);
        assert_eq!(inbox.dropped(), 10);
    }
}
