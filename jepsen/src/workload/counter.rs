//! Counters to which clients add: each add reads the number and writes a greater one on condition
//! that nobody else has, again and again until that holds.

use proto::v1;
use rand::RngExt;

use super::script::{Hand, Script, Step, answered, read_failed, write_failed};
use crate::operation::{Call, Function, Operation};
use crate::value::Value;
use crate::wire;

/// Attempts of an add; after so many lost races it fails.
const ATTEMPTS_MAX: usize = 10;

/// One process.
#[derive(Debug)]
pub struct Counter {
    /// Counters that there are.
    pub keys: usize,
}

fn key(number: usize) -> String {
    format!("c{number}")
}

impl Script for Counter {
    fn step<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s> {
        Box::pin(async move {
            let key = key(hand.rng.random_range(0..self.keys));
            if hand.rng.random_bool(0.5) {
                return read(hand, key).await;
            }
            let more = hand.rng.random_range(1..6);
            add(hand, key, more).await
        })
    }

    fn looks(&self) -> usize {
        self.keys
    }

    fn look<'s>(&'s mut self, hand: &'s mut Hand, number: usize) -> Step<'s> {
        Box::pin(read(hand, key(number)))
    }
}

async fn read(hand: &mut Hand, key: String) -> bool {
    let open = hand.process.invoke(Call::read(&key));
    match wire::read(&hand.client, &key, &hand.options).await {
        Ok(seen) => {
            let level = hand.level;
            open.ok(|operation| {
                seen.fill(operation);
                operation.value = Some(operation.value.take().unwrap_or_else(|| 0.into()));
                operation.level = Some(level.to_owned());
            });
            true
        }
        Err(error) => read_failed(open, &error),
    }
}

/// Adds; nothing is known of a lost answer, but only the last attempt can have been applied.
async fn add(hand: &mut Hand, key: String, more: i64) -> bool {
    let strong = super::strong();
    let value = Some(Value::from(more));
    let call = Call { key: key.clone(), function: Function::Add, value, expected: None };
    let open = hand.process.invoke(call);
    for _ in 0..ATTEMPTS_MAX {
        let seen = match wire::read(&hand.client, &key, &strong).await {
            Ok(seen) => seen,
            Err(error) => {
                open.fail(format!("read: {error}"));
                return answered(&error);
            }
        };
        let before = seen.value.as_ref().and_then(Value::as_number).unwrap_or(0);
        let put = v1::PutRequest {
            key: key.clone().into(),
            value: (before + more).to_string().into(),
            condition: Some(super::unchanged(&key, seen.revision.unwrap_or(0))),
            ..v1::PutRequest::default()
        };
        match hand.client.put(put, &strong).await {
            Ok(reply) if reply.succeeded => {
                let node = reply.proof.unwrap_or_default().node;
                open.ok(|operation: &mut Operation| {
                    operation.revision = Some(reply.revision);
                    operation.node = Some(node);
                });
                return true;
            }
            Ok(_) => {}
            Err(error) => return write_failed(open, &error),
        }
    }
    open.fail("lost every race");
    true
}
