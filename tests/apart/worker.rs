//! A client that talks to one node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jepsen::recorder::Process;
use proto::v1;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep, sleep_until};

use super::calls::{self, Node};
use super::latencies::Latencies;

/// Pause after a call that was not answered, as of a node that is down.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// What each client does.
#[derive(Clone, Debug)]
pub struct Work {
    /// Keys that there are.
    pub keys: usize,
    /// How long.
    pub lasts: Duration,
    /// Reads and writes of each client in that time, spread evenly; a client that cannot keep up does fewer.
    pub pairs: u32,
    /// Of a hundred writes how many are deletes.
    pub delete_percent: u32,
    /// Seed of its choices.
    pub seed: u64,
}

/// One client.
#[derive(Debug)]
pub(super) struct Worker {
    pub node: Node,
    pub process: Process,
    /// The next value; all take from it.
    pub next: Arc<AtomicU64>,
    pub number: u64,
}

impl Worker {
    /// Reads keys and writes them over what it read.
    pub(super) async fn run(mut self, work: Work) -> Latencies {
        let mut rng = ChaCha8Rng::seed_from_u64(work.seed ^ (self.number << 32));
        let mut latencies = Latencies::default();
        let begin = Instant::now();
        for pair in 0..work.pairs {
            let due = begin + work.lasts * pair / work.pairs;
            if begin.elapsed() >= work.lasts {
                break;
            }
            sleep_until(due).await;
            let key = calls::key(rng.random_range(0..work.keys));
            let delete = rng.random_ratio(work.delete_percent, 100);
            if let Err(why) = self.pair(&key, delete, &mut latencies).await {
                latencies.fail(|| format!("{}: {why}", self.node.name));
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
        sleep_until(begin + work.lasts).await;
        latencies
    }

    /// Reads a key and writes it.
    async fn pair(
        &mut self,
        key: &str,
        delete: bool,
        latencies: &mut Latencies,
    ) -> Result<(), client::ClientError> {
        let begin = Instant::now();
        let found = calls::read(&self.node, &mut self.process, key).await?;
        latencies.read(begin.elapsed());
        // What is not there is put again.
        let delete = delete && !found.values.is_empty() && !found.token.is_empty();
        let value = (!delete).then(|| self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let begin = Instant::now();
        calls::write(&self.node, &mut self.process, key, value, &found, v1::Ack::One).await?;
        latencies.wrote(begin.elapsed());
        latencies.deletes += u64::from(delete);
        Ok(())
    }
}
