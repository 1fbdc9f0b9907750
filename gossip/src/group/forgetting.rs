//! What is forgotten: contexts and certificates that everybody has, or that are old.
//!
//! A write is *stable* when the clock of every configured member has it. Then nobody needs to be told any more what it
//! superseded. While a member is away nothing new is stable; what arrived here more than [`KEEP_MS`] ago is
//! forgotten all the same, unless its keyspace is `lww`. Either way the horizon is raised, which brings the member that was away
//! to walk the tree. Ages are of this member's own clock and begin anew at a start: no safety rests on them.

use std::collections::VecDeque;

use super::Group;
use crate::clock::Clock;
use crate::dot::Dot;
use crate::replica::{Replica, Stable};

/// How long what is not stable is kept: tau1 of Demers' death certificates.
pub const KEEP_MS: u64 = 3_600_000;

/// Ages are told apart to this.
const AGE_MS: u64 = 60_000;

/// Writes that are forgotten in one turn at most.
const FORGOTTEN_MAX: usize = 4_096;

/// What was here how long ago.
#[derive(Debug)]
pub(super) struct Ages {
    /// Clocks of this member, oldest first, with their times.
    clocks: VecDeque<(u64, Clock)>,
    /// Where the next turn goes on, among what is stable and among what is old: what may not go by one may by the other.
    stable_at: Option<Dot>,
    old_at: Option<Dot>,
}

impl Ages {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clocks: [(0, clock)].into(), stable_at: None, old_at: None }
    }

    /// What has been here for long enough.
    fn old(&mut self, now_ms: u64, clock: &Clock) -> Option<&Clock> {
        if self.clocks.back().is_none_or(|(at, _)| now_ms >= at + AGE_MS) {
            self.clocks.push_back((now_ms, clock.clone()));
        }
        let is_old = |at: &u64| now_ms.saturating_sub(*at) >= KEEP_MS;
        while self.clocks.get(1).is_some_and(|(at, _)| is_old(at)) {
            self.clocks.pop_front();
        }
        self.clocks.front().filter(|(at, _)| is_old(at)).map(|(_, clock)| clock)
    }
}

impl Group {
    /// The dots that every member has, as far as they said.
    #[must_use]
    pub fn stable(&self) -> Clock {
        let mut stable = self.replica.state().clock().clone();
        for member in self.members.values() {
            let missing = stable.minus(&member.clock);
            stable = stable.minus(&missing);
        }
        stable
    }

    pub(super) fn forget(&mut self) {
        // Who is told of a whole key at this moment is not to miss the reason of what it lacks.
        // Who may be damaged drops nothing.
        if !self.may_close() {
            return;
        }
        let stable = Stable { by: self.stable(), has_orphans: false };
        let found = remembered(&self.replica, &mut self.ages.stable_at, &stable.by);
        self.counts.forgotten += self.forget_all(&found, &stable);
        let clock = self.replica.state().clock();
        let Some(old) = self.ages.old(self.now_ms, clock).cloned() else { return };
        let found = remembered(&self.replica, &mut self.ages.old_at, &old);
        self.counts.aged += self.forget_all(&found, &Stable::default());
    }

    fn forget_all(&mut self, dots: &[Dot], stable: &Stable) -> u64 {
        let mut forgotten = 0;
        for dot in dots {
            let Some(key) = self.replica.state().key_of(*dot).cloned() else { continue };
            let mut changes = self.replica.forget_context(&key, *dot);
            if changes.is_empty() {
                changes = self.replica.forget_certificate(&key, *dot, stable);
            }
            forgotten += u64::from(!changes.is_empty());
        }
        forgotten
    }
}

/// Dots in a clock of which a context is still known, in order: those that follow the last ones that were looked
/// at, so that what may not go yet holds up nothing behind it.
fn remembered(replica: &Replica, looked_at: &mut Option<Dot>, clock: &Clock) -> Vec<Dot> {
    let found: Vec<Dot> =
        replica.state().remembered(clock, *looked_at).take(FORGOTTEN_MAX).collect();
    *looked_at = found.last().copied().filter(|_| found.len() == FORGOTTEN_MAX);
    found
}
