//! The operations of one key as the engines of the register checker see them.

use std::collections::HashMap;

use crate::operation::{Function, Operation, Outcome};

/// A value of the register, as a small number.
pub type Value = u32;

/// The initial state: no value. Deletes write it.
pub const ABSENT: Value = 0;

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
    /// The whole history; acts point into it.
    pub history: &'h [Operation],
    /// The acts.
    pub acts: Vec<Act>,
    /// What the values stand for.
    values: Vec<Option<&'h str>>,
}

impl<'h> Register<'h> {
    /// Translates the operations of one key, given by their places in `history`.
    pub fn new(history: &'h [Operation], places: &[u32]) -> Self {
        let mut values = vec![None];
        let mut numbers: HashMap<&'h str, Value> = HashMap::new();
        let mut number = |text: Option<&'h str>| match text {
            None => ABSENT,
            Some(text) => *numbers.entry(text).or_insert_with(|| {
                values.push(Some(text));
                Value::try_from(values.len() - 1).expect("places are u32, so are values")
            }),
        };
        let mut acts = Vec::with_capacity(places.len());
        for &place in places {
            let operation = &history[place as usize];
            let effect = match (operation.function, operation.outcome) {
                (_, Outcome::Fail) | (Function::Read, Outcome::Info) => continue,
                (Function::Read, Outcome::Ok) => Effect::Read,
                (Function::Write | Function::Delete, _) => Effect::Write,
                (Function::Cas, _) => Effect::Cas,
                (other, _) => unreachable!("{} is no function of a register", other.as_str()),
            };
            let value = match operation.written() {
                Some(written) => number(written),
                None => number(operation.text()),
            };
            let expected = match effect {
                Effect::Cas => number(operation.expected_text()),
                Effect::Read | Effect::Write => value,
            };
            let start = operation.invoke_ns.saturating_add(1);
            let end = operation.end_ns().saturating_add(1);
            assert!(start <= end, "operation ends before it starts: {operation}");
            acts.push(Act { effect, value, expected, start, end, operation: place });
        }
        acts.sort_by_key(|act| (act.start, act.operation));
        let mut register = Self { history, acts, values };
        register.drop_unseen();
        register
    }

    /// The same register with other acts, which must be ordered by their starts.
    pub fn with_acts(&self, acts: Vec<Act>) -> Self {
        let mut register = Self { history: self.history, acts, values: self.values.clone() };
        register.drop_unseen();
        register
    }

    /// Number of values; each is below it.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The operation behind an act.
    pub fn operation(&self, act: u32) -> &'h Operation {
        &self.history[self.acts[act as usize].operation as usize]
    }

    /// What a value stands for; `None` is absence.
    pub fn text(&self, value: Value) -> Option<&'h str> {
        self.values[value as usize]
    }

    /// A value as people read it.
    pub fn show(&self, value: Value) -> String {
        match self.values[value as usize] {
            Some(text) => format!("{text:?}"),
            None => "absent".to_owned(),
        }
    }

    /// For each value the last moment at which an act that must or may take effect can see it; 0
    /// if none can.
    pub fn last_seen(&self) -> Vec<u64> {
        let mut last = vec![0; self.values.len()];
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
        let mut last = vec![0; self.values.len()];
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
    /// One sentence.
    pub why: String,
}
