//! The states of a node that lie in stores: that of the data group, and that of its own log.
//!
//! Each has a machine, a directory, checkpoints, exports and renewals. What is done to one store waits
//! for nothing that is done to the other, but for two things: one thread does all of it, and a round of
//! exports covers both, since the log is freed only behind the exports of all groups.

use std::collections::BTreeMap;

use proto::{GroupId, LogIndex, Term, log};
use storage::mvcc::Machine;

use super::io::{CheckpointId, Effect};
use super::renewals::Renewals;
use super::{Node, STORE_FAILED, Strain};
use crate::replication::Outbox;

/// The groups whose states lie in stores.
pub(super) const KEPT: [GroupId; 2] = [GroupId::DATA, GroupId::EVENTUAL];

/// How many times the layer of a checkpoint a node keeps in memory after its store has failed.
const LAYERS_WITHOUT_STORE: usize = 8;

/// A node that is not ready yet makes a checkpoint only once its layer is so many times as large as one
/// that is ready keeps.
const LAYERS_BEFORE_READY: usize = 2;

/// What is done to the store of one group.
#[derive(Debug, Default)]
pub struct Store {
    /// The checkpoint that runs, and its position.
    pub checkpoint: Option<(CheckpointId, LogIndex, Term)>,
    /// Bytes of its log since the last checkpoint began.
    pub log_since_checkpoint: u64,
    /// It is of no use: nothing more is done to it before the next start.
    pub failed: bool,
    /// Its copies.
    pub renewals: Renewals,
}

/// The stores of a node.
#[derive(Debug)]
pub struct Stores {
    stores: BTreeMap<GroupId, Store>,
    /// Checkpoints begun, of all stores.
    checkpoints: u64,
}

impl Default for Stores {
    fn default() -> Self {
        let stores = KEPT.into_iter().map(|group| (group, Store::default())).collect();
        Self { stores, checkpoints: 0 }
    }
}

impl Stores {
    /// The store of a group.
    ///
    /// # Panics
    /// When the group has none: only the groups in [`KEPT`] have.
    #[must_use]
    pub fn of(&self, group: GroupId) -> &Store {
        self.stores.get(&group).expect("groups with a store are in the list")
    }

    /// The store of a group, to note what is done to it.
    ///
    /// # Panics
    /// As [`Stores::of`].
    pub fn of_mut(&mut self, group: GroupId) -> &mut Store {
        self.stores.get_mut(&group).expect("groups with a store are in the list")
    }

    /// Whether some store is of no use.
    #[must_use]
    pub fn any_failed(&self) -> bool {
        self.stores.values().any(|store| store.failed)
    }

    /// Whether no checkpoint and no renewal runs.
    #[must_use]
    pub fn are_idle(&self) -> bool {
        self.stores.values().all(|store| store.checkpoint.is_none() && !store.renewals.is_running())
    }

    /// The log grows by a frame of this group, of so many bytes. What group 0 appends counts for the data
    /// group: a start reads it as well.
    pub fn logged(&mut self, group: GroupId, bytes: u64) {
        let group = if group == GroupId::EVENTUAL { group } else { GroupId::DATA };
        self.of_mut(group).log_since_checkpoint += bytes;
    }

    /// Takes the checkpoint of this name, if it still counts.
    fn take_checkpoint(&mut self, id: CheckpointId) -> Option<(GroupId, LogIndex, Term)> {
        self.stores.iter_mut().find_map(|(group, store)| {
            let (_, index, term) = store.checkpoint.take_if(|(running, ..)| *running == id)?;
            Some((*group, index, term))
        })
    }
}

impl Node {
    /// The state of a group that has a store.
    pub(super) fn machine_of(&self, group: GroupId) -> &Machine {
        match group {
            GroupId::EVENTUAL => self.eventual.own().machine(),
            _ => self.data.machine(),
        }
    }

    /// The same, for checkpoints, exports and renewals.
    pub(super) fn machine_of_mut(&mut self, group: GroupId) -> &mut Machine {
        match group {
            GroupId::EVENTUAL => self.eventual.own_mut().machine_mut(),
            _ => self.data.machine_mut(),
        }
    }

    /// Name of the directory of a group's state.
    pub(super) fn state_dir_of(&self, group: GroupId) -> &str {
        match group {
            GroupId::EVENTUAL => self.eventual.own().state_dir(),
            _ => self.data.state_dir(),
        }
    }

    /// A group's state lies in another directory now. Returns the name of the one before.
    pub(super) fn move_state_of(&mut self, group: GroupId, dir: String) -> String {
        match group {
            GroupId::EVENTUAL => self.eventual.own_mut().move_state(dir),
            _ => self.data.move_state(dir),
        }
    }

    /// Bytes in the memory layers of all states.
    pub(super) fn layer_bytes(&self) -> usize {
        KEPT.into_iter().map(|group| self.machine_of(group).layer_bytes()).sum()
    }

    /// Bytes that were written since the checkpoints that run began.
    pub(super) fn ahead_bytes(&self) -> usize {
        let running = KEPT.into_iter().filter(|group| self.stores.of(*group).checkpoint.is_some());
        running.map(|group| self.machine_of(group).active_bytes()).sum()
    }

