//! What a backup needs of a replica: that it has what the others have, and which of its items go along.

use bytes::Bytes;
use gossip::ActorId;
use gossip::items::handed_over;
use gossip::replica::Replica;
use proto::NodeId;

use super::GossipReplica;
use super::gate::Gate;

/// What the replicas of a restored cluster begin with in place of an item of the one that a backup was taken of, if with
/// anything. They do not take over whose actors were its own, so that nobody issues anything in its name, nor
/// its gate: what the cut holds is all that there is.
#[must_use]
pub fn goes_along(key: &Bytes, value: Bytes) -> Option<Bytes> {
    if Gate::owns(key) { None } else { handed_over(key, value) }
}

impl GossipReplica {
    /// Begins to bring this replica up to every other one that can be reached, as of now.
    pub fn cover(&mut self) {
        if let Some(serving) = &mut self.serving {
            serving.group.cover();
        }
    }

    /// Ends that, whoever is not covered yet.
    pub fn end_cover(&mut self) {
        if let Some(serving) = &mut self.serving {
            serving.group.end_cover();
        }
    }

    /// Whether a member that can be reached has not brought this replica up since the last call of
    /// [`GossipReplica::cover`].
    #[must_use]
    pub fn is_covering(&self) -> bool {
        self.serving.as_ref().is_some_and(|serving| serving.group.is_covering())
    }

    /// The members that have.
    #[must_use]
    pub fn covered_members(&self) -> Vec<NodeId> {
        self.serving.as_ref().map(|serving| serving.group.covered_members()).unwrap_or_default()
    }

    /// Whether this replica has whatever a majority had made durable before that call.
    #[must_use]
    pub fn covers_majority(&self) -> bool {
        self.serving.as_ref().is_some_and(|serving| serving.group.covers_majority())
    }

    /// Its actor: another one in each of its lives. `None` before it serves.
    #[must_use]
    pub fn actor(&self) -> Option<ActorId> {
        self.serving.as_ref().and_then(|serving| serving.group.replica().state().actor())
    }

    /// Whether it has lost something and knows that, so that its clock says of what it lacks that it is obsolete; or has
    /// taken back writes that wait for what others know of them.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let replica = self.serving.as_ref().map(|serving| serving.group.replica());
        let is_damaged =
            |replica: &Replica| !replica.damage().is_empty() || !replica.kept().is_empty();
        self.mending.is_some() || replica.is_some_and(is_damaged)
    }

    /// What it has seen; nothing before it serves.
    #[cfg(test)]
    pub(crate) fn clock_for_tests(&self) -> gossip::clock::Clock {
        let serving = self.serving.as_ref();
        serving.map(|serving| serving.group.replica().state().clock().clone()).unwrap_or_default()
    }
}
