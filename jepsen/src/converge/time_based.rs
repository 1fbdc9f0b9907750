//! What the core is compared with: deletes that are remembered for a time.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::schedule::{Killed, Schedule, Step};

/// How long a certificate is kept: as long as the core keeps what is not stable.
pub const CERTIFICATE_MS: u64 = 3_600_000;

/// Time between two exchanges of a member.
const EXCHANGE_MS: u64 = 1_000;

/// Time that a jump takes.
const HOUR_MS: u64 = 3_660_000;

/// Items that are on their way for long, at most.
const PAST_MAX: usize = 64;

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
/// life, and disks are as durable as they are for the core.
#[derive(Debug)]
pub struct TimeBased {
    rng: ChaCha8Rng,
    nodes: Vec<Node>,
    copies: Vec<Option<Node>>,
    cut: Vec<Vec<bool>>,
    /// Items that were lost on their way, and may come late.
    past: Vec<(usize, usize, Item)>,
    now_ms: u64,
    exchanged_ms: u64,
    written: u64,
    lost: u32,
    returned: u64,
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
            cut: vec![vec![false; nodes]; nodes],
            past: Vec::new(),
            now_ms: 0,
            exchanged_ms: 0,
            written: 0,
            lost: schedule.lost,
            returned: 0,
        };
        for step in &schedule.steps {
            replicas.step(*step);
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
            Step::Run { ms } => self.pass(ms),
            Step::Hour => self.pass(HOUR_MS),
            Step::CutOff { at } => {
                for other in 0..self.nodes.len() {
                    self.cut[at][other] = true;
                    self.cut[other][at] = true;
                }
            }
            Step::CutPair { one, other } => {
                self.cut[one][other] = true;
                self.cut[other][one] = true;
            }
            Step::Mend => self.cut.iter_mut().for_each(|row| row.fill(false)),
            Step::Restart { .. } => {}
            Step::LoseDisk { at } => self.nodes[at] = Node::default(),
            Step::CopyDisk { at } => self.copies[at] = Some(self.nodes[at].clone()),
            Step::RollBack { at } => {
                if let Some(copy) = &self.copies[at] {
                    self.nodes[at] = copy.clone();
                }
            }
            Step::FromThePast { pick } => {
                if !self.past.is_empty() {
                    let (to, key, item) = self.past.remove(pick % self.past.len());
                    self.take(to, key, item);
                }
            }
        }
    }

    fn mail(&mut self, from: usize, key: usize, item: Item) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            if self.cut[from][to] || self.rng.random_range(0..100) < self.lost {
                self.past.push((to, key, item));
                if self.past.len() > PAST_MAX {
                    self.past.remove(0);
                }
            } else {
                self.take(to, key, item);
            }
        }
    }

    /// Time passes: each member exchanges once a second, but at most a few times in a long while.
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.expire();
        let turns = (self.now_ms - self.exchanged_ms) / EXCHANGE_MS;
        if turns == 0 {
            return;
        }
        self.exchanged_ms = self.now_ms;
        for _ in 0..turns.min(3) {
            for at in 0..self.nodes.len() {
                let other = (at + self.rng.random_range(1..self.nodes.len())) % self.nodes.len();
                if !self.cut[at][other] {
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
        self.cut.iter_mut().for_each(|row| row.fill(false));
        for (to, key, item) in std::mem::take(&mut self.past) {
            self.take(to, key, item);
        }
        for _ in 0..2 {
            for one in 0..self.nodes.len() {
                for other in one + 1..self.nodes.len() {
                    self.exchange(one, other);
                }
            }
        }
    }
}
