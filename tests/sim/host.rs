//! A simulated machine: a disk, a state store, and perhaps a running node.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kvstore::node::{Effect, Input, Node, NodeConfig, Summary, Ticket};
use proto::{ClusterId, GroupId, LogIndex, NodeId, log};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use storage::disk::{Disk, SimDisk};
use storage::mvcc::{CheckpointJob, CheckpointProgress, Machine, MachineOptions};
use storage::state::{MemoryStore, StateStore};
use storage::wal::{Recovered, Tail, Wal, WalOptions};

use super::apart::ApartStore;
use super::counters::{Counters, Event};
use super::mutant::Mutant;

/// Segments are small, so that logs roll over within a seed.
const SEGMENT_BYTES: u64 = 256 * 1024;
/// Layers are small, so that checkpoints are frequent.
const CHECKPOINT_LAYER_BYTES: usize = 48 * 1024;
/// The exactly-once table is small, so that evictions are frequent.
const OUTCOMES_MAX: usize = 6;

const WAL_DIR: &str = "/data/wal";
const CLUSTER: ClusterId = ClusterId([7; 16]);

/// A process that runs.
#[derive(Debug)]
pub struct Running {
    /// The shipped core.
    pub node: Node,
    wal: Wal,
    /// Tickets in the open batch that somebody waits for.
    waiting: Vec<Ticket>,
    /// A sync has been scheduled.
    pub syncing: bool,
    /// A poll has been scheduled.
    pub polling: bool,
    checkpoint: Option<(CheckpointJob, Arc<dyn StateStore>)>,
}

/// A machine of the simulated cluster.
#[derive(Debug)]
pub struct Host {
    /// The node's id.
    pub id: NodeId,
    name: String,
    /// Counts starts; events of an earlier start are void.
    pub boot: u64,
    disk: SimDisk,
    store: MemoryStore,
    /// The process, unless it is down.
    pub running: Option<Running>,
    members: Vec<(NodeId, String)>,
    /// The next write to the log is its last.
    dies_writing: bool,
    mutant: Option<Mutant>,
}

impl Host {
    /// A machine whose cluster has formed: the log holds the voters and nothing else.
    pub fn formed(
        id: NodeId,
        members: &[(NodeId, String)],
        mutant: Option<Mutant>,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let disk = SimDisk::new();
        let voters: Vec<u64> = members.iter().map(|(id, _)| id.get()).collect();
        let state = log::GroupState {
            hard_state: Some(log::HardState::default()),
            conf_state: Some(log::ConfState { voters, ..log::ConfState::default() }),
            ..log::GroupState::default()
        };
        let groups = BTreeMap::from([(GroupId::META, state.clone()), (GroupId::DATA, state)]);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        Wal::create(shared, Path::new(WAL_DIR), wal_options(), groups)
            .expect("a fresh disk takes a log");
        disk.crash(rng);
        let name = members.iter().find(|(member, _)| *member == id).map(|(_, name)| name.clone());
        Self {
            id,
            name: name.expect("a host is a member"),
            boot: 0,
            disk,
            store: MemoryStore::new(),
            running: None,
            members: members.to_vec(),
            dies_writing: false,
            mutant,
        }
    }

    /// Starts the process from what the disk holds.
    pub fn start(&mut self, seed: u64, counters: &mut Counters) {
        assert!(self.running.is_none(), "{} runs already", self.name);
        self.boot += 1;
        let (wal, recovered) = self.open_log();
        if matches!(recovered.tail, Tail::Torn { .. }) {
            counters.count(Event::TornTail);
        }
        let store: Arc<dyn StateStore> = Arc::new(self.store.clone());
        let machine = Machine::open(store, machine_options()).expect("the simulated store opens");
        let config = NodeConfig {
            id: self.id,
            name: self.name.clone(),
            cluster: CLUSTER,
            client_address: format!("{}:7610", self.name),
            peer_address: format!("{}:7611", self.name),
            boot: self.boot,
            seed: seed ^ self.id.get() ^ (self.boot << 32),
            checkpoint_layer_bytes: CHECKPOINT_LAYER_BYTES,
        };
        let node = Node::new(config, &self.members, recovered, machine)
            .expect("log and state of a node fit");
        self.running = Some(Running {
            node,
            wal,
            waiting: Vec::new(),
            syncing: false,
            polling: false,
            checkpoint: None,
        });
    }

    /// Makes the next write to the log the last of this process.
    pub fn die_writing(&mut self) {
        self.dies_writing = self.running.is_some();
    }

    /// Takes [`Host::die_writing`] back.
    pub fn live_on(&mut self) {
        self.dies_writing = false;
    }

    /// Whether this write to the log is the last of this process.
    pub fn dies_writing(&self) -> bool {
        self.dies_writing
    }

