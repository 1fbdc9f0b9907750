//! What a backup needs of a replica: that it has what the others have, and which of its items go along.

use bytes::Bytes;
use gossip::items::names_own_actor;
use proto::NodeId;

use super::GossipReplica;
use super::gate::Gate;

/// Whether an item of the replica that a backup was taken of is one that the replicas of a restored cluster begin
/// with. They do not take over whose actors were its own, so that nobody issues or folds anything in its name, nor
/// its gate: what the cut holds is all that there is.
#[must_use]
pub fn goes_along(key: &Bytes) -> bool {
    !(names_own_actor(key) || Gate::owns(key))
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

    /// Whether it has lost something and knows that. Its clock says of what it lacks that it is obsolete.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let replica = self.serving.as_ref().map(|serving| serving.group.replica());
        replica.is_some_and(|replica| !replica.damage().is_empty())
    }

    /// What it has seen; nothing before it serves.
    #[cfg(test)]
    pub(crate) fn clock_for_tests(&self) -> gossip::clock::Clock {
        let serving = self.serving.as_ref();
        serving.map(|serving| serving.group.replica().state().clock().clone()).unwrap_or_default()
    }
}
