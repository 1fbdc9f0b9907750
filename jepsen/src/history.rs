//! Histories: what clients did and saw, as JSON lines.
//!
//! A line is one event of one process, in the order in which the events happened: `invoke`, then
//! at most one of `ok`, `fail` and `info`. This is the shape of Jepsen's histories, so converting
//! from and to them is a matter of syntax.
//!
//! ```text
//! {"time":120,"process":0,"type":"invoke","f":"cas","key":"k","value":"b","expected":"a","node":"n1"}
//! {"time":950,"process":0,"type":"ok","f":"cas","key":"k","value":"b","expected":"a","node":"n1","rev":7}
//! ```
//!
//! - `time` is in nanoseconds and never decreases from line to line. Times alone decide what
//!   precedes what: events at equal times are concurrent, whatever the order of their lines. A
//!   file without times is read as if the line number were the time.
//! - `f` is `read`, `write`, `cas` or `delete`. It and `key` may be left out of a completion.
//! - `value` is what is written, or, in the `ok` of a read, what was returned; absent or null
//!   means that the key does not exist. `expected` is what a cas compares with. Numbers count as
//!   their decimal digits.
//! - An operation that is still open at the end of the file is the same as `info`.
//! - A read that succeeded without anyone knowing its value is written as `info`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::{fmt, io};

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::LabError;
use crate::operation::{Call, Function, Operation, Outcome};
use crate::value::Value;

/// Longest line that is read; longer ones are refused rather than kept in memory.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Writes the events of `operations` in the order of their times, at equal times in the order of
/// `operations`. The operations of one process must stand in the order in which it ran them.
///
/// # Errors
///
/// What `out` says; a part of the lines may have been written.
pub fn write(out: &mut impl Write, operations: &[Operation]) -> io::Result<()> {
    let mut order: Vec<(u64, usize, bool)> = Vec::with_capacity(operations.len() * 2);
    for (index, operation) in operations.iter().enumerate() {
        order.push((operation.invoke_ns, index, false));
        if let Some(end) = operation.return_ns {
            order.push((end, index, true));
        }
    }
    order.sort_unstable();
    for (time, index, returned) in order {
        let event = Event::of(&operations[index], time, returned);
        serde_json::to_writer(&mut *out, &event)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads a whole history; operations are ordered by their calls.
///
/// # Errors
///
/// [`LabError::History`] with the first line that breaks the format, or that cannot be read.
pub fn read(input: impl BufRead) -> Result<Vec<Operation>, LabError> {
    let mut assembly = Assembly::default();
    let mut input = input;
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        line.clear();
        let refuse = |why: String| LabError::History { line: number, why };
        let limit = LINE_BYTES_MAX as u64 + 1;
        let taken = io::Read::take(&mut input, limit)
            .read_until(b'\n', &mut line)
            .map_err(|error| refuse(error.to_string()))?;
        if taken == 0 {
            return Ok(assembly.operations);
        }
        if taken > LINE_BYTES_MAX {
            return Err(refuse(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let event = serde_json::from_slice(&line).map_err(|error| refuse(error.to_string()))?;
        assembly.add(number, event).map_err(refuse)?;
    }
}

/// The kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
struct Event<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<u64>,
    process: u64,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(rename = "f", skip_serializing_if = "Option::is_none")]
    function: Option<Function>,
    #[serde(borrow, default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<Cow<'a, Value>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    node: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    level: Option<Cow<'a, str>>,
    #[serde(rename = "rev", skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(rename = "at_rev", skip_serializing_if = "Option::is_none")]
    at_revision: Option<u64>,
}

impl<'a> Event<'a> {
    fn of(operation: &'a Operation, time: u64, returned: bool) -> Self {
        let kind = match (returned, operation.outcome) {
            (false, _) => Kind::Invoke,
            (true, Outcome::Ok) => Kind::Ok,
            (true, Outcome::Fail) => Kind::Fail,
            (true, Outcome::Info) => Kind::Info,
        };
        let value_known = operation.function != Function::Read || kind == Kind::Ok;
        let done = |value: Option<u64>| value.filter(|_| returned);
        Self {
            time: Some(time),
            process: operation.process,
            kind,
            function: Some(operation.function),
            key: Some(Cow::Borrowed(&operation.key)),
            value: operation.value.as_ref().filter(|_| value_known).map(Cow::Borrowed),
            expected: operation.expected.as_ref().map(Cow::Borrowed),
            node: operation.node.as_deref().map(Cow::Borrowed),
            error: operation.error.as_deref().filter(|_| returned).map(Cow::Borrowed),
            level: operation.level.as_deref().map(Cow::Borrowed),
            revision: done(operation.revision),
            at_revision: done(operation.at_revision),
        }
    }
}

/// Reads text or a number as text, and null as nothing.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    struct Text;
    impl<'de> serde::de::Visitor<'de> for Text {
        type Value = Option<Cow<'de, str>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text, a whole number or null")
        }
        fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
            Ok(Some(Cow::Borrowed(value)))
        }
        fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
            Ok(Some(Cow::Owned(value.to_owned())))
        }
        fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
            Ok(Some(Cow::Owned(value.to_string())))
        }
        fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
            Ok(Some(Cow::Owned(value.to_string())))
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
            inner.deserialize_any(self)
        }
    }
    deserializer.deserialize_any(Text)
}

/// Pairs events to operations.
#[derive(Debug, Default)]
struct Assembly {
    operations: Vec<Operation>,
    /// The open operation of each process.
    open: HashMap<u64, usize>,
    /// Time of the last line, and whether it was given in the file.
    last: Option<(u64, bool)>,
}

