//! Which actors are known, and that no two of them begin with the same bytes.
//!
//! Tokens name an actor by its [prefix](crate::actor::ActorPrefix) where every member knows it. Of two actors with one
//! prefix both are named in full, so a token is ten bytes longer for each of them until they are folded. That is why
//! nobody goes on issuing dots under such a name: the node of the younger one mints again. Who is younger nobody can tell of two
//! that issue dots, so it is the one with the higher name; a former actor never gives way.

use std::collections::BTreeSet;

use super::Group;
use crate::actor::ActorId;
use crate::token::ActorNames;

impl Group {
    /// Takes note of the actors that are known here, and of those that every member knows. Mints again, if another
    /// actor has the prefix of this member's and does not give way.
    pub fn learn_names(&mut self, names: &mut ActorNames) {
        for (actor, _) in self.replica.state().clock().tracks() {
            let mut clocks = self.members.values().map(|member| &member.clock);
            if clocks.all(|clock| clock.track(actor).is_some()) {
                names.learned_everywhere(*actor);
            } else {
                names.learn(*actor);
            }
        }
        if self.gives_way() {
            self.counts.renamed += 1;
            self.renew_actor();
        }
    }

    /// Whether another actor has the prefix of this member's and will keep it.
    fn gives_way(&self) -> bool {
        let Some(own) = self.replica.state().actor() else { return false };
        let mut of_members = self.members.values().filter_map(|member| member.actor);
        let mut known = self.replica.state().clock().tracks().map(|(actor, _)| *actor);
        let clashes = |other: &ActorId| *other != own && other.prefix() == own.prefix();
        of_members.any(|other| clashes(&other) && other < own)
            || known.any(|other| clashes(&other) && !self.issues(&other))
    }

    /// Whether a member has said that it issues dots by this actor.
    fn issues(&self, actor: &ActorId) -> bool {
        self.members.values().any(|member| member.actor == Some(*actor))
    }

    /// Issues dots by a new actor from now on, of a prefix that no other one has.
    pub(super) fn renew_actor(&mut self) {
        let known: BTreeSet<_> =
            self.replica.state().clock().tracks().map(|(actor, _)| actor.prefix()).collect();
        let mut actor = ActorId::mint(&mut self.rng);
        while known.contains(&actor.prefix()) {
            actor = ActorId::mint(&mut self.rng);
        }
        let _ = self.replica.mint(actor);
        self.asking.clear();
    }
}

#[cfg(test)]
mod tests {
    use proto::{KeyspaceId, NodeId};

    use super::*;
    use crate::Replica;
    use crate::group::Need;
    use crate::record::{Body, EntryKey};
    use crate::replica::{Basis, Policy, Standing, Write};
    use crate::state::State;
    use crate::tree::TreeKey;

    const KEYSPACE: KeyspaceId = KeyspaceId(5);

    /// Actors of one prefix.
    fn actor(rest: u8) -> ActorId {
        let mut bytes = [7; 16];
        bytes[10] = rest;
        ActorId::from_bytes(bytes)
    }

    /// A member that has issued a dot by this actor.
    fn group(actor: ActorId) -> Group {
        let (mut replica, _) = Replica::start(State::default(), actor, TreeKey::new(&[7; 32]));
        replica.set_keyspace(KEYSPACE, Standing::Open(Policy::Siblings));
        let mut group = Group::new(replica, 1, [3; 32]);
        group.set_members(&[NodeId(2)].into());
        let key = EntryKey::new(KEYSPACE, "k");
        let body = Body::Value("v".into());
        let write = Write { key, body, deadline: None, basis: Basis::Held };
        group.write(&write, Need::One).unwrap();
        group
    }

    fn issuer(group: &Group) -> ActorId {
        group.replica().state().actor().unwrap()
    }

    #[test]
    fn of_two_that_issue_dots_the_higher_gives_way() {
        for (own, other, gives_way) in [(4, 9, false), (9, 4, true)] {
            let mut group = group(actor(own));
            group.members.get_mut(&NodeId(2)).unwrap().actor = Some(actor(other));
            group.learn_names(&mut ActorNames::default());
            assert_eq!(issuer(&group) != actor(own), gives_way, "{own} beside {other}");
            assert_eq!(group.counts().renamed, u64::from(gives_way));
            group.learn_names(&mut ActorNames::default());
            assert_eq!(group.counts().renamed, u64::from(gives_way), "once");
        }
    }

    #[test]
    fn a_former_actor_never_gives_way() {
        for (former, own) in [(4, 9), (9, 4)] {
            let mut group = group(actor(former));
            let _ = group.replica.mint(actor(own));
            group.learn_names(&mut ActorNames::default());
            assert_ne!(issuer(&group).prefix(), actor(own).prefix(), "{own} after {former}");
            assert_eq!(group.counts().renamed, 1);
        }
    }
}
