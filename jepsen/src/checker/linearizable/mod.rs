//! Linearizability of other objects than registers (models `kv`, `multi-register`, `mutex`).
//!
//! - `kv`: each key is a string with `read` (get), `write` (put), `append`, `cas` and `delete`; a key
//!   that is absent reads as the empty string. A `txn` is a list of `r`, `w`, `append` and `cas`
//!   (with `[old new]`) on several keys, which take effect as one.
//! - `multi-register`: the same, but what is absent is not the empty string, and nothing is appended.
//! - `mutex`: `acquire` of what is free and `release` of what is held, by whomever.
//!
//! Keys that a transaction touches together are judged together; all others each by itself. Each
//! such part is searched in depth and in breadth, in competition (see `search`).

mod minimize;
mod part;
mod values;

use std::num::NonZeroUsize;

use self::part::{Found, Part};
use super::compete::Patience;
use super::keys::{self, Parts};
use super::options::{Limits, ModelOptions, Nil};
use super::register::BUDGET_DEFAULT;
use super::{Checker, Verdict, Violation};
use crate::hash::QuickMap;
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// A sequential object of which the history is to be an interleaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequential {
    /// Strings.
    Kv,
    /// Registers, several at once.
    Registers,
    /// Locks.
    Mutex,
}

impl Sequential {
    /// The name of the model.
    const fn model(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Registers => "multi-register",
            Self::Mutex => "mutex",
        }
    }

    /// The functions that it knows.
    const fn functions(self) -> &'static [Function] {
        match self {
            Self::Kv => &[
                Function::Read,
                Function::Write,
                Function::Append,
                Function::Cas,
                Function::Delete,
                Function::Txn,
            ],
            Self::Registers => {
                &[Function::Read, Function::Write, Function::Cas, Function::Delete, Function::Txn]
            }
            Self::Mutex => &[Function::Acquire, Function::Release],
        }
    }
}

/// Checks that a history is one of a sequential object.
#[derive(Clone, Debug)]
pub struct LinearizableChecker {
    /// The object.
    pub sequential: Sequential,
    /// States that each search may visit on one part.
    pub budget: u64,
    /// What every key holds at the beginning.
    pub initial: Option<Value>,
    /// What a successful read of nothing says.
    pub nil: Nil,
    /// What the whole history may cost.
    pub limits: Limits,
    /// Threads; `None`: as many as there are cores.
    pub threads: Option<NonZeroUsize>,
}

impl LinearizableChecker {
    /// A checker as the options say.
    #[must_use]
    pub fn new(sequential: Sequential, options: &ModelOptions) -> Self {
        Self {
            sequential,
            budget: BUDGET_DEFAULT,
            initial: options.initial.clone(),
            nil: options.nil,
            limits: options.limits,
            threads: None,
        }
    }

    /// A linearization of a valid history: places in it, part by part.
    ///
    /// # Errors
    ///
    /// The verdict, if it is not valid.
    pub fn linearize(&self, history: &[Operation]) -> Result<Vec<usize>, Verdict> {
        let parts = self.parts(history)?;
        let patience = Patience::of(&self.limits, self.budget, 1);
        let mut order = Vec::new();
        for number in 0..parts.len() {
            let part = Part::new(self, history, parts.part(number))?;
            match part.decide(patience, true, true) {
                Found::Valid(places) => order.extend(places),
                Found::Invalid(_) | Found::Unknown(_) => return Err(self.check(history)),
            }
        }
        Ok(order)
    }

    /// The parts of the history; unknown if it does not fit the model.
    fn parts(&self, history: &[Operation]) -> Result<Parts, Verdict> {
        if let Some(unknown) = super::foreign(history, self.sequential.functions()) {
            return Err(unknown);
        }
        if history.iter().all(|operation| operation.function != Function::Txn) {
            return Ok(Parts::by_key(history));
        }
        let mut groups = Groups::default();
        let mut first_keys = Vec::with_capacity(history.len());
        for operation in history {
            let mut first = None;
            // What failed joins nothing.
            let joins = operation.outcome != Outcome::Fail;
            for key in part::keys(operation)? {
                let number = groups.number(key);
                let first = *first.get_or_insert(number);
                if joins {
                    groups.join(first, number);
                }
            }
            // A transaction of nothing stands by itself.
            first_keys.push(first.unwrap_or_else(|| groups.number("")));
        }
        let mut numbers: QuickMap<u32, u32> = QuickMap::default();
        let mut part_of = Vec::with_capacity(history.len());
        for first in first_keys {
            let root = groups.root(first);
            let fresh = u32::try_from(numbers.len()).expect("there are fewer parts than keys");
            part_of.push(*numbers.entry(root).or_insert(fresh));
        }
        Ok(Parts::new(part_of.iter().copied(), numbers.len()))
    }

    /// What is to be said of one part; nothing if it is valid.
    fn judge(&self, history: &[Operation], places: &[u32], patience: Patience) -> Option<Verdict> {
        let part = match Part::new(self, history, places) {
            Ok(part) => part,
            Err(unknown) => return Some(unknown),
        };
        let name = part.name();
        match part.decide(patience, false, true) {
            Found::Valid(_) => None,
            Found::Unknown(why) => Some(Verdict::Unknown { why: format!("{name}: {why}") }),
            Found::Invalid(broken) => {
                let (operations, why) = minimize::minimize(self, history, places, broken);
                Some(Verdict::Invalid(Box::new(Violation {
                    key: part.first_key().to_owned(),
                    explanation: format!("{name} is not linearizable: {why}"),
                    operations,
                })))
            }
        }
    }
}

impl Checker for LinearizableChecker {
    fn model(&self) -> &'static str {
        self.sequential.model()
    }

    /// A part that is invalid outranks one that is unknown.
    fn check(&self, history: &[Operation]) -> Verdict {
        let parts = match self.parts(history) {
            Ok(parts) => parts,
            Err(unknown) => return unknown,
        };
        let threads = keys::threads(history.len(), parts.len(), self.threads);
        let patience = Patience::of(&self.limits, self.budget, threads.get());
        let judge = |(): &mut (), part: usize| self.judge(history, parts.part(part), patience);
        let said = keys::first(parts.len(), threads, judge, Verdict::is_invalid);
        said.unwrap_or(Verdict::Valid)
    }
}

/// Keys that belong together.
#[derive(Debug, Default)]
struct Groups<'h> {
    numbers: QuickMap<&'h str, u32>,
    /// For each key another one of its group, or itself.
    parents: Vec<u32>,
}

impl<'h> Groups<'h> {
    fn number(&mut self, key: &'h str) -> u32 {
        let fresh = u32::try_from(self.parents.len()).expect("there are fewer than 2^32 keys");
        let number = *self.numbers.entry(key).or_insert(fresh);
        if number == fresh {
            self.parents.push(fresh);
        }
        number
    }

    fn root(&mut self, mut key: u32) -> u32 {
        while self.parents[key as usize] != key {
            let above = self.parents[self.parents[key as usize] as usize];
            self.parents[key as usize] = above;
            key = above;
        }
        key
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.parents[one.max(other) as usize] = one.min(other);
    }
}
