//! Exports on their way from one node to another: read here, written there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ExportError;
use super::files::{parse, remove_if_present};
use super::reader::verify;
use super::{ExportFile, SYNC_BYTES};
use crate::disk::{Disk, DiskFile, OpenMode, parent_of};

/// How much of a file travels at once.
pub const TRANSFER_CHUNK_BYTES: usize = 256 * 1024;

/// Reads the bytes of an export that is being sent. Keeps the file open: a prune in between takes
/// nothing away from whoever is being served.
#[derive(Debug)]
pub struct ChunkReader {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
}

impl ChunkReader {
    /// Opens a file; its content is not looked at.
    ///
    /// # Errors
    /// [`ExportError::Io`].
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, ExportError> {
        let file = disk.open(path, OpenMode::Read).map_err(ExportError::io("open", path))?;
        let bytes = file.len().map_err(ExportError::io("measure", path))?;
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// Length of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes `[offset, offset + TRANSFER_CHUNK_BYTES)`, as far as the file reaches; empty at its
    /// end and behind it.
    ///
    /// # Errors
    /// [`ExportError::Io`]; [`ExportError::Damaged`] when the file has become shorter.
    pub fn read(&self, offset: u64) -> Result<Vec<u8>, ExportError> {
        let left = self.bytes.saturating_sub(offset);
        let mut buf = vec![0; left.min(TRANSFER_CHUNK_BYTES as u64) as usize];
        let count =
            self.file.read_at(offset, &mut buf).map_err(ExportError::io("read", &self.path))?;
        if count < buf.len() {
            return Err(ExportError::damaged(&self.path, offset, "the file has become shorter"));
        }
        Ok(buf)
    }
}

/// An export that is being received, written from its beginning to its end.
///
/// Pieces may come twice and after a pause of any length: [`PartFile::received`] says where to go
/// on. Nothing of it is used before [`PartFile::finish`] has verified the whole. A part does not
/// outlive the process: [`sweep`](super::sweep) removes it at the next start.
#[derive(Debug)]
pub struct PartFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    part: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
    sha256: [u8; 32],
    received: u64,
    synced: u64,
    /// A sync failed; nothing is known about what the file holds.
    failed: bool,
}

impl PartFile {
    /// Begins to receive the export that will be at `path` and that was offered with this length and
    /// hash. Until it is whole it is called as `path` with the ending `.part`. The directory is made
    /// when absent; what is left of an earlier attempt is removed.
    ///
    /// # Errors
    /// [`ExportError::Full`], [`ExportError::Io`].
    pub fn create(
        disk: Arc<dyn Disk>,
        path: &Path,
        bytes: u64,
        sha256: [u8; 32],
    ) -> Result<Self, ExportError> {
        let part = path.with_extension("part");
        disk.create_dir_all(parent_of(path)).map_err(ExportError::io("make", parent_of(path)))?;
        remove_if_present(&*disk, &part)?;
        let file =
            disk.open(&part, OpenMode::CreateNew).map_err(ExportError::io("create", &part))?;
        Ok(Self {
            disk,
            path: path.to_owned(),
            part,
            file,
            bytes,
            sha256,
            received: 0,
            synced: 0,
            failed: false,
        })
    }

    /// How many bytes are there, counted from the beginning without a gap: where the next piece has
    /// to begin.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether all bytes are there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.received == self.bytes
    }

    /// Writes a piece. What is there already is not written again, and a piece that would leave a
    /// gap is ignored. Returns [`PartFile::received`].
    ///
    /// # Errors
    /// [`ExportError::Full`]: the piece is not counted, and can be written again once there is
    /// room, unless that was said by a sync. [`ExportError::Damaged`] when the piece goes beyond the
    /// length that was offered; it is ignored. [`ExportError::Io`]: give the part up.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<u64, ExportError> {
        self.check_failed()?;
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= self.bytes);
        let Some(end) = end else {
            let why = format!("a piece at {offset} goes beyond the {} bytes offered", self.bytes);
            return Err(ExportError::damaged(&self.part, self.received, why));
        };
        if offset > self.received || end <= self.received {
            return Ok(self.received);
        }
        let fresh = &data[(self.received - offset) as usize..];
        self.file.write_at(self.received, fresh).map_err(ExportError::io("write", &self.part))?;
        self.received = end;
        if self.received - self.synced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(self.received)
    }

    /// Verifies length, hash and the whole export, makes it durable and gives it its name.
    ///
    /// # Errors
    /// [`ExportError::Damaged`] when it is not what was offered, not whole, or not what its name
    /// says; [`ExportError::Newer`]; [`ExportError::Full`] and [`ExportError::Io`]. The part stays
    /// where it is, to be [discarded](PartFile::discard) or swept.
    pub fn finish(&mut self) -> Result<ExportFile, ExportError> {
        self.check_failed()?;
        if !self.is_complete() {
            let why = format!("{} of {} bytes were received", self.received, self.bytes);
            return Err(ExportError::damaged(&self.part, self.received, why));
        }
        self.sync()?;
        let found = verify(&*self.disk, &self.part)?;
        let refused = |why| Err(ExportError::damaged(&self.part, 0, why));
        if found.bytes != self.bytes {
            return refused("it has not the length that was offered");
        }
        if found.sha256 != self.sha256 {
            return refused("it is another export than the one that was offered");
        }
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let held = (found.header.group, found.header.index);
        if parse(name).is_some_and(|named| named != held) {
            return refused("it holds another group or index than the one that was offered");
        }
        let dir = parent_of(&self.path);
        self.disk.rename(&self.part, &self.path).map_err(ExportError::io("rename", &self.part))?;
        self.disk.sync_dir(dir).map_err(ExportError::io("sync", dir))?;
        Ok(ExportFile { path: self.path.clone(), ..found })
    }

    /// Gives the transfer up and removes what was received.
    ///
    /// # Errors
    /// [`ExportError::Io`]; the part is then left for [`sweep`](super::sweep).
    pub fn discard(self) -> Result<(), ExportError> {
        remove_if_present(&*self.disk, &self.part)
    }

    fn check_failed(&self) -> Result<(), ExportError> {
        if !self.failed {
            return Ok(());
        }
        let source = std::io::Error::other("an earlier sync of it failed");
        Err(ExportError::Io { action: "write", path: self.part.clone(), source })
    }

    fn sync(&mut self) -> Result<(), ExportError> {
        let result = self.file.sync_data().map_err(ExportError::io("sync", &self.part));
        self.failed = result.is_err();
        self.synced = self.received;
        result
    }
}
