//! The service `kv.v1.Kv`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::v1::kv_server::Kv;
use proto::v1::{self, Level};
use proto::{Applied, Code, Failure, log};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::convert;
use super::front::Front;
use super::manage::mixed_up;
use super::patience::patience;
use crate::consistency;
use crate::metrics::{Op, Outcome};
use crate::node::{self, Reply};

/// Most bytes of a key that an error repeats: errors travel in headers, which are small.
const SUBJECT_KEY_BYTES_MAX: usize = 64;

/// The handlers: check, convert, ask the node, convert back, measure.
#[derive(Clone, Debug)]
pub struct KvService {
    front: Arc<Front>,
}

/// One request on its way through a handler.
struct Call {
    op: Op,
    level: &'static str,
    /// The first key it names.
    key: Bytes,
    patience: Duration,
    start: Instant,
}

impl Call {
    fn read(op: Op, level: i32, key: &Bytes, metadata: &MetadataMap) -> Self {
        let level = match Level::try_from(level) {
            Ok(Level::Unspecified) => Level::Linearizable,
            Ok(level) => level,
            Err(_) => Level::Unspecified,
        };
        Self::new(op, consistency::name(level), key, metadata)
    }

    fn write(op: Op, key: &Bytes, metadata: &MetadataMap) -> Self {
        Self::new(op, consistency::name(Level::Linearizable), key, metadata)
    }

    fn new(op: Op, level: &'static str, key: &Bytes, metadata: &MetadataMap) -> Self {
        let (key, patience) = (key.clone(), patience(metadata));
        Self { op, level, key, patience, start: Instant::now() }
    }

    fn is_write(&self) -> bool {
        matches!(self.op, Op::Put | Op::Delete | Op::Txn)
    }

    /// Names what failed, and makes certain that a write says whether it was applied.
    fn name(&self, mut failure: Failure) -> Failure {
        let shown = self.key.len().min(SUBJECT_KEY_BYTES_MAX);
        let rest = if shown < self.key.len() { "..." } else { "" };
        let key = self.key[..shown].escape_ascii();
        if self.is_write() {
            failure.applied = failure.applied.or(Some(Applied::Unknown));
            failure.subject(format!("write to \"{key}{rest}\""))
        } else {
            failure.applied = None;
            failure.subject(format!("read of \"{key}{rest}\""))
        }
    }
}

impl KvService {
    /// Handlers over what `front` shows of the node.
    pub fn new(front: Arc<Front>) -> Self {
        Self { front }
    }

    /// Asks the node.
    async fn ask(
        &self,
        call: &Call,
        request: Result<node::Request, Failure>,
    ) -> Result<Reply, Failure> {
        let handle = self.front.handle()?;
        #[cfg(feature = "lab")]
        return crate::lab::ask(&handle, request?, call.patience).await;
        #[cfg(not(feature = "lab"))]
        handle.call(request?, call.patience).await
    }

    async fn ask_write(
        &self,
        call: &Call,
        request: Result<node::Request, Failure>,
    ) -> Result<(log::WriteOutcome, v1::Proof, Option<v1::Written>), Failure> {
        match self.ask(call, request).await? {
            Reply::Write { outcome, proof, written } => Ok((outcome, proof, written)),
            _ => Err(mixed_up().applied(Applied::Unknown)),
        }
    }

    /// Measures the call and turns its result into what tonic sends.
    fn finish<T>(&self, call: &Call, result: Result<T, Failure>) -> Result<Response<T>, Status> {
        let metrics = self.front.metrics();
        let took = call.start.elapsed();
        match result {
            Ok(reply) => {
                metrics.request(call.op, call.level, Outcome::Ok, took);
                Ok(Response::new(reply))
            }
            Err(failure) => {
                let failure = call.name(failure);
                let unknown = failure.applied == Some(Applied::Unknown);
                let outcome = if unknown { Outcome::Unknown } else { Outcome::Failed };
                metrics.request(call.op, call.level, outcome, took);
                if is_level_refusal(failure.code) && !call.is_write() {
                    metrics.consistency_refusal(call.level, failure.code);
                }
                Err(failure.to_status())
            }
        }
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn hello(
        &self,
        request: Request<v1::HelloRequest>,
    ) -> Result<Response<v1::HelloReply>, Status> {
        let call = Call::read(Op::Hello, 0, &Bytes::new(), request.metadata());
        let reply = self.front.hello().await;
        self.finish(&call, reply)
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetReply>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = Call::read(Op::Get, request.level, &request.key, &metadata);
        let reply = match self.ask(&call, convert::get(request)).await {
            Ok(Reply::Get(reply)) => Ok(reply),
            Ok(_) => Err(mixed_up()),
            Err(failure) => Err(failure),
        };
        self.finish(&call, reply)
    }

    async fn range(
        &self,
        request: Request<v1::RangeRequest>,
    ) -> Result<Response<v1::RangeReply>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = Call::read(Op::Range, request.level, &request.from, &metadata);
        let reply = match self.ask(&call, convert::range(request)).await {
            Ok(Reply::Range(reply)) => Ok(reply),
            Ok(_) => Err(mixed_up()),
            Err(failure) => Err(failure),
        };
        self.finish(&call, reply)
    }

