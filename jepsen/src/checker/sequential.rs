//! Sequential consistency of a keyspace whose replies name revisions (model `sequential`):
//! O(n log n).
//!
//! The same one order of revisions as in the model [`revision`](super::revision), by the same
//! rules, but for real time: an operation has a higher revision, or looks at no lower one, than
//! what its *own process* did before. So a process may look at an old state of the keyspace, never
//! at an older one than before, and all processes see the same order.
//!
//! A write with an unknown outcome must still have been called before somebody saw it.

use super::revision::{Before, judge};
use super::stop::Stop;
use super::{Checker, Verdict};
use crate::operation::Operation;

/// Checks that the revisions in a history are one order that respects each process's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequentialChecker;

impl Checker for SequentialChecker {
    fn model(&self) -> &'static str {
        "sequential"
    }

    /// Unknown only if a successful operation names no revision.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &super::REGISTER_FUNCTIONS) {
            return unknown;
        }
        Stop::verdict(judge(history, Before::Process), history)
    }
}
