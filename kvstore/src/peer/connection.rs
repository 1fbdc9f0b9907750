//! One connection to a peer, from hello to end.
//!
//! The side that dialed says hello first, the other one answers: so it can refuse with a reason
//! that depends on who was there. A session is *up* once both sides have said that they formed the
//! same cluster. A node that forms while connected says hello again, and so does one that has to
//! say that the other side was removed. Everything about a connection happens in one task, so the
//! events of a peer come in order: up, messages, down.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use proto::peer::hello::Refusal;
use proto::peer::{self, PeerMessage, peer_message::Body};
use proto::{NodeId, v1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{self, Instant, MissedTickBehavior};
use tracing::info;

use super::error::LinkEnd;
use super::frame::{Assembly, FRAME_BYTES_MAX, Kind, put_header, take_frame};
use super::hello::{HelloRefused, Local};
use super::lanes::{Item, Lane, Lanes, Queued, Taken};
use super::network::LinkEvent;
use super::peers::Peer;
use super::shared::Shared;
use crate::forming::{Answer, Formed, Report};

/// Time between pings.
pub(super) const PING_INTERVAL: Duration = Duration::from_millis(250);
/// A peer that is not heard for so long has gone.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);
/// What is queued when the node stops is sent within this time, or not at all.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);
/// Room for one read. Also what a small message that is kept may pin.
const READ_BYTES: usize = 64 * 1024;
/// Less room than this is not read into.
const READ_BYTES_MIN: usize = 8 * 1024;
/// One write ends with the item that reaches this size; an urgent message waits for at most one
/// write. Twice of it is the most that a write has.
const BATCH_BYTES: usize = 64 * 1024;
/// A bulk message that has to be cut is the last one of its batch.
const _: () = assert!(BATCH_BYTES <= FRAME_BYTES_MAX);

/// A byte stream.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection on which both sides have said hello.
pub(super) struct Greeted {
    reader: Reader<ReadHalf<Box<dyn Io>>>,
    writer: WriteHalf<Box<dyn Io>>,
    hello: peer::Hello,
    report: Report,
    /// Our hello said that we had formed.
    said_formed: bool,
}

/// Says hello, and judges the hello with which the node that `certified` names answers: what the
/// side does that dialed.
pub(super) async fn greet(
    io: Box<dyn Io>,
    shared: &Shared,
    certified: &str,
) -> Result<Greeted, LinkEnd> {
    let formed = shared.formed();
    let (reader, mut writer) = tokio::io::split(io);
    say(&mut writer, &shared.local.hello(formed.as_ref())).await?;
    let mut reader = Reader::new(reader);
    let hello = reader.hello().await?;
    match shared.check(formed.as_ref(), certified, &hello) {
        Ok(report) => Ok(Greeted { reader, writer, hello, report, said_formed: formed.is_some() }),
        Err(refused) => {
            if let Some(goodbye) = goodbye(shared, formed.as_ref(), &refused) {
                say(&mut writer, &goodbye).await?;
            }
            writer.shutdown().await?;
            Err(refused.into())
        }
    }
}

/// Hears the hello of the node that `certified` names, and answers it: what the side does that was
/// dialed. A node that wants to join is told how it stands; the connection then ends.
pub(super) async fn answer(
    io: Box<dyn Io>,
    shared: &Shared,
    certified: &str,
) -> Result<Greeted, LinkEnd> {
    let (reader, mut writer) = tokio::io::split(io);
    let mut reader = Reader::new(reader);
    let hello = reader.hello().await?;
    let formed = shared.formed();
    if hello.joining {
        say(&mut writer, &shared.answer_joiner(formed.as_ref(), certified, &hello)?).await?;
        writer.shutdown().await?;
        return Err(LinkEnd::Joiner);
    }
    let judged = shared.check(formed.as_ref(), certified, &hello);
    let reply = match &judged {
        Ok(_) => None,
        Err(refused) => goodbye(shared, formed.as_ref(), refused),
    };
    // Said to one that does not fit as well: what it hears may be why it has to stop.
    say(&mut writer, &reply.unwrap_or_else(|| shared.local.hello(formed.as_ref()))).await?;
    match judged {
        Ok(report) => Ok(Greeted { reader, writer, hello, report, said_formed: formed.is_some() }),
        Err(refused) => {
            writer.shutdown().await?;
            Err(refused.into())
        }
    }
}

/// Asks the member that `certified` names whether this node may join; `None` when that one has no
/// cluster itself.
pub(super) async fn ask(
    io: Box<dyn Io>,
    local: &Local,
    certified: &str,
) -> Result<Option<Answer>, LinkEnd> {
    let (reader, mut writer) = tokio::io::split(io);
    say(&mut writer, &local.hello(None)).await?;
    let hello = Reader::new(reader).hello().await?;
    // The answer is here; how the connection ends is of no interest.
    let _ = writer.shutdown().await;
    Ok(local.check_answer(certified, &hello)?)
}

/// What a node hears that was removed.
fn goodbye(
    shared: &Shared,
    formed: Option<&Formed>,
    refused: &HelloRefused,
) -> Option<peer::Hello> {
    let removed = matches!(refused, HelloRefused::Removed { .. });
    formed.filter(|_| removed).map(|formed| shared.local.refusing(formed, Refusal::Removed))
}

async fn say(writer: &mut (impl AsyncWrite + Unpin), hello: &peer::Hello) -> std::io::Result<()> {
    let mut out = BytesMut::new();
    put_hello(&mut out, hello);
    writer.write_all(&out).await?;
    writer.flush().await
}

impl Greeted {
    /// The id of the other side.
    pub(super) fn node(&self) -> NodeId {
        self.report.node
    }
}

/// Runs a connection to its end. Dropping the future ends it as well.
pub(super) async fn serve(shared: &Shared, peer: &Arc<Peer>, greeted: Greeted) -> LinkEnd {
    let Greeted { mut reader, writer, hello, report, said_formed } = greeted;
    let mut formed = shared.formed_changes();
    let mut status = shared.status_changes();
    let mut session = Session::begin(shared, peer, hello, report);
    let known = formed.borrow_and_update().clone();
    // Frames may have come along with the hello.
    let begun = session.formed(known, said_formed).and_then(|()| session.read(&mut reader.buffer));
    if let Err(end) = begun {
        return end;
    }
    let write = write_lanes(&peer.lanes, writer);
    tokio::pin!(write);
    let mut pings = time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let step = tokio::select! {
            read = reader.fill() => match read {
                Ok(()) => session.read(&mut reader.buffer),
                Err(end) => Err(end),
            },
            written = &mut write => match written {
                Ok(()) => Err(LinkEnd::Closed),
                Err(error) => Err(error.into()),
            },
            _ = pings.tick() => session.ping(),
            Ok(()) = status.changed() => session.ping(),
            Ok(()) = formed.changed() => {
                let known = formed.borrow_and_update().clone();
                session.formed(known, false)
            }
            () = peer.stop.cancelled() => {
                session.leave();
                peer.lanes.finish();
                // A peer that does not take it in time does without.
                let _ = time::timeout(FLUSH_PATIENCE, &mut write).await;
                Err(LinkEnd::Stopping)
            }
        };
        if let Err(end) = step {
            return end;
        }
    }
}

