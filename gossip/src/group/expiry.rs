//! Values whose time is over end: a certificate for each takes its place.
//!
//! Reads hide a value from its deadline on, everywhere and whoever is away. Its certificate is written by one
//! member: in the first minute by the one that issued the value's dot, later by the lowest member in contact, and each further
//! minute by the next one, should those before it not get to it. A second certificate does no harm, and is rare.
//!
//! # Guarantees
//! - Nobody ends a value who is not in contact with a majority, counting itself, whose clocks agree with its own to
//!   [`OFF_MAX_US`](super::OFF_MAX_US), since [`SETTLE_MS`]. So neither a wrong clock nor a member that is cut off ends anything.
//! - What ends is that value and what it had superseded ([`Replica::expire`](crate::Replica::expire)).
//! - A turn ends [`EXPIRED_MAX`] values at most, and looks at [`LOOKED_MAX`].
//! - Deadlines are part of what is stored, so a restart forgets none.

use proto::NodeId;

use super::Group;
use crate::dot::Dot;
use crate::hlc::Stamp;

/// How long the member that issued a value has to end it alone; then each other one.
pub const TURN_MS: u64 = 60_000;

/// How long a member has to be in contact with a majority before it ends anything: it may have to hear first of what
/// others have ended.
pub const SETTLE_MS: u64 = 5_000;

/// Values that one turn ends at most.
pub const EXPIRED_MAX: usize = 256;

/// Values that one turn looks at, at most.
const LOOKED_MAX: usize = 4_096;

/// Who ends values here, and how far that has come.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// This member's id, where it may end values.
    node: Option<NodeId>,
    /// Since when a majority agrees with its clock.
    agreed_ms: Option<u64>,
    /// Where the next turn goes on.
    looked_at: Option<(Stamp, Dot)>,
}

impl Group {
    /// Lets this member, of this id, end values whose time is over; `None`: it does not. A member that knows that
    /// something may be missing of what it stores, or that takes no writes, must not.
    pub const fn set_expiring(&mut self, node: Option<NodeId>) {
        self.expiry.node = node;
    }

    /// Values that end at some time.
    #[must_use]
    pub fn deadlines(&self) -> usize {
        self.replica.state().deadlines().len()
    }

    /// Ends values whose time is over and whose turn it is here.
    pub(super) fn expire(&mut self) {
        let Some((node, near)) = self.expiry.node.zip(self.agreeing()) else {
            self.expiry.agreed_ms = None;
            return;
        };
        let agreed_ms = *self.expiry.agreed_ms.get_or_insert(self.now_ms);
        if self.now_ms.saturating_sub(agreed_ms) < SETTLE_MS {
            return;
        }
        let now = Stamp::at_ms(self.wall_ms);
        let looked: Vec<(Stamp, Dot)> =
            self.replica.state().due(now, self.expiry.looked_at).take(LOOKED_MAX).collect();
        let lower = near.range(..node).count() as u64;
        let (mut ended, mut is_more, mut last) = (0, looked.len() == LOOKED_MAX, None);
        for (deadline, dot) in looked {
            if ended == EXPIRED_MAX {
                is_more = true;
                break;
            }
            ended += usize::from(self.has_turn(lower, deadline, dot) && self.end_value(dot, now));
            last = Some((deadline, dot));
        }
        self.expiry.looked_at = last.filter(|_| is_more);
    }

    /// Whether it is this member that ends a value now, with so many lower ones in contact.
    fn has_turn(&self, lower: u64, deadline: Stamp, dot: Dot) -> bool {
        let over_ms = self.wall_ms.saturating_sub(deadline.ms());
        let is_own = self.replica.state().is_own(&dot.actor);
        (is_own && over_ms < TURN_MS) || over_ms >= TURN_MS.saturating_mul(1 + lower)
    }

    fn end_value(&mut self, dot: Dot, now: Stamp) -> bool {
        let state = self.replica.state();
        let is_own = state.is_own(&dot.actor);
        let Some(key) = state.key_of(dot).cloned() else { return false };
        // What is damaged, or of a keyspace that was just removed, stays as it is.
        let Ok(written) = self.replica.expire(&key, dot, now) else { return false };
        self.counts.expired += 1;
        self.counts.expired_for_others += u64::from(!is_own);
        self.rumors.add(written.record);
        self.spread(written.collapse);
        true
    }
}
