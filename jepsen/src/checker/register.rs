//! Per-key linearizability of registers (models `register` and `cas-register`).
//!
//! Each key is a register of its own; linearizability is local (Herlihy and Wing, Linearizability,
//! 1990, theorem 1), so keys are checked one by one, on all cores, in the compact form of the history
//! (see [`Corpus`]); the operations themselves are needed only to name them. A key whose operations
//! came one after the other is simply run through. Where the values of a key are unique, the engine
//! `zones` decides in O(n log n). Else two searches compete under a growing
//! budget of states: the `frontier`, which keeps all states at one moment and refutes soon, and
//! `search` in depth, which finds an order soon.

use std::convert::Infallible;
use std::num::NonZeroUsize;

use super::acts::{Act, Finding, Register};
use super::compact::{CompactChecker, Fetch};
use super::compete::{self, Patience};
use super::keys;
use super::options::{Limits, ModelOptions, Nil};
use super::registers::{Desk, Registers};
use super::{Checker, Verdict, Violation, frontier, witness, zones};
use crate::error::LabError;
use crate::history::{Corpus, Entry};
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
        if super::foreign(history, &super::REGISTER_FUNCTIONS).is_some() {
            return Err(self.check(history));
        }
        let corpus = Corpus::of(history);
        let registers = Registers::new(&corpus, self.initial.as_ref(), self.nil);
        let patience = Patience::of(&self.limits, self.budget, 1);
        let mut desk = Desk::default();
        for number in 0..registers.len() {
            let register = registers.register(number, &mut desk);
            match self.decide(&register, patience, true) {
                Finding::Valid(acts) => {
                    let place = |act: u32| register.acts[act as usize].operation as usize;
                    order.extend(acts.into_iter().map(place));
                }
                Finding::Invalid(_) | Finding::Unknown(_) => return Err(self.check(history)),
            }
            desk.clear(register);
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
    fn judge(
        &self,
        registers: &Registers<'_>,
        number: usize,
        desk: &mut Desk,
        patience: Patience,
    ) -> Option<Said> {
        // An engine that is asked for by name shall decide by itself.
        if self.engine == Engine::Automatic && registers.one_by_one(number) {
            return None;
        }
        let register = registers.register(number, desk);
        let said = match self.decide(&register, patience, false) {
            Finding::Valid(_) => None,
            Finding::Unknown(why) => {
                let key = registers.key(number);
                Some(Said::Unknown { why: format!("key {key:?}: {why}") })
            }
            Finding::Invalid(conflict) => Some(Said::Invalid(Part {
                number,
                acts: witness::minimize(&register, &conflict, decide_small),
                value_count: register.value_count,
                culprit: conflict.culprit.map(|act| register.acts[act as usize].operation),
            })),
        };
        desk.clear(register);
        said
    }

    /// Puts what is broken into words, with the operations behind it.
    fn explain<E>(
        &self,
        registers: &Registers<'_>,
        part: Part,
        fetch: impl FnOnce(&[u32]) -> Result<Vec<Operation>, E>,
    ) -> Result<Violation, E> {
        let Part { number, mut acts, value_count, culprit } = part;
        let mut places = registers.context(number, &acts);
        places.extend(acts.iter().map(|act| act.operation));
        places.sort_unstable();
        places.dedup();
        let fetched = fetch(&places)?;
        assert_eq!(fetched.len(), places.len(), "one operation for each place");
        let at = |place: u32| places.binary_search(&place).expect("it was fetched");
        let operations = acts.iter().map(|act| fetched[at(act.operation)].clone()).collect();
        for act in &mut acts {
            act.operation = u32::try_from(at(act.operation)).expect("there are fewer than places");
        }
        let register = Register::new(acts, value_count, registers.initial());
        let register = register.with_history(&fetched);
        let why = match (explain_small(&register), decide_small(&register)) {
            (Finding::Invalid(conflict), _) | (_, Finding::Invalid(conflict)) => conflict.why,
            _ => match culprit.and_then(|place| places.binary_search(&place).ok()) {
                Some(at) => format!("{} has no place", fetched[at]),
                None => "there is no order of its operations".to_owned(),
            },
        };
        let key = registers.key(number).to_owned();
        let explanation = format!("key {key:?} is not linearizable: {why}");
        Ok(Violation { key, explanation, operations })
    }

    /// Judges a history in its compact form. The operations that it has to name are asked for by
    /// their places, ascending, at most once.
    fn check_by<E>(
        &self,
        corpus: &Corpus,
        fetch: impl FnOnce(&[u32]) -> Result<Vec<Operation>, E>,
    ) -> Result<Verdict, E> {
        let known = |entry: &Entry| super::REGISTER_FUNCTIONS.contains(&entry.function);
        if let Some(place) = corpus.entries().iter().position(|entry| !known(entry)) {
            let place = u32::try_from(place).expect("places are counted in 32 bits");
            let foreign = super::foreign(&fetch(&[place])?, &super::REGISTER_FUNCTIONS);
            return Ok(foreign.expect("this operation is foreign"));
        }
        let registers = Registers::new(corpus, self.initial.as_ref(), self.nil);
        let threads = keys::threads(corpus.len(), registers.len(), self.threads);
        let patience = Patience::of(&self.limits, self.budget, threads.get());
        let judge = |desk: &mut Desk, number| self.judge(&registers, number, desk, patience);
        let is_final = |said: &Said| matches!(said, Said::Invalid(_));
        Ok(match keys::first(registers.len(), threads, judge, is_final) {
            None => Verdict::Valid,
            Some(Said::Unknown { why }) => Verdict::Unknown { why },
            Some(Said::Invalid(part)) => {
                Verdict::Invalid(Box::new(self.explain(&registers, part, fetch)?))
            }
        })
    }
}

/// What is said of a key that is not valid.
enum Said {
    Unknown { why: String },
    Invalid(Part),
}

/// The smallest part of a key that was found to be invalid.
struct Part {
    /// The register.
    number: usize,
    /// Its acts.
    acts: Vec<Act>,
    value_count: usize,
    /// The operation that has no place, where one can be named.
    culprit: Option<u32>,
}

impl Checker for RegisterChecker {
    fn model(&self) -> &'static str {
        "register"
    }

    /// An invalid key outranks one that is unknown.
    fn check(&self, history: &[Operation]) -> Verdict {
        let fetch = |places: &[u32]| -> Result<Vec<Operation>, Infallible> {
            Ok(places.iter().map(|&place| history[place as usize].clone()).collect())
        };
        let Ok(verdict) = self.check_by(&Corpus::of(history), fetch);
        verdict
    }

    fn compact(&self) -> Option<&dyn CompactChecker> {
        Some(self)
    }
}

impl CompactChecker for RegisterChecker {
    fn check_compact(&self, corpus: &Corpus, fetch: Fetch<'_>) -> Result<Verdict, LabError> {
        self.check_by(corpus, fetch)
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
