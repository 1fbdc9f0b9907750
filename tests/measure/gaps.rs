//! A writer that goes on all the time and notes how long it had to wait.

use std::time::Duration;

use client::{CallOptions, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Failed;

/// What a writer has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes that ended without an acknowledgement.
    pub failed: u64,
    /// The longest time between two acknowledgements.
    pub longest: Duration,
}

/// Writes one key again and again, each write after the one before was answered.
#[derive(Debug)]
pub struct GapWriter {
    stop: watch::Sender<bool>,
    task: JoinHandle<Gaps>,
}

impl GapWriter {
    /// Begins to write `key`. The client's timeout bounds each write.
    #[must_use]
    pub fn start(client: Client, key: &'static str) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(write(client, key, stopped)) }
    }

    /// Ends after the write that is under way.
    ///
    /// # Errors
    /// The writer panicked.
    pub async fn stop(self) -> Result<Gaps, Failed> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

async fn write(client: Client, key: &'static str, stopped: watch::Receiver<bool>) -> Gaps {
    let mut gaps = Gaps::default();
    let mut last = Instant::now();
    while !*stopped.borrow() {
        let value = gaps.acknowledged.to_string();
        match client.put_value(key, value, &CallOptions::default()).await {
            Ok(_) => {
                gaps.acknowledged += 1;
                gaps.longest = gaps.longest.max(last.elapsed());
                last = Instant::now();
            }
            Err(_) => gaps.failed += 1,
        }
    }
    // A writer that waits in vain has a gap as well.
    gaps.longest = gaps.longest.max(last.elapsed());
    gaps
}
