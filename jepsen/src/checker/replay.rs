//! Two judges that share no code with the engines: a replay and a brute force.
//!
//! They work on operations alone and are as plain as possible, so that the engines can be measured
//! against them.

use std::collections::HashMap;

use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// Most operations that [`brute_force`] takes.
pub const BRUTE_FORCE_OPERATIONS_MAX: usize = 16;

/// Executes `order`, places in `history`, on real registers: each operation must return what it
/// returned, none may come after one that was called after its return, and each successful one
/// must be there.
///
/// The order of different keys among each other does not matter.
///
/// # Errors
///
/// The first rule that is broken.
pub fn replay(history: &[Operation], order: &[usize]) -> Result<(), String> {
    let mut registers: HashMap<&str, (Option<&Value>, u64)> = HashMap::new();
    let mut done = vec![false; history.len()];
    for &place in order {
        let operation = &history[place];
        if std::mem::replace(&mut done[place], true) || operation.outcome == Outcome::Fail {
            return Err(format!("must not take effect (again): {operation}"));
        }
        let (value, latest_call) = registers.entry(&operation.key).or_default();
        if operation.end_ns() < *latest_call {
            return Err(format!("returned before an operation placed before it: {operation}"));
        }
        *latest_call = operation.invoke_ns.max(*latest_call);
        *value = step(*value, operation).ok_or_else(|| format!("finds {value:?}: {operation}"))?;
    }
    match history.iter().zip(&done).find(|(o, done)| o.outcome == Outcome::Ok && !**done) {
        Some((operation, _)) => Err(format!("is missing: {operation}")),
        None => Ok(()),
    }
}

/// Tries all orders of the operations of one key.
///
/// # Panics
///
/// If there are more than [`BRUTE_FORCE_OPERATIONS_MAX`] operations.
#[must_use]
pub fn brute_force(history: &[Operation]) -> bool {
    assert!(history.len() <= BRUTE_FORCE_OPERATIONS_MAX, "too many operations for brute force");
    let open: Vec<&Operation> = history.iter().filter(|o| o.outcome != Outcome::Fail).collect();
    place_any(&open, None)
}

/// Whether the open operations can follow in some order on a register with this value.
fn place_any(open: &[&Operation], value: Option<&Value>) -> bool {
    if open.iter().all(|operation| operation.outcome == Outcome::Info) {
        return true;
    }
    let first_end = open.iter().map(|operation| operation.end_ns()).min().unwrap_or(u64::MAX);
    (0..open.len()).filter(|&place| open[place].invoke_ns <= first_end).any(|place| {
        let mut rest = open.to_vec();
        let operation = rest.remove(place);
        step(value, operation).is_some_and(|next| place_any(&rest, next))
    })
}

/// The value after an operation, if it can have returned what it returned.
fn step<'a>(value: Option<&'a Value>, operation: &'a Operation) -> Option<Option<&'a Value>> {
    let new = operation.value.as_ref();
    match operation.function {
        Function::Read if operation.outcome == Outcome::Info => Some(value),
        Function::Read => (value == new).then_some(value),
        Function::Write => Some(new),
        Function::Delete => Some(None),
        Function::Cas => (value == operation.expected.as_ref()).then_some(new),
        // No function of a register.
        _ => None,
    }
}
