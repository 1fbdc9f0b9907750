//! Snapshots on their way to this node: fetched, built, and stepped into their group only then.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};

use proto::peer::peer_message::Body;
use proto::{GroupId, LogIndex, NodeId, peer};
use storage::export::{ExportFile, ExportHeader};

use super::io::{Built, BuiltState, Effect, NotBuilt, Ticks};
use super::transfer::Fetch;
use super::{Node, Ticket};
use crate::replication::Retired;

/// What a node receives and builds.
#[derive(Debug, Default)]
pub struct Snapshots {
    fetching: BTreeMap<GroupId, Fetch>,
    /// What is being built, by index, the message that goes with it, and where.
    building: BTreeMap<GroupId, (LogIndex, peer::RaftMessage, String)>,
    /// What is built and waits for a leader to be known.
    built: BTreeMap<GroupId, (peer::RaftMessage, Built, String)>,
    /// States to remove once an append is durable.
    retiring: VecDeque<(Ticket, Retired)>,
}

impl Snapshots {
    /// Whether anything is on its way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !(self.fetching.is_empty() && self.building.is_empty() && self.built.is_empty())
    }

    /// Whether anything is on its way that would take the place of this group's state.
    #[must_use]
    pub fn concern(&self, group: GroupId) -> bool {
        self.fetching.contains_key(&group)
            || self.building.contains_key(&group)
            || self.built.contains_key(&group)
    }

    /// A state is of no use once this append is durable.
    pub(super) fn retire(&mut self, ticket: Ticket, retired: Retired) {
        self.retiring.push_back((ticket, retired));
    }

    /// Takes the states whose time has come.
    pub(super) fn take_retired(&mut self, durable: Ticket) -> Vec<Retired> {
        let mut taken = Vec::new();
        while let Some((ticket, _)) = self.retiring.front()
            && *ticket <= durable
        {
            taken.extend(self.retiring.pop_front().map(|(_, retired)| retired));
        }
        taken
    }
}

impl Node {
    /// A leader offers a snapshot.
    pub(super) fn offered(&mut self, from: NodeId, group: GroupId, mut offer: peer::SnapshotOffer) {
        let index = LogIndex(offer.index);
        let Some(message) = offer.raft.take() else { return };
        if index <= self.applied(group) {
            return self.decline(group, from, message);
        }
        let busy = self.snapshots.building.contains_key(&group)
            || self.snapshots.built.contains_key(&group);
        // Offers are repeated, with newer exports. What is being fetched is finished first: a large
        // state would else never come whole. A fetch without progress is given up.
        let fetching = self.snapshots.fetching.contains_key(&group);
        if busy || fetching {
            return;
        }
        let Ok(sha256) = <[u8; 32]>::try_from(&offer.sha256[..]) else { return };
        offer.raft = Some(message);
        let bytes = offer.bytes;
        let Some(fetch) = Fetch::begin(from, offer, self.now) else { return };
        tracing::info!(%group, %from, %index, bytes, "fetching a snapshot");
        self.snapshots.fetching.insert(group, fetch);
        self.effects.push(Effect::Receive { group, index, bytes, sha256 });
        self.fetch_on(group);
    }

    /// Tells a leader that what it offers is here already.
    fn decline(&mut self, group: GroupId, from: NodeId, message: peer::RaftMessage) {
        let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        if message.from != from.get() || LogIndex(index) > self.applied(group) {
            return;
        }
        match group {
            GroupId::META => self.meta.decline(message),
            _ => self.data.decline(message),
        }
    }

    /// Asks for what the window has room for.
    fn fetch_on(&mut self, group: GroupId) {
        let Some(fetch) = self.snapshots.fetching.get_mut(&group) else { return };
        let to = fetch.from();
        for request in fetch.requests(self.now) {
            self.outbox.send(to, group, Body::SnapshotFetch(request));
        }
    }

    /// A chunk arrived.
    pub(super) fn chunk(&mut self, from: NodeId, group: GroupId, chunk: &peer::SnapshotChunk) {
        let Some(fetch) = self.snapshots.fetching.get_mut(&group) else { return };
        if fetch.from() != from || !fetch.is_about(&chunk.sha256) {
            return;
        }
        let index = LogIndex(fetch.offer().index);
        if chunk.gone {
            return self.give_up_fetch(group, "it is no longer kept there");
        }
        if let Some(data) = fetch.answer(chunk, self.now) {
            let offset = chunk.offset;
            self.effects.push(Effect::WriteChunk { group, index, offset, data });
        }
        self.fetch_on(group);
    }

    /// A chunk is on disk.
    pub(super) fn chunk_written(&mut self, group: GroupId, index: LogIndex, offset: u64) {
        let Some(fetch) = self.snapshots.fetching.get_mut(&group) else { return };
        if LogIndex(fetch.offer().index) != index {
            return;
        }
        if !fetch.written(offset, self.now) {
            return self.fetch_on(group);
        }
        let fetch = self.snapshots.fetching.remove(&group).expect("it was just found");
        let message = fetch.offer().raft.clone().expect("an offer of a leader has its message");
        let state_dir = self.state_names.next(group);
        tracing::info!(%group, %index, "the snapshot is here; building its state");
        self.snapshots.building.insert(group, (index, message, state_dir.clone()));
        self.effects.push(Effect::Build { group, index, state_dir });
    }

