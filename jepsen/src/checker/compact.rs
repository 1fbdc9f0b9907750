//! Checkers that judge a history without having its operations in memory.

use super::{Checker, Verdict};
use crate::error::LabError;
use crate::history::Corpus;
use crate::operation::Operation;

/// Reads again the operations at these places in the order of calls, ascending.
pub type Fetch<'a> = &'a mut dyn FnMut(&[u32]) -> Result<Vec<Operation>, LabError>;

/// Judges histories in their compact form.
pub trait CompactChecker: Checker {
    /// Says what [`Checker::check`] says of the same history. The operations that are to be named are
    /// asked for with `fetch`, at most once.
    ///
    /// # Errors
    ///
    /// What `fetch` says.
    fn check_compact(&self, corpus: &Corpus, fetch: Fetch<'_>) -> Result<Verdict, LabError>;
}
