//! Putting an export where a node of a new cluster starts from it.

use std::io;
use std::path::{Path, PathBuf};

use storage::disk::{Disk, DiskFile, OpenMode};

use crate::identity::SEED;

/// Its name while it is being copied.
pub(super) const UNFINISHED: &str = "seed.exp.new";

/// What is copied at a time.
const PORTION_BYTES: usize = 1024 * 1024;

/// Copies an export into a data directory; durable on return. A crash before that leaves no seed.
pub(super) fn copy(disk: &dyn Disk, from: &Path, directory: &Path) -> io::Result<PathBuf> {
    disk.create_dir_all(directory)?;
    let (unfinished, path) = (directory.join(UNFINISHED), directory.join(SEED));
    match disk.remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut target = disk.open(&unfinished, OpenMode::CreateNew)?;
    append(disk, from, &mut *target, 0)?;
    target.sync_data()?;
    drop(target);
    disk.rename(&unfinished, &path)?;
    disk.sync_dir(directory)?;
    Ok(path)
}

/// Writes the content of a file into another one, from `at` on. Answers where it ends.
pub(super) fn append(
    disk: &dyn Disk,
    from: &Path,
    target: &mut dyn DiskFile,
    at: u64,
) -> io::Result<u64> {
    let source = disk.open(from, OpenMode::Read)?;
    let (mut offset, mut portion) = (0, vec![0; PORTION_BYTES]);
    loop {
        let read = source.read_at(offset, &mut portion)?;
        if read == 0 {
            return Ok(at + offset);
        }
        target.write_at(at + offset, &portion[..read])?;
        offset += read as u64;
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use proto::log::export_record::Body;
    use proto::{ClusterId, GroupId, LogIndex, Term, log, v1};
    use std::sync::Arc;
    use storage::disk::RealDisk;
    use storage::export::{ExportHeader, ExportWriter};

    /// A small export of the data group.
    pub(in crate::offline) fn export(dir: &Path, name: &str) -> PathBuf {
        export_of(dir, name, GroupId::DATA)
    }

    /// A small export of any group.
    pub(in crate::offline) fn export_of(dir: &Path, name: &str, group: GroupId) -> PathBuf {
        let path = dir.join(name);
        let header = ExportHeader {
            cluster: ClusterId([3; 16]),
            epoch: 4,
            group,
            index: LogIndex(9),
            term: Term(2),
            conf_state: log::ConfState { voters: vec![1], ..log::ConfState::default() },
            change: 0,
        };
        let mut writer = ExportWriter::create(Arc::new(RealDisk), &path, header).unwrap();
        let descriptor = v1::Keyspace { id: 1, name: "default".into(), ..Default::default() };
        let keyspace = log::KeyspaceState {
            descriptor: Some(descriptor),
            revision: 7,
            ..log::KeyspaceState::default()
        };
        let record = log::ExportRecord { body: Some(Body::Keyspace(keyspace)) };
        writer.push(&record).unwrap();
        writer.finish().unwrap();
        path
    }
}
