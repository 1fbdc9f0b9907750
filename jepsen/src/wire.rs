//! The calls of registers, said in the protocol of kvstore.

use client::{CallOptions, Client, ClientError};
use proto::v1;

use crate::operation::{Call, Function, Operation};
use crate::value::Value;

/// What a successful operation learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What a read returned.
    pub value: Option<Value>,
    /// Of a write its revision, of a read that of the item; `None` where there is none.
    pub revision: Option<u64>,
    /// The revision of the keyspace at which the answer holds.
    pub at_revision: u64,
    /// Who answered.
    pub node: String,
}

impl Seen {
    /// Adds what was learned to a recorded operation.
    pub fn fill(self, operation: &mut Operation) {
        if operation.function == Function::Read {
            operation.value = self.value;
        }
        operation.revision = self.revision;
        operation.at_revision = Some(self.at_revision);
        operation.node = Some(self.node);
    }
}

/// Reads a key, at the level of the options.
///
/// # Errors
///
/// Those of the client.
pub async fn read(client: &Client, key: &str, options: &CallOptions) -> Result<Seen, ClientError> {
    let reply = client.get(get_request(key), options).await?;
    let proof = reply.proof.unwrap_or_default();
    let revision = reply.item.as_ref().map(|item| item.mod_rev);
    // Our own values are text; anything else must differ from all of them.
    let text = |item: v1::Item| String::from_utf8_lossy(&item.value).into_owned().into();
    Ok(Seen {
        value: reply.item.map(text),
        revision,
        at_revision: proof.revision,
        node: proof.node,
    })
}

/// Writes, deletes, or writes if the key has this revision (0: if it is absent). `None`: it has
/// another one.
///
/// # Errors
///
/// Those of the client.
pub async fn write(
    client: &Client,
    call: &Call,
    if_revision: Option<u64>,
    options: &CallOptions,
) -> Result<Option<Seen>, ClientError> {
    let key: bytes::Bytes = call.key.clone().into();
    let condition = if_revision.map(|revision| v1::Compare {
        key: key.clone(),
        target: Some(v1::compare::Target::ModRev(revision)),
    });
    let (succeeded, revision, at_revision, proof) = if call.function == Function::Delete {
        let request = v1::DeleteRequest { key, condition, ..v1::DeleteRequest::default() };
        let reply = client.delete(request, options).await?;
        // A delete that finds nothing leaves the revision as it is.
        let own = (reply.deleted > 0).then_some(reply.revision);
        (reply.succeeded, own, reply.revision, reply.proof)
    } else {
        let value = call.value.as_ref().map(|value| value.name().into_owned()).unwrap_or_default();
        let value = value.into();
        let request = v1::PutRequest { key, value, condition, ..v1::PutRequest::default() };
        let reply = client.put(request, options).await?;
        (reply.succeeded, Some(reply.revision), reply.revision, reply.proof)
    };
    let node = proof.unwrap_or_default().node;
    Ok(succeeded.then_some(Seen { value: None, revision, at_revision, node }))
}

/// A read of one key. It names no level of its own, which would stand above that of the options.
fn get_request(key: &str) -> v1::GetRequest {
    v1::GetRequest { key: key.to_owned().into(), ..v1::GetRequest::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_leave_their_level_to_the_options() {
        assert_eq!(get_request("k").level(), v1::Level::Unspecified);
    }
}
