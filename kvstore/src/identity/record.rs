//! A small file that is written whole or not at all, and recognised when it is not what it was.
//!
//! ```text
//! 8 bytes   magic, one per kind of file
//! 4 bytes   format version, little-endian
//! 4 bytes   length of the body, little-endian
//! n bytes   body: one protobuf message
//! 4 bytes   CRC32C over all before
//! ```

use std::io::ErrorKind;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use prost::Message;
use storage::disk::{Disk, OpenMode};

use super::error::DataDirError;

const HEADER_BYTES: usize = 16;
const CRC_BYTES: usize = 4;
/// Longest body. A member list of the largest cluster has far less.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Ends the name of a file that is being written; such a file is never read.
const TEMPORARY: &str = ".new";

/// A kind of file with a body of type `M`.
pub(super) struct Record<M> {
    pub(super) name: &'static str,
    pub(super) magic: [u8; 8],
    pub(super) version: u32,
    pub(super) body: PhantomData<M>,
}

impl<M: Message + Default> Record<M> {
    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(self.name)
    }

    /// Reads the file; `None` when there is none.
    pub(super) fn read(
        &self,
        disk: &dyn Disk,
        directory: &Path,
    ) -> Result<Option<M>, DataDirError> {
        let path = self.path(directory);
        let failed = |source| DataDirError::Io { path: path.clone(), source };
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let bytes_max = HEADER_BYTES + BODY_BYTES_MAX + CRC_BYTES;
        let len = file.len().map_err(failed)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(bytes_max + 1);
        let mut bytes = vec![0; len];
        let read = file.read_at(0, &mut bytes).map_err(failed)?;
        bytes.truncate(read);
        self.decode(&path, &bytes).map(Some)
    }

    /// Replaces the file; durable on return. A crash before that leaves the old one.
    pub(super) fn write(
        &self,
        disk: &dyn Disk,
        directory: &Path,
        body: &M,
    ) -> Result<(), DataDirError> {
        let path = self.path(directory);
        let temporary = directory.join(format!("{}{TEMPORARY}", self.name));
        let failed = |source| DataDirError::Io { path: path.clone(), source };
        match disk.remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = disk.open(&temporary, OpenMode::CreateNew).map_err(failed)?;
        file.write_at(0, &self.encode(body)).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        drop(file);
        disk.rename(&temporary, &path).map_err(failed)?;
        disk.sync_dir(directory).map_err(failed)
    }

    fn encode(&self, body: &M) -> Vec<u8> {
        let len = body.encoded_len();
        assert!(len <= BODY_BYTES_MAX, "a body of {len} bytes for {}", self.name);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + len + CRC_BYTES);
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(len).expect("bounded above").to_le_bytes());
        body.encode(&mut bytes).expect("a Vec grows");
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(&self, path: &Path, bytes: &[u8]) -> Result<M, DataDirError> {
        let damaged =
            |why: &str| DataDirError::Damaged { path: path.to_owned(), why: why.to_owned() };
        let foreign = |why: String| DataDirError::Foreign { path: path.to_owned(), why };
        let word = |at: usize| {
            let bytes: Option<[u8; 4]> =
                bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
            bytes.map(u32::from_le_bytes).ok_or_else(|| damaged("is too short"))
        };
        // A newer version may have another layout behind its header, so it is asked first. If it
        // is a damaged byte that says so, the file is refused all the same.
        let version = word(8)?;
        if bytes[..8] != self.magic {
            return Err(foreign("is not a file of this kind".to_owned()));
        }
        if version != self.version {
            let known = self.version;
            let why = format!("has format {version}; this version reads format {known}");
            return Err(foreign(why));
        }
        let end = HEADER_BYTES + word(12)? as usize;
        if end > HEADER_BYTES + BODY_BYTES_MAX || bytes.len() != end + CRC_BYTES {
            return Err(damaged("has the wrong length"));
        }
        if word(end)? != crc32c::crc32c(&bytes[..end]) {
            return Err(damaged("does not match its checksum"));
        }
        M::decode(&bytes[HEADER_BYTES..end]).map_err(|_| damaged("cannot be decoded"))
    }
}
