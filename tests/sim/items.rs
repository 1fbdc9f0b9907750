//! What a machine's node remembers by itself: put at random, and held against what it shows.
//!
//! The node says at which index of its own log what was put counts. So it is known exactly what it has to
//! show at any index: all that was put up to there, also after a crash, and nothing that came later.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kvstore::node::Node;
use proto::{LogIndex, log};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What was put in one go, and the index at which it counts.
pub type Put = (LogIndex, Vec<log::Item>);

/// Of so many ticks, one puts something.
const PUT_TICKS: u32 = 6;
/// Keys that are put and removed.
const KEYS: u32 = 24;
/// Longest value; some are stored in chunks.
const VALUE_BYTES: usize = 8 * 1024;

/// The items of one machine.
#[derive(Debug)]
pub struct Remembered {
    rng: ChaCha8Rng,
    /// What is durable.
    durable: BTreeMap<Bytes, Bytes>,
    /// What was put and is not applied, as far as is known.
    pending: VecDeque<Put>,
}

impl Remembered {
    /// Nothing so far; what is put follows from the seed.
    pub fn new(seed: u64, host: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed ^ (host << 40) ^ 0x17E5);
        Self { rng, durable: BTreeMap::new(), pending: VecDeque::new() }
    }

    /// The machine has lost everything; true if there was something.
    pub fn forget(&mut self) -> bool {
        self.pending.clear();
        !std::mem::take(&mut self.durable).is_empty()
    }

    /// Puts something now and then, unless the node takes nothing; true if it did.
    pub fn put(&mut self, node: &mut Node) -> bool {
        if self.rng.random_range(0..PUT_TICKS) > 0 || !node.own().takes() {
            return false;
        }
        let count = self.rng.random_range(1..5);
        let items: Vec<log::Item> = (0..count).map(|_| self.item()).collect();
        let index = node.remember(items.clone());
        self.pending.push_back((index, items));
        true
    }

    fn item(&mut self) -> log::Item {
        let key = Bytes::from(format!("item-{}", self.rng.random_range(0..KEYS)));
        let bytes = match self.rng.random_range(0..10) {
            0..2 => return log::Item { key, value: None },
            2..4 => self.rng.random_range(0..VALUE_BYTES),
            _ => self.rng.random_range(0..100),
        };
        let value = vec![self.rng.random::<u8>(); bytes];
        log::Item { key, value: Some(value.into()) }
    }

    /// The node shows what was put up to the index that it has applied, and nothing else.
    ///
    /// # Errors
    /// It does not.
    pub fn shown(&mut self, node: &Node) -> Result<(), String> {
        self.note(node);
        let (applied, shown) = (node.own().applied(), shown_by(node));
        if shown == self.durable {
            return Ok(());
        }
        let differ = |key: &&Bytes| shown.get(*key) != self.durable.get(*key);
        let keys: Vec<_> = self.durable.keys().chain(shown.keys()).filter(differ).collect();
        Err(format!("at {applied} of its own log a node does not show what was put: {keys:?}"))
    }

    /// What a node has applied it has promised, whatever happens to it next.
    pub fn note(&mut self, node: &Node) {
        let applied = node.own().applied();
        while self.pending.front().is_some_and(|(index, _)| *index <= applied) {
            let (_, items) = self.pending.pop_front().expect("it was just seen");
            carry_out(&mut self.durable, items);
        }
    }

    /// The process has started again: what was durable is there, and of what was not perhaps a part. False
    /// where all of it is gone, as `may_be_lost` says it may.
    ///
    /// # Errors
    /// Something is missing, or is there that should not be.
    pub fn found(&mut self, node: &Node, may_be_lost: bool) -> Result<bool, String> {
        if may_be_lost && !self.durable.is_empty() && shown_by(node).is_empty() {
            return Ok(!self.forget());
        }
        let shown = self.shown(node);
        // What the log does not hold by now never counts.
        self.pending.clear();
        shown.map(|()| true)
    }
}

/// What a node shows of its own log.
pub fn shown_by(node: &Node) -> BTreeMap<Bytes, Bytes> {
    let pair = |item: log::Item| (item.key, item.value.expect("an item that is there has a value"));
    node.own().items().map(|item| pair(item.expect("the simulated store works"))).collect()
}

/// What there is after all that was put up to `applied`.
pub fn after(puts: &[Put], applied: LogIndex) -> BTreeMap<Bytes, Bytes> {
    let mut state = BTreeMap::new();
    for (_, items) in puts.iter().filter(|(index, _)| *index <= applied) {
        carry_out(&mut state, items.clone());
    }
    state
}

fn carry_out(state: &mut BTreeMap<Bytes, Bytes>, items: Vec<log::Item>) {
    for log::Item { key, value } in items {
        match value {
            Some(value) => state.insert(key, value),
            None => state.remove(&key),
        };
    }
}
