//! The operations of one key as the engines of the register checker see them.

use std::hash::{Hash, Hasher};

use super::options::Nil;
use crate::hash::QuickMap;
use crate::operation::{Function, Operation, Outcome};
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
    /// The whole history; acts point into it.
    pub history: &'h [Operation],
    /// The acts.
    pub acts: Vec<Act>,
    /// Number of values; each is below it.
    pub value_count: usize,
    /// What [`INITIAL`] stands for; `None` is absence.
    initial: Option<&'h Written>,
}

impl<'h> Register<'h> {
    /// The same register with other acts, which must be ordered by their starts.
    pub fn with_acts(&self, acts: Vec<Act>) -> Self {
        let mut register = Self { acts, ..*self };
        register.drop_unseen();
        register
    }

    /// The operation behind an act.
    pub fn operation(&self, act: u32) -> &'h Operation {
        &self.history[self.acts[act as usize].operation as usize]
    }

    /// What a value stands for; `None` is absence. Looks through the acts: for explanations.
    pub fn text(&self, value: Value) -> Option<&'h Written> {
        if value == INITIAL {
            return self.initial;
        }
        let named = |act: &&Act| act.value == value || act.expected == value;
        let act = self.acts.iter().find(named).expect("a value is one of some act");
        let operation = &self.history[act.operation as usize];
        if act.value == value { left(operation) } else { operation.expected.as_ref() }
    }

    /// A value as people read it.
    pub fn show(&self, value: Value) -> String {
        self.text(value).map_or_else(|| "absent".to_owned(), ToString::to_string)
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

/// A history taken apart into registers, one for each key, in the order of their first acts.
///
/// It is walked through once from end to end, and then looked at only through acts, which lie close
/// together: a large history is scattered all over the memory, and jumping about in it by keys would
/// cost more than all else.
#[derive(Debug)]
pub struct Registers<'h> {
    history: &'h [Operation],
    initial: Option<&'h Written>,
    /// Register by register, each in the order of the history.
    acts: Vec<Act>,
    /// Where each register begins in `acts`, and where the last one ends.
    begins: Vec<u32>,
    /// Number of values of each register.
    value_counts: Vec<u32>,
}

impl<'h> Registers<'h> {
    /// Takes a history apart. It must hold operations on registers only.
    pub fn new(history: &'h [Operation], initial: Option<&'h Written>, nil: Nil) -> Self {
        assert!(history.len() < u32::MAX as usize, "a history has fewer than 2^32 - 1 operations");
        let mut short: QuickMap<Short, u32> = QuickMap::default();
        let mut long: QuickMap<&str, u32> = QuickMap::default();
        let mut values = Values::new(initial);
        let mut begins = vec![0_u32];
        let mut scattered: Vec<Act> = Vec::with_capacity(history.len());
        let mut registers = Vec::with_capacity(history.len());
        for (place, operation) in (0..).zip(history) {
            let Some(effect) = effect(operation, nil) else { continue };
            let fresh = u32::try_from(begins.len() - 1).expect("a key has an operation");
            let register = match Short::new(0, &operation.key) {
                Some(key) => *short.entry(key).or_insert(fresh),
                None => *long.entry(&operation.key).or_insert(fresh),
            };
            if register == fresh {
                begins.push(0);
                values.counts.push(1);
            }
            begins[register as usize + 1] += 1;
            registers.push(register);
            let value = values.number(register, left(operation));
            let expected = match effect {
                Effect::Cas => values.number(register, operation.expected.as_ref()),
                Effect::Read | Effect::Write => value,
            };
            let start = operation.invoke_ns.saturating_add(1);
            let end = operation.end_ns().saturating_add(1);
            assert!(start <= end, "operation ends before it starts: {operation}");
            scattered.push(Act { effect, value, expected, start, end, operation: place });
        }
        for register in 1..begins.len() {
            begins[register] += begins[register - 1];
        }
        let value_counts = values.counts;
        let acts = if value_counts.len() > 1 {
            together(&scattered, &registers, &begins)
        } else {
            scattered
        };
        Self { history, initial, acts, begins, value_counts }
    }

