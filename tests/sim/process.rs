//! A simulated process: the shipped node core with its log and the work that runs beside it.
//!
//! What the threads of the shell do, this does step by step: the log is synced some time after an
//! append, one piece of work on the store runs at a time, chunks are read and written in the order in
//! which the node asks for it, and a build runs in between. A crash may fall between any two steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kvstore::durable::{
    BuildStep, BuildTask, CheckTask, DataFiles, ExportStep, ExportTask, Receiver, RenewStep,
    RenewTask, read_chunk,
};
use kvstore::node::{
    CheckpointId, Effect, ExportFailed, ExportSource, Input, Node, NotBuilt, RenewFailed,
    RenewOrder, RequestId, Ticket,
};
use kvstore::secrets::Secret;
use proto::log::frame::Body as FrameBody;
use proto::peer::peer_message::Body;
use proto::{GroupId, LogIndex, NodeId, log, peer};
use storage::export::{ExportFile, ExportHeader};
use storage::mvcc::{CheckpointJob, CheckpointProgress};
use storage::state::StateStore;
use storage::wal::{Wal, WalError};

use super::apart::ApartStore;
use super::counters::{Counters, Event};
use super::mutant::{self, Mutant};

/// Work on the store.
#[derive(Debug)]
enum StoreJob {
    Checkpoint { id: CheckpointId, job: Box<CheckpointJob>, store: Arc<dyn StateStore> },
    Export { header: ExportHeader, source: Box<ExportSource> },
    Renew(Box<RenewOrder>),
}

/// Work on the store that has begun.
#[derive(Debug)]
enum StoreWork {
    Checkpoint { id: CheckpointId, job: CheckpointJob, store: Arc<dyn StateStore> },
    Export { group: GroupId, task: ExportTask },
    Renewal { group: GroupId, state_dir: String, task: RenewTask },
}

/// Work on exports that come and go.
#[derive(Debug)]
enum Transfer {
    Serve { to: NodeId, file: ExportFile, offset: u64 },
    Check(ExportFile),
    Receive { group: GroupId, index: LogIndex, bytes: u64, sha256: [u8; 32] },
    Write { group: GroupId, index: LogIndex, offset: u64, data: Bytes },
    Build { group: GroupId, index: LogIndex, state_dir: String },
    Discard(GroupId),
    RemoveExport(std::path::PathBuf),
    RemoveState(String),
    StoreSecret(Secret),
}

/// What is left of an effect for the world to do.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are messages, taken apart at once")]
pub enum Wanted {
    /// Send this.
    Send(NodeId, peer::PeerMessage),
    /// Sync the log after a while.
    Sync,
    /// Take a step on the store after a while.
    Store,
    /// Take a step of a transfer after a while.
    Transfer,
    /// Give a client its answer.
    Reply(RequestId, Box<Result<kvstore::node::Reply, proto::Failure>>),
    /// These ids never come back.
    Removed(BTreeSet<NodeId>),
    /// The process ends itself.
    Fatal(String),
}

/// Term and vote by group.
pub type Votes = BTreeMap<GroupId, (u64, u64)>;

fn votes_in(wal: &Wal) -> Votes {
    let vote = |group| {
        let hard_state = wal.group_state(group)?.hard_state?;
        Some((group, (hard_state.term, hard_state.vote)))
    };
    [GroupId::META, GroupId::DATA].into_iter().filter_map(vote).collect()
}

/// What became of a scheduled sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// The node heard of it.
    Done,
    /// The disk is full: try again in a while.
    Full,
    /// The node heard of it, but there is no room for the next segment: look for some in a while.
    Short,
}

/// A process that runs.
#[derive(Debug)]
pub struct Process {
    /// The shipped core.
    pub node: Node,
    /// A poll has been scheduled.
    pub polling: bool,
    wal: Wal,
    files: DataFiles,
    /// The last ticket of the open batch.
    open: Option<Ticket>,
    /// The open batch says that the log of a group begins later.
    frees: bool,
    /// It says that a snapshot is installed.
    installs: u64,
    syncing: bool,
    /// The disk is full: the next segment could not be prepared.
    full: bool,
    /// Full even for what is open.
    blocked: bool,
    /// A look for room is scheduled.
    looking: bool,
    jobs: VecDeque<StoreJob>,
    work: Option<StoreWork>,
    storing: bool,
    /// Groups whose exports, and whose renewals, are to be given up.
    abort_exports: BTreeSet<GroupId>,
    abort_renewals: BTreeSet<GroupId>,
    transfers: VecDeque<Transfer>,
    receiver: Receiver,
    building: Option<(ExportFile, BuildTask)>,
    transferring: bool,
    /// Ids that never come back.
    removed: BTreeSet<NodeId>,
    votes: Votes,
    mutant: Option<Mutant>,
}

