//! Between what clients say and what a node understands.
//!
//! Put, delete and txn are one thing inside: a write transaction ([`log::Write`]). Everything is
//! checked here, before anything is queued, so a refusal certainly changed nothing.

use bytes::Bytes;
use proto::v1::op_result::Result as OpOutcome;
use proto::v1::{self, Level, op::Op};
use proto::{Applied, ClientId, Code, Failure, limits, log};

use crate::node::Request;
use crate::replication::EventualOptions;

fn malformed(why: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidRequest, "request", why).applied(Applied::No)
}

/// A read of one key.
///
/// # Errors
/// Those of [`limits::check_key`] and [`limits::check_keyspace`]; [`Code::LevelNotOffered`] for a
/// level this version has never heard of.
pub fn get(request: v1::GetRequest) -> Result<Request, Failure> {
    limits::check_keyspace(&request.keyspace)?;
    limits::check_key(&request.key)?;
    known_level(request.level)?;
    Ok(Request::Get(request))
}

/// A read of one page of a range.
///
/// # Errors
/// Those of [`limits::check_range`] and [`limits::check_keyspace`]; [`Code::LevelNotOffered`].
pub fn range(mut request: v1::RangeRequest) -> Result<Request, Failure> {
    limits::check_keyspace(&request.keyspace)?;
    limits::check_range(&request.from, &request.to)?;
    known_level(request.level)?;
    request.limit = page_limit(request.limit);
    Ok(Request::Range(request))
}

/// Items of a page: as many as asked for, at most the largest page, which 0 stands for.
fn page_limit(asked: u32) -> u32 {
    let largest = u32::try_from(limits::PAGE_ITEMS_MAX).expect("a page is small");
    if asked == 0 { largest } else { asked.min(largest) }
}

/// A read of the versions of one key.
///
/// # Errors
/// As [`get`].
pub fn history(mut request: v1::HistoryRequest) -> Result<Request, Failure> {
    limits::check_keyspace(&request.keyspace)?;
    limits::check_key(&request.key)?;
    known_level(request.level)?;
    request.limit = page_limit(request.limit);
    Ok(Request::History(request))
}

/// Writes one key.
///
/// # Errors
/// Those of [`limits::check_txn`]; [`Code::InvalidRequest`] for a bad id or a condition on another
/// key.
pub fn put(request: v1::PutRequest) -> Result<Request, Failure> {
    let options = options(&request.causal, request.ack, request.ttl_ms, request.beside)?;
    let v1::PutRequest { keyspace, id, key, value, condition, prev, .. } = request;
    let compares = condition_on(&key, condition)?;
    let op = Op::Put(v1::PutOp { key, value, prev });
    write(keyspace, id, (compares, vec![v1::Op { op: Some(op) }], Vec::new()), options)
}

/// Deletes one key or a range.
///
/// # Errors
/// As [`put`].
pub fn delete(request: v1::DeleteRequest) -> Result<Request, Failure> {
    let options = options(&request.causal, request.ack, 0, request.beside)?;
    let v1::DeleteRequest { keyspace, id, key, range_end, condition, prev, .. } = request;
    let compares = condition_on(&key, condition)?;
    let op = Op::Delete(v1::DeleteOp { key, range_end, prev });
    write(keyspace, id, (compares, vec![v1::Op { op: Some(op) }], Vec::new()), options)
}

/// A transaction.
///
/// # Errors
/// Those of [`limits::check_txn`]; [`Code::InvalidRequest`] for a bad id.
pub fn txn(request: v1::TxnRequest) -> Result<Request, Failure> {
    let v1::TxnRequest { keyspace, id, compares, then_ops, else_ops } = request;
    write(keyspace, id, (compares, then_ops, else_ops), EventualOptions::default())
}

/// The reply to a put.
///
/// # Errors
/// [`Code::Internal`] when the outcome is not one of a put; the write was applied.
pub fn put_reply(
    outcome: log::WriteOutcome,
    proof: v1::Proof,
    written: Option<v1::Written>,
) -> Result<v1::PutReply, Failure> {
    let (succeeded, revision) = (outcome.succeeded, outcome.revision);
    let prev = match only_result(outcome)? {
        Some(OpOutcome::Put(result)) => result.prev,
        None => None,
        Some(other) => return Err(foreign_result(&other)),
    };
    Ok(v1::PutReply { proof: Some(proof), succeeded, revision, prev, written })
}

