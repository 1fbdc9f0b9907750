//! A simulated machine: a disk, state directories, and perhaps a process.

use std::path::PathBuf;
use std::sync::Arc;

use kvstore::durable::{Damage, DataFiles, Founding, MemoryDirs, OpenError, Opened, first_states};
use kvstore::node::{Effect, Node, NodeBounds, NodeConfig, Summary};
use kvstore::secrets::Entropy;
use proto::{ClusterId, LogIndex, NodeId};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use storage::disk::SimDisk;
use storage::mvcc::MachineOptions;
use storage::wal::{Tail, Wal, WalError, WalOptions};

use super::counters::{Counters, Event};
use super::mutant::{self, Mutant};
use super::patient::Patient;
use super::process::Process;

/// Segments are small, so that logs roll over within a seed.
const SEGMENT_BYTES: u64 = 128 * 1024;
/// Entries behind a checkpoint are few in memory after a start, so that followers need snapshots.
const KEEP_BYTES: u64 = 8 * 1024;
/// Layers are small, so that checkpoints are frequent.
const CHECKPOINT_LAYER_BYTES: usize = 48 * 1024;
/// Exports are frequent, so that logs are freed and followers get snapshots within a seed.
const EXPORT_LOG_BYTES: u64 = 64 * 1024;
/// The exactly-once table is small, so that evictions are frequent.
const OUTCOMES_MAX: usize = 6;

const DATA_DIR: &str = "/data";
const CLUSTER: ClusterId = ClusterId([7; 16]);

/// How a start went.
#[derive(Debug)]
pub enum Started {
    /// The node runs.
    Running,
    /// The files are damaged and are being repaired.
    Repairing,
    /// The files are damaged, and a vote may be forgotten: the member has to be replaced.
    Lost,
    /// There is no room on the disk to start.
    NoRoom,
}

/// A machine of the simulated cluster.
#[derive(Debug)]
pub struct Host {
    /// The node's id; another one after the machine was wiped.
    pub id: NodeId,
    /// The node's name; stays.
    pub name: String,
    /// Counts starts; events of an earlier start are void.
    pub boot: u64,
    /// Its disk.
    pub disk: SimDisk,
    /// Its state directories.
    pub states: MemoryDirs,
    /// The process, while it is a node.
    pub running: Option<Process>,
    /// The process, while it repairs its files.
    pub patient: Option<Patient>,
    /// The process says and does nothing until then.
    pub paused_until: u64,
    /// A fault has damaged its files since they were whole last.
    pub was_damaged: bool,
    /// What its node may hold.
    pub bounds: NodeBounds,
    founding: Founding,
    /// The next write to the log is its last.
    dies_writing: bool,
    mutant: Option<Mutant>,
}

impl Host {
    /// A machine whose cluster has formed: the log holds the voters and nothing else.
    pub fn formed(
        id: NodeId,
        members: &[(NodeId, String)],
        bounds: NodeBounds,
        mutant: Option<Mutant>,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let name = members.iter().find(|(member, _)| *member == id).map(|(_, name)| name.clone());
        let mut host = Self {
            id,
            name: name.expect("a host is a member"),
            boot: 0,
            disk: SimDisk::new(),
            states: MemoryDirs::default(),
            running: None,
            patient: None,
            paused_until: 0,
            was_damaged: false,
            bounds,
            founding: Founding { members: members.to_vec(), joined: false },
            dies_writing: false,
            mutant,
        };
        host.create_log(rng);
        host
    }

    /// The machine loses everything and comes back as `id`, a node that is to join.
    pub fn wipe(&mut self, id: NodeId, rng: &mut ChaCha8Rng) {
        assert!(self.is_down(), "a machine is wiped while it is down");
        self.disk = SimDisk::new();
        self.states = MemoryDirs::default();
        self.was_damaged = false;
        if self.mutant != Some(Mutant::WipedKeepsIdentity) {
            self.id = id;
            self.founding.joined = true;
        }
        self.create_log(rng);
    }

    fn create_log(&mut self, rng: &mut ChaCha8Rng) {
        let mut files = self.files();
        files.disk = Arc::new(self.disk.clone());
        let states = first_states(&self.founding);
        Wal::create(files.disk.clone(), &files.wal_dir(), files.wal.clone(), states)
            .expect("a fresh disk takes a log");
        self.disk.crash(rng);
    }