impl Process {
    /// A process around a node that was just made.
    pub fn new(node: Node, wal: Wal, files: DataFiles, mutant: Option<Mutant>) -> Self {
        Self {
            node,
            polling: false,
            votes: votes_in(&wal),
            wal,
            receiver: Receiver::new(mutant::receiving(mutant, &files)),
            files,
            open: None,
            frees: false,
            installs: 0,
            syncing: false,
            full: false,
            blocked: false,
            looking: false,
            jobs: VecDeque::new(),
            work: None,
            storing: false,
            abort_exports: BTreeSet::new(),
            abort_renewals: BTreeSet::new(),
            transfers: VecDeque::new(),
            building: None,
            transferring: false,
            removed: BTreeSet::new(),
            mutant,
        }
    }

    /// Takes one effect of the node, and says what is left to do.
    pub fn take(&mut self, effect: Effect) -> Option<Wanted> {
        match effect {
            Effect::Send { to, message } => Some(Wanted::Send(to, message)),
            Effect::Reply { id, reply } => Some(Wanted::Reply(id, Box::new(reply))),
            Effect::WalAppend { ticket, frames, sync } => self.append(ticket, frames, sync),
            Effect::Members { removed, .. } => {
                self.removed.clone_from(&removed);
                Some(Wanted::Removed(removed))
            }
            Effect::Checkpoint { id, job, store } => {
                self.on_store(StoreJob::Checkpoint { id, job: Box::new(job), store })
            }
            Effect::Export { header, source } => {
                self.abort_exports.remove(&header.group);
                if self.mutant_of(header.group) == Some(Mutant::FreedBeforeExport) {
                    self.wal.append(&[mutant::log_start(&header)]);
                    self.frees = true;
                }
                self.on_store(StoreJob::Export { header, source: Box::new(source) })
            }
            Effect::AbortExport(group) => {
                self.abort_exports.insert(group);
                None
            }
            Effect::Renew(order) => {
                self.abort_renewals.remove(&order.group);
                self.on_store(StoreJob::Renew(Box::new(order)))
            }
            Effect::AbortRenewal(group) => {
                self.abort_renewals.insert(group);
                None
            }
            Effect::ServeChunk { to, file, offset } => {
                self.transfer(Transfer::Serve { to, file, offset })
            }
            Effect::CheckExport(file) => self.transfer(Transfer::Check(file)),
            Effect::Receive { group, index, bytes, sha256 } => {
                self.transfer(Transfer::Receive { group, index, bytes, sha256 })
            }
            Effect::WriteChunk { group, index, offset, data } => {
                self.transfer(Transfer::Write { group, index, offset, data })
            }
            Effect::Build { group, index, state_dir } => {
                self.transfer(Transfer::Build { group, index, state_dir })
            }
            Effect::Discard(group) => self.transfer(Transfer::Discard(group)),
            Effect::RemoveExport(path) => self.transfer(Transfer::RemoveExport(path)),
            Effect::RemoveState { name, state } => {
                drop(state);
                if name.is_empty() { None } else { self.transfer(Transfer::RemoveState(name)) }
            }
            Effect::StoreSecret(secret) => self.transfer(Transfer::StoreSecret(secret)),
            // A store in memory does not fail.
            Effect::SuspectState(_) => None,
            Effect::Fatal(why) => Some(Wanted::Fatal(why)),
        }
    }

    fn append(
        &mut self,
        ticket: Ticket,
        mut frames: Vec<log::Frame>,
        sync: bool,
    ) -> Option<Wanted> {
        mutant::tamper_with_frames(self.mutant, &mut frames);
        for frame in &frames {
            let installed = matches!(frame.body, Some(FrameBody::Installed(_)));
            self.installs += u64::from(installed);
            self.frees |= installed || matches!(frame.body, Some(FrameBody::LogStart(_)));
        }
        self.wal.append(&frames);
        self.open = Some(ticket);
        if self.mutant == Some(Mutant::AckBeforeSync) {
            self.node.step(Input::WalDurable(ticket));
        }
        let due = sync && !self.blocked && !std::mem::replace(&mut self.syncing, true);
        due.then_some(Wanted::Sync)
    }

