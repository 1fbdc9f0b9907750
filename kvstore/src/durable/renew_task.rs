//! Copying a state store into a new directory, step by step.

use std::sync::Arc;

use storage::mvcc::{RenewError, RenewJob, RenewProgress};
use storage::state::StateStore;

use super::DataFiles;
use crate::node::RenewFailed;

/// A state store that is being copied. Whatever becomes of it, its directory stays: the node has it
/// removed, or the next start does.
#[derive(Debug)]
pub struct RenewTask {
    job: RenewJob,
    from: Arc<dyn StateStore>,
    to: Arc<dyn StateStore>,
}

/// What a step of a renewal came to.
#[derive(Debug)]
pub enum RenewStep {
    /// It goes on.
    Continue(RenewTask),
    /// The copy is durable.
    Done(Arc<dyn StateStore>),
}

impl RenewTask {
    /// Begins to copy `from`, the store of the machine that gave the job, into this directory, which is
    /// emptied first.
    ///
    /// # Errors
    /// [`RenewFailed::Copy`].
    pub fn begin(
        files: &DataFiles,
        job: RenewJob,
        from: Arc<dyn StateStore>,
        state_dir: &str,
    ) -> Result<Self, RenewFailed> {
        let failed = |error: &dyn std::fmt::Display| RenewFailed::Copy(error.to_string());
        files.states.remove(state_dir).map_err(|error| failed(&error))?;
        let to = files.states.open(state_dir).map_err(|error| failed(&error))?;
        Ok(Self { job, from, to })
    }

    /// Takes one step.
    ///
    /// # Errors
    /// [`RenewFailed`]; the directory is of no use.
    pub fn step(mut self) -> Result<RenewStep, RenewFailed> {
        match self.job.step(&*self.from, &*self.to) {
            Ok(RenewProgress::Continue) => Ok(RenewStep::Continue(self)),
            Ok(RenewProgress::Done) => Ok(RenewStep::Done(self.to)),
            Err(RenewError::From(error)) => Err(RenewFailed::Store(error)),
            Err(error @ (RenewError::To(_) | RenewError::NotEmpty)) => {
                Err(RenewFailed::Copy(error.to_string()))
            }
        }
    }
}
