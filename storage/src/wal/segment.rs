//! Segment files: their names and headers.
//!
//! ```text
//! 0      8  magic
//! 8      4  format version
//! 12     4  zero
//! 16    16  cluster id
//! 32     8  number of the segment
//! 40     8  length of the file
//! 48     4  CRC32C of bytes 0 to 47
//! 52        zero up to 4096, where the first batch begins
//! ```
//!
//! Numbers are little-endian. Magic, version and checksum stay where they are in every later
//! version, so that an older program can tell a newer log from a damaged one.

use std::io;
use std::path::{Path, PathBuf};

use proto::ClusterId;

use super::error::WalError;
use crate::disk::{Disk, DiskFile};

/// Version of the format that this program writes, and the newest that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Where the first batch of a segment begins. A page of its own: writing batches never touches
/// the page of the header.
pub(super) const DATA_START: u64 = 4096;

const MAGIC: [u8; 8] = *b"kvst-wal";
const CRC_AT: usize = 48;
const HEADER_BYTES: usize = CRC_AT + 4;
const NAME_PREFIX: &str = "wal-";
const NAME_SUFFIX: &str = ".seg";
const UNFINISHED_SUFFIX: &str = ".new";

/// A segment that batches are written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    /// Length of the file.
    pub(super) bytes: u64,
    /// Where the next batch goes. From here on the file is zero.
    pub(super) end: u64,
}

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster: ClusterId,
    pub(super) number: u64,
    /// Length of the file.
    pub(super) bytes: u64,
}

/// Why a header is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    Foreign(String),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.bytes.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        assert_eq!(bytes.len(), HEADER_BYTES, "the layout of the header");
        bytes
    }

    /// Reads the header of segment `number` of `cluster`, whose file is `file` whole.
    pub(super) fn check(file: &[u8], number: u64, cluster: ClusterId) -> Result<Self, BadHeader> {
        let Some(bytes) = file.get(..HEADER_BYTES) else {
            return Err(BadHeader::Damaged("the file is shorter than a header"));
        };
        let word = |at: usize| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
        };
        let half = |at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
        };
        if bytes[..8] != MAGIC {
            return Err(BadHeader::Damaged("the header does not begin as one"));
        }
        if half(CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT]) {
            return Err(BadHeader::Damaged("the checksum of the header does not match"));
        }
        let version = half(8);
        if version > FORMAT_VERSION {
            return Err(BadHeader::Foreign(format!(
                "format version {version} is newer than {FORMAT_VERSION}, the newest this program \
                 reads; start the version that wrote it"
            )));
        }
        let found = ClusterId::from_slice(&bytes[16..32]).expect("a slice of sixteen bytes");
        if found != cluster {
            return Err(BadHeader::Foreign(format!(
                "it belongs to cluster {found}, this node to cluster {cluster}; use the directory \
                 of this cluster"
            )));
        }
        let header = Self { cluster: found, number: word(32), bytes: word(40) };
        if header.number != number {
            return Err(BadHeader::Damaged("the header carries the number of another segment"));
        }
        if header.bytes != file.len() as u64 {
            return Err(BadHeader::Damaged("the file has not the length that its header names"));
        }
        if header.bytes <= DATA_START || !header.bytes.is_multiple_of(DATA_START) {
            return Err(BadHeader::Damaged("no segment has the length that the header names"));
        }
        Ok(header)
    }
}

/// Path of a segment.
pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{NAME_PREFIX}{number:016x}{NAME_SUFFIX}"))
}

/// Path of a segment that is still being prepared.
pub(super) fn unfinished_path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{NAME_PREFIX}{number:016x}{UNFINISHED_SUFFIX}"))
}

/// Whether a name is that of a segment that is still being prepared.
pub(super) fn is_unfinished(name: &str) -> bool {
    number_in(name, UNFINISHED_SUFFIX).is_some()
}

/// Numbers of the segments in a directory, ascending.
pub(super) fn numbers_in(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let names = disk.list(dir)?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| number_in(name, NAME_SUFFIX)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number in a name; `None` unless the name is exactly what we would write.
fn number_in(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME_PREFIX)?.strip_suffix(suffix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (digits == format!("{number:016x}")).then_some(number)
}

/// Reads a whole segment into memory.
pub(super) fn read_whole(file: &dyn DiskFile, path: &Path) -> Result<Vec<u8>, WalError> {
    let len = file.len().map_err(WalError::io("measure", path))?;
    let len = usize::try_from(len).map_err(|_| {
        WalError::damaged(path, 0, "the file is longer than the memory of this machine")
    })?;
    let mut bytes = vec![0; len];
    let count = file.read_at(0, &mut bytes).map_err(WalError::io("read", path))?;
    bytes.truncate(count);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: ClusterId = ClusterId([7; 16]);

    fn file() -> Vec<u8> {
        let mut file = Header { cluster: OURS, number: 9, bytes: 8192 }.encode();
        file.resize(8192, 0);
        file
    }

    #[test]
    fn headers_round_trip() {
        let header = Header::check(&file(), 9, OURS).unwrap();
        assert_eq!(header, Header { cluster: OURS, number: 9, bytes: 8192 });
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_damage() {
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = file();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let bad = Header::check(&bytes, 9, OURS).unwrap_err();
            assert!(matches!(bad, BadHeader::Damaged(_)), "bit {bit}: {bad:?}");
        }
    }

    #[test]
    fn misplaced_and_cut_files_are_damage_and_others_foreign() {
        let damaged = |bytes: &[u8], number| {
            matches!(Header::check(bytes, number, OURS), Err(BadHeader::Damaged(_)))
        };
        assert!(damaged(&file(), 10));
        assert!(damaged(&file()[..8191], 9));
        assert!(damaged(&file()[..20], 9));
        let foreign = Header::check(&file(), 9, ClusterId([8; 16])).unwrap_err();
        assert!(matches!(foreign, BadHeader::Foreign(why) if why.contains("0707")));
        let mut newer = file();
        newer[8] = 2;
        let crc = crc32c::crc32c(&newer[..CRC_AT]);
        newer[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        let foreign = Header::check(&newer, 9, OURS).unwrap_err();
        assert!(matches!(foreign, BadHeader::Foreign(why) if why.contains("version 2")));
    }

    #[test]
    fn only_exact_names_are_segments() {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let segment = name(path_of(Path::new("/w"), 0x1f));
        assert_eq!(segment, "wal-000000000000001f.seg");
        assert_eq!(number_in(&segment, NAME_SUFFIX), Some(0x1f));
        assert!(is_unfinished(&name(unfinished_path_of(Path::new("/w"), 3))));
        for other in ["wal-1f.seg", "wal-000000000000001F.seg", "wal-+00000000000001f.seg", "x"] {
            assert_eq!(number_in(other, NAME_SUFFIX), None, "{other}");
        }
        assert!(!is_unfinished(&segment));
    }
}
