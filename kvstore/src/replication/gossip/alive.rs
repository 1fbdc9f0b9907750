//! Who seems to be up, and that nobody is given up for it.

use std::collections::BTreeSet;

use gossip::group::Group;
use gossip::liveness::{Liveness, Swim, Vitality};
use proto::NodeId;
use proto::peer::{self, peer_message::Body};

use super::GROUP;
use crate::node::LivenessSummary;
use crate::replication::Outbox;

/// Milliseconds after which a member that is said to be down is tried again, beside the exchanges that there are anyhow.
const TRY_DEAD_MS: u64 = 5_000;

/// Liveness of the members, over a lane of the links. Nothing of it waits for the disk.
#[derive(Debug)]
pub(super) struct Alive {
    liveness: Box<dyn Liveness>,
    now_ms: u64,
    next_try_ms: u64,
    /// Members that were found to be down since the start.
    downs: u64,
}

impl Alive {
    /// `wall_ms` is the time of the start: it is above that of earlier ones unless the clock was set back.
    pub(super) fn new(node: NodeId, wall_ms: u64, seed: [u8; 32]) -> Self {
        Self::by(Box::new(Swim::new(node, wall_ms, seed)))
    }

    pub(super) fn by(liveness: Box<dyn Liveness>) -> Self {
        Self { liveness, now_ms: 0, next_try_ms: 0, downs: 0 }
    }

    pub(super) fn set_members(&mut self, others: &BTreeSet<NodeId>) {
        self.liveness.set_members(others);
    }

    pub(super) fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.liveness.on_time(now_ms);
    }

    pub(super) fn hear(&mut self, from: NodeId, packet: &[u8]) {
        self.liveness.on_packet(from, packet);
    }

    /// Sends what there is to say.
    pub(super) fn speak(&mut self, out: &mut Outbox) {
        let said = self.liveness.poll();
        self.downs += said.downs.len() as u64;
        for (to, packet) in said.sends {
            out.send(to, GROUP, Body::Liveness(peer::Liveness { packet }));
        }
    }

    /// Opens an exchange with members that are said to be down, now and then: they need not be.
    pub(super) fn try_the_dead(&mut self, others: &BTreeSet<NodeId>, group: &mut Group) {
        if self.now_ms < self.next_try_ms {
            return;
        }
        self.next_try_ms = self.now_ms + TRY_DEAD_MS;
        for node in others {
            if self.liveness.vitality(*node) == Vitality::Down {
                group.exchange_with(*node);
            }
        }
    }

    pub(super) fn summary(&self, others: &BTreeSet<NodeId>) -> LivenessSummary {
        let members = others.iter().map(|node| (*node, self.liveness.vitality(*node)));
        LivenessSummary {
            members: members.collect(),
            counts: self.liveness.counts(),
            downs: self.downs,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use gossip::liveness::{LivenessCounts, Output};
    use gossip::state::State;
    use gossip::tree::TreeKey;
    use gossip::{ActorId, Replica};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Says of node 2 that it is down, and of nobody else.
    #[derive(Debug)]
    pub(in super::super) struct TwoIsDown;

    impl Liveness for TwoIsDown {
        fn set_members(&mut self, _others: &BTreeSet<NodeId>) {}
        fn on_packet(&mut self, _from: NodeId, _packet: &[u8]) {}
        fn on_time(&mut self, _now_ms: u64) {}
        fn poll(&mut self) -> Output {
            Output::default()
        }
        fn vitality(&self, node: NodeId) -> Vitality {
            if node == NodeId(2) { Vitality::Down } else { Vitality::Up }
        }
        fn counts(&self) -> LivenessCounts {
            LivenessCounts::default()
        }
    }

    fn group(others: &BTreeSet<NodeId>) -> Group {
        let actor = ActorId::mint(&mut ChaCha8Rng::seed_from_u64(1));
        let (replica, _) = Replica::start(State::default(), actor, TreeKey::new(&[7; 32]));
        let mut group = Group::new(replica, 1, [1; 32]);
        group.set_members(others);
        for node in others {
            link(&mut group, *node);
        }
        group
    }

    /// A link breaks and comes up; what a group says to everybody then is not what is counted here.
    fn link(group: &mut Group, node: NodeId) {
        group.link(node, false);
        group.link(node, true);
        assert_eq!(spoken_to(group), [node]);
    }

    /// To whom a group says something.
    fn spoken_to(group: &mut Group) -> Vec<NodeId> {
        group.poll().sends.into_iter().map(|(to, _)| to).collect()
    }

    #[test]
    fn who_is_said_to_be_down_is_tried_every_five_seconds() {
        let others: BTreeSet<NodeId> = (2..=9).map(NodeId).collect();
        let mut group = group(&others);
        let mut alive = Alive::by(Box::new(TwoIsDown));
        alive.set_members(&others);
        let mut tried = 0;
        // The group itself is not told the time, so nothing else opens an exchange.
        for second in 0..20 {
            alive.tick(second * 1_000);
            alive.try_the_dead(&others, &mut group);
            let said = spoken_to(&mut group);
            assert!(said.iter().all(|node| *node == NodeId(2)), "{said:?}");
            tried += said.len();
            // What was said was not heard.
            link(&mut group, NodeId(2));
        }
        assert_eq!(tried, 4);
    }

    #[test]
    fn packets_leave_with_the_next_poll() {
        let others = BTreeSet::from([NodeId(2)]);
        let mut alive = Alive::new(NodeId(1), 1_000, [3; 32]);
        alive.set_members(&others);
        alive.tick(50);
        let mut out = Outbox::new(crate::node::Ticket(1));
        alive.speak(&mut out);
        let (to, message) = out.sends.pop().expect("an announcement");
        assert_eq!((to, message.group), (NodeId(2), GROUP.0));
        assert!(matches!(message.body, Some(Body::Liveness(_))));
        assert_eq!(alive.summary(&others).members, [(NodeId(2), Vitality::Unknown)]);
    }
}
