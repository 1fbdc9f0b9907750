//! Keeps one repeated log line from filling the log.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Passes one line per interval and counts those in between.
#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    passed: Option<Instant>,
    suppressed: u64,
}

/// The interval for what strangers can provoke.
const INTERVAL: Duration = Duration::from_secs(10);

impl Default for Throttle {
    fn default() -> Self {
        Self { interval: INTERVAL, state: Mutex::default() }
    }
}

impl Throttle {
    /// `Some` when a line may be written now: the number of lines left out since the last one.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        let early = state
            .passed
            .is_some_and(|passed| now.saturating_duration_since(passed) < self.interval);
        if early {
            state.suppressed += 1;
            return None;
        }
        state.passed = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.pass_at(start), Some(0));
        assert_eq!(throttle.pass_at(start), None);
        assert_eq!(throttle.pass_at(start + INTERVAL / 2), None);
        assert_eq!(throttle.pass_at(start + INTERVAL), Some(2));
        assert_eq!(throttle.pass_at(start + INTERVAL), None);
    }
}
