//! Checkers judge histories.
//!
//! A checker takes the operations of a run and says whether a promise held. It has three answers,
//! and only one of them is good: [`Verdict::Unknown`] (a budget ran out) never counts as a pass.
//!
//! | model | file | promise | cost |
//! |---|---|---|---|
//! | `register` | [`register`] | each key is a linearizable register with cas and delete | O(n log n) where values are unique, else exponential in the concurrency, under a budget |
//! | `revision` | [`revision`] | the revisions that writes and reads name form one order that respects real time | O(n log n) |
//! | `sequential` | [`sequential`] | the same but for real time: it respects the order of each process | O(n log n) |
//! | `read-your-writes`, `monotonic-reads`, `monotonic-writes`, `writes-follow-reads` | [`session`] | the four session guarantees | O(n log n), plus readers * n for the last two |
//! | `causal`, `causal-convergence`, `causal-memory` | [`causal`] | causal consistency in three strengths, where values are unique | O(n processes), for the last one times processes |
//! | `list-append`, `list-append-process`, `list-append-strict` | [`append`] | transactions on lists are serializable; in the order of processes; in real time | O(n) |
//! | `set`, `set-full` | [`set`] | no element of a set is lost; a set is linearizable | O(n log n) |
//! | `counter` | [`counter`] | reads lie between what was and what may have been added | O(n log n) |
//! | `bank` | [`bank`] | transfers keep the total | O(n) |
//! | `bounded-staleness` | [`staleness`] | reads are no older than the bound that they name | O(n log n) |
//! | `watch` | [`watch`] | watchers are told everything once and in order | O(n log n) |
//! | `lock` | [`lock`] | fencing tokens rise, and old ones are of no use | O(n log n) |
//! | `convergence` | [`convergence`] | replicas of an eventual keyspace agree in the end and lose nothing | O(n log n) |
//!
//! Three traps of reading histories, which every checker here avoids:
//!
//! 1. A failed operation is dropped. In particular a failed cas is *not* an observation that the
//!    value was another one.
//! 2. A successful read without a value observed absence. A read whose result nobody knows is
//!    recorded as unknown, and then says nothing.
//! 3. An unknown write may take effect at any time after its call, long after later operations
//!    returned, or never.
//!
//! What the checkers cannot see, they cannot judge: an error that no read observes is no violation.

pub mod append;
pub mod bank;
pub mod causal;
pub mod convergence;
pub mod counter;
pub mod lock;
pub mod register;
pub mod replay;
pub mod revision;
pub mod sequential;
pub mod session;
pub mod set;
pub mod staleness;
pub mod watch;

mod acts;
mod frontier;
mod graph;
mod slots;
mod stop;
mod versions;
mod witness;
mod zones;

pub use append::{ListAppendChecker, Respects};
pub use bank::BankChecker;
pub use causal::{CausalChecker, Strength};
pub use convergence::ConvergenceChecker;
pub use counter::CounterChecker;
pub use lock::LockChecker;
pub use register::RegisterChecker;
pub use revision::RevisionChecker;
pub use sequential::SequentialChecker;
pub use session::{Guarantee, SessionChecker};
pub use set::SetChecker;
pub use staleness::StalenessChecker;
pub use watch::WatchChecker;

use std::fmt;

use crate::operation::{Function, Operation};

/// Judges histories by one model.
pub trait Checker {
    /// The name of the model, as on the command line.
    fn model(&self) -> &'static str;

    /// Judges a history. The order of `history` does not matter, only its times do.
    fn check(&self, history: &[Operation]) -> Verdict;
}

/// The functions of a register.
pub(crate) const REGISTER_FUNCTIONS: [Function; 4] =
    [Function::Read, Function::Write, Function::Cas, Function::Delete];

/// The verdict on a history that holds an operation which is none of `functions`: the model says
/// nothing of it.
pub(crate) fn foreign(history: &[Operation], functions: &[Function]) -> Option<Verdict> {
    let foreign = history.iter().find(|operation| !functions.contains(&operation.function))?;
    Some(Verdict::Unknown { why: format!("the model knows no such operation: {foreign}") })
}

/// The checker of a model, by its name, with default settings.
#[must_use]
pub fn by_model(model: &str) -> Option<Box<dyn Checker>> {
    let session =
        |guarantee| -> Option<Box<dyn Checker>> { Some(Box::new(SessionChecker { guarantee })) };
    let causal =
        |strength| -> Option<Box<dyn Checker>> { Some(Box::new(CausalChecker { strength })) };
    let list_append =
        |respects| -> Option<Box<dyn Checker>> { Some(Box::new(ListAppendChecker { respects })) };
    match model {
        "register" => Some(Box::new(RegisterChecker::default())),
        "revision" => Some(Box::new(RevisionChecker)),
        "sequential" => Some(Box::new(SequentialChecker)),
        "read-your-writes" => session(Guarantee::ReadYourWrites),
        "monotonic-reads" => session(Guarantee::MonotonicReads),
        "monotonic-writes" => session(Guarantee::MonotonicWrites),
        "writes-follow-reads" => session(Guarantee::WritesFollowReads),
        "causal" => causal(Strength::Consistency),
        "causal-convergence" => causal(Strength::Convergence),
        "causal-memory" => causal(Strength::Memory),
        "list-append" => list_append(Respects::Nothing),
        "list-append-process" => list_append(Respects::Processes),
        "list-append-strict" => list_append(Respects::RealTime),
        "set" => Some(Box::new(SetChecker { linearizable: false })),
        "set-full" => Some(Box::new(SetChecker { linearizable: true })),
        "counter" => Some(Box::new(CounterChecker)),
        "bank" => Some(Box::new(BankChecker::default())),
        "bounded-staleness" => Some(Box::new(StalenessChecker)),
        "watch" => Some(Box::new(WatchChecker)),
        "lock" => Some(Box::new(LockChecker)),
        "convergence" => Some(Box::new(ConvergenceChecker)),
        _ => None,
    }
}

/// The names that [`by_model`] knows.
pub const MODELS: [&str; 21] = [
    "register",
    "revision",
    "sequential",
    "read-your-writes",
    "monotonic-reads",
    "monotonic-writes",
    "writes-follow-reads",
    "causal",
    "causal-convergence",
    "causal-memory",
    "list-append",
    "list-append-process",
    "list-append-strict",
    "set",
    "set-full",
    "counter",
    "bank",
    "bounded-staleness",
    "watch",
    "lock",
    "convergence",
];

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The promise held.
    Valid,
    /// The promise was broken.
    Invalid(Box<Violation>),
    /// The checker gave up.
    Unknown {
        /// What it ran out of, and where.
        why: String,
    },
}

impl Verdict {
    /// One word: `valid`, `invalid` or `unknown`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid(_) => "invalid",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// Whether the promise held for certain.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        matches!(self, Self::Valid)
    }

    /// Whether the promise was broken for certain.
    #[must_use]
    pub const fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => f.write_str("valid"),
            Self::Invalid(violation) => write!(f, "invalid: {}", violation.explanation),
            Self::Unknown { why } => write!(f, "unknown: {why}"),
        }
    }
}

/// How a promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key where it was broken.
    pub key: String,
    /// One sentence that names the operations.
    pub explanation: String,
    /// The smallest part of the history that was found to be invalid by itself, ordered by call.
    pub operations: Vec<Operation>,
}
