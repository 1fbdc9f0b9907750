//! Opening a backup.

use std::path::{Path, PathBuf};

use proto::{GroupId, log};

use super::BACKUP_VERSION;
use super::head::{self, BadHead, PREFIX_BYTES};
use crate::disk::{Disk, OpenMode};
use crate::export::{ExportError, ExportReader};

/// A backup, or a plain export, of which the head was read.
#[derive(Clone, Debug)]
pub struct BackupFile {
    path: PathBuf,
    head: Option<log::BackupHead>,
    /// Of a plain export.
    group: GroupId,
    /// Where the first part begins.
    parts_at: u64,
}

impl BackupFile {
    /// Opens a backup, or an export as one of a single part. Of a backup the head is verified, and that the parts
    /// fill the file; of an export header and trailer.
    ///
    /// # Errors
    /// [`ExportError::Damaged`] when it is not whole or neither of both, [`ExportError::Newer`],
    /// [`ExportError::Io`].
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, ExportError> {
        let file = disk.open(path, OpenMode::Read).map_err(ExportError::io("open", path))?;
        let bytes = file.len().map_err(ExportError::io("measure", path))?;
        let mut prefix = [0; PREFIX_BYTES];
        let count = file.read_at(0, &mut prefix).map_err(ExportError::io("read", path))?;
        if count < PREFIX_BYTES || !head::is_head(&prefix) {
            let group = ExportReader::open(disk, path)?.header().group;
            return Ok(Self { path: path.to_owned(), head: None, group, parts_at: 0 });
        }
        let refused = |bad| match bad {
            BadHead::Damaged(why) => ExportError::damaged(path, 0, why),
            BadHead::Newer(found) => {
                ExportError::Newer { path: path.to_owned(), found, known: BACKUP_VERSION }
            }
        };
        let length = head::length_in(&prefix).map_err(refused)?;
        let mut encoded = vec![0; length];
        let count = file.read_at(0, &mut encoded).map_err(ExportError::io("read", path))?;
        if count < length {
            return Err(ExportError::damaged(path, 0, "the file is shorter than its head"));
        }
        let head = head::decode(&encoded).map_err(refused)?;
        let parts =
            head.parts.iter().try_fold(length as u64, |at, part| at.checked_add(part.bytes));
        if parts != Some(bytes) {
            let why = format!("the file has {bytes} bytes, which is not what its head says");
            return Err(ExportError::damaged(path, 0, why));
        }
        let (group, parts_at) = (GroupId::DATA, length as u64);
        Ok(Self { path: path.to_owned(), head: Some(head), group, parts_at })
    }

    /// What it says of itself; `None` for a plain export.
    #[must_use]
    pub fn head(&self) -> Option<&log::BackupHead> {
        self.head.as_ref()
    }

    /// Length of the head, in bytes; none for a plain export.
    #[must_use]
    pub const fn head_bytes(&self) -> u64 {
        self.parts_at
    }

    /// The groups of which it holds an export, ascending.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        match &self.head {
            Some(head) => head.parts.iter().map(|part| GroupId(part.group)).collect(),
            None => vec![self.group],
        }
    }

    /// A reader of the export of a group; `None` where it holds none.
    ///
    /// # Errors
    /// Those of [`ExportReader::open`], and [`ExportError::Damaged`] when the part is not the one that the head
    /// names.
    pub fn reader(
        &self,
        disk: &dyn Disk,
        group: GroupId,
    ) -> Result<Option<ExportReader>, ExportError> {
        let Some(head) = &self.head else {
            let is_it = self.group == group;
            return is_it.then(|| ExportReader::open(disk, &self.path)).transpose();
        };
        let mut at = self.parts_at;
        for part in &head.parts {
            if part.group != group.get() {
                at += part.bytes;
                continue;
            }
            let reader = ExportReader::open_part(disk, &self.path, at, part.bytes)?;
            let (header, found) = (reader.header(), reader.describe());
            let is_named = header.group == group
                && header.cluster.0[..] == head.cluster[..]
                && header.epoch <= head.epoch
                && found.sha256[..] == part.sha256[..];
            if !is_named {
                let why = format!("the export of group {group} is not the one that the head names");
                return Err(ExportError::damaged(&self.path, at, why));
            }
            return Ok(Some(reader));
        }
        Ok(None)
    }
}
