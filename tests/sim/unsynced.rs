//! The disk of [`Mutant::SyncSkipped`](super::Mutant::SyncSkipped) and
//! [`Mutant::SnapshotUnsynced`](super::Mutant::SnapshotUnsynced).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage::disk::{Disk, DiskFile, OpenMode};

/// Another disk that reports syncs of files below a directory and does only some of them.
#[derive(Debug)]
pub struct UnsyncedDisk {
    inner: Arc<dyn Disk>,
    dir: &'static str,
    /// Of so many syncs one is done.
    done_of: u64,
    syncs: Arc<AtomicU64>,
}

impl UnsyncedDisk {
    /// Plants the bug in front of `inner`.
    pub fn new(inner: Arc<dyn Disk>, dir: &'static str, done_of: u64) -> Self {
        Self { inner, dir, done_of, syncs: Arc::default() }
    }
}

impl Disk for UnsyncedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let inner = self.inner.open(path, mode)?;
        if !path.components().any(|part| part.as_os_str() == self.dir) {
            return Ok(inner);
        }
        let (done_of, syncs) = (self.done_of, Arc::clone(&self.syncs));
        Ok(Box::new(UnsyncedFile { inner, done_of, syncs }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
}

#[derive(Debug)]
struct UnsyncedFile {
    inner: Box<dyn DiskFile>,
    done_of: u64,
    syncs: Arc<AtomicU64>,
}

impl DiskFile for UnsyncedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buf)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let number = self.syncs.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(self.done_of) { self.inner.sync_data() } else { Ok(()) }
    }
}
