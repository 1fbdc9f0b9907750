//! The thread that writes checkpoints and exports, and renews stores.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::GroupId;
use storage::export::{ExportFile, ExportHeader};
use storage::mvcc::{CheckpointJob, CheckpointProgress};
use storage::state::{StateError, StateStore};

use super::event::Event;
use crate::durable::{DataFiles, ExportStep, ExportTask, RenewStep, RenewTask};
use crate::node::{CheckpointId, ExportFailed, ExportSource, Input, RenewFailed, RenewOrder};

/// The pause between two small batches: a batch stops every read of the store for its duration.
const PAUSE: Duration = Duration::from_micros(200);

/// Without this much room on the disk no step of a checkpoint is taken: several times what a step writes, so
/// that also several nodes on one disk stop in time.
const STEP_ROOM_BYTES: u64 = 32 * 1024 * 1024;
/// Time between two looks for room.
const ROOM_PAUSE: Duration = Duration::from_millis(100);

/// Work on the stores. One piece at a time: exports and renewals read between two checkpoints.
#[derive(Debug)]
pub(super) enum StoreJob {
    /// Moves the memory layer into the store.
    Checkpoint { id: CheckpointId, job: Box<CheckpointJob>, store: Arc<dyn StateStore> },
    /// Writes an export.
    Export { header: ExportHeader, source: Box<ExportSource> },
    /// Copies the store into a new one.
    Renew(Box<RenewOrder>),
}

/// What tells the thread to stop what it does.
#[derive(Debug, Default)]
pub(super) struct StoreSignals {
    /// The node stops: a job is left half done, which the next start takes in its stride.
    pub(super) stop: AtomicBool,
    /// Exports of these groups that are being written, or wait for their turn, are to be given up.
    pub(super) abort_exports: Aborts,
    /// So are renewals of the stores of these groups.
    pub(super) abort_renewals: Aborts,
}

/// Groups whose work is to be given up.
#[derive(Debug, Default)]
pub(super) struct Aborts(Mutex<BTreeSet<GroupId>>);

impl Aborts {
    /// What is done for this group, or waits, is to be given up.
    pub(super) fn wish(&self, group: GroupId) {
        self.0.lock().expect("nobody panics while holding it").insert(group);
    }

    /// Whether that is so; not any more then.
    pub(super) fn take(&self, group: GroupId) -> bool {
        self.0.lock().expect("nobody panics while holding it").remove(&group)
    }
}

/// What was said about the room for a checkpoint.
#[derive(Debug, Default)]
struct Room {
    /// It waits for room.
    waited: bool,
    /// The system could not tell how much there is.
    unseen: bool,
}

/// Runs jobs on the stores beside everything else.
///
/// What fails is reported, and the node decides.
pub(super) struct StoreThread {
    pub(super) jobs: Receiver<StoreJob>,
    pub(super) files: DataFiles,
    pub(super) events: Sender<Event>,
    pub(super) signals: Arc<StoreSignals>,
}

impl StoreThread {
    /// Runs until the node thread is gone or told to stop.
    pub(super) fn run(self) {
        for job in &self.jobs {
            let input = match job {
                StoreJob::Checkpoint { id, mut job, store } => {
                    match self.checkpoint(&mut job, &*store) {
                        Ok(true) => {
                            tracing::info!(index = %job.index(), "checkpoint finished");
                            Input::CheckpointDone(id)
                        }
                        Ok(false) => return,
                        Err(error) => {
                            tracing::error!(%error, "checkpoint failed; the state store is given up");
                            Input::CheckpointFailed(id)
                        }
                    }
                }
                StoreJob::Export { header, source } => {
                    let group = header.group;
                    match self.export(header, *source) {
                        Some(result) => Input::Exported { group, result },
                        None => return,
                    }
                }
                StoreJob::Renew(order) => {
                    let (group, state_dir) = (order.group, order.state_dir.clone());
                    match self.renew(*order) {
                        Some(result) => Input::Renewed { group, state_dir, result },
                        None => return,
                    }
                }
            };
            // A node that has stopped needs no report.
            let _ = self.events.send(Event::Input(input));
        }
    }

    /// True when the job is done, false when it was told to stop.
    fn checkpoint(
        &self,
        job: &mut CheckpointJob,
        store: &dyn StateStore,
    ) -> Result<bool, StateError> {
        let mut room = Room::default();
        loop {
            if self.signals.stop.load(Ordering::Acquire) {
                return Ok(false);
            }
            // A store that could not write is of no use any more, so it waits where a log would try.
            if !self.has_room(&mut room) {
                std::thread::sleep(ROOM_PAUSE);
                continue;
            }
            match job.step(store)? {
                CheckpointProgress::Continue => std::thread::sleep(PAUSE),
                CheckpointProgress::Done => return Ok(true),
            }
        }
    }

