//! The history in short: one list a property instead of one object an operation, and each text once.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::escape;
use super::stored::Stored;
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// Bytes that the values of a whole history may take; the more operations, the shorter each is cut.
const VALUES_BYTES: usize = 16 << 20;
/// Bytes of a value that are shown at least.
const VALUE_BYTES_MIN: usize = 48;
/// Bytes of a value that are shown at most.
const VALUE_BYTES_MAX: usize = 2_000;
/// Bytes of other texts, such as keys and errors, that are shown at most.
const TEXT_BYTES_MAX: usize = 400;

/// What stands for a missing number.
const NONE: i64 = -1;

/// What the page draws. Lists named by one word have an entry for each operation, in the order of
/// calls; texts are places in `texts`, of which the first stands for absence.
#[derive(Debug, Serialize)]
pub struct Columns {
    texts: Vec<String>,
    functions: Vec<&'static str>,
    process: Vec<u64>,
    key: Vec<usize>,
    function: Vec<usize>,
    value: Vec<usize>,
    expected: Vec<usize>,
    /// Nanoseconds since the call before.
    invoke: Vec<u64>,
    /// Nanoseconds from call to return, or [`NONE`].
    duration: Vec<i64>,
    /// 0 ok, 1 failed, 2 unknown.
    outcome: Vec<u8>,
    node: Vec<usize>,
    error: Vec<usize>,
    level: Vec<usize>,
    revision: Vec<i64>,
    at_revision: Vec<i64>,
    /// Places of the operations of all failing parts.
    failing: Vec<usize>,
    faults: Vec<Shade>,
    /// The last moment that anything is known of.
    end: u64,
}

/// A window of a fault.
#[derive(Debug, Serialize)]
struct Shade {
    what: String,
    nodes: String,
    begin: u64,
    end: Option<u64>,
    effects: Option<u64>,
}

impl Columns {
    /// The columns of a history.
    pub fn new(history: &[Operation], stored: &Stored) -> Self {
        let mut ordered: Vec<&Operation> = history.iter().collect();
        ordered.sort_by_key(|operation| operation.invoke_ns);
        let bytes = VALUES_BYTES / history.len().max(1);
        let value_bytes = bytes.clamp(VALUE_BYTES_MIN, VALUE_BYTES_MAX);
        let mut texts = Texts::new();
        let mut columns = Self::empty(stored, history.len());
        let mut before = 0;
        for operation in ordered {
            columns.invoke.push(operation.invoke_ns - before);
            before = operation.invoke_ns;
            columns.add(operation, &mut texts, value_bytes);
        }
        columns.texts = texts.all;
        columns.failing = failing_places(history, stored);
        columns
    }

    /// As JSON that an element `script` can hold.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string(self).expect("texts and numbers can be written as JSON");
        escape::json(&json)
    }

    fn empty(stored: &Stored, count: usize) -> Self {
        let shade = |window: &super::stored::Window| Shade {
            what: window.what.clone(),
            nodes: window.nodes.join(" "),
            begin: window.begin_ns,
            end: window.end_ns,
            effects: window.effects,
        };
        let faults: Vec<Shade> = stored.run.fault.iter().map(shade).collect();
        let end = faults.iter().map(|fault| fault.end.unwrap_or(fault.begin)).max();
        Self {
            texts: Vec::new(),
            functions: FUNCTIONS.iter().map(|function| function.as_str()).collect(),
            process: Vec::with_capacity(count),
            key: Vec::with_capacity(count),
            function: Vec::with_capacity(count),
            value: Vec::with_capacity(count),
            expected: Vec::with_capacity(count),
            invoke: Vec::with_capacity(count),
            duration: Vec::with_capacity(count),
            outcome: Vec::with_capacity(count),
            node: Vec::with_capacity(count),
            error: Vec::with_capacity(count),
            level: Vec::with_capacity(count),
            revision: Vec::with_capacity(count),
            at_revision: Vec::with_capacity(count),
            failing: Vec::new(),
            faults,
            end: end.unwrap_or(0),
        }
    }

    /// Adds all of an operation but its call.
    fn add(&mut self, operation: &Operation, texts: &mut Texts, value_bytes: usize) {
        let number =
            |number: Option<u64>| number.map_or(NONE, |n| i64::try_from(n).unwrap_or(NONE));
        let last = operation.return_ns.unwrap_or(operation.invoke_ns);
        self.end = self.end.max(last);
        self.duration.push(number(operation.return_ns.map(|_| last - operation.invoke_ns)));
        self.process.push(operation.process);
        self.key.push(texts.place(Some(&operation.key).filter(|key| !key.is_empty())));
        let function = FUNCTIONS.iter().position(|function| *function == operation.function);
        self.function.push(function.expect("the list has all functions"));
        self.value.push(texts.value(operation.value.as_ref(), value_bytes));
        self.expected.push(texts.value(operation.expected.as_ref(), value_bytes));
        self.outcome.push(match operation.outcome {
            Outcome::Ok => 0,
            Outcome::Fail => 1,
            Outcome::Info => 2,
        });
        self.node.push(texts.place(operation.node.as_ref()));
        self.error.push(texts.place(operation.error.as_ref()));
        self.level.push(texts.place(operation.level.as_ref()));
        self.revision.push(number(operation.revision));
        self.at_revision.push(number(operation.at_revision));
    }
}

