//! Rule 6: a dot names one write.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::checker::stop::Stop;
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// Who said first what a dot stands for: a key with a value, or with none for a delete.
struct Said<'h> {
    place: usize,
    key: &'h str,
    value: Option<&'h Value>,
}

/// Looks at all dots of a history, of all keys. A value may have several, since what is left of damaged replicas is
/// written anew.
pub(super) fn check(history: &[Operation]) -> Result<(), Stop> {
    let mut said: HashMap<&str, Said<'_>> = HashMap::new();
    for (place, operation) in history.iter().enumerate() {
        let Some(causal) = operation.causal.as_ref().filter(|_| operation.outcome == Outcome::Ok)
        else {
            continue;
        };
        let read = operation.function == Function::Read;
        for (number, dot) in causal.dots.iter().enumerate() {
            let value = if read { sibling(operation, number) } else { operation.value.as_ref() };
            let new = Said { place, key: &operation.key, value };
            match said.entry(dot) {
                Entry::Vacant(entry) => {
                    entry.insert(new);
                }
                Entry::Occupied(entry) => {
                    let old = entry.get();
                    if (old.key, old.value) == (new.key, new.value) {
                        continue;
                    }
                    let why = format!(
                        "dot {dot} stands for two writes: {} and {operation}",
                        history[old.place]
                    );
                    return Err(Stop::broken(new.key, why, [old.place, place]));
                }
            }
        }
    }
    Ok(())
}

/// A value that a read returned.
fn sibling(read: &Operation, number: usize) -> Option<&Value> {
    match read.value.as_ref()? {
        Value::List(siblings) => siblings.get(number)?.as_ref(),
        single => Some(single),
    }
}
