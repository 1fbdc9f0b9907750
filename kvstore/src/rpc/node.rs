//! The service `kv.v1.Node`: one node, for operators.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::v1::node_server::Node;
use proto::v1::{self};
use proto::{Code, Failure};
use storage::backup::encode_head;
use storage::disk::RealDisk;
use storage::export::{ChunkReader, ExportFile};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::front::Front;
use super::manage::{Management, mixed_up};
use crate::logging;
use crate::metrics::Op;
use crate::node::{Backup, Reply, Request as NodeRequest};

/// Parts of a snapshot that are read ahead of the client.
const PARTS_AHEAD: usize = 4;
/// For how long a client that wants a snapshot waits for the export, at most.
const EXPORT_PATIENCE: Duration = Duration::from_secs(600);

/// The handlers.
#[derive(Clone, Debug)]
pub struct NodeService {
    front: Arc<Front>,
    start: Instant,
}

impl NodeService {
    /// Handlers over what `front` shows of the node.
    pub fn new(front: Arc<Front>) -> Self {
        Self { front, start: Instant::now() }
    }

    /// Whether a call is for this node.
    fn check_name(&self, asked: &str) -> Result<String, Failure> {
        let own = &self.front.identity().name;
        if asked.is_empty() || asked == own {
            return Ok(own.clone());
        }
        let why = format!("this is {own}, not {}", asked.escape_default());
        Err(Failure::new(Code::WrongNode, "", why))
    }

    async fn write_export(call: &Management) -> Result<ExportFile, Failure> {
        match call.ask(NodeRequest::Export).await? {
            Reply::Export(file) => Ok(file),
            _ => Err(mixed_up()),
        }
    }

    async fn write_backup(call: &Management) -> Result<Box<Backup>, Failure> {
        match call.ask(NodeRequest::Backup).await? {
            Reply::Backup(backup) => Ok(backup),
            _ => Err(mixed_up()),
        }
    }

    async fn compact_log(
        &self,
        call: &Management,
        name: &str,
    ) -> Result<v1::CompactReply, Failure> {
        let node = self.check_name(name)?;
        let handle = self.front.handle()?;
        let before = handle.summary().await?.log_bytes;
        let file = Self::write_export(call).await?;
        let after = handle.summary().await?.log_bytes;
        Ok(v1::CompactReply {
            node,
            log_bytes_before: before,
            log_bytes_after: after,
            export_bytes: file.bytes,
        })
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn ping(
        &self,
        request: Request<v1::PingRequest>,
    ) -> Result<Response<v1::PingReply>, Status> {
        let (meta, _, request) = request.into_parts();
        let call = Management::new(&self.front, Op::Node, subject(&request.node), &meta);
        let reply = self.check_name(&request.node).map(|node| v1::PingReply {
            node,
            version: client::version::VERSION.to_owned(),
            state: self.front.state().to_string(),
            uptime_ms: u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        call.finish(reply)
    }

    async fn log_level(
        &self,
        request: Request<v1::LogLevelRequest>,
    ) -> Result<Response<v1::LogLevelReply>, Status> {
        let (meta, _, request) = request.into_parts();
        let call = Management::new(&self.front, Op::Node, subject(&request.node), &meta);
        let set = |node| {
            let filter = logging::set_filter(&request.filter)
                .map_err(|why| Failure::new(Code::InvalidRequest, "", why))?;
            Ok(v1::LogLevelReply { node, filter })
        };
        call.finish(self.check_name(&request.node).and_then(set))
    }

    async fn compact(
        &self,
        request: Request<v1::CompactRequest>,
    ) -> Result<Response<v1::CompactReply>, Status> {
        let (meta, _, request) = request.into_parts();
        let call = Management::new(&self.front, Op::Node, subject(&request.node), &meta);
        let reply = self.compact_log(&call, &request.node).await;
        call.finish(reply)
    }

    type SaveSnapshotStream = ReceiverStream<Result<v1::SnapshotPart, Status>>;

    async fn save_snapshot(
        &self,
        request: Request<v1::SaveSnapshotRequest>,
    ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        let (meta, _, _) = request.into_parts();
        let call = Management::new(&self.front, Op::SaveSnapshot, "snapshot", &meta);
        let call = call.with_patience(EXPORT_PATIENCE);
        let (sender, receiver) = mpsc::channel(PARTS_AHEAD);
        // A large state takes long to write; the parts come when it is there.
        tokio::spawn(async move {
            match call.finish(Self::write_backup(&call).await) {
                Ok(backup) => stream(*backup.into_inner(), sender),
                Err(status) => {
                    // The client may be gone.
                    let _ = sender.send(Err(status)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Reads the files part by part, as fast as the client takes them.
fn stream(backup: Backup, sender: mpsc::Sender<Result<v1::SnapshotPart, Status>>) {
    tokio::task::spawn_blocking(move || {
        // They stay open: a newer export takes nothing away from a slow client.
        let opened = backup.files.iter().map(|file| ChunkReader::open(&RealDisk, &file.path));
        let readers = match opened.collect::<Result<Vec<_>, _>>() {
            Ok(readers) => readers,
            Err(error) => return fail(&sender, &error.to_string()),
        };
        let head = backup.head.as_ref().map(encode_head).unwrap_or_default();
        let files: u64 = backup.files.iter().map(|file| file.bytes).sum();
        let total = head.len() as u64 + files;
        // The client may be gone.
        let send = |part| sender.blocking_send(Ok(part)).is_ok();
        if let Some(said) = backup.head {
            let (covered, missing) = (said.covered, said.missing);
            let cover = Some(v1::SnapshotCover { covered, missing });
            if !send(v1::SnapshotPart { data: head.into(), total, cover }) {
                return;
            }
        }
        for (file, reader) in backup.files.iter().zip(readers) {
            let mut offset = 0;
            while offset < file.bytes {
                let data = match reader.read(offset) {
                    Ok(data) if !data.is_empty() => data,
                    Ok(_) => return fail(&sender, "an export has become shorter"),
                    Err(error) => return fail(&sender, &error.to_string()),
                };
                offset += data.len() as u64;
                if !send(v1::SnapshotPart { data: data.into(), total, cover: None }) {
                    return;
                }
            }
        }
    });
}

fn fail(sender: &mpsc::Sender<Result<v1::SnapshotPart, Status>>, why: &str) {
    let failure = Failure::new(Code::ExportFailed, "snapshot", why);
    // The client may be gone.
    let _ = sender.blocking_send(Err(failure.to_status()));
}

fn subject(node: &str) -> String {
    if node.is_empty() { "node".to_owned() } else { format!("node \"{}\"", node.escape_default()) }
}
