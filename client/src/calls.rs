//! The calls of the wire, one type each: what is sent, and what an answer says about the leader.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use proto::v1;
use tonic::{Request, Status, Streaming};

use crate::connection::Connection;
use crate::write_ids::WriteTicket;

/// Largest answer that is decoded: a full transaction of reads is larger than the default allows.
const REPLY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Whether a call changes anything, which decides what its failure means and when it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes nothing: repeated whatever happened.
    Read,
    /// Carries an id under which it executes at most once: repeated whatever happened.
    Write,
    /// Changes something and carries no id: repeated only while it was certainly not applied.
    Manage,
}

/// Where a write may be repeated once an attempt of it may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// At any node: they all know its id.
    Anywhere,
    /// At the node that took that attempt alone, as only that one knows its id.
    There,
    /// At any node as another write, which supersedes nothing: it may execute more than once.
    AsAnother,
}

/// How a call is repeated; see [`Call`].
pub(crate) trait Repeated: Sized {
    /// Where.
    fn repeat(&self) -> Repeat {
        Repeat::Anywhere
    }

    /// The same as another write, which supersedes nothing; for [`Repeat::AsAnother`].
    fn another(&self) -> Option<Self> {
        None
    }
}

/// One call, ready to be sent any number of times.
pub(crate) trait Call: Repeated + Send + Sync {
    /// What answers it.
    type Reply: Send;
    /// Whether it changes anything.
    const KIND: Kind;

    /// What is asked of what, for errors.
    fn subject(&self) -> String;

    /// Whether the leader answers it with fewer hops than others.
    fn leader_first(&self) -> bool;

    /// Sends it once. The server is told how long the caller waits.
    fn send(
        &self,
        connection: Connection,
        origin: Uri,
        patience: Duration,
    ) -> impl Future<Output = Result<Self::Reply, Status>> + Send;

    /// What an answer says besides answering.
    fn learned(reply: &Self::Reply) -> Learned<'_>;
}

/// What an answer says about the cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Learned<'a> {
    /// The leader's client address, where the answer names one.
    pub(crate) leader: Option<&'a str>,
    /// A log index that the cluster has reached.
    pub(crate) index: u64,
    /// What a write to an eventual keyspace came to.
    pub(crate) written: Option<&'a v1::Written>,
}

fn request<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

fn proven(proof: Option<&v1::Proof>) -> Learned<'_> {
    proof.map_or(Learned::default(), |proof| Learned {
        leader: Some(proof.leader_address.as_str()).filter(|address| !address.is_empty()),
        index: proof.index,
        written: None,
    })
}

fn proven_write<'a>(proof: Option<&'a v1::Proof>, written: Option<&'a v1::Written>) -> Learned<'a> {
    Learned { written, ..proven(proof) }
}

/// A level that was left to the server is taken for the strongest.
fn wants_leader(level: v1::Level) -> bool {
    match level {
        v1::Level::Unspecified | v1::Level::Linearizable => true,
        v1::Level::Quorum | v1::Level::Bounded | v1::Level::Session | v1::Level::Eventual => false,
    }
}

fn quoted(key: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(key))
}

/// A read call: its request is sent as it is.
pub(crate) struct Read<R>(pub(crate) R);

/// A write call: its request is sent with the id of its ticket.
pub(crate) struct Write<R> {
    pub(crate) request: R,
    pub(crate) ticket: WriteTicket,
    pub(crate) repeat: Repeat,
}

/// A call that changes the cluster itself: its request is sent as it is, and has no id.
pub(crate) struct Manage<R>(pub(crate) R);

/// A request that reads a keyspace.
pub(crate) trait ReadRequest: Send + Sync {
    /// The keyspace.
    fn keyspace(&self) -> &str;

    /// The level.
    fn level(&mut self) -> &mut i32;
}

