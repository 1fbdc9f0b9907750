//! What the rules are compared with: deletes that are remembered for a time.
//!
//! Every value and every death certificate has a timestamp, and the newest wins. A certificate is
//! dropped when it is older than a threshold; what comes later is taken. (Demers et al. 1987, death
//! certificates with a fixed threshold.) Here all clocks are perfect, which is kinder than life.

use super::operation::Operation;
use super::schedule::Schedule;
use super::truth::KEYS_MAX;
use super::world::REPLICAS_MAX;

/// Records in flight at most; the oldest makes room.
const MAIL: usize = 64;

/// A value or a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Item {
    key: usize,
    /// Number of the step in which it was written: the same for everybody.
    stamp: u16,
    is_certificate: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Node {
    items: [Option<Item>; KEYS_MAX],
    /// Newest delete that was applied here, for the judge.
    deleted: [u16; KEYS_MAX],
}

/// Replicas with certificates that age.
#[derive(Clone, Debug)]
pub struct Baseline {
    nodes: [Node; REPLICAS_MAX],
    images: [Option<Node>; REPLICAS_MAX],
    mail: Vec<Item>,
    replicas: usize,
    keys: usize,
    now: u16,
    threshold: u16,
}

impl Baseline {
    /// Plays the steps of a seed that mean something here, then lets all pairs exchange everything.
    /// Certificates are dropped when they are older than `threshold` steps. Returns how often a
    /// replica showed a value that a delete which it had applied itself had ended.
    pub fn resurrections(seed: u64, threshold: u16) -> u64 {
        let mut schedule = Schedule::new(seed);
        let setting = schedule.setting();
        let mut baseline = Self {
            nodes: [Node::default(); REPLICAS_MAX],
            images: [None; REPLICAS_MAX],
            mail: Vec::with_capacity(MAIL),
            replicas: setting.replicas,
            keys: setting.keys,
            now: 0,
            threshold,
        };
        let mut count = 0;
        while let Some(operation) = schedule.next_operation() {
            baseline.now += 1;
            baseline.expire_certificates();
            count += baseline.step(operation);
        }
        for _ in 0..2 {
            for from in 0..setting.replicas {
                for to in 0..setting.replicas {
                    count += baseline.session(from, to);
                }
            }
        }
        count
    }

    fn step(&mut self, operation: Operation) -> u64 {
        match operation {
            Operation::Write { at, key, delete, mail, .. } => {
                self.write(usize::from(at), usize::from(key), delete, mail)
            }
            Operation::QuorumWrite { at, key, delete, .. } => {
                self.write(usize::from(at), usize::from(key), delete, true)
            }
            Operation::SessionWrite { at, key, delete, .. } => {
                self.write(usize::from(at), usize::from(key), delete, false)
            }
            Operation::Send { from, pick } => {
                let key = usize::from(pick) % self.keys;
                if let Some(item) = self.nodes[usize::from(from)].items[key] {
                    self.post(item);
                }
                0
            }
            Operation::Deliver { to, pick } if !self.mail.is_empty() => {
                let item = self.mail[usize::from(pick) % self.mail.len()];
                self.take(usize::from(to), item)
            }
            Operation::Session { from, to } | Operation::Begin { from, to } => {
                self.session(usize::from(from), usize::from(to))
            }
            Operation::Wipe { at } | Operation::LoseClock { at } => {
                self.nodes[usize::from(at)] = Node::default();
                0
            }
            Operation::Image { at } => {
                self.images[usize::from(at)] = Some(self.nodes[usize::from(at)]);
                0
            }
            Operation::Rollback { at } => {
                if let Some(image) = self.images[usize::from(at)] {
                    self.nodes[usize::from(at)] = image;
                }
                0
            }
            _ => 0,
        }
    }

    fn write(&mut self, at: usize, key: usize, delete: bool, mail: bool) -> u64 {
        let item = Item { key, stamp: self.now, is_certificate: delete };
        if mail {
            self.post(item);
        }
        self.take(at, item)
    }

    fn post(&mut self, item: Item) {
        if self.mail.len() == MAIL {
            self.mail.remove(0);
        }
        self.mail.push(item);
    }

    /// Takes an item if it is newer than what is here. Returns 1 if it brings back what was deleted.
    fn take(&mut self, at: usize, item: Item) -> u64 {
        let is_old = item.is_certificate && self.now - item.stamp > self.threshold;
        let node = &mut self.nodes[at];
        let is_newer = node.items[item.key].is_none_or(|present| present.stamp < item.stamp);
        if !is_newer {
            return 0;
        }
        if item.is_certificate {
            node.deleted[item.key] = node.deleted[item.key].max(item.stamp);
            node.items[item.key] = if is_old { None } else { Some(item) };
            return 0;
        }
        node.items[item.key] = Some(item);
        u64::from(item.stamp < node.deleted[item.key])
    }

    fn session(&mut self, from: usize, to: usize) -> u64 {
        let items = self.nodes[from].items;
        items.into_iter().flatten().map(|item| self.take(to, item)).sum()
    }

    fn expire_certificates(&mut self) {
        for node in &mut self.nodes[..self.replicas] {
            for slot in &mut node.items {
                if slot.is_some_and(|item| {
                    item.is_certificate && self.now - item.stamp > self.threshold
                }) {
                    *slot = None;
                }
            }
        }
    }
}