/// The reply to a delete.
///
/// # Errors
/// [`Code::Internal`] when the outcome is not one of a delete; the write was applied.
pub fn delete_reply(
    outcome: log::WriteOutcome,
    proof: v1::Proof,
    written: Option<v1::Written>,
) -> Result<v1::DeleteReply, Failure> {
    let (succeeded, revision) = (outcome.succeeded, outcome.revision);
    let (deleted, prev) = match only_result(outcome)? {
        Some(OpOutcome::Delete(result)) => (result.deleted, result.prev),
        None => (0, Vec::new()),
        Some(other) => return Err(foreign_result(&other)),
    };
    Ok(v1::DeleteReply { proof: Some(proof), succeeded, deleted, revision, prev, written })
}

/// The reply to a transaction.
pub fn txn_reply(outcome: log::WriteOutcome, proof: v1::Proof) -> v1::TxnReply {
    let log::WriteOutcome { revision, succeeded, results, .. } = outcome;
    v1::TxnReply { proof: Some(proof), succeeded, revision, results }
}

fn known_level(level: i32) -> Result<(), Failure> {
    match Level::try_from(level) {
        Ok(_) => Ok(()),
        Err(_) => {
            let why = format!("level number {level} is not known to this version");
            Err(Failure::new(Code::LevelNotOffered, "read", why))
        }
    }
}

fn condition_on(key: &Bytes, condition: Option<v1::Compare>) -> Result<Vec<v1::Compare>, Failure> {
    match condition {
        Some(compare) if compare.key != *key => {
            Err(malformed("the condition names another key than the one written"))
        }
        condition => Ok(condition.into_iter().collect()),
    }
}

/// What only writes to eventual keyspaces ask for.
fn options(
    causal: &Bytes,
    ack: i32,
    ttl_ms: u64,
    beside: bool,
) -> Result<EventualOptions, Failure> {
    limits::check_token(causal)?;
    limits::check_ttl(ttl_ms)?;
    let known = v1::Ack::try_from(ack);
    let ack = known.map_err(|_| malformed(format!("ack {ack} is not known to this version")))?;
    // The default of this kind.
    let ack = if ack == v1::Ack::One { v1::Ack::Unspecified } else { ack };
    Ok(EventualOptions { causal: causal.clone(), ack, ttl_ms, beside })
}

type Operations = (Vec<v1::Compare>, Vec<v1::Op>, Vec<v1::Op>);

fn write(
    keyspace: String,
    id: Option<v1::WriteId>,
    (compares, then_ops, else_ops): Operations,
    options: EventualOptions,
) -> Result<Request, Failure> {
    limits::check_keyspace(&keyspace)?;
    limits::check_txn(&compares, &then_ops, &else_ops)?;
    if let Some(id) = &id {
        check_id(id)?;
    }
    // The node fills in the keyspace's number.
    let write = log::Write { keyspace: 0, id, compares, then_ops, else_ops };
    Ok(Request::Write { keyspace, write, options })
}

fn check_id(id: &v1::WriteId) -> Result<(), Failure> {
    if ClientId::from_slice(&id.client_id).is_none() {
        let length = id.client_id.len();
        return Err(malformed(format!("the client id has {length} bytes instead of 16")));
    }
    if id.seq == 0 {
        return Err(malformed("write ids count from 1"));
    }
    if id.first_open == 0 || id.first_open > id.seq {
        let (first_open, seq) = (id.first_open, id.seq);
        return Err(malformed(format!("first_open {first_open} is not in 1..={seq}")));
    }
    Ok(())
}

/// The result of the one operation; `None` when its condition did not hold or the outcome is a
/// replayed one without results.
fn only_result(outcome: log::WriteOutcome) -> Result<Option<OpOutcome>, Failure> {
    if outcome.results.len() > 1 {
        return Err(internal(format!("{} results for one operation", outcome.results.len())));
    }
    Ok(outcome.results.into_iter().next().and_then(|result| result.result))
}

fn foreign_result(result: &OpOutcome) -> Failure {
    let kind = match result {
        OpOutcome::Put(_) => "put",
        OpOutcome::Delete(_) => "delete",
        OpOutcome::Get(_) => "get",
    };
    internal(format!("the result of a {kind} answers another operation"))
}

