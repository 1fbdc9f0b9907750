//! A replica that found itself damaged begins again, while the node goes on.
//!
//! It serves nothing from then on. Once all that was taken is durable, all of its items are read again. Where they are
//! whole it goes on with them, as after a restart. Where they are not, what can be read of them and of what was in
//! memory is taken back by a replica that begins with nothing, with a new actor, as after the loss of a disk: it
//! answers no reads before every other member has brought it up.
//!
//! The second is what happens at a start too, where the items contradict each other.

use bytes::Bytes;
use gossip::ActorId;
use gossip::clock::Folds;
use gossip::group::Counts;
use gossip::items::{ItemsDamaged, Restored, Salvaged, restore};
use gossip::replica::Replica;
use gossip::tree::TreeKey;
use proto::{Applied, Code, Failure, log};

use super::held::Held;
use super::{GossipReplica, RECOVERING_RETRY, Serving};
use crate::replication::Outbox;

/// What is left of a replica that was damaged, until another one begins in its place.
#[derive(Debug)]
pub(super) struct Mending {
    salvaged: Salvaged,
    counts: Counts,
}

#[cfg(test)]
impl Mending {
    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }
}

/// What a directory holds of a replica.
pub(super) struct Stored {
    items: Vec<(Bytes, Bytes)>,
    /// What they come to.
    restored: Result<Restored, ItemsDamaged>,
}

/// A replica that is about to become a member.
pub(super) struct Begun {
    pub(super) replica: Replica,
    /// What is to be taken back, where it began with nothing, and what is to be removed.
    pub(super) anew: Option<(Salvaged, Vec<log::Item>)>,
    /// What had happened before.
    pub(super) counts: Counts,
}

impl Stored {
    pub(super) fn of(items: Vec<(Bytes, Bytes)>) -> Self {
        let restored = restore(items.iter().cloned());
        Self { items, restored }
    }

    /// Whether something is lost, so that a replica has to begin with nothing.
    pub(super) const fn is_damaged(&self) -> bool {
        self.restored.is_err()
    }

    /// The replica that the items give, or one that begins anew in its place. `folds` are those that group 0 knows.
    pub(super) fn begin(
        self,
        mending: Option<Mending>,
        folds: &Folds,
        actor: ActorId,
        tree: TreeKey,
    ) -> Begun {
        let (read, mut counts) = match mending {
            Some(Mending { salvaged, counts }) => (Some(salvaged), counts),
            None => (None, Counts::default()),
        };
        match self.restored {
            Ok(restored) => {
                if read.is_some() {
                    tracing::warn!(
                        "what is stored of the eventual keyspaces is whole: nothing is lost"
                    );
                }
                let (replica, _) = Replica::restored(restored, actor, tree);
                Begun { replica, anew: None, counts }
            }
            Err(why) => {
                counts.started_over += 1;
                let removed = self.items.iter().map(|(key, _)| key.clone());
                let removed = removed.map(|key| log::Item { key, value: None }).collect();
                // Memory knows more of what was bare; what is stored has a checksum.
                let mut salvaged = read.unwrap_or_default();
                salvaged.join(Salvaged::of_items(self.items, folds));
                tracing::error!(
                    %why,
                    writes = salvaged.records.len(),
                    without_context = salvaged.bare.len(),
                    "the state of the eventual keyspaces is damaged: this replica takes back what can be read, and answers no reads before every other member has brought it up"
                );
                let (replica, _) = Replica::restored(Restored::default(), actor, tree);
                Begun { replica, anew: Some((salvaged, removed)), counts }
            }
        }
    }
}

impl GossipReplica {
    /// Ends the replica that was found to be damaged, if it was. Another one begins once the log has come to rest.
    pub(super) fn mend(&mut self, out: &mut Outbox) {
        let is_damaged = |serving: &mut Serving| serving.group.is_damaged();
        let Some(mut serving) = self.serving.take_if(is_damaged) else { return };
        tracing::error!(
            "something of the eventual keyspaces is lost in memory: this replica is begun again"
        );
        // What was taken is made durable, so clients are answered; no peer is told anything by this replica.
        serving.turn(&mut self.own, self.now, out);
        let Serving { group, mut held, mut open, reads, quorum_reads, .. } = serving;
        held.drop_sends();
        let (salvaged, counts) = (group.replica().salvage(), group.counts());
        self.mending = Some(Mending { salvaged, counts });
        // What is in the directory was put there since the node started, if not before.
        self.is_new = false;
        let reads = reads.iter().map(|read| read.id);
        for id in reads.chain(quorum_reads.waiting()) {
            out.answer(id, Err(self.not_serving()));
        }
        held.answer(open.end(&group));
        self.left = Some(held);
        out.again = true;
    }

    /// Why nothing is served while another replica is about to begin.
    pub(super) fn being_mended(&self) -> Option<Failure> {
        let name = &self.config.name;
        self.mending.as_ref().map(|_| {
            let why =
                format!("{name} has lost something of its eventual keyspaces and begins again");
            Failure::new(Code::Recovering, "", why).retry_after(RECOVERING_RETRY)
        })
    }

    /// Lets go what a replica had promised that was ended.
    pub(super) fn release_left(&mut self, out: &mut Outbox) {
        let applied = self.own.applied();
        self.left = self.left.take().and_then(|mut left: Held| {
            left.release(applied, out);
            (!left.is_empty()).then_some(left)
        });
    }
}

/// A write that waited for other members at a replica that was ended.
pub(super) fn not_acknowledged(durable_on: usize, wanted: usize) -> Failure {
    let why = format!(
        "{durable_on} of {wanted} replicas have it durably; this one began again, and it spreads by itself"
    );
    Failure::new(Code::AckMissed, "", why).applied(Applied::Yes)
}
