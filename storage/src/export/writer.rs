//! Writing an export.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use proto::log;
use sha2::{Digest, Sha256};

use super::chunk::OpenChunk;
use super::error::ExportError;
use super::files::{remove_if_present, unfinished_path_of};
use super::header::seed_of;
use super::trailer::Trailer;
use super::{ExportFile, ExportHeader, SYNC_BYTES};
use crate::disk::{Disk, DiskFile, OpenMode, parent_of};

/// Largest record, encoded.
pub const RECORD_BYTES_MAX: usize = proto::limits::ITEM_VALUE_BYTES_MAX + 64 * 1024;

/// Writes one export.
///
/// The file is called `PATH.new` until [`ExportWriter::finish`] has made it durable and gives it
/// its name; a writer that is dropped leaves that part for [`sweep`](super::sweep). After an error of
/// [`ExportWriter::push`] every further call fails: the caller [discards](ExportWriter::discard) this
/// export and writes another one later.
#[derive(Debug)]
pub struct ExportWriter {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    part: PathBuf,
    file: Box<dyn DiskFile>,
    header: ExportHeader,
    seed: u32,
    chunk: OpenChunk,
    chunks: u64,
    records: u64,
    /// Length of the file so far.
    bytes: u64,
    /// How much of it is durable.
    synced: u64,
    hash: Sha256,
    failed: bool,
}

impl ExportWriter {
    /// Begins the export that is to be found at `path`. The directory is made when absent; what is
    /// left of an earlier attempt is removed, an export of that name stays until the new one is
    /// whole.
    ///
    /// # Errors
    /// [`ExportError::Full`], [`ExportError::Io`].
    pub fn create(
        disk: Arc<dyn Disk>,
        path: &Path,
        header: ExportHeader,
    ) -> Result<Self, ExportError> {
        let part = unfinished_path_of(path);
        disk.create_dir_all(parent_of(path)).map_err(ExportError::io("make", parent_of(path)))?;
        remove_if_present(&*disk, &part)?;
        let file =
            disk.open(&part, OpenMode::CreateNew).map_err(ExportError::io("create", &part))?;
        let encoded = header.encode();
        let mut writer = Self {
            disk,
            path: path.to_owned(),
            part,
            file,
            header,
            seed: seed_of(&encoded),
            chunk: OpenChunk::new(),
            chunks: 0,
            records: 0,
            bytes: 0,
            synced: 0,
            hash: Sha256::new(),
            failed: false,
        };
        writer.hash.update(&encoded);
        match writer.guarded(|writer| writer.write(&encoded)) {
            Ok(()) => Ok(writer),
            Err(error) => Err(writer.failed_with(error)),
        }
    }

    /// Adds a record behind those pushed before.
    ///
    /// # Errors
    /// [`ExportError::Full`], [`ExportError::Io`].
    ///
    /// # Panics
    /// When the record is empty or larger than [`RECORD_BYTES_MAX`]; the limits of requests keep
    /// every record of ours below.
    pub fn push(&mut self, record: &log::ExportRecord) -> Result<(), ExportError> {
        let bytes = record.encoded_len();
        assert!(record.body.is_some(), "a record has content");
        assert!(bytes <= RECORD_BYTES_MAX, "a record of {bytes} bytes");
        self.guarded(|writer| {
            if writer.chunk.is_full_for(record) {
                writer.write_chunk()?;
            }
            writer.chunk.push(record);
            Ok(())
        })
    }

    /// Length of what was written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Completes the export. It is durable under its name on return.
    ///
    /// # Errors
    /// [`ExportError::Full`], [`ExportError::Io`]. An export that had this name before is then
    /// still there, unless only the sync of the directory failed: the new one may then be.
    pub fn finish(mut self) -> Result<ExportFile, ExportError> {
        let finished = self.guarded(|writer| {
            if writer.chunk.records() > 0 {
                writer.write_chunk()?;
            }
            let trailer = Trailer::new(writer.chunks, writer.records, &writer.hash);
            writer.write(&trailer.encode(writer.seed))?;
            writer.sync()?;
            let (disk, dir) = (&writer.disk, parent_of(&writer.path));
            disk.rename(&writer.part, &writer.path)
                .map_err(ExportError::io("rename", &writer.part))?;
            disk.sync_dir(dir).map_err(ExportError::io("sync", dir))?;
            Ok(ExportFile {
                path: writer.path.clone(),
                header: writer.header.clone(),
                bytes: writer.bytes,
                records: writer.records,
                sha256: trailer.sha256,
            })
        });
        finished.map_err(|error| self.failed_with(error))
    }

    /// The error that ends the writer. What was written is removed, if the disk does even that.
    fn failed_with(self, error: ExportError) -> ExportError {
        drop(self.discard());
        error
    }

    /// Gives the export up and removes what was written of it.
    ///
    /// # Errors
    /// [`ExportError::Io`]; the part is then left for [`sweep`](super::sweep).
    pub fn discard(self) -> Result<(), ExportError> {
        remove_if_present(&*self.disk, &self.part)
    }

    /// Runs a step; after one that failed no further one runs, for nothing is known then about what
    /// the file holds.
    fn guarded<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, ExportError>,
    ) -> Result<T, ExportError> {
        if self.failed {
            let source = std::io::Error::other("an earlier write to it failed");
            return Err(ExportError::Io { action: "write", path: self.part.clone(), source });
        }
        let result = step(self);
        self.failed = result.is_err();
        result
    }

    fn write_chunk(&mut self) -> Result<(), ExportError> {
        let mut chunk = std::mem::replace(&mut self.chunk, OpenChunk::new());
        let bytes = chunk.finish(self.seed, self.chunks);
        self.hash.update(bytes);
        self.write(bytes)?;
        self.chunks += 1;
        self.records += chunk.records();
        chunk.clear();
        self.chunk = chunk;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.file.write_at(self.bytes, bytes).map_err(ExportError::io("write", &self.part))?;
        self.bytes += bytes.len() as u64;
        if self.bytes - self.synced >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), ExportError> {
        self.file.sync_data().map_err(ExportError::io("sync", &self.part))?;
        self.synced = self.bytes;
        Ok(())
    }
}
