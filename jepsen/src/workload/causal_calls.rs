//! Calls of an eventual keyspace at one node, recorded with all that their replies say: the values, their dots, and the
//! token that covers them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::{CallOptions, Client, ClientError};
use proto::v1;

use super::script::{read_failed, write_failed};
use crate::operation::{Call, Causal, Function};
use crate::recorder::{Open, Process};
use crate::value::Value;

/// What a client has seen of a key.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The values that live, in any order.
    pub values: Vec<Option<Value>>,
    /// The token that covers them; empty where there is none.
    pub token: Bytes,
}

/// What a write replaces.
#[derive(Clone, Copy, Debug)]
pub enum Over<'s> {
    /// What its client has seen, with a token.
    Seen(&'s Seen),
    /// Nothing: its value stays beside all others.
    Nothing,
    /// What the node holds that takes it, which nobody knows.
    Held,
}

impl Over<'_> {
    /// The values, where they are known.
    fn values(self) -> Option<Value> {
        match self {
            Self::Seen(seen) => Some(Value::List(seen.values.clone())),
            Self::Nothing => Some(Value::List(Vec::new())),
            Self::Held => None,
        }
    }

    fn token(self) -> Bytes {
        match self {
            Self::Seen(seen) => seen.token.clone(),
            Self::Nothing | Self::Held => Bytes::new(),
        }
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the key holds after it, as far as the client knows.
    pub seen: Seen,
    /// The name of the node, as it says it itself.
    pub node: Option<String>,
}

/// One node, and one keyspace of it.
#[derive(Clone, Copy, Debug)]
pub struct CausalCalls<'c> {
    /// A client of this node alone.
    pub client: &'c Client,
    /// The name under which the node is recorded; without one, that which it says itself.
    pub node: Option<&'c str>,
    /// The keyspace.
    pub keyspace: &'c str,
}

impl CausalCalls<'_> {
    /// Reads all values of a key. `None` if there are more than a reply holds: what was not shown cannot be judged, so
    /// the read is recorded as failed.
    ///
    /// # Errors
    ///
    /// Those of the client; they are recorded.
    pub async fn read(
        &self,
        process: &mut Process,
        key: &str,
    ) -> Result<Option<Answer>, ClientError> {
        let request = get_request(self.keyspace, key);
        let open = self.invoke(process, Call::read(key), "eventual");
        match self.client.get(request, &options()).await {
            Ok(reply) if reply.more > 0 => {
                open.fail("more siblings than one reply holds");
                Ok(None)
            }
            Ok(reply) => {
                let values = reply.siblings.iter().map(value).collect();
                let dots = reply.siblings.iter().filter_map(|one| one.dot.as_ref());
                let causal = causal(dots, &reply.context);
                let seen = Seen { values, token: reply.context };
                Ok(Some(answered(open, seen, reply.proof, causal)))
            }
            Err(error) => {
                read_failed(open, &error);
                Err(error)
            }
        }
    }

    /// Puts a value.
    ///
    /// # Errors
    ///
    /// Those of the client; they are recorded.
    pub async fn put(
        &self,
        process: &mut Process,
        key: &str,
        value: &str,
        over: Over<'_>,
        ack: v1::Ack,
    ) -> Result<Answer, ClientError> {
        let mut call = Call::write(key, value);
        call.expected = over.values();
        let request = v1::PutRequest {
            keyspace: self.keyspace.to_owned(),
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            causal: over.token(),
            beside: matches!(over, Over::Nothing),
            ack: ack as i32,
            ..v1::PutRequest::default()
        };
        let open = self.invoke(process, call, ack_word(ack));
        let reply = self.client.put(request, &options()).await;
        let reply = reply.map(|reply| (reply.proof, reply.written));
        written(open, vec![Some(value.into())], reply)
    }

    /// Deletes what its client has seen, with a token, or without that what the node holds.
    ///
    /// # Errors
    ///
    /// Those of the client; they are recorded.
    pub async fn delete(
        &self,
        process: &mut Process,
        key: &str,
        seen: Option<&Seen>,
        ack: v1::Ack,
    ) -> Result<Answer, ClientError> {
        let over = seen.map_or(Over::Held, Over::Seen);
        let mut call = Call::delete(key);
        call.expected = over.values();
        let request = v1::DeleteRequest {
            keyspace: self.keyspace.to_owned(),
            key: key.to_owned().into(),
            causal: over.token(),
            ack: ack as i32,
            ..v1::DeleteRequest::default()
        };
        let open = self.invoke(process, call, ack_word(ack));
        let reply = self.client.delete(request, &options()).await;
        let reply = reply.map(|reply| (reply.proof, reply.written));
        written(open, Vec::new(), reply)
    }

    /// Records a call, and who is asked for what, however it ends.
    fn invoke<'p>(&self, process: &'p mut Process, call: Call, level: &str) -> Open<'p> {
        let mut open = process.invoke(call);
        open.note(|operation| {
            operation.level = Some(level.to_owned());
            operation.node = self.node.map(str::to_owned);
        });
        open
    }
}

/// Records what became of a write that leaves these values.
fn written(
    open: Open<'_>,
    values: Vec<Option<Value>>,
    reply: Result<(Option<v1::Proof>, Option<v1::Written>), ClientError>,
) -> Result<Answer, ClientError> {
    match reply {
        Ok((proof, written)) => {
            let written = written.unwrap_or_default();
            let causal = causal(written.dot.iter(), &written.context);
            let seen = Seen { values, token: written.context };
            Ok(answered(open, seen, proof, causal))
        }
        Err(error) => {
            write_failed(open, &error);
            Err(error)
        }
    }
}

/// Records an answer.
fn answered(open: Open<'_>, seen: Seen, proof: Option<v1::Proof>, causal: Box<Causal>) -> Answer {
    let node = proof.map(|proof| proof.node);
    open.ok(|operation| {
        if operation.function == Function::Read {
            operation.value = Some(Value::List(seen.values.clone()));
        }
        if operation.node.is_none() {
            operation.node.clone_from(&node);
        }
        operation.causal = Some(causal);
    });
    Answer { seen, node }
}

/// Options of all calls: nothing is remembered by the client, so that what a write replaces is what it says.
pub(super) fn options() -> CallOptions {
    CallOptions { remember: Some(false), ..CallOptions::default() }
}

pub(super) fn get_request(keyspace: &str, key: &str) -> v1::GetRequest {
    let (keyspace, key) = (keyspace.to_owned(), key.to_owned().into());
    v1::GetRequest { keyspace, key, ..v1::GetRequest::default() }
}

const fn ack_word(ack: v1::Ack) -> &'static str {
    match ack {
        v1::Ack::Unspecified | v1::Ack::One => "one",
        v1::Ack::Quorum => "quorum",
        v1::Ack::All => "all",
    }
}

fn value(sibling: &v1::Sibling) -> Option<Value> {
    // Our own values are text; anything else must differ from all of them.
    Some(String::from_utf8_lossy(&sibling.value).into_owned().into())
}

fn causal<'d>(dots: impl Iterator<Item = &'d v1::Dot>, context: &[u8]) -> Box<Causal> {
    let context = (!context.is_empty()).then(|| STANDARD.encode(context));
    Box::new(Causal { dots: dots.map(v1::Dot::to_string).collect(), context, lost: false })
}