    /// The scheduled sync happens: the open batch is durable, unless the disk is full.
    ///
    /// # Errors
    /// The log failed; the process must end.
    pub fn sync(&mut self, counters: &mut Counters) -> Result<Synced, WalError> {
        self.syncing = false;
        let before = self.wal.stats().segments;
        match self.write_out() {
            Ok(()) => {}
            Err(WalError::Full { .. }) => {
                self.found_full(counters);
                if self.mutant == Some(Mutant::AckWhenFull)
                    && let Some(ticket) = self.open
                {
                    self.node.step(Input::WalDurable(ticket));
                }
                self.blocked = true;
                self.syncing = true;
                return Ok(Synced::Full);
            }
            Err(error) => return Err(error),
        }
        self.blocked = false;
        self.votes = votes_in(&self.wal);
        counters.add(Event::SegmentRoll, self.wal.stats().segments - before);
        counters.add(Event::SnapshotInstalled, std::mem::take(&mut self.installs));
        // The mutant finds out with a batch that does not fit.
        if self.wal.lacks_next() && self.mutant != Some(Mutant::AckWhenFull) {
            self.found_full(counters);
        } else {
            self.found_room(counters);
        }
        if let Some(ticket) = self.open.take()
            && self.mutant != Some(Mutant::AckBeforeSync)
        {
            self.node.step(Input::WalDurable(ticket));
        }
        if std::mem::take(&mut self.frees) && self.wal.free()? > 0 {
            counters.count(Event::LogFreed);
        }
        let looks = self.full && !std::mem::replace(&mut self.looking, true);
        Ok(if looks { Synced::Short } else { Synced::Done })
    }

    /// A log that was stopped by a full disk is written out only once the segment after it is ready.
    fn write_out(&mut self) -> Result<(), WalError> {
        while self.blocked && !self.wal.prepare_step()? {}
        self.wal.sync()
    }

    fn found_full(&mut self, counters: &mut Counters) {
        counters.count(Event::DiskFull);
        if !std::mem::replace(&mut self.full, true) {
            self.node.step(Input::LogFull(true));
        }
    }

    fn found_room(&mut self, counters: &mut Counters) {
        if std::mem::replace(&mut self.full, false) {
            counters.count(Event::DiskFullOver);
            self.node.step(Input::LogFull(false));
        }
    }

