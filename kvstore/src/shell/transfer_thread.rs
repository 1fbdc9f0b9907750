//! The thread that serves exports to peers, receives them, and builds states from them. It writes secrets
//! too.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use bytes::Bytes;
use proto::peer::peer_message::Body;
use proto::{GroupId, LogIndex, NodeId, peer};
use storage::export::ExportFile;

use super::event::Event;
use super::node_thread::SendToPeer;
use crate::durable::{
    BuildStep, BuildTask, CheckTask, DataFiles, Receiver as ExportReceiver, read_chunk,
};
use crate::node::{Input, NotBuilt};
use crate::secrets::Secret;

/// What the node wants done, as its effects of the same names.
#[derive(Debug)]
pub(super) enum TransferJob {
    Serve { to: NodeId, file: Box<ExportFile>, offset: u64, room: ServeRoom },
    Check(Box<ExportFile>),
    Receive { group: GroupId, index: LogIndex, bytes: u64, sha256: [u8; 32] },
    Write { group: GroupId, index: LogIndex, offset: u64, data: Bytes },
    Build { group: GroupId, index: LogIndex, state_dir: String },
    Discard(GroupId),
    RemoveExport(std::path::PathBuf),
    RemoveState(String, Option<Box<dyn Any + Send>>),
    StoreSecret(Secret),
}

/// Most chunks that wait to be read and sent to one peer. One that fetches two exports as this version
/// does asks for 16 at once.
const SERVES_MAX: usize = 32;

/// Room of one chunk that waits to be sent; given back when dropped.
#[derive(Debug)]
pub(super) struct ServeRoom(Arc<AtomicUsize>);

impl ServeRoom {
    /// Takes room beside what waits already; `None` where that is too much.
    pub(super) fn take(waiting: &Arc<AtomicUsize>) -> Option<Self> {
        // Only one thread takes room.
        if waiting.load(Ordering::Acquire) >= SERVES_MAX {
            return None;
        }
        waiting.fetch_add(1, Ordering::AcqRel);
        Some(Self(Arc::clone(waiting)))
    }
}

impl Drop for ServeRoom {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Moves exports between disk and peers.
///
/// A build and a check take long, so they run in steps between the other jobs.
pub(super) struct TransferThread {
    pub(super) jobs: Receiver<TransferJob>,
    pub(super) files: DataFiles,
    pub(super) send: SendToPeer,
    pub(super) events: Sender<Event>,
    pub(super) stop: Arc<AtomicBool>,
}

impl TransferThread {
    /// Runs until the node thread is gone or told to stop.
    pub(super) fn run(self) {
        let receiver = ExportReceiver::new(self.files.clone());
        let mut work = Work { receiver, builds: Vec::new(), checks: Vec::new() };
        loop {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let job = if work.builds.is_empty() && work.checks.is_empty() {
                self.jobs.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.jobs.try_recv()
            };
            match job {
                Ok(job) => self.act(&mut work, job),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            if let Some((file, task)) = work.builds.pop() {
                let (group, index) = (file.header.group, file.header.index);
                match task.step() {
                    Ok(BuildStep::Continue(task)) => work.builds.push((file, task)),
                    Ok(BuildStep::Done(built)) => {
                        self.tell(Input::Built { group, index, result: Ok(built) });
                    }
                    Err(why) => self.not_built(group, index, why, Some(file)),
                }
            }
            if let Some(mut task) = work.checks.pop() {
                match task.step(self.files.disk.as_ref()) {
                    Ok(false) => work.checks.push(task),
                    Ok(true) => {}
                    Err(why) => self.damaged(task.file(), &why),
                }
            }
        }
    }

    fn damaged(&self, file: &ExportFile, why: &str) {
        tracing::error!(why, path = %file.path.display(), "an export is not what it was");
        let (group, index) = (file.header.group, file.header.index);
        self.tell(Input::ExportDamaged { group, index });
    }

    /// A node that has stopped needs no report.
    fn tell(&self, input: Input) {
        let _ = self.events.send(Event::Input(input));
    }

    fn not_built(&self, group: GroupId, index: LogIndex, why: String, file: Option<ExportFile>) {
        let result = Err(Box::new(NotBuilt { why, file }));
        self.tell(Input::Built { group, index, result });
    }

    fn act(&self, work: &mut Work, job: TransferJob) {
        let receiver = &mut work.receiver;
        match job {
            TransferJob::Serve { to, file, offset, room } => {
                if !self.serve(to, &file, offset) {
                    work.check(*file);
                }
                drop(room);
            }
            TransferJob::Check(file) => work.check(*file),
            TransferJob::Receive { group, index, bytes, sha256 } => {
                if let Err(why) = receiver.begin(group, index, bytes, sha256) {
                    tracing::warn!(%group, %index, why, "a snapshot cannot be received");
                }
            }
            TransferJob::Write { group, index, offset, data } => {
                match receiver.write(group, index, offset, &data) {
                    Ok(true) => self.tell(Input::ChunkWritten { group, index, offset }),
                    // The node asks again, or gives the snapshot up.
                    Ok(false) => {}
                    Err(why) => {
                        tracing::warn!(%group, %index, why, "a snapshot cannot be written");
                    }
                }
            }
            TransferJob::Build { group, index, state_dir } => {
                let file = match receiver.finish(group, index) {
                    Ok(file) => file,
                    Err(why) => return self.not_built(group, index, why, None),
                };
                match BuildTask::begin(&self.files, file.clone(), &state_dir) {
                    Ok(task) => work.builds.push((file, task)),
                    Err(why) => self.not_built(group, index, why, Some(file)),
                }
            }
            TransferJob::StoreSecret(secret) => self.store(&secret),
            TransferJob::Discard(group) => receiver.discard(group),
            TransferJob::RemoveExport(path) => {
                warn_unless_gone(self.files.disk.remove_file(&path), &path);
            }
            TransferJob::RemoveState(name, state) => {
                drop(state);
                if !name.is_empty() {
                    warn_unless_gone(self.files.states.remove(&name), Path::new(&name));
                }
            }
        }
    }

    /// Writes a secret. The node has it written again where that fails.
    fn store(&self, secret: &Secret) {
        let written = self.files.secrets().write(secret);
        if let Err(error) = &written {
            tracing::warn!(%error, id = %secret.id(), "a secret cannot be written");
        }
        let (id, fingerprint, written) = (secret.id(), secret.fingerprint(), written.is_ok());
        self.tell(Input::SecretStored { id, fingerprint, written });
    }

    /// Sends a chunk. False where it cannot be read: then the receiver hears that the export is gone.
    fn serve(&self, to: NodeId, file: &ExportFile, offset: u64) -> bool {
        let chunk = peer::SnapshotChunk {
            sha256: file.sha256.to_vec().into(),
            index: file.header.index.get(),
            offset,
            ..peer::SnapshotChunk::default()
        };
        let chunk = match read_chunk(self.files.disk.as_ref(), &file.path, offset) {
            Ok(data) if !data.is_empty() => peer::SnapshotChunk { data, ..chunk },
            Ok(_) => peer::SnapshotChunk { gone: true, ..chunk },
            Err(error) => {
                tracing::warn!(%error, "an export cannot be read");
                peer::SnapshotChunk { gone: true, ..chunk }
            }
        };
        let readable = !chunk.gone;
        let (group, body) = (file.header.group.get(), Some(Body::SnapshotChunk(chunk)));
        (self.send)(to, peer::PeerMessage { group, body });
        readable
    }
}

/// What the thread is in the middle of.
struct Work {
    receiver: ExportReceiver,
    builds: Vec<(ExportFile, BuildTask)>,
    checks: Vec<CheckTask>,
}

impl Work {
    /// Begins to check an export, unless that has begun.
    fn check(&mut self, file: ExportFile) {
        if self.checks.iter().all(|task| task.file().path != file.path) {
            self.checks.push(CheckTask::new(file));
        }
    }
}

/// What is left is removed by the next start.
fn warn_unless_gone(result: io::Result<()>, what: &Path) {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, what = %what.display(), "cannot be removed");
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use proto::Term;
    use proto::log::{self, export_record::Body as RecordBody};
    use storage::disk::SimDisk;
    use storage::export::{ExportHeader, ExportWriter, path_of};

