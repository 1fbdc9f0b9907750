//! Eventual keyspaces. The definition: some choice of the unknown operations, with what blind ones
//! replaced, leaves exactly what all nodes show in the end; and the rules for single reads.

use std::collections::BTreeSet;

use jepsen::checker::ConvergenceChecker;
use jepsen::{Function, Operation, Outcome, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::script::{STEP_NS, history};
use crate::trial::{HISTORIES, compare_some, invalid, planted, unknown, valid};

fn list(value: &Option<Value>) -> Vec<&Value> {
    let list = value.as_ref().and_then(Value::as_list).unwrap_or(&[]);
    list.iter().map(|value| value.as_ref().unwrap()).collect()
}

fn definition(history: &[Operation]) -> Option<bool> {
    let reads: Vec<&Operation> = history
        .iter()
        .filter(|one| one.function == Function::Read && one.outcome == Outcome::Ok)
        .collect();
    let changes: Vec<&Operation> = history
        .iter()
        .filter(|one| one.function != Function::Read && one.outcome != Outcome::Fail)
        .collect();
    let count = changes.len();
    // Which change replaces which, directly and by way of others.
    let mut over = vec![vec![false; count]; count];
    for (one, change) in changes.iter().enumerate() {
        for (other, replaced) in changes.iter().enumerate() {
            over[one][other] = replaced
                .value
                .as_ref()
                .is_some_and(|value| list(&change.expected).contains(&value));
        }
    }
    let direct = over.clone();
    for middle in 0..count {
        for one in 0..count {
            for other in 0..count {
                over[one][other] |= over[one][middle] && over[middle][other];
            }
        }
    }
    for read in &reads {
        let siblings = list(&read.value);
        let mut numbers = Vec::new();
        for value in siblings {
            let write = changes.iter().position(|change| {
                change.value.as_ref() == Some(value) && change.invoke_ns <= read.return_ns.unwrap()
            });
            let Some(number) = write else { return Some(false) };
            if numbers.contains(&number)
                || numbers.iter().any(|&n| over[n][number] || over[number][n])
            {
                return Some(false);
            }
            numbers.push(number);
        }
    }
    let settled = history
        .iter()
        .filter(|one| one.function != Function::Read)
        .filter_map(|one| one.return_ns)
        .max();
    let nodes: BTreeSet<&Option<String>> = reads.iter().map(|read| &read.node).collect();
    let finals: Vec<BTreeSet<&Value>> = nodes
        .into_iter()
        .filter_map(|node| {
            let late = reads.iter().filter(|read| Some(read.invoke_ns) > settled);
            late.filter(|read| &read.node == node).max_by_key(|read| read.invoke_ns)
        })
        .map(|read| list(&read.value).into_iter().collect())
        .collect();
    let shown = finals.first()?;
    let seen = |value: &Value| {
        reads.iter().any(|read| list(&read.value).contains(&value))
            || history.iter().any(|one| list(&one.expected).contains(&value))
    };
    let certain = |change: &Operation| {
        change.outcome == Outcome::Ok || change.value.as_ref().is_some_and(seen)
    };
    let chosen = (0..1_u32 << count).any(|set| {
        let happened = |number: usize| set >> number & 1 == 1;
        if (0..count).any(|number| certain(changes[number]) && !happened(number)) {
            return false;
        }
        let left: BTreeSet<usize> = (0..count)
            .filter(|&number| happened(number) && changes[number].value.is_some())
            .filter(|&number| !(0..count).any(|other| happened(other) && direct[other][number]))
            .collect();
        // What is left and not shown must have been replaced by a blind change.
        let value = |number: usize| changes[number].value.as_ref().unwrap();
        let blind = |number: usize| {
            (0..count).any(|other| {
                other != number
                    && happened(other)
                    && changes[other].expected.is_none()
                    && changes[other].return_ns.unwrap() >= changes[number].invoke_ns
            })
        };
        shown.iter().all(|&v| left.iter().any(|&number| value(number) == v))
            && left.iter().all(|&number| shown.contains(value(number)) || blind(number))
    });
    Some(chosen && finals.iter().all(|other| other == shown))
}

#[derive(Clone, Default)]
struct Replica {
    known: BTreeSet<usize>,
    values: Vec<Value>,
}

/// Replicas that gossip: a change replaces what its client had read, and what that replaced.
fn store(rng: &mut ChaCha8Rng, operations: usize, crashes: u32) -> Vec<Operation> {
    let mut history = history(&"0 r k -\n".repeat(operations + 2));
    let mut replicas = vec![Replica::default(); 2];
    // Of each change its value and all that it replaces.
    let mut changes: Vec<(Option<Value>, Vec<Value>)> = Vec::new();
    let mut read: Vec<Value> = Vec::new();
    for (number, operation) in history.iter_mut().enumerate() {
        if number == operations {
            let all: BTreeSet<usize> = replicas.iter().flat_map(|r| r.known.clone()).collect();
            replicas.iter_mut().for_each(|replica| replica.known = all.clone());
            replicas.iter_mut().for_each(|replica| settle(replica, &changes));
        } else if rng.random_bool(0.3) {
            let known = replicas[1].known.clone();
            replicas[0].known.extend(known);
            settle(&mut replicas[0], &changes);
            replicas.swap(0, 1);
        }
        let at = if number < operations { rng.random_range(0..2) } else { number - operations };
        operation.node = Some(if at == 0 { "a" } else { "b" }.to_owned());
        operation.process = number as u64;
        if number >= operations || rng.random_bool(0.3) {
            read = replicas[at].values.clone();
            operation.value = Some(Value::List(read.iter().cloned().map(Some).collect()));
            continue;
        }
        let delete = rng.random_ratio(1, 4);
        operation.function = if delete { Function::Delete } else { Function::Write };
        operation.value = (!delete).then(|| Value::from(number as i64));
        let mut replaces = if rng.random_bool(0.7) { read.clone() } else { Vec::new() };
        operation.expected = Some(Value::List(replaces.iter().cloned().map(Some).collect()));
        if rng.random_ratio(1, 40) {
            operation.expected = None;
        }
        let mut next = 0;
        while next < replaces.len() {
            let change = changes.iter().find(|change| change.0.as_ref() == Some(&replaces[next]));
            let further = change.map_or(Vec::new(), |change| change.1.clone());
            replaces
                .extend(further.into_iter().filter(|v| !replaces.contains(v)).collect::<Vec<_>>());
            next += 1;
        }
        if operation.expected.is_some() && rng.random_ratio(crashes, 100) {
            operation.outcome = Outcome::Info;
            if rng.random() {
                continue;
            }
        }
        replicas[at].known.insert(changes.len());
        changes.push((operation.value.clone(), replaces));
        settle(&mut replicas[at], &changes);
    }
    history
}

fn settle(replica: &mut Replica, changes: &[(Option<Value>, Vec<Value>)]) {
    let known = || replica.known.iter().map(|&number| &changes[number]);
    let live = |value: &Value| !known().any(|change| change.1.contains(value));
    replica.values = known().filter_map(|change| change.0.clone()).filter(live).collect();
}

fn tiny(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let mut history = store(rng, 6, 20);
    for _ in 0..rng.random_range(0..=2) {
        let place = rng.random_range(0..history.len());
        let one = history[rng.random_range(0..history.len())].value.clone();
        let operation = &mut history[place];
        let target = if operation.function == Function::Read {
            &mut operation.value
        } else {
            &mut operation.expected
        };
        let Some(Value::List(siblings)) = target else { continue };
        match one {
            Some(one @ Value::Text(_)) if rng.random() => siblings.push(Some(one)),
            Some(Value::List(other)) if rng.random_ratio(1, 4) => *siblings = other,
            _ => drop(siblings.pop()),
        }
    }
    history
}

#[test]
fn convergence_agrees_with_its_definition() {
    compare_some(&ConvergenceChecker, HISTORIES, tiny, definition);
}

#[test]
fn planted_losses_are_found() {
    planted(&ConvergenceChecker, |rng, bad| {
        let mut history = store(rng, 120, 5);
        if bad {
            let script = match rng.random_range(0..3) {
                // Lost, came back, and nodes that differ; on keys of their own.
                0 => "900 w x a expected=[] \n 901 r x [] node=a",
                1 => "900 w x a expected=[] \n 901 del x - expected=[a] \n 902 r x [a] node=a",
                _ => "900 w x a expected=[] \n 902 r x [a] node=a \n 903 r x [] node=b",
            };
            let later = STEP_NS * 200;
            history.extend(crate::script::history(script).into_iter().map(|mut operation| {
                operation.invoke_ns += later;
                operation.return_ns = operation.return_ns.map(|time| time + later);
                operation
            }));
            // The other key is read again, since writes came after its last reads.
            let last = history.iter().rfind(|one| one.key == "k").cloned().unwrap();
            history.push(Operation { invoke_ns: later * 2, return_ns: Some(later * 2), ..last });
        }
        history
    });
}

#[test]
fn anomalies_have_their_sentences() {
    let checker = ConvergenceChecker;
    let says = |script: &str, sentence: &str| invalid(&checker, &history(script), sentence);
    valid(&checker, &history("0 w k a expected=[] \n 1 w k b expected=[] \n 2 r k [b,a]"));
    says("0 w k a expected=[] \n 2 r k [] node=n1", "lost: nothing replaced write k \"a\"");
    says("0 w k a expected=[] \n 1 del k - expected=[a] \n 2 r k [a]", "\"a\" came back: delete k");
    says("0 w k a expected=[] \n 1 w k b expected=[a] \n 2 r k [a]", "replaced it, but in the end");
    says(
        "0 w k a expected=[] \n 1 w k b expected=[a] \n 1 w k c expected=[b] \n 2 r k [a,c]",
        "false siblings: read k -> [\"a\" \"c\"]",
    );
    says("0 w k a expected=[] \n 2 r k [a,a]", "a sibling comes twice");
    says(
        "0 w k a expected=[] \n 2 r k [a] node=x \n 2 r k [] node=y",
        "nodes do not agree in the end",
    );
    says("2 r k [a]", "which nobody wrote");
    says("0 w k a expected=[] fail \n 2 r k [a]", "what a failed write left");
    says("2 r k [a] \n 0 w k a expected=[] \n 2 r k [a]", "what was written later");
    // A node may lag behind before the end.
    let lag = "0 w k a expected=[] \n 1 w k b expected=[a] \n 2 r k [a] node=x \n 0 w j z expected=[] \n \
               2 r k [b] node=x \n 2 r j [z]";
    valid(&checker, &history(lag));
    // Unknown operations may have replaced it, but then what they wrote is there.
    let deleted = "0 w k a expected=[] \n 1 del k - expected=[a] info \n 2 r k []";
    valid(&checker, &history(deleted));
    says("0 w k a expected=[] \n 1 w k b expected=[a] info \n 2 r k []", "lost: ");
    valid(&checker, &history("0 w k a expected=[] \n 1 w k b expected=[a] info \n 2 r k [b]"));
    valid(&checker, &history("0 w k a expected=[] \n 1 w k b \n 2 r k [b]"));
    unknown(&checker, &history("0 w k a expected=[]"), "is not read after all writes returned");
    unknown(&checker, &history("0 w k a \n 0 w k a"), "is written twice");
    unknown(&checker, &history("0 add k a"), "the model knows no such operation");
}

#[test]
fn what_went_with_a_disk_is_excused_and_nothing_else() {
    let checker = ConvergenceChecker;
    let says = |script: &str, sentence: &str| invalid(&checker, &history(script), sentence);
    let fine = |script: &str| valid(&checker, &history(script));
    // It is gone although somebody saw it, or it is not.
    fine("0 w k a expected=[] lost \n 1 r k [a] \n 2 r k []");
    fine("0 w k a expected=[] lost \n 2 r k [a]");
    fine(
        "0 w k a expected=[] info lost \n 1 r k [a] \n 0 w j b expected=[] \n 2 r k [] \n 2 r j [b]",
    );
    // What it had replaced is there again, or is not.
    let replaced = "0 w k a expected=[] \n 1 w k b expected=[a] lost \n 2 r k";
    for shown in ["[a]", "[b]"] {
        fine(&format!("{replaced} {shown}"));
    }
    says(&format!("{replaced} []"), "lost: nothing replaced write k \"a\"");
    says(&format!("{replaced} [a,b]"), "false siblings");
    let deleted = "0 w k a expected=[] \n 1 del k - expected=[a] lost \n 2 r k";
    for shown in ["[a]", "[]"] {
        fine(&format!("{deleted} {shown}"));
    }
    // One that took place had seen it: then it took place as well.
    let seen = "0 w k a expected=[] \n 1 w k b expected=[a] lost \n 1 w k c expected=[b] \n 2 r k";
    fine(&format!("{seen} [c]"));
    says(&format!("{seen} [a]"), "\"a\" came back: write k \"b\"");
    says(&format!("{seen} []"), "lost: nothing replaced write k \"c\"");
    // A delete that may have gone ends what it had seen, and what that had replaced.
    let chain =
        "0 w k a expected=[] \n 1 w k b expected=[a] lost \n 1 del k - expected=[b] lost \n 2 r k";
    for shown in ["[a]", "[b]", "[]"] {
        fine(&format!("{chain} {shown}"));
    }
}

#[test]
fn the_last_writer_wins_where_keys_say_so() {
    let checker = ConvergenceChecker;
    let says = |script: &str, sentence: &str| invalid(&checker, &history(script), sentence);
    let two = "0 w lww/k a expected=[] \n 1 w lww/k b expected=[] \n 2 r lww/k";
    for shown in ["[a]", "[b]"] {
        valid(&checker, &history(&format!("{two} {shown}")));
    }
    says(&format!("{two} [a,b]"), "several values, though the last writer wins");
    says(&format!("{two} []"), "lost: nothing was deleted");
    let known = "0 w lww/k a expected=[] \n 1 w lww/k b expected=[a] \n 2 r lww/k";
    valid(&checker, &history(&format!("{known} [b]")));
    says(&format!("{known} [a]"), "\"a\" came back");
    // A delete that did not know of it may win as well.
    let deleted = "0 w lww/k a expected=[] \n 1 del lww/k - expected=[] \n 2 r lww/k";
    for shown in ["[a]", "[]"] {
        valid(&checker, &history(&format!("{deleted} {shown}")));
    }
    says("0 w lww/k a \n 2 r lww/k [a] node=x \n 2 r lww/k [] node=y", "do not agree");
}

#[test]
fn a_dot_names_one_write() {
    let checker = ConvergenceChecker;
    let says = |script: &str| invalid(&checker, &history(script), "stands for two writes");
    let good =
        "0 w k a expected=[] dots=x:1 \n 1 w k b expected=[] dots=x:2 \n 2 r k [b,a] dots=x:2,x:1";
    valid(&checker, &history(good));
    // What was written anew has another one.
    valid(&checker, &history("0 w k a expected=[] dots=x:1 \n 2 r k [a] dots=y:1"));
    says("0 w k a expected=[] dots=x:1 \n 1 w k b expected=[a] dots=x:1 \n 2 r k [b]");
    says("0 w k a expected=[] dots=x:1 \n 1 w j b expected=[] dots=x:1 \n 2 r k [a] \n 2 r j [b]");
    says("0 w k a expected=[] dots=x:1 \n 1 del k - expected=[a] dots=x:1 \n 2 r k []");
    says("0 w k a expected=[] \n 1 w k b expected=[] \n 2 r k [a,b] dots=x:1,x:1");
}
