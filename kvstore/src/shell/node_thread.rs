//! The thread that owns a node.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::{NodeId, peer, v1};
use storage::export::ExportFile;
use tokio::sync::watch;

use super::event::{Answer, Event};
use super::fatal::Fatal;
use super::health::Heartbeat;
use super::log_thread::Append;
use super::store_thread::{StoreJob, StoreSignals};
use super::ticker::Ticker;
use super::transfer_thread::{ServeRoom, TransferJob};
use crate::durable::StateDirs;
use crate::node::{Effect, Input, Node, RequestId, Summary};

/// Most events taken before the node is polled. Everything in one turn shares one append and one
/// fdatasync; the bound keeps ticks in time under any load.
const EVENTS_PER_TURN_MAX: usize = 4_096;

/// Sends to a peer; never blocks, may lose the message.
pub type SendToPeer = Arc<dyn Fn(NodeId, peer::PeerMessage) + Send + Sync>;

/// Tells the links who belongs to the cluster, and which ids never come back.
pub type TellMembers = Box<dyn Fn(Vec<v1::Member>, BTreeSet<NodeId>) + Send>;

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    End,
}

/// Drives a [`Node`]: one turn takes all events that are there, steps the node with each, polls it
/// once and carries out its effects in their order.
pub(super) struct NodeThread {
    pub(super) node: Node,
    pub(super) events: Receiver<Event>,
    pub(super) send: SendToPeer,
    pub(super) log: Sender<Append>,
    pub(super) store_jobs: Sender<StoreJob>,
    pub(super) store_signals: Arc<StoreSignals>,
    pub(super) transfers: Sender<TransferJob>,
    pub(super) tell_members: TellMembers,
    pub(super) states: Arc<dyn StateDirs>,
    pub(super) summary: watch::Sender<Summary>,
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) fatal: Fatal,
    /// Links that must be up before this node stands for election at once; `None`: it waits for
    /// its election timeout.
    pub(super) campaign_with_links: Option<usize>,
}

impl NodeThread {
    /// Runs until [`Event::Shutdown`], until nobody can send events any more, or until the node
    /// cannot go on.
    pub(super) fn run(self) {
        let Self { events, summary, heartbeat, .. } = self;
        let mut turns = Turns {
            node: self.node,
            send: self.send,
            log: self.log,
            store_jobs: self.store_jobs,
            store_signals: self.store_signals,
            transfers: self.transfers,
            tell_members: self.tell_members,
            states: self.states,
            fatal: self.fatal,
            answers: HashMap::new(),
            campaign: self.campaign_with_links.map(Campaign::new),
            serving: HashMap::new(),
            started: Instant::now(),
        };
        turns.start_campaign();
        turns.tell_time();
        // The first turn takes no event: what was committed before the start is applied before
        // anyone can read (B18).
        let mut flow = turns.carry_out();
        let mut ticker = Ticker::new(consensus::config::TICK, Instant::now());
        publish(&summary, turns.node.summary());
        while flow == Flow::Continue {
            heartbeat.beat(Instant::now());
            let wait =
                if turns.node.wants_poll() { Duration::ZERO } else { ticker.wait(Instant::now()) };
            flow = turns.take_all(&events, wait);
            let ticks = ticker.take(Instant::now());
            if ticks > 0 {
                turns.tell_time();
            }
            for _ in 0..ticks {
                turns.node.step(Input::Tick);
            }
            if turns.carry_out() == Flow::End {
                flow = Flow::End;
            }
            if ticks > 0 || flow == Flow::End {
                publish(&summary, turns.node.summary());
            }
        }
        for answer in turns.answers.into_values() {
            answer.give_up();
        }
    }
}

/// The node with everything its effects need.
struct Turns {
    node: Node,
    send: SendToPeer,
    log: Sender<Append>,
    store_jobs: Sender<StoreJob>,
    store_signals: Arc<StoreSignals>,
    transfers: Sender<TransferJob>,
    tell_members: TellMembers,
    states: Arc<dyn StateDirs>,
    fatal: Fatal,
    /// Requests inside the node. Keyed by ids of our own choosing, so no order is needed.
    answers: HashMap<RequestId, Answer>,
    campaign: Option<Campaign>,
    /// Chunks that wait to be sent, by peer.
    serving: HashMap<NodeId, Arc<AtomicUsize>>,
    /// What the node's monotonic time counts from.
    started: Instant,
}