macro_rules! read_request {
    ($($request:ty),+) => {$(
        impl ReadRequest for $request {
            fn keyspace(&self) -> &str {
                &self.keyspace
            }

            fn level(&mut self) -> &mut i32 {
                &mut self.level
            }
        }
    )+};
}

read_request!(v1::GetRequest, v1::RangeRequest, v1::HistoryRequest);

impl<R> Repeated for Read<R> {}

impl<R> Repeated for Manage<R> {}

impl<R: WriteRequest> Repeated for Write<R> {
    fn repeat(&self) -> Repeat {
        self.repeat
    }

    fn another(&self) -> Option<Self> {
        let mut request = self.request.clone();
        let is_delete = request.is_delete();
        if let Some(causal) = request.causal() {
            // A delete that supersedes nothing deletes nothing. What the client has read it may end twice; without
            // a token it would end what others wrote since.
            if is_delete && causal.token.is_empty() {
                return None;
            }
            if !is_delete {
                causal.token.clear();
                *causal.beside = true;
            }
        }
        Some(Self { request, ticket: self.ticket.another(), repeat: self.repeat })
    }
}

/// A request that changes something.
pub(crate) trait WriteRequest: Clone + Send + Sync {
    /// What is asked of what, for errors.
    fn subject(&self) -> String;

    /// The keyspace it is for.
    fn keyspace(&self) -> &str;

    /// Whether it only ends what is there.
    fn is_delete(&self) -> bool {
        false
    }

    /// The key, where it is one, and the causal token it is written with.
    fn causal(&mut self) -> Option<Causal<'_>> {
        None
    }
}

/// The part of a write to one key that says what it supersedes.
pub(crate) struct Causal<'a> {
    pub(crate) key: &'a Bytes,
    pub(crate) token: &'a mut Bytes,
    pub(crate) beside: &'a mut bool,
}

impl WriteRequest for v1::PutRequest {
    fn subject(&self) -> String {
        format!("write to {}", quoted(&self.key))
    }

    fn keyspace(&self) -> &str {
        &self.keyspace
    }

    fn causal(&mut self) -> Option<Causal<'_>> {
        let Self { key, causal, beside, .. } = self;
        Some(Causal { key, token: causal, beside })
    }
}

impl WriteRequest for v1::DeleteRequest {
    fn subject(&self) -> String {
        match &self.range_end[..] {
            [] => format!("delete of {}", quoted(&self.key)),
            _ => format!("delete of the range from {}", quoted(&self.key)),
        }
    }

    fn is_delete(&self) -> bool {
        true
    }

    fn keyspace(&self) -> &str {
        &self.keyspace
    }

    fn causal(&mut self) -> Option<Causal<'_>> {
        let Self { key, range_end, causal, beside, .. } = self;
        range_end.is_empty().then_some(Causal { key, token: causal, beside })
    }
}

impl WriteRequest for v1::TxnRequest {
    fn subject(&self) -> String {
        let operations = self.then_ops.len() + self.else_ops.len();
        format!("transaction of {operations} operations")
    }

    fn keyspace(&self) -> &str {
        &self.keyspace
    }
}

/// Implements [`Call`] for one RPC. The request and the subject are expressions of `self`.
macro_rules! call {
    ($call:ty, $kind:ident, $reply:ty, $service:ident::$client:ident.$method:ident,
        request($this:ident) $request:expr, subject $subject:expr,
        leader_first $first:expr, learned($answer:ident) $learned:expr) => {
        impl Call for $call {
            type Reply = $reply;
            const KIND: Kind = Kind::$kind;

            fn subject(&self) -> String {
                let $this = self;
                let _ = $this;
                $subject
            }

            fn leader_first(&self) -> bool {
                let $this = self;
                let _ = $this;
                $first
            }

            async fn send(
                &self,
                connection: Connection,
                origin: Uri,
                patience: Duration,
            ) -> Result<Self::Reply, Status> {
                let $this = self;
                let _ = $this;
                let message = $request;
                v1::$service::$client::with_origin(connection, origin)
                    .max_decoding_message_size(REPLY_BYTES_MAX)
                    .$method(request(message, patience))
                    .await
                    .map(tonic::Response::into_inner)
            }

            fn learned($answer: &Self::Reply) -> Learned<'_> {
                $learned
            }
        }
    };
}

