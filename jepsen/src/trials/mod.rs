//! Simulations that are repeated: how far they are, and what the figures of all runs come to.

mod measure;

use std::ops::ControlFlow;

pub use measure::{Measure, Sample, Theory};

/// How far a simulation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Runs that are done.
    pub done: u32,
    /// Runs in all.
    pub runs: u32,
    /// Rounds, or seconds of simulated time, of the run that goes on.
    pub within: u32,
}

/// Hears how far a simulation is, often, and may end it. What was done until then is kept, except for
/// the run that goes on.
pub type Tell<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;
