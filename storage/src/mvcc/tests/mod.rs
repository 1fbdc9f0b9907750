//! Tests of the machine as a whole.

mod build;
mod checkpoints;
mod compaction;
mod exactly_once;
mod exports;
mod items;
mod keyspaces;
mod model;
mod packs;
mod properties;
mod reads;
mod renewals;
mod transactions;

use std::sync::Arc;

use proto::{KeyspaceId, LogIndex, Revision, Term, log, v1};

use super::{CheckpointProgress, ExportProgress, ImportError, ImportJob, Machine, MachineOptions};
use crate::state::{MemoryStore, StateStore};

/// A machine over a store in memory, with the log that was applied to it.
struct Bench {
    machine: Machine,
    store: MemoryStore,
    options: MachineOptions,
    log: Vec<log::Command>,
}

impl Bench {
    fn new() -> Self {
        Self::with(MachineOptions::default())
    }

    fn with(options: MachineOptions) -> Self {
        let store = MemoryStore::new();
        let machine = Machine::open(Arc::new(store.clone()), options).unwrap();
        Self { machine, store, options, log: Vec::new() }
    }

    /// Applies a write as the next entry.
    fn write(&mut self, write: log::Write) -> log::WriteOutcome {
        self.apply(build::command(write))
    }

    /// Applies a command of a data group as the next entry.
    fn apply(&mut self, command: log::Command) -> log::WriteOutcome {
        let index = self.machine.applied().next();
        let outcome = self.machine.apply(index, Term(1), Some(&command)).unwrap();
        self.log.push(command);
        outcome.expect("a command of a data group has an outcome")
    }

    /// Runs a whole checkpoint.
    fn checkpoint(&mut self) {
        run_checkpoint(&mut self.machine, &self.store);
    }

    /// Opens the machine anew, without replay.
    fn reopen(&mut self) {
        self.machine = Machine::open(Arc::new(self.store.clone()), self.options).unwrap();
    }

    /// Replays what the machine lacks.
    fn replay(&mut self) {
        replay(&mut self.machine, &self.log);
    }

    fn get(&self, key: &str) -> Option<v1::Item> {
        self.machine.get(KeyspaceId::DEFAULT, key.as_bytes(), None).unwrap()
    }

    fn get_at(&self, key: &str, revision: u64) -> Option<v1::Item> {
        let at = Some(Revision(revision));
        self.machine.get(KeyspaceId::DEFAULT, key.as_bytes(), at).unwrap()
    }

    fn value(&self, key: &str) -> Option<String> {
        self.get(key).map(|item| String::from_utf8(item.value.to_vec()).unwrap())
    }

    fn revision(&self) -> u64 {
        self.machine.revision(KeyspaceId::DEFAULT).get()
    }
}

fn run_checkpoint(machine: &mut Machine, store: &dyn StateStore) {
    let Some(mut job) = machine.begin_checkpoint() else { return };
    while job.step(store).unwrap() == CheckpointProgress::Continue {}
    machine.finish_checkpoint(job.index());
}

/// All records of an export of the last finished checkpoint.
fn export(machine: &mut Machine, store: &dyn StateStore) -> Vec<log::ExportRecord> {
    let mut job = machine.begin_export().expect("a checkpoint was finished");
    let mut records = Vec::new();
    let mut take = |record: &log::ExportRecord| -> Result<(), std::convert::Infallible> {
        records.push(record.clone());
        Ok(())
    };
    while job.step(store, &mut take).unwrap() == ExportProgress::Continue {}
    machine.end_export();
    records
}

/// A store built from records.
fn import(index: LogIndex, records: &[log::ExportRecord]) -> Result<MemoryStore, ImportError> {
    let store = MemoryStore::new();
    let mut job = ImportJob::new(index, Term(1), log::ConfState::default(), 0);
    records.iter().try_for_each(|record| job.push(&store, record.clone()))?;
    job.finish(&store)?;
    Ok(store)
}

fn replay(machine: &mut Machine, log: &[log::Command]) {
    let from = usize::try_from(machine.applied().get()).unwrap();
    for (position, command) in log.iter().enumerate().skip(from) {
        machine.apply(LogIndex(position as u64 + 1), Term(1), Some(command)).unwrap();
    }
}
