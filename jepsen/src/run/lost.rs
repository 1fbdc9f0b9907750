//! Which writes may have gone with the disk of the only node that certainly had them.
//!
//! With `ack=one` a write is promised to be kept while the disk of the node that took it survives. Nemeses that take a
//! disk from a node excuse what was acknowledged there alone. What another node showed before the disk was lost is not
//! excused, nor what a quorum acknowledged: one node at a time loses its disk, and no other one before every
//! member has brought it up.

use std::collections::HashMap;

use crate::nemesis::Fault;
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// The level of writes that one node acknowledges alone.
const ONE: &str = "one";

/// Marks the writes to eventual keyspaces that may be gone after these faults.
pub fn mark(history: &mut [Operation], faults: &[Fault]) {
    let lossy: Vec<&Fault> = faults.iter().filter(|fault| fault.nemesis.is_lossy()).collect();
    // Of linearizable keyspaces no write has a level.
    if lossy.is_empty() || !history.iter().any(is_eventual_write) {
        return;
    }
    let shown = shown(history);
    let gone: Vec<bool> = history
        .iter()
        .map(|operation| {
            is_at_risk(operation) && lossy.iter().any(|fault| takes(fault, operation, &shown))
        })
        .collect();
    for (operation, gone) in history.iter_mut().zip(gone) {
        if gone {
            operation.causal.get_or_insert_default().lost = true;
        }
    }
}

/// Of each value who showed it when first.
type Shown = HashMap<Value, Vec<(String, u64)>>;

fn shown(history: &[Operation]) -> Shown {
    let mut shown = Shown::new();
    for read in history {
        if read.function != Function::Read || read.outcome != Outcome::Ok {
            continue;
        }
        let values = read.value.as_ref().and_then(Value::as_list).unwrap_or_default();
        for value in values.iter().flatten() {
            let (Some(node), at) = (&read.node, read.end_ns()) else { continue };
            let nodes = shown.entry(value.clone()).or_default();
            match nodes.iter_mut().find(|(known, _)| known == node) {
                Some((_, first)) => *first = at.min(*first),
                None => nodes.push((node.clone(), at)),
            }
        }
    }
    shown
}

fn is_eventual_write(operation: &Operation) -> bool {
    operation.function.writes()
        && matches!(operation.level.as_deref(), Some(ONE | "quorum" | "all"))
}

/// Whether no more than one disk is certain to have it.
fn is_at_risk(operation: &Operation) -> bool {
    is_eventual_write(operation)
        && match operation.outcome {
            Outcome::Ok => operation.level.as_deref() == Some(ONE),
            Outcome::Info => true,
            Outcome::Fail => false,
        }
}

/// Whether a fault took the disk that had it, while no other one is known to have had it.
fn takes(fault: &Fault, operation: &Operation, shown: &Shown) -> bool {
    let there = operation.node.as_ref().is_none_or(|node| fault.nodes.contains(node));
    if !there || fault.end_ns.is_some_and(|end| end < operation.invoke_ns) {
        return false;
    }
    let elsewhere =
        |(node, at): &(String, u64)| !fault.nodes.contains(node) && *at < fault.begin_ns;
    let by = operation.value.as_ref().and_then(|value| shown.get(value));
    !by.is_some_and(|nodes| nodes.iter().any(elsewhere))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::NemesisKind;
    use crate::operation::Call;

    fn write(value: &str, node: &str, level: &str, time: u64) -> Operation {
        let mut operation = Operation::invoked(0, Call::write("k", value), time);
        operation.return_ns = Some(time + 1);
        operation.outcome = Outcome::Ok;
        operation.node = Some(node.to_owned());
        operation.level = Some(level.to_owned());
        operation
    }

    fn read(value: &str, node: &str, time: u64) -> Operation {
        let mut operation = write(value, node, "eventual", time);
        operation.function = Function::Read;
        operation.value = Some(Value::List(vec![Some(value.into())]));
        operation
    }

    fn fault(nemesis: NemesisKind, begin_ns: u64, end_ns: Option<u64>) -> Fault {
        let (nodes, place) = (vec!["n1".to_owned()], String::new());
        Fault { nemesis, what: "x", nodes, place, begin_ns, end_ns, effects: None }
    }

    #[test]
    fn what_one_node_had_is_excused_once_its_disk_is_lost() {
        let mut history = vec![
            write("a", "n1", "one", 10),
            write("b", "n2", "one", 20),
            write("c", "n1", "quorum", 30),
            write("seen", "n1", "one", 40),
            read("seen", "n2", 45),
            write("own", "n1", "one", 50),
            read("own", "n1", 55),
            write("unknown", "n1", "quorum", 60),
            write("failed", "n1", "one", 70),
            write("later", "n1", "one", 300),
        ];
        history[7].outcome = Outcome::Info;
        history[8].outcome = Outcome::Fail;
        let mut linearizable = write("x", "n1", "one", 80);
        linearizable.level = None;
        history.push(linearizable);
        let marked = |faults: &[Fault]| -> Vec<String> {
            let mut history = history.clone();
            mark(&mut history, faults);
            let lost = history.iter().filter(|one| one.causal.as_ref().is_some_and(|c| c.lost));
            lost.map(|one| one.text().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(marked(&[fault(NemesisKind::Members, 100, Some(200))]), ["a", "own", "unknown"]);
        let open = marked(&[fault(NemesisKind::Files, 100, None)]);
        assert_eq!(open, ["a", "own", "unknown", "later"]);
        // Seen elsewhere only after the disk was lost.
        assert!(marked(&[fault(NemesisKind::Files, 42, Some(44))]).contains(&"seen".to_owned()));
        assert!(marked(&[fault(NemesisKind::Kill, 100, Some(200))]).is_empty());
        assert!(marked(&[]).is_empty());
    }
}
