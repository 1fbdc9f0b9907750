//! The operations of one key as the engines of the register checker see them.

use crate::operation::{Function, Operation};
use crate::value::Value as Written;

/// A value of the register, as a small number.
pub type Value = u32;

/// The value at the beginning: absence if nothing else is said.
pub const INITIAL: Value = 0;

/// The end of an act that may take effect at any time, or never.
pub const NEVER: u64 = u64::MAX;

/// What an act does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Returned `value`.
    Read,
    /// Set `value`.
    Write,
    /// Found `expected` and set `value`.
    Cas,
}

/// One operation that took effect or may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// What it did.
    pub effect: Effect,
    /// The value read or written.
    pub value: Value,
    /// The value a cas found; equal to `value` otherwise.
    pub expected: Value,
    /// Its call, plus one: time 0 belongs to the initial state.
    pub start: u64,
    /// Its return, plus one; [`NEVER`] if its outcome is unknown.
    pub end: u64,
    /// Its place in the history.
    pub operation: u32,
}

impl Act {
    /// Whether nobody knows if it took effect.
    pub const fn crashed(&self) -> bool {
        self.end == NEVER
    }

    /// The value it proves to have been there, if it took effect.
    pub const fn observed(&self) -> Option<Value> {
        match self.effect {
            Effect::Read => Some(self.value),
            Effect::Write => None,
            Effect::Cas => Some(self.expected),
        }
    }
}

/// The acts on one register, ordered by their starts.
///
/// Failed operations and unknown reads are not among them, and neither are unknown writes whose
/// value nobody can have seen: leaving out such a write turns a linearization with it into one
/// without it.
#[derive(Clone, Debug)]
pub struct Register<'h> {
    /// The operations that acts point to, where they are at hand: engines decide without them, and
    /// only what they say needs them.
    history: Option<&'h [Operation]>,
    /// The acts.
    pub acts: Vec<Act>,
    /// Number of values; each is below it.
    pub value_count: usize,
    /// What [`INITIAL`] stands for; `None` is absence.
    initial: Option<&'h Written>,
}

impl<'h> Register<'h> {
    /// A register of acts, which must be ordered by their starts.
    pub fn new(acts: Vec<Act>, value_count: usize, initial: Option<&'h Written>) -> Self {
        let mut register = Self { history: None, acts, value_count, initial };
        register.drop_unseen();
        register
    }

    /// The same register with the operations that its acts point to.
    pub fn with_history(self, history: &'h [Operation]) -> Self {
        Self { history: Some(history), ..self }
    }

    /// The same register with other acts, which must be ordered by their starts.
    pub fn with_acts(&self, acts: Vec<Act>) -> Self {
        let mut register = Self { acts, ..*self };
        register.drop_unseen();
        register
    }

    /// A sentence about operations; empty where they are not at hand.
    pub fn say(&self, sentence: impl FnOnce() -> String) -> String {
        if self.history.is_some() { sentence() } else { String::new() }
    }

    /// All operations. Only to be asked within [`Register::say`].
    pub fn history(&self) -> &'h [Operation] {
        self.history.expect("sentences are only made where operations are at hand")
    }

    /// The operation behind an act. Only to be asked within [`Register::say`].
    pub fn operation(&self, act: u32) -> &'h Operation {
        &self.history()[self.acts[act as usize].operation as usize]
    }

    /// What a value stands for; `None` is absence. Looks through the acts. Only to be asked within
    /// [`Register::say`].
    pub fn text(&self, value: Value) -> Option<&'h Written> {
        if value == INITIAL {
            return self.initial;
        }
        let named = |act: &&Act| act.value == value || act.expected == value;
        let act = self.acts.iter().find(named).expect("a value is one of some act");
        let operation = &self.history()[act.operation as usize];
        if act.value == value { left(operation) } else { operation.expected.as_ref() }
    }

    /// A value as people read it; empty where operations are not at hand.
    pub fn show(&self, value: Value) -> String {
        self.say(|| self.text(value).map_or_else(|| "absent".to_owned(), ToString::to_string))
    }

    /// For each value the last moment at which an act that must or may take effect can see it; 0
    /// if none can.
    pub fn last_seen(&self) -> Vec<u64> {
        let mut last = vec![0; self.value_count];
        for act in &self.acts {
            if let Some(value) = act.observed() {
                let last = &mut last[value as usize];
                *last = act.end.max(*last);
            }
        }
        last
    }

    /// Drops unknown writes that nobody can have seen. A cas that is kept sees its expected value,
    /// which may make another one worth keeping.
    fn drop_unseen(&mut self) {
        if !self.acts.iter().any(Act::crashed) {
            return;
        }
        let mut last = vec![0; self.value_count];
        for act in self.acts.iter().filter(|act| !act.crashed()) {
            if let Some(value) = act.observed() {
                let last = &mut last[value as usize];
                *last = act.end.max(*last);
            }
        }
        let mut undecided: Vec<Act> = self.acts.iter().copied().filter(Act::crashed).collect();
        loop {
            let before = undecided.len();
            undecided.retain(|act| {
                let seen = last[act.value as usize] >= act.start;
                if let (true, Some(value)) = (seen, act.observed()) {
                    last[value as usize] = NEVER;
                }
                !seen
            });
            if undecided.len() == before {
                break;
            }
        }
        self.acts.retain(|act| !act.crashed() || last[act.value as usize] >= act.start);
    }
}

/// The value that an operation on a register returned or wrote.
fn left(operation: &Operation) -> Option<&Written> {
    operation.value.as_ref().filter(|_| operation.function != Function::Delete)
}

/// What an engine found out about one register.
#[derive(Clone, Debug)]
pub enum Finding {
    /// It is linearizable, by this order of acts. Empty unless an order was asked for.
    Valid(Vec<u32>),
    /// It is not.
    Invalid(Conflict),
    /// The budget ran out.
    Unknown(String),
}

/// Why a register is not linearizable.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// Acts that by themselves are not linearizable.
    pub acts: Vec<u32>,
    /// The act that has no place, where one can be named.
    pub culprit: Option<u32>,
    /// One sentence; empty where operations are not at hand.
    pub why: String,
}