    /// The files of the node.
    pub fn files(&self) -> DataFiles {
        let wal =
            WalOptions { cluster: CLUSTER, segment_bytes: SEGMENT_BYTES, keep_bytes: KEEP_BYTES };
        let mut files = DataFiles {
            disk: Arc::new(self.disk.clone()),
            dir: PathBuf::from(DATA_DIR),
            cluster: CLUSTER,
            states: Arc::new(self.states.clone()),
            wal,
            machine: machine_options(),
        };
        mutant::tamper_with_disk(self.mutant, &mut files);
        files
    }

    /// What the machine is a member of.
    pub fn founding(&self) -> &Founding {
        &self.founding
    }

    /// Whether no process runs, not even one that repairs.
    pub fn is_down(&self) -> bool {
        self.running.is_none() && self.patient.is_none()
    }

    /// Starts the process from what the disk holds.
    ///
    /// # Errors
    /// The node does not start, for no reason that a fault explains.
    pub fn start(&mut self, seed: u64, counters: &mut Counters) -> Result<Started, String> {
        assert!(self.is_down(), "{} runs already", self.name);
        self.boot += 1;
        self.paused_until = 0;
        let files = self.files();
        let mut opened = files.open(&self.founding);
        if self.mutant == Some(Mutant::DamageTakenForTear) {
            while let Ok(Opened::Damaged(damage)) = &opened {
                let before = self.disk.content(&damage.path);
                mutant::cut_at_damage(&self.disk, &files, damage);
                if before.ok() == self.disk.content(&damage.path).ok() {
                    break;
                }
                opened = files.open(&self.founding);
            }
        }
        let ready = match opened {
            Ok(Opened::Ready(ready)) => ready,
            Ok(Opened::Damaged(damage)) => return self.fall_ill(files, damage, seed, counters),
            Err(error) if has_no_room(&error) => return Ok(Started::NoRoom),
            Err(error) => return Err(format!("{} does not start: {error}", self.name)),
        };
        if matches!(ready.start.recovered.tail, Tail::Torn { .. }) {
            counters.count(Event::TornTail);
        }
        let config = NodeConfig {
            id: self.id,
            name: self.name.clone(),
            cluster: CLUSTER,
            client_address: format!("{}:7610", self.name),
            peer_address: peer_address(&self.name),
            boot: self.boot,
            seed: seed ^ self.id.get() ^ (self.boot << 32),
            entropy: Entropy::predictable(seed ^ self.id.get() ^ (self.boot << 32)),
            checkpoint_layer_bytes: CHECKPOINT_LAYER_BYTES,
            epoch: ready.epoch,
            export_log_bytes: EXPORT_LOG_BYTES,
            log_bytes: ready.wal.bytes_on_disk(),
            bounds: self.bounds,
        };
        let node = Node::new(config, ready.start).map_err(|error| error.to_string())?;
        self.running = Some(Process::new(node, ready.wal, files, self.mutant));
        Ok(Started::Running)
    }

