//! How the asynchronous side speaks to a node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use prost::Message;
use proto::{Applied, Code, Failure, NodeId};
use tokio::sync::{oneshot, watch};

use super::admission::{Admission, Permit};
use super::event::{Answer, Event};
use super::health::{Heartbeat, LogSpace};
use crate::node::{Input, Reply, Request, RequestId, Summary, Ticks};

/// How much longer than the request's patience its caller waits for the node's own answer, which
/// says more than "no answer". Covers a tick and a busy machine.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// What a client is asked to wait while the disk is full: the log thread retries each second.
const DISK_FULL_RETRY: Duration = Duration::from_secs(1);

/// A cheap handle to a running node.
#[derive(Clone, Debug)]
pub struct NodeHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    events: mpsc::Sender<Event>,
    /// Ids start at 1: 0 stands for nobody.
    next_request: AtomicU64,
    admission: Arc<Admission>,
    log_space: Arc<LogSpace>,
    heartbeat: Arc<Heartbeat>,
    summary: watch::Receiver<Summary>,
}

impl NodeHandle {
    pub(super) fn new(
        events: mpsc::Sender<Event>,
        admission: Arc<Admission>,
        log_space: Arc<LogSpace>,
        heartbeat: Arc<Heartbeat>,
        summary: watch::Receiver<Summary>,
    ) -> Self {
        Self(Arc::new(Shared {
            events,
            next_request: AtomicU64::new(1),
            admission,
            log_space,
            heartbeat,
            summary,
        }))
    }

    /// Asks the node and waits for its answer, at most `patience` and a little.
    ///
    /// Dropping the future does not take the request back: a write goes on, and its room in the
    /// admission queue is given back when the node answers.
    ///
    /// # Errors
    /// [`Code::QueueFull`] and [`Code::ReadOnly`] before the node saw the request; the node's own
    /// failures; [`Code::WriteTimedOut`] (outcome unknown) or [`Code::ReadTimedOut`] when the node
    /// gave no answer; [`Code::NotReady`] when it has stopped.
    pub async fn call(&self, request: Request, patience: Duration) -> Result<Reply, Failure> {
        let write = matches!(request, Request::Write { .. } | Request::Manage(_));
        if write && self.0.log_space.is_full() {
            return Err(read_only());
        }
        let permit = self.0.admission.admit(request_bytes(&request))?;
        let answered = self.send(request, patience, write, permit)?;
        match tokio::time::timeout(patience + ANSWER_GRACE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(unanswered(write)),
        }
    }

    /// What the node knows about itself, as of now.
    ///
    /// # Errors
    /// [`Code::NotReady`] when the node has stopped or makes no progress.
    pub async fn summary(&self) -> Result<Summary, Failure> {
        let (sender, receiver) = oneshot::channel();
        self.0.events.send(Event::Summarise(sender)).map_err(|_| stopped())?;
        match tokio::time::timeout(ANSWER_GRACE, receiver).await {
            Ok(Ok(summary)) => Ok(summary),
            Ok(Err(_)) | Err(_) => Err(stopped()),
        }
    }

    /// What the node knew about itself at its last tick; changes are announced.
    pub fn summaries(&self) -> watch::Receiver<Summary> {
        self.0.summary.clone()
    }

    /// The queue in front of the node.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.0.admission
    }

    /// Whether the node has replayed its log and takes requests.
    pub fn has_begun(&self) -> bool {
        self.0.heartbeat.has_begun()
    }

    /// Whether the node's loop made progress lately.
    pub fn is_alive(&self) -> bool {
        self.0.heartbeat.is_recent()
    }

    /// Whether the log waits for space on the disk.
    pub fn log_is_full(&self) -> bool {
        self.0.log_space.is_full()
    }

    /// Asks for leadership of every group to go to `to`; it shows in the summary.
    pub fn move_leader(&self, to: NodeId) {
        self.post(Event::Input(Input::MoveLeader(to)));
    }

    pub(super) fn post(&self, event: Event) {
        // A node that has stopped takes no more events; whoever waits notices by its own channel.
        let _ = self.0.events.send(event);
    }

    fn send(
        &self,
        request: Request,
        patience: Duration,
        write: bool,
        permit: Permit,
    ) -> Result<oneshot::Receiver<Result<Reply, Failure>>, Failure> {
        let id = RequestId(self.0.next_request.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = Answer::new(write, permit);
        let event = Event::Call { id, request, patience: ticks(patience), answer };
        match self.0.events.send(event) {
            Ok(()) => Ok(answered),
            Err(_) => Err(stopped().applied(Applied::No)),
        }
    }
}