/// Bytes that were read and not yet taken as frames.
struct Reader<R> {
    io: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new() }
    }

    /// Reads the first frame, which is a hello.
    async fn hello(&mut self) -> Result<peer::Hello, LinkEnd> {
        let (kind, payload) = loop {
            match take_frame(&mut self.buffer)? {
                Some(frame) => break frame,
                None => self.fill().await?,
            }
        };
        if kind != Kind::Hello {
            return Err(LinkEnd::NoHello);
        }
        Ok(peer::Hello::decode(payload)?)
    }

    /// Reads some bytes. Cancel-safe.
    async fn fill(&mut self) -> Result<(), LinkEnd> {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
            self.buffer.reserve(READ_BYTES);
        }
        match self.io.read_buf(&mut self.buffer).await? {
            0 => Err(LinkEnd::Closed),
            _ => Ok(()),
        }
    }
}

/// What is known on a connection. While it lives the lanes are open; when it is dropped they are
/// closed, and the link is reported down if it was up.
struct Session<'a> {
    shared: &'a Shared,
    peer: &'a Arc<Peer>,
    hello: peer::Hello,
    report: Report,
    /// What this node has formed with, as far as this connection has said so. Nothing else may
    /// bring the link up, or messages could overtake the hello that allows them.
    known: Option<Formed>,
    up: Option<NodeId>,
    assembly: Assembly,
}

