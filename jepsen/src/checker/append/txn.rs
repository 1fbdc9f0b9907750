//! Transactions as their micro-operations.

use std::collections::HashMap;

use crate::checker::stop::Stop;
use crate::operation::{Operation, Outcome};
use crate::value::Value;

/// An element of the list of some key, as a small number. Equal values in different lists are
/// different elements.
pub type Element = u32;

/// One step of a transaction.
#[derive(Clone, Debug)]
pub enum Micro {
    /// Appends an element to its list.
    Append {
        /// The key of the list, counted from 0.
        key: u32,
        /// What.
        element: Element,
    },
    /// Reads a list.
    Read {
        /// The key of the list.
        key: u32,
        /// What was read.
        list: Vec<Element>,
    },
}

/// A transaction.
#[derive(Debug)]
pub struct Txn<'h> {
    /// Its place in the history.
    pub place: usize,
    /// The operation that it is.
    pub operation: &'h Operation,
    /// Its steps; of a transaction with an unknown outcome, the reads are left out.
    pub steps: Vec<Micro>,
}

/// Who appended an element.
#[derive(Clone, Copy, Debug)]
pub struct Append {
    /// The number of the transaction.
    pub txn: u32,
    /// How many elements it had appended to that list before.
    pub before: u32,
    /// Whether it appended nothing else to that list afterwards.
    pub last: bool,
}

/// What is known of an element.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'h> {
    /// Its value.
    pub value: &'h Value,
    /// Who appended it; `None` if nobody did.
    pub append: Option<Append>,
    /// Whether a successful transaction read it.
    pub seen: bool,
}

/// All transactions of a history.
#[derive(Debug)]
pub struct Transactions<'h> {
    /// The transactions, as they stand in the history.
    pub txns: Vec<Txn<'h>>,
    /// The names of the keys.
    pub keys: Vec<&'h str>,
    /// Where the elements come from.
    pub origins: Vec<Origin<'h>>,
}

impl<'h> Transactions<'h> {
    /// Takes the transactions apart.
    pub fn new(history: &'h [Operation]) -> Result<Self, Stop> {
        assert!(u32::try_from(history.len()).is_ok(), "a history has fewer than 2^32 operations");
        let mut names = Names::default();
        let mut all = Self { txns: Vec::new(), keys: Vec::new(), origins: Vec::new() };
        for (place, operation) in history.iter().enumerate() {
            let steps = operation.value.as_ref().and_then(Value::as_list).ok_or_else(|| {
                Stop::Unjudged(format!("not a list of micro-operations: {operation}"))
            })?;
            let mut txn = Txn { place, operation, steps: Vec::with_capacity(steps.len()) };
            for step in steps {
                let unreadable = || {
                    Stop::Unjudged(format!(
                        "a micro-operation that the model does not know: {operation}"
                    ))
                };
                let (function, key, value) = parts(step.as_ref()).ok_or_else(unreadable)?;
                let key = names.key(key, &mut all.keys);
                match function {
                    "append" => {
                        let value = value.ok_or_else(unreadable)?;
                        let element = names.element(key, value, &mut all.origins);
                        txn.steps.push(Micro::Append { key, element });
                    }
                    // Only what a successful transaction read was there.
                    "r" if operation.outcome != Outcome::Ok => {}
                    "r" => {
                        let list =
                            names.list(key, value, &mut all.origins).ok_or_else(unreadable)?;
                        txn.steps.push(Micro::Read { key, list });
                    }
                    _ => return Err(unreadable()),
                }
            }
            all.txns.push(txn);
        }
        all.note_appends()?;
        Ok(all)
    }

    fn note_appends(&mut self) -> Result<(), Stop> {
        for (number, txn) in (0..).zip(&self.txns) {
            let mut last: HashMap<u32, (Element, u32)> = HashMap::new();
            for step in &txn.steps {
                let &Micro::Append { key, element } = step else { continue };
                let origin = &mut self.origins[element as usize];
                if origin.append.is_some() {
                    let (key, value) = (self.keys[key as usize], origin.value);
                    let why = format!("key {key:?}: the element {value} is appended twice");
                    return Err(Stop::Unjudged(why));
                }
                let count = last.get(&key).map_or(0, |&(_, count)| count);
                origin.append = Some(Append { txn: number, before: count, last: true });
                if let Some((before, _)) = last.insert(key, (element, count + 1))
                    && let Some(append) = &mut self.origins[before as usize].append
                {
                    append.last = false;
                }
            }
            for step in &txn.steps {
                let Micro::Read { list, .. } = step else { continue };
                for &element in list {
                    self.origins[element as usize].seen = true;
                }
            }
        }
        Ok(())
    }

    /// The transaction that appended an element.
    pub fn writer(&self, element: Element) -> Option<u32> {
        Some(self.origins[element as usize].append?.txn)
    }

    /// A transaction by its number.
    pub fn txn(&self, number: u32) -> &Txn<'h> {
        &self.txns[number as usize]
    }

    /// The value of an element.
    pub fn value(&self, element: Element) -> &'h Value {
        self.origins[element as usize].value
    }
}

/// Function, key and value of a micro-operation.
fn parts(step: Option<&Value>) -> Option<(&str, &str, Option<&Value>)> {
    let [function, key, value] = step?.as_list()? else { return None };
    Some((function.as_ref()?.as_text()?, key.as_ref()?.as_text()?, value.as_ref()))
}

/// Numbers for keys and elements.
#[derive(Default)]
struct Names<'h> {
    keys: HashMap<&'h str, u32>,
    elements: HashMap<(u32, &'h Value), Element>,
}

impl<'h> Names<'h> {
    fn key(&mut self, key: &'h str, all: &mut Vec<&'h str>) -> u32 {
        *self.keys.entry(key).or_insert_with(|| {
            all.push(key);
            number(all.len())
        })
    }

    fn element(&mut self, key: u32, value: &'h Value, all: &mut Vec<Origin<'h>>) -> Element {
        *self.elements.entry((key, value)).or_insert_with(|| {
            all.push(Origin { value, append: None, seen: false });
            number(all.len())
        })
    }

    /// The elements of a list; absence is the empty one.
    fn list(
        &mut self,
        key: u32,
        value: Option<&'h Value>,
        all: &mut Vec<Origin<'h>>,
    ) -> Option<Vec<Element>> {
        let Some(value) = value else { return Some(Vec::new()) };
        let list = value.as_list()?.iter();
        list.map(|value| Some(self.element(key, value.as_ref()?, all))).collect()
    }
}

/// The number of the last one of `count` things.
fn number(count: usize) -> u32 {
    u32::try_from(count - 1).expect("2^32 keys or elements do not fit into memory")
}
