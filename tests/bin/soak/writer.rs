//! One writer: one operation after the other on keys that are its own.

use std::time::Duration;

use bytes::Bytes;
use client::{CallOptions, Client, ClientError};
use proto::{Applied, v1};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::ledger::{Ledger, value};
use super::load::Counts;

/// Keys that one range looks at.
const RANGE_KEYS: usize = 20;
/// Keys that one transaction writes.
const TXN_KEYS: usize = 4;

/// An operation that failed, or an answer that contradicts the ledger.
enum Trouble {
    Failed(ClientError),
    Wrong(String),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Failed(error)
    }
}

/// One writer.
pub struct Writer {
    client: Client,
    ledger: Ledger,
    options: CallOptions,
    rng: ChaCha8Rng,
    next_value: u64,
    counts: Counts,
}

impl Writer {
    /// A writer of the keys of `ledger`. `seed` is unique among writers: the values that it writes
    /// begin there.
    pub fn new(client: Client, ledger: Ledger, seed: u64, counts: Counts) -> Self {
        let options =
            CallOptions { keyspace: Some(ledger.keyspace.clone()), ..CallOptions::default() };
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { client, ledger, options, rng, next_value: seed << 40, counts }
    }

    /// Works until `stop`, an operation each `interval`; what cannot be done in time is left out.
    /// Returns what it knows of its keys.
    pub async fn run(mut self, interval: Duration, stop: watch::Receiver<bool>) -> Ledger {
        let mut turns = tokio::time::interval(interval);
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !*stop.borrow() {
            turns.tick().await;
            let begin = Instant::now();
            let outcome = self.one().await;
            match outcome {
                Ok(()) => self.counts.answered(begin.elapsed()),
                Err(Trouble::Failed(error)) => self.counts.failed(&error),
                Err(Trouble::Wrong(why)) => self.counts.wrong(why),
            }
        }
        self.ledger
    }

    async fn one(&mut self) -> Result<(), Trouble> {
        let at = self.rng.random_range(0..self.ledger.cells.len());
        match self.rng.random_range(0..100) {
            0..35 => self.get(at).await,
            35..40 => self.range(at).await,
            40..80 => self.put(at).await,
            80..88 => self.delete(at).await,
            88..95 => self.cas(at).await,
            _ => self.txn(at).await,
        }
    }

    async fn get(&mut self, at: usize) -> Result<(), Trouble> {
        let key = self.ledger.key(at);
        let request = v1::GetRequest { key: key.clone(), ..v1::GetRequest::default() };
        let reply = self.client.get(request, &self.options).await?;
        let found: Vec<(Bytes, Bytes)> =
            reply.item.into_iter().map(|item| (item.key, item.value)).collect();
        self.compare(at, at + 1, &found)
    }

    async fn range(&mut self, at: usize) -> Result<(), Trouble> {
        let end = (at + RANGE_KEYS).min(self.ledger.cells.len());
        let request = v1::RangeRequest {
            from: self.ledger.key(at),
            to: self.ledger.key(end),
            ..v1::RangeRequest::default()
        };
        let reply = self.client.range(request, &self.options).await?;
        let found: Vec<(Bytes, Bytes)> =
            reply.items.into_iter().map(|item| (item.key, item.value)).collect();
        // A page may end early; what lies behind it is not looked at.
        let last = found.last().and_then(|(key, _)| self.ledger.find(key));
        let end = if reply.more { last.map_or(at, |last| last + 1) } else { end };
        self.compare(at, end, &found)
    }

    fn compare(&self, from: usize, to: usize, found: &[(Bytes, Bytes)]) -> Result<(), Trouble> {
        self.ledger.contradiction(from, to, found).map_or(Ok(()), |why| Err(Trouble::Wrong(why)))
    }

    async fn put(&mut self, at: usize) -> Result<(), Trouble> {
        let (key, number) = (self.ledger.key(at), self.number());
        match self.client.put_value(key, value(number), &self.options).await {
            Ok(reply) => self.ledger.cells[at].written(Some(number), reply.revision),
            Err(error) => return Err(self.unsure(error, &[(at, Some(number))])),
        }
        Ok(())
    }

    async fn delete(&mut self, at: usize) -> Result<(), Trouble> {
        let certain = self.ledger.cells[at].certain();
        let request =
            v1::DeleteRequest { key: self.ledger.key(at), ..v1::DeleteRequest::default() };
        let reply = match self.client.delete(request, &self.options).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.unsure(error, &[(at, None)])),
        };
        self.ledger.cells[at].written(None, 0);
        match certain {
            Some((held, _)) if reply.deleted != u64::from(held.is_some()) => {
                let key = self.ledger.key(at);
                Err(Trouble::Wrong(format!("{} of {key:?} deleted, held {held:?}", reply.deleted)))
            }
            _ => Ok(()),
        }
    }

    /// Writes on condition of the revision: mostly the right one, at times a wrong one.
    async fn cas(&mut self, at: usize) -> Result<(), Trouble> {
        let Some((_, revision)) = self.ledger.cells[at].certain() else {
            return self.put(at).await;
        };
        let right = self.rng.random_bool(0.8);
        let expected = if right { revision } else { revision + 1 };
        let (key, number) = (self.ledger.key(at), self.number());
        let target = Some(v1::compare::Target::ModRev(expected));
        let request = v1::PutRequest {
            key: key.clone(),
            value: value(number),
            condition: Some(v1::Compare { key: key.clone(), target }),
            ..v1::PutRequest::default()
        };
        let reply = match self.client.put(request, &self.options).await {
            Ok(reply) => reply,
            // With a wrong revision it cannot have been applied.
            Err(error) if !right => return Err(error.into()),
            Err(error) => return Err(self.unsure(error, &[(at, Some(number))])),
        };
        if reply.succeeded {
            self.ledger.cells[at].written(Some(number), reply.revision);
        }
        if reply.succeeded == right {
            return Ok(());
        }
        let why = format!("cas of {key:?} at {expected}: {}, is at {revision}", reply.succeeded);
        Err(Trouble::Wrong(why))
    }

    async fn txn(&mut self, at: usize) -> Result<(), Trouble> {
        let keys = self.ledger.cells.len();
        let writes: Vec<(usize, Option<u64>)> =
            (0..TXN_KEYS).map(|n| ((at + n * 37) % keys, Some(self.number()))).collect();
        let put = |(at, number): &(usize, Option<u64>)| {
            let value = number.map(value).unwrap_or_default();
            let put = v1::PutOp { key: self.ledger.key(*at), value, prev: false };
            v1::Op { op: Some(v1::op::Op::Put(put)) }
        };
        let then_ops = writes.iter().map(put).collect();
        let request = v1::TxnRequest { then_ops, ..v1::TxnRequest::default() };
        match self.client.txn(request, &self.options).await {
            Ok(reply) => {
                for (at, number) in writes {
                    self.ledger.cells[at].written(number, reply.revision);
                }
                Ok(())
            }
            Err(error) => Err(self.unsure(error, &writes)),
        }
    }

    /// Notes what a failed write may have done.
    fn unsure(&mut self, error: ClientError, writes: &[(usize, Option<u64>)]) -> Trouble {
        if error.applied() != Some(Applied::No) {
            for (at, number) in writes {
                self.ledger.cells[*at].perhaps(*number);
            }
        }
        error.into()
    }

    /// The number of a value that was never written.
    fn number(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }
}
