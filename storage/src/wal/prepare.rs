//! Preparing a segment: zeros, header, sync, and only then its name.
//!
//! A segment is filled with zeros and synced ahead of its use, so that writing batches changes
//! neither the length of the file nor where its blocks lie, and a sync has to write nothing but
//! the batch. Filling goes in slices, each synced on its own, so that no step takes long.
//!
//! A segment that was freed has its blocks already: it only gets another header. What it held
//! stays behind that and never verifies again.
//!
//! The file carries another name until it is complete; recovery throws unfinished ones away. So a
//! file with the name of a segment is always whole, or damaged.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use proto::ClusterId;

use super::segment::{DATA_START, Header, Segment, path_of, unfinished_path_of};
use crate::disk::{Disk, DiskFile, OpenMode};

/// Most zeros that one step writes and syncs.
const SLICE_BYTES_MAX: u64 = 1024 * 1024;
/// Least zeros that one step writes and syncs.
const SLICE_BYTES_MIN: u64 = 4096;
/// Steps that a small segment takes.
const SLICES: u64 = 64;

/// A file that was a segment, was freed and waits for its next use.
#[derive(Debug)]
pub(super) struct Freed {
    pub(super) path: PathBuf,
    /// Length of the file.
    pub(super) bytes: u64,
}

/// A segment in the making.
#[derive(Debug)]
pub(super) struct Preparation {
    header: Header,
    unfinished: PathBuf,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// So far the file has its blocks, and they are synced.
    filled: u64,
}

impl Preparation {
    /// Starts a file, in place of what an earlier attempt left.
    pub(super) fn begin(
        disk: &dyn Disk,
        dir: &Path,
        cluster: ClusterId,
        number: u64,
        bytes: u64,
    ) -> io::Result<Self> {
        let header = Header { cluster, number, bytes, recycled: false };
        let unfinished = unfinished_path_of(dir, number);
        remove_if_present(disk, &unfinished)?;
        let file = disk.open(&unfinished, OpenMode::CreateNew)?;
        Ok(Self { header, unfinished, path: path_of(dir, number), file, filled: 0 })
    }

    /// Starts with a file that was freed. That it lost its name is durable on return: two names
    /// must never lead to one file.
    pub(super) fn reuse(
        disk: &dyn Disk,
        dir: &Path,
        cluster: ClusterId,
        number: u64,
        freed: &Freed,
    ) -> io::Result<Self> {
        let header = Header { cluster, number, bytes: freed.bytes, recycled: true };
        let unfinished = unfinished_path_of(dir, number);
        disk.rename(&freed.path, &unfinished)?;
        disk.sync_dir(dir)?;
        let file = disk.open(&unfinished, OpenMode::ReadWrite)?;
        Ok(Self { header, unfinished, path: path_of(dir, number), file, filled: freed.bytes })
    }

    /// How much of the file is prepared.
    pub(super) fn filled(&self) -> u64 {
        self.filled
    }

    /// Whether only [`Preparation::finish`] is left.
    pub(super) fn is_filled(&self) -> bool {
        self.filled == self.header.bytes
    }

    /// Prepares one slice. After an error the file must not be used: a failed sync is never
    /// retried.
    pub(super) fn step(&mut self) -> io::Result<()> {
        let slice = (self.header.bytes / SLICES).clamp(SLICE_BYTES_MIN, SLICE_BYTES_MAX);
        let count = slice.min(self.header.bytes - self.filled);
        self.file.write_at(self.filled, &vec![0; count as usize])?;
        self.file.sync_data()?;
        self.filled += count;
        Ok(())
    }

    /// Writes header and, if any, a first batch, and makes the file a segment, durable on return.
    pub(super) fn finish(
        mut self,
        disk: &dyn Disk,
        dir: &Path,
        first_batch: &[u8],
    ) -> io::Result<Segment> {
        assert!(self.is_filled(), "a segment is filled before it gets its name");
        assert!(first_batch.len() as u64 <= self.header.bytes - DATA_START, "the batch fits");
        self.file.write_at(0, &self.header.encode())?;
        if !first_batch.is_empty() {
            self.file.write_at(DATA_START, first_batch)?;
        }
        self.file.sync_data()?;
        disk.rename(&self.unfinished, &self.path)?;
        disk.sync_dir(dir)?;
        Ok(Segment {
            number: self.header.number,
            path: self.path,
            file: self.file,
            bytes: self.header.bytes,
            end: DATA_START + first_batch.len() as u64,
            highest: BTreeMap::new(),
        })
    }
}

/// Removes a file that may not be there.
pub(super) fn remove_if_present(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
