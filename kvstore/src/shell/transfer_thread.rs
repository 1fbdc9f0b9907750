//! The thread that serves exports to peers, receives them, and builds states from them.

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
use crate::durable::{BuildStep, BuildTask, DataFiles, Receiver as ExportReceiver, read_chunk};
use crate::node::{Input, NotBuilt};

/// What the node wants done, as its effects of the same names.
#[derive(Debug)]
pub(super) enum TransferJob {
    Serve { to: NodeId, file: Box<ExportFile>, offset: u64, room: ServeRoom },
    Receive { group: GroupId, index: LogIndex, bytes: u64, sha256: [u8; 32] },
    Write { group: GroupId, index: LogIndex, offset: u64, data: Bytes },
    Build { group: GroupId, index: LogIndex, state_dir: String },
    Discard(GroupId),
    RemoveExport(std::path::PathBuf),
    RemoveState(String, Option<Box<dyn Any + Send>>),
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
/// A build takes long, so it runs in steps between the other jobs.
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
        let mut receiver = ExportReceiver::new(self.files.clone());
        let mut builds: Vec<(ExportFile, BuildTask)> = Vec::new();
        loop {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let job = if builds.is_empty() {
                self.jobs.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.jobs.try_recv()
            };
            match job {
                Ok(job) => builds.extend(self.act(&mut receiver, job)),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            if let Some((file, task)) = builds.pop() {
                let (group, index) = (file.header.group, file.header.index);
                match task.step() {
                    Ok(BuildStep::Continue(task)) => builds.push((file, task)),
                    Ok(BuildStep::Done(built)) => {
                        self.tell(Input::Built { group, index, result: Ok(built) });
                    }
                    Err(why) => self.not_built(group, index, why, Some(file)),
                }
            }
        }
    }

    /// A node that has stopped needs no report.
    fn tell(&self, input: Input) {
        let _ = self.events.send(Event::Input(input));
    }

    fn not_built(&self, group: GroupId, index: LogIndex, why: String, file: Option<ExportFile>) {
        let result = Err(Box::new(NotBuilt { why, file }));
        self.tell(Input::Built { group, index, result });
    }

    fn act(
        &self,
        receiver: &mut ExportReceiver,
        job: TransferJob,
    ) -> Option<(ExportFile, BuildTask)> {
        match job {
            TransferJob::Serve { to, file, offset, room } => {
                self.serve(to, &file, offset);
                drop(room);
            }
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
                    Err(why) => {
                        self.not_built(group, index, why, None);
                        return None;
                    }
                };
                match BuildTask::begin(&self.files, file.clone(), &state_dir) {
                    Ok(task) => return Some((file, task)),
                    Err(why) => self.not_built(group, index, why, Some(file)),
                }
            }
            TransferJob::Discard(group) => receiver.discard(group),
            TransferJob::RemoveExport(path) => {
                warn_unless_gone(self.files.disk.remove_file(&path), &path);
            }
            TransferJob::RemoveState(name, state) => {
                drop(state);
                if name.is_empty() {
                    return None;
                }
                warn_unless_gone(self.files.states.remove(&name), Path::new(&name));
            }
        }
        None
    }

    fn serve(&self, to: NodeId, file: &ExportFile, offset: u64) {
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
        let (group, body) = (file.header.group.get(), Some(Body::SnapshotChunk(chunk)));
        (self.send)(to, peer::PeerMessage { group, body });
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
    use super::*;

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
