//! The file system as the log sees it: few operations, each with a stated durability.
//!
//! Everything this project writes goes through [`Disk`], so that the same code runs on files
//! ([`RealDisk`]) and on a simulated disk that loses power at chosen moments ([`SimDisk`]).
//!
//! What is durable when:
//! - bytes and length of a file: after [`DiskFile::sync_data`] returned without an error;
//! - the name of a file (created, renamed, removed): after [`Disk::sync_dir`] of its directory;
//! - a directory: when [`Disk::create_dir_all`] returns.
//!
//! After an error of a sync, nothing may be assumed about what was written since the sync before,
//! not even if a second sync succeeds (Rebello et al., "Can Applications Recover from fsync
//! Failures?", ATC 2020).

mod real;
mod sim;

pub use real::{DIR_MODE, FILE_MODE, RealDisk};
pub use sim::{Operation, SimCounters, SimDisk};

use std::fmt;
use std::io;
use std::path::Path;

/// The directory that holds `path`; a bare name lies in the working directory.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A file that must not exist yet, for reading and writing.
    CreateNew,
}

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound` for an absent file, `AlreadyExists` for [`OpenMode::CreateNew`] of a present
    /// one, and what the system reports.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Names of the entries of a directory, sorted; empty when the directory is absent. Names
    /// that are no UTF-8 are not ours and are left out.
    ///
    /// # Errors
    /// What the system reports.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory and its missing ancestors, durable on return; fine when it exists.
    ///
    /// # Errors
    /// What the system reports; some of the ancestors may have been created.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file or a directory another name, also in another directory of the same file system.
    /// A file replaces a file of that name; a directory replaces an empty one at most. Atomic: after
    /// a crash either both changes hold or neither. Durable once the directories that hold the new
    /// name and the old one are synced, in this order.
    ///
    /// # Errors
    /// `NotFound` when `from` is absent, `DirectoryNotEmpty`, and what the system reports.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Open files keep their content.
    ///
    /// # Errors
    /// `NotFound` for an absent file, and what the system reports.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Makes all earlier changes of names in this directory durable.
    ///
    /// # Errors
    /// What the system reports; the changes may then be lost at a crash, whatever follows.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file, read and written by position.
pub trait DiskFile: Send + fmt::Debug {
    /// Reads up to `buf.len()` bytes from `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the system reports.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes at `offset`, growing the file as needed; a gap reads as zeros.
    ///
    /// # Errors
    /// What the system reports; any part of the bytes may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// What the system reports.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// Those of [`DiskFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Makes content and length durable.
    ///
    /// # Errors
    /// What the system reports. Never retry: the system may have forgotten what it could not
    /// write, and the next sync would succeed without it.
    fn sync_data(&mut self) -> io::Result<()>;
}