    async fn put(
        &self,
        request: Request<v1::PutRequest>,
    ) -> Result<Response<v1::PutReply>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = Call::write(Op::Put, &request.key, &metadata);
        let reply = self.ask_write(&call, convert::put(request)).await;
        let reply =
            reply.and_then(|(outcome, proof, written)| convert::put_reply(outcome, proof, written));
        self.finish(&call, reply)
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteReply>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = Call::write(Op::Delete, &request.key, &metadata);
        let reply = self.ask_write(&call, convert::delete(request)).await;
        let reply = reply
            .and_then(|(outcome, proof, written)| convert::delete_reply(outcome, proof, written));
        self.finish(&call, reply)
    }

    async fn txn(
        &self,
        request: Request<v1::TxnRequest>,
    ) -> Result<Response<v1::TxnReply>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = Call::write(Op::Txn, &first_key(&request), &metadata);
        let reply = self.ask_write(&call, convert::txn(request)).await;
        self.finish(&call, reply.map(|(outcome, proof, _)| convert::txn_reply(outcome, proof)))
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryReply>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = Call::read(Op::History, request.level, &request.key, &metadata);
        let reply = match self.ask(&call, convert::history(request)).await {
            Ok(Reply::History(reply)) => Ok(reply),
            Ok(_) => Err(mixed_up()),
            Err(failure) => Err(failure),
        };
        self.finish(&call, reply)
    }
}

/// Whether the code says that a read's level could not be met.
fn is_level_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::LevelNotOffered
            | Code::NoQuorum
            | Code::NoLeader
            | Code::ReadTimedOut
            | Code::NotReady
    )
}

/// The first key that a transaction names.
fn first_key(request: &v1::TxnRequest) -> Bytes {
    use v1::op::Op;
    let op = request.then_ops.iter().chain(&request.else_ops).find_map(|op| op.op.as_ref());
    match (op, request.compares.first()) {
        (Some(Op::Put(put)), _) => put.key.clone(),
        (Some(Op::Delete(delete)), _) => delete.key.clone(),
        (Some(Op::Get(get)), _) => get.key.clone(),
        (None, Some(compare)) => compare.key.clone(),
        (None, None) => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(op: Op, key: &Bytes) -> Call {
        Call::new(op, "linearizable", key, &MetadataMap::new())
    }

    #[test]
    fn a_write_error_always_says_whether_it_was_applied() {
        let silent = Failure::new(Code::NoLeader, "", "x");
        let named = call(Op::Put, &Bytes::from_static(b"a\n")).name(silent.clone());
        assert_eq!(named.applied, Some(Applied::Unknown));
        assert_eq!(named.subject, "write to \"a\\n\"");
        let certain = call(Op::Txn, &Bytes::new()).name(silent.clone().applied(Applied::No));
        assert_eq!(certain.applied, Some(Applied::No));
        let read = call(Op::Get, &Bytes::new()).name(silent.applied(Applied::No));
        assert_eq!(read.applied, None);
    }

    #[test]
    fn an_error_about_a_long_key_fits_the_headers() {
        let key = Bytes::from(vec![0xff; proto::limits::KEY_BYTES_MAX]);
        let named = call(Op::Put, &key).name(Failure::new(Code::NoLeader, "", "x"));
        assert!(named.subject.ends_with("...\""));
        let headers = named.to_status().into_http::<()>().into_parts().0.headers;
        let bytes: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(bytes < 4_096, "{bytes} bytes of headers");
    }
}
