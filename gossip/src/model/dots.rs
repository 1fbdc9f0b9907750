//! Sets of dots.

use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Sub, SubAssign};

/// Number of a write within a schedule, in the order in which writes were made, in `[0, DOTS_MAX)`.
///
/// The oracle knows which actor and counter it stands for.
pub type Dot = u8;

/// Writes that a schedule can hold.
pub const DOTS_MAX: usize = 128;

/// A set of dots, one bit each. Clocks, contexts and stores are such sets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Dots(pub u128);

impl Dots {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// The set of one dot.
    #[inline]
    pub fn one(dot: Dot) -> Self {
        Self(1 << dot)
    }

    /// The dots below `count`: all of the first `count` writes.
    #[inline]
    pub fn first(count: usize) -> Self {
        if count >= DOTS_MAX { Self(u128::MAX) } else { Self((1 << count) - 1) }
    }

    /// Whether `dot` is in the set.
    #[inline]
    pub fn has(self, dot: Dot) -> bool {
        self.0 >> dot & 1 == 1
    }

    /// Whether nothing is in the set.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every dot of this set is in `other`.
    #[inline]
    pub fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Number of dots.
    #[inline]
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The dot at `place` modulo the size, counted from the oldest; `None` of an empty set.
    #[inline]
    pub fn pick(self, place: u8) -> Option<Dot> {
        let size = self.len();
        if size == 0 {
            return None;
        }
        let mut rest = self;
        for _ in 0..u32::from(place) % size {
            rest.0 &= rest.0 - 1;
        }
        rest.oldest()
    }

    /// The oldest dot.
    #[inline]
    pub fn oldest(self) -> Option<Dot> {
        if self.0 == 0 { None } else { Some(self.0.trailing_zeros() as Dot) }
    }
}

impl Iterator for Dots {
    type Item = Dot;

    #[inline]
    fn next(&mut self) -> Option<Dot> {
        let dot = self.oldest()?;
        self.0 &= self.0 - 1;
        Some(dot)
    }
}

impl BitOr for Dots {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Dots {
    type Output = Self;

    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Dots {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOrAssign for Dots {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAndAssign for Dots {
    #[inline]
    fn bitand_assign(&mut self, other: Self) {
        self.0 &= other.0;
    }
}

impl SubAssign for Dots {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl std::fmt::Debug for Dots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(*self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_wrap_around_and_the_first_dots_are_all_below() {
        let set = Dots::one(3) | Dots::one(7) | Dots::one(127);
        assert_eq!(set.collect::<Vec<_>>(), [3, 7, 127]);
        assert_eq!(
            [set.pick(0), set.pick(1), set.pick(2), set.pick(3)],
            [Some(3), Some(7), Some(127), Some(3)]
        );
        assert_eq!(Dots::NONE.pick(9), None);
        assert_eq!(Dots::first(3), Dots::one(0) | Dots::one(1) | Dots::one(2));
        assert!(Dots::first(DOTS_MAX).has(127));
        assert!(Dots::one(3).within(set) && !Dots::one(4).within(set));
        assert_eq!(format!("{set:?}"), "{3, 7, 127}");
    }
}
