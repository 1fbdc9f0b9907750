//! Two members and a link that counts what goes over it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gossip::group::{EXCHANGE_MS, Group, Need};
use gossip::items::Item;
use gossip::record::{Body, EntryKey};
use gossip::replica::{Basis, Policy, Replica, Standing, Write};
use gossip::state::State;
use gossip::tree::TreeKey;
use gossip::{ActorId, Dot};
use proto::{KeyspaceId, NodeId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const KEYSPACE: KeyspaceId = KeyspaceId(1);

/// Milliseconds since 1970 when a pair begins.
const WALL_MS: u64 = 1_700_000_000_000;

/// So long nothing stays that is not stable.
const KEEP_MS: u64 = 3_600_000;

/// What an exchange took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Bytes of the messages of each member.
    pub bytes: [u64; 2],
    /// Of these, what asks for nodes of the tree and answers that.
    pub walked_bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Half round trips until the last session of it had closed.
    pub hops: u32,
    /// Time on the clock for all that both members did.
    pub took: Duration,
}

impl Cost {
    /// Bytes of both.
    pub fn all_bytes(&self) -> u64 {
        self.bytes.iter().sum()
    }

    /// Round trips until the last session had closed.
    pub fn round_trips(&self) -> u32 {
        self.hops.div_ceil(2)
    }
}

/// Two members. See the module page.
pub struct Pair {
    rng: ChaCha8Rng,
    now_ms: u64,
    members: [Group; 2],
    /// What each has made durable, in items.
    disks: [BTreeMap<Bytes, Bytes>; 2],
    /// To whom, and what.
    messages: Vec<(usize, Bytes)>,
    is_linked: bool,
    cost: Cost,
}

pub fn key(number: usize) -> EntryKey {
    EntryKey::new(KEYSPACE, format!("user/{number:012}"))
}

fn group(state: State, rng: &mut ChaCha8Rng) -> Group {
    let (mut replica, _) = Replica::start(state, ActorId::mint(rng), TreeKey::new(&[7; 32]));
    replica.set_keyspace(KEYSPACE, Standing::Open(Policy::Siblings));
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    Group::new(replica, 1, seed)
}