impl Assembly {
    fn add(&mut self, line: u64, event: Event<'_>) -> Result<(), String> {
        let time = self.time(line, event.time)?;
        let outcome = match event.kind {
            Kind::Invoke => return self.invoke(time, event),
            Kind::Ok => Outcome::Ok,
            Kind::Fail => Outcome::Fail,
            Kind::Info => Outcome::Info,
        };
        let process = event.process;
        let Some(index) = self.open.remove(&process) else {
            return Err(format!("process {process} completes an operation it did not invoke"));
        };
        let operation = &mut self.operations[index];
        if event.function.is_some_and(|function| function != operation.function)
            || event.key.is_some_and(|key| key != operation.key)
        {
            return Err(format!("process {process} completes another operation than it invoked"));
        }
        operation.return_ns = Some(time);
        operation.outcome = outcome;
        if operation.function == Function::Read && outcome == Outcome::Ok {
            operation.value = event.value.map(Cow::into_owned);
        }
        if let Some(node) = event.node {
            operation.node = Some(node.into_owned());
        }
        operation.error = event.error.map(Cow::into_owned);
        operation.revision = event.revision;
        operation.at_revision = event.at_revision;
        Ok(())
    }

    fn invoke(&mut self, time: u64, event: Event<'_>) -> Result<(), String> {
        let process = event.process;
        let (Some(function), Some(key)) = (event.function, event.key) else {
            return Err("an invocation needs `f` and `key`".to_owned());
        };
        if matches!(function, Function::Write | Function::Cas) && event.value.is_none() {
            return Err(format!("a {} needs `value`", function.as_str()));
        }
        if self.open.insert(process, self.operations.len()).is_some() {
            return Err(format!("process {process} invokes while its last operation is open"));
        }
        let call = Call {
            key: key.into_owned(),
            function,
            value: event.value.filter(|_| function.writes()).map(Cow::into_owned),
            expected: event.expected.map(Cow::into_owned),
        };
        let mut operation = Operation::invoked(process, call, time);
        operation.node = event.node.map(Cow::into_owned);
        self.operations.push(operation);
        Ok(())
    }

    /// The time of a line: as given, else the number of the line.
    fn time(&mut self, line: u64, given: Option<u64>) -> Result<u64, String> {
        let time = given.unwrap_or(line);
        if let Some((last, last_given)) = self.last {
            if last_given != given.is_some() {
                return Err("some lines have `time` and some have not".to_owned());
            }
            if time < last {
                return Err(format!("time {time} is earlier than {last} of the line before"));
            }
        }
        self.last = Some((time, given.is_some()));
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Operation>, String> {
        read(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_history_survives_the_file() {
        let mut done = Operation::invoked(0, Call::cas("k", Some("a\n\"ü".into()), "b"), 3);
        done.outcome = Outcome::Ok;
        done.return_ns = Some(9);
        done.node = Some("n1".into());
        done.revision = Some(4);
        let mut failed = Operation::invoked(1, Call::write("k", "c"), 4);
        failed.outcome = Outcome::Fail;
        failed.return_ns = Some(4);
        failed.error = Some("KV1201".into());
        let mut read_back = Operation::invoked(1, Call::read("k"), 9);
        read_back.outcome = Outcome::Ok;
        read_back.return_ns = Some(9);
        read_back.value = Some("b".into());
        read_back.revision = Some(4);
        read_back.at_revision = Some(7);
        let open = Operation::invoked(2, Call::delete("k"), 10);
        let operations = vec![done, failed, read_back, open];
        let mut file = Vec::new();
        write(&mut file, &operations).unwrap();
        assert_eq!(read(file.as_slice()).unwrap(), operations);
    }

    #[test]
    fn numbers_count_as_text_and_lines_as_time() {
        let operations = parse(
            "{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"key\":1,\"value\":-3}\n\n\
             {\"process\":0,\"type\":\"ok\"}\n\
             {\"process\":0,\"type\":\"invoke\",\"f\":\"read\",\"key\":\"1\",\"value\":null}\n\
             {\"process\":0,\"type\":\"ok\",\"value\":-3}\n",
        )
        .unwrap();
        assert_eq!(operations.len(), 2);
        assert_eq!(operations[0].key, "1");
        assert_eq!(operations[1].text(), Some("-3"));
        assert_eq!((operations[0].return_ns, operations[1].invoke_ns), (Some(3), 4));
    }

    #[test]
    fn broken_histories_are_refused_with_their_line() {
        let invoke =
            "{\"process\":0,\"type\":\"invoke\",\"f\":\"read\",\"key\":\"k\",\"time\":5}\n";
        let cases = [
            ("{\"process\":0,\"type\":\"ok\"}", "line 1: process 0 completes an operation"),
            (&format!("{invoke}{invoke}"), "line 2: process 0 invokes while"),
            (&format!("{invoke}{{\"process\":0,\"type\":\"ok\"}}"), "line 2: some lines have"),
            (
                &format!("{invoke}{{\"process\":0,\"type\":\"ok\",\"time\":4}}"),
                "line 2: time 4 is earlier",
            ),
            (
                &format!("{invoke}{{\"process\":0,\"type\":\"ok\",\"f\":\"cas\",\"time\":6}}"),
                "line 2: process 0 completes another",
            ),
            ("{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"key\":\"k\"}", "needs `value`"),
            ("{\"process\":0,\"type\":\"invoke\",\"f\":\"read\"}", "needs `f` and `key`"),
            ("{\"process\":0,\"type\":\"invoke\",\"f\":\"pop\",\"key\":\"k\"}", "unknown variant"),
            ("not json", "line 1: expected"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let line = vec![b' '; LINE_BYTES_MAX + 1];
        let error = read(line.as_slice()).unwrap_err().to_string();
        assert!(error.contains("longer than"), "{error}");
    }
}
