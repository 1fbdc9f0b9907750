//! Pairs events to operations.

use super::event::{Datum, Event, Kind};
use super::format::Format;
use crate::hash::QuickMap;
use crate::operation::{Call, Function, Operation, Outcome};
use crate::value::Value;

/// Takes events in the order of the file and hands on whole operations.
pub(super) struct Assembly<E> {
    keyed: bool,
    format: Format,
    /// Gets each operation with its place in the order of calls.
    each: E,
    /// Calls so far.
    calls: usize,
    /// The open operation of each process.
    open: QuickMap<u64, (usize, Operation)>,
    /// Time of the last event, and whether it was given in the file.
    last: Option<(u64, bool)>,
}

impl<E: FnMut(usize, Operation)> Assembly<E> {
    pub(super) fn new(keyed: bool, format: Format, each: E) -> Self {
        Self { keyed, format, each, calls: 0, open: QuickMap::default(), last: None }
    }

    /// Takes one event.
    pub(super) fn add(&mut self, line: u64, mut event: Event<'_>) -> Result<(), String> {
        let time = self.time(line, event.time)?;
        let outcome = match event.kind {
            Kind::Invoke => return self.invoke(time, event),
            Kind::Ok => Outcome::Ok,
            Kind::Fail => Outcome::Fail,
            Kind::Info => Outcome::Info,
        };
        let process = event.process;
        let causal = event.causal()?;
        let Some((place, mut operation)) = self.open.remove(&process) else {
            return Err(format!("process {process} completes an operation it did not invoke"));
        };
        if event.function.is_some_and(|function| function != operation.function)
            || event.key.is_some_and(|key| key != operation.key)
        {
            return Err(format!("process {process} completes another operation than it invoked"));
        }
        operation.return_ns = Some(time);
        operation.outcome = outcome;
        operation.causal = causal;
        if outcome == Outcome::Ok {
            match operation.function {
                Function::Read => {
                    operation.value = self.returned(event.value, &operation.key)?;
                }
                Function::Txn | Function::Watch if event.value.is_some() => {
                    operation.value = self.returned(event.value, &operation.key)?;
                }
                function if function.takes_value() => {
                    self.check_repeated(event.value, &operation)?;
                }
                _ => {}
            }
        }
        if let Some(node) = event.node {
            operation.node = Some(node.into_owned());
        }
        operation.error = event.error.map(|error| error.into_owned());
        operation.revision = event.revision;
        operation.at_revision = event.at_revision;
        (self.each)(place, operation);
        Ok(())
    }

    /// Hands on what is still open.
    pub(super) fn finish(mut self) {
        let mut open: Vec<_> = self.open.into_values().collect();
        open.sort_unstable_by_key(|(place, _)| *place);
        for (place, operation) in open {
            (self.each)(place, operation);
        }
    }

    fn invoke(&mut self, time: u64, mut event: Event<'_>) -> Result<(), String> {
        let process = event.process;
        let causal = event.causal()?;
        let Some(function) = event.function else {
            return Err("an invocation needs `f`".to_owned());
        };
        if self.format == Format::Json
            && matches!(function, Function::Write | Function::Cas)
            && event.value.is_none()
        {
            return Err(format!("a {} needs `value`", function.as_str()));
        }
        let mut call = Call {
            key: event.key.map(|key| key.into_owned()).unwrap_or_default(),
            function,
            value: None,
            expected: event.expected.map(Datum::into_value),
        };
        if self.keyed {
            let (key, value) = pair(event.value)?;
            call.key = key.map(|key| key.name().into_owned()).unwrap_or_default();
            call.value = value;
        } else if function.writes() {
            call.value = event.value.map(Datum::into_value);
        }
        if function == Function::Cas && self.format != Format::Json {
            let (old, new) = two(call.value).ok_or("the value of a cas is [old new]")?;
            (call.expected, call.value) = (old, new);
        }
        if !function.writes() {
            call.value = None;
        }
        let mut operation = Operation::invoked(process, call, time);
        operation.node = event.node.map(|node| node.into_owned());
        operation.level = event.level.map(|level| level.into_owned());
        // Only what never completes keeps what follows.
        operation.error = event.error.map(|error| error.into_owned());
        operation.revision = event.revision;
        operation.at_revision = event.at_revision;
        operation.causal = causal;
        if self.open.insert(process, (self.calls, operation)).is_some() {
            return Err(format!("process {process} invokes while its last operation is open"));
        }
        self.calls += 1;
        Ok(())
    }

    /// The value that an operation on `key` returned.
    fn returned(&self, value: Option<Datum<'_>>, key: &str) -> Result<Option<Value>, String> {
        if !self.keyed {
            return Ok(value.map(Datum::into_value));
        }
        let (found, value) = pair(value)?;
        if found.as_ref().map(Value::name).unwrap_or_default() != key {
            return Err("completes an operation on another key than was invoked".to_owned());
        }
        Ok(value)
    }

    /// A completion says the value that was invoked, or none.
    fn check_repeated(&self, said: Option<Datum<'_>>, operation: &Operation) -> Result<(), String> {
        let Operation { function, value, expected, process, .. } = operation;
        let repeats = match said {
            None => true,
            // The usual one, without a copy.
            Some(Datum::Text(text)) if !self.keyed => operation.text() == Some(&text),
            said => match self.returned(said, &operation.key)? {
                None => true,
                said if *function == Function::Cas && self.format != Format::Json => {
                    two(said) == Some((expected.clone(), value.clone()))
                }
                said => said == *value,
            },
        };
        if repeats {
            return Ok(());
        }
        let name = function.as_str();
        Err(format!("process {process} completes another {name} than it invoked"))
    }

    /// The time of an event. As JSON lines have it, times alone decide; in the other formats the
    /// order of events decides, so times are made to rise with it.
    fn time(&mut self, line: u64, given: Option<u64>) -> Result<u64, String> {
        let time = if self.format == Format::Json {
            let time = given.unwrap_or(line);
            if let Some((last, last_given)) = self.last {
                if last_given != given.is_some() {
                    return Err("some lines have `time` and some have not".to_owned());
                }
                if time < last {
                    return Err(format!("time {time} is earlier than {last} of the line before"));
                }
            }
            time
        } else {
            let next = self.last.map_or(0, |(last, _)| last.saturating_add(1));
            given.map_or(next, |given| given.max(next))
        };
        if time > TIME_MAX {
            return Err(format!("time {time} is later than any clock"));
        }
        self.last = Some((time, given.is_some()));
        Ok(time)
    }
}

/// Latest time that is believed: 292 years.
const TIME_MAX: u64 = i64::MAX as u64;

/// Takes `[key value]` apart.
fn pair(value: Option<Datum<'_>>) -> Result<(Option<Value>, Option<Value>), String> {
    two(value.map(Datum::into_value))
        .ok_or_else(|| "in a keyed history every value is [key value]".to_owned())
}

/// Takes a list of two apart.
fn two(value: Option<Value>) -> Option<(Option<Value>, Option<Value>)> {
    let Some(Value::List(list)) = value else { return None };
    let [first, second] = <[_; 2]>::try_from(list).ok()?;
    Some((first, second))
}
