//! Single calls of an eventual keyspace, recorded with all that their replies say.

use client::{Client, ClientError};
use jepsen::recorder::Process;
use jepsen::workload::causal_calls::{CausalCalls, Over, Seen};
use proto::v1;

/// The keyspace of all calls.
pub(super) const KEYSPACE: &str = "apart";

/// A node as a client talks to it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub client: Client,
    pub name: String,
}

impl Node {
    fn calls(&self) -> CausalCalls<'_> {
        CausalCalls { client: &self.client, node: Some(self.name.as_str()), keyspace: KEYSPACE }
    }
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
) -> Result<Seen, ClientError> {
    let Some(answer) = node.calls().read(process, key).await? else {
        panic!("{key}: more siblings than a reply holds");
    };
    Ok(answer.seen)
}

/// Writes a value, or deletes the key, over what was found before; what was found without a token stays beside a
/// new value, and cannot be deleted.
pub(super) async fn write(
    node: &Node,
    process: &mut Process,
    key: &str,
    value: Option<String>,
    found: &Seen,
    ack: v1::Ack,
) -> Result<(), ClientError> {
    let (calls, over) = (node.calls(), (!found.token.is_empty()).then_some(found));
    let written = match value {
        Some(value) => {
            let over = over.map_or(Over::Nothing, Over::Seen);
            calls.put(process, key, &value, over, ack).await
        }
        None => {
            assert!(over.is_some(), "a delete without a token replaces what nobody knows");
            calls.delete(process, key, over, ack).await
        }
    };
    written.map(drop)
}
