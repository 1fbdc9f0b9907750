//! A part of a history that is judged by itself.

use std::borrow::Cow;

use super::values::{Trace, Traces};
use super::{LinearizableChecker, Sequential};
use crate::checker::Verdict;
use crate::checker::compete::{self, Patience};
use crate::checker::objects::{Doing, Keyspace, Lock, Micro, Object, Text};
use crate::checker::options::Nil;
use crate::checker::search::{Act, Contradiction, Progress};
use crate::hash::QuickMap;
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// What was found out about a part.
pub(super) enum Found {
    /// It is linearizable, by this order of places in the history; empty unless asked for.
    Valid(Vec<usize>),
    /// It is not.
    Invalid(Broken),
    /// Nobody knows.
    Unknown(String),
}

/// Where a part breaks.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// Place in the history of the operation that cannot be placed.
    pub(super) place: u32,
    /// One sentence.
    pub(super) why: String,
}

/// The keys of an operation; unknown if it is a transaction of another shape than the model knows.
pub(super) fn keys(operation: &Operation) -> Result<Vec<&str>, Verdict> {
    if operation.function != Function::Txn {
        return Ok(vec![&operation.key]);
    }
    steps(operation)?
        .iter()
        .map(|step| Step::read(operation, step.as_ref()).map(|step| step.key))
        .collect()
}

/// The micro-operations of a transaction.
fn steps(operation: &Operation) -> Result<&[Option<Value>], Verdict> {
    operation.value.as_ref().and_then(Value::as_list).ok_or_else(|| strange(operation))
}

/// One micro-operation of a transaction as it stands in a history.
struct Step<'h> {
    function: &'h str,
    key: &'h str,
    value: Option<&'h Value>,
}

impl<'h> Step<'h> {
    fn read(operation: &'h Operation, step: Option<&'h Value>) -> Result<Self, Verdict> {
        let parts = step.and_then(Value::as_list).unwrap_or_default();
        if let [Some(function), Some(key), value] = parts
            && let (Some(function), Some(key)) = (function.as_text(), key.as_text())
        {
            return Ok(Self { function, key, value: value.as_ref() });
        }
        Err(strange(operation))
    }
}

fn no_text(operation: &Operation) -> Verdict {
    Verdict::Unknown { why: format!("the model knows no values but texts: {operation}") }
}

fn strange(operation: &Operation) -> Verdict {
    Verdict::Unknown { why: format!("the model knows no such transaction: {operation}") }
}

/// What an operation does on one key, with numbers for texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Raw {
    Get(u32),
    Put(u32),
    Append(u32),
    Cas(u32, u32),
}

/// What an operation does, by key.
type Effect = Vec<(u32, Raw)>;

/// A part of a history, translated.
pub(super) struct Part<'h> {
    sequential: Sequential,
    history: &'h [Operation],
    initial: Cow<'h, str>,
    acts: Vec<Act>,
    /// The place in the history of each act.
    places: Vec<u32>,
    keys: Vec<&'h str>,
    key_numbers: QuickMap<&'h str, u32>,
    texts: Vec<Cow<'h, str>>,
    text_numbers: QuickMap<Cow<'h, str>, u32>,
    effects: Vec<Effect>,
    effect_numbers: QuickMap<Effect, u32>,
}

impl<'h> Part<'h> {
    /// Translates the operations at some places; unknown if one does not fit the model.
    pub(super) fn new(
        checker: &'h LinearizableChecker,
        history: &'h [Operation],
        places: &[u32],
    ) -> Result<Self, Verdict> {
        let mut part = Self {
            sequential: checker.sequential,
            history,
            initial: Cow::Borrowed(""),
            acts: Vec::with_capacity(places.len()),
            places: Vec::with_capacity(places.len()),
            keys: Vec::new(),
            key_numbers: QuickMap::default(),
            texts: Vec::new(),
            text_numbers: QuickMap::default(),
            effects: Vec::new(),
            effect_numbers: QuickMap::default(),
        };
        part.initial = part.text(checker.initial.as_ref());
        for &place in places {
            let operation = &history[place as usize];
            if operation.outcome == Outcome::Fail {
                continue;
            }
            let effect = match part.sequential {
                Sequential::Mutex => {
                    part.key(&operation.key);
                    match operation.function {
                        Function::Acquire => Lock::ACQUIRE,
                        _ => Lock::RELEASE,
                    }
                }
                Sequential::Kv | Sequential::Registers => {
                    let effect = part.effect(operation, checker.nil)?;
                    if effect.is_empty() {
                        continue;
                    }
                    part.effect_number(effect)
                }
            };
            let start = operation.invoke_ns.saturating_add(1);
            let end = operation.end_ns().saturating_add(1);
            assert!(start <= end, "operation ends before it starts: {operation}");
            part.acts.push(Act { effect, start, end });
            part.places.push(place);
        }
        Ok(part)
    }

