//! Why a check ended before all was found in order, and the verdict that this makes.

use super::{Verdict, Violation};
use crate::operation::Operation;

/// Why a check ended early.
#[derive(Debug)]
pub enum Stop {
    /// The history does not say enough, or a bound was reached.
    Unjudged(String),
    /// The promise was broken.
    Broken {
        /// The key where it was broken.
        key: String,
        /// One sentence that names the operations.
        why: String,
        /// Places of the operations in the history; any order, with repetitions.
        places: Vec<usize>,
    },
}

impl Stop {
    /// A broken promise.
    pub fn broken(
        key: impl Into<String>,
        why: impl Into<String>,
        places: impl IntoIterator<Item = usize>,
    ) -> Self {
        Self::Broken { key: key.into(), why: why.into(), places: places.into_iter().collect() }
    }

    /// The verdict on `history` of a check that ended like this.
    pub fn verdict(judged: Result<(), Self>, history: &[Operation]) -> Verdict {
        match judged {
            Ok(()) => Verdict::Valid,
            Err(Self::Unjudged(why)) => Verdict::Unknown { why },
            Err(Self::Broken { key, why, mut places }) => {
                places.sort_by_key(|&place| (history[place].invoke_ns, place));
                places.dedup();
                let operations = places.iter().map(|&place| history[place].clone()).collect();
                Verdict::Invalid(Box::new(Violation { key, explanation: why, operations }))
            }
        }
    }
}
