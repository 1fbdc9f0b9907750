//! One event of a history, whatever its format.

use std::borrow::Cow;

use serde::Serialize;

use crate::operation::{Causal, Function};
use crate::value::Value;

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

impl Kind {
    /// The kind by its word.
    pub(super) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "invoke" => Self::Invoke,
            "ok" => Self::Ok,
            "fail" => Self::Fail,
            "info" => Self::Info,
            _ => return None,
        })
    }

    /// The word.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }
}

/// The process that tells of its own faults, in Jepsen's histories.
const NEMESIS: &str = "nemesis";

/// Whose event it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Process<'a> {
    /// A client.
    Client(u64),
    /// Something with a name.
    Named(Cow<'a, str>),
}

impl Process<'_> {
    /// The number of a client; `None` if it is something that is no client and says so by its name
    /// or by only telling. A client with a name is refused: it must not be left out unseen.
    pub(super) fn client(self, kind: Option<Kind>) -> Result<Option<u64>, String> {
        match self {
            Self::Client(number) => Ok(Some(number)),
            Self::Named(name) if name == NEMESIS || kind == Some(Kind::Info) => Ok(None),
            Self::Named(name) => Err(format!("the process of a client is a number, not {name:?}")),
        }
    }
}

/// A value that is copied only when it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Datum<'a> {
    /// Text or a number.
    Text(Cow<'a, str>),
    /// Anything else.
    Other(Value),
}

impl Datum<'_> {
    /// The value, copied.
    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Text(text) => Value::Text(text.into_owned()),
            Self::Other(value) => value,
        }
    }
}

/// One event. What the file does not say is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    pub(super) time: Option<u64>,
    pub(super) process: u64,
    pub(super) kind: Kind,
    pub(super) function: Option<Function>,
    pub(super) key: Option<Cow<'a, str>>,
    pub(super) value: Option<Datum<'a>>,
    pub(super) expected: Option<Datum<'a>>,
    pub(super) node: Option<Cow<'a, str>>,
    pub(super) error: Option<Cow<'a, str>>,
    pub(super) level: Option<Cow<'a, str>>,
    pub(super) revision: Option<u64>,
    pub(super) at_revision: Option<u64>,
    pub(super) dots: Option<Value>,
    pub(super) context: Option<Cow<'a, str>>,
    pub(super) lost: bool,
}

impl Event<'_> {
    /// An event of which nothing else is known.
    pub(super) const fn new(process: u64, kind: Kind) -> Self {
        Self {
            time: None,
            process,
            kind,
            function: None,
            key: None,
            value: None,
            expected: None,
            node: None,
            error: None,
            level: None,
            revision: None,
            at_revision: None,
            dots: None,
            context: None,
            lost: false,
        }
    }

    /// What only eventual keyspaces say; `None` if this event says nothing of it.
    pub(super) fn causal(&mut self) -> Result<Option<Box<Causal>>, String> {
        if self.dots.is_none() && self.context.is_none() && !self.lost {
            return Ok(None);
        }
        let dots = match self.dots.take() {
            None => Vec::new(),
            Some(Value::List(list)) => {
                let text = |dot: Option<Value>| Some(dot?.as_text()?.to_owned());
                let dots: Option<Vec<String>> = list.into_iter().map(text).collect();
                dots.ok_or("a dot is text")?
            }
            Some(_) => return Err("`dots` is a list".to_owned()),
        };
        let context = self.context.take().map(Cow::into_owned);
        Ok(Some(Box::new(Causal { dots, context, lost: self.lost })))
    }
}

/// The function by its word, or by one of those that other systems use.
pub(super) fn function_named(word: &str) -> Result<Function, String> {
    Ok(match word {
        "read" | "get" => Function::Read,
        "write" | "put" => Function::Write,
        "cas" => Function::Cas,
        "delete" => Function::Delete,
        "append" => Function::Append,
        "add" => Function::Add,
        "transfer" => Function::Transfer,
        "txn" => Function::Txn,
        "acquire" => Function::Acquire,
        "release" => Function::Release,
        "watch" => Function::Watch,
        _ => return Err(format!("unknown function {word:?}")),
    })
}