    /// The part as people name it.
    pub(super) fn name(&self) -> String {
        match self.keys.as_slice() {
            [key] => format!("key {key:?}"),
            keys => {
                let shown: Vec<String> =
                    keys.iter().take(4).map(|key| format!("{key:?}")).collect();
                let more = if keys.len() > shown.len() { " and others" } else { "" };
                format!("keys {}{more}", shown.join(", "))
            }
        }
    }

    /// Its first key; empty if it has none.
    pub(super) fn first_key(&self) -> &'h str {
        self.keys.first().copied().unwrap_or_default()
    }

    fn key(&mut self, name: &'h str) -> u32 {
        let fresh = u32::try_from(self.keys.len()).expect("there are fewer than 2^32 keys");
        let number = *self.key_numbers.entry(name).or_insert(fresh);
        if number == fresh {
            self.keys.push(name);
        }
        number
    }

    /// Decides it. `foresees`: whether the search may use what it knows of later operations, which
    /// is quicker, but then a contradiction may be found before the operation that shows it.
    pub(super) fn decide(&self, patience: Patience, want_order: bool, foresees: bool) -> Found {
        if self.sequential == Sequential::Mutex {
            return self.run(|| Lock, patience, want_order);
        }
        if let Some(doings) = self.doings() {
            let acts = || self.acts.iter().map(|act| (act.effect, act.start, act.end));
            let make = || Text::new(&self.initial, &doings, acts(), foresees);
            return self.run(make, patience, want_order);
        }
        let text = |number: u32| &*self.texts[number as usize];
        let micro = |&(key, raw): &(u32, Raw)| {
            (
                key,
                match raw {
                    Raw::Get(value) => Micro::Get(text(value)),
                    Raw::Put(value) => Micro::Put(text(value)),
                    Raw::Append(value) => Micro::Append(text(value)),
                    Raw::Cas(old, new) => Micro::Cas(text(old), text(new)),
                },
            )
        };
        let make = || {
            let effects = self.effects.iter().map(|effect| effect.iter().map(micro).collect());
            Keyspace::new(self.keys.clone(), &self.initial, effects.collect())
        };
        self.run(make, patience, want_order)
    }

    /// What its acts found and wrote; in the order of [`Part::places`].
    pub(super) fn traces(&self) -> Traces<'_> {
        let text = |number: u32| &*self.texts[number as usize];
        let trace = |act: &Act| {
            let mut trace = Trace::default();
            for &(key, raw) in &self.effects[act.effect as usize] {
                match raw {
                    Raw::Get(value) => trace.found.push((key, text(value))),
                    Raw::Put(value) => trace.written.push((key, text(value), false)),
                    Raw::Append(value) => trace.written.push((key, text(value), true)),
                    Raw::Cas(old, new) => {
                        trace.found.push((key, text(old)));
                        trace.written.push((key, text(new), false));
                    }
                }
            }
            trace
        };
        Traces::new(self.acts.iter().map(trace).collect())
    }

    /// The places in the history of its acts.
    pub(super) fn places(&self) -> &[u32] {
        &self.places
    }

    fn run<O: Object>(&self, make: impl Fn() -> O, patience: Patience, want_order: bool) -> Found {
        match compete::object(make, &self.acts, patience, want_order) {
            Err(why) => Found::Unknown(why),
            Ok(Progress::Spent) => Found::Unknown("the search broke off".to_owned()),
            Ok(Progress::Valid(order)) => {
                Found::Valid(order.iter().map(|&act| self.places[act as usize] as usize).collect())
            }
            Ok(Progress::Invalid(contradiction)) => Found::Invalid(self.broken(&contradiction)),
        }
    }

    fn broken(&self, contradiction: &Contradiction) -> Broken {
        let place = self.places[contradiction.act as usize];
        Broken { place, why: contradiction.sentence(&self.history[place as usize]) }
    }

    /// The effects on the only key, if there is only one and each is a single step that text knows.
    fn doings(&self) -> Option<Vec<Doing<'_>>> {
        let text = |number: u32| &*self.texts[number as usize];
        self.effects
            .iter()
            .map(|effect| match effect.as_slice() {
                [(0, Raw::Get(value))] => Some(Doing::Get(text(*value))),
                [(0, Raw::Put(value))] => Some(Doing::Put(text(*value))),
                [(0, Raw::Append(value))] => Some(Doing::Append(text(*value))),
                _ => None,
            })
            .collect()
    }

    /// What an operation does. Empty if it says nothing.
    fn effect(&mut self, operation: &'h Operation, nil: Nil) -> Result<Effect, Verdict> {
        let known = operation.outcome == Outcome::Ok;
        let mut effect = Vec::new();
        if operation.function != Function::Txn {
            let key = self.key(&operation.key);
            let value = self.fitting(operation, operation.value.as_ref())?;
            self.fitting(operation, operation.expected.as_ref())?;
            let raw = match operation.function {
                Function::Read if !known || (nil == Nil::Unknown && value.is_none()) => None,
                Function::Read => Some(Raw::Get(self.number(value))),
                Function::Delete => Some(Raw::Put(self.number(None))),
                Function::Append => Some(Raw::Append(self.number(value))),
                Function::Cas => {
                    let old = self.number(operation.expected.as_ref());
                    Some(Raw::Cas(old, self.number(value)))
                }
                _ => Some(Raw::Put(self.number(value))),
            };
            effect.extend(raw.map(|raw| (key, raw)));
            return Ok(effect);
        }
        for step in steps(operation)? {
            let step = Step::read(operation, step.as_ref())?;
            let key = self.key(step.key);
            if step.function != "cas" {
                self.fitting(operation, step.value)?;
            }
            let raw = match step.function {
                "r" if !known || (nil == Nil::Unknown && step.value.is_none()) => continue,
                "r" => Raw::Get(self.number(step.value)),
                "w" => Raw::Put(self.number(step.value)),
                "append" if self.sequential == Sequential::Kv => {
                    Raw::Append(self.number(step.value))
                }
                "cas" => {
                    let pair = step.value.and_then(Value::as_list).unwrap_or_default();
                    let [old, new] = pair else { return Err(strange(operation)) };
                    self.fitting(operation, old.as_ref())?;
                    self.fitting(operation, new.as_ref())?;
                    Raw::Cas(self.number(old.as_ref()), self.number(new.as_ref()))
                }
                _ => return Err(strange(operation)),
            };
            effect.push((key, raw));
        }
        Ok(effect)
    }

    /// A value, if the object can hold it: to `kv` all values are texts.
    fn fitting(
        &self,
        operation: &Operation,
        value: Option<&'h Value>,
    ) -> Result<Option<&'h Value>, Verdict> {
        let fits = self.sequential != Sequential::Kv
            || value.is_none_or(|value| value.as_text().is_some());
        if fits { Ok(value) } else { Err(no_text(operation)) }
    }

    fn effect_number(&mut self, effect: Effect) -> u32 {
        let fresh = u32::try_from(self.effects.len()).expect("there are fewer effects than acts");
        if let Some(&known) = self.effect_numbers.get(&effect) {
            return known;
        }
        self.effect_numbers.insert(effect.clone(), fresh);
        self.effects.push(effect);
        fresh
    }

    fn number(&mut self, value: Option<&'h Value>) -> u32 {
        let text = self.text(value);
        let fresh = u32::try_from(self.texts.len()).expect("there are fewer texts than acts");
        if let Some(&known) = self.text_numbers.get(&text) {
            return known;
        }
        self.text_numbers.insert(text.clone(), fresh);
        self.texts.push(text);
        fresh
    }

    /// A value as text. To `kv` absence is the empty string; to registers it is not, so whatever
    /// is there gets a mark in front, and a list another one than a text that looks like it.
    fn text(&self, value: Option<&'h Value>) -> Cow<'h, str> {
        match (self.sequential, value) {
            (_, None) => Cow::Borrowed(""),
            (Sequential::Registers, Some(Value::Text(text))) => Cow::Owned(format!("={text}")),
            (Sequential::Registers, Some(value)) => Cow::Owned(format!("~{}", value.name())),
            (Sequential::Kv | Sequential::Mutex, Some(value)) => value.name(),
        }
    }
}
