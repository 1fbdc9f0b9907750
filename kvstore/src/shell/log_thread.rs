//! The thread that makes the log durable.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use proto::log;
use storage::wal::{Wal, WalError};

use super::event::Event;
use super::fatal::Fatal;
use super::health::LogSpace;
use crate::metrics::Metrics;
use crate::node::{Input, Ticket};

/// After this much silence the last batch is sealed, so that later damage to it is told apart
/// from a torn tail.
const SEAL_AFTER: Duration = Duration::from_millis(20);

/// How often a log that found the disk full tries again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// Appends beyond this many bytes wait for the next batch, so that one sync stays short.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A sync that takes longer than this is worth a line in the log.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// One append on its way to the disk.
#[derive(Debug)]
pub(super) struct Append {
    /// Names it in the report.
    pub(super) ticket: Ticket,
    /// What to append, in order.
    pub(super) frames: Vec<log::Frame>,
    /// Whether anything waits for it.
    pub(super) sync: bool,
}

/// Owns the [`Wal`]. Whatever queued up while the last batch was synced becomes the next batch:
/// one fdatasync for all of it, and one report that names the last ticket.
///
/// Rule: a ticket is reported only after a sync that covers it succeeded. A failed sync is never
/// tried again (B50): the node ends. A disk without room for the next segment is no such failure:
/// the batch stays in memory, writes are refused at the door, and it is tried again each second.
pub(super) struct LogThread {
    wal: Wal,
    appends: Receiver<Append>,
    events: Sender<Event>,
    space: Arc<LogSpace>,
    metrics: Arc<Metrics>,
    fatal: Fatal,
    /// Last ticket of the batch that is not synced yet.
    open: Option<Ticket>,
    /// The last batch on disk is followed by a seal.
    sealed: bool,
    /// The next segment is ready, as far as is known.
    prepared: bool,
    /// The disk was found full; when to try again.
    retry_at: Option<Instant>,
    /// Full even for what is open: no use to sync before the next segment is there.
    blocked: bool,
    /// When the last append came.
    quiet_since: Instant,
    /// A frame says that the log begins later: segments may be of no use once it is synced.
    frees: bool,
}

impl LogThread {
    pub(super) fn new(
        wal: Wal,
        appends: Receiver<Append>,
        events: Sender<Event>,
        space: Arc<LogSpace>,
        metrics: Arc<Metrics>,
        fatal: Fatal,
    ) -> Self {
        Self {
            wal,
            appends,
            events,
            space,
            metrics,
            fatal,
            open: None,
            sealed: false,
            prepared: false,
            retry_at: None,
            blocked: false,
            quiet_since: Instant::now(),
            frees: false,
        }
    }

    /// Runs until the node thread is gone, then syncs what is left.
    pub(super) fn run(mut self) {
        if let Err(error) = self.serve() {
            self.fatal.report(&format!("the write-ahead log failed: {error}"));
        }
    }