    /// Whether a step of a checkpoint has room. Says once that it has not, and once that it has again.
    fn has_room(&self, room: &mut Room) -> bool {
        let free = match self.files.states.free_bytes() {
            Ok(free) => free,
            // A system that cannot tell is not a full disk.
            Err(error) => {
                if !std::mem::replace(&mut room.unseen, true) {
                    tracing::warn!(%error, "a checkpoint goes on without a look for room");
                }
                return true;
            }
        };
        let has_room = free >= STEP_ROOM_BYTES;
        if has_room == room.waited {
            if has_room {
                tracing::info!(free, "the disk has room again: the checkpoint goes on");
            } else {
                tracing::warn!(free, wanted = STEP_ROOM_BYTES, "a checkpoint waits for room");
            }
            room.waited = !has_room;
        }
        has_room
    }

    /// `None` when it was told to stop.
    fn export(
        &self,
        header: ExportHeader,
        source: ExportSource,
    ) -> Option<Result<ExportFile, ExportFailed>> {
        let (group, index) = (header.group, header.index);
        let mut task = match ExportTask::begin(&self.files, header, source) {
            Ok(task) => task,
            Err(failed) => return Some(Err(failed)),
        };
        loop {
            if self.signals.stop.load(Ordering::Acquire) {
                return None;
            }
            if self.signals.abort_exports.take(group) {
                task.give_up();
                let why = "it took too long and delayed the next checkpoint".to_owned();
                return Some(Err(ExportFailed::File(why)));
            }
            match task.step() {
                Ok(ExportStep::Continue(rest)) => task = rest,
                Ok(ExportStep::Done(file)) => {
                    tracing::info!(%group, %index, bytes = file.bytes, "export finished");
                    return Some(Ok(file));
                }
                Err(failed) => return Some(Err(failed)),
            }
        }
    }

    /// `None` when it was told to stop.
    fn renew(&self, order: RenewOrder) -> Option<Result<Arc<dyn StateStore>, RenewFailed>> {
        let group = order.group;
        let mut task = match RenewTask::begin(&self.files, order) {
            Ok(task) => task,
            Err(failed) => return Some(Err(failed)),
        };
        loop {
            if self.signals.stop.load(Ordering::Acquire) {
                return None;
            }
            if self.signals.abort_renewals.take(group) {
                let why = "it was in the way of a checkpoint or a snapshot, or the disk is full";
                return Some(Err(RenewFailed::Copy(why.to_owned())));
            }
            match task.step() {
                Ok(RenewStep::Continue(rest)) => task = rest,
                Ok(RenewStep::Done(renewed)) => return Some(Ok(renewed)),
                Err(failed) => return Some(Err(failed)),
            }
            // A batch into any store stops the reads of all.
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use proto::{LogIndex, Term};
    use storage::disk::SimDisk;
    use storage::mvcc::{Machine, MachineOptions};
    use storage::state::MemoryStore;

    use super::*;
    use crate::durable::{MemoryDirs, SledDirs};
    use crate::shell::testing::{PATIENCE, logged, opened};

    /// It said that so and so many bytes were free, of which nobody knew.
    #[test]
    fn where_the_room_cannot_be_seen_a_checkpoint_goes_on_and_says_so_once() {
        let (_, _, mut files) = opened(&SimDisk::new());
        let dir = tempfile::tempdir().unwrap();
        // There is no such directory yet.
        files.states = Arc::new(SledDirs::new(dir.path()));
        let ((_, jobs), (events, _)) = (mpsc::channel(), mpsc::channel());
        let thread = StoreThread { jobs, files, events, signals: Arc::default() };
        let said = logged(|| {
            let mut room = Room::default();
            assert!((0..3).all(|_| thread.has_room(&mut room)));
        });
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("WARN") && said.contains("No such file"), "{said}");
    }

    #[test]
    fn a_checkpoint_waits_for_room_and_harms_nothing_meanwhile() {
        let (_, _, mut files) = opened(&SimDisk::new());
        let states = MemoryDirs::default();
        states.set_full(true);
        files.states = Arc::new(states.clone());
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let mut machine = Machine::open(Arc::clone(&store), MachineOptions::default()).unwrap();
        machine.apply(LogIndex(1), Term(1), None).unwrap();
        let job = Box::new(machine.begin_checkpoint().unwrap());
        let (sender, jobs) = mpsc::channel();
        let (events, reports) = mpsc::channel();
        let signals = Arc::default();
        let thread = StoreThread { jobs, files, events, signals };
        let thread = std::thread::spawn(move || thread.run());
        sender
            .send(StoreJob::Checkpoint { id: CheckpointId(1), job, store: Arc::clone(&store) })
            .unwrap();
        let early = reports.recv_timeout(3 * ROOM_PAUSE);
        assert!(early.is_err(), "a step was taken");
        assert!(store.scan(&[0; 8], &[0xff; 8]).next().is_none());
        states.set_full(false);
        let report = reports.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(report, Event::Input(Input::CheckpointDone(CheckpointId(1)))));
        drop(sender);
        thread.join().unwrap();
    }
}
