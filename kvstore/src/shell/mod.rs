//! The shell: threads and channels around the synchronous [`Node`].
//!
//! ```text
//!  gRPC tasks --call--> NodeHandle --+             +--> log thread --fdatasync--+
//!  peer links --------> Inbox -------+--> node ----+--> checkpoint thread ------+--> node
//!                                         thread   +--> peer links (never blocks)
//!                                                  +--> answers (oneshot)
//! ```
//!
//! - The **node thread** owns the node. A turn takes everything that waits, steps the node with
//!   each, polls it once and carries out the effects in their order: that is what makes many
//!   writes share one fdatasync. It ticks by the monotonic clock.
//! - The **log thread** owns the write-ahead log. While it syncs one batch, the next one queues up.
//! - The **checkpoint thread** writes the memory layer into the state store, in small steps.
//!
//! Bounds: requests pass [`Admission`], peer messages an [`Inbox`] of bounded bytes; what the node
//! thread sends to the log is bounded by what it may propose and accept unacknowledged. Nothing
//! here decides anything about the protocol; order and safety are tested in the node.

mod admission;
mod checkpoint_thread;
mod event;
mod fatal;
mod handle;
mod health;
mod log_thread;
mod node_thread;
mod state_dir;
mod ticker;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use admission::{Admission, Permit, RETRY_AFTER};
pub use event::Inbox;
pub use fatal::Fatal;
pub use handle::NodeHandle;
pub use health::{Heartbeat, LogSpace};
pub use node_thread::SendToPeer;
pub use state_dir::{OpenState, StateDirError, dir_name, open as open_state};

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use storage::state::StateStore;
use storage::wal::Wal;
use tokio::sync::watch;

use self::checkpoint_thread::CheckpointThread;
use self::event::Event;
use self::log_thread::LogThread;
use self::node_thread::NodeThread;
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
    /// Its state store.
    pub store: Arc<dyn StateStore>,
    /// The directory of the store.
    pub store_dir: PathBuf,
    /// What was said to it so far.
    pub mailbox: Mailbox,
    /// The queue in front of it.
    pub admission: Arc<Admission>,
    /// Sends to peers.
    pub send: SendToPeer,
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
    stop_checkpoints: Arc<AtomicBool>,
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
        let stop_checkpoints = Arc::new(AtomicBool::new(false));
        let (log, appends) = mpsc::channel();
        let (checkpoints, jobs) = mpsc::channel();
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
            send: parts.send,
            log,
            checkpoints,
            summary,
            heartbeat,
            fatal: parts.fatal.clone(),
            store_dir: parts.store_dir.clone(),
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
        let checkpoint_thread = CheckpointThread {
            jobs,
            store: parts.store,
            dir: parts.store_dir,
            events,
            stop: Arc::clone(&stop_checkpoints),
        };
        let fatal = parts.fatal;
        let threads = vec![
            spawn(&name, "log", &fatal, || log_thread.run())?,
            spawn(&name, "checkpoint", &fatal, || checkpoint_thread.run())?,
            spawn(&name, "node", &fatal, || node_thread.run())?,
        ];
        Ok(Self { handle, stop_checkpoints, threads })
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
        self.stop_checkpoints.store(true, Ordering::Release);
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
