//! Clients that wander from node to node and read what each of them has, but never go back: a client
//! carries the newest revision that it has seen or written, takes no answer from an older one, and asks
//! elsewhere instead, in the end the leader.
//!
//! So each process is promised the four session guarantees, on replicas that promise nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::v1;
use rand::RngExt;

use super::script::{Hand, Script, Step, answered, read_failed, write_failed};
use crate::operation::Call;
use crate::wire;

/// Replicas that are asked before a read that cannot be stale.
const REPLICAS_MAX: usize = 3;

/// One process.
#[derive(Debug)]
pub struct Session {
    /// Keys that there are.
    pub keys: usize,
    /// The next value; all processes take from it, so that no value is written twice.
    pub next: Arc<AtomicU64>,
    /// The newest revision that it has seen or written.
    pub seen: u64,
}

fn key(number: usize) -> String {
    format!("r{number}")
}

impl Script for Session {
    fn step<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s> {
        Box::pin(async move {
            let key = key(hand.rng.random_range(0..self.keys));
            if hand.rng.random_bool(0.75) {
                self.read(hand, key, REPLICAS_MAX).await
            } else {
                self.write(hand, key).await
            }
        })
    }

    fn looks(&self) -> usize {
        self.keys
    }

    fn look<'s>(&'s mut self, hand: &'s mut Hand, number: usize) -> Step<'s> {
        Box::pin(self.read(hand, key(number), 0))
    }
}

impl Session {
    /// Reads from this many replicas until one is new enough, then from where nothing is old.
    async fn read(&mut self, hand: &mut Hand, key: String, replicas: usize) -> bool {
        let open = hand.process.invoke(Call::read(&key));
        let local = super::options(v1::Level::Eventual);
        for _ in 0..replicas {
            let client = &hand.each[hand.rng.random_range(0..hand.each.len())];
            if let Ok(seen) = wire::read(client, &key, &local).await
                && seen.at_revision >= self.seen
            {
                self.seen = seen.at_revision;
                open.ok(|operation| {
                    seen.fill(operation);
                    operation.level = Some("eventual".to_owned());
                });
                return true;
            }
        }
        match wire::read(&hand.client, &key, &super::strong()).await {
            Ok(seen) => {
                self.seen = self.seen.max(seen.at_revision);
                open.ok(|operation| {
                    seen.fill(operation);
                    operation.level = Some("linearizable".to_owned());
                });
                true
            }
            Err(error) => read_failed(open, &error),
        }
    }

    async fn write(&mut self, hand: &mut Hand, key: String) -> bool {
        let value = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let call = Call::write(&key, value);
        let open = hand.process.invoke(call.clone());
        let client = &hand.each[hand.rng.random_range(0..hand.each.len())];
        match wire::write(client, &call, None, &super::strong()).await {
            Ok(Some(written)) => {
                self.seen = self.seen.max(written.at_revision);
                open.ok(|operation| written.fill(operation));
                true
            }
            Ok(None) => {
                open.fail("a write without a condition was refused by one");
                true
            }
            Err(error) => {
                let reached = answered(&error);
                write_failed(open, &error);
                reached
            }
        }
    }
}