impl Pair {
    pub fn new() -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let members = [0, 1].map(|_| group(State::default(), &mut rng));
        let mut pair = Self {
            rng,
            now_ms: 0,
            members,
            disks: Default::default(),
            messages: Vec::new(),
            is_linked: true,
            cost: Cost::default(),
        };
        pair.join(0);
        pair.join(1);
        pair
    }

    /// A pair that both have so many keys, of three actors, and nothing more to tell each other.
    pub fn with_keys(keys: usize) -> Self {
        let mut pair = Self::new();
        for number in 0..keys {
            if number == keys / 3 {
                pair.settle();
                pair.restart(0);
            }
            pair.put(number / (keys * 2 / 3 + 1), number, Basis::Held);
            if number % 10_000 == 9_999 {
                pair.settle();
            }
        }
        pair.rest();
        pair
    }

    fn join(&mut self, at: usize) {
        let other = NodeId(2 - at as u64);
        self.members[at].set_members(&[other].into());
        self.members[at].link(other, self.is_linked);
    }

    pub fn group(&self, at: usize) -> &Group {
        &self.members[at]
    }

    pub fn disk(&self, at: usize) -> &BTreeMap<Bytes, Bytes> {
        &self.disks[at]
    }

    /// The link is up, or down and loses what was on its way.
    pub fn set_link(&mut self, is_up: bool) {
        self.is_linked = is_up;
        self.messages.clear();
        for at in 0..2 {
            self.members[at].link(NodeId(2 - at as u64), is_up);
        }
    }

    /// The member starts anew, so it has another actor.
    pub fn restart(&mut self, at: usize) {
        self.poll(at);
        let state = self.members[at].replica().state().clone();
        self.members[at] = group(state, &mut self.rng);
        self.join(at);
    }

    pub fn write(&mut self, at: usize, number: usize, body: Body, basis: Basis) -> Dot {
        let write = Write { key: key(number), body, deadline: None, basis };
        self.members[at].write(&write, Need::One).expect("nothing stands against it").0
    }

    /// A value of 16 bytes.
    pub fn put(&mut self, at: usize, number: usize, basis: Basis) -> Dot {
        self.write(at, number, Body::Value(Bytes::from_static(&[b'v'; 16])), basis)
    }

    /// What a client that reads the key there may write on.
    pub fn seen(&self, at: usize, number: usize) -> Basis {
        let token = self.members[at].replica().token(&key(number)).what;
        Basis::Seen { context: token.context, stamp: token.stamp }
    }

    fn poll(&mut self, at: usize) {
        // Questions for the time are no part of what an exchange costs.
        drop(self.members[at].take_urgent());
        let output = self.members[at].poll();
        for Item { key, value } in output.items {
            match value {
                Some(value) => self.disks[at].insert(key, value),
                None => self.disks[at].remove(&key),
            };
        }
        for (_, message) in output.sends {
            if self.is_linked {
                self.cost.bytes[at] += message.len() as u64;
                self.cost.messages += 1;
                // Kinds 5 and 6 of a message: Ask and Below.
                if matches!(message[1], 5 | 6) {
                    self.cost.walked_bytes += message.len() as u64;
                }
                self.messages.push((1 - at, message));
            }
        }
    }

    /// All that is on its way arrives, and is answered.
    fn hop(&mut self) {
        for (to, message) in std::mem::take(&mut self.messages) {
            self.members[to].receive(NodeId(2 - to as u64), &message);
        }
        self.poll(0);
        self.poll(1);
    }

    /// Messages go to and fro until none is left.
    pub fn settle(&mut self) {
        let closed = |pair: &Self| pair.members.each_ref().map(|group| group.counts().closed);
        self.poll(0);
        self.poll(1);
        let mut hops = 0;
        while !self.messages.is_empty() {
            let before = closed(self);
            self.hop();
            hops += 1;
            if closed(self) != before {
                self.cost.hops = hops;
            }
        }
    }

    fn tick(&mut self, at: usize) {
        self.members[at].set_wall(WALL_MS + self.now_ms);
        self.members[at].tick(self.now_ms);
    }

    /// One exchange, which this member opens.
    pub fn exchange(&mut self, at: usize) -> Cost {
        self.settle();
        self.cost = Cost::default();
        self.now_ms += 2 * EXCHANGE_MS;
        let begin = Instant::now();
        self.tick(at);
        self.settle();
        self.cost.took = begin.elapsed();
        self.cost
    }

    /// Exchanges until nothing is left to tell and nothing to forget.
    pub fn rest(&mut self) {
        loop {
            let forgotten = |pair: &Self| {
                pair.members.iter().map(|group| group.counts().forgotten).sum::<u64>()
            };
            let before = forgotten(self);
            for _ in 0..2 {
                self.exchange(0);
                self.exchange(1);
            }
            if forgotten(self) == before {
                return;
            }
        }
    }

    /// So long that a member forgets what the other was never told.
    pub fn age(&mut self, at: usize) {
        self.now_ms += 120_000;
        self.tick(at);
        self.now_ms += KEEP_MS + 1;
        loop {
            let before = self.members[at].counts().aged;
            self.tick(at);
            if self.members[at].counts().aged == before {
                return;
            }
        }
    }

    /// Both have the same.
    pub fn assert_equal(&self) {
        let [one, other] = self.members.each_ref().map(Group::replica);
        assert!(one.state().clock().same_dots(other.state().clock()), "clocks differ");
        assert_eq!(one.tree().root(), other.tree().root(), "values differ");
        assert_eq!(other.state().pending_keys().next(), None, "something is pending");
    }
}
