//! Members that leave: what they took has to be elsewhere before they go.
//!
//! A majority of those who stay has to have it, durably: one other would not do, as a quorum read of those who stay need not meet
//! that one (model: `DrainToOne`). Who leaves says in its Hellos that it takes no writes any more; what the clock of the first of
//! them says is all there is. It does not say so while anything waits beside its clock, which is to be written anew.

use proto::NodeId;

use super::Group;
use crate::actor::ActorId;

impl Group {
    /// Takes note that this member is to leave: the caller takes no writes of clients any more. Collapses are no loss: who
    /// has what they are of makes them anew.
    pub const fn set_leaving(&mut self, leaves: bool) {
        self.replica.set_leaving(leaves);
    }

    /// Whether a majority of those who stay has all that a member has that leaves. False while it was not heard to take no
    /// writes any more.
    #[must_use]
    pub fn is_drained(&self, leaving: NodeId) -> bool {
        let Some(left) = self.members.get(&leaving).and_then(|member| member.left.as_ref()) else {
            return false;
        };
        // The clock of who is damaged says of what is lost that it is known.
        if self.is_damaged() {
            return false;
        }
        let others = self.members.iter().filter(|(node, _)| **node != leaving);
        let clocks = others.map(|(_, other)| &other.clock).chain([self.replica.state().clock()]);
        let holders = clocks.filter(|clock| clock.covers(left)).count();
        // All members but the one, and this one.
        let stay = self.members.len();
        2 * holders > stay
    }

    /// What is known here of the writes of a member's present start: its actor, and the last counter that was seen.
    #[must_use]
    pub fn last_known(&self, node: NodeId) -> Option<(ActorId, u64)> {
        let actor = self.members.get(&node)?.actor?;
        Some((actor, self.replica.state().clock().last(&actor)))
    }
}
