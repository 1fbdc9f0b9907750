mod backups;
mod leaving;
mod own;
mod refused_exports;
mod secrets;
mod starting;

use std::collections::VecDeque;

use proto::log::frame::Body as FrameBody;
use proto::{Applied, Code};
use storage::disk::SimDisk;
use storage::export::ExportHeader;
use storage::mvcc::CheckpointProgress;
use storage::state::StateError;
use storage::wal::Wal;

use super::*;
use crate::durable::{
    DataFiles, ExportStep, ExportTask, Founding, Opened, Ready, RenewStep, RenewTask,
};
use crate::shell::testing::{opened, opened_with, put_request};

/// A node of one whose log is synced at once, whose checkpoints take no time, and whose exports take as
/// long as the test wants.
struct Alone {
    node: Node,
    wal: Wal,
    files: DataFiles,
    exporting: VecDeque<(GroupId, ExportTask)>,
    /// The renewal that was begun, and the name of its directory.
    renewing: Option<(String, RenewTask)>,
    /// Renewals that were told to end.
    renewals_given_up: usize,
    /// Names of the state directories that were removed.
    removed: Vec<String>,
    /// Power fails before the log takes the frame that names another state directory.
    dies_at_move: bool,
    dead: bool,
    /// Exports of the data group that were finished, and that were given up.
    finished: usize,
    given_up: usize,
    replies: Vec<Result<Reply, Failure>>,
    requests: u64,
    /// How long the next request waits.
    patience: Ticks,
    /// What it appends as leader never becomes durable.
    silent: bool,
    /// Appends become durable once the test says so.
    holds: bool,
    held: Vec<Ticket>,
    /// Exports that were removed.
    exports_removed: usize,
    /// State directories that were given up.
    suspects: Vec<String>,
}

impl Alone {
    /// One that leads and is ready.
    fn new(opened: (Node, Wal, DataFiles)) -> Self {
        let mut alone = Self::silent(opened);
        alone.silent = false;
        alone.node.step(Input::Campaign);
        for _ in 0..20 {
            alone.poll();
        }
        assert!(alone.node.ready());
        alone
    }

    /// One that is not asked to lead yet, and will not be ready then.
    fn silent((node, wal, files): (Node, Wal, DataFiles)) -> Self {
        Self {
            node,
            wal,
            files,
            exporting: VecDeque::new(),
            renewing: None,
            renewals_given_up: 0,
            removed: Vec::new(),
            dies_at_move: false,
            dead: false,
            finished: 0,
            given_up: 0,
            replies: Vec::new(),
            requests: 0,
            patience: Ticks(1_000),
            silent: true,
            holds: false,
            held: Vec::new(),
            exports_removed: 0,
            suspects: Vec::new(),
        }
    }

