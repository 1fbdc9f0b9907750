//! Receiving an export from a peer.

use std::collections::BTreeMap;

use proto::{GroupId, LogIndex};
use storage::export::{self, ExportFile, PartFile};

use super::DataFiles;

/// What is being received, one export a group.
#[derive(Debug)]
pub struct Receiver {
    files: DataFiles,
    parts: BTreeMap<GroupId, (LogIndex, PartFile)>,
}

impl Receiver {
    /// Nothing is being received.
    #[must_use]
    pub fn new(files: DataFiles) -> Self {
        Self { files, parts: BTreeMap::new() }
    }

    /// Begins an export; what was received of another one of the group is dropped.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn begin(
        &mut self,
        group: GroupId,
        index: LogIndex,
        bytes: u64,
        sha256: [u8; 32],
    ) -> Result<(), String> {
        self.discard(group);
        let path = export::path_of(&self.files.exports_dir(), group, index);
        let part = PartFile::create(self.files.disk.clone(), &path, bytes, sha256)
            .map_err(|error| error.to_string())?;
        self.parts.insert(group, (index, part));
        Ok(())
    }

    /// Writes a chunk. False when it is none of what is being received, or comes before its turn:
    /// then it has to be sent again.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn write(
        &mut self,
        group: GroupId,
        index: LogIndex,
        offset: u64,
        data: &[u8],
    ) -> Result<bool, String> {
        match self.parts.get_mut(&group) {
            Some((receiving, part)) if *receiving == index => {
                let received = part.write_at(offset, data).map_err(|error| error.to_string())?;
                Ok(received >= offset + data.len() as u64)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Everything is written: verifies the export and makes it one of this node's own, durably.
    ///
    /// # Errors
    /// What does not verify or cannot be written; the export is dropped.
    pub fn finish(&mut self, group: GroupId, index: LogIndex) -> Result<ExportFile, String> {
        let (receiving, mut part) = self.parts.remove(&group).ok_or("nothing is being received")?;
        if receiving != index {
            return Err(format!("{receiving} is being received, not {index}"));
        }
        let file = match part.finish() {
            Ok(file) => file,
            Err(error) => {
                give_up(part);
                return Err(error.to_string());
            }
        };
        let path = file.path.clone();
        let header = &file.header;
        if header.cluster != self.files.cluster || header.group != group || header.index != index {
            let why = format!("{} is an export of something else", path.display());
            self.files.disk.remove_file(&path).map_err(|error| format!("{why}; {error}"))?;
            return Err(why);
        }
        Ok(file)
    }

    /// Drops what was received of this group.
    pub fn discard(&mut self, group: GroupId) {
        if let Some((_, part)) = self.parts.remove(&group) {
            give_up(part);
        }
    }
}

/// What is left is swept by the next start.
fn give_up(part: PartFile) {
    if let Err(error) = part.discard() {
        tracing::warn!(%error, "what was received of a snapshot cannot be removed");
    }
}