const FUNCTIONS: [Function; 11] = [
    Function::Read,
    Function::Write,
    Function::Cas,
    Function::Delete,
    Function::Append,
    Function::Add,
    Function::Transfer,
    Function::Txn,
    Function::Acquire,
    Function::Release,
    Function::Watch,
];

/// Where the lines of the failing parts stand among the operations in the order of calls.
///
/// A line tells its operation by process and call: a process does one operation at a time. The
/// rest of the line may differ, as checkers fill in what they know.
fn failing_places(history: &[Operation], stored: &Stored) -> Vec<usize> {
    let lines = stored.result.checks.iter().flat_map(|check| &check.failing);
    let wanted: HashSet<&str> = lines.filter_map(|line| called(line)).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut ordered: Vec<&Operation> = history.iter().collect();
    ordered.sort_by_key(|operation| operation.invoke_ns);
    let found = ordered.iter().enumerate().filter(|(_, operation)| {
        let line = operation.to_string();
        called(&line).is_some_and(|called| wanted.contains(called))
    });
    found.map(|(place, _)| place).collect()
}

/// `3, 1.500000 ms` of a line that ends with `[ok of process 3, 1.500000 ms to 2.000000 ms]`.
fn called(line: &str) -> Option<&str> {
    let (_, called) = line.rsplit_once(" of process ")?;
    Some(called.split_once(" to ")?.0)
}

/// Texts, each once, with their places.
struct Texts {
    all: Vec<String>,
    places: HashMap<String, usize>,
}

impl Texts {
    fn new() -> Self {
        Self { all: vec![String::new()], places: HashMap::new() }
    }

    /// The place of a text, or 0 if there is none.
    fn place(&mut self, text: Option<&String>) -> usize {
        text.map_or(0, |text| self.intern(cut(text, TEXT_BYTES_MAX)))
    }

    /// The place of a value as people read it, or 0 if there is none.
    fn value(&mut self, value: Option<&Value>, bytes: usize) -> usize {
        let Some(value) = value else { return 0 };
        let mut shown = String::new();
        show(value, bytes, &mut shown);
        self.intern(shown)
    }

    fn intern(&mut self, text: String) -> usize {
        if let Some(place) = self.places.get(&text) {
            return *place;
        }
        let place = self.all.len();
        self.all.push(text.clone());
        self.places.insert(text, place);
        place
    }
}

/// The beginning of a text, with dots if that is not all.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let whole = |at: &usize| text.is_char_boundary(*at);
    let end = (0..=bytes).rev().find(whole).expect("every text has a boundary at its beginning");
    format!("{}… ({} bytes)", &text[..end], text.len())
}

/// Prints a value like [`Value`] itself, but stops soon after `bytes`.
fn show(value: &Value, bytes: usize, out: &mut String) {
    let element = |element: &Option<Value>, out: &mut String| match element {
        Some(element) => show(element, bytes, out),
        None => out.push_str("absent"),
    };
    match value {
        Value::Text(text) => out.push_str(&cut(&format!("{text:?}"), bytes)),
        Value::List(list) => {
            out.push('[');
            for (place, each) in list.iter().enumerate() {
                if out.len() > bytes {
                    out.push_str(&format!(" … {} more", list.len() - place));
                    break;
                }
                out.push_str(if place > 0 { " " } else { "" });
                element(each, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (place, (key, each)) in map.iter().enumerate() {
                if out.len() > bytes {
                    out.push_str(&format!(" … {} more", map.len() - place));
                    break;
                }
                out.push_str(if place > 0 { ", " } else { "" });
                out.push_str(&cut(&format!("{key:?}"), bytes));
                out.push_str(": ");
                element(each, out);
            }
            out.push('}');
        }
    }
}