    fn fall_ill(
        &mut self,
        files: DataFiles,
        damage: Damage,
        seed: u64,
        counters: &mut Counters,
    ) -> Result<Started, String> {
        if !self.was_damaged {
            return Err(format!("{} is damaged, and no fault did it: {damage:?}", self.name));
        }
        if damage.refusal().is_some() {
            return Ok(Started::Lost);
        }
        counters.count(Event::DamageFound);
        self.patient = Some(Patient::new(files, damage, seed ^ (self.boot << 17), self.mutant));
        Ok(Started::Repairing)
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

    /// The process dies and the machine loses power: what was not synced may be gone, in any
    /// subset. False if nothing ran.
    pub fn crash(&mut self, rng: &mut ChaCha8Rng, counters: &mut Counters) -> bool {
        if self.is_down() {
            return false;
        }
        self.dies_writing = false;
        counters.count(Event::Crash);
        if self.patient.take().is_some() {
            counters.count(Event::CrashInRepair);
        }
        if let Some(process) = self.running.take() {
            process.note_interrupted(counters);
            // Power fails somewhere inside the write and the sync of the open batch.
            let survives = self.disk.counters().operations + rng.random_range(0..4);
            process.end_writing(|| self.disk.halt_at(survives));
        }
        let before = self.disk.counters().lost_writes;
        self.disk.crash(rng);
        counters.add(Event::LostUnsyncedWrite, self.disk.counters().lost_writes - before);
        self.states.crash(rng);
        true
    }

    /// The process ends in an orderly way. False if none ran.
    pub fn stop(&mut self) -> bool {
        self.dies_writing = false;
        self.patient = None;
        let process = self.running.take();
        let ran = process.is_some();
        if let Some(process) = process {
            process.end_well();
        }
        ran
    }

    /// Effects of a poll; empty while the process is down.
    pub fn poll(&mut self) -> Vec<Effect> {
        match &mut self.running {
            Some(process) => {
                process.polling = false;
                process.node.poll()
            }
            None => Vec::new(),
        }
    }

    /// What the node says about itself, for a violation's report.
    pub fn describe(&self) -> String {
        let Some(process) = &self.running else {
            let what = if self.patient.is_some() { "under repair" } else { "down" };
            return format!("{} ({}): {what}", self.name, self.id);
        };
        let summary = process.node.summary();
        let Summary { role, leader, term, commit, applied, ready, voters, lag, .. } = &summary;
        let Summary { installing, change, groups_led, read_only, .. } = &summary;
        format!(
            "{} ({}): {role:?} of term {term}, leader {leader:?}, commit {commit}, applied \
             {applied}, ready {ready}, voters {voters:?}, lag {lag:?}, installing {installing}, \
             change {change:?}, leads {groups_led} groups, read-only {read_only}",
            self.name, self.id
        )
    }

    /// Index that the data group has applied; `None` while the process is down.
    pub fn applied(&self) -> Option<LogIndex> {
        self.running.as_ref().map(|process| process.node.machine().applied())
    }
}

/// What the nodes of a seed may hold. It is little, so that entries in memory are freed early and
/// followers that are a little behind need snapshots; in every other seed so little that exports are
/// given up, and writes refused until one is done. A state store may take little more than what lives in
/// it, so that it is renewed often.
pub fn bounds(rng: &mut ChaCha8Rng) -> NodeBounds {
    let log_keep_bytes = rng.random_range(2..64) * 1024;
    let log_lagging_bytes = log_keep_bytes * rng.random_range(1..8);
    let (layer_bytes, log_bytes) = if rng.random_bool(0.5) {
        (rng.random_range(16..64) * 1024, rng.random_range(64..512) * 1024)
    } else {
        (1024 * 1024, 8 * 1024 * 1024)
    };
    NodeBounds {
        layer_bytes,
        ahead_bytes: layer_bytes,
        log_bytes,
        log_keep_bytes,
        log_lagging_bytes,
        // In memory nothing is wasted.
        copy_times: 1,
        store_times: rng.random_range(1..4),
        store_slack_bytes: rng.random_range(0..64) * 1024,
        own_entry_bytes: 4 * 1024,
    }
}

/// Bytes of the log on disk that the bounds do not count: what one tick may write, segments that are
/// prepared, kept for reuse, or freed only in part.
pub const LOG_SLACK: u64 = 6 * SEGMENT_BYTES;

/// Where a node of this name listens for peers.
pub fn peer_address(name: &str) -> String {
    format!("{name}:7611")
}

/// Sizes of the exactly-once table, shared with the oracle's model.
pub fn machine_options() -> MachineOptions {
    MachineOptions { outcomes_max: OUTCOMES_MAX, ..MachineOptions::default() }
}

/// Whether a start failed for want of room on the disk.
fn has_no_room(error: &OpenError) -> bool {
    use storage::export::ExportError;
    let full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
    match error {
        OpenError::Log(WalError::Full { .. }) | OpenError::Export(ExportError::Full { .. }) => true,
        OpenError::Log(WalError::Io { source, .. })
        | OpenError::Export(ExportError::Io { source, .. })
        | OpenError::Io { source, .. } => full(source),
        OpenError::Log(_)
        | OpenError::Export(_)
        | OpenError::LogBehind { .. }
        | OpenError::State { .. }
        | OpenError::GroupMissing(_) => false,
    }
}
