//! Reading an export.

use std::path::{Path, PathBuf};
use std::vec;

use proto::log;
use sha2::{Digest, Sha256};

use super::chunk::{self, CHUNK_HEADER_BYTES};
use super::error::ExportError;
use super::files::parse;
use super::header::{BadHeader, PREFIX_BYTES, seed_of};
use super::trailer::{TRAILER_BYTES, Trailer};
use super::{ExportFile, ExportHeader, FORMAT_VERSION};
use crate::disk::{Disk, DiskFile, OpenMode};

/// Reads the records of one export, in the order in which they were written.
///
/// Opening verifies header and trailer, so an export that was cut or not finished does not open.
/// A chunk is verified before the first of its records is returned. After an error nothing more is
/// returned: the same call reports the same damage again.
#[derive(Debug)]
pub struct ExportReader {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    header: ExportHeader,
    seed: u32,
    trailer: Trailer,
    /// Where in the file the export begins.
    base: u64,
    /// Length of the export.
    bytes: u64,
    /// Where in the export the next chunk begins.
    at: u64,
    chunks: u64,
    /// Records of the chunks that were read.
    found: u64,
    hash: Sha256,
    records: vec::IntoIter<log::ExportRecord>,
    done: bool,
}

impl ExportReader {
    /// Opens an export. When its name says group and index ([`path_of`](super::path_of)), those
    /// have to be the ones in the header.
    ///
    /// # Errors
    /// [`ExportError::Damaged`] when it is not whole or not an export, [`ExportError::Newer`],
    /// [`ExportError::Io`].
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, ExportError> {
        let file = disk.open(path, OpenMode::Read).map_err(ExportError::io("open", path))?;
        let bytes = file.len().map_err(ExportError::io("measure", path))?;
        let reader = Self::over(file, path, 0, bytes)?;
        check_name(path, &reader.header)?;
        Ok(reader)
    }

    /// Opens an export that is `bytes` of a file, from `base` on. The name of the file says nothing of it.
    ///
    /// # Errors
    /// As [`ExportReader::open`].
    pub(crate) fn open_part(
        disk: &dyn Disk,
        path: &Path,
        base: u64,
        bytes: u64,
    ) -> Result<Self, ExportError> {
        let file = disk.open(path, OpenMode::Read).map_err(ExportError::io("open", path))?;
        Self::over(file, path, base, bytes)
    }

    fn over(
        file: Box<dyn DiskFile>,
        path: &Path,
        base: u64,
        bytes: u64,
    ) -> Result<Self, ExportError> {
        let head = read_header(&*file, path, base, bytes)?;
        let header = ExportHeader::decode(&head).map_err(|bad| refusal(path, base, bad))?;
        let seed = seed_of(&head);
        let end = base + bytes - TRAILER_BYTES as u64;
        let mut last = [0; TRAILER_BYTES];
        read_exact(&*file, path, end, &mut last)?;
        let trailer =
            Trailer::decode(&last, seed).map_err(|why| ExportError::damaged(path, end, why))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
            seed,
            trailer,
            base,
            bytes,
            at: head.len() as u64,
            chunks: 0,
            found: 0,
            hash: Sha256::new_with_prefix(&head),
            records: Vec::new().into_iter(),
            done: false,
        })
    }

    /// What the export holds.
    #[must_use]
    pub fn header(&self) -> &ExportHeader {
        &self.header
    }

    /// What the export is. What its trailer says about the records is verified once
    /// [`ExportReader::next`] has returned `None`.
    #[must_use]
    pub fn describe(&self) -> ExportFile {
        ExportFile {
            path: self.path.clone(),
            header: self.header.clone(),
            bytes: self.bytes,
            records: self.trailer.records,
            sha256: self.trailer.sha256,
        }
    }

    /// The next record; `None` after the last one, once it is certain that there was no other and
    /// nothing was changed.
    ///
    /// # Errors
    /// [`ExportError::Damaged`] from the chunk that is damaged on; [`ExportError::Io`], after which
    /// the call may be repeated.
    #[expect(clippy::should_implement_trait, reason = "an iterator could go on after an error")]
    pub fn next(&mut self) -> Result<Option<log::ExportRecord>, ExportError> {
        if let Some(record) = self.records.next() {
            return Ok(Some(record));
        }
        if self.done {
            return Ok(None);
        }
        if self.at == self.end() {
            self.check_trailer()?;
            self.done = true;
            return Ok(None);
        }
        self.read_chunk()?;
        let first = self.records.next();
        assert!(first.is_some(), "a chunk that verifies holds a record");
        Ok(first)
    }

    /// Where in the export the trailer begins.
    fn end(&self) -> u64 {
        self.bytes - TRAILER_BYTES as u64
    }

    fn read_chunk(&mut self) -> Result<(), ExportError> {
        let place = self.base + self.at;
        let damaged = |why: String| ExportError::damaged(&self.path, place, why);
        let room = self.end() - self.at;
        if room < CHUNK_HEADER_BYTES as u64 {
            return Err(damaged("no chunk fits before the trailer".to_owned()));
        }
        let mut header = [0; CHUNK_HEADER_BYTES];
        read_exact(&*self.file, &self.path, place, &mut header)?;
        let length = chunk::length_in(&header).map_err(|why| damaged(why.to_owned()))?;
        if length as u64 > room {
            return Err(damaged("the chunk is longer than what is left of the file".to_owned()));
        }
        let mut bytes = vec![0; length];
        read_exact(&*self.file, &self.path, place, &mut bytes)?;
        let records = chunk::decode(&bytes, self.seed, self.chunks).map_err(damaged)?;
        self.hash.update(&bytes);
        self.at += length as u64;
        self.chunks += 1;
        self.found += records.len() as u64;
        self.records = records.into_iter();
        Ok(())
    }

    fn check_trailer(&self) -> Result<(), ExportError> {
        let found = Trailer::new(self.chunks, self.found, &self.hash);
        if found == self.trailer {
            return Ok(());
        }
        let said = &self.trailer;
        let why = if (found.chunks, found.records) == (said.chunks, said.records) {
            "the SHA-256 of the content is not that of the trailer".to_owned()
        } else {
            format!(
                "the trailer counts {} chunks with {} records, the file holds {} with {}",
                said.chunks, said.records, found.chunks, found.records
            )
        };
        Err(ExportError::damaged(&self.path, self.base + self.end(), why))
    }
}

