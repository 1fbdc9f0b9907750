//! A node that has lost a part of what it had made durable, and takes part in nothing until it has
//! fetched everything that it may ever have acknowledged (Protocol-Aware Recovery, FAST 2018; B51).
//!
//! It asks all members for an export of each group. Only a leader answers, and only once a majority
//! without this node has confirmed its leadership since it was asked and it has applied everything that
//! its log held then. That covers all that was or can still be committed with this node's help: an older
//! leader cannot count on its acknowledgements any more. Raft's own messages are dropped meanwhile:
//! the library would panic, or worse, answer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::peer::peer_message::Body;
use proto::{GroupId, LogIndex, NodeId, peer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::export::ExportFile;

use super::io::Ticks;
use super::transfer::Fetch;

/// Ticks between two requests.
const ASK_TICKS: u64 = 20;

/// What can happen to a node that is being repaired.
#[derive(Debug)]
pub enum RepairInput {
    /// One tick has passed.
    Tick,
    /// The link to a peer is up.
    LinkUp(NodeId),
    /// The link to a peer is gone.
    LinkDown(NodeId),
    /// A peer said something.
    Peer(NodeId, Box<peer::PeerMessage>),
    /// A chunk is written.
    ChunkWritten(GroupId, LogIndex, u64),
    /// An export is verified and durable, or of no use.
    Finished(GroupId, Box<Result<ExportFile, String>>),
}

/// What it wants done. As the effects of a node of the same names.
#[derive(Debug)]
pub enum RepairEffect {
    /// Send to a peer.
    Send(NodeId, Box<peer::PeerMessage>),
    /// Begin to receive.
    Receive(GroupId, LogIndex, u64, [u8; 32]),
    /// Write a chunk.
    WriteChunk(GroupId, LogIndex, u64, Bytes),
    /// Verify what was received and make it durable.
    Finish(GroupId, LogIndex),
    /// Drop what was received.
    Discard(GroupId),
}

/// How far a group is.
#[derive(Debug)]
enum Stage {
    /// Asking, under this name.
    Asking(u64),
    Fetching(Box<Fetch>),
    Finishing,
    Done(Box<ExportFile>),
}

/// The repair of a node.
#[derive(Debug)]
pub struct Repair {
    groups: BTreeMap<GroupId, Stage>,
    peers: BTreeSet<NodeId>,
    now: Ticks,
    rng: ChaCha8Rng,
    effects: Vec<RepairEffect>,
}

impl Repair {
    /// The repair of these groups. `seed` is random and new at every start.
    #[must_use]
    pub fn new(groups: impl IntoIterator<Item = GroupId>, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut ask = |group| (group, Stage::Asking(rng.random()));
        let groups = groups.into_iter().map(&mut ask).collect();
        Self { groups, peers: BTreeSet::new(), now: Ticks(0), rng, effects: Vec::new() }
    }

    /// The exports, once there is one of every group.
    #[must_use]
    pub fn done(&self) -> Option<BTreeMap<GroupId, ExportFile>> {
        let done = |(group, stage): (&GroupId, &Stage)| match stage {
            Stage::Done(file) => Some((*group, (**file).clone())),
            Stage::Asking(_) | Stage::Fetching(_) | Stage::Finishing => None,
        };
        self.groups.iter().map(done).collect()
    }

    /// Takes notice of something that happened, and says what to do.
    pub fn step(&mut self, input: RepairInput) -> Vec<RepairEffect> {
        match input {
            RepairInput::Tick => self.tick(),
            RepairInput::LinkUp(node) => {
                self.peers.insert(node);
                self.ask(|_| true);
            }
            RepairInput::LinkDown(node) => {
                self.peers.remove(&node);
            }
            RepairInput::Peer(from, message) => self.receive(from, *message),
            RepairInput::ChunkWritten(group, index, offset) => self.written(group, index, offset),
            RepairInput::Finished(group, result) => match *result {
                Ok(file) => {
                    self.groups.insert(group, Stage::Done(Box::new(file)));
                }
                Err(why) => {
                    tracing::warn!(%group, why, "what was fetched is of no use");
                    self.start_over(group);
                }
            },
        }
        std::mem::take(&mut self.effects)
    }

    fn tick(&mut self) {
        self.now.0 += 1;
        let now = self.now;
        let mut stalled = Vec::new();
        for (group, stage) in &mut self.groups {
            if let Stage::Fetching(fetch) = stage
                && !fetch.tick(now)
            {
                stalled.push(*group);
            }
        }
        for group in stalled {
            self.effects.push(RepairEffect::Discard(group));
            self.start_over(group);
        }
        for group in self.groups.keys().copied().collect::<Vec<_>>() {
            self.fetch_on(group);
        }
        if now.0.is_multiple_of(ASK_TICKS) {
            self.ask(|_| true);
        }
    }

    /// Under a new name: an offer that was made for an older request may be too old by now.
    fn start_over(&mut self, group: GroupId) {
        let id = self.rng.random();
        self.groups.insert(group, Stage::Asking(id));
    }

    fn ask(&mut self, wanted: impl Fn(GroupId) -> bool) {
        for (group, stage) in &self.groups {
            let Stage::Asking(id) = stage else { continue };
            if !wanted(*group) {
                continue;
            }
            for peer in &self.peers {
                let request = peer::RepairRequest { id: *id };
                let body = Some(Body::Repair(request));
                let message = peer::PeerMessage { group: group.get(), body };
                self.effects.push(RepairEffect::Send(*peer, Box::new(message)));
            }
        }
    }

    fn receive(&mut self, from: NodeId, message: peer::PeerMessage) {
        let group = GroupId(message.group);
        match message.body {
            Some(Body::SnapshotOffer(offer)) => self.offered(from, group, offer),
            Some(Body::SnapshotChunk(chunk)) => self.chunk(from, group, &chunk),
            Some(_) | None => {}
        }
    }

    fn offered(&mut self, from: NodeId, group: GroupId, offer: peer::SnapshotOffer) {
        let Some(Stage::Asking(id)) = self.groups.get(&group) else { return };
        let Ok(sha256) = <[u8; 32]>::try_from(&offer.sha256[..]) else { return };
        if offer.repair != *id {
            return;
        }
        let (index, bytes) = (LogIndex(offer.index), offer.bytes);
        let Some(fetch) = Fetch::begin(from, offer, self.now) else { return };
        tracing::info!(%group, %from, %index, bytes, "fetching what was lost");
        self.groups.insert(group, Stage::Fetching(Box::new(fetch)));
        self.effects.push(RepairEffect::Receive(group, index, bytes, sha256));
        self.fetch_on(group);
    }

    fn fetch_on(&mut self, group: GroupId) {
        let Some(Stage::Fetching(fetch)) = self.groups.get_mut(&group) else { return };
        let to = fetch.from();
        for request in fetch.requests(self.now) {
            let body = Some(Body::SnapshotFetch(request));
            let message = peer::PeerMessage { group: group.get(), body };
            self.effects.push(RepairEffect::Send(to, Box::new(message)));
        }
    }

    fn chunk(&mut self, from: NodeId, group: GroupId, chunk: &peer::SnapshotChunk) {
        let Some(Stage::Fetching(fetch)) = self.groups.get_mut(&group) else { return };
        if fetch.from() != from || !fetch.is_about(&chunk.sha256) {
            return;
        }
        if chunk.gone {
            self.effects.push(RepairEffect::Discard(group));
            return self.start_over(group);
        }
        let index = LogIndex(fetch.offer().index);
        if let Some(data) = fetch.answer(chunk, self.now) {
            let write = RepairEffect::WriteChunk(group, index, chunk.offset, data);
            self.effects.push(write);
        }
        self.fetch_on(group);
    }

    fn written(&mut self, group: GroupId, index: LogIndex, offset: u64) {
        let Some(Stage::Fetching(fetch)) = self.groups.get_mut(&group) else { return };
        if LogIndex(fetch.offer().index) != index {
            return;
        }
        if fetch.written(offset, self.now) {
            self.groups.insert(group, Stage::Finishing);
            self.effects.push(RepairEffect::Finish(group, index));
        } else {
            self.fetch_on(group);
        }
    }
}
