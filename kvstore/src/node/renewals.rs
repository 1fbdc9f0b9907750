//! Renewals of a state store: when one is due, and what becomes of it. At most one store is renewed at a time.
//!
//! The engine's file grows beyond what lives in it, so now and then the store is copied into a new directory
//! (`storage::mvcc`, `RenewJob`), and the machine goes on with the copy:
//!
//! 1. The store thread copies; neither a checkpoint nor an export of the store begins meanwhile.
//! 2. The machine takes the copy in place of its store, and the frame `StateMoved` names the new
//!    directory in the log.
//! 3. When that frame is durable, the old directory is removed.
//!
//! After a crash the directory counts that the log names, and the start removes the other one. The old
//! one is as it was, since the checkpoints that follow write into the new one. That it lacks them is no
//! loss although one may have been finished: the log is freed behind an export only after the `LogStart`
//! of that export is durable. That frame comes later in the same log than `StateMoved`, so while the old
//! directory counts, every entry behind its checkpoint is still there.

use std::sync::Arc;

use proto::{GroupId, log};
use storage::state::StateStore;

use super::config::NodeBounds;
use super::io::{Effect, RenewFailed, RenewOrder, Ticks};
use super::stores::KEPT;
use super::{Node, Strain};
use crate::replication::Retired;

/// Ticks before the next renewal after one that failed or was given up; twice as many after each further one
/// that failed, as a copy for which there is no room fills the disk each time.
const RETRY_TICKS: u64 = 200;
/// Most ticks before the next renewal: an hour.
const RETRY_TICKS_MAX: u64 = 72_000;

/// A renewal of a store this many times as large as one that is due comes before the next checkpoint, and is
/// finished however long it delays that: else a node under a load that never pauses would never renew.
const INSIST_TIMES: u64 = 2;

/// A store and its copies.
///
/// Invariant: at most one renewal is under way, on the store that the machine has or on one that it had.
#[derive(Debug, Default)]
pub struct Renewals {
    running: Option<Run>,
    retry_at: Ticks,
    /// Renewals that failed one after the other.
    failed: u32,
    /// What the last copy came to on disk.
    copied_bytes: u64,
    /// The last one gained little: none is due before the store has so many bytes, twice what the copy came to.
    /// A `store_times` of two or more, as the default, allows no less anyway. It matters where simulations
    /// set one: without it a store in which nearly all lives would be copied after every checkpoint.
    not_before_bytes: u64,
}

/// A renewal that was begun.
#[derive(Debug)]
struct Run {
    state_dir: String,
    /// Bytes of the store when it began.
    bytes: u64,
    /// It is finished however long it takes.
    insists: bool,
    /// The machine has another store by now.
    orphaned: bool,
    /// It was told to end.
    aborted: bool,
}

impl Renewals {
    /// Bytes that a copy is expected to have of a store whose newest export has `export_bytes`.
    fn fresh(&self, export_bytes: u64, bounds: &NodeBounds) -> u64 {
        export_bytes.saturating_mul(bounds.copy_times).max(self.copied_bytes)
    }

    /// Bytes beyond which such a store is to be renewed.
    fn limit(&self, export_bytes: u64, bounds: &NodeBounds) -> u64 {
        let limit = self.fresh(export_bytes, bounds).saturating_mul(bounds.store_times);
        limit.saturating_add(bounds.store_slack_bytes).max(self.not_before_bytes)
    }

    /// Room that a copy of it may take.
    fn room(&self, export_bytes: u64, bounds: &NodeBounds) -> u64 {
        self.fresh(export_bytes, bounds).saturating_add(bounds.store_slack_bytes)
    }

    /// Whether a renewal of the store that the machine has is under way.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|run| !run.orphaned)
    }

    /// A store with so many bytes was copied, and the copy has so many.
    fn done(&mut self, before: u64, after: u64) {
        self.copied_bytes = after;
        self.failed = 0;
        let gained_little = before.saturating_sub(after) < before / 3;
        self.not_before_bytes = if gained_little { after.saturating_mul(2) } else { 0 };
    }
}

