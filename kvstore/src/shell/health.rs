//! What the threads of a node say about their own state.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The node counts as alive for this long after its last turn. A turn comes at every tick; on a
/// starved machine it may be seconds late, while a deadlock lasts.
const HEARTBEAT_MAX_AGE: Duration = Duration::from_secs(5);

/// Stands for a loop that has not begun.
const NOT_BEGUN: u64 = u64::MAX;

/// The time of the last turn of a loop (B23: liveness is progress of the loop that matters, not of
/// a timer beside it).
#[derive(Debug)]
pub struct Heartbeat {
    start: Instant,
    last_ms: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(NOT_BEGUN) }
    }
}

impl Heartbeat {
    /// Notes a turn at `now`.
    pub fn beat(&self, now: Instant) {
        self.last_ms.store(self.elapsed_ms(now), Ordering::Release);
    }

    /// Whether there was a turn. The first one comes after the replay of the log, which takes as
    /// long as it takes.
    pub fn has_begun(&self) -> bool {
        self.last_ms.load(Ordering::Acquire) != NOT_BEGUN
    }

    /// Whether the last turn was not long ago, or the first is still to come.
    pub fn is_recent(&self) -> bool {
        self.is_recent_at(Instant::now())
    }

    fn is_recent_at(&self, now: Instant) -> bool {
        let last = self.last_ms.load(Ordering::Acquire);
        // A loop that has not begun is in the future: no age.
        let age = self.elapsed_ms(now).saturating_sub(last);
        u128::from(age) <= HEARTBEAT_MAX_AGE.as_millis()
    }

    fn elapsed_ms(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX)
    }
}

/// Whether the log has room on the disk. While it has not, the node refuses writes (KV1503) and
/// serves reads.
#[derive(Debug, Default)]
pub struct LogSpace(AtomicBool);

impl LogSpace {
    /// Whether the last attempt to make room failed.
    pub fn is_full(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Notes the outcome of an attempt; true when it changed.
    pub fn set_full(&self, full: bool) -> bool {
        self.0.swap(full, Ordering::AcqRel) != full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_without_turns_is_not_alive() {
        let heartbeat = Heartbeat::default();
        let turn = heartbeat.start + Duration::from_secs(60);
        assert!(!heartbeat.has_begun());
        assert!(heartbeat.is_recent_at(turn), "it still replays");
        heartbeat.beat(turn);
        assert!(heartbeat.has_begun());
        assert!(heartbeat.is_recent_at(turn + HEARTBEAT_MAX_AGE));
        assert!(!heartbeat.is_recent_at(turn + HEARTBEAT_MAX_AGE + Duration::from_millis(1)));
    }
}
