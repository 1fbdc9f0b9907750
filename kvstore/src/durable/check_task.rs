//! Reading an export whole, step by step.

use storage::disk::Disk;
use storage::export::{ExportFile, ExportReader};

/// Records that one step takes.
const RECORDS_PER_STEP: usize = 500;

/// An export of this node's own that is being checked.
#[derive(Debug)]
pub struct CheckTask {
    file: ExportFile,
    reader: Option<ExportReader>,
}

impl CheckTask {
    /// A check of this export that has not begun.
    #[must_use]
    pub fn new(file: ExportFile) -> Self {
        Self { file, reader: None }
    }

    /// What is being checked.
    #[must_use]
    pub fn file(&self) -> &ExportFile {
        &self.file
    }

    /// Takes one step. True once all of it was read, and is what was written.
    ///
    /// # Errors
    /// What is wrong with it; the check is over.
    pub fn step(&mut self, disk: &dyn Disk) -> Result<bool, String> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let opened = ExportReader::open(disk, &self.file.path);
                let opened = opened.map_err(|error| error.to_string())?;
                if opened.describe().sha256 != self.file.sha256 {
                    return Err("the file is another export".to_owned());
                }
                self.reader.insert(opened)
            }
        };
        for _ in 0..RECORDS_PER_STEP {
            if reader.next().map_err(|error| error.to_string())?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
