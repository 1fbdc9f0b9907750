//! The thread that writes checkpoints.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use storage::mvcc::{CheckpointJob, CheckpointProgress};
use storage::state::{StateError, StateStore};

use super::event::Event;
use super::state_dir::mark_suspect;
use crate::node::Input;

/// The pause between two small batches: a batch stops every read of the store for its duration.
const PAUSE: Duration = Duration::from_micros(200);

/// Runs checkpoint jobs beside everything else.
///
/// A job that fails is given up and its directory is marked, so that the next start rebuilds it
/// from the log. The node goes on meanwhile: the layer in memory holds what the job would have
/// written, nothing acknowledged depends on the store.
pub(super) struct CheckpointThread {
    pub(super) jobs: Receiver<CheckpointJob>,
    pub(super) store: Arc<dyn StateStore>,
    /// The directory that holds the store.
    pub(super) dir: PathBuf,
    pub(super) events: Sender<Event>,
    pub(super) stop: Arc<AtomicBool>,
}

impl CheckpointThread {
    /// Runs until the node thread is gone or `stop` is set; a job is left half done then, which
    /// the next start takes in its stride.
    pub(super) fn run(self) {
        for mut job in &self.jobs {
            match self.carry_out(&mut job) {
                Ok(true) => {
                    let index = job.index();
                    tracing::info!(%index, "checkpoint finished");
                    // A node that has stopped needs no report.
                    let _ = self.events.send(Event::Input(Input::CheckpointDone(index)));
                }
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(%error, "checkpoint failed; no further one until a restart");
                    if let Err(error) = mark_suspect(&self.dir) {
                        tracing::error!(%error, "cannot mark the state directory as suspect");
                    }
                    return;
                }
            }
        }
    }

    /// True when the job is done, false when it was told to stop.
    fn carry_out(&self, job: &mut CheckpointJob) -> Result<bool, StateError> {
        loop {
            if self.stop.load(Ordering::Acquire) {
                return Ok(false);
            }
            match job.step(self.store.as_ref())? {
                CheckpointProgress::Continue => std::thread::sleep(PAUSE),
                CheckpointProgress::Done => return Ok(true),
            }
        }
    }
}
