//! What all items come to together.
//!
//! A store that loses an item, or goes back to an older one, leaves items that may look whole. So one more item holds
//! a sum over everything that the others say, except for contexts, which may come back, and for what values are, which
//! the store verifies itself. It is no secret and stops nobody: the adversary is a disk.

use bytes::Bytes;

use crate::clock::Clock;
use crate::dot::Dot;
use crate::entry::Entry;
use crate::record::EntryKey;
use crate::replica::Kept;
use crate::state::State;

/// The sum of what a replica has to remember, entry by entry and the rest as a whole. Which actors are its own is apart,
/// as other replicas may begin with all else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    entries: u64,
    kept: u64,
    own: u64,
    rest: u64,
}

impl Sums {
    /// Of all that there is.
    pub(crate) fn of(state: &State, kept: &Kept) -> Self {
        let mut sums = Self::default();
        for (key, entry) in state.entries() {
            sums.add_entry(key, Some(entry));
        }
        for (key, dot) in kept.keys() {
            sums.add_kept(key, *dot);
        }
        sums.set_rest(state);
        sums
    }

    pub(crate) fn add_entry(&mut self, key: &EntryKey, entry: Option<&Entry>) {
        self.entries = self.entries.wrapping_add(of_entry(key, entry));
    }

    pub(crate) fn remove_entry(&mut self, key: &EntryKey, entry: Option<&Entry>) {
        self.entries = self.entries.wrapping_sub(of_entry(key, entry));
    }

    pub(crate) fn add_kept(&mut self, key: &EntryKey, dot: Dot) {
        self.kept = self.kept.wrapping_add(of_kept(key, dot));
    }

    pub(crate) fn remove_kept(&mut self, key: &EntryKey, dot: Dot) {
        self.kept = self.kept.wrapping_sub(of_kept(key, dot));
    }

    /// Sums everything that belongs to no key.
    pub(crate) fn set_rest(&mut self, state: &State) {
        self.own = of_own(state);
        let mut mix = Mix::default();
        for fold in state.folds().iter() {
            mix.number(fold.number.0.into());
            mix.dot(Dot { actor: fold.actor, counter: fold.last });
        }
        mix.clock(state.clock());
        for dot in state.horizon().dots() {
            mix.dot(dot);
        }
        mix.number(state.highest().0);
        self.rest = mix.end();
    }

    /// The bytes of the item.
    pub(crate) fn bytes(self) -> Bytes {
        let numbers = [self.entries, self.kept, self.own, self.rest];
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }

    /// The bytes of the item of a replica that begins with all items of this one but those that name its own actors.
    pub(super) fn without_own(bytes: &Bytes) -> Bytes {
        let mut begun = bytes.to_vec();
        if let Some(own) = begun.get_mut(2 * size_of::<u64>()..3 * size_of::<u64>()) {
            own.copy_from_slice(&of_own(&State::default()).to_be_bytes());
        }
        begun.into()
    }
}

fn of_own(state: &State) -> u64 {
    let mut mix = Mix::default();
    if let Some(actor) = state.actor() {
        mix.bytes(actor.as_bytes());
    }
    for (actor, last) in state.sealed() {
        mix.dot(Dot { actor: *actor, counter: *last });
    }
    mix.end()
}

/// Of one entry; 0 where there is none.
fn of_entry(key: &EntryKey, entry: Option<&Entry>) -> u64 {
    let Some(entry) = entry else { return 0 };
    let mut mix = Mix::default();
    mix.key(key);
    for dot in entry.siblings().keys() {
        mix.dot(*dot);
    }
    mix.number(1);
    for dot in entry.dormant().keys() {
        mix.dot(*dot);
    }
    mix.clock(entry.pending());
    mix.number(entry.stamp().0);
    mix.end()
}

fn of_kept(key: &EntryKey, dot: Dot) -> u64 {
    let mut mix = Mix::default();
    mix.key(key);
    mix.dot(dot);
    mix.end()
}

/// Mixes numbers into one, in their order.
#[derive(Default)]
struct Mix(u64);

impl Mix {
    fn number(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_be_bytes(word));
        }
    }

    fn key(&mut self, key: &EntryKey) {
        self.number(key.keyspace.get());
        self.bytes(&key.key);
    }

    fn dot(&mut self, dot: Dot) {
        self.bytes(dot.actor.as_bytes());
        self.number(dot.counter);
    }

    fn clock(&mut self, clock: &Clock) {
        for (actor, track) in clock.tracks() {
            self.bytes(actor.as_bytes());
            for span in track.spans() {
                self.number(span.first);
                self.number(span.last);
            }
        }
        self.number(2);
    }

    /// Spreads what was mixed over all bits, as sums are taken of it.
    fn end(self) -> u64 {
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}
