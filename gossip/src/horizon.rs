//! How far a replica has forgotten.

use std::collections::BTreeMap;

use crate::actor::ActorId;
use crate::clock::Clock;
use crate::dot::Dot;

/// The horizon F of a replica: for each actor the highest counter whose certificate or context was
/// dropped here, or at a replica whose clock was joined.
///
/// A replica that dropped what a write had superseded can no longer tell a peer by sending records.
/// F says for which dots that may be so. Dropping, becoming dormant and being cut down all raise it
/// in the same way; nothing ever lowers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Horizon {
    counters: BTreeMap<ActorId, u64>,
}

impl Horizon {
    /// Whether the dot is at or below the horizon.
    #[must_use]
    pub fn reaches(&self, dot: Dot) -> bool {
        self.get(&dot.actor) >= dot.counter
    }

    /// The counter of an actor; 0 if nothing of it was dropped.
    #[must_use]
    pub fn get(&self, actor: &ActorId) -> u64 {
        self.counters.get(actor).copied().unwrap_or(0)
    }

    /// Raises the horizon to the dot; false if it reached so far already.
    pub fn raise(&mut self, dot: Dot) -> bool {
        if self.reaches(dot) {
            return false;
        }
        self.counters.insert(dot.actor, dot.counter);
        true
    }

    /// The highest dot of each actor, in the order of the actors.
    pub fn dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.counters.iter().map(|(actor, counter)| Dot { actor: *actor, counter: *counter })
    }

    /// Why a session from a replica with this horizon and the clock `theirs` to one with the clock
    /// `mine` is *flagged*: a dot of `theirs` at or below the horizon that is not in `mine`. Only then
    /// may the sender have dropped something that the receiver never saw.
    ///
    /// The horizon is cut by the sender's clock: a dot below it that nobody has, such as a write that
    /// was lost with its disk, flags nothing.
    #[must_use]
    pub fn flags(&self, theirs: &Clock, mine: &Clock) -> Option<Dot> {
        self.counters.iter().find_map(|(actor, counter)| {
            let low = theirs.track(actor)?.cut(*counter);
            let missing = match mine.track(actor) {
                Some(mine) => low.minus(mine),
                None => low,
            };
            let first = missing.spans().next()?;
            Some(Dot::new(*actor, first.first))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn dots() -> impl Strategy<Value = BTreeSet<Dot>> {
        let dot = (0..3_u8, 1..9_u64)
            .prop_map(|(actor, counter)| Dot::new(ActorId::from_bytes([actor; 16]), counter));
        btree_set(dot, 0..16)
    }

    proptest! {
        #[test]
        fn flagged_means_that_a_dropped_dot_is_missing(f in dots(), s in dots(), r in dots()) {
            let mut horizon = Horizon::default();
            for dot in &f {
                horizon.raise(*dot);
            }
            let theirs: Clock = s.iter().copied().collect();
            let mine: Clock = r.iter().copied().collect();
            let below = |dot: &Dot| f.iter().any(|f| f.actor == dot.actor && dot.counter <= f.counter);
            let missing = s.iter().copied().find(|dot| below(dot) && !r.contains(dot));
            prop_assert_eq!(horizon.flags(&theirs, &mine), missing);
        }
    }

    #[test]
    fn a_hole_that_nobody_has_flags_nothing() {
        let actor = ActorId::from_bytes([1; 16]);
        let clock: Clock = [1, 2, 4, 5].into_iter().map(|c| Dot::new(actor, c)).collect();
        let mut horizon = Horizon::default();
        assert!(horizon.raise(Dot::new(actor, 5)) && !horizon.raise(Dot::new(actor, 3)));
        assert_eq!(horizon.flags(&clock, &clock), None);
        assert_eq!(horizon.flags(&clock, &Clock::default()), Some(Dot::new(actor, 1)));
    }
}
