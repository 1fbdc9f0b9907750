//! A node's own time: its wall clock as it was at the start, carried on by a clock that never jumps.
//!
//! A wall clock may be set at any moment, by an hour too. Stamps and deadlines must not follow such a jump: so this
//! time goes at the pace of the monotonic clock, and is drawn towards the wall clock by at most one part in
//! [`SLEW_PARTS`]. That is more than an oscillator drifts, so a wall clock that is kept right by others is followed.
//! One that is further away than [`SET_US`] was set, and is not followed at all. What is left between the two is told
//! ([`Timekeeper::apart_us`]).

/// Of so much time that passes, one part may be added or left out to come nearer to the wall clock.
pub const SLEW_PARTS: u64 = 1_000;

/// A wall clock that is further from the node's time than this, in microseconds, was set.
pub const SET_US: u64 = 500_000;

/// Tells the time of one node. It never runs backwards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timekeeper {
    /// What the monotonic clock said last, and the time then; `None` before the first time.
    last: Option<(u64, u64)>,
    /// Time that has passed and was not used to come nearer.
    unused_us: u64,
    /// The wall clock was ahead by so much.
    apart_us: i64,
}

impl Timekeeper {
    /// The time now, in microseconds since 1970, from what the two clocks say, in microseconds: `monotonic_us` since any
    /// moment, `wall_us` since 1970.
    pub fn now(&mut self, monotonic_us: u64, wall_us: u64) -> u64 {
        let Some((before_us, own_us)) = self.last else {
            self.last = Some((monotonic_us, wall_us));
            return wall_us;
        };
        let passed_us = monotonic_us.saturating_sub(before_us);
        let carried_us = own_us.saturating_add(passed_us);
        self.unused_us = self.unused_us.saturating_add(passed_us);
        let was_set = wall_us.abs_diff(carried_us) > SET_US;
        let most_us = if was_set { 0 } else { self.unused_us / SLEW_PARTS };
        self.unused_us %= SLEW_PARTS;
        let nearer_us = if wall_us >= carried_us {
            carried_us.saturating_add(most_us.min(wall_us - carried_us))
        } else {
            carried_us - most_us.min(carried_us - wall_us)
        };
        let own_us = nearer_us.max(own_us);
        self.last = Some((monotonic_us.max(before_us), own_us));
        self.apart_us = apart(wall_us, own_us);
        own_us
    }

    /// By how much the wall clock is ahead of the node's time, in microseconds; negative: behind.
    #[must_use]
    pub const fn apart_us(&self) -> i64 {
        self.apart_us
    }
}

fn apart(wall_us: u64, own_us: u64) -> i64 {
    let apart = i128::from(wall_us) - i128::from(own_us);
    i64::try_from(apart).unwrap_or(if apart > 0 { i64::MAX } else { i64::MIN })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const HOUR_US: u64 = 3_600_000_000;
    const START_US: u64 = 50 * HOUR_US;

    proptest! {
        /// However the wall clock is set, the time goes on at its pace.
        #[test]
        fn a_wall_clock_that_jumps_does_not_show(
            steps in vec((0..200_000_u64, 0..100 * HOUR_US), 1..200),
        ) {
            let mut keeper = Timekeeper::default();
            prop_assert_eq!(keeper.now(7, START_US), START_US);
            let (mut monotonic_us, mut before_us, mut before_apart_us) = (7, START_US, 0);
            for (passed_us, wall_us) in steps {
                monotonic_us += passed_us;
                let now_us = keeper.now(monotonic_us, wall_us);
                prop_assert!(now_us >= before_us);
                before_us = now_us;
                let exact_us = START_US + monotonic_us - 7;
                // Where the clock is now it was set to, whatever it was before.
                let most_us = if wall_us.abs_diff(exact_us) > 2 * SET_US {
                    before_apart_us
                } else {
                    (monotonic_us - 7) / SLEW_PARTS
                };
                prop_assert!(now_us.abs_diff(exact_us) <= most_us, "{now_us} {exact_us}");
                before_apart_us = now_us.abs_diff(exact_us);
            }
        }
    }

    #[test]
    fn a_wall_clock_that_drifts_is_followed() {
        let mut keeper = Timekeeper::default();
        keeper.now(0, START_US);
        for step in 1..=36_000_u64 {
            // 200 us a second too slow for the others, who keep the wall clock right.
            let monotonic_us = step * 100_000;
            let wall_us = START_US + monotonic_us + step * 20;
            let now_us = keeper.now(monotonic_us, wall_us);
            assert!(now_us.abs_diff(wall_us) <= 20, "{now_us} {wall_us}");
        }
    }

    #[test]
    fn a_wall_clock_that_was_set_is_not_followed_however_long_it_stays() {
        let mut keeper = Timekeeper::default();
        keeper.now(0, START_US);
        for second in 1..=86_400_u64 {
            let monotonic_us = second * 1_000_000;
            let now_us = keeper.now(monotonic_us, START_US + monotonic_us + HOUR_US);
            assert_eq!(now_us, START_US + monotonic_us);
        }
    }

    #[test]
    fn what_was_set_is_told() {
        let mut keeper = Timekeeper::default();
        keeper.now(0, START_US);
        keeper.now(50_000, START_US + 50_000 + HOUR_US);
        assert!(keeper.apart_us().abs_diff(HOUR_US as i64) <= 50);
        keeper.now(100_000, START_US + 100_000 - HOUR_US);
        assert!(keeper.apart_us().abs_diff(-(HOUR_US as i64)) <= 150);
        // A monotonic clock that goes back does not either.
        let now_us = keeper.now(100_000, START_US);
        assert_eq!(keeper.now(1, START_US), now_us);
    }
}