    /// A log whose next segment could not be prepared tries again; false once there is nothing to look
    /// for.
    ///
    /// # Errors
    /// The log failed; the process must end.
    pub fn look_for_room(&mut self, counters: &mut Counters) -> Result<bool, WalError> {
        loop {
            match self.wal.prepare_step() {
                Ok(false) => {}
                Ok(true) => break,
                Err(WalError::Full { .. }) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        self.looking = false;
        if !self.blocked {
            self.found_room(counters);
        }
        Ok(false)
    }

    /// The log has been silent for a while: its last batch is sealed.
    ///
    /// # Errors
    /// The log failed; the process must end.
    pub fn seal(&mut self) -> Result<(), WalError> {
        let idle = self.open.is_none() && !self.blocked;
        if idle { self.wal.seal() } else { Ok(()) }
    }

    /// Term and vote of each group as of the last sync: others may have heard of them.
    pub fn votes(&self) -> &Votes {
        &self.votes
    }

    /// Bytes of the log on disk.
    pub fn log_bytes(&self) -> u64 {
        self.wal.bytes_on_disk()
    }

    /// What the log says of a group, synced or not.
    pub fn promised(&self, group: GroupId) -> Option<&log::GroupState> {
        self.wal.group_state(group)
    }

    /// Names of the state directories; `None` while something is under way that may make or remove one.
    pub fn state_dirs_at_rest(&self) -> Option<Vec<String>> {
        let works = self.storing || self.transferring || self.open.is_some();
        let decides = self.polling || self.node.wants_poll() || self.node.summary().installing;
        (!works && !decides).then(|| self.files.states.list().expect("memory works"))
    }

    /// Ends in an orderly way: everything is written, and the last batch sealed.
    pub fn end_well(mut self) {
        if self.wal.sync().is_ok() {
            // Without room nothing is lost that was acknowledged.
            let _ = self.wal.seal();
        }
    }

    /// Ends in the middle of writing the open batch, if there is one.
    pub fn end_writing(mut self, halt: impl FnOnce()) {
        if self.wal.pending_bytes() > 0 {
            halt();
            // Fails or not; what the process would have done next never happens.
            let _ = self.wal.sync();
        }
    }

    /// Notes what a crash at this moment interrupts.
    pub fn note_interrupted(&self, counters: &mut Counters) {
        match &self.work {
            Some(StoreWork::Checkpoint { .. }) => counters.count(Event::CrashInCheckpoint),
            Some(StoreWork::Export { .. }) => counters.count(Event::CrashInExport),
            Some(StoreWork::Renewal { .. }) => counters.count(Event::CrashInRenewal),
            None => {}
        }
        if self.building.is_some() || self.node.summary().installing {
            counters.count(Event::CrashInInstall);
        }
    }

    fn on_store(&mut self, job: StoreJob) -> Option<Wanted> {
        self.jobs.push_back(job);
        (!std::mem::replace(&mut self.storing, true)).then_some(Wanted::Store)
    }

    /// One step on the store; true if another one follows.
    pub fn step_store(&mut self, counters: &mut Counters) -> bool {
        let report = match self.work.take() {
            None => self.begin_store_work(),
            Some(StoreWork::Checkpoint { id, mut job, store }) => match job.step(&*store) {
                Ok(CheckpointProgress::Continue) => {
                    self.work = Some(StoreWork::Checkpoint { id, job, store });
                    None
                }
                Ok(CheckpointProgress::Done) => {
                    counters.count(Event::Checkpoint);
                    Some(Input::CheckpointDone(id))
                }
                Err(_) => Some(Input::CheckpointFailed(id)),
            },
            Some(StoreWork::Export { group, task }) => self.step_export(group, task, counters),
            Some(StoreWork::Renewal { group, state_dir, task }) => {
                self.step_renewal(group, state_dir, task, counters)
            }
        };
        if let Some(input) = report {
            self.node.step(input);
        }
        self.storing = self.work.is_some() || !self.jobs.is_empty();
        self.storing
    }

    fn begin_store_work(&mut self) -> Option<Input> {
        match self.jobs.pop_front()? {
            StoreJob::Checkpoint { id, job, store } => {
                let store: Arc<dyn StateStore> = match self.mutant {
                    Some(Mutant::AppliedIndexApart) => Arc::new(ApartStore::new(store)),
                    _ => store,
                };
                self.work = Some(StoreWork::Checkpoint { id, job: *job, store });
                None
            }
            StoreJob::Export { mut header, mut source } => {
                let group = header.group;
                let mutant = self.mutant_of(group);
                mutant::tamper_with_export(mutant, &mut header, &mut source, &self.removed);
                match ExportTask::begin(&self.files, header, *source) {
                    Ok(task) => {
                        self.work = Some(StoreWork::Export { group, task });
                        None
                    }
                    Err(failed) => Some(Input::Exported { group, result: Err(failed) }),
                }
            }
            StoreJob::Renew(order) => {
                let (group, state_dir) = (order.group, order.state_dir.clone());
                match RenewTask::begin(&self.files, *order) {
                    Ok(task) => {
                        self.work = Some(StoreWork::Renewal { group, state_dir, task });
                        None
                    }
                    Err(failed) => Some(Input::Renewed { group, state_dir, result: Err(failed) }),
                }
            }
        }
    }

    fn step_export(
        &mut self,
        group: GroupId,
        task: ExportTask,
        counters: &mut Counters,
    ) -> Option<Input> {
        if self.abort_exports.remove(&group) {
            task.give_up();
            counters.count(Event::ExportGivenUp);
            let result = Err(ExportFailed::File("it was given up".to_owned()));
            return Some(Input::Exported { group, result });
        }
        match task.step() {
            Ok(ExportStep::Continue(task)) => {
                self.work = Some(StoreWork::Export { group, task });
                None
            }
            Ok(ExportStep::Done(mut file)) => {
                counters.count(Event::ExportWritten);
                file = mutant::tamper_with_file(self.mutant_of(group), &self.files, file);
                Some(Input::Exported { group, result: Ok(file) })
            }
            Err(failed) => Some(Input::Exported { group, result: Err(failed) }),
        }
    }

    fn step_renewal(
        &mut self,
        group: GroupId,
        state_dir: String,
        task: RenewTask,
        counters: &mut Counters,
    ) -> Option<Input> {
        if self.abort_renewals.remove(&group) {
            counters.count(Event::RenewalGivenUp);
            let result = Err(RenewFailed::Copy("it was given up".to_owned()));
            return Some(Input::Renewed { group, state_dir, result });
        }
        match task.step() {
            Ok(RenewStep::Continue(task)) => {
                self.work = Some(StoreWork::Renewal { group, state_dir, task });
                None
            }
            Ok(RenewStep::Done(renewed)) => {
                counters.count(Event::Renewed);
                mutant::tamper_with_copy(self.mutant_of(group), &*renewed);
                Some(Input::Renewed { group, state_dir, result: Ok(renewed) })
            }
            Err(failed) => Some(Input::Renewed { group, state_dir, result: Err(failed) }),
        }
    }

    /// The planted bug, if it sits in what a cluster has in common: those are about groups that others would
    /// miss something of.
    fn mutant_of(&self, group: GroupId) -> Option<Mutant> {
        self.mutant.filter(|_| group != GroupId::EVENTUAL)
    }

    fn transfer(&mut self, job: Transfer) -> Option<Wanted> {
        self.transfers.push_back(job);
        (!std::mem::replace(&mut self.transferring, true)).then_some(Wanted::Transfer)
    }

    /// One step of the transfers. Returns what is to be sent, and whether another step follows.
    pub fn step_transfer(&mut self) -> (Option<(NodeId, peer::PeerMessage)>, bool) {
        let job = self.transfers.pop_front();
        let send = job.and_then(|job| self.act(job));
        if let Some((file, task)) = self.building.take() {
            let (group, index) = (file.header.group, file.header.index);
            match task.step() {
                Ok(BuildStep::Continue(task)) => self.building = Some((file, task)),
                Ok(BuildStep::Done(built)) => {
                    self.node.step(Input::Built { group, index, result: Ok(built) });
                }
                Err(why) => self.not_built(group, index, why, Some(file)),
            }
        }
        self.transferring = self.building.is_some() || !self.transfers.is_empty();
        (send, self.transferring)
    }

    fn act(&mut self, job: Transfer) -> Option<(NodeId, peer::PeerMessage)> {
        match job {
            Transfer::Serve { to, file, offset } => {
                let (group, chunk) = (file.header.group.get(), self.serve(&file, offset));
                if chunk.gone {
                    self.check(file);
                }
                let body = Some(Body::SnapshotChunk(chunk));
                return Some((to, peer::PeerMessage { group, body }));
            }
            Transfer::Check(file) => self.check(file),
            // What cannot be written is asked for again, or given up by the node.
            Transfer::Receive { group, index, bytes, sha256 } => {
                drop(self.receiver.begin(group, index, bytes, sha256));
            }
            Transfer::Write { group, index, offset, data } => {
                if self.receiver.write(group, index, offset, &data) == Ok(true) {
                    self.node.step(Input::ChunkWritten { group, index, offset });
                }
            }
            Transfer::Build { group, index, state_dir } => {
                if self.building.is_some() {
                    // One after the other.
                    self.transfers.push_front(Transfer::Build { group, index, state_dir });
                    return None;
                }
                let file = match self.receiver.finish(group, index) {
                    Ok(file) => file,
                    Err(why) => {
                        self.not_built(group, index, why, None);
                        return None;
                    }
                };
                match BuildTask::begin(&self.files, file.clone(), &state_dir) {
                    Ok(task) => self.building = Some((file, task)),
                    Err(why) => self.not_built(group, index, why, Some(file)),
                }
            }
            Transfer::StoreSecret(secret) => {
                let (id, fingerprint) = (secret.id(), secret.fingerprint());
                let written = self.files.secrets().write(&secret).is_ok();
                self.node.step(Input::SecretStored { id, fingerprint, written });
            }
            Transfer::Discard(group) => self.receiver.discard(group),
            // What cannot be removed is removed by the next start.
            Transfer::RemoveExport(path) => drop(self.files.disk.remove_file(&path)),
            Transfer::RemoveState(name) => drop(self.files.states.remove(&name)),
        }
        None
    }

    fn not_built(
        &mut self,
        group: GroupId,
        index: LogIndex,
        why: String,
        file: Option<ExportFile>,
    ) {
        let result = Err(Box::new(NotBuilt { why, file }));
        self.node.step(Input::Built { group, index, result });
    }

    /// Reads an export whole.
    fn check(&mut self, file: ExportFile) {
        let (group, index) = (file.header.group, file.header.index);
        let mut task = CheckTask::new(file);
        loop {
            match task.step(self.files.disk.as_ref()) {
                Ok(false) => {}
                Ok(true) => return,
                Err(_) => return self.node.step(Input::ExportDamaged { group, index }),
            }
        }
    }

    fn serve(&self, file: &ExportFile, offset: u64) -> peer::SnapshotChunk {
        let data = read_chunk(self.files.disk.as_ref(), &file.path, offset).unwrap_or_default();
        peer::SnapshotChunk {
            sha256: file.sha256.to_vec().into(),
            index: file.header.index.get(),
            offset,
            gone: data.is_empty(),
            data,
        }
    }
}
