//! One operation of a client, from its call to its return.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::value::Value;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Returns the value, or absence; of a set, a counter or a bank all of it.
    Read,
    /// Sets the value.
    Write,
    /// Sets the value if the key holds the expected one.
    Cas,
    /// Removes the key; for a register the same as writing absence.
    Delete,
    /// Adds text to the end of the value.
    Append,
    /// Adds an element to a set, or a number to a counter.
    Add,
    /// Moves an amount between accounts: a map of `from`, `to` and `amount`.
    Transfer,
    /// A list of micro-operations, each a list of a function, a key and a value: `append` adds an
    /// element to a list, `r` reads, `w` writes.
    Txn,
    /// Takes a lock; the revision is its fencing token.
    Acquire,
    /// Gives a lock back.
    Release,
    /// Events of a watch as one delivery: a list of maps of `key`, `value` and `rev`.
    Watch,
}

impl Function {
    /// The word used in histories.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Cas => "cas",
            Self::Delete => "delete",
            Self::Append => "append",
            Self::Add => "add",
            Self::Transfer => "transfer",
            Self::Txn => "txn",
            Self::Acquire => "acquire",
            Self::Release => "release",
            Self::Watch => "watch",
        }
    }

    /// Whether its caller says all of its value.
    pub(crate) const fn takes_value(self) -> bool {
        matches!(self, Self::Write | Self::Cas | Self::Append | Self::Add | Self::Transfer)
    }

    /// Whether it may change something.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Read | Self::Watch)
    }
}

/// What the client knows about an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It took effect between call and return.
    Ok,
    /// It certainly took no effect, for whatever reason. A failed cas does *not* prove that the
    /// value was another one: a refused or misrouted request fails as well.
    Fail,
    /// Unknown. A write may take effect at any time after its call, or never; a read says nothing.
    Info,
}

impl Outcome {
    /// The word used in histories.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }
}

/// One operation of one client process on one key.
///
/// Times count in nanoseconds from the start of the run, on one monotonic clock for all processes.
/// One operation precedes another if its return is *less* than the other's call; at equal times
/// they are concurrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The sequential client that ran it. A process does one operation at a time, and none after
    /// an [`Outcome::Info`].
    pub process: u64,
    /// The key; empty where the operation names none or several.
    pub key: String,
    /// What it does.
    pub function: Function,
    /// The value written, or returned by a read. `None` is absence.
    pub value: Option<Value>,
    /// The value a cas compares with. `None` is absence.
    pub expected: Option<Value>,
    /// When it was called.
    pub invoke_ns: u64,
    /// When it returned, or when the client gave up waiting. `None`: the client never heard of it.
    pub return_ns: Option<u64>,
    /// What the client knows.
    pub outcome: Outcome,
    /// The node that was asked or that answered.
    pub node: Option<String>,
    /// The error, of what did not succeed.
    pub error: Option<String>,
    /// Of a read the level it asked for, such as `linearizable` or `bounded=500ms`; of a write to an eventual
    /// keyspace how many replicas had to have it: `one`, `quorum` or `all`.
    pub level: Option<String>,
    /// Of a write the revision it was given; of a read the revision of the item it returned.
    pub revision: Option<u64>,
    /// Of a read the revision of the keyspace it looked at.
    pub at_revision: Option<u64>,
    /// What the replies of eventual keyspaces say besides.
    pub causal: Option<Box<Causal>>,
}

/// What the replies of eventual keyspaces say besides, and what became of a write later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causal {
    /// Of a write the dot that it was given, of a read those of the siblings, in their order.
    pub dots: Vec<String>,
    /// The causal token of the reply, in base64; `None` where there is none.
    pub context: Option<String>,
    /// The only disk that certainly had this write was lost, and the write perhaps with it.
    pub lost: bool,
}

impl Operation {
    /// An operation that was called and has not returned.
    pub fn invoked(process: u64, call: Call, invoke_ns: u64) -> Self {
        Self {
            process,
            key: call.key,
            function: call.function,
            value: call.value,
            expected: call.expected,
            invoke_ns,
            return_ns: None,
            outcome: Outcome::Info,
            node: None,
            error: None,
            level: None,
            revision: None,
            at_revision: None,
            causal: None,
        }
    }