    fn open_log(&self) -> (Wal, Recovered) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        Wal::open(disk, Path::new(WAL_DIR), wal_options())
            .unwrap_or_else(|error| panic!("{} does not boot: {error}", self.name))
    }

    /// The process dies and the machine loses power: what was not synced may be gone, in any
    /// subset.
    pub fn crash(&mut self, rng: &mut ChaCha8Rng, counters: &mut Counters) {
        let Some(mut running) = self.running.take() else { return };
        self.dies_writing = false;
        counters.count(Event::Crash);
        if running.checkpoint.is_some() {
            counters.count(Event::CrashInCheckpoint);
        }
        if running.wal.pending_bytes() > 0 {
            // Power fails somewhere inside the write and the sync of the open batch.
            let survives = self.disk.counters().operations + rng.random_range(0..4);
            self.disk.halt_at(survives);
            // Fails or not; what the process would have done next never happens.
            drop(running.wal.sync());
        }
        drop(running);
        let before = self.disk.counters().lost_writes;
        self.disk.crash(rng);
        counters.add(Event::LostUnsyncedWrite, self.disk.counters().lost_writes - before);
        self.store.crash(rng);
    }

    /// Notes an append; true if a sync has to be scheduled.
    pub fn append(&mut self, ticket: Ticket, mut frames: Vec<log::Frame>, sync: bool) -> bool {
        let Some(running) = &mut self.running else { return false };
        if self.mutant == Some(Mutant::VoteForgotten) {
            forget_votes(&mut frames);
        }
        running.wal.append(&frames);
        if !sync {
            return false;
        }
        if self.mutant == Some(Mutant::AckBeforeSync) {
            running.node.step(Input::WalDurable(ticket));
        }
        running.waiting.push(ticket);
        !std::mem::replace(&mut running.syncing, true)
    }

    /// The scheduled sync happens: the open batch is written and durable. True if a node heard of
    /// it.
    pub fn sync(&mut self, counters: &mut Counters) -> bool {
        let Some(running) = &mut self.running else { return false };
        running.syncing = false;
        let before = running.wal.stats().segments;
        running.wal.sync().expect("the simulated disk has room and no errors here");
        counters.add(Event::SegmentRoll, running.wal.stats().segments - before);
        let Some(last) = running.waiting.drain(..).next_back() else { return false };
        if self.mutant != Some(Mutant::AckBeforeSync) {
            running.node.step(Input::WalDurable(last));
        }
        true
    }

    /// Takes a checkpoint job.
    pub fn begin_checkpoint(&mut self, job: CheckpointJob) {
        let store: Arc<dyn StateStore> = match self.mutant {
            Some(Mutant::AppliedIndexApart) => Arc::new(ApartStore::new(self.store.clone())),
            _ => Arc::new(self.store.clone()),
        };
        if let Some(running) = &mut self.running {
            running.checkpoint = Some((job, store));
        }
    }

    /// One step of the running checkpoint. True if another one follows.
    pub fn step_checkpoint(&mut self, counters: &mut Counters) -> bool {
        let Some(running) = &mut self.running else { return false };
        let Some((job, store)) = &mut running.checkpoint else { return false };
        match job.step(&**store).expect("the simulated store works") {
            CheckpointProgress::Continue => true,
            CheckpointProgress::Done => {
                let index = job.index();
                running.checkpoint = None;
                counters.count(Event::Checkpoint);
                running.node.step(Input::CheckpointDone(index));
                false
            }
        }
    }

    /// Effects of a poll; empty while the process is down.
    pub fn poll(&mut self) -> Vec<Effect> {
        match &mut self.running {
            Some(running) => {
                running.polling = false;
                running.node.poll()
            }
            None => Vec::new(),
        }
    }

    /// What the node says about itself, for a violation's report.
    pub fn describe(&self) -> String {
        match &self.running {
            Some(running) => {
                let Summary {
                    role, leader, term, commit, applied, ready, reads_pending, lag, ..
                } = running.node.summary();
                format!(
                    "{}: {role:?} of term {term}, leader {leader:?}, commit {commit}, applied \
                     {applied}, ready {ready}, reads {reads_pending}, lag {lag:?}",
                    self.name
                )
            }
            None => format!("{}: down", self.name),
        }
    }

    /// Index that the data group has applied; `None` while the process is down.
    pub fn applied(&self) -> Option<LogIndex> {
        self.running.as_ref().map(|running| running.node.machine().applied())
    }

    /// The entries of the data group on this machine's disk, read after a clean stop.
    pub fn entries(&mut self) -> Vec<log::Entry> {
        if let Some(mut running) = self.running.take() {
            running.wal.sync().expect("the simulated disk has room");
        }
        let (_, mut recovered) = self.open_log();
        recovered.groups.remove(&GroupId::DATA).map(|group| group.entries).unwrap_or_default()
    }
}

/// Sizes of the exactly-once table, shared with the oracle's model.
pub fn machine_options() -> MachineOptions {
    MachineOptions { outcomes_max: OUTCOMES_MAX, ..MachineOptions::default() }
}

fn wal_options() -> WalOptions {
    WalOptions { cluster: CLUSTER, segment_bytes: SEGMENT_BYTES }
}

/// Mutant: the vote of a term does not reach the disk.
fn forget_votes(frames: &mut [log::Frame]) {
    for frame in frames {
        if let Some(log::frame::Body::HardState(hard_state)) = &mut frame.body {
            hard_state.vote = 0;
        }
    }
}