impl Node {
    /// Begins a renewal that is due, or ends one that is in the way.
    pub(super) fn tick_renewals(&mut self) {
        for group in KEPT {
            if self.renewals(group).running.is_some() {
                self.abort_in_the_way(group);
            } else if self.may_renew(group) {
                self.begin_due(group);
            }
        }
    }

    fn renewals(&self, group: GroupId) -> &Renewals {
        &self.stores.of(group).renewals
    }

    fn renewals_mut(&mut self, group: GroupId) -> &mut Renewals {
        &mut self.stores.of_mut(group).renewals
    }

    /// Whether nothing else is done to a store, or more urgent.
    fn may_renew(&self, group: GroupId) -> bool {
        let idle = self.stores.are_idle()
            && (!self.checkpoint_due(group) || self.insists(group))
            && self.exports.is_idle()
            && !self.snapshots.concern(group);
        let well = !self.stores.any_failed() && !self.read_only && !self.stopping;
        let may_retry = self.now >= self.renewals(group).retry_at;
        idle && well && self.strain == Strain::Eased && may_retry
    }

    /// Whether the next checkpoint waits for a renewal that is about to begin: under a load that fills a
    /// layer while the one before is written, checkpoints would else follow each other without a pause.
    pub(super) fn renewal_comes_first(&self, group: GroupId) -> bool {
        self.renewals(group).running.is_none() && self.insists(group) && self.may_renew(group)
    }

    /// Whether a renewal that began now would insist.
    fn insists(&self, group: GroupId) -> bool {
        let bytes = self.machine_of(group).store_bytes();
        self.exports.newest(group).is_some_and(|export| {
            insists(bytes, self.renewals(group).limit(export.bytes, &self.config.bounds))
        })
    }

    fn begin_due(&mut self, group: GroupId) {
        let bytes = self.machine_of(group).store_bytes();
        // Without an export nobody knows what lives in the store.
        let Some(export) = self.exports.newest(group) else { return };
        let limit = self.renewals(group).limit(export.bytes, &self.config.bounds);
        if bytes <= limit {
            return;
        }
        let room_bytes = self.renewals(group).room(export.bytes, &self.config.bounds);
        let insists = insists(bytes, limit);
        let store = self.machine_of(group).store();
        let Some(job) = self.machine_of_mut(group).begin_renewal() else { return };
        let state_dir = self.state_names.next(group);
        tracing::info!(%group, bytes, limit, state_dir, "the state store is being renewed");
        self.renewals_mut(group).running = Some(Run {
            state_dir: state_dir.clone(),
            bytes,
            insists,
            orphaned: false,
            aborted: false,
        });
        let order = RenewOrder { group, job, store, state_dir, room_bytes };
        self.effects.push(Effect::Renew(order));
    }

    /// Checkpoints and exports must not wait for too long, and a full disk has no room for a copy.
    fn abort_in_the_way(&mut self, group: GroupId) {
        let delays =
            self.layer_bytes() > self.config.bounds.layer_bytes || self.strain > Strain::Eased;
        let full = self.read_only;
        let Some(run) = &mut self.renewals_mut(group).running else { return };
        let in_the_way = full || delays && !run.insists;
        if in_the_way && !std::mem::replace(&mut run.aborted, true) {
            self.effects.push(Effect::AbortRenewal(group));
        }
    }

    /// The machine of a group has another store now, which a snapshot was built into.
    pub(super) fn orphan_renewal(&mut self, group: GroupId) {
        let renewals = self.renewals_mut(group);
        renewals.copied_bytes = 0;
        renewals.not_before_bytes = 0;
        let Some(run) = &mut renewals.running else { return };
        run.orphaned = true;
        if !std::mem::replace(&mut run.aborted, true) {
            self.effects.push(Effect::AbortRenewal(group));
        }
    }

