//! A history in its compact form, taken apart into registers.

use super::acts::{Act, Effect, NEVER, Register};
use super::keys::Parts;
use super::numbering::Numbering;
use super::options::Nil;
use crate::history::{Corpus, Entry, Symbol};
use crate::operation::{Function, Outcome};
use crate::value::Value;

/// What is used again from one register to the next.
#[derive(Debug, Default)]
pub struct Desk {
    acts: Vec<Act>,
    numbering: Numbering,
}

impl Desk {
    /// Takes back the acts of a register that is done.
    pub fn clear(&mut self, register: Register<'_>) {
        self.acts = register.acts;
    }
}

/// The registers of a history, one for each key, in the order of their first operations.
#[derive(Debug)]
pub struct Registers<'c> {
    corpus: &'c Corpus,
    parts: Parts,
    initial: Option<&'c Value>,
    initial_symbol: Symbol,
    nil: Nil,
}

impl<'c> Registers<'c> {
    /// Takes a history apart. It must hold operations on registers only.
    pub fn new(corpus: &'c Corpus, initial: Option<&'c Value>, nil: Nil) -> Self {
        let keys = corpus.entries().iter().map(|entry| entry.key);
        let parts = Parts::new(keys, corpus.key_count());
        Self { corpus, parts, initial, initial_symbol: corpus.symbol(initial), nil }
    }

    /// Number of registers.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// What each register holds at the beginning.
    pub fn initial(&self) -> Option<&'c Value> {
        self.initial
    }

    /// The key of a register.
    pub fn key(&self, number: usize) -> &'c str {
        let key = u32::try_from(number).expect("keys are counted in 32 bits");
        self.corpus.key(key)
    }

    /// Whether the operations of a register came one after the other, and each found what the one
    /// before it left: it is linearizable then. Where many keys are used by few clients, this says
    /// all about nearly all of them.
    pub fn one_by_one(&self, number: usize) -> bool {
        let mut held = self.initial_symbol;
        let mut last_end = None;
        for entry in self.entries(number) {
            let Some(effect) = self.effect(entry) else { continue };
            let overlaps = last_end.is_some_and(|end| entry.invoke_ns <= end);
            let value = value(entry);
            let finds = match effect {
                Effect::Read => value == held,
                Effect::Write => true,
                Effect::Cas => entry.expected == held,
            };
            if overlaps || !finds || entry.end_ns == NEVER {
                return false;
            }
            held = value;
            last_end = Some(entry.end_ns);
        }
        true
    }

    /// One of the registers. Its acts come from the desk and should go back there.
    pub fn register(&self, number: usize, desk: &mut Desk) -> Register<'c> {
        let mut acts = std::mem::take(&mut desk.acts);
        acts.clear();
        let places = self.parts.part(number);
        acts.reserve(places.len());
        desk.numbering.begin(self.initial_symbol, places.len());
        for &place in places {
            let entry = &self.corpus.entries()[place as usize];
            let Some(effect) = self.effect(entry) else { continue };
            let value = desk.numbering.number(value(entry));
            let expected = match effect {
                Effect::Cas => desk.numbering.number(entry.expected),
                Effect::Read | Effect::Write => value,
            };
            let (start, end) = (entry.invoke_ns.saturating_add(1), entry.end_ns.saturating_add(1));
            acts.push(Act { effect, value, expected, start, end, operation: place });
        }
        if !acts.is_sorted_by_key(|act| (act.start, act.operation)) {
            acts.sort_unstable_by_key(|act| (act.start, act.operation));
        }
        Register::new(acts, desk.numbering.end(), self.initial)
    }

    /// Operations that explain what some acts of a register have seen though none of them wrote it:
    /// the first write of each such value, and the first that failed.
    pub fn context(&self, number: usize, acts: &[Act]) -> Vec<u32> {
        let entry = |act: &Act| &self.corpus.entries()[act.operation as usize];
        let mut unwritten: Vec<Symbol> = acts
            .iter()
            .filter_map(|act| match act.effect {
                Effect::Read => Some(value(entry(act))),
                Effect::Write => None,
                Effect::Cas => Some(entry(act).expected),
            })
            .collect();
        let writers = || acts.iter().filter(|act| act.effect != Effect::Read);
        unwritten.retain(|&seen| writers().all(|act| value(entry(act)) != seen));
        unwritten.sort_unstable_by_key(|symbol| symbol.number());
        unwritten.dedup();
        let mut found = vec![[None; 2]; unwritten.len()];
        let mut places = Vec::new();
        for &place in self.parts.part(number) {
            let entry = &self.corpus.entries()[place as usize];
            let written = value(entry).number();
            if entry.function == Function::Read {
                continue;
            }
            if let Ok(at) = unwritten.binary_search_by_key(&written, |symbol| symbol.number())
                && found[at][usize::from(entry.outcome == Outcome::Fail)].replace(place).is_none()
            {
                places.push(place);
            }
        }
        places
    }

    fn entries(&self, number: usize) -> impl Iterator<Item = &'c Entry> {
        let entries = self.corpus.entries();
        self.parts.part(number).iter().map(|&place| &entries[place as usize])
    }

    /// What an operation does; `None` if it says nothing.
    fn effect(&self, entry: &Entry) -> Option<Effect> {
        match (entry.function, entry.outcome) {
            (_, Outcome::Fail) | (Function::Read, Outcome::Info) => None,
            (Function::Read, _) if self.nil == Nil::Unknown && entry.value == Symbol::ABSENT => {
                None
            }
            (Function::Read, Outcome::Ok) => Some(Effect::Read),
            (Function::Write | Function::Delete, _) => Some(Effect::Write),
            (Function::Cas, _) => Some(Effect::Cas),
            (other, _) => unreachable!("{} is no function of a register", other.as_str()),
        }
    }
}

/// The value that an operation on a register returned or wrote.
fn value(entry: &Entry) -> Symbol {
    if entry.function == Function::Delete { Symbol::ABSENT } else { entry.value }
}
