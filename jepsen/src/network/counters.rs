//! How often the rules of the network had an effect.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the proxies did.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that came up.
    pub opened: Count,
    /// Connections that were ended, or not let up, by a cut or a reset.
    pub cut: Count,
    /// Times that a connection had to wait for the end of a stall.
    pub stalled: Count,
    /// Chunks that were delayed.
    pub delayed: Count,
    /// Chunks that were slowed down.
    pub throttled: Count,
    /// Connections of which nobody found out where they came from; they are ended.
    pub strangers: Count,
}

impl Counters {
    /// Everything that a rule did.
    pub fn effects(&self) -> u64 {
        let all = [&self.cut, &self.stalled, &self.delayed, &self.throttled];
        all.into_iter().map(Count::get).sum()
    }
}
