//! Histories written by hand, one operation after the other.

use jepsen::{Call, Function, Operation, Outcome, Value};

/// How long each operation of a script takes, and the pause after it.
pub const STEP_NS: u64 = 10;

/// Operations that follow one another, one a line: process, function, key, value, and then any of
/// `rev=3`, `at=3`, `node=a`, `level=l`, `expected=v`, `dots=a:1,b:2`, `info`, `fail`, `lost`, `from=10`, `to=20`. A value
/// `-` is absence, `[1,2]` is a list.
pub fn history(script: &str) -> Vec<Operation> {
    script.lines().map(str::trim).filter(|line| !line.is_empty()).zip(0..).map(operation).collect()
}

fn operation((line, number): (&str, u64)) -> Operation {
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("too short: {line}"));
    let process = word().parse().unwrap();
    let function = match word() {
        "r" => Function::Read,
        "w" => Function::Write,
        "del" => Function::Delete,
        "add" => Function::Add,
        "acquire" => Function::Acquire,
        "release" => Function::Release,
        other => panic!("no such function: {other}"),
    };
    let call = Call { key: word().to_owned(), function, value: value(word()), expected: None };
    let mut operation = Operation::invoked(process, call, number * STEP_NS);
    operation.return_ns = Some(number * STEP_NS + STEP_NS / 2);
    operation.outcome = Outcome::Ok;
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("rev", revision) => operation.revision = Some(revision.parse().unwrap()),
            ("at", revision) => operation.at_revision = Some(revision.parse().unwrap()),
            ("node", node) => operation.node = Some(node.to_owned()),
            ("level", _) => operation.level = Some(word["level=".len()..].to_owned()),
            ("expected", expected) => operation.expected = value(expected),
            ("from", time) => operation.invoke_ns = time.parse().unwrap(),
            ("to", time) => operation.return_ns = Some(time.parse().unwrap()),
            ("info", _) => operation.outcome = Outcome::Info,
            ("fail", _) => operation.outcome = Outcome::Fail,
            ("lost", _) => operation.causal.get_or_insert_default().lost = true,
            ("dots", dots) => {
                operation.causal.get_or_insert_default().dots =
                    dots.split(',').map(str::to_owned).collect();
            }
            _ => panic!("no such word: {word}"),
        }
    }
    operation
}

/// A value as in a script.
pub fn value(word: &str) -> Option<Value> {
    match word.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some("") => Some(Value::List(Vec::new())),
        Some(list) => Some(Value::List(list.split(',').map(value).collect())),
        None => (word != "-").then(|| word.into()),
    }
}
