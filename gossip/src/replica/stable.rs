//! What every member has.

use crate::clock::Clock;
use crate::dot::Dot;

/// What is stable: what every configured member has, as far as the caller has heard. By default nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stable {
    /// The dots that are in the clock of every configured member.
    pub by: Clock,
    /// An actor of a lost disk is not retired yet. A write of it that was on that disk alone may still turn up, from
    /// an image or a message, and no clock says that it exists; so nothing counts as stable.
    pub has_orphans: bool,
}

impl Stable {
    /// Whether the dot is stable, and with it all that its actor had issued before: so a horizon that is raised to it
    /// flags no session with a member.
    #[must_use]
    pub fn reaches(&self, dot: Dot) -> bool {
        !self.has_orphans && self.by.base(&dot.actor) >= dot.counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::ActorId;

    #[test]
    fn what_is_above_a_hole_or_beside_an_orphan_is_not_stable() {
        let dot = |counter| Dot::new(ActorId::from_bytes([1; 16]), counter);
        let mut stable =
            Stable { by: [dot(1), dot(2), dot(4)].into_iter().collect(), has_orphans: false };
        assert!(stable.reaches(dot(2)) && !stable.reaches(dot(3)) && !stable.reaches(dot(4)));
        stable.has_orphans = true;
        assert!(!stable.reaches(dot(1)));
        assert!(!Stable::default().reaches(dot(1)));
    }
}
