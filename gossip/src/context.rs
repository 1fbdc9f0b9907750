//! What a write supersedes.

use std::sync::Arc;

use crate::clock::Clock;
use crate::dot::Dot;

/// What a write supersedes: exactly the dots that its client or its replica had seen.
///
/// A shared clock and, with it, the dots of one actor up to a counter. A replica that writes many keys
/// between two changes from outside takes its clock once, and each write adds only what the replica
/// itself issued since.
///
/// A context is exact: with a dot it holds all that this dot's write superseded, so a write covers
/// what its victims covered. Only certificates of expiry and collapses are cut down
/// ([`Replica`](crate::replica::Replica) says what makes those safe).
#[derive(Clone, Debug)]
pub struct Context {
    shared: Arc<Clock>,
    through: Option<Dot>,
}

impl Context {
    /// The dots of a clock.
    #[must_use]
    pub const fn new(shared: Arc<Clock>) -> Self {
        Self { shared, through: None }
    }

    /// The dots of a clock, and those of `through.actor` from 1 to `through.counter`.
    #[must_use]
    pub const fn with_own(shared: Arc<Clock>, through: Dot) -> Self {
        Self { shared, through: Some(through) }
    }

    /// The clock that is shared.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Clock> {
        &self.shared
    }

    /// Up to where the dots of one actor are in the context too.
    #[must_use]
    pub const fn through(&self) -> Option<Dot> {
        self.through
    }

    /// Whether the write supersedes the dot.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        let own =
            self.through.is_some_and(|own| own.actor == dot.actor && dot.counter <= own.counter);
        own || self.shared.contains(dot)
    }

    /// Whether all dots of `other` are in this context.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let through = |own: Dot| {
            let base = self.through.filter(|mine| mine.actor == own.actor);
            base.is_some_and(|mine| own.counter <= mine.counter)
                || self.shared.base(&own.actor) >= own.counter
        };
        let own = other.through.is_none_or(through);
        if own && (Arc::ptr_eq(&self.shared, &other.shared) || self.shared.covers(&other.shared)) {
            return true;
        }
        self.to_clock().covers(&other.to_clock())
    }

    /// The dots that are not in `clock`.
    #[must_use]
    pub fn minus(&self, clock: &Clock) -> Clock {
        let mut rest = self.shared.minus(clock);
        if let Some(own) = self.through
            && clock.base(&own.actor) < own.counter
        {
            let mut more = Clock::default();
            more.add_up_to(own.actor, own.counter);
            rest.join(&more.minus(clock));
        }
        rest
    }

    /// All dots as one clock.
    #[must_use]
    pub fn to_clock(&self) -> Clock {
        let mut clock = (*self.shared).clone();
        if let Some(own) = self.through {
            clock.add_up_to(own.actor, own.counter);
        }
        clock
    }
}

/// Contexts are equal when they hold the same dots, however they are put together.
impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        let same = self.through == other.through
            && (Arc::ptr_eq(&self.shared, &other.shared) || self.shared.same_dots(&other.shared));
        same || self.to_clock().same_dots(&other.to_clock())
    }
}

impl Eq for Context {}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::actor::ActorId;

    fn context() -> impl Strategy<Value = Context> {
        let dot =
            || (0..3_u8, 1..7_u64).prop_map(|(a, c)| Dot::new(ActorId::from_bytes([a; 16]), c));
        (vec(dot(), 0..8), proptest::option::of(dot())).prop_map(|(dots, through)| Context {
            shared: Arc::new(dots.into_iter().collect()),
            through,
        })
    }

    proptest! {
        #[test]
        fn a_context_is_the_clock_of_its_dots(a in context(), b in context()) {
            let (ka, kb) = (a.to_clock(), b.to_clock());
            for actor in 0..3 {
                for counter in 1..9 {
                    let dot = Dot::new(ActorId::from_bytes([actor; 16]), counter);
                    prop_assert_eq!(a.contains(dot), ka.contains(dot));
                }
            }
            prop_assert_eq!(a.covers(&b), ka.covers(&kb));
            prop_assert!(a.minus(&kb).same_dots(&ka.minus(&kb)));
            prop_assert_eq!(a == b, ka.same_dots(&kb));
        }
    }
}
