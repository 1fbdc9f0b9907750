//! Writing an export, step by step.

use storage::export::{self, ExportFile, ExportHeader, ExportWriter};
use storage::mvcc::ExportProgress;

use super::DataFiles;
use crate::node::ExportSource;
use proto::log::{ExportRecord, export_record::Body};

/// An export that is being written. Dropped before its end, it leaves a part that the next start or
/// the next export of the group removes.
#[derive(Debug)]
pub struct ExportTask {
    writer: ExportWriter,
    source: ExportSource,
}

impl ExportTask {
    /// Begins an export.
    ///
    /// # Errors
    /// What went wrong; nothing is left behind but a part.
    pub fn begin(
        files: &DataFiles,
        header: ExportHeader,
        source: ExportSource,
    ) -> Result<Self, String> {
        let dir = files.exports_dir();
        files.disk.create_dir_all(&dir).map_err(|error| error.to_string())?;
        let path = export::path_of(&dir, header.group, header.index);
        let writer = ExportWriter::create(files.disk.clone(), &path, header)
            .map_err(|error| error.to_string())?;
        Ok(Self { writer, source })
    }

    /// Takes one step; the file once it is durable. True in the second place asks for another step.
    ///
    /// # Errors
    /// What went wrong; the export is given up.
    pub fn step(mut self) -> Result<Step, String> {
        let more = match &mut self.source {
            ExportSource::Catalogue(catalogue) => {
                let body = Some(Body::Catalogue(std::mem::take(catalogue)));
                self.writer.push(&ExportRecord { body }).map_err(|error| error.to_string())?;
                false
            }
            ExportSource::Machine { job, store } => {
                let writer = &mut self.writer;
                let progress = job
                    .step(&**store, &mut |record| writer.push(record))
                    .map_err(|error| error.to_string())?;
                match progress {
                    ExportProgress::Continue => true,
                    ExportProgress::Done => false,
                }
            }
        };
        if more {
            return Ok(Step::Continue(self));
        }
        self.writer.finish().map(Step::Done).map_err(|error| error.to_string())
    }
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