    /// The last moment at which it can have taken effect; `u64::MAX` while that is open.
    ///
    /// # Panics
    ///
    /// If it is ok or failed but has no return: its maker broke the rules of histories.
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        match self.outcome {
            Outcome::Info => u64::MAX,
            Outcome::Ok | Outcome::Fail => {
                self.return_ns.expect("an operation with a known outcome has returned")
            }
        }
    }

    /// The value as text, where it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.value.as_ref().and_then(Value::as_text)
    }

    /// The expected value as text, where it is text.
    #[must_use]
    pub fn expected_text(&self) -> Option<&str> {
        self.expected.as_ref().and_then(Value::as_text)
    }

    /// The value that the key holds afterwards if it takes effect; `None` where this is not known
    /// from the operation alone.
    #[must_use]
    pub fn written(&self) -> Option<Option<&Value>> {
        match self.function {
            Function::Write | Function::Cas => Some(self.value.as_ref()),
            Function::Delete => Some(None),
            _ => None,
        }
    }
}

/// Prints an operation so that a person finds it in the history: what, who, when.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = Shown(self.value.as_ref());
        match self.function {
            Function::Read if self.outcome == Outcome::Ok => {
                write!(f, "read {} -> {value}", self.key)?;
            }
            Function::Read => write!(f, "read {}", self.key)?,
            Function::Write => write!(f, "write {} {value}", self.key)?,
            Function::Delete => write!(f, "delete {}", self.key)?,
            Function::Txn => write!(f, "txn {value}")?,
            other if self.key.is_empty() => write!(f, "{} {value}", other.as_str())?,
            Function::Append
            | Function::Add
            | Function::Transfer
            | Function::Acquire
            | Function::Release
            | Function::Watch => write!(f, "{} {} {value}", self.function.as_str(), self.key)?,
            Function::Cas => {
                write!(f, "cas {} {} -> {value}", self.key, Shown(self.expected.as_ref()))?;
            }
        }
        if let Some(revision) = self.revision {
            write!(f, " rev {revision}")?;
        }
        if let Some(revision) = self.at_revision {
            write!(f, " at rev {revision}")?;
        }
        write!(
            f,
            " [{} of process {}, {} to ",
            self.outcome.as_str(),
            self.process,
            Ms(self.invoke_ns)
        )?;
        match (self.outcome, self.return_ns) {
            (Outcome::Ok | Outcome::Fail, Some(end)) => write!(f, "{}]", Ms(end)),
            _ => f.write_str("open]"),
        }
    }
}

/// A value as people read it.
struct Shown<'a>(Option<&'a Value>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("absent"),
        }
    }
}

/// Nanoseconds shown as milliseconds.
struct Ms(u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} ms", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// What a process asks for: an operation before anything is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The key.
    pub key: String,
    /// What to do.
    pub function: Function,
    /// The value to write; `None` for reads and deletes.
    pub value: Option<Value>,
    /// The value a cas compares with; `None` is absence.
    pub expected: Option<Value>,
}

impl Call {
    /// A read.
    pub fn read(key: impl Into<String>) -> Self {
        Self { key: key.into(), function: Function::Read, value: None, expected: None }
    }

    /// A write of `value`.
    pub fn write(key: impl Into<String>, value: impl Into<Value>) -> Self {
        let value = Some(value.into());
        Self { key: key.into(), function: Function::Write, value, expected: None }
    }

    /// A cas from `expected`, where `None` is absence, to `value`.
    pub fn cas(key: impl Into<String>, expected: Option<Value>, value: impl Into<Value>) -> Self {
        let value = Some(value.into());
        Self { key: key.into(), function: Function::Cas, value, expected }
    }

    /// A delete.
    pub fn delete(key: impl Into<String>) -> Self {
        Self { key: key.into(), function: Function::Delete, value: None, expected: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_names_itself() {
        let mut operation = Operation::invoked(3, Call::cas("k", None, "7"), 1_500_000);
        assert_eq!(
            operation.to_string(),
            "cas k absent -> \"7\" [info of process 3, 1.500000 ms to open]"
        );
        operation.outcome = Outcome::Ok;
        operation.return_ns = Some(2_000_001);
        operation.revision = Some(9);
        assert_eq!(
            operation.to_string(),
            "cas k absent -> \"7\" rev 9 [ok of process 3, 1.500000 ms to 2.000001 ms]"
        );
    }

    #[test]
    fn an_unknown_outcome_stays_open_for_ever() {
        let mut operation = Operation::invoked(0, Call::delete("k"), 5);
        operation.return_ns = Some(9);
        assert_eq!(operation.end_ns(), u64::MAX);
        assert_eq!(operation.written(), Some(None));
    }
}
