//! The name of one write.

use std::fmt;

use crate::actor::ActorId;

/// The name of one write: its actor and the actor's counter, from 1.
///
/// Each write of a group has a dot of its own, and a dot is issued at most once
/// (Preguiça et al., "Dotted version vectors", 2010).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who issued it.
    pub actor: ActorId,
    /// How many writes the actor had issued with this one: 1 to [`Dot::COUNTER_MAX`].
    pub counter: u64,
}

impl Dot {
    /// The largest counter. Far above what an actor can issue, and far enough below the end of
    /// `u64` that no sum of a counter and a length overflows.
    pub const COUNTER_MAX: u64 = 1 << 62;

    /// The dot of `actor` at `counter`.
    ///
    /// # Panics
    /// When `counter` is 0 or above [`Dot::COUNTER_MAX`]. What comes from outside is checked where
    /// it is decoded.
    #[must_use]
    pub fn new(actor: ActorId, counter: u64) -> Self {
        assert!(counter >= 1, "counters begin at 1");
        assert!(counter <= Self::COUNTER_MAX, "counter {counter} is above the largest");
        Self { actor, counter }
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor.prefix(), self.counter)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
