//! Short names for long messages.

use bytes::Bytes;
use proto::{KeyspaceId, log, v1};

use v1::compare::Target;

pub fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> v1::Op {
    op(v1::op::Op::Put(v1::PutOp { key: bytes(key), value: bytes(value), prev: false }))
}

pub fn get(key: impl AsRef<[u8]>) -> v1::Op {
    op(v1::op::Op::Get(v1::GetOp { key: bytes(key) }))
}

pub fn delete(key: impl AsRef<[u8]>) -> v1::Op {
    delete_range(key, "")
}

pub fn delete_range(from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> v1::Op {
    let delete = v1::DeleteOp { key: bytes(from), range_end: bytes(to), prev: false };
    op(v1::op::Op::Delete(delete))
}

/// The same operation, asking for what it replaces.
pub fn prev(mut op: v1::Op) -> v1::Op {
    match &mut op.op {
        Some(v1::op::Op::Put(put)) => put.prev = true,
        Some(v1::op::Op::Delete(delete)) => delete.prev = true,
        other => panic!("{other:?} replaces nothing"),
    }
    op
}

fn op(op: v1::op::Op) -> v1::Op {
    v1::Op { op: Some(op) }
}

pub fn compare(key: impl AsRef<[u8]>, target: Target) -> v1::Compare {
    v1::Compare { key: bytes(key), target: Some(target) }
}

pub fn write(ops: impl IntoIterator<Item = v1::Op>) -> log::Write {
    log::Write {
        keyspace: KeyspaceId::DEFAULT.get(),
        then_ops: ops.into_iter().collect(),
        ..Default::default()
    }
}

pub fn txn(
    compares: impl IntoIterator<Item = v1::Compare>,
    then_ops: impl IntoIterator<Item = v1::Op>,
    else_ops: impl IntoIterator<Item = v1::Op>,
) -> log::Write {
    log::Write {
        compares: compares.into_iter().collect(),
        else_ops: else_ops.into_iter().collect(),
        ..write(then_ops)
    }
}

/// Names a write.
pub fn named(write: log::Write, client: u8, seq: u64, first_open: u64, born: u64) -> log::Write {
    let id = v1::WriteId { client_id: bytes([client; 16]), seq, first_open, born };
    log::Write { id: Some(id), ..write }
}

pub fn command(write: log::Write) -> log::Command {
    body(log::command::Body::Write(write))
}

pub fn in_keyspace(keyspace: u64, write: log::Write) -> log::Write {
    log::Write { keyspace, ..write }
}

pub fn open(id: u64, name: &str, settings: v1::keyspace::Settings) -> log::Command {
    let kind = v1::keyspace::Kind::Linearizable.into();
    let (name, settings) = (name.to_owned(), Some(settings));
    let keyspace = Some(v1::Keyspace { id, name, kind, settings, ..Default::default() });
    body(log::command::Body::OpenKeyspace(log::OpenKeyspace { keyspace }))
}

pub fn close(id: u64) -> log::Command {
    body(log::command::Body::CloseKeyspace(log::CloseKeyspace { id }))
}

pub fn compact(keyspace: u64, revision: u64) -> log::Command {
    body(log::command::Body::Compact(log::Compact { keyspace, revision }))
}

pub fn items(items: impl IntoIterator<Item = (Bytes, Option<Bytes>)>) -> log::Command {
    let items = items.into_iter().map(|(key, value)| log::Item { key, value }).collect();
    body(log::command::Body::PutItems(log::PutItems { items, more: false }))
}

fn body(body: log::command::Body) -> log::Command {
    log::Command { body: Some(body) }
}
