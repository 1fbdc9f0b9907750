//! The shell: threads and channels around the synchronous [`Node`].
//!
//! ```text
//!  gRPC tasks --call--> NodeHandle --+             +--> log thread --fdatasync--+
//!  peer links --------> Inbox -------+--> node ----+--> store thread -----------+--> node
//!                                         thread   +--> transfer thread --------+
//!                                                  +--> peer links (never blocks)
//!                                                  +--> answers (oneshot)
//! ```
//!
//! - The **node thread** owns the node. A turn takes everything that waits, steps the node with
//!   each, polls it once and carries out the effects in their order: that is what makes many
//!   writes share one fdatasync. It ticks by the monotonic clock.
//! - The **log thread** owns the write-ahead log. While it syncs one batch, the next one queues up.
//! - The **store thread** moves the memory layer into the state store, in small steps, and between two
//!   checkpoints writes exports and copies the store into a new one.
//! - The **transfer thread** serves exports to peers, receives them, and builds states from them.
//!
//! Bounds: requests pass [`Admission`], peer messages an [`Inbox`] of bounded bytes; what the node
//! thread sends to the log is bounded by what it may propose and accept unacknowledged. Nothing
//! here decides anything about the protocol; order and safety are tested in the node.

mod admission;
mod event;
mod fatal;
mod handle;
mod health;
mod log_thread;
mod node_thread;
mod repair_thread;
mod store_thread;
mod ticker;
mod transfer_thread;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use admission::{Admission, Permit, RETRY_AFTER};
pub use event::Inbox;
pub use fatal::Fatal;
pub use handle::NodeHandle;
pub use health::{Heartbeat, LogSpace};
pub use node_thread::{SendToPeer, TellMembers};
pub use repair_thread::{REPAIR_PATIENCE, Repaired, repair};

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use storage::wal::Wal;
use tokio::sync::watch;

use self::event::Event;
use self::log_thread::LogThread;
use self::node_thread::NodeThread;
use self::store_thread::{StoreSignals, StoreThread};
use self::transfer_thread::TransferThread;
use crate::durable::DataFiles;
use crate::metrics::Metrics;
use crate::node::{Input, Node};

/// Where events for a node wait before the node exists: peer links come up while it still opens
/// its log.
#[derive(Debug)]
pub struct Mailbox {
    sender: mpsc::Sender<Event>,
    receiver: mpsc::Receiver<Event>,
    inbox: Inbox,
}

impl Default for Mailbox {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel();
        let inbox = Inbox::new(sender.clone());
        Self { sender, receiver, inbox }
    }
}

impl Mailbox {
    /// Where the peer links put what they hear.
    pub fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }
}

/// What a shell is made of.
pub struct ShellParts {
    /// Short name for the threads, such as the node's name.
    pub name: String,
    /// The node.
    pub node: Node,
    /// Its log.
    pub wal: Wal,
    /// Its files.
    pub files: DataFiles,
    /// What was said to it so far.
    pub mailbox: Mailbox,
    /// The queue in front of it.
    pub admission: Arc<Admission>,
    /// Sends to peers.
    pub send: SendToPeer,
    /// Tells the links who belongs to the cluster.
    pub tell_members: TellMembers,
    /// Where measurements go.
    pub metrics: Arc<Metrics>,
    /// Called when the node cannot go on.
    pub fatal: Fatal,
    /// Stand for election as soon as this many links are up.
    pub campaign_with_links: Option<usize>,
}

/// A running node: its handle and its threads.
#[derive(Debug)]
pub struct Shell {
    handle: NodeHandle,
    store_signals: Arc<StoreSignals>,
    stop_transfers: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Shell {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(parts: ShellParts) -> std::io::Result<Self> {
        let ShellParts { name, node, mailbox, .. } = parts;
        let events = mailbox.sender;
        let log_space = Arc::new(LogSpace::default());
        let heartbeat = Arc::new(Heartbeat::default());
        let store_signals = Arc::new(StoreSignals::default());
        let stop_transfers = Arc::new(AtomicBool::new(false));
        let (log, appends) = mpsc::channel();
        let (store_jobs, jobs) = mpsc::channel();
        let (transfers, transfer_jobs) = mpsc::channel();
        let (summary, summaries) = watch::channel(node.summary());
        let handle = NodeHandle::new(
            events.clone(),
            parts.admission,
            Arc::clone(&log_space),
            Arc::clone(&heartbeat),
            summaries,
        );
        let node_thread = NodeThread {
            node,
            events: mailbox.receiver,
            send: Arc::clone(&parts.send),
            log,
            store_jobs,
            store_signals: Arc::clone(&store_signals),
            transfers,
            tell_members: parts.tell_members,
            states: Arc::clone(&parts.files.states),
            summary,
            heartbeat,
            fatal: parts.fatal.clone(),
            campaign_with_links: parts.campaign_with_links,
        };
        let log_thread = LogThread::new(
            parts.wal,
            appends,
            events.clone(),
            log_space,
            parts.metrics,
            parts.fatal.clone(),
        );
        let store_thread = StoreThread {
            jobs,
            files: parts.files.clone(),
            events: events.clone(),
            signals: Arc::clone(&store_signals),
        };
        let transfer_thread = TransferThread {
            jobs: transfer_jobs,
            files: parts.files,
            send: parts.send,
            events,
            stop: Arc::clone(&stop_transfers),
        };
        let fatal = parts.fatal;
        let threads = vec![
            spawn(&name, "log", &fatal, || log_thread.run())?,
            spawn(&name, "store", &fatal, || store_thread.run())?,
            spawn(&name, "transfer", &fatal, || transfer_thread.run())?,
            spawn(&name, "node", &fatal, || node_thread.run())?,
        ];
        Ok(Self { handle, store_signals, stop_transfers, threads })
    }

    /// A handle to the node.
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Asks the node to hand over leadership and to refuse new requests.
    pub fn prepare_stop(&self) {
        self.handle.post(Event::Input(Input::Stop));
    }

    /// Answers what is still open with "outcome unknown", syncs and seals the log, ends the
    /// threads and waits for them.
    pub fn stop(self) {
        self.store_signals.stop.store(true, Ordering::Release);
        self.stop_transfers.store(true, Ordering::Release);
        self.handle.post(Event::Shutdown);
        for thread in self.threads {
            thread.join().expect("a panic is caught inside the thread");
        }
    }
}

/// Starts a thread named after node and task, with the caller's span. A panic in it ends the node:
/// what one thread no longer does, the others must not promise.
fn spawn(
    node: &str,
    task: &'static str,
    fatal: &Fatal,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let (span, fatal) = (tracing::Span::current(), fatal.clone());
    std::thread::Builder::new().name(format!("{node}-{task}")).spawn(move || {
        let _entered = span.entered();
        if std::panic::catch_unwind(AssertUnwindSafe(run)).is_err() {
            fatal.report(&format!("the {task} thread panicked"));
        }
    })
}
