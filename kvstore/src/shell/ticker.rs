//! Turns the monotonic clock into logical ticks.

use std::time::{Duration, Instant};

/// Most ticks that are made up for at once when the loop was held up.
///
/// A burst of ticks after a stall (a suspended machine, a stopped process) would fire every
/// election timeout before the heartbeats that wait in the queue are read; the rest is forgotten.
const CATCH_UP_TICKS_MAX: u32 = 3;

/// Says how many ticks are due.
#[derive(Debug)]
pub struct Ticker {
    period: Duration,
    next: Instant,
}

impl Ticker {
    /// A ticker whose first tick is due one period after `now`.
    pub fn new(period: Duration, now: Instant) -> Self {
        assert!(!period.is_zero(), "a tick takes time");
        Self { period, next: now + period }
    }

    /// The time from `now` to the next tick; zero when it is due.
    pub fn wait(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// Takes the ticks due at `now`, at most [`CATCH_UP_TICKS_MAX`].
    pub fn take(&mut self, now: Instant) -> u32 {
        let mut due = 0;
        while self.next <= now {
            if due == CATCH_UP_TICKS_MAX {
                self.next = now + self.period;
                break;
            }
            due += 1;
            self.next += self.period;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(50);

    #[test]
    fn ticks_come_at_their_period_without_drift() {
        let start = Instant::now();
        let mut ticker = Ticker::new(PERIOD, start);
        let taken: u32 = (1..=1_000).map(|ms| ticker.take(start + Duration::from_millis(ms))).sum();
        assert_eq!(taken, 20);
        assert_eq!(ticker.wait(start + Duration::from_millis(1_010)), Duration::from_millis(40));
    }

    #[test]
    fn a_late_loop_catches_up_a_little_and_forgets_the_rest() {
        let start = Instant::now();
        let mut ticker = Ticker::new(PERIOD, start);
        assert_eq!(ticker.take(start + PERIOD * 2), 2);
        let late = start + Duration::from_secs(60);
        assert_eq!(ticker.take(late), CATCH_UP_TICKS_MAX);
        assert_eq!(ticker.take(late), 0);
        assert_eq!(ticker.wait(late), PERIOD);
    }
}
