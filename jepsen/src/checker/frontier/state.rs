//! States of the search, and sets of them.

use std::collections::BTreeMap;

use crate::checker::acts::Value;
use crate::hash::QuickMap;

/// Any value that nobody can see any more.
pub const DEAD: Value = Value::MAX;

/// States up to which a set is searched from end to end instead of by hash.
const LINEAR_SEARCH_MAX: usize = 16;

/// Comparisons of states that cost as much as one new state.
const COMPARISONS_PER_STATE: u64 = 16;

/// An expansion is wide when it has seen this many times the states that are to be kept.
const WIDE: usize = 8;

/// One state that the register can be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The value, or [`DEAD`].
    pub value: Value,
    /// The open acts that have taken effect, by slot.
    pub placed: u128,
    /// How many crashed acts of each class were used; ordered by class, without zeros.
    pub used: Vec<(u32, u32)>,
    /// The last act placed, as an entry of the trail.
    pub trail: u32,
}

impl State {
    /// How many crashed acts of a class were used.
    pub fn used(&self, class: u32) -> u32 {
        match self.used.binary_search_by_key(&class, |&(class, _)| class) {
            Ok(place) => self.used[place].1,
            Err(_) => 0,
        }
    }

    /// Uses one more crashed act of a class.
    pub fn use_one(&mut self, class: u32) {
        match self.used.binary_search_by_key(&class, |&(class, _)| class) {
            Ok(place) => self.used[place].1 += 1,
            Err(place) => self.used.insert(place, (class, 1)),
        }
    }

    /// How many crashed acts it used that are still worth having.
    pub fn crashed_used(&self) -> u64 {
        self.used.iter().map(|&(_, count)| u64::from(count)).sum()
    }

    /// Whether this state can do all that the other can: it is equal but for crashed acts, of which
    /// it used no more of any class.
    fn makes_superfluous(&self, other: &Self) -> bool {
        self.value == other.value
            && self.placed == other.placed
            && self.used.len() <= other.used.len()
            && self.used.iter().all(|&(class, count)| count <= other.used(class))
    }
}

/// States of which hardly any makes another one superfluous.
#[derive(Debug, Default)]
pub struct StateSet {
    /// The states, in no particular order.
    pub states: Vec<State>,
    /// Places in `states` by value and placed acts; filled once there are many.
    index: QuickMap<(Value, u128), Vec<u32>>,
    /// Comparisons made.
    compared: u64,
}

impl StateSet {
    /// Adds a state; false if it is superfluous.
    fn insert(&mut self, state: State) -> bool {
        if self.states.len() <= LINEAR_SEARCH_MAX {
            if self.states.iter().any(|known| known.makes_superfluous(&state)) {
                return false;
            }
            self.states.retain(|known| !state.makes_superfluous(known));
            self.states.push(state);
            if self.states.len() > LINEAR_SEARCH_MAX {
                for (place, state) in (0..).zip(&self.states) {
                    self.index.entry((state.value, state.placed)).or_default().push(place);
                }
            }
            return true;
        }
        let alike = self.index.entry((state.value, state.placed)).or_default();
        let mut replaced = None;
        for (slot, &place) in alike.iter().enumerate() {
            self.compared += 1;
            let known = &self.states[place as usize];
            if known.makes_superfluous(&state) {
                return false;
            }
            if replaced.is_none() && state.makes_superfluous(known) {
                replaced = Some(slot);
            }
        }
        // Further superfluous ones stay: they cost time, not answers.
        match replaced {
            Some(slot) => self.states[alike[slot] as usize] = state,
            None => {
                alike.push(u32::try_from(self.states.len()).expect("the budget is below 2^32"));
                self.states.push(state);
            }
        }
        true
    }
}

/// The continuation of states until one act is placed in all of them.
#[derive(Debug)]
pub struct Expansion {
    /// The slot of the act that must be placed.
    target: u128,
    /// States in which it is placed; its slot is free in them.
    pub done: StateSet,
    /// All other states met.
    pub seen: StateSet,
    /// Those of them still to be continued, by crashed acts used. The fewest come first: they make
    /// others superfluous before these are continued.
    work: BTreeMap<u64, Vec<State>>,
}

impl Expansion {
    /// An expansion without states, towards the act in this slot.
    pub fn new(target: u128) -> Self {
        let (done, seen) = (StateSet::default(), StateSet::default());
        Self { target, done, seen, work: BTreeMap::new() }
    }

    /// Adds a state and returns what that cost.
    pub fn add(&mut self, mut state: State) -> u64 {
        let before = self.done.compared + self.seen.compared;
        if state.placed & self.target != 0 {
            state.placed &= !self.target;
            self.done.insert(state);
        } else if self.seen.insert(state.clone()) {
            self.work.entry(state.crashed_used()).or_default().push(state);
        }
        1 + (self.done.compared + self.seen.compared - before) / COMPARISONS_PER_STATE
    }

    /// Takes a state that is to be continued.
    pub fn pop(&mut self) -> Option<State> {
        let mut first = self.work.first_entry()?;
        let state = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        state
    }

    /// Whether something was found and looking for more would take long, for someone who wants to
    /// keep only this many states.
    pub fn is_wide(&self, width: usize) -> bool {
        !self.done.states.is_empty() && self.seen.states.len() / WIDE >= width
    }
}
