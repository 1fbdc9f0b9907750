//! Writing histories.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::event::Kind;
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// Writes the events of `operations` in the order of their times, at equal times in the order of
/// `operations`. The operations of one process must stand in the order in which it ran them.
///
/// # Errors
///
/// What `out` says; a part of the lines may have been written.
pub fn write(out: &mut impl Write, operations: &[Operation]) -> io::Result<()> {
    for (time, index, returned) in order(operations) {
        let event = Line::of(&operations[index], time, returned);
        serde_json::to_writer(&mut *out, &event)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Like [`write()`], but as Jepsen's EDN. If some operation has a key, every value is `[key value]`. What only
/// replies of eventual keyspaces say is left out.
///
/// # Errors
///
/// What `out` says; a part of the events may have been written.
pub fn write_edn(out: &mut impl Write, operations: &[Operation]) -> io::Result<()> {
    let keyed = operations.iter().any(|operation| !operation.key.is_empty());
    let mut text = String::new();
    for (number, (time, index, returned)) in order(operations).into_iter().enumerate() {
        text.clear();
        let line = Line::of(&operations[index], time, returned);
        line.edn(&mut text, keyed, number).expect("text takes all that is written to it");
        out.write_all(if number == 0 { b"[" } else { b"\n " })?;
        out.write_all(text.as_bytes())?;
    }
    out.write_all(if operations.is_empty() { b"[]\n" } else { b"]\n" })
}

/// The events as (time, operation, whether it is the return).
fn order(operations: &[Operation]) -> Vec<(u64, usize, bool)> {
    let mut order: Vec<(u64, usize, bool)> = Vec::with_capacity(operations.len() * 2);
    for (index, operation) in operations.iter().enumerate() {
        order.push((operation.invoke_ns, index, false));
        if let Some(end) = operation.return_ns {
            order.push((end, index, true));
        }
    }
    order.sort_unstable();
    order
}

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<u64>,
    process: u64,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(rename = "f", skip_serializing_if = "Option::is_none")]
    function: Option<Function>,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'a str>,
    #[serde(rename = "rev", skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(rename = "at_rev", skip_serializing_if = "Option::is_none")]
    at_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dots: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lost: bool,
}

impl<'a> Line<'a> {
    fn of(operation: &'a Operation, time: u64, returned: bool) -> Self {
        let kind = match (returned, operation.outcome) {
            (false, _) => Kind::Invoke,
            (true, Outcome::Ok) => Kind::Ok,
            (true, Outcome::Fail) => Kind::Fail,
            (true, Outcome::Info) => Kind::Info,
        };
        let value_known = operation.function.writes() || kind == Kind::Ok;
        // What became known in the end stands in the last line about it, be it the first one.
        let last = returned || operation.return_ns.is_none();
        let done = |value: Option<u64>| value.filter(|_| last);
        let causal = operation.causal.as_deref().filter(|_| last);
        Self {
            time: Some(time),
            process: operation.process,
            kind,
            function: Some(operation.function),
            key: &operation.key,
            value: operation.value.as_ref().filter(|_| value_known),
            expected: operation.expected.as_ref(),
            node: operation.node.as_deref(),
            error: operation.error.as_deref().filter(|_| last),
            level: operation.level.as_deref(),
            revision: done(operation.revision),
            at_revision: done(operation.at_revision),
            dots: causal.map(|causal| &causal.dots[..]),
            context: causal.and_then(|causal| causal.context.as_deref()),
            lost: causal.is_some_and(|causal| causal.lost),
        }
    }

    /// The event as a map of EDN.
    fn edn(&self, out: &mut String, keyed: bool, number: usize) -> std::fmt::Result {
        let kind = self.kind.as_str();
        let function = self.function.map_or("", Function::as_str);
        write!(out, "{{:process {}, :type :{kind}, :f :{function}, :value ", self.process)?;
        if keyed {
            out.push('[');
            edn_text(out, self.key)?;
            out.push(' ');
        }
        if self.function == Some(Function::Cas) {
            out.push('[');
            edn_value(out, self.expected)?;
            out.push(' ');
            edn_value(out, self.value)?;
            out.push(']');
        } else {
            edn_value(out, self.value)?;
        }
        if keyed {
            out.push(']');
        }
        write!(out, ", :time {}, :index {number}", self.time.unwrap_or_default())?;
        for (name, text) in [("node", self.node), ("error", self.error), ("level", self.level)] {
            if let Some(text) = text {
                write!(out, ", :{name} ")?;
                edn_text(out, text)?;
            }
        }
        for (name, whole) in [("rev", self.revision), ("at-rev", self.at_revision)] {
            if let Some(whole) = whole {
                write!(out, ", :{name} {whole}")?;
            }
        }
        out.push('}');
        Ok(())
    }
}

/// Text; what looks like a whole number is written as one.
fn edn_text(out: &mut String, text: &str) -> std::fmt::Result {
    if text.parse::<i64>().is_ok_and(|number| number.to_string() == text) {
        return out.write_str(text);
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}")?,
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => write!(out, "\\u{:04x}", u32::from(c))?,
            plain => out.push(plain),
        }
    }
    out.push('"');
    Ok(())
}

fn edn_value(out: &mut String, value: Option<&Value>) -> std::fmt::Result {
    match value {
        None => out.write_str("nil"),
        Some(Value::Text(text)) => edn_text(out, text),
        Some(Value::List(list)) => {
            out.push('[');
            for (place, element) in list.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { " " });
                edn_value(out, element.as_ref())?;
            }
            out.push(']');
            Ok(())
        }
        Some(Value::Map(map)) => {
            out.push('{');
            for (place, (key, value)) in map.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { ", " });
                edn_text(out, key)?;
                out.push(' ');
                edn_value(out, value.as_ref())?;
            }
            out.push('}');
            Ok(())
        }
    }
}