    /// A state is built, or could not be.
    pub(super) fn built(
        &mut self,
        group: GroupId,
        index: LogIndex,
        result: Result<Built, NotBuilt>,
    ) {
        let Some((building, message, dir)) = self.snapshots.building.remove(&group) else { return };
        assert!(building == index, "{index} of group {group} was built instead of {building}");
        match result {
            Ok(built) if !is_of(&message, &built.file.header) => {
                tracing::error!(%group, %index, "a snapshot is not the one that was offered");
                let state: Box<dyn Any + Send> = Box::new(built.state);
                self.effects.push(Effect::RemoveState { name: dir, state: Some(state) });
                self.effects.push(Effect::RemoveExport(built.file.path));
            }
            Ok(built) => {
                self.snapshots.built.insert(group, (message, built, dir));
                self.install();
            }
            Err(NotBuilt { why, file }) => {
                tracing::error!(%group, %index, why, "a snapshot is of no use; it is fetched anew");
                self.effects.push(Effect::Discard(group));
                self.effects.push(Effect::RemoveState { name: dir, state: None });
                if let Some(file) = file {
                    self.keep_or_drop(file);
                }
            }
        }
    }

    /// Steps what is built into its group, as far as there is a leader to answer to.
    fn install(&mut self) {
        for (group, (message, built, dir)) in std::mem::take(&mut self.snapshots.built) {
            let index = built.file.header.index;
            if index <= self.applied(group) {
                self.decline(group, NodeId(message.from), message);
                self.useless(dir, built);
                continue;
            }
            let can = match group {
                GroupId::META => self.meta.can_install(),
                _ => self.data.can_install(),
            };
            if !can {
                self.snapshots.built.insert(group, (message, built, dir));
                continue;
            }
            let Built { file, state } = built;
            let installed = match state {
                BuiltState::Catalogue(state) => self.meta.install(message, *state, dir.clone()),
                BuiltState::Machine(state) => self.data.install(message, *state, dir.clone()),
            };
            if installed {
                tracing::info!(%group, %index, "the snapshot is installed");
                self.learn_epoch(&file);
                // The frame of the install says where the log begins.
                self.exports.add(file, self.now, self.outbox.ticket);
            } else {
                self.effects.push(Effect::RemoveState { name: dir, state: None });
                self.keep_or_drop(file);
            }
        }
    }

    fn useless(&mut self, dir: String, built: Built) {
        let state: Box<dyn Any + Send> = Box::new(built.state);
        self.effects.push(Effect::RemoveState { name: dir, state: Some(state) });
        self.keep_or_drop(built.file);
    }

    /// What was fetched is a good export all the same, unless the log has not come that far.
    fn keep_or_drop(&mut self, file: ExportFile) {
        if file.header.index <= self.applied(file.header.group) {
            self.own_export(file);
        } else {
            self.effects.push(Effect::RemoveExport(file.path));
        }
    }

    /// The state of a group is another one now: what runs on the old one no longer counts.
    pub(super) fn switched(&mut self, group: GroupId) {
        if group == GroupId::DATA {
            let store = self.stores.of_mut(group);
            store.checkpoint = None;
            store.failed = false;
            self.orphan_renewal(group);
            if self.exports.waits_for_checkpoint() {
                let waiting = self.exports.failed(self.now);
                self.refuse_exports(waiting, "the node has just installed a snapshot");
            }
            if self.exports.is_writing(group) {
                self.exports.orphan();
                self.effects.push(Effect::AbortExport(group));
            }
        }
    }

    fn give_up_fetch(&mut self, group: GroupId, why: &str) {
        if let Some(fetch) = self.snapshots.fetching.remove(&group) {
            let index = fetch.offer().index;
            tracing::info!(%group, index, why, "a snapshot is given up");
            self.effects.push(Effect::Discard(group));
        }
    }

    /// One tick has passed.
    pub(super) fn tick_snapshots(&mut self) {
        let now: Ticks = self.now;
        let groups: Vec<GroupId> = self.snapshots.fetching.keys().copied().collect();
        for group in groups {
            let goes_on = self.snapshots.fetching.get_mut(&group).is_some_and(|f| f.tick(now));
            if goes_on {
                self.fetch_on(group);
            } else {
                self.give_up_fetch(group, "its sender has fallen silent");
            }
        }
        self.install();
    }
}

/// Whether a leader's message is about the export that was fetched.
fn is_of(message: &peer::RaftMessage, header: &ExportHeader) -> bool {
    message.snapshot.as_ref().is_some_and(|offered| {
        offered.index == header.index.get()
            && offered.term == header.term.get()
            && offered.conf_state.as_ref() == Some(&header.conf_state)
    })
}
