//! Entries of the log, applied to a state outside of a running node.

use proto::{LogIndex, Term, log};
use storage::mvcc::{CheckpointProgress, Machine};
use storage::state::StateError;
use storage::wal::RecoveredGroup;

/// Bytes in the memory layer at which it is moved into the store.
const LAYER_BYTES: usize = 32 * 1024 * 1024;

/// Applies entries in order, and moves the memory layer into the store when it has grown.
#[derive(Debug)]
pub struct Replayer {
    machine: Machine,
    /// The members as of the last entry, and the number of the change that made them.
    conf: (log::ConfState, u64),
}

impl Replayer {
    /// Begins behind what `machine` has applied; `found` says the members where it does not.
    #[must_use]
    pub fn new(machine: Machine, found: &RecoveredGroup) -> Self {
        let conf = machine.conf().map(|(conf, change)| (conf.clone(), change));
        let conf = conf.unwrap_or_else(|| (found.conf_state.clone(), found.change));
        Self { machine, conf }
    }

    /// Applies the next entry.
    ///
    /// # Errors
    /// Those of the store; it is then of no use.
    pub fn entry(&mut self, entry: &log::Entry) -> Result<(), StateError> {
        let (index, term) = (LogIndex(entry.index), Term(entry.term));
        if entry.kind() == log::EntryKind::ConfChange {
            self.conf = consensus::conf_after(self.conf.clone(), entry);
            self.machine.apply_conf(index, term, &self.conf.0, self.conf.1);
        } else {
            let command = crate::replication::raft::command_of(entry);
            self.machine.apply(index, term, command.as_ref())?;
        }
        if self.machine.layer_bytes() >= LAYER_BYTES {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Moves everything that was applied into the store.
    ///
    /// # Errors
    /// Those of the store; it is then of no use.
    pub fn checkpoint(&mut self) -> Result<(), StateError> {
        if let Some(mut job) = self.machine.begin_checkpoint() {
            let store = self.machine.store();
            while job.step(&*store)? == CheckpointProgress::Continue {}
            self.machine.finish_checkpoint(job.index());
        }
        Ok(())
    }

    /// The members as of the last entry, and the number of the change that made them.
    #[must_use]
    pub fn conf(&self) -> (&log::ConfState, u64) {
        (&self.conf.0, self.conf.1)
    }

    /// The state.
    #[must_use]
    pub fn finish(self) -> Machine {
        self.machine
    }
}
