//! Checkers judge histories.
//!
//! A checker takes the operations of a run and says whether a promise held. It has three answers,
//! and only one of them is good: [`Verdict::Unknown`] (a budget ran out) never counts as a pass.
//!
//! | model | file | promise | cost |
//! |---|---|---|---|
//! | `register`, `cas-register` | [`register`] | each key is a linearizable register with cas and delete | O(n log n) where values are unique, else exponential in the concurrency, under a budget |
//! | `kv` | [`linearizable`] | each key is a linearizable string with get, put and append; transactions over several keys | exponential in the concurrency of a key, under a budget |
//! | `multi-register` | [`linearizable`] | transactions over several registers are linearizable | the same |
//! | `mutex` | [`linearizable`] | each lock is held once at a time | the same |
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
//! A checker that is also a [`CompactChecker`] judges a history that is not in memory as a whole.
//!
//! What the checkers cannot see, they cannot judge: an error that no read observes is no violation.

pub mod append;
pub mod bank;
pub mod causal;
pub mod compact;
pub mod convergence;
pub mod counter;
pub mod linearizable;
pub mod lock;
pub mod options;
pub mod register;
pub mod replay;
pub mod revision;
pub mod sequential;
pub mod session;
pub mod set;
pub mod staleness;
pub mod watch;

mod acts;
mod compete;
mod frontier;
mod graph;
mod keys;
mod numbering;
mod objects;
mod registers;
mod search;
mod slots;
mod stop;
mod trail;
mod versions;
mod witness;
mod zones;

pub use append::{ListAppendChecker, Respects};
pub use bank::BankChecker;
pub use causal::{CausalChecker, Strength};
pub use compact::{CompactChecker, Fetch};
pub use convergence::ConvergenceChecker;
pub use counter::CounterChecker;
pub use linearizable::{LinearizableChecker, Sequential};
pub use lock::LockChecker;
pub use options::{Limits, ModelOptions, Nil};
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

    /// This checker as one that needs the compact form of a history only; `None` if it needs more.
    fn compact(&self) -> Option<&dyn CompactChecker> {
        None
    }
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

/// How the checker of a model is made.
type Make = fn(&ModelOptions) -> Box<dyn Checker>;

/// The models, by name.
const TABLE: &[(&str, Make)] = &[
    ("register", |options| Box::new(RegisterChecker::new(options))),
    ("cas-register", |options| Box::new(RegisterChecker::new(options))),
    ("kv", |options| Box::new(LinearizableChecker::new(Sequential::Kv, options))),
    ("multi-register", |options| {
        Box::new(LinearizableChecker::new(Sequential::Registers, options))
    }),
    ("mutex", |options| Box::new(LinearizableChecker::new(Sequential::Mutex, options))),
    ("revision", |_| Box::new(RevisionChecker)),
    ("sequential", |_| Box::new(SequentialChecker)),
    ("read-your-writes", |_| session(Guarantee::ReadYourWrites)),
    ("monotonic-reads", |_| session(Guarantee::MonotonicReads)),
    ("monotonic-writes", |_| session(Guarantee::MonotonicWrites)),
    ("writes-follow-reads", |_| session(Guarantee::WritesFollowReads)),
    ("causal", |_| causal(Strength::Consistency)),
    ("causal-convergence", |_| causal(Strength::Convergence)),
    ("causal-memory", |_| causal(Strength::Memory)),
    ("list-append", |_| list_append(Respects::Nothing)),
    ("list-append-process", |_| list_append(Respects::Processes)),
    ("list-append-strict", |_| list_append(Respects::RealTime)),
    ("set", |_| Box::new(SetChecker { linearizable: false })),
    ("set-full", |_| Box::new(SetChecker { linearizable: true })),
    ("counter", |_| Box::new(CounterChecker)),
    ("bank", |_| Box::new(BankChecker::default())),
    ("bounded-staleness", |_| Box::new(StalenessChecker)),
    ("watch", |_| Box::new(WatchChecker)),
    ("lock", |_| Box::new(LockChecker)),
    ("convergence", |_| Box::new(ConvergenceChecker)),
];

fn session(guarantee: Guarantee) -> Box<dyn Checker> {
    Box::new(SessionChecker { guarantee })
}

fn causal(strength: Strength) -> Box<dyn Checker> {
    Box::new(CausalChecker { strength })
}

fn list_append(respects: Respects) -> Box<dyn Checker> {
    Box::new(ListAppendChecker { respects })
}

/// The names that [`by_model`] knows.
pub const MODELS: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut place = 0;
    while place < TABLE.len() {
        names[place] = TABLE[place].0;
        place += 1;
    }
    names
};

/// The checker of a model, by its name.
#[must_use]
pub fn by_model(model: &str, options: &ModelOptions) -> Option<Box<dyn Checker>> {
    let (_, make) = TABLE.iter().find(|(name, _)| *name == model)?;
    Some(make(options))
}

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