    /// Begins the checkpoints that are due; or ends the node, where a store has failed and there is no more
    /// room without it.
    pub(super) fn begin_checkpoints(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for group in KEPT {
            if self.stores.of(group).failed && self.outgrows_lost_store(group) {
                let why = "the state store has failed, and memory or the log is full; a start rebuilds \
                           the store";
                effects.push(self.suspect(group));
                effects.push(Effect::Fatal(why.to_owned()));
                return effects;
            }
            effects.extend(self.begin_checkpoint(group));
        }
        effects
    }

    /// Whether there is too much that a checkpoint would have to move into a store that has failed.
    fn outgrows_lost_store(&self, group: GroupId) -> bool {
        let layers = self.config.checkpoint_layer_bytes.saturating_mul(LAYERS_WITHOUT_STORE);
        let log_bytes = self.stores.of(group).log_since_checkpoint;
        self.machine_of(group).layer_bytes() > layers
            || log_bytes > (layers as u64).saturating_mul(2)
            || self.lasting_strain() >= Strain::Refusing
    }

    fn begin_checkpoint(&mut self, group: GroupId) -> Option<Effect> {
        let store = self.stores.of(group);
        let waits = store.failed
            || !self.checkpoint_due(group)
            || self.starts_up(group)
            || self.renewal_comes_first(group);
        if store.checkpoint.is_some() || waits {
            return None;
        }
        self.checkpoint_now(group)
    }

    /// The log counts as well: of what is overwritten or compacted, little stays in the layer, but a
    /// start has to replay it all. Where all layers together reach their bound, the larger one goes first.
    pub(super) fn checkpoint_due(&self, group: GroupId) -> bool {
        let bound = self.config.bounds.layer_bytes;
        let limit = self.config.checkpoint_layer_bytes.min(bound);
        let (layer, all) = (self.machine_of(group).layer_bytes(), self.layer_bytes());
        layer >= limit
            || self.stores.of(group).log_since_checkpoint >= 2 * limit as u64
            || (all >= bound && layer >= all.div_ceil(KEPT.len()))
    }

    /// Until the node is ready, a checkpoint that may still wait does: after a crash the layer is often
    /// full once the log is applied, and writing it out would delay the start.
    pub(super) fn starts_up(&self, group: GroupId) -> bool {
        let most = self.config.checkpoint_layer_bytes.saturating_mul(LAYERS_BEFORE_READY);
        // Without a checkpoint a layer beyond that would take no entries.
        let most = most.min(self.config.bounds.layer_bytes);
        let log_bytes = self.stores.of(group).log_since_checkpoint;
        !self.ready() && self.layer_bytes() < most && log_bytes < (most as u64).saturating_mul(2)
    }

    /// A checkpoint of everything applied, unless one runs or the store is exported or renewed.
    pub(super) fn checkpoint_now(&mut self, group: GroupId) -> Option<Effect> {
        let machine = self.machine_of_mut(group);
        let job = machine.begin_checkpoint()?;
        let store = machine.store();
        self.stores.checkpoints += 1;
        let id = CheckpointId(self.stores.checkpoints);
        let of_group = self.stores.of_mut(group);
        of_group.log_since_checkpoint = 0;
        of_group.checkpoint = Some((id, job.index(), job.term()));
        Some(Effect::Checkpoint { id, job, store })
    }

    pub(super) fn checkpoint_done(&mut self, id: CheckpointId) {
        // One on a store that a snapshot has replaced since means nothing.
        let Some((group, index, term)) = self.stores.take_checkpoint(id) else { return };
        self.machine_of_mut(group).finish_checkpoint(index);
        let done = log::CheckpointDone { index: index.get(), term: term.get() };
        self.outbox.append(group, log::frame::Body::CheckpointDone(done));
        if !self.exports.checkpointed(group) {
            return;
        }
        if self.stores.any_failed() {
            let waiting = self.exports.failed(self.now);
            return self.refuse_exports(waiting, STORE_FAILED);
        }
        self.write_exports();
    }

    pub(super) fn checkpoint_failed(&mut self, id: CheckpointId) {
        let Some((group, ..)) = self.stores.take_checkpoint(id) else { return };
        self.lose_store(group);
        self.machine_of_mut(group).abandon_checkpoint();
        if self.exports.waits_for_checkpoint() {
            let waiting = self.exports.failed(self.now);
            self.refuse_exports(waiting, STORE_FAILED);
        }
    }

    /// What a state store holds is not known any more: no checkpoint, export or renewal of it begins before
    /// the next start, which builds it anew.
    pub(super) fn lose_store(&mut self, group: GroupId) {
        self.stores.of_mut(group).failed = true;
        let effect = self.suspect(group);
        self.effects.push(effect);
    }

    fn suspect(&self, group: GroupId) -> Effect {
        Effect::SuspectState(self.state_dir_of(group).to_owned())
    }

    /// Why the node cannot go on, if so: a state store of which an entry made no use is suspect.
    pub(super) fn end(&self, out: &Outbox) -> Option<Vec<Effect>> {
        let (group, why) = out.fatal.clone()?;
        let suspect = KEPT.contains(&group).then(|| self.suspect(group));
        Some(suspect.into_iter().chain([Effect::Fatal(why)]).collect())
    }
}
