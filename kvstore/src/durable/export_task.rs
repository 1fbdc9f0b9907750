//! Writing an export, step by step.

use storage::export::{self, ExportError, ExportFile, ExportHeader, ExportWriter};
use storage::mvcc::{ExportProgress, ExportStepError};

use super::DataFiles;
use crate::node::{ExportFailed, ExportSource};
use proto::log::{ExportRecord, export_record::Body};

/// An export that is being written. One that fails or is given up leaves nothing behind, as far as
/// the disk allows; one that is dropped leaves a part, which the next start or the next export of the
/// group at this index removes.
#[derive(Debug)]
pub struct ExportTask {
    writer: ExportWriter,
    source: ExportSource,
}

impl ExportTask {
    /// Begins an export.
    ///
    /// # Errors
    /// [`ExportFailed::File`].
    pub fn begin(
        files: &DataFiles,
        header: ExportHeader,
        source: ExportSource,
    ) -> Result<Self, ExportFailed> {
        let path = export::path_of(&files.exports_dir(), header.group, header.index);
        let writer = ExportWriter::create(files.disk.clone(), &path, header).map_err(of_file)?;
        Ok(Self { writer, source })
    }

    /// Takes one step.
    ///
    /// # Errors
    /// [`ExportFailed`]; the export is given up.
    pub fn step(mut self) -> Result<Step, ExportFailed> {
        match self.write() {
            Ok(ExportProgress::Continue) => Ok(Step::Continue(self)),
            Ok(ExportProgress::Done) => self.writer.finish().map(Step::Done).map_err(of_file),
            Err(failed) => {
                self.give_up();
                Err(failed)
            }
        }
    }

    /// Writes the next records.
    fn write(&mut self) -> Result<ExportProgress, ExportFailed> {
        let writer = &mut self.writer;
        match &mut self.source {
            ExportSource::Catalogue(catalogue) => {
                let body = Some(Body::Catalogue(std::mem::take(catalogue)));
                writer.push(&ExportRecord { body }).map_err(of_file)?;
                Ok(ExportProgress::Done)
            }
            ExportSource::Machine { job, store } => {
                job.step(&**store, &mut |record| writer.push(record)).map_err(|error| match error {
                    ExportStepError::State(error) => ExportFailed::Store(error),
                    ExportStepError::Out(error) => of_file(error),
                })
            }
        }
    }

    /// Gives the export up, and removes what was written of it.
    pub fn give_up(self) {
        if let Err(error) = self.writer.discard() {
            tracing::warn!(%error, "a part of an export stays until the next start");
        }
    }
}

fn of_file(error: ExportError) -> ExportFailed {
    ExportFailed::File(error.to_string())
}

/// What a step of an export came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once a step and taken apart at once")]
pub enum Step {
    /// It goes on.
    Continue(ExportTask),
    /// The file is durable.
    Done(ExportFile),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::{GroupId, LogIndex, Term, log};
    use storage::disk::{Disk, Operation, SimDisk};
    use storage::mvcc::{CheckpointProgress, Machine, MachineOptions};
    use storage::state::{MemoryStore, StateStore};

    use super::*;
    use crate::shell::testing::{CLUSTER, opened};

    /// A store with one checkpoint, an export of it that was begun, and where it is written.
    fn begun() -> (SimDisk, DataFiles, MemoryStore, ExportTask) {
        let disk = SimDisk::new();
        let (_, _, files) = opened(&disk);
        let store = MemoryStore::new();
        let mut machine =
            Machine::open(Arc::new(store.clone()), MachineOptions::default()).unwrap();
        for index in 1..=2_000 {
            let put = proto::v1::PutOp { key: format!("{index}").into(), ..Default::default() };
            let op = proto::v1::Op { op: Some(proto::v1::op::Op::Put(put)) };
            let write = log::Write { keyspace: 1, then_ops: vec![op], ..Default::default() };
            let command = log::Command { body: Some(log::command::Body::Write(write)) };
            machine.apply(LogIndex(index), Term(1), Some(&command)).unwrap();
        }
        let mut job = machine.begin_checkpoint().unwrap();
        while job.step(&store).unwrap() == CheckpointProgress::Continue {}
        machine.finish_checkpoint(job.index());
        let job = machine.begin_export().unwrap();
        let header = ExportHeader {
            cluster: CLUSTER,
            epoch: 0,
            group: GroupId::DATA,
            index: job.index(),
            term: job.term(),
            conf_state: log::ConfState::default(),
            change: 0,
        };
        let source = ExportSource::Machine { job, store: machine.store() };
        let task = ExportTask::begin(&files, header, source).unwrap();
        (disk, files, store, task)
    }

    fn run(mut task: ExportTask) -> Result<ExportFile, ExportFailed> {
        loop {
            match task.step()? {
                Step::Continue(rest) => task = rest,
                Step::Done(file) => return Ok(file),
            }
        }
    }

    fn exports(disk: &SimDisk, files: &DataFiles) -> Vec<String> {
        disk.list(&files.exports_dir()).unwrap()
    }

    #[test]
    fn a_damaged_store_and_a_failed_file_are_told_apart_and_leave_nothing() {
        let (disk, files, _, task) = begun();
        let file = run(task).unwrap();
        assert_eq!([file.path.file_name().unwrap().to_str().unwrap()], exports(&disk, &files)[..]);

        let (disk, files, store, task) = begun();
        let (key, value) = store.scan(&[0; 7], &[0xff; 8]).last().unwrap().unwrap();
        store.write(&[(key, Some([&value[..], b"x"].concat().into()))]).unwrap();
        assert!(matches!(run(task), Err(ExportFailed::Store(_))));
        assert!(exports(&disk, &files).is_empty());

        for operation in [Operation::Write, Operation::Sync, Operation::Rename] {
            let (disk, files, _, task) = begun();
            disk.fail_next(operation, std::io::ErrorKind::Other);
            assert!(matches!(run(task), Err(ExportFailed::File(_))), "{operation:?}");
            assert!(exports(&disk, &files).is_empty(), "{operation:?}");
        }
    }

    #[test]
    fn one_that_is_given_up_leaves_nothing() {
        let (disk, files, _, task) = begun();
        let Step::Continue(task) = task.step().unwrap() else { panic!("it takes many steps") };
        assert_eq!(exports(&disk, &files).len(), 1);
        task.give_up();
        assert!(exports(&disk, &files).is_empty());
    }
}
