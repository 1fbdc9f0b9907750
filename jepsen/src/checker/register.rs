//! Per-key linearizability of registers (models `register` and `cas-register`).
//!
//! Each key is a register of its own; linearizability is local (Herlihy and Wing, Linearizability,
//! 1990, theorem 1), so keys are checked one by one, on all cores. Where the values of a key are
//! unique, the engine `zones` decides in O(n log n). Else two searches compete under a growing
//! budget of states: the `frontier`, which keeps all states at one moment and refutes soon, and
//! `search` in depth, which finds an order soon.

use std::num::NonZeroUsize;

use super::acts::{Finding, Register, Registers};
use super::compete::{self, Patience};
use super::keys;
use super::options::{Limits, ModelOptions, Nil};
use super::witness::{self, Engines};
use super::{Checker, Verdict, Violation, frontier, zones};
use crate::operation::Operation;
use crate::value::Value;

/// States that each search may visit on one key before it gives up, if not told otherwise: half a
/// minute and, by the default limits, at most a gigabyte.
pub const BUDGET_DEFAULT: u64 = 8_000_000;

/// States that the search may visit in each check of a minimization.
const BUDGET_SMALL: u64 = 200_000;

/// Which engine decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Zones where values are unique, else frontier and search in depth in competition.
    #[default]
    Automatic,
    /// Zones only; unknown where values are not unique.
    Zones,
    /// The frontier only.
    Frontier,
    /// The search in depth only.
    Depth,
}

/// Checks that each key behaves like one register.
#[derive(Clone, Debug)]
pub struct RegisterChecker {
    /// Which engine decides.
    pub engine: Engine,
    /// States that each search may visit on one key.
    pub budget: u64,
    /// What every key holds at the beginning.
    pub initial: Option<Value>,
    /// What a successful read of nothing says.
    pub nil: Nil,
    /// What the whole history may cost.
    pub limits: Limits,
    /// Threads; `None`: as many as there are cores.
    pub threads: Option<NonZeroUsize>,
}

impl Default for RegisterChecker {
    fn default() -> Self {
        Self::new(&ModelOptions::default())
    }
}

impl RegisterChecker {
    /// A checker as the options say.
    #[must_use]
    pub fn new(options: &ModelOptions) -> Self {
        Self {
            engine: Engine::Automatic,
            budget: BUDGET_DEFAULT,
            initial: options.initial.clone(),
            nil: options.nil,
            limits: options.limits,
            threads: None,
        }
    }

    /// A linearization of a valid history: places in it, key by key, such that
    /// [`replay`](super::replay::replay) accepts them. Costs more memory than a check.
    ///
    /// # Errors
    ///
    /// The verdict, if it is not valid.
    pub fn linearize(&self, history: &[Operation]) -> Result<Vec<usize>, Verdict> {
        let mut order = Vec::new();
        let registers = Registers::new(history, self.initial.as_ref(), self.nil);
        let patience = Patience::of(&self.limits, self.budget, 1);
        for number in 0..registers.len() {
            let register = registers.register(number);
            match self.decide(&register, patience, true) {
                Finding::Valid(acts) => {
                    let place = |act: u32| register.acts[act as usize].operation as usize;
                    order.extend(acts.into_iter().map(place));
                }
                Finding::Invalid(_) | Finding::Unknown(_) => return Err(self.check(history)),
            }
        }
        Ok(order)
    }

    fn decide(&self, register: &Register<'_>, patience: Patience, want_order: bool) -> Finding {
        let by_zones = || zones::check(register, want_order);
        match self.engine {
            Engine::Automatic => {
                by_zones().unwrap_or_else(|| compete::register(register, patience, want_order))
            }
            Engine::Zones => by_zones().unwrap_or_else(|| {
                Finding::Unknown("values are written more than once".to_owned())
            }),
            Engine::Frontier => {
                frontier::check(register, patience.states, patience.deadline, want_order)
            }
            Engine::Depth => compete::register_in_depth(register, patience, want_order),
        }
    }

    /// What is to be said of one key; nothing if it is valid.
    fn judge(&self, register: &Register<'_>, patience: Patience) -> Option<Verdict> {
        let history = register.history;
        let key = || history[register.acts[0].operation as usize].key.clone();
        match self.decide(register, patience, false) {
            Finding::Valid(_) => None,
            Finding::Unknown(why) => {
                Some(Verdict::Unknown { why: format!("key {:?}: {why}", key()) })
            }
            Finding::Invalid(conflict) => {
                let engines = Engines { decide: decide_small, explain: explain_small };
                let (places, why) = witness::minimize(register, &conflict, engines);
                Some(Verdict::Invalid(Box::new(Violation {
                    explanation: format!("key {:?} is not linearizable: {why}", key()),
                    key: key(),
                    operations: places.iter().map(|&at| history[at as usize].clone()).collect(),
                })))
            }
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
        let registers = Registers::new(history, self.initial.as_ref(), self.nil);
        let threads = keys::threads(history.len(), registers.len(), self.threads);
        let patience = Patience::of(&self.limits, self.budget, threads.get());
        let judge = |number: usize| self.judge(&registers.register(number), patience);
        let said = keys::first(registers.len(), threads, judge, Verdict::is_invalid);
        said.unwrap_or(Verdict::Valid)
    }
}

/// Decides a part of a register for the minimization.
fn decide_small(register: &Register<'_>) -> Finding {
    let patience = Patience::states(BUDGET_SMALL);
    zones::check(register, false).unwrap_or_else(|| compete::register(register, patience, false))
}

/// Explains the smallest part of a register.
fn explain_small(register: &Register<'_>) -> Finding {
    zones::check(register, false).unwrap_or_else(|| frontier::explain(register, BUDGET_SMALL))
}
