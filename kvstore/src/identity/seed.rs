//! The export that a restored cluster starts from.

use std::io::{self, ErrorKind};
use std::path::Path;

use sha2::{Digest, Sha256};
use storage::disk::{Disk, OpenMode};

use super::error::DataDirError;

/// Its name in the data directory.
pub const SEED: &str = "seed.exp";
/// What is read at a time.
const PORTION_BYTES: usize = 1024 * 1024;

/// The SHA-256 of the seed of a data directory; `None` when there is none.
pub(super) fn sha256(disk: &dyn Disk, directory: &Path) -> Result<Option<[u8; 32]>, DataDirError> {
    let path = directory.join(SEED);
    match file_sha256(disk, &path) {
        Ok(hash) => Ok(Some(hash)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataDirError::Io { path, source }),
    }
}

/// The SHA-256 of a whole file, as `sha256sum` prints it.
///
/// # Errors
/// What the disk reports.
pub fn file_sha256(disk: &dyn Disk, path: &Path) -> io::Result<[u8; 32]> {
    let file = disk.open(path, OpenMode::Read)?;
    let mut hash = Sha256::new();
    let mut portion = vec![0; PORTION_BYTES];
    let mut offset = 0;
    loop {
        let read = file.read_at(offset, &mut portion)?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&portion[..read]);
        offset += read as u64;
    }
}
