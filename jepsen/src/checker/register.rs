//! Per-key linearizability of registers (model `register`).
//!
//! Each key is a register of its own, absent at first; linearizability is local (Herlihy and Wing,
//! Linearizability, 1990, theorem 1), so keys are checked one by one. Where the values of a key are
//! unique, the engine `zones` decides in O(n log n); else the engine `frontier` searches, under a
//! budget of states.

use std::collections::HashMap;

use super::acts::{Finding, Register};
use super::witness::{self, Engines};
use super::{Checker, Verdict, Violation, frontier, zones};
use crate::operation::Operation;

/// States that the search may visit on one key before it gives up, if not told otherwise: some
/// seconds and less than a gigabyte.
pub const BUDGET_DEFAULT: u64 = 8_000_000;

/// States that the search may visit in each check of a minimization.
const BUDGET_SMALL: u64 = 200_000;

/// Which engine decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Zones where values are unique, else the frontier.
    #[default]
    Automatic,
    /// Zones only; unknown where values are not unique.
    Zones,
    /// The frontier only.
    Frontier,
}

/// Checks that each key behaves like one register.
#[derive(Clone, Copy, Debug)]
pub struct RegisterChecker {
    /// Which engine decides.
    pub engine: Engine,
    /// States that the search may visit on one key.
    pub budget: u64,
}

impl Default for RegisterChecker {
    fn default() -> Self {
        Self { engine: Engine::Automatic, budget: BUDGET_DEFAULT }
    }
}

impl RegisterChecker {
    /// A linearization of a valid history: places in it, key by key, such that
    /// [`replay`](super::replay::replay) accepts them. Costs more memory than a check.
    ///
    /// # Errors
    ///
    /// The verdict, if it is not valid.
    pub fn linearize(&self, history: &[Operation]) -> Result<Vec<usize>, Verdict> {
        let mut order = Vec::new();
        for (_, places) in by_key(history) {
            let register = Register::new(history, &places);
            match self.decide(&register, true) {
                Finding::Valid(acts) => {
                    let place = |act: u32| register.acts[act as usize].operation as usize;
                    order.extend(acts.into_iter().map(place));
                }
                Finding::Invalid(_) | Finding::Unknown(_) => return Err(self.check(history)),
            }
        }
        Ok(order)
    }

    fn decide(&self, register: &Register<'_>, want_order: bool) -> Finding {
        let by_zones = || zones::check(register, want_order);
        let by_frontier = || frontier::check(register, self.budget, want_order);
        match self.engine {
            Engine::Automatic => by_zones().unwrap_or_else(by_frontier),
            Engine::Zones => by_zones().unwrap_or_else(|| {
                Finding::Unknown("values are written more than once".to_owned())
            }),
            Engine::Frontier => by_frontier(),
        }
    }
}

impl Checker for RegisterChecker {
    fn model(&self) -> &'static str {
        "register"
    }

    /// An invalid key outranks one that is unknown.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &super::REGISTER_FUNCTIONS) {
            return unknown;
        }
        let mut unknown = None;
        for (key, places) in by_key(history) {
            let register = Register::new(history, &places);
            match self.decide(&register, false) {
                Finding::Valid(_) => {}
                Finding::Unknown(why) => {
                    unknown.get_or_insert(Verdict::Unknown { why: format!("key {key:?}: {why}") });
                }
                Finding::Invalid(conflict) => {
                    let engines = Engines { decide: decide_small, explain: explain_small };
                    let (places, why) = witness::minimize(&register, &conflict, engines);
                    return Verdict::Invalid(Box::new(Violation {
                        key: key.to_owned(),
                        explanation: format!("key {key:?} is not linearizable: {why}"),
                        operations: places.iter().map(|&at| history[at as usize].clone()).collect(),
                    }));
                }
            }
        }
        unknown.unwrap_or(Verdict::Valid)
    }
}

/// Decides a part of a register for the minimization.
fn decide_small(register: &Register<'_>) -> Finding {
    zones::check(register, false).unwrap_or_else(|| frontier::check(register, BUDGET_SMALL, false))
}

/// Explains the smallest part of a register.
fn explain_small(register: &Register<'_>) -> Finding {
    zones::check(register, false).unwrap_or_else(|| frontier::explain(register, BUDGET_SMALL))
}

/// The places of the operations of each key; keys in the order of their first operation.
fn by_key(history: &[Operation]) -> Vec<(&str, Vec<u32>)> {
    assert!(u32::try_from(history.len()).is_ok(), "a history has fewer than 2^32 operations");
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut keys: Vec<(&str, Vec<u32>)> = Vec::new();
    for (place, operation) in (0..).zip(history) {
        let number = *numbers.entry(&operation.key).or_insert_with(|| {
            keys.push((&operation.key, Vec::new()));
            keys.len() - 1
        });
        keys[number].1.push(place);
    }
    keys
}