call!(Read<v1::HelloRequest>, Read, v1::HelloReply, kv_client::KvClient.hello,
    request(call) call.0, subject "hello".to_owned(),
    leader_first false, learned(reply) introduced(reply));
call!(Read<v1::StatusRequest>, Read, v1::StatusReply, cluster_client::ClusterClient.status,
    request(call) call.0, subject "cluster status".to_owned(),
    leader_first false, learned(_reply) Learned::default());
call!(Read<v1::GetRequest>, Read, v1::GetReply, kv_client::KvClient.get,
    request(call) call.0.clone(), subject format!("read of {}", quoted(&call.0.key)),
    leader_first wants_leader(call.0.level()),
    learned(reply) proven(reply.proof.as_ref()));
call!(Read<v1::RangeRequest>, Read, v1::RangeReply, kv_client::KvClient.range,
    request(call) call.0.clone(), subject format!("list from {}", quoted(&call.0.from)),
    leader_first wants_leader(call.0.level()),
    learned(reply) proven(reply.proof.as_ref()));
call!(Read<v1::HistoryRequest>, Read, v1::HistoryReply, kv_client::KvClient.history,
    request(call) call.0.clone(), subject format!("history of {}", quoted(&call.0.key)),
    leader_first wants_leader(call.0.level()),
    learned(reply) proven(reply.proof.as_ref()));
call!(Write<v1::PutRequest>, Write, v1::PutReply, kv_client::KvClient.put,
    request(call) v1::PutRequest { id: Some(call.ticket.id()), ..call.request.clone() },
    subject call.request.subject(),
    leader_first call.repeat == Repeat::Anywhere,
    learned(reply) proven_write(reply.proof.as_ref(), reply.written.as_ref()));
call!(Write<v1::DeleteRequest>, Write, v1::DeleteReply, kv_client::KvClient.delete,
    request(call) v1::DeleteRequest { id: Some(call.ticket.id()), ..call.request.clone() },
    subject call.request.subject(),
    leader_first call.repeat == Repeat::Anywhere,
    learned(reply) proven_write(reply.proof.as_ref(), reply.written.as_ref()));
call!(Write<v1::TxnRequest>, Write, v1::TxnReply, kv_client::KvClient.txn,
    request(call) v1::TxnRequest { id: Some(call.ticket.id()), ..call.request.clone() },
    subject call.request.subject(),
    leader_first true, learned(reply) proven(reply.proof.as_ref()));

call!(Read<v1::MembersRequest>, Read, v1::MembersReply, cluster_client::ClusterClient.members,
    request(call) call.0, subject "list of members".to_owned(),
    leader_first false, learned(_reply) Learned::default());
// A dry run changes nothing.
call!(Read<v1::ChangeMemberRequest>, Read, v1::ChangeMemberReply,
    cluster_client::ClusterClient.change_member,
    request(call) call.0.clone(), subject format!("dry run: {}", member_change(&call.0)),
    leader_first true, learned(_reply) Learned::default());
call!(Manage<v1::ChangeMemberRequest>, Manage, v1::ChangeMemberReply,
    cluster_client::ClusterClient.change_member,
    request(call) call.0.clone(), subject member_change(&call.0),
    leader_first true, learned(_reply) Learned::default());
call!(Manage<v1::MoveLeaderRequest>, Manage, v1::MoveLeaderReply,
    cluster_client::ClusterClient.move_leader,
    request(call) call.0.clone(), subject format!("move of the leader to {:?}", call.0.to),
    leader_first true, learned(_reply) Learned::default());

