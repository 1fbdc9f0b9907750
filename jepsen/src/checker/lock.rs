//! Locks with fencing tokens (model `lock`): O(n log n).
//!
//! The revision of an acquire is its token. A write under the lock carries the token as the value
//! that it expects; the key of the write is that of the lock. A release belongs to the last acquire
//! of its process, unless it names a token as well. All operations that succeeded have one order:
//!
//! 1. Tokens are unique and rise.
//! 2. Between an acquire and the next one lie its writes and then its release: a lock is given to
//!    one holder after the other, and a write with an old token is rejected.
//! 3. This respects real time.
//!
//! A holder that does not release its lock may lose it: leases end. But a release that succeeded
//! says that the lock was held until then. A token must come from an acquire, be it one with an
//! unknown outcome. Writes without a token and reads are not judged.

use std::collections::{BTreeMap, HashMap};

use super::set::by_key;
use super::slots::{Slotted, against_real_time};
use super::stop::Stop;
use super::{Checker, Verdict};
use crate::operation::{Function, Operation, Outcome};

/// What locks know.
const FUNCTIONS: [Function; 4] =
    [Function::Acquire, Function::Release, Function::Write, Function::Read];

/// Checks mutual exclusion by fencing tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct LockChecker;

impl Checker for LockChecker {
    fn model(&self) -> &'static str {
        "lock"
    }

    /// Unknown if an acquire that succeeded has no token, or a write one that is no number.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &FUNCTIONS) {
            return unknown;
        }
        let judged = by_key(history)
            .into_iter()
            .try_for_each(|(key, places)| Lock::new(history, key, &places)?.check());
        Stop::verdict(judged, history)
    }
}

/// What happened under one token.
#[derive(Debug, Default)]
struct Tenure {
    acquire: Option<usize>,
    writes: Vec<usize>,
    release: Option<usize>,
}

struct Lock<'h> {
    history: &'h [Operation],
    key: &'h str,
    tenures: BTreeMap<u64, Tenure>,
    /// The first call of an acquire whose outcome is unknown.
    unknown: Option<u64>,
}

impl<'h> Lock<'h> {
    fn new(history: &'h [Operation], key: &'h str, places: &[usize]) -> Result<Self, Stop> {
        let mut lock = Self { history, key, tenures: BTreeMap::new(), unknown: None };
        let mut places = places.to_vec();
        places.sort_by_key(|&place| (history[place].invoke_ns, place));
        let mut held: HashMap<u64, u64> = HashMap::new();
        for place in places {
            let operation = &history[place];
            match (operation.function, operation.outcome) {
                (Function::Acquire, Outcome::Info) => {
                    lock.unknown.get_or_insert(operation.invoke_ns);
                }
                (Function::Acquire, Outcome::Ok) => {
                    let token = operation.revision.ok_or_else(|| {
                        Stop::Unjudged(format!("an acquire without a token: {operation}"))
                    })?;
                    held.insert(operation.process, token);
                    lock.acquire(place, token)?;
                }
                (Function::Release, Outcome::Ok) => {
                    let token = match token(operation)? {
                        Some(token) => Some(token),
                        None => held.get(&operation.process).copied(),
                    };
                    lock.release(place, token)?;
                }
                (Function::Write, Outcome::Ok) => {
                    if let Some(token) = token(operation)? {
                        lock.tenures.entry(token).or_default().writes.push(place);
                    }
                }
                _ => {}
            }
        }
        Ok(lock)
    }

    fn acquire(&mut self, place: usize, token: u64) -> Result<(), Stop> {
        let other = self.tenures.entry(token).or_default().acquire.replace(place);
        let Some(other) = other else { return Ok(()) };
        let (one, two) = (&self.history[other], &self.history[place]);
        Err(self
            .broken(format!("the token {token} was given twice: {one} and {two}"), [other, place]))
    }

    fn release(&mut self, place: usize, token: Option<u64>) -> Result<(), Stop> {
        let operation = &self.history[place];
        let Some(token) = token else {
            let why = format!("{operation} gave back what its process never acquired");
            return Err(self.broken(why, [place]));
        };
        let other = self.tenures.entry(token).or_default().release.replace(place);
        let Some(other) = other else { return Ok(()) };
        let why = format!("released twice: {} and {operation}", self.history[other]);
        let acquire = self.tenures[&token].acquire;
        Err(self.broken(why, acquire.into_iter().chain([other, place])))
    }

    fn check(&self) -> Result<(), Stop> {
        let mut slotted = Vec::new();
        for (rank, (&token, tenure)) in (0..).zip(&self.tenures) {
            let uses = tenure.writes.iter().copied().chain(tenure.release);
            if tenure.acquire.is_none()
                && let Some(place) = uses.clone().find(|&place| {
                    self.unknown.is_none_or(|call| call > self.history[place].end_ns())
                })
            {
                let why = format!(
                    "{} used the token {token}, which nobody acquired",
                    self.history[place]
                );
                return Err(self.broken(why, [place]));
            }
            for place in tenure.acquire.into_iter().chain(uses) {
                let operation = &self.history[place];
                let step = match operation.function {
                    Function::Acquire => 0,
                    Function::Write => 1,
                    _ => 2,
                };
                let (call, end) = (operation.invoke_ns, operation.end_ns());
                slotted.push((token, Slotted { slot: rank * 3 + step, call, end, place }));
            }
        }
        let tokens: HashMap<usize, u64> =
            slotted.iter().map(|(token, slot)| (slot.place, *token)).collect();
        match against_real_time(slotted.into_iter().map(|(_, slot)| slot).collect()) {
            None => Ok(()),
            Some((early, late)) => {
                Err(self.contradiction((early, tokens[&early]), (late, tokens[&late])))
            }
        }
    }

    /// Of two operations the first one belongs later, but it returned before the other's call.
    fn contradiction(&self, early: (usize, u64), late: (usize, u64)) -> Stop {
        let (one, other) = (&self.history[early.0], &self.history[late.0]);
        let what = match (one.function, other.function) {
            _ if early.1 == late.1 && other.function == Function::Acquire => {
                "a token was used before it was given"
            }
            _ if early.1 == late.1 => "a token was used after its lock was released",
            (_, Function::Acquire) => "tokens do not rise",
            (_, Function::Release) => "two held the lock",
            _ => "an old token was accepted",
        };
        let why = format!(
            "{what}: {other} with token {}, although before it returned {one} with token {}",
            late.1, early.1
        );
        let acquires = [early.1, late.1].map(|token| self.tenures[&token].acquire);
        self.broken(why, acquires.into_iter().flatten().chain([early.0, late.0]))
    }

    fn broken(&self, why: String, places: impl IntoIterator<Item = usize>) -> Stop {
        Stop::broken(self.key, format!("lock {:?}: {why}", self.key), places)
    }
}

/// The token that an operation carries.
fn token(operation: &Operation) -> Result<Option<u64>, Stop> {
    let Some(value) = &operation.expected else { return Ok(None) };
    let number = value.as_text().and_then(|text| text.parse().ok());
    let unreadable = || Stop::Unjudged(format!("a token that is no number, {value}: {operation}"));
    number.map(Some).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Call;
    use crate::value::Value;

    #[test]
    fn a_token_is_a_number() {
        let mut write = Operation::invoked(0, Call::write("k", "v"), 0);
        assert_eq!(token(&write).unwrap(), None);
        write.expected = Some(Value::from(7));
        assert_eq!(token(&write).unwrap(), Some(7));
        write.expected = Some("seven".into());
        assert!(matches!(token(&write), Err(Stop::Unjudged(_))));
    }
}
