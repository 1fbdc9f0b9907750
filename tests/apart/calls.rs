//! Single calls of an eventual keyspace, recorded with all that their replies say.

use bytes::Bytes;
use client::{CallOptions, Client, ClientError};
use jepsen::recorder::{Open, Process};
use jepsen::{Call, Causal, Value};
use proto::{Applied, v1};

/// The keyspace of all calls.
pub(super) const KEYSPACE: &str = "apart";

/// What a read found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The values that live, in any order.
    pub values: Vec<Option<Value>>,
    /// The token that covers them.
    pub token: Bytes,
}

/// A node as a client talks to it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub client: Client,
    pub name: String,
}

/// What a write replaces is what it says: the client adds nothing.
fn options() -> CallOptions {
    CallOptions { remember: Some(false), ..CallOptions::default() }
}

/// The name of a key.
pub(super) fn key(number: usize) -> String {
    format!("k{number:05}")
}

/// Reads all values of a key.
pub(super) async fn read(
    node: &Node,
    process: &mut Process,
    key: &str,
) -> Result<Found, ClientError> {
    let mut open = process.invoke(Call::read(key));
    note(&mut open, node, "eventual");
    let request = v1::GetRequest {
        keyspace: KEYSPACE.to_owned(),
        key: key.to_owned().into(),
        ..v1::GetRequest::default()
    };
    match node.client.get(request, &options()).await {
        Ok(reply) => {
            assert_eq!(reply.more, 0, "{key}: more siblings than a reply holds");
            let text = |one: &v1::Sibling| String::from_utf8_lossy(&one.value).into_owned();
            let values: Vec<Option<Value>> =
                reply.siblings.iter().map(|one| Some(text(one).into())).collect();
            let dots = reply.siblings.iter().filter_map(|one| one.dot.as_ref());
            let dots: Vec<String> = dots.map(v1::Dot::to_string).collect();
            open.ok(|operation| {
                operation.value = Some(Value::List(values.clone()));
                operation.causal = Some(causal(dots));
            });
            Ok(Found { values, token: reply.context })
        }
        Err(error) => {
            open.fail(error.to_string());
            Err(error)
        }
    }
}

/// Writes a value, or deletes the key, over what was found before; what was found without a token stays beside a
/// new value, and cannot be deleted.
pub(super) async fn write(
    node: &Node,
    process: &mut Process,
    key: &str,
    value: Option<String>,
    over: &Found,
    ack: v1::Ack,
) -> Result<(), ClientError> {
    let mut call = match &value {
        Some(value) => Call::write(key, value.as_str()),
        None => Call::delete(key),
    };
    let beside = over.token.is_empty();
    assert!(!beside || value.is_some(), "a delete without a token replaces what nobody knows");
    call.expected = Some(Value::List(if beside { Vec::new() } else { over.values.clone() }));
    let mut open = process.invoke(call);
    note(&mut open, node, if ack == v1::Ack::All { "all" } else { "one" });
    let (keyspace, key) = (KEYSPACE.to_owned(), Bytes::from(key.to_owned()));
    let (causal_token, ack) = (over.token.clone(), ack as i32);
    let written = match value {
        Some(value) => {
            let request = v1::PutRequest {
                keyspace,
                key,
                value: value.into(),
                causal: causal_token,
                ack,
                beside,
                ..v1::PutRequest::default()
            };
            node.client.put(request, &options()).await.map(|reply| reply.written)
        }
        None => {
            let request = v1::DeleteRequest {
                keyspace,
                key,
                causal: causal_token,
                ack,
                ..v1::DeleteRequest::default()
            };
            node.client.delete(request, &options()).await.map(|reply| reply.written)
        }
    };
    match written {
        Ok(written) => {
            let dot = written.and_then(|written| written.dot);
            let dots = dot.iter().map(v1::Dot::to_string).collect();
            open.ok(|operation| operation.causal = Some(causal(dots)));
            Ok(())
        }
        Err(error) => {
            match error.applied() {
                Some(Applied::No) => open.fail(error.to_string()),
                Some(Applied::Yes | Applied::Unknown) | None => open.info(error.to_string()),
            }
            Err(error)
        }
    }
}

fn note(open: &mut Open<'_>, node: &Node, level: &str) {
    open.note(|operation| {
        operation.node = Some(node.name.clone());
        operation.level = Some(level.to_owned());
    });
}

fn causal(dots: Vec<String>) -> Box<Causal> {
    Box::new(Causal { dots, ..Causal::default() })
}