call!(Read<v1::ListKeyspacesRequest>, Read, v1::ListKeyspacesReply,
    keyspaces_client::KeyspacesClient.list,
    request(call) call.0.clone(), subject "list of keyspaces".to_owned(),
    leader_first false, learned(_reply) Learned::default());
call!(Manage<v1::CreateKeyspaceRequest>, Manage, v1::KeyspaceReply,
    keyspaces_client::KeyspacesClient.create,
    request(call) call.0.clone(),
    subject format!("creation of keyspace {:?}", call.0.keyspace.as_ref().map_or("", |new| &new.name)),
    leader_first true, learned(_reply) Learned::default());
call!(Manage<v1::SetKeyspaceRequest>, Manage, v1::KeyspaceReply,
    keyspaces_client::KeyspacesClient.set,
    request(call) call.0.clone(), subject format!("change of keyspace {:?}", call.0.name),
    leader_first true, learned(_reply) Learned::default());
call!(Manage<v1::RemoveKeyspaceRequest>, Manage, v1::KeyspaceReply,
    keyspaces_client::KeyspacesClient.remove,
    request(call) call.0.clone(), subject format!("removal of keyspace {:?}", call.0.name),
    leader_first true, learned(_reply) Learned::default());

call!(Read<v1::PingRequest>, Read, v1::PingReply, node_client::NodeClient.ping,
    request(call) call.0.clone(), subject of_node("ping", &call.0.node),
    leader_first false, learned(_reply) Learned::default());
// Setting it twice is setting it once, and a compaction changes no data: both may be repeated.
call!(Read<v1::LogLevelRequest>, Read, v1::LogLevelReply, node_client::NodeClient.log_level,
    request(call) call.0.clone(), subject of_node("log level", &call.0.node),
    leader_first false, learned(_reply) Learned::default());
call!(Read<v1::CompactRequest>, Read, v1::CompactReply, node_client::NodeClient.compact,
    request(call) call.0.clone(), subject of_node("compaction", &call.0.node),
    leader_first false, learned(_reply) Learned::default());

/// The first part of a snapshot, and the stream of the others.
pub(crate) struct SnapshotBegun {
    pub(crate) first: Option<v1::SnapshotPart>,
    pub(crate) rest: Streaming<v1::SnapshotPart>,
}

/// Answered by the first part: until then another node may be asked.
impl Call for Read<v1::SaveSnapshotRequest> {
    type Reply = SnapshotBegun;
    const KIND: Kind = Kind::Read;

    fn subject(&self) -> String {
        "snapshot".to_owned()
    }

    fn leader_first(&self) -> bool {
        false
    }

    async fn send(
        &self,
        connection: Connection,
        origin: Uri,
        patience: Duration,
    ) -> Result<SnapshotBegun, Status> {
        let reply = v1::node_client::NodeClient::with_origin(connection, origin)
            .max_decoding_message_size(REPLY_BYTES_MAX)
            .save_snapshot(request(self.0, patience))
            .await?;
        let mut rest = reply.into_inner();
        let first = rest.message().await?;
        Ok(SnapshotBegun { first, rest })
    }

    fn learned(_reply: &SnapshotBegun) -> Learned<'_> {
        Learned::default()
    }
}

fn member_change(request: &v1::ChangeMemberRequest) -> String {
    use v1::change_member_request::Kind::{Add, Promote, Remove, Unspecified};
    let verb = match request.kind() {
        Add => "addition",
        Promote => "promotion",
        Remove => "removal",
        Unspecified => "change",
    };
    format!("{verb} of member {:?}", request.name)
}

fn of_node(what: &str, node: &str) -> String {
    if node.is_empty() { what.to_owned() } else { format!("{what} of {node:?}") }
}

fn introduced(reply: &v1::HelloReply) -> Learned<'_> {
    let leader = reply.members.iter().find(|member| member.id == reply.leader);
    let leader = leader.map(|leader| leader.client_address.as_str());
    let leader = leader.filter(|address| !address.is_empty());
    Learned { leader, index: reply.born, written: None }
}