impl Turns {
    fn tell_time(&mut self) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (monotonic_us, wall_us) = (micros(self.started.elapsed()), micros(wall));
        self.node.step(Input::Time { monotonic_us, wall_us });
    }

    /// Waits at most `wait` for the first event, then takes all that are there.
    fn take_all(&mut self, events: &Receiver<Event>, wait: Duration) -> Flow {
        match events.recv_timeout(wait) {
            Ok(event) => {
                self.tell_time();
                if self.take(event) == Flow::End {
                    return Flow::End;
                }
            }
            Err(RecvTimeoutError::Timeout) => return Flow::Continue,
            Err(RecvTimeoutError::Disconnected) => return Flow::End,
        }
        for _ in 1..EVENTS_PER_TURN_MAX {
            match events.try_recv() {
                Ok(event) => {
                    if self.take(event) == Flow::End {
                        return Flow::End;
                    }
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        Flow::Continue
    }

    fn take(&mut self, event: Event) -> Flow {
        match event {
            Event::Call { id, request, patience, answer } => {
                let older = self.answers.insert(id, answer);
                assert!(older.is_none(), "request id {} is in use", id.0);
                self.node.step(Input::Client { id, request, patience });
            }
            Event::Input(input) => {
                self.watch_links(&input);
                self.node.step(input);
                self.start_campaign();
            }
            Event::Peer { from, message, room } => {
                #[cfg(feature = "lab")]
                let Some(message) = crate::lab::hear(from, message, &*self.send) else {
                    return Flow::Continue;
                };
                self.node.step(Input::Peer { from, message });
                drop(room);
            }
            Event::Summarise(sender) => {
                // The asker may have stopped waiting.
                let _ = sender.send(self.node.summary());
            }
            Event::Shutdown => return Flow::End,
        }
        Flow::Continue
    }

    /// Polls the node once and does what it wants done, in order.
    fn carry_out(&mut self) -> Flow {
        for effect in self.node.poll() {
            match effect {
                Effect::Send { to, message } => (self.send)(to, message),
                Effect::WalAppend { ticket, frames, sync } => {
                    let append = Append { ticket, frames, sync };
                    if self.log.send(append).is_err() {
                        // The log thread has reported why it ended.
                        return Flow::End;
                    }
                }
                Effect::Reply { id, reply } => {
                    let answer = self.answers.remove(&id);
                    answer.expect("a request is answered exactly once").give(reply);
                }
                Effect::Members { members, removed } => (self.tell_members)(members, removed),
                Effect::Checkpoint { id, job, store } => {
                    self.on_store(StoreJob::Checkpoint { id, job: Box::new(job), store });
                }
                Effect::Export { header, source } => {
                    // Whatever was to be given up has ended: the node begins one after the other.
                    self.store_signals.abort_exports.take(header.group);
                    self.on_store(StoreJob::Export { header, source: Box::new(source) });
                }
                Effect::AbortExport(group) => self.store_signals.abort_exports.wish(group),
                Effect::Renew(order) => {
                    // As above: the one before has been reported.
                    self.store_signals.abort_renewals.take(order.group);
                    self.on_store(StoreJob::Renew(Box::new(order)));
                }
                Effect::AbortRenewal(group) => self.store_signals.abort_renewals.wish(group),
                Effect::ServeChunk { to, file, offset } => {
                    self.serve(to, file, offset);
                }
                Effect::CheckExport(file) => self.transfer(TransferJob::Check(Box::new(file))),
                Effect::Receive { group, index, bytes, sha256 } => {
                    self.transfer(TransferJob::Receive { group, index, bytes, sha256 });
                }
                Effect::WriteChunk { group, index, offset, data } => {
                    self.transfer(TransferJob::Write { group, index, offset, data });
                }
                Effect::Build { group, index, state_dir } => {
                    self.transfer(TransferJob::Build { group, index, state_dir });
                }
                Effect::Discard(group) => self.transfer(TransferJob::Discard(group)),
                Effect::RemoveExport(path) => self.transfer(TransferJob::RemoveExport(path)),
                Effect::RemoveState { name, state } => {
                    self.transfer(TransferJob::RemoveState(name, state));
                }
                Effect::StoreSecret(secret) => self.transfer(TransferJob::StoreSecret(secret)),
                Effect::SuspectState(name) => self.give_up_store(&name),
                Effect::Fatal(why) => {
                    self.fatal.report(&why);
                    return Flow::End;
                }
            }
        }
        Flow::Continue
    }

    fn on_store(&self, job: StoreJob) {
        if self.store_jobs.send(job).is_err() {
            tracing::warn!("no checkpoint, export or renewal: their thread has ended");
        }
    }

    /// Lets a chunk be read and sent, unless many wait for this peer already: it asks again.
    fn serve(&mut self, to: NodeId, file: ExportFile, offset: u64) {
        let waiting = self.serving.entry(to).or_default();
        if let Some(room) = ServeRoom::take(waiting) {
            self.transfer(TransferJob::Serve { to, file: Box::new(file), offset, room });
        }
    }

    fn transfer(&self, job: TransferJob) {
        if self.transfers.send(job).is_err() {
            tracing::warn!("no snapshots: their thread has ended");
        }
    }

    /// The state store failed: the next start rebuilds it.
    fn give_up_store(&self, name: &str) {
        if let Err(error) = self.states.mark_suspect(name) {
            tracing::error!(%error, "cannot mark the state directory as suspect");
        }
    }

    fn watch_links(&mut self, input: &Input) {
        let Some(campaign) = &mut self.campaign else { return };
        match input {
            Input::LinkUp(node) => campaign.up.insert(*node),
            Input::LinkDown(node) => campaign.up.remove(node),
            _ => return,
        };
    }

    fn start_campaign(&mut self) {
        if self.campaign.take_if(|campaign| campaign.up.len() >= campaign.links).is_some() {
            self.node.step(Input::Campaign);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// An election that waits for enough voters to be reachable: votes sent before would be lost.
struct Campaign {
    links: usize,
    up: BTreeSet<NodeId>,
}

impl Campaign {
    fn new(links: usize) -> Self {
        Self { links, up: BTreeSet::new() }
    }
}

/// Announces a summary if it differs from the last one; what only counts is not worth waking
/// anyone for, but it is stored.
fn publish(summary: &watch::Sender<Summary>, new: Summary) {
    summary.send_if_modified(|old| {
        let announce = old.ready != new.ready
            || old.role != new.role
            || old.leader != new.leader
            || old.members != new.members
            || old.groups_led != new.groups_led
            || old.change != new.change
            || old.exported != new.exported
            || (old.applied < old.commit) != (new.applied < new.commit);
        *old = new;
        announce
    });
}