fn internal(why: String) -> Failure {
    Failure::new(Code::Internal, "write", why).applied(Applied::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &'static str) -> Bytes {
        Bytes::from_static(key.as_bytes())
    }

    fn put_request() -> v1::PutRequest {
        v1::PutRequest {
            keyspace: "default".into(),
            key: key("a"),
            value: key("1"),
            ..v1::PutRequest::default()
        }
    }

    fn write_id() -> v1::WriteId {
        v1::WriteId { client_id: Bytes::from_static(&[7; 16]), seq: 3, first_open: 2, born: 9 }
    }

    #[test]
    fn a_put_becomes_a_transaction_with_its_condition() {
        let condition = v1::Compare { key: key("a"), target: Some(v1::compare::Target::ModRev(4)) };
        let request = v1::PutRequest {
            id: Some(write_id()),
            condition: Some(condition.clone()),
            prev: true,
            ..put_request()
        };
        let Request::Write { keyspace, write, options } = put(request).unwrap() else {
            panic!("a put is a write");
        };
        assert_eq!(keyspace, "default");
        assert!(options.is_default());
        assert_eq!(write.id, Some(write_id()));
        assert_eq!(write.compares, [condition]);
        let op = Op::Put(v1::PutOp { key: key("a"), value: key("1"), prev: true });
        assert_eq!(write.then_ops, [v1::Op { op: Some(op) }]);
        assert!(write.else_ops.is_empty());
    }

    #[test]
    fn refused_writes_are_certainly_not_applied() {
        let other_key =
            v1::Compare { key: key("b"), target: Some(v1::compare::Target::Absent(true)) };
        let id = |change: fn(&mut v1::WriteId)| {
            let mut id = write_id();
            change(&mut id);
            v1::PutRequest { id: Some(id), ..put_request() }
        };
        let cases = [
            (v1::PutRequest { key: Bytes::new(), ..put_request() }, Code::KeyEmpty),
            (v1::PutRequest { keyspace: String::new(), ..put_request() }, Code::InvalidRequest),
            (
                v1::PutRequest {
                    value: Bytes::from(vec![0; limits::VALUE_BYTES_MAX + 1]),
                    ..put_request()
                },
                Code::ValueTooLarge,
            ),
            (v1::PutRequest { condition: Some(other_key), ..put_request() }, Code::InvalidRequest),
            (id(|id| id.client_id = Bytes::from_static(b"short")), Code::InvalidRequest),
            (id(|id| id.seq = 0), Code::InvalidRequest),
            (id(|id| id.first_open = 0), Code::InvalidRequest),
            (id(|id| id.first_open = 4), Code::InvalidRequest),
            (v1::PutRequest { ack: 9, ..put_request() }, Code::InvalidRequest),
            (v1::PutRequest { ttl_ms: u64::MAX, ..put_request() }, Code::InvalidRequest),
            (
                v1::PutRequest {
                    causal: vec![0; limits::TOKEN_BYTES_MAX + 1].into(),
                    ..put_request()
                },
                Code::TokenInvalid,
            ),
        ];
        for (request, code) in cases {
            let failure = put(request).unwrap_err();
            assert_eq!((failure.code, failure.applied), (code, Some(Applied::No)), "{failure}");
        }
    }

    #[test]
    fn unknown_levels_are_refused_not_guessed() {
        let request = v1::GetRequest {
            keyspace: "default".into(),
            key: key("a"),
            level: 77,
            ..Default::default()
        };
        assert_eq!(get(request).unwrap_err().code, Code::LevelNotOffered);
    }

    #[test]
    fn pages_are_bounded() {
        for (asked, given) in [(0, 1_000), (1, 1), (1_000, 1_000), (5_000, 1_000)] {
            let request = v1::RangeRequest {
                keyspace: "default".into(),
                limit: asked,
                ..v1::RangeRequest::default()
            };
            let Request::Range(request) = range(request).unwrap() else {
                panic!("a range is a range");
            };
            assert_eq!(request.limit, given);
        }
    }

    #[test]
    fn outcomes_become_replies() {
        let item = v1::Item { key: key("a"), mod_rev: 2, ..v1::Item::default() };
        let result = |result| v1::OpResult { result: Some(result) };
        let put = v1::PutResult { prev: Some(item.clone()) };
        let delete = v1::DeleteResult { deleted: 2, prev: vec![item.clone()] };
        let outcome = |result| log::WriteOutcome {
            revision: 3,
            succeeded: true,
            results: vec![result],
            ..log::WriteOutcome::default()
        };
        let proof = v1::Proof { revision: 3, ..v1::Proof::default() };

        let reply = put_reply(outcome(result(OpOutcome::Put(put))), proof.clone(), None).unwrap();
        assert_eq!((reply.succeeded, reply.revision, reply.prev), (true, 3, Some(item)));
        let deleted = outcome(result(OpOutcome::Delete(delete)));
        let reply = delete_reply(deleted.clone(), proof.clone(), None).unwrap();
        assert_eq!((reply.deleted, reply.prev.len(), reply.proof), (2, 1, Some(proof.clone())));
        assert_eq!(txn_reply(deleted.clone(), proof.clone()).results, deleted.results);

        let mixed = put_reply(deleted, proof.clone(), None).unwrap_err();
        assert_eq!((mixed.code, mixed.applied), (Code::Internal, Some(Applied::Yes)));
        let lost = log::WriteOutcome { revision: 3, ..log::WriteOutcome::default() };
        let reply = put_reply(lost, proof, None).unwrap();
        assert_eq!((reply.succeeded, reply.prev), (false, None));
    }
}
