//! Stamps: wall time that never runs backwards and respects causes.
//!
//! A stamp is a hybrid logical clock's value (Kulkarni and others, "Logical physical clocks", 2014):
//! 48 bits of milliseconds since 1970 and 16 bits that count within one. Stamps decide the winner of
//! `lww` keyspaces, deadlines and what is shown; never what is obsolete and what may be forgotten.
//!
//! # Guarantees
//! - Stamps that one [`Hlc`] gives out rise strictly, whatever the wall clock does.
//! - A clock that starts from the highest stamp that its replica remembers ([`Hlc::starting`]) gives out none below.
//! - A stamp from elsewhere that is more than [`AHEAD_MAX_MS`] ahead of the wall clock is reported
//!   and does not move the clock, so one fast node does not carry the others along.
//! - A write's stamp is above all stamps that the write covers, also where those are far ahead; that
//!   too does not move the clock.

use std::fmt;

/// How far a stamp from elsewhere may be ahead of the wall clock and still move the clock.
pub const AHEAD_MAX_MS: u64 = 500;

/// Bits of a stamp that count within one millisecond.
const COUNT_BITS: u32 = 16;

/// The highest time that a stamp can hold, some 8,900 years after 1970.
const WALL_MAX_MS: u64 = (1 << (64 - COUNT_BITS)) - 1;

/// A time that respects causes. [`Stamp::ZERO`] is below every stamp that a clock gives out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Below every other stamp.
    pub const ZERO: Self = Self(0);

    /// The first stamp of a millisecond since 1970. Times that do not fit are the last one that does.
    #[must_use]
    pub const fn at_ms(ms: u64) -> Self {
        Self((if ms > WALL_MAX_MS { WALL_MAX_MS } else { ms }) << COUNT_BITS)
    }

    /// The milliseconds since 1970.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 >> COUNT_BITS
    }

    /// The next stamp. At the very end of time it is the same: whoever covers a stamp there has one that is
    /// equal, and the ranks decide. Such a stamp comes from a clock that is thousands of years fast, and it is
    /// no reason to refuse a record.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The first stamp of the last millisecond that is not too far ahead of a wall clock to move a clock.
    #[must_use]
    pub const fn limit(wall_ms: u64) -> Self {
        Self::at_ms(wall_ms.saturating_add(AHEAD_MAX_MS))
    }

    /// Whether the stamp is too far ahead of a wall clock to move a clock.
    #[must_use]
    pub const fn is_far_ahead(self, wall_ms: u64) -> bool {
        self.ms() > Self::limit(wall_ms).ms()
    }

    /// The lowest stamp of whole milliseconds that is not below this one.
    #[must_use]
    pub const fn round_up(self) -> Self {
        let whole = Self::at_ms(self.ms());
        if whole.0 == self.0 { whole } else { Self::at_ms(self.ms() + 1) }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.0 & ((1 << COUNT_BITS) - 1))
    }
}

/// What a stamp from elsewhere did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The clock is above the stamp now, or was before.
    Within,
    /// The stamp is too far ahead. It is stored as it is; the clock did not move. The caller counts it
    /// and raises the alarm for skew.
    Ahead {
        /// How far it is ahead of the wall clock, in milliseconds.
        by_ms: u64,
    },
}

/// The clock of one node. The wall time comes in with each call: the node's clock, corrected by its
/// offset to the members' median and carried on by a monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Hlc {
    last: Stamp,
}

impl Hlc {
    /// The clock of a node that starts, above a stamp that it remembers.
    #[must_use]
    pub const fn starting(highest: Stamp) -> Self {
        Self { last: highest }
    }

    /// Takes note of a stamp that was judged when it was seen first.
    pub(crate) fn remember(&mut self, stamp: Stamp) {
        self.last = self.last.max(stamp);
    }

    /// A stamp above all that were given out or seen within the limit, and above `floor`: the highest
    /// stamp that the write covers.
    pub fn stamp(&mut self, wall_ms: u64, floor: Stamp) -> Stamp {
        let own = self.last.next().max(Stamp::at_ms(wall_ms));
        self.last = own;
        if floor < own {
            return own;
        }
        let over = floor.next();
        self.see(wall_ms, over);
        over
    }

    /// Takes note of a stamp from elsewhere.
    pub fn see(&mut self, wall_ms: u64, remote: Stamp) -> Seen {
        if remote.is_far_ahead(wall_ms) {
            return Seen::Ahead { by_ms: remote.ms().saturating_sub(wall_ms) };
        }
        self.last = self.last.max(remote);
        Seen::Within
    }

    /// The time to judge deadlines by; gives no stamp out.
    #[must_use]
    pub fn now(&self, wall_ms: u64) -> Stamp {
        self.last.max(Stamp::at_ms(wall_ms))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stamps_rise_and_exceed_what_they_cover(
            steps in vec((0..3_000_u64, any::<bool>(), 0..4_000_u64), 1..60),
        ) {
            let mut hlc = Hlc::default();
            let mut last = Stamp::ZERO;
            for (wall, remote, stamp) in steps {
                let wall = 10_000 + wall;
                let stamp = Stamp(Stamp::at_ms(9_000 + stamp).0 + 3);
                if remote {
                    let seen = hlc.see(wall, stamp);
                    let ahead = stamp.ms() > wall + AHEAD_MAX_MS;
                    prop_assert_eq!(matches!(seen, Seen::Ahead { .. }), ahead);
                    prop_assert_eq!(hlc.now(wall) >= stamp || ahead, true);
                } else {
                    let given = hlc.stamp(wall, stamp);
                    prop_assert!(given > stamp);
                    let plain = hlc.stamp(wall, Stamp::ZERO);
                    prop_assert!(plain > last);
                    last = plain;
                }
            }
        }
    }

    #[test]
    fn a_stamp_far_ahead_does_not_move_the_clock() {
        let mut hlc = Hlc::default();
        let hour = Stamp::at_ms(10_000 + 3_600_000);
        assert_eq!(hlc.see(10_000, hour), Seen::Ahead { by_ms: 3_600_000 });
        assert_eq!(hlc.stamp(10_000, hour), hour.next());
        assert_eq!(hlc.stamp(10_000, Stamp::ZERO), Stamp(Stamp::at_ms(10_000).0 + 1));
        // Exactly at the limit it does.
        assert_eq!(hlc.see(10_000, Stamp::at_ms(10_500)), Seen::Within);
        assert_eq!(hlc.stamp(10_000, Stamp::ZERO), Stamp::at_ms(10_500).next());
    }

    #[test]
    fn the_wall_clock_may_jump_back() {
        let mut hlc = Hlc::default();
        let before = hlc.stamp(50_000, Stamp::ZERO);
        assert!(hlc.stamp(1_000, Stamp::ZERO) > before);
        assert_eq!(Stamp(1).round_up(), Stamp::at_ms(1));
        assert_eq!(Stamp::at_ms(7).round_up(), Stamp::at_ms(7));
        assert_eq!(Stamp(u64::MAX).next(), Stamp(u64::MAX));
    }
}
