//! Copying a state store into a new directory, step by step.

use std::sync::Arc;

use storage::mvcc::{RenewError, RenewJob, RenewProgress};
use storage::state::StateStore;

use super::DataFiles;
use crate::node::{RenewFailed, RenewOrder};

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
    /// Begins to copy the store into a directory, which is emptied first.
    ///
    /// # Errors
    /// [`RenewFailed::Copy`], also where the disk has too little room: a copy that filled it would stop the
    /// log.
    pub fn begin(files: &DataFiles, order: RenewOrder) -> Result<Self, RenewFailed> {
        let failed = |error: &dyn std::fmt::Display| RenewFailed::Copy(error.to_string());
        files.states.remove(&order.state_dir).map_err(|error| failed(&error))?;
        let (free, wanted) =
            (files.states.free_bytes().map_err(|error| failed(&error))?, order.room_bytes);
        if free < wanted {
            return Err(failed(&format!(
                "it may take {wanted} bytes of disk, and {free} are free"
            )));
        }
        let to = files.states.open(&order.state_dir).map_err(|error| failed(&error))?;
        Ok(Self { job: order.job, from: order.store, to })
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

#[cfg(test)]
mod tests {
    use proto::{GroupId, LogIndex, Term};
    use storage::disk::SimDisk;
    use storage::mvcc::{CheckpointProgress, Machine, MachineOptions};
    use storage::state::MemoryStore;

    use super::*;
    use crate::durable::SledDirs;
    use crate::shell::testing::opened;

    #[test]
    fn a_copy_for_which_there_is_no_room_is_not_begun() {
        let (_, _, mut files) = opened(&SimDisk::new());
        let dir = tempfile::tempdir().unwrap();
        files.states = Arc::new(SledDirs::new(dir.path()));
        drop(files.states.open("1-0").unwrap());
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let mut machine = Machine::open(Arc::clone(&store), MachineOptions::default()).unwrap();
        machine.apply(LogIndex(1), Term(1), None).unwrap();
        let mut checkpoint = machine.begin_checkpoint().unwrap();
        while checkpoint.step(&*store).unwrap() == CheckpointProgress::Continue {}
        machine.finish_checkpoint(checkpoint.index());
        let mut begin = |room_bytes| {
            let (job, store) = (machine.begin_renewal().unwrap(), Arc::clone(&store));
            machine.end_renewal(None);
            let order = RenewOrder {
                group: GroupId::DATA,
                job,
                store,
                state_dir: "1-1".to_owned(),
                room_bytes,
            };
            RenewTask::begin(&files, order)
        };
        let Err(RenewFailed::Copy(why)) = begin(u64::MAX) else { panic!("there is no such disk") };
        assert!(why.contains("are free"), "{why}");
        assert_eq!(files.states.list().unwrap(), ["1-0"]);
        begin(1).unwrap();
        assert_eq!(files.states.list().unwrap(), ["1-0", "1-1"]);
    }
}