    /// A renewal has come to its end, one way or the other.
    pub(super) fn renewed(
        &mut self,
        group: GroupId,
        state_dir: String,
        result: Result<Arc<dyn StateStore>, RenewFailed>,
    ) {
        let run = self.renewals_mut(group).running.take();
        let run = run.expect("a renewal was begun before it ends");
        assert!(run.state_dir == state_dir, "{state_dir} was made instead of {}", run.state_dir);
        match result {
            // On a full disk the room of the copy is there at once, that of the old store only when
            // the log has taken the frame.
            Ok(store) if !(run.orphaned || self.read_only || self.stores.of(group).failed) => {
                self.take_renewed(group, &run, store);
            }
            result => self.give_up_renewal(group, run, result),
        }
    }

    fn take_renewed(&mut self, group: GroupId, run: &Run, store: Arc<dyn StateStore>) {
        let (before, after) = (run.bytes, store.size_bytes());
        self.renewals_mut(group).done(before, after);
        let state_dir = &run.state_dir;
        tracing::info!(%group, before, after, state_dir, "the state store is renewed");
        let old = self.machine_of_mut(group).end_renewal(Some(store));
        let old = old.expect("a new store takes the place of one");
        let dir = self.move_state_of(group, state_dir.clone());
        let moved = log::StateMoved { state_dir: state_dir.clone() };
        self.outbox.append(group, log::frame::Body::StateMoved(moved));
        self.outbox.sync = true;
        let retired = Retired { group, dir, state: Box::new(old) };
        self.snapshots.retire(self.outbox.ticket, retired);
    }

    fn give_up_renewal(
        &mut self,
        group: GroupId,
        run: Run,
        result: Result<Arc<dyn StateStore>, RenewFailed>,
    ) {
        if !run.orphaned {
            self.machine_of_mut(group).end_renewal(None);
        }
        let store = match result {
            Ok(store) => Some(store),
            Err(RenewFailed::Copy(why)) => {
                tracing::warn!(why, "the state store was not renewed");
                None
            }
            Err(failed @ RenewFailed::Store(_)) => {
                tracing::error!(%failed, "the state store was not renewed");
                // It was only read. The next start reads all of it, and decides.
                self.stores.of_mut(group).failed |= !run.orphaned;
                None
            }
        };
        // What was told to end says nothing about the room there is.
        let now = self.now;
        let renewals = self.renewals_mut(group);
        renewals.failed = if run.aborted { 0 } else { renewals.failed + 1 };
        let wait = RETRY_TICKS << renewals.failed.saturating_sub(1).min(16);
        renewals.retry_at = Ticks(now.0 + wait.min(RETRY_TICKS_MAX));
        let state = store.map(|store| Box::new(store) as Box<dyn std::any::Any + Send>);
        self.effects.push(Effect::RemoveState { name: run.state_dir, state });
    }
}

/// Whether a store of so many bytes is to be renewed however long that takes.
fn insists(bytes: u64, limit: u64) -> bool {
    bytes > limit.saturating_mul(INSIST_TIMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_due_beyond_a_multiple_of_what_lives_and_after_little_gain_when_it_has_doubled() {
        const BOUNDS: (u64, u64) = (3, 64);
        let bounds = NodeBounds {
            store_times: BOUNDS.0,
            store_slack_bytes: BOUNDS.1,
            ..NodeBounds::default()
        };
        let mut renewals = Renewals::default();
        assert_eq!(renewals.limit(0, &bounds), 64);
        assert_eq!(renewals.limit(100, &bounds), 3 * 200 + 64);
        assert_eq!(renewals.room(100, &bounds), 264);
        renewals.done(900, 250);
        assert_eq!(renewals.limit(100, &bounds), 3 * 250 + 64, "the copy came to more");
        assert_eq!(renewals.room(100, &bounds), 314);
        assert_eq!(renewals.limit(200, &bounds), 3 * 400 + 64, "more has come to live since");
        renewals.done(600, 401);
        assert_eq!(renewals.limit(100, &bounds), 3 * 401 + 64);
        assert_eq!(renewals.room(100, &bounds), 401 + 64, "as much as the last copy took");
        let narrow = NodeBounds { store_times: 1, store_slack_bytes: 0, ..bounds };
        assert_eq!(renewals.limit(100, &narrow), 802, "a third was not gained");
        renewals.done(600, 400);
        assert_eq!(renewals.limit(100, &narrow), 400);
    }
}
