//! The calls of the wire, one type each: what is sent, and what an answer says about the leader.

use std::future::Future;
use std::time::Duration;

use http::Uri;
use proto::v1;
use tonic::{Request, Status};

use crate::connection::Connection;
use crate::write_ids::WriteTicket;

/// Largest answer that is decoded: a full transaction of reads is larger than the default allows.
const REPLY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Whether a call changes anything, which decides what its failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// One call, ready to be sent any number of times.
pub(crate) trait Call: Send + Sync {
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
    })
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
}

/// A request that changes something.
pub(crate) trait WriteRequest: Clone + Send + Sync {
    /// What is asked of what, for errors.
    fn subject(&self) -> String;
}

impl WriteRequest for v1::PutRequest {
    fn subject(&self) -> String {
        format!("write to {}", quoted(&self.key))
    }
}

impl WriteRequest for v1::DeleteRequest {
    fn subject(&self) -> String {
        match &self.range_end[..] {
            [] => format!("delete of {}", quoted(&self.key)),
            _ => format!("delete of the range from {}", quoted(&self.key)),
        }
    }
}

impl WriteRequest for v1::TxnRequest {
    fn subject(&self) -> String {
        let operations = self.then_ops.len() + self.else_ops.len();
        format!("transaction of {operations} operations")
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
    leader_first call.0.level() == v1::Level::Linearizable,
    learned(reply) proven(reply.proof.as_ref()));
call!(Read<v1::RangeRequest>, Read, v1::RangeReply, kv_client::KvClient.range,
    request(call) call.0.clone(), subject format!("list from {}", quoted(&call.0.from)),
    leader_first call.0.level() == v1::Level::Linearizable,
    learned(reply) proven(reply.proof.as_ref()));
call!(Write<v1::PutRequest>, Write, v1::PutReply, kv_client::KvClient.put,
    request(call) v1::PutRequest { id: Some(call.ticket.id()), ..call.request.clone() },
    subject call.request.subject(),
    leader_first true, learned(reply) proven(reply.proof.as_ref()));
call!(Write<v1::DeleteRequest>, Write, v1::DeleteReply, kv_client::KvClient.delete,
    request(call) v1::DeleteRequest { id: Some(call.ticket.id()), ..call.request.clone() },
    subject call.request.subject(),
    leader_first true, learned(reply) proven(reply.proof.as_ref()));
call!(Write<v1::TxnRequest>, Write, v1::TxnReply, kv_client::KvClient.txn,
    request(call) v1::TxnRequest { id: Some(call.ticket.id()), ..call.request.clone() },
    subject call.request.subject(),
    leader_first true, learned(reply) proven(reply.proof.as_ref()));

fn introduced(reply: &v1::HelloReply) -> Learned<'_> {
    let leader = reply.members.iter().find(|member| member.id == reply.leader);
    let leader = leader.map(|leader| leader.client_address.as_str());
    Learned { leader: leader.filter(|address| !address.is_empty()), index: reply.born }
}