    use super::*;
    use crate::shell::testing::{CLUSTER, opened};

    /// An export of group 0 at this index.
    fn written(files: &DataFiles, index: u64) -> ExportFile {
        let header = ExportHeader {
            cluster: CLUSTER,
            epoch: 0,
            group: GroupId::META,
            index: LogIndex(index),
            term: Term(1),
            conf_state: log::ConfState::default(),
            change: 0,
        };
        let path = path_of(&files.exports_dir(), header.group, header.index);
        let mut writer = ExportWriter::create(files.disk.clone(), &path, header).unwrap();
        let body = Some(RecordBody::Catalogue(log::CatalogueState::default()));
        writer.push(&log::ExportRecord { body }).unwrap();
        writer.finish().unwrap()
    }

    /// The first cannot be read, the second was changed, the third is whole.
    #[test]
    fn damaged_exports_are_reported_when_they_are_served_or_checked() {
        let disk = SimDisk::new();
        let (_, _, files) = opened(&disk);
        let exports = [1, 2, 3].map(|index| written(&files, index));
        disk.break_sector(&exports[0].path, 0).unwrap();
        disk.flip_bit(&exports[1].path, exports[1].bytes / 2, 1).unwrap();
        let (jobs, taken) = mpsc::channel();
        let (events, told) = mpsc::channel();
        let (sent, chunks) = mpsc::channel();
        let thread = TransferThread {
            jobs: taken,
            files,
            send: Arc::new(move |_, message: peer::PeerMessage| sent.send(message).unwrap()),
            events,
            stop: Arc::default(),
        };
        let room = ServeRoom::take(&Arc::default()).unwrap();
        let file = Box::new(exports[0].clone());
        jobs.send(TransferJob::Serve { to: NodeId(2), file, offset: 0, room }).unwrap();
        for file in &exports[1..] {
            jobs.send(TransferJob::Check(Box::new(file.clone()))).unwrap();
        }
        let running = std::thread::spawn(|| thread.run());
        let mut reported: Vec<LogIndex> = (0..2)
            .map(|_| match told.recv().unwrap() {
                Event::Input(Input::ExportDamaged { group: GroupId::META, index }) => index,
                other => panic!("{other:?}"),
            })
            .collect();
        reported.sort_unstable();
        assert_eq!(reported, [LogIndex(1), LogIndex(2)]);
        let Some(Body::SnapshotChunk(chunk)) = chunks.recv().unwrap().body else {
            panic!("a chunk")
        };
        assert!(chunk.gone);
        drop(jobs);
        running.join().unwrap();
        assert!(told.recv().is_err(), "nothing else is wrong");
    }

    #[test]
    fn chunks_that_wait_for_a_peer_are_bounded() {
        let waiting = Arc::default();
        let mut rooms: Vec<_> = (0..SERVES_MAX).map(|_| ServeRoom::take(&waiting)).collect();
        assert!(rooms.iter().all(Option::is_some));
        assert!(ServeRoom::take(&waiting).is_none());
        rooms.pop();
        assert!(ServeRoom::take(&waiting).is_some());
    }
}