    /// Number of registers.
    pub fn len(&self) -> usize {
        self.value_counts.len()
    }

    /// One of them.
    pub fn register(&self, number: usize) -> Register<'h> {
        let (begin, end) = (self.begins[number] as usize, self.begins[number + 1] as usize);
        let mut acts = self.acts[begin..end].to_vec();
        if !acts.is_sorted_by_key(|act| (act.start, act.operation)) {
            acts.sort_unstable_by_key(|act| (act.start, act.operation));
        }
        let value_count = self.value_counts[number] as usize;
        let mut register =
            Register { history: self.history, acts, value_count, initial: self.initial };
        register.drop_unseen();
        register
    }
}

/// Acts register by register; `begins` says where each register begins.
fn together(scattered: &[Act], registers: &[u32], begins: &[u32]) -> Vec<Act> {
    let Some(first) = scattered.first() else { return Vec::new() };
    let mut next = begins.to_vec();
    let mut acts = vec![*first; scattered.len()];
    for (act, &register) in scattered.iter().zip(registers) {
        let slot = &mut next[register as usize];
        acts[*slot as usize] = *act;
        *slot += 1;
    }
    acts
}

/// What an operation does; `None` if it says nothing.
fn effect(operation: &Operation, nil: Nil) -> Option<Effect> {
    match (operation.function, operation.outcome) {
        (_, Outcome::Fail) | (Function::Read, Outcome::Info) => None,
        (Function::Read, _) if nil == Nil::Unknown && operation.value.is_none() => None,
        (Function::Read, Outcome::Ok) => Some(Effect::Read),
        (Function::Write | Function::Delete, _) => Some(Effect::Write),
        (Function::Cas, _) => Some(Effect::Cas),
        (other, _) => unreachable!("{} is no function of a register", other.as_str()),
    }
}

/// Numbers for the values of each register.
struct Values<'h> {
    initial: Option<&'h Written>,
    short: QuickMap<Short, Value>,
    long: QuickMap<(u32, Option<&'h Written>), Value>,
    counts: Vec<u32>,
}

impl<'h> Values<'h> {
    fn new(initial: Option<&'h Written>) -> Self {
        let (short, long) = (QuickMap::default(), QuickMap::default());
        Self { initial, short, long, counts: Vec::new() }
    }

    fn number(&mut self, register: u32, value: Option<&'h Written>) -> Value {
        if value == self.initial {
            return INITIAL;
        }
        let count = &mut self.counts[register as usize];
        let fresh = || {
            *count += 1;
            *count - 1
        };
        match value.and_then(Written::as_text).and_then(|text| Short::new(register, text)) {
            Some(short) => *self.short.entry(short).or_insert_with(fresh),
            None => *self.long.entry((register, value)).or_insert_with(fresh),
        }
    }
}

/// A short text with a number, held in place: comparing it touches no other memory.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Short([u32; 4]);

impl Short {
    /// The text with the number; `None` if it is too long.
    fn new(number: u32, text: &str) -> Option<Self> {
        let mut bytes = [0; 12];
        bytes.get_mut(..text.len()).filter(|_| text.len() < 12)?.copy_from_slice(text.as_bytes());
        // The length tells "a" from "a\0".
        bytes[11] = u8::try_from(text.len()).expect("it is below 12");
        let (words, _) = bytes.as_chunks::<4>();
        let word = |at: usize| u32::from_le_bytes(words[at]);
        Some(Self([number, word(0), word(1), word(2)]))
    }
}

impl Hash for Short {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self([one, two, three, four]) = *self;
        state.write_u64(u64::from(one) << 32 | u64::from(two));
        state.write_u64(u64::from(three) << 32 | u64::from(four));
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
