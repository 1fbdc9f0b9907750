//! Sequential consistency by revisions. The definition: revisions can be given to the writes with
//! an unknown outcome so that each read is explained, and no process goes back.

use jepsen::checker::SequentialChecker;
use jepsen::{Function, Operation, Outcome, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::script::history;
use crate::trial::{HISTORIES, compare_some, invalid, planted, unknown, valid};

/// Revisions that the definition tries.
const REVISION_MAX: u64 = 12;

fn ok_write(operation: &Operation) -> bool {
    operation.function != Function::Read && operation.outcome == Outcome::Ok
}

/// Tries all revisions for the unknown writes.
fn explained(history: &[Operation], unknown: &[usize], given: &mut Vec<(u64, usize)>) -> bool {
    let Some((&first, rest)) = unknown.split_first() else {
        return holds(history, given);
    };
    explained(history, rest, given)
        || (1..=REVISION_MAX).any(|revision| {
            given.push((revision, first));
            let found = explained(history, rest, given);
            given.pop();
            found
        })
}

fn holds(history: &[Operation], given: &[(u64, usize)]) -> bool {
    let mut versions: Vec<(u64, usize)> = given.to_vec();
    let written = (0..history.len()).filter(|&place| ok_write(&history[place]));
    versions.extend(written.map(|place| (history[place].revision.unwrap(), place)));
    let unique = versions
        .iter()
        .all(|one| versions.iter().all(|other| one.1 == other.1 || one.0 != other.0));
    let revision = |place: usize| versions.iter().find(|version| version.1 == place).map(|v| v.0);
    let no_way_back = (0..history.len()).all(|late| {
        (0..history.len()).all(|early| {
            let (one, other) = (&history[early], &history[late]);
            let before = one.process == other.process && one.invoke_ns < other.invoke_ns;
            if !before || one.outcome != Outcome::Ok {
                return true;
            }
            let proven = if ok_write(one) { one.revision } else { one.at_revision };
            match revision(late) {
                Some(revision) => Some(revision) > proven,
                None if other.outcome == Outcome::Ok => other.at_revision >= proven,
                None => true,
            }
        })
    });
    let reads_explained = history.iter().all(|read| {
        if read.function != Function::Read || read.outcome != Outcome::Ok {
            return true;
        }
        let newest = versions
            .iter()
            .filter(|(revision, place)| {
                Some(*revision) <= read.at_revision && history[*place].key == read.key
            })
            .max();
        let Some(&(revision, place)) = newest else { return read.value.is_none() };
        let write = &history[place];
        let value = write.value.as_ref().filter(|_| write.function == Function::Write);
        value == read.value.as_ref()
            && (value.is_none() || read.revision == Some(revision))
            && (write.outcome == Outcome::Ok || write.invoke_ns <= read.return_ns.unwrap())
    });
    unique && no_way_back && reads_explained
}

/// The rules for unknown writes leave gaps in what is found; so where no order exists and there
/// are such writes, nothing is said.
fn definition(history: &[Operation]) -> Option<bool> {
    let unknown: Vec<usize> = (0..history.len())
        .filter(|&place| history[place].outcome == Outcome::Info)
        .filter(|&place| history[place].function != Function::Read)
        .collect();
    let truth = explained(history, &unknown, &mut Vec::new());
    (truth || unknown.is_empty()).then_some(truth)
}

/// A store whose readers look at states that are behind, each by its own way.
fn store(rng: &mut ChaCha8Rng, operations: usize, crashes: u32) -> Vec<Operation> {
    let mut revision = 1;
    let mut names: Vec<u64> = (0..4).collect();
    let mut floors = [1; 4];
    // Revision, key, value.
    let mut log: Vec<(u64, String, Option<Value>)> = Vec::new();
    let mut all = history(&"0 r k -\n".repeat(operations));
    for (number, operation) in all.iter_mut().enumerate() {
        let client = rng.random_range(0..4);
        operation.process = names[client];
        operation.key = rng.random_range(0..2).to_string();
        if rng.random_bool(0.4) {
            let delete = rng.random_ratio(1, 4);
            operation.function = if delete { Function::Delete } else { Function::Write };
            operation.value = (!delete).then(|| Value::from(number as i64));
            let crashed = rng.random_ratio(crashes, 100);
            if !crashed || rng.random_bool(0.5) {
                revision += 1;
                log.push((revision, operation.key.clone(), operation.value.clone()));
            }
            if crashed {
                operation.outcome = Outcome::Info;
                names[client] += 4;
                floors[client] = 1;
            } else {
                operation.revision = Some(revision);
                floors[client] = revision;
            }
            continue;
        }
        let at = rng.random_range(floors[client]..=revision);
        floors[client] = at;
        operation.at_revision = Some(at);
        let seen =
            log.iter().rev().find(|(revision, key, _)| *revision <= at && *key == operation.key);
        if let Some((revision, _, Some(value))) = seen {
            operation.value = Some(value.clone());
            operation.revision = Some(*revision);
        }
    }
    all
}

fn disturb(history: &mut [Operation], rng: &mut ChaCha8Rng) {
    let place = rng.random_range(0..history.len());
    let other = history[rng.random_range(0..history.len())].clone();
    let operation = &mut history[place];
    match rng.random_range(0..4) {
        0 if operation.at_revision.is_some() => {
            operation.at_revision = Some(rng.random_range(1..6));
        }
        1 if operation.function == Function::Read => {
            operation.value = None;
            operation.revision = None;
        }
        2 if ok_write(operation) => operation.revision = Some(rng.random_range(2..7)),
        3 if operation.function == Function::Read && other.value.is_some() => {
            operation.value = other.value;
            operation.revision = Some(other.revision.unwrap_or(3));
        }
        _ => {}
    }
}

#[test]
fn sequential_agrees_with_its_definition() {
    let make = |rng: &mut ChaCha8Rng| {
        let mut history = store(rng, 8, 10);
        for _ in 0..rng.random_range(0..=3) {
            disturb(&mut history, rng);
        }
        history
    };
    compare_some(&SequentialChecker, HISTORIES, make, definition);
}

#[test]
fn planted_violations_are_found() {
    planted(&SequentialChecker, |rng, bad| {
        let mut history = store(rng, 150, 3);
        if bad {
            // Somebody looked at the newest state, and then at an older one.
            let mut added = crate::script::history("99 r z - at=900 \n 99 r z - at=899");
            for operation in &mut added {
                operation.invoke_ns += 10_000;
                operation.return_ns = operation.return_ns.map(|time| time + 10_000);
            }
            history.extend(added);
        }
        history
    });
}

#[test]
fn processes_do_not_go_back() {
    let checker = SequentialChecker;
    // Behind real time, but in order.
    valid(&checker, &history("0 w x 1 rev=2 \n 1 r x - at=1 \n 1 r x 1 rev=2 at=2"));
    let back = "0 w x 1 rev=2 \n 1 r x 1 rev=2 at=2 \n 1 r y - at=1";
    invalid(&checker, &history(back), "looked at revision 1, but before its call returned read x");
    invalid(&checker, &history("0 w x 1 rev=3 \n 0 w x 2 rev=2"), "was given revision 2");
    invalid(&checker, &history("0 w x 1 rev=2 \n 1 r x - at=2"), "must see the newest write");
    unknown(&checker, &history("0 w x 1"), "names no revision");
}
