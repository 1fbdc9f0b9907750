//! Carries the bytes of one connection one way, as the rules say.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::counters::Counters;
use super::rules::{Rule, Rules, Site};

/// Bytes read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Chunks under way; when so many wait, no more are read, and the sender's own buffer fills.
const CHUNKS_MAX: usize = 64;

/// One direction of a connection.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where the bytes come from.
    pub from: Site,
    /// Where they go.
    pub to: Site,
    /// What is in force.
    pub rules: watch::Receiver<Rules>,
    /// What it did.
    pub counters: Arc<Counters>,
}

/// A chunk and the moment at which it is due.
type Due = (Instant, Vec<u8>);

impl Way {
    fn rule(&self) -> Rule {
        self.rules.borrow().between(self.from, self.to)
    }

    /// Waits until bytes may pass.
    async fn open(&mut self) {
        if self.rule().stalled {
            self.counters.stalled.add(1);
        }
        while self.rule().stalled {
            if self.rules.changed().await.is_err() {
                return;
            }
        }
    }

    /// Carries bytes until the sender closes its side, which is passed on, or a side fails. What is
    /// under way when the rules change still obeys the old ones, but for a stall, which holds it.
    ///
    /// # Errors
    ///
    /// Those of the two sides.
    pub async fn carry<R, W>(self, from: R, to: W) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        let took = take(self.clone(), from, sender);
        let gave = give(self, receiver, to);
        tokio::try_join!(took, gave).map(|_| ())
    }
}

/// Reads chunks and says when they are due.
async fn take<R>(mut way: Way, mut from: R, chunks: mpsc::Sender<Due>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    loop {
        way.open().await;
        let mut chunk = vec![0; CHUNK_BYTES];
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        chunk.truncate(length);
        let delay = way.rule().delay;
        if !delay.is_zero() {
            way.counters.delayed.add(1);
        }
        if chunks.send((Instant::now() + delay, chunk)).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes chunks when they are due, and no faster than allowed.
async fn give<W>(mut way: Way, mut chunks: mpsc::Receiver<Due>, mut to: W) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    // The order stays, also when a delay ends: a chunk waits for the one before it.
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        way.open().await;
        to.write_all(&chunk).await?;
        if let Some(rate) = way.rule().bytes_per_second {
            way.counters.throttled.add(1);
            let seconds = chunk.len() as f64 / rate.max(1) as f64;
            sleep_until(Instant::now() + Duration::from_secs_f64(seconds)).await;
        }
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;

    const A: Site = Site::Node(0);
    const B: Site = Site::Node(1);

    /// What is written into the first comes out of the second.
    fn relay(rules: &watch::Sender<Rules>) -> (DuplexStream, DuplexStream, Arc<Counters>) {
        let (near, from) = duplex(1 << 20);
        let (to, far) = duplex(1 << 20);
        let counters = Arc::new(Counters::default());
        let way = Way { from: A, to: B, rules: rules.subscribe(), counters: Arc::clone(&counters) };
        tokio::spawn(way.carry(from, to));
        (near, far, counters)
    }

    fn set(rules: &watch::Sender<Rules>, rule: Rule) {
        rules.send_modify(|rules| rules.set("test", vec![(A, B, rule)]));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_and_the_end_is_passed_on() {
        let rules = watch::Sender::new(Rules::default());
        let (mut near, mut far, _) = relay(&rules);
        near.write_all(b"hello").await.unwrap();
        near.shutdown().await.unwrap();
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"hello");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_holds_bytes_until_it_ends() {
        let rules = watch::Sender::new(Rules::default());
        let (mut near, mut far, counters) = relay(&rules);
        set(&rules, Rule::STALLED);
        near.write_all(b"hello").await.unwrap();
        let mut five = [0; 5];
        let waited = timeout(Duration::from_secs(1_000), far.read_exact(&mut five)).await;
        assert!(waited.is_err());
        set(&rules, Rule::PASS);
        far.read_exact(&mut five).await.unwrap();
        assert_eq!(&five, b"hello");
        assert!(counters.stalled.get() >= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_is_paid_once_by_bytes_sent_together() {
        let rules = watch::Sender::new(Rules::default());
        set(&rules, Rule { delay: Duration::from_millis(200), ..Rule::PASS });
        let (mut near, mut far, counters) = relay(&rules);
        let start = Instant::now();
        near.write_all(&[7; 3 * CHUNK_BYTES]).await.unwrap();
        let mut all = vec![0; 3 * CHUNK_BYTES];
        far.read_exact(&mut all).await.unwrap();
        let took = start.elapsed();
        assert!((200..210).contains(&took.as_millis()), "{took:?}");
        assert_eq!(counters.delayed.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_lets_so_many_bytes_through() {
        let rules = watch::Sender::new(Rules::default());
        let rate = CHUNK_BYTES as u64;
        set(&rules, Rule { bytes_per_second: Some(rate), ..Rule::PASS });
        let (mut near, mut far, _) = relay(&rules);
        let start = Instant::now();
        near.write_all(&[7; 4 * CHUNK_BYTES]).await.unwrap();
        let mut all = vec![0; 4 * CHUNK_BYTES];
        far.read_exact(&mut all).await.unwrap();
        // The last chunk is paid for after it has arrived.
        let took = start.elapsed();
        assert!((3_000..3_100).contains(&took.as_millis()), "{took:?}");
    }
}