/// Reads an export whole and says what it is.
///
/// # Errors
/// Those of [`ExportReader::open`] and [`ExportReader::next`].
pub fn verify(disk: &dyn Disk, path: &Path) -> Result<ExportFile, ExportError> {
    let mut reader = ExportReader::open(disk, path)?;
    while reader.next()?.is_some() {}
    Ok(reader.describe())
}

/// Says what an export is from its header and trailer; its content is not read.
///
/// # Errors
/// Those of [`ExportReader::open`].
pub fn inspect(disk: &dyn Disk, path: &Path) -> Result<ExportFile, ExportError> {
    ExportReader::open(disk, path).map(|reader| reader.describe())
}

/// The bytes of the header, as long as it says it is, in an export that has room for a trailer.
fn read_header(
    file: &dyn DiskFile,
    path: &Path,
    base: u64,
    bytes: u64,
) -> Result<Vec<u8>, ExportError> {
    let cut = || ExportError::damaged(path, base, "the file is shorter than any export");
    if bytes < (PREFIX_BYTES + TRAILER_BYTES) as u64 {
        return Err(cut());
    }
    let mut prefix = [0; PREFIX_BYTES];
    read_exact(file, path, base, &mut prefix)?;
    let length = ExportHeader::length_in(&prefix).map_err(|bad| refusal(path, base, bad))?;
    if bytes < (length + TRAILER_BYTES) as u64 {
        return Err(cut());
    }
    let mut head = vec![0; length];
    read_exact(file, path, base, &mut head)?;
    Ok(head)
}

fn refusal(path: &Path, base: u64, bad: BadHeader) -> ExportError {
    match bad {
        BadHeader::Damaged(why) => ExportError::damaged(path, base, why),
        BadHeader::Newer(found) => {
            ExportError::Newer { path: path.to_owned(), found, known: FORMAT_VERSION }
        }
    }
}

/// Notices an export that stands under the name of another one, as an older copy does.
fn check_name(path: &Path, header: &ExportHeader) -> Result<(), ExportError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match parse(name) {
        Some((group, index)) if (group, index) != (header.group, header.index) => {
            let why = format!(
                "it is named after group {group} at {index} and holds group {} at {}",
                header.group, header.index
            );
            Err(ExportError::damaged(path, 0, why))
        }
        Some(_) | None => Ok(()),
    }
}

fn read_exact(
    file: &dyn DiskFile,
    path: &Path,
    offset: u64,
    buf: &mut [u8],
) -> Result<(), ExportError> {
    let count = file.read_at(offset, buf).map_err(ExportError::io("read", path))?;
    if count == buf.len() {
        Ok(())
    } else {
        Err(ExportError::damaged(path, offset, "the file ended while it was read"))
    }
}
