//! Building a state from an export, step by step.

use std::sync::Arc;

use proto::GroupId;
use proto::log::export_record::Body;
use storage::export::{ExportFile, ExportReader};
use storage::mvcc::{ImportJob, Machine};
use storage::state::StateStore;

use super::DataFiles;
use crate::node::{Built, BuiltState, Catalogue};

/// Records that one step takes.
const RECORDS_PER_STEP: usize = 500;

/// A state that is being built.
pub struct BuildTask {
    files: DataFiles,
    file: ExportFile,
    reader: ExportReader,
    content: Content,
}

/// By the kind of the group.
enum Content {
    Catalogue(Option<Box<Catalogue>>),
    Machine { import: Box<ImportJob>, store: Arc<dyn StateStore> },
}

/// What a step came to.
#[expect(clippy::large_enum_variant, reason = "made once a step and taken apart at once")]
pub enum BuildStep {
    /// It goes on.
    Continue(BuildTask),
    /// The state is there.
    Done(Built),
}

impl BuildTask {
    /// Begins to build the state of an export in this directory, which is emptied first.
    ///
    /// # Errors
    /// What went wrong.
    pub fn begin(files: &DataFiles, file: ExportFile, state_dir: &str) -> Result<Self, String> {
        let reader = ExportReader::open(files.disk.as_ref(), &file.path)
            .map_err(|error| error.to_string())?;
        let header = &file.header;
        let content = if header.group == GroupId::META {
            Content::Catalogue(None)
        } else {
            files.states.remove(state_dir).map_err(|error| error.to_string())?;
            let store = files.states.open(state_dir).map_err(|error| error.to_string())?;
            let conf = header.conf_state.clone();
            let import = ImportJob::new(header.index, header.term, conf, header.change);
            Content::Machine { import: Box::new(import), store }
        };
        Ok(Self { files: files.clone(), file, reader, content })
    }

    /// Takes one step.
    ///
    /// # Errors
    /// What went wrong; the directory is of no use.
    pub fn step(mut self) -> Result<BuildStep, String> {
        for _ in 0..RECORDS_PER_STEP {
            let Some(record) = self.reader.next().map_err(|error| error.to_string())? else {
                return self.finish().map(BuildStep::Done);
            };
            match &mut self.content {
                Content::Catalogue(found) => {
                    let header = &self.file.header;
                    let Some(Body::Catalogue(state)) = record.body else {
                        return Err("the export of group 0 holds something else".to_owned());
                    };
                    let conf = (header.conf_state.clone(), header.change);
                    let catalogue = Catalogue::import(state, header.index, header.term, conf);
                    if found.replace(Box::new(catalogue)).is_some() {
                        return Err("the export of group 0 holds two catalogues".to_owned());
                    }
                }
                Content::Machine { import, store } => {
                    import.push(&**store, record).map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(BuildStep::Continue(self))
    }

    fn finish(self) -> Result<Built, String> {
        let state = match self.content {
            Content::Catalogue(found) => {
                BuiltState::Catalogue(found.ok_or("the export of group 0 is empty")?)
            }
            Content::Machine { import, store } => {
                import.finish(&*store).map_err(|error| error.to_string())?;
                let machine = Machine::open(store, self.files.machine);
                BuiltState::Machine(Box::new(machine.map_err(|error| error.to_string())?))
            }
        };
        Ok(Built { file: self.file, state })
    }

    /// Takes all steps.
    ///
    /// # Errors
    /// As for [`BuildTask::step`].
    pub fn complete(mut self) -> Result<Built, String> {
        loop {
            match self.step()? {
                BuildStep::Continue(task) => self = task,
                BuildStep::Done(built) => return Ok(built),
            }
        }
    }
}

impl std::fmt::Debug for BuildTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildTask").field("file", &self.file).finish_non_exhaustive()
    }
}
