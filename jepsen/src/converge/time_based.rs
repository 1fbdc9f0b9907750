//! What the core is compared with: deletes that are remembered for a time.

use std::collections::BTreeMap;

use gossip::group::KEEP_MS;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Counts;
use super::network::{Network, ROUNDS, Sent};
use super::schedule::{HOUR_MS, Killed, Schedule, Step, TICK_MS};

/// How long a certificate is kept: as long as the core keeps what is not stable.
pub const CERTIFICATE_MS: u64 = KEEP_MS;

/// Time between two exchanges of a member.
const EXCHANGE_MS: u64 = 1_000;

/// A value or a certificate. The newest wins.
#[derive(Clone, Copy, Debug)]
struct Item {
    written_ms: u64,
    /// Tells apart what was written in one millisecond.
    number: u64,
    is_certificate: bool,
}

impl Item {
    const fn stamp(&self) -> (u64, u64) {
        (self.written_ms, self.number)
    }

    const fn is_old(&self, now_ms: u64) -> bool {
        self.is_certificate && now_ms - self.written_ms > CERTIFICATE_MS
    }
}

#[derive(Clone, Debug, Default)]
struct Node {
    items: BTreeMap<usize, Item>,
    /// The newest delete that was applied here, for the judge.
    deleted: BTreeMap<usize, (u64, u64)>,
}

/// Replicas as in Demers et al. 1987 with a fixed threshold: every value and every death certificate has a timestamp, the
/// newest wins, and a certificate that is older than [`CERTIFICATE_MS`] is dropped. All clocks are perfect, which is kinder than
/// life; disks are as durable and mail is as often lost, doubled and late as they are for the core.
#[derive(Debug)]
pub struct TimeBased {
    rng: ChaCha8Rng,
    nodes: Vec<Node>,
    copies: Vec<Option<Node>>,
    /// Carries what is mailed: a key, and what was written there.
    network: Network<(usize, Item)>,
    now_ms: u64,
    exchanged_ms: u64,
    written: u64,
    returned: u64,
    /// What happens to the mail. Nobody asks for it.
    counts: Counts,
}

impl TimeBased {
    /// Plays a schedule, then lets all exchange everything. Answers how often a replica showed a value that was older
    /// than a delete which it had applied itself.
    pub fn resurrections(schedule: &Schedule) -> u64 {
        let nodes = schedule.nodes;
        let mut replicas = Self {
            rng: ChaCha8Rng::seed_from_u64(schedule.seed ^ 0x0de3_e125),
            nodes: vec![Node::default(); nodes],
            copies: vec![None; nodes],
            network: Network::new(schedule),
            now_ms: 0,
            exchanged_ms: 0,
            written: 0,
            returned: 0,
            counts: Counts::default(),
        };
        for step in &schedule.steps {
            replicas.step(*step);
            replicas.settle();
        }
        replicas.heal();
        replicas.returned
    }

    fn step(&mut self, step: Step) {
        match step {
            // What is not durable was not written.
            Step::Write { killed: Some(Killed::BeforeSync), .. } | Step::Read { .. } => {}
            Step::Write { at, key, delete, killed, .. } => {
                self.written += 1;
                let (written_ms, number) = (self.now_ms, self.written);
                let item = Item { written_ms, number, is_certificate: delete };
                self.take(at, key, item);
                if killed.is_none() {
                    self.mail(at, key, item);
                }
            }
            Step::Run { ms } => {
                for _ in 0..ms / TICK_MS {
                    self.pass(TICK_MS);
                }
            }
            Step::Hour => self.pass(HOUR_MS),
            Step::CutOff { at } => {
                for other in (0..self.nodes.len()).filter(|other| *other != at) {
                    self.network.cut(at, other);
                }
            }
            Step::CutPair { one, other } => self.network.cut(one, other),
            Step::Mend => self.network.mend(),
            Step::Restart { .. } | Step::Decide { .. } | Step::Hear { .. } => {}
            Step::LoseDisk { at, .. } => self.nodes[at] = Node::default(),
            Step::CopyDisk { at } => self.copies[at] = Some(self.nodes[at].clone()),
            Step::RollBack { at } => {
                if let Some(copy) = &self.copies[at] {
                    self.nodes[at] = copy.clone();
                }
            }
            Step::FromThePast { pick } => {
                if let Some(sent) = self.network.replayed(pick) {
                    self.hear(sent);
                }
            }
        }
    }

    fn mail(&mut self, from: usize, key: usize, item: Item) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            let sent = Sent { from, to, what: (key, item) };
            self.network.send(sent, &mut self.rng, &mut self.counts);
        }
    }

    fn hear(&mut self, sent: Sent<(usize, Item)>) {
        let (key, item) = sent.what;
        self.take(sent.to, key, item);
    }

    /// Some of what is on its way arrives, as it does for the core.
    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            for sent in self.network.arriving(&mut self.rng, &mut self.counts) {
                self.hear(sent);
            }
        }
    }

    /// Time passes: each member exchanges once a second, but at most a few times in a long while.
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.expire();
        self.settle();
        let turns = (self.now_ms - self.exchanged_ms) / EXCHANGE_MS;
        if turns == 0 {
            return;
        }
        self.exchanged_ms = self.now_ms;
        for _ in 0..turns.min(3) {
            for at in 0..self.nodes.len() {
                let other = (at + self.rng.random_range(1..self.nodes.len())) % self.nodes.len();
                if self.network.is_linked(at, other) {
                    self.exchange(at, other);
                }
            }
        }
    }

    fn exchange(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            for (key, item) in self.nodes[from].items.clone() {
                self.take(to, key, item);
            }
        }
    }

    fn expire(&mut self) {
        let now_ms = self.now_ms;
        for node in &mut self.nodes {
            node.items.retain(|_, item| !item.is_old(now_ms));
        }
    }

    /// Takes an item if it is newer than what is here.
    fn take(&mut self, at: usize, key: usize, item: Item) {
        let is_old = item.is_old(self.now_ms);
        let node = &mut self.nodes[at];
        if node.items.get(&key).is_some_and(|here| here.stamp() >= item.stamp()) {
            return;
        }
        let deleted = node.deleted.get(&key).copied().unwrap_or_default();
        if item.is_certificate {
            node.deleted.insert(key, deleted.max(item.stamp()));
            if is_old {
                node.items.remove(&key);
            } else {
                node.items.insert(key, item);
            }
            return;
        }
        node.items.insert(key, item);
        self.returned += u64::from(item.stamp() < deleted);
    }

    fn heal(&mut self) {
        self.network.calm();
        while let Some(sent) = self.network.replayed(0) {
            self.hear(sent);
        }
        self.settle();
        for _ in 0..2 {
            for one in 0..self.nodes.len() {
                for other in one + 1..self.nodes.len() {
                    self.exchange(one, other);
                }
            }
        }
    }
}