impl<'a> Session<'a> {
    fn begin(shared: &'a Shared, peer: &'a Arc<Peer>, hello: peer::Hello, report: Report) -> Self {
        peer.set_busy(true);
        peer.lanes.connect();
        peer.heard();
        shared.report(&peer.name, &report);
        let assembly = Assembly::default();
        Self { shared, peer, hello, report, known: None, up: None, assembly }
    }

    /// This node has formed, or had when the connection began. `said`: the other side knows.
    fn formed(&mut self, formed: Option<Formed>, said: bool) -> Result<(), LinkEnd> {
        let Some(formed) = formed else { return Ok(()) };
        if !said {
            let hello = self.shared.local.hello(Some(&formed));
            self.peer.lanes.push_control(Item::Hello(hello));
        }
        // It was judged by a node that had not formed yet.
        self.report = self.shared.check(Some(&formed), &self.peer.name, &self.hello)?;
        self.known = Some(formed);
        self.try_up();
        Ok(())
    }

    fn try_up(&mut self) {
        let cluster = |formed: &Formed| formed.cluster;
        let theirs = self.report.formed.as_ref().map(cluster);
        if self.up.is_some() || self.known.is_none() || theirs != self.known.as_ref().map(cluster) {
            return;
        }
        if !self.shared.route(self.report.node, self.peer) {
            // The members have changed meanwhile; the end of this peer is on its way.
            return;
        }
        info!(peer = self.peer.name, node = %self.report.node, "link up");
        self.up = Some(self.report.node);
        self.peer.lanes.open();
        self.peer.set_connected(true);
        self.shared.tell(LinkEvent::Up(self.report.node));
    }

    /// Takes all frames that are complete.
    fn read(&mut self, buffer: &mut BytesMut) -> Result<(), LinkEnd> {
        self.peer.heard();
        while let Some((kind, payload)) = take_frame(buffer)? {
            match kind {
                Kind::Hello => self.hello_again(payload)?,
                Kind::Urgent => self.message(payload)?,
                Kind::Piece => self.assembly.piece(&payload)?,
                Kind::Bulk => {
                    let message = self.assembly.last(payload)?;
                    self.message(message)?;
                }
            }
        }
        Ok(())
    }

    fn hello_again(&mut self, payload: Bytes) -> Result<(), LinkEnd> {
        let hello = peer::Hello::decode(payload)?;
        let known = self.known.as_ref();
        let report = self.shared.check(known, &self.peer.name, &hello)?;
        if report.node != self.report.node {
            return Err(HelloRefused::Malformed("its id has changed").into());
        }
        self.report = report;
        self.hello = hello;
        self.shared.report(&self.peer.name, &self.report);
        self.try_up();
        Ok(())
    }

    fn message(&mut self, payload: Bytes) -> Result<(), LinkEnd> {
        let message = PeerMessage::decode(payload)?;
        match message.body {
            Some(Body::Ping(ping)) => {
                self.peer.set_status(ping.status);
                let pong = Body::Pong(peer::Pong { sent_us: ping.sent_us });
                self.peer.lanes.push_control(control(pong));
            }
            Some(Body::Pong(pong)) => {
                // A time that has not come yet is not one of ours.
                if let Some(rtt_us) = self.shared.now_us().checked_sub(pong.sent_us) {
                    self.peer.set_rtt(rtt_us);
                }
            }
            Some(
                Body::Raft(_)
                | Body::ReadIndex(_)
                | Body::ReadIndexReply(_)
                | Body::Forward(_)
                | Body::ForwardReply(_)
                | Body::SnapshotOffer(_)
                | Body::SnapshotFetch(_)
                | Body::SnapshotChunk(_)
                | Body::Repair(_)
                | Body::MoveLeader(_)
                | Body::DiskFull(_)
                | Body::Gossip(_)
                | Body::Liveness(_)
                | Body::SecretRequest(_)
                | Body::SecretReply(_),
            ) => {
                let from = self.up.ok_or(LinkEnd::Early)?;
                self.shared.tell(LinkEvent::Message { from, message });
            }
            // Something that a newer version says.
            None => {}
        }
        Ok(())
    }