/// `patience` in ticks, rounded up.
fn ticks(patience: Duration) -> Ticks {
    let ticks = patience.as_nanos().div_ceil(consensus::config::TICK.as_nanos());
    Ticks(u64::try_from(ticks).unwrap_or(u64::MAX))
}

fn request_bytes(request: &Request) -> usize {
    match request {
        Request::Get(get) => get.encoded_len(),
        Request::Range(range) => range.encoded_len(),
        Request::Write { keyspace, write, options } => {
            keyspace.len() + write.encoded_len() + options.causal.len()
        }
        Request::History(history) => history.encoded_len(),
        Request::Manage(command) => command.encoded_len(),
        Request::Keyspaces | Request::Catalogue | Request::Export | Request::Backup => 0,
    }
}

fn read_only() -> Failure {
    Failure::new(Code::ReadOnly, "write", "the disk has no space for the next segment of the log")
        .applied(Applied::No)
        .retry_after(DISK_FULL_RETRY)
}

fn stopped() -> Failure {
    Failure::new(Code::NotReady, "request", "the node has stopped or makes no progress")
}

/// The error for a request that went into the node and never came out.
pub(super) fn unanswered(write: bool) -> Failure {
    if write {
        let why = "the node stopped or stalled before the outcome was known";
        Failure::new(Code::WriteTimedOut, "write", why).applied(Applied::Unknown)
    } else {
        Failure::new(Code::ReadTimedOut, "read", "the node stopped or stalled before it answered")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::EventualOptions;
    use proto::v1;

    fn handle() -> (NodeHandle, mpsc::Receiver<Event>, Arc<LogSpace>) {
        let (events, receiver) = mpsc::channel();
        let log_space = Arc::new(LogSpace::default());
        let (_, summary) = watch::channel(Summary::default());
        let heartbeat = Arc::new(Heartbeat::default());
        let handle =
            NodeHandle::new(events, Arc::default(), Arc::clone(&log_space), heartbeat, summary);
        (handle, receiver, log_space)
    }

    fn put() -> Request {
        Request::Write {
            keyspace: "default".into(),
            write: proto::log::Write::default(),
            options: EventualOptions::default(),
        }
    }

    fn get() -> Request {
        Request::Get(v1::GetRequest::default())
    }

    #[test]
    fn patience_is_rounded_up_to_ticks() {
        let tick = consensus::config::TICK;
        assert_eq!(ticks(Duration::ZERO), Ticks(0));
        assert_eq!(ticks(Duration::from_nanos(1)), Ticks(1));
        assert_eq!(ticks(tick), Ticks(1));
        assert_eq!(ticks(tick * 3 + Duration::from_nanos(1)), Ticks(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_node_leaves_a_write_unknown_and_a_read_failed() {
        let (handle, _events, _) = handle();
        let patience = Duration::from_secs(1);
        let write = handle.call(put(), patience).await.unwrap_err();
        assert_eq!((write.code, write.applied), (Code::WriteTimedOut, Some(Applied::Unknown)));
        let read = handle.call(get(), patience).await.unwrap_err();
        assert_eq!((read.code, read.applied), (Code::ReadTimedOut, None));
        assert_eq!(handle.admission().requests(), 2, "both are still inside the node");
    }

    #[tokio::test]
    async fn a_stopped_node_applies_nothing() {
        let (handle, events, _) = handle();
        drop(events);
        let failure = handle.call(put(), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!((failure.code, failure.applied), (Code::NotReady, Some(Applied::No)));
        assert_eq!(handle.admission().requests(), 0);
        assert_eq!(handle.summary().await.unwrap_err().code, Code::NotReady);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_refuses_writes_and_lets_reads_pass() {
        let (handle, events, log_space) = handle();
        log_space.set_full(true);
        let failure = handle.call(put(), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!((failure.code, failure.applied), (Code::ReadOnly, Some(Applied::No)));
        assert!(events.try_recv().is_err(), "the node never saw the write");
        let read = handle.call(get(), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(read.code, Code::ReadTimedOut, "the read went in");
        log_space.set_full(false);
        let later = handle.call(put(), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(later.code, Code::WriteTimedOut, "the write went in");
    }
}