    /// Lets ticks pass; exports that run are finished.
    fn pass(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.node.step(Input::Tick);
            self.poll();
            self.step_export();
        }
    }

    /// The answer to a request.
    fn ask(&mut self, request: Request) -> Result<Reply, Failure> {
        self.request(request);
        for _ in 0..400 {
            self.pass(1);
            if let Some(reply) = self.replies.pop() {
                return reply;
            }
        }
        panic!("there is no answer");
    }

    fn request(&mut self, request: Request) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.node.step(Input::Client { id, request, patience: self.patience });
    }

    fn poll(&mut self) {
        for effect in self.node.poll() {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        if let Effect::WalAppend { frames, .. } = &effect {
            let moves = frames.iter().any(|f| matches!(f.body, Some(FrameBody::StateMoved(_))));
            self.dead |= self.dies_at_move && moves;
        }
        if self.dead {
            return;
        }
        match effect {
            Effect::WalAppend { ticket, frames, .. } => {
                self.wal.append(&frames);
                self.wal.sync().unwrap();
                if frames.iter().any(|f| matches!(f.body, Some(FrameBody::LogStart(_)))) {
                    self.wal.free().unwrap();
                }
                let leads = self.node.role_and_term().0 == v1::Role::Leader;
                if self.holds {
                    self.held.push(ticket);
                } else if !(self.silent && leads) {
                    self.node.step(Input::WalDurable(ticket));
                }
            }
            Effect::Reply { reply, .. } => self.replies.push(reply),
            Effect::Checkpoint { id, mut job, store } => {
                while job.step(&*store).unwrap() == CheckpointProgress::Continue {}
                self.node.step(Input::CheckpointDone(id));
            }
            Effect::Export { header, source } => {
                let group = header.group;
                let task = ExportTask::begin(&self.files, header, source).unwrap();
                self.exporting.push_back((group, task));
            }
            Effect::AbortExport(given_up) => {
                let is_meant = |(group, _): &(GroupId, ExportTask)| *group == given_up;
                let running = self.exporting.iter().position(is_meant);
                if let Some(running) = running {
                    let (group, task) = self.exporting.remove(running).expect("it was found");
                    task.give_up();
                    self.given_up += 1;
                    let result = Err(ExportFailed::File("given up".to_owned()));
                    self.node.step(Input::Exported { group, result });
                }
            }
            Effect::RemoveExport(path) => {
                self.files.disk.remove_file(&path).unwrap();
                self.exports_removed += 1;
            }
            Effect::SuspectState(name) => self.suspects.push(name),
            Effect::Renew(order) => {
                let state_dir = order.state_dir.clone();
                let task = RenewTask::begin(&self.files, order).unwrap();
                self.renewing = Some((state_dir, task));
            }
            Effect::AbortRenewal(group) => {
                let (state_dir, task) = self.renewing.take().expect("one runs");
                drop(task);
                self.renewals_given_up += 1;
                let result = Err(RenewFailed::Copy("given up".to_owned()));
                self.node.step(Input::Renewed { group, state_dir, result });
            }
            Effect::RemoveState { name, state } => {
                drop(state);
                self.files.states.remove(&name).unwrap();
                self.removed.push(name);
            }
            Effect::StoreSecret(secret) => {
                let (id, fingerprint) = (secret.id(), secret.fingerprint());
                let written = self.files.secrets().write(&secret).is_ok();
                self.node.step(Input::SecretStored { id, fingerprint, written });
            }
            Effect::Members { .. } | Effect::Send { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    /// The renewal that runs takes all its steps.
    fn finish_renewal(&mut self) {
        let (state_dir, mut task) = self.renewing.take().expect("one runs");
        let renewed = loop {
            match task.step().unwrap() {
                RenewStep::Continue(rest) => task = rest,
                RenewStep::Done(renewed) => break renewed,
            }
        };
        let of_data = state_dir.starts_with("1-");
        let group = if of_data { GroupId::DATA } else { GroupId::EVENTUAL };
        self.node.step(Input::Renewed { group, state_dir, result: Ok(renewed) });
        // The second one knows that the log has taken what the first one appended.
        self.poll();
        self.poll();
    }

    /// A tick with some writes to the same few keys.
    fn overwrite(&mut self) {
        self.put_all((0..4).map(|n| n.to_string()).collect());
    }

    /// As [`Alone::overwrite`], but what is written stays: history is dropped from the layer at once.
    fn grow(&mut self) {
        let written = self.requests;
        self.put_all((0..4).map(|n| format!("{written}-{n}")).collect());
    }

    fn put_all(&mut self, keys: Vec<String>) {
        for key in keys {
            self.request(put_request(&key, &[7; VALUE_BYTES]));
        }
        self.node.step(Input::Tick);
        self.poll();
        self.step_export();
    }

    /// Overwrites until a renewal has begun.
    fn outgrow(&mut self) {
        for _ in 0..2_000 {
            self.overwrite();
            if self.renewing.is_some() {
                return;
            }
        }
        panic!("no renewal was begun, at {} bytes", self.node.machine().store_bytes());
    }

    /// The machine that a start finds.
    fn start_again(self) -> (Machine, Vec<String>) {
        let Self { node, wal, files, .. } = self;
        drop((node, wal));
        let founding = Founding { members: vec![(NodeId(1), "n1".into())], joined: false };
        match files.open(&founding).unwrap() {
            Opened::Ready(Ready { start, .. }) => (start.machine, data_dirs(&files)),
            Opened::Damaged(damage) => panic!("{damage:?}"),
        }
    }

    /// The export that runs takes one step.
    fn step_export(&mut self) {
        let Some((group, task)) = self.exporting.pop_front() else { return };
        match task.step().unwrap() {
            ExportStep::Continue(task) => self.exporting.push_front((group, task)),
            ExportStep::Done(file) => {
                self.finished += usize::from(group == GroupId::DATA);
                self.node.step(Input::Exported { group, result: Ok(file) });
            }
        }
    }
}

/// The state directories of the data group.
fn data_dirs(files: &DataFiles) -> Vec<String> {
    let all = files.states.list().unwrap().into_iter();
    all.filter(|name| name.starts_with("1-")).collect()
}

/// A node that once had more to do than fits into one poll wanted the next one for ever, and its
/// thread never waited again.
#[test]
fn a_poll_is_wanted_until_it_came() {
    let mut alone = Alone::new(opened(&SimDisk::new()));
    assert!(!alone.node.wants_poll());
    // It is parked until a read has told the index, and goes on with a poll of its own.
    alone.request(Request::Export);
    let wanted = (0..20).map(|_| {
        alone.poll();
        alone.node.wants_poll()
    });
    let wanted: Vec<bool> = wanted.collect();
    assert!(wanted.contains(&true), "it was parked");
    assert!(!wanted[10..].contains(&true), "{wanted:?}");
}

fn failure(alone: &mut Alone) -> Failure {
    alone.replies.pop().expect("it was answered").expect_err("it timed out")
}

#[test]
fn an_export_that_takes_longer_than_its_client_waits_says_so() {
    let mut alone = Alone::new(opened(&SimDisk::new()));
    alone.request(put_request("a", b"1"));
    alone.poll();
    alone.poll();
    assert!(matches!(alone.replies.pop(), Some(Ok(Reply::Write { .. }))));
    alone.patience = Ticks(10);
    alone.request(Request::Export);
    for _ in 0..12 {
        alone.poll();
        alone.node.step(Input::Tick);
    }
    alone.poll();
    assert!(!alone.exporting.is_empty());
    let failure = failure(&mut alone);
    assert_eq!((failure.code, failure.applied), (Code::ReadTimedOut, None));
    assert!(failure.why.contains("takes longer"), "{failure:?}");
}

/// A leader whose first entry is not durable serves no read, so a name cannot be looked up.
#[test]
fn a_request_that_waits_for_a_read_says_what_it_waited_for() {
    let (node, wal, files) = opened(&SimDisk::new());
    let mut alone = Alone::silent((node, wal, files));
    alone.node.step(Input::Campaign);
    for _ in 0..20 {
        alone.poll();
    }
    assert_eq!(alone.node.role_and_term().0, v1::Role::Leader);
    assert!(!alone.node.ready());
    alone.patience = Ticks(5);
    let Request::Write { write, options, .. } = put_request("a", b"1") else {
        unreachable!("a write")
    };
    alone.request(Request::Write { keyspace: "unknown".into(), write, options });
    for _ in 0..6 {
        alone.node.step(Input::Tick);
    }
    alone.poll();
    let late = failure(&mut alone);
    assert_eq!((late.code, late.applied), (Code::NoLeader, Some(Applied::No)));
    assert!(late.why.contains("keyspace"), "{late:?}");
    alone.request(Request::Export);
    for _ in 0..6 {
        alone.node.step(Input::Tick);
    }
    alone.poll();
    let late = failure(&mut alone);
    assert_eq!(late.code, Code::ReadTimedOut);
    assert!(late.why.contains("no export was begun"), "{late:?}");
}

const BOUND: u64 = 256 * 1024;
const LAYER: usize = 64 * 1024;
const VALUE_BYTES: usize = 1_000;

/// What a load that never pauses came to.
struct Loaded {
    alone: Alone,
    log_bytes_max: u64,
    layer_bytes_max: usize,
}

/// Writes without pause, while an export takes longer than the layer takes to fill.
fn load(bounds: NodeBounds, rounds: usize) -> Loaded {
    let mut alone = Alone::new(opened_with(&SimDisk::new(), |config| {
        config.export_log_bytes = BOUND / 4;
        config.bounds = bounds;
    }));
    let (mut log_bytes_max, mut layer_bytes_max) = (0, 0);
    for round in 0..rounds {
        for n in 0..4 {
            alone.request(put_request(&format!("{round}-{n}"), &[7; VALUE_BYTES]));
        }
        alone.node.step(Input::Tick);
        alone.poll();
        if round % 20 == 0 {
            alone.step_export();
        }
        log_bytes_max = log_bytes_max.max(alone.wal.bytes_on_disk());
        layer_bytes_max = layer_bytes_max.max(alone.node.machine().layer_bytes());
    }
    Loaded { alone, log_bytes_max, layer_bytes_max }
}

#[test]
fn log_and_memory_stay_bounded_under_sustained_load_and_exports_get_done() {
    let bounds = NodeBounds { layer_bytes: LAYER, log_bytes: BOUND, ..NodeBounds::default() };
    let Loaded { alone, log_bytes_max, layer_bytes_max } = load(bounds, 4_000);
    let (refused, done): (Vec<_>, Vec<_>) = alone.replies.iter().partition(|reply| reply.is_err());
    println!(
        "log {log_bytes_max}, layer {layer_bytes_max}, exports {} and {} given up, {} writes done and {} \
         refused",
        alone.finished,
        alone.given_up,
        done.len(),
        refused.len()
    );
    // A batch of this test, and the segments that are prepared or only partly freed.
    let slack = 4 * alone.files.wal.segment_bytes;
    assert!(log_bytes_max <= 2 * BOUND + slack, "the log had {log_bytes_max} bytes");
    assert!(layer_bytes_max <= 3 * LAYER, "the layer had {layer_bytes_max} bytes");
    assert!(alone.given_up > 0 && alone.finished >= 3, "{} finished", alone.finished);
    assert!(done.len() > refused.len() / 10, "writes get through in between");
    for refusal in refused {
        let failure = refusal.as_ref().unwrap_err();
        assert_eq!((failure.code, failure.applied), (Code::QueueFull, Some(Applied::No)));
        assert!(failure.retry_after.is_some());
    }
    assert_eq!(alone.replies.len() as u64, alone.requests, "every write is answered");
}

#[test]
fn without_a_bound_of_the_log_no_export_gets_done() {
    let bounds =
        NodeBounds { layer_bytes: LAYER, log_bytes: u64::MAX / 8, ..NodeBounds::default() };
    let Loaded { alone, log_bytes_max, .. } = load(bounds, 4_000);
    let (finished, given_up) = (alone.finished, alone.given_up);
    println!("log {log_bytes_max}, exports {finished} and {given_up} given up");
    assert!(given_up > finished, "{finished} done and {given_up} given up");
    assert!(log_bytes_max > 4 * BOUND, "the log had {log_bytes_max} bytes");
}

/// Asks for an export twice, each of which fails like this. Returns how often one of the data
/// group was begun, and the state directories that were given up.
fn exports_fail(with: impl Fn() -> ExportFailed) -> (usize, Vec<String>) {
    let (mut node, mut wal, _files) = opened(&SimDisk::new());
    node.step(Input::Campaign);
    let (mut exports, mut suspects) = (0, Vec::new());
    for tick in 0..600 {
        if tick == 100 || tick == 400 {
            let (id, request, patience) = (RequestId(tick), Request::Export, Ticks(1_000));
            node.step(Input::Client { id, request, patience });
        }
        node.step(Input::Tick);
        for effect in node.poll() {
            match effect {
                Effect::WalAppend { ticket, frames, .. } => {
                    wal.append(&frames);
                    wal.sync().unwrap();
                    node.step(Input::WalDurable(ticket));
                }
                Effect::Checkpoint { id, mut job, store } => {
                    while job.step(&*store).unwrap() == CheckpointProgress::Continue {}
                    node.step(Input::CheckpointDone(id));
                }
                Effect::Export { header: ExportHeader { group, .. }, .. } => {
                    exports += usize::from(group == GroupId::DATA);
                    let failed = match group {
                        GroupId::DATA => with(),
                        _ => ExportFailed::File("no room".to_owned()),
                    };
                    node.step(Input::Exported { group, result: Err(failed) });
                }
                Effect::SuspectState(name) => suspects.push(name),
                _ => {}
            }
        }
    }
    (exports, suspects)
}

#[test]
fn a_store_that_cannot_be_exported_is_exported_no_more_and_a_file_is_tried_again() {
    let file = || ExportFailed::File("no room".to_owned());
    assert_eq!(exports_fail(file), (2, Vec::new()));
    let store = || ExportFailed::Store(StateError::Poisoned);
    assert_eq!(exports_fail(store), (1, Vec::new()), "the next start decides what becomes of it");
}

/// A node that keeps little history, and whose store is renewed when it takes more than twice what lives
/// in it.
fn growing(layer_bytes: usize) -> Alone {
    let mut alone = Alone::new(opened_with(&SimDisk::new(), |config| {
        config.checkpoint_layer_bytes = LAYER / 4;
        let bounds = NodeBounds::default();
        config.bounds = NodeBounds {
            layer_bytes,
            copy_times: 1,
            store_times: 2,
            store_slack_bytes: 8 * LAYER as u64,
            ..bounds
        };
    }));
    let settings = v1::keyspace::Settings { history_revisions: 10, ..Default::default() };
    let keyspace =
        v1::Keyspace { name: "default".into(), settings: Some(settings), ..Default::default() };
    let step = log::put_keyspace::Step::Set.into();
    let put = log::PutKeyspace { step, keyspace: Some(keyspace) };
    let body = Some(log::command::Body::PutKeyspace(put));
    alone.request(Request::Manage(log::Command { body }));
    for _ in 0..40 {
        alone.node.step(Input::Tick);
        alone.poll();
    }
    assert!(matches!(alone.replies.pop(), Some(Ok(Reply::Managed(_)))));
    // What lives is known from an export.
    assert!(matches!(alone.ask(Request::Export), Ok(Reply::Export(_))));
    alone
}

#[test]
fn a_store_that_outgrows_what_lives_in_it_is_renewed_and_its_directory_goes_once_the_log_knows() {
    let mut alone = growing(usize::MAX / 8);
    alone.outgrow();
    let old = alone.node.state_dir().to_owned();
    let grown = alone.node.machine().store_bytes();
    // Whatever is written meanwhile stays in memory, however much that is.
    for _ in 0..50 {
        alone.grow();
    }
    assert!(alone.node.machine().layer_bytes() > LAYER, "no checkpoint runs beside a renewal");
    alone.finish_renewal();
    assert!(alone.node.machine().store_bytes() < grown / 2);
    assert_ne!(alone.node.state_dir(), old);
    assert_eq!(alone.removed, [old], "the log takes the frame at once here");
    for _ in 0..50 {
        alone.overwrite();
    }
    let (applied, digest) = {
        let machine = alone.node.machine();
        assert!(machine.checkpointed().get() + 400 > machine.applied().get(), "they go on");
        (machine.applied(), machine.digest().unwrap())
    };
    let dir = alone.node.state_dir().to_owned();
    let (node, wal) = (&alone.node, &alone.wal);
    assert_eq!(wal.group_state(GroupId::DATA).unwrap().state_dir, node.state_dir());
    let log: Vec<log::Entry> = entries_behind(&alone);
    let (mut machine, dirs) = alone.start_again();
    assert_eq!(dirs, [dir]);
    let found = machine.applied();
    for entry in log.iter().filter(|entry| entry.index > found.get()) {
        let command = crate::replication::raft::command_of(entry);
        machine.apply(LogIndex(entry.index), Term(entry.term), command.as_ref()).unwrap();
    }
    assert_eq!((machine.applied(), machine.digest().unwrap()), (applied, digest));
}

/// The entries that the log on disk holds of the data group behind the newest checkpoint.
fn entries_behind(alone: &Alone) -> Vec<log::Entry> {
    let machine = alone.node.machine();
    let (from, to) = (machine.checkpointed(), machine.applied());
    let mut entries = Vec::new();
    let mut visit = |entry: log::Entry| -> Result<(), std::convert::Infallible> {
        entries.push(entry);
        Ok(())
    };
    let Alone { files, .. } = alone;
    let (dir, options) = (files.wal_dir(), &files.wal);
    let disk = files.disk.as_ref();
    storage::wal::replay(disk, &dir, options, GroupId::DATA, from, to, &mut visit).unwrap();
    entries
}

#[test]
fn without_the_frame_the_old_directory_counts_and_the_copy_is_removed() {
    let mut alone = growing(usize::MAX / 8);
    alone.outgrow();
    let old = alone.node.state_dir().to_owned();
    let (checkpointed, removed) = (alone.node.machine().checkpointed(), alone.removed.len());
    alone.dies_at_move = true;
    alone.finish_renewal();
    assert!(alone.dead && alone.node.state_dir() != old);
    assert_eq!(alone.removed.len(), removed, "the log does not know of the new one");
    assert_eq!(data_dirs(&alone.files).len(), 2);
    let (machine, dirs) = alone.start_again();
    assert_eq!((machine.applied(), dirs), (checkpointed, vec![old]));
    machine.verify().unwrap();
}

#[test]
fn a_renewal_that_delays_a_checkpoint_is_given_up_and_tried_again_elsewhere() {
    let mut alone = growing(LAYER);
    alone.outgrow();
    let (old, first) =
        (alone.node.state_dir().to_owned(), alone.renewing.as_ref().unwrap().0.clone());
    for _ in 0..100 {
        alone.grow();
        if alone.renewing.is_none() {
            break;
        }
    }
    assert_eq!(alone.renewals_given_up, 1);
    alone.poll();
    assert_eq!((alone.node.state_dir(), &alone.removed[..]), (&old[..], &[first.clone()][..]));
    let checkpointed = alone.node.machine().checkpointed();
    alone.outgrow();
    assert!(alone.node.machine().checkpointed() > checkpointed, "checkpoints had their turn");
    assert_ne!(alone.renewing.as_ref().unwrap().0, first);
    alone.finish_renewal();
    assert_eq!(alone.removed, [first, old]);
}

#[test]
fn on_a_full_disk_no_renewal_begins_and_one_that_is_done_is_not_taken() {
    let mut alone = growing(usize::MAX / 8);
    alone.outgrow();
    let (old, copy) =
        (alone.node.state_dir().to_owned(), alone.renewing.as_ref().unwrap().0.clone());
    alone.node.step(Input::LogFull(true));
    alone.finish_renewal();
    assert_eq!((alone.node.state_dir(), &alone.removed[..]), (&old[..], &[copy][..]));
    for _ in 0..1_000 {
        alone.node.step(Input::Tick);
        alone.poll();
    }
    assert!(alone.renewing.is_none());
    alone.node.step(Input::LogFull(false));
    alone.outgrow();
}

#[test]
fn a_store_that_cannot_be_copied_is_not_copied_again_before_the_next_start() {
    let mut alone = growing(usize::MAX / 8);
    alone.outgrow();
    let (state_dir, task) = alone.renewing.take().unwrap();
    drop(task);
    let result = Err(RenewFailed::Store(StateError::Poisoned));
    alone.node.step(Input::Renewed { group: GroupId::DATA, state_dir, result });
    let checkpointed = alone.node.machine().checkpointed();
    for _ in 0..500 {
        alone.node.step(Input::Tick);
        alone.poll();
    }
    assert!(alone.renewing.is_none());
    assert_eq!(alone.node.machine().checkpointed(), checkpointed);
}

/// A copy for which there is no room fills the disk each time it is tried.
#[test]
fn renewals_that_fail_are_tried_ever_more_rarely() {
    let mut alone = growing(usize::MAX / 8);
    alone.outgrow();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let (state_dir, task) = alone.renewing.take().unwrap();
        drop(task);
        let result = Err(RenewFailed::Copy("there is no room".to_owned()));
        alone.node.step(Input::Renewed { group: GroupId::DATA, state_dir, result });
        let mut waited = 0;
        while alone.renewing.is_none() {
            alone.overwrite();
            waited += 1;
            assert!(waited < 10_000, "it is tried again");
        }
        waits.push(waited);
    }
    assert!(waits[0] >= 200 && waits[1] >= 400 && waits[2] >= 800, "{waits:?}");
}

fn get_request(key: &'static str) -> Request {
    let key = key.as_bytes().into();
    Request::Get(v1::GetRequest { keyspace: "default".into(), key, ..v1::GetRequest::default() })
}

/// What a read finds damaged was answered with an internal error, each time, and the store stayed in use.
#[test]
fn damage_that_a_read_finds_ends_the_store_and_sends_the_client_elsewhere() {
    let mut alone = Alone::new(opened(&SimDisk::new()));
    // The second checkpoint takes the first key out of memory.
    for key in ["a", "b"] {
        alone.ask(put_request(key, &[7; VALUE_BYTES])).unwrap();
        assert!(matches!(alone.ask(Request::Export), Ok(Reply::Export(_))));
    }
    assert!(alone.ask(get_request("a")).is_ok());
    let store = alone.files.states.open(alone.node.state_dir()).unwrap();
    let items: Vec<_> = store.scan(&[0; 7], &[0xff; 32]).map(Result::unwrap).collect();
    for (key, value) in items.into_iter().filter(|(_, value)| value.len() > VALUE_BYTES) {
        store.write(&[(key, Some([&value[..], b"x"].concat().into()))]).unwrap();
    }
    for _ in 0..2 {
        let failure = alone.ask(get_request("a")).expect_err("it does not verify");
        assert_eq!(failure.code, Code::NotReady, "{failure}");
    }
    assert_eq!(alone.suspects, [alone.node.state_dir()], "the next start builds it anew");
    alone.ask(put_request("c", b"1")).unwrap();
    assert!(alone.ask(get_request("c")).is_ok(), "what is in memory is served");
    // Nothing will be exported before that start, so nobody waits for it.
    let failure = alone.ask(Request::Export).expect_err("there is no store to export");
    assert_eq!(failure.code, Code::ExportFailed, "{failure}");
}

/// 1,000 writes a tick leave 20,000 revisions a second behind; one compaction passes 10,000.
#[test]
fn history_keeps_up_with_the_load() {
    const WRITES: u64 = 1_000;
    let mut alone = Alone::new(opened(&SimDisk::new()));
    let settings = v1::keyspace::Settings { history_revisions: 100, ..Default::default() };
    let name = "default".to_owned();
    let keyspace = v1::Keyspace { name, settings: Some(settings), ..v1::Keyspace::default() };
    let step = log::put_keyspace::Step::Set.into();
    let put = log::PutKeyspace { step, keyspace: Some(keyspace) };
    let body = Some(log::command::Body::PutKeyspace(put));
    alone.ask(Request::Manage(log::Command { body })).unwrap();
    alone.pass(20);
    for _ in 0..50 {
        for n in 0..WRITES {
            alone.request(put_request(&format!("{}", n % 10), b"1"));
        }
        alone.pass(1);
    }
    let machine = alone.node.machine();
    let (id, now) = (KeyspaceId::DEFAULT, machine.revision(KeyspaceId::DEFAULT).get());
    let kept = now - machine.compacted(id).get();
    assert!(now > 40 * WRITES && kept < 10 * WRITES, "{kept} of {now} are kept");
}

/// The log does not begin with the newer export before the disk says so: until then a start needs the
/// older one.
#[test]
fn an_older_export_stays_until_the_log_begins_with_the_newer_one() {
    let mut alone = Alone::new(opened(&SimDisk::new()));
    // The node's addresses are in the catalogue then.
    alone.pass(30);
    alone.ask(put_request("a", b"1")).unwrap();
    alone.ask(Request::Export).unwrap();
    alone.ask(put_request("b", b"1")).unwrap();
    alone.request(Request::Export);
    while alone.exporting.is_empty() {
        alone.node.step(Input::Tick);
        alone.poll();
    }
    // From here on nothing becomes durable.
    alone.holds = true;
    alone.pass(3 * exports::KEEP_TICKS);
    assert!(!alone.held.is_empty() && alone.finished == 2);
    assert_eq!(alone.exports_removed, 0);
    alone.holds = false;
    for ticket in std::mem::take(&mut alone.held) {
        alone.node.step(Input::WalDurable(ticket));
    }
    alone.pass(exports::KEEP_TICKS - 10);
    assert_eq!(alone.exports_removed, 0, "who reads it has some time");
    alone.pass(20);
    assert_eq!(alone.exports_removed, 1);
}

/// A damaged export was offered for as long as it was the newest.
#[test]
fn a_damaged_export_is_followed_by_another_one() {
    let mut alone = Alone::new(opened(&SimDisk::new()));
    // The node's addresses are in the catalogue then.
    alone.pass(30);
    alone.ask(put_request("a", b"1")).unwrap();
    let Ok(Reply::Export(file)) = alone.ask(Request::Export) else { panic!("no export") };
    let (group, index) = (GroupId::DATA, file.header.index);
    assert_eq!(alone.finished, 1);
    alone.node.step(Input::ExportDamaged { group, index });
    assert!(alone.node.exports.find(group, &file.sha256, Ticks(0)).is_none());
    alone.pass(50);
    assert_eq!((alone.finished, alone.exports_removed), (2, 0), "the new one has taken its place");
    assert!(alone.node.exports.newest(group).is_some());
    // Once more, with a newer one to take its place.
    alone.ask(put_request("b", b"1")).unwrap();
    alone.node.step(Input::ExportDamaged { group, index });
    alone.pass(50);
    assert_eq!(alone.finished, 3);
    alone.pass(2 * exports::KEEP_TICKS);
    assert!(alone.files.disk.open(&file.path, storage::disk::OpenMode::Read).is_err());
}

#[test]
fn a_node_without_room_takes_only_entries_that_it_has_or_that_hold_nothing() {
    let entry = |index, term, data: &'static [u8]| log::Entry {
        index,
        term,
        data: data.into(),
        ..log::Entry::default()
    };
    let append = |entries: &[log::Entry]| peer::RaftMessage {
        kind: RaftKind::Append.into(),
        entries: entries.to_vec(),
        ..peer::RaftMessage::default()
    };
    let in_log = |index, term| index <= LogIndex(5) && term == Term(1);
    let taken = |entries: &[log::Entry]| {
        without_new_content(append(entries), in_log).map(|m| m.entries.len())
    };
    let (held, full, empty) = (entry(5, 1, b"x"), entry(6, 2, b"x"), entry(6, 2, b""));
    assert_eq!(taken(&[]), Some(0), "a probe, or news of what is committed");
    assert_eq!(taken(std::slice::from_ref(&empty)), Some(1));
    assert_eq!(taken(&[empty.clone(), full.clone(), empty.clone()]), Some(1));
    assert_eq!(taken(&[full.clone(), empty.clone()]), None);
    assert_eq!(taken(&[held.clone(), full]), Some(1));
    assert_eq!(taken(&[held, empty]), Some(2));
    assert_eq!(taken(&[entry(5, 2, b"x")]), None, "another leader's entry of an index that it has");
}