    /// The peer has left, or the node stops. A peer that was removed hears it.
    fn leave(&self) {
        if let Some(formed) = self.known.as_ref().filter(|_| self.peer.was_removed()) {
            let hello = self.shared.local.refusing(formed, Refusal::Removed);
            self.peer.lanes.push_control(Item::Hello(hello));
        }
    }

    fn ping(&mut self) -> Result<(), LinkEnd> {
        if self.peer.silent() > SILENCE_MAX {
            return Err(LinkEnd::Silent);
        }
        let status: Option<v1::NodeStatus> = self.shared.status();
        let ping = Body::Ping(peer::Ping { sent_us: self.shared.now_us(), status });
        self.peer.lanes.push_control(control(ping));
        Ok(())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.peer.lanes.close();
        self.peer.set_busy(false);
        if let Some(node) = self.up {
            self.peer.set_connected(false);
            info!(peer = self.peer.name, %node, "link down");
            self.shared.tell(LinkEvent::Down(node));
        }
    }
}

fn control(body: Body) -> Item {
    Item::Message(PeerMessage { group: 0, body: Some(body) })
}

fn put_hello(out: &mut BytesMut, hello: &peer::Hello) {
    put_header(out, Kind::Hello, hello.encoded_len());
    hello.encode(out).expect("a buffer grows");
}

/// Sends what is queued until the lanes finish, then closes the stream: all that waits goes into
/// one buffer, up to [`BATCH_BYTES`], and out in one write.
async fn write_lanes(
    lanes: &Lanes,
    mut writer: impl AsyncWrite + Unpin,
) -> Result<(), std::io::Error> {
    let mut taken: Vec<Queued> = Vec::new();
    let mut out = BytesMut::with_capacity(BATCH_BYTES);
    // The rest of a bulk message that is being cut.
    let mut rest = Bytes::new();
    loop {
        match lanes.take(&mut taken, BATCH_BYTES, rest.is_empty()) {
            Taken::Finished if rest.is_empty() => return writer.shutdown().await,
            Taken::Nothing if rest.is_empty() => {
                lanes.wait().await;
                continue;
            }
            Taken::Some | Taken::Nothing | Taken::Finished => {}
        }
        for queued in taken.drain(..) {
            assert!(rest.is_empty() || queued.lane != Lane::Bulk, "one bulk message at a time");
            put(&mut out, queued, &mut rest);
        }
        if !rest.is_empty() && out.len() < BATCH_BYTES {
            put_piece(&mut out, &mut rest);
        }
        writer.write_all(&out).await?;
        writer.flush().await?;
        out.clear();
    }
}

/// Encodes one item; of a message that does not fit a frame, it leaves all in `rest`.
fn put(out: &mut BytesMut, queued: Queued, rest: &mut Bytes) {
    let message = match queued.item {
        Item::Hello(hello) => return put_hello(out, &hello),
        Item::Message(message) => message,
    };
    if queued.bytes > FRAME_BYTES_MAX {
        *rest = message.encode_to_vec().into();
        return;
    }
    let kind = match queued.lane {
        Lane::Urgent | Lane::Probe => Kind::Urgent,
        Lane::Bulk => Kind::Bulk,
    };
    put_header(out, kind, queued.bytes);
    message.encode(out).expect("a buffer grows");
}

fn put_piece(out: &mut BytesMut, rest: &mut Bytes) {
    let piece = rest.split_to(rest.len().min(FRAME_BYTES_MAX));
    let kind = if rest.is_empty() { Kind::Bulk } else { Kind::Piece };
    put_header(out, kind, piece.len());
    out.extend_from_slice(&piece);
}

#[cfg(test)]
mod tests;
