//! Registers that are mostly changed by cas on their value: "only if the key still holds this".

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::v1;
use rand::RngExt;

use super::script::{Hand, Script, Step, read_failed, write_failed};
use crate::operation::Call;
use crate::value::Value;
use crate::wire;

/// One process.
#[derive(Debug)]
pub struct Cas {
    /// Keys that there are.
    pub keys: usize,
    /// The next value; all processes take from it, so that no value is written twice.
    pub next: Arc<AtomicU64>,
    /// What each key was last seen to hold.
    pub known: HashMap<String, Option<Value>>,
}

fn key(number: usize) -> String {
    format!("r{number}")
}

impl Script for Cas {
    fn step<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s> {
        Box::pin(async move {
            let key = key(hand.rng.random_range(0..self.keys));
            match self.known.remove(&key) {
                Some(expected) => {
                    let value = self.next.fetch_add(1, Ordering::Relaxed).to_string();
                    self.cas(hand, key, expected, value).await
                }
                None => self.read(hand, key).await,
            }
        })
    }

    fn looks(&self) -> usize {
        self.keys
    }

    fn look<'s>(&'s mut self, hand: &'s mut Hand, number: usize) -> Step<'s> {
        Box::pin(self.read(hand, key(number)))
    }
}

impl Cas {
    async fn read(&mut self, hand: &mut Hand, key: String) -> bool {
        let open = hand.process.invoke(Call::read(&key));
        match wire::read(&hand.client, &key, &hand.options).await {
            Ok(seen) => {
                self.known.insert(key, seen.value.clone());
                let level = hand.level;
                open.ok(|operation| {
                    seen.fill(operation);
                    operation.level = Some(level.to_owned());
                });
                true
            }
            Err(error) => read_failed(open, &error),
        }
    }

    async fn cas(
        &mut self,
        hand: &mut Hand,
        key: String,
        expected: Option<Value>,
        value: String,
    ) -> bool {
        let target = match &expected {
            None => v1::compare::Target::Absent(true),
            Some(value) => v1::compare::Target::Value(value.name().into_owned().into()),
        };
        let condition = v1::Compare { key: key.clone().into(), target: Some(target) };
        let open = hand.process.invoke(Call::cas(&key, expected, value.clone()));
        let put = v1::PutRequest {
            key: key.clone().into(),
            value: value.clone().into(),
            condition: Some(condition),
            ..v1::PutRequest::default()
        };
        match hand.client.put(put, &super::strong()).await {
            Ok(reply) if reply.succeeded => {
                open.ok(|operation| {
                    operation.revision = Some(reply.revision);
                    operation.at_revision = Some(reply.revision);
                    operation.node = Some(reply.proof.unwrap_or_default().node);
                });
                // Half of the time the next cas builds on this one without a look.
                if hand.rng.random_bool(0.5) {
                    self.known.insert(key, Some(value.into()));
                }
                true
            }
            Ok(_) => {
                open.fail("the key held something else");
                true
            }
            Err(error) => write_failed(open, &error),
        }
    }
}