    fn serve(&mut self) -> Result<(), WalError> {
        loop {
            match self.next() {
                Ok(append) => {
                    self.quiet_since = Instant::now();
                    if self.take(append) && !self.blocked {
                        self.sync()?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.use_silence()?,
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
        }
    }

    /// The next append, or a timeout when there is something to do without one.
    fn next(&self) -> Result<Append, RecvTimeoutError> {
        let Some(at) = self.work_at() else {
            return self.appends.recv().map_err(|_| RecvTimeoutError::Disconnected);
        };
        self.appends.recv_timeout(at.saturating_duration_since(Instant::now()))
    }

    /// When there is something to do although no append comes.
    fn work_at(&self) -> Option<Instant> {
        if !self.prepared && self.retry_at.is_none() {
            return Some(self.quiet_since);
        }
        let settled = self.sealed && self.open.is_none();
        let settle_at = (!settled && !self.blocked).then(|| self.quiet_since + SEAL_AFTER);
        settle_at.into_iter().chain(self.retry_at).min()
    }

    /// No append came: prepare the next segment, or sync or seal what lies open.
    fn use_silence(&mut self) -> Result<(), WalError> {
        let retry = self.retry_at.is_none_or(|at| at <= Instant::now());
        if !self.prepared && retry {
            self.prepare()
        } else if self.open.is_some() {
            self.sync()
        } else {
            self.seal()
        }
    }

    /// Takes `append` and all that wait behind it, up to the size of a batch; says whether any of
    /// them wants a sync.
    fn take(&mut self, append: Append) -> bool {
        let mut wanted = false;
        let mut next = Some(append);
        while let Some(Append { ticket, frames, sync }) = next {
            assert!(self.open.is_none_or(|last| last < ticket), "tickets rise");
            self.wal.append(&frames);
            self.frees |= frames.iter().any(moves_start);
            wanted |= sync;
            self.open = Some(ticket);
            let room = self.wal.pending_bytes() < BATCH_BYTES_MAX;
            next = if room { self.appends.try_recv().ok() } else { None };
        }
        wanted
    }

    /// Syncs the open batch and reports it. A full disk leaves it open.
    fn sync(&mut self) -> Result<(), WalError> {
        let start = Instant::now();
        match self.wal.sync() {
            Ok(()) => {}
            Err(WalError::Full { .. }) => {
                self.found_full();
                self.blocked = true;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        // What is left of the current segment is for what a full disk must not stop: terms, votes, and the
        // first entry of a new leader.
        if self.wal.lacks_next() && self.retry_at.is_none() {
            self.found_full();
        }
        let took = start.elapsed();
        self.metrics.log_synced(took, self.wal.bytes_on_disk());
        if took > SLOW_SYNC {
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(took_ms, "slow fsync of the log");
        }
        self.sealed = false;
        self.prepared = false;
        if let Some(ticket) = self.open.take() {
            // A node that has stopped needs no report.
            let _ = self.events.send(Event::Input(Input::WalDurable(ticket)));
        }
        if std::mem::take(&mut self.frees) {
            let freed = self.wal.free()?;
            tracing::info!(freed, left = self.wal.bytes_on_disk(), "log freed behind an export");
        }
        Ok(())
    }

    /// Makes a slice of the next segment ready. Under load, without silence, [`Wal::sync`] does its
    /// share of that.
    fn prepare(&mut self) -> Result<(), WalError> {
        match self.wal.prepare_step() {
            Ok(ready) => {
                self.prepared = ready;
                self.retry_at = None;
                self.blocked &= !ready;
                if ready && self.space.set_full(false) {
                    self.tell_space(false);
                    tracing::info!("the disk has space again; writes are accepted");
                }
                Ok(())
            }
            Err(WalError::Full { .. }) => {
                self.found_full();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn seal(&mut self) -> Result<(), WalError> {
        self.wal.seal()?;
        self.sealed = true;
        Ok(())
    }

    fn found_full(&mut self) {
        if self.space.set_full(true) {
            self.tell_space(true);
            tracing::error!("the disk has no space for the log; writes are refused until it has");
        }
        self.prepared = false;
        self.retry_at = Some(Instant::now() + FULL_RETRY);
    }

    /// A node that has stopped needs no report.
    fn tell_space(&self, full: bool) {
        let _ = self.events.send(Event::Input(Input::LogFull(full)));
    }

    /// The node is gone: leave the log synced and sealed. Nobody waits for a report, so a disk
    /// without space loses only what was never acknowledged.
    fn finish(&mut self) -> Result<(), WalError> {
        if self.open.is_some() {
            self.sync()?;
        }
        if self.open.is_none() && !self.sealed {
            self.seal()?;
        }
        Ok(())
    }
}

/// Whether a frame says that the log of its group begins later than before.
fn moves_start(frame: &log::Frame) -> bool {
    use log::frame::Body;
    match &frame.body {
        Some(Body::LogStart(_) | Body::Installed(_)) => true,
        Some(
            Body::Entries(_)
            | Body::HardState(_)
            | Body::GroupState(_)
            | Body::CheckpointDone(_)
            | Body::StateMoved(_),
        )
        | None => false,
    }
}
