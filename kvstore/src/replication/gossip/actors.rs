//! Actors of former starts: what the catalogue says of them, and what this replica knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gossip::ActorId;
use gossip::clock::{Fold, FoldNumber, Folds};
use gossip::group::Group;
use gossip::replica::Retiring;
use proto::log;

use super::{GossipReplica, Serving};

/// What the catalogue says of actors that end.
#[derive(Clone, Debug, Default)]
pub struct CataloguedActors {
    /// Those that retire.
    pub retiring: Retiring,
    /// Those that are folded.
    pub folds: Arc<Folds>,
}

/// How many actors a replica knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActorCounts {
    /// Named in full in clocks and tokens.
    pub unfolded: usize,
    /// Named by the number of their fold.
    pub folded: usize,
}

/// The item that says up to which fold every member has known all of them once. A token names no younger ones.
const KEY: &[u8] = b"F";

/// What is stored of the folds that every member knows.
#[derive(Debug, Default)]
pub(super) struct StoredFolds(FoldNumber);

impl StoredFolds {
    /// Whether this is the item.
    pub(super) fn owns(key: &[u8]) -> bool {
        key == KEY
    }

    /// What the item says.
    pub(super) fn restore(value: &[u8]) -> Result<Self, String> {
        let bytes = value.try_into().map_err(|_| format!("an item F of {} bytes", value.len()))?;
        Ok(Self(FoldNumber(u32::from_be_bytes(bytes))))
    }

    /// The number.
    pub(super) const fn number(&self) -> FoldNumber {
        self.0
    }

    /// What is to be stored, if that has changed.
    pub(super) fn take_items(&mut self, group: &Group) -> Option<log::Item> {
        let number = group.folds_everywhere();
        if number <= self.0 {
            return None;
        }
        self.0 = number;
        let value = Bytes::copy_from_slice(&number.0.to_be_bytes());
        Some(log::Item { key: Bytes::from_static(KEY), value: Some(value) })
    }
}

impl GossipReplica {
    /// What the catalogue says now. Folds that are left are taken over with the next polls.
    pub fn set_actors(&mut self, said: CataloguedActors) {
        let takes = self.takes_items();
        if let Some(serving) = &mut self.serving {
            // First, as who is folded retires no more, and its late mail is not to be taken in between.
            if takes {
                serving.group.fold(&said.folds);
            }
            if *serving.group.replica().retiring() != said.retiring {
                serving.group.set_retiring(&said.retiring);
            }
        }
        self.actors = said;
    }

    /// Up to `most` actors that may begin to retire.
    #[must_use]
    pub fn former_actors(&self, most: usize) -> Vec<ActorId> {
        self.serving.as_ref().map(|serving| serving.group.former(most)).unwrap_or_default()
    }

    /// Those of the actors that retire, with their rounds, that may be folded, and their last counters.
    #[must_use]
    pub fn ended_actors(&self, retiring: &BTreeMap<ActorId, u64>) -> Vec<(ActorId, u64)> {
        self.serving.as_ref().map(|serving| serving.group.ended(retiring)).unwrap_or_default()
    }

    /// How many actors are known here.
    #[must_use]
    pub fn actor_counts(&self) -> ActorCounts {
        let Some(serving) = &self.serving else { return ActorCounts::default() };
        let unfolded = serving.group.unfolded();
        let all = serving.group.replica().state().clock().tracks().count();
        ActorCounts { unfolded, folded: all - unfolded }
    }
}

impl Serving {
    /// Takes over what the catalogue says at the beginning.
    ///
    /// # Errors
    /// What is stored here knows another fold by one of the numbers: it is of another cluster.
    pub(super) fn begin_actors(&mut self, said: &CataloguedActors) -> Result<(), String> {
        let stored = self.group.replica().state().folds();
        let is_other = |fold: &&Fold| {
            let contradicts = |known: Option<&Fold>| known.is_some_and(|known| known != *fold);
            contradicts(said.folds.get(fold.number))
                || contradicts(said.folds.of_actor(&fold.actor))
        };
        if let Some(other) = stored.iter().find(is_other) {
            return Err(format!("{other:?} is not what the catalogue says"));
        }
        self.group.remember_folds_everywhere(self.folds.number());
        self.group.set_retiring(&said.retiring);
        while self.group.fold(&said.folds) {}
        Ok(())
    }
}
