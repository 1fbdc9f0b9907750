//! Segment files: their names and headers.
//!
//! ```text
//! 0      8  magic
//! 8      4  format version
//! 12     4  1 if the file was a segment before and was not cleared, else 0
//! 16    16  cluster id
//! 32     8  number of the segment
//! 40     8  length of the file
//! 48     4  CRC32C of bytes 0 to 47
//! 52        zero up to 4096, where the first batch begins
//! ```
//!
//! A file that was used before keeps, behind its header, the bytes of its earlier life. None of them
//! verifies as a batch: their checksums are seeded with another segment number.
//!
//! Numbers are little-endian. Magic, version and checksum stay where they are in every later
//! version, so that an older program can tell a newer log from a damaged one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use proto::{ClusterId, GroupId};

use super::error::WalError;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::numbers::{u32_at, u64_at};

/// Version of the format that this program writes, and the only one that it reads.
pub(super) const FORMAT_VERSION: u32 = 2;
/// Where the first batch of a segment begins. A page of its own: writing batches never touches
/// the page of the header.
pub(super) const DATA_START: u64 = 4096;

const MAGIC: [u8; 8] = *b"kvst-wal";
const CRC_AT: usize = 48;
const HEADER_BYTES: usize = CRC_AT + 4;
const NAME_PREFIX: &str = "wal-";
const NAME_SUFFIX: &str = ".seg";
const UNFINISHED_SUFFIX: &str = ".new";
const FREED_SUFFIX: &str = ".old";
/// What is read at a time where the disk does not give the whole file.
const READ_PAGE_BYTES: usize = 4096;

/// A segment that batches are written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    /// Length of the file.
    pub(super) bytes: u64,
    /// Where the next batch goes. From here on nothing verifies as a batch of this segment.
    pub(super) end: u64,
    /// Highest index of the entries of each group that has some here.
    pub(super) highest: BTreeMap<GroupId, u64>,
}

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster: ClusterId,
    pub(super) number: u64,
    /// Length of the file.
    pub(super) bytes: u64,
    /// The file was a segment before and keeps what it held.
    pub(super) recycled: bool,
}

/// A segment as the disk gives it.
#[derive(Debug)]
pub(super) struct Image {
    /// The whole file, zero where it cannot be read.
    pub(super) bytes: Vec<u8>,
    /// Pages `[from, to)` that cannot be read, ascending.
    pub(super) unreadable: Vec<(u64, u64)>,
}

impl Image {
    /// Whether the disk failed to read something in `[from, to)`.
    pub(super) fn is_unreadable(&self, from: u64, to: u64) -> bool {
        self.unreadable.iter().any(|page| page.0 < to && page.1 > from)
    }
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
        bytes.extend_from_slice(&u32::from(self.recycled).to_le_bytes());
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.bytes.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        assert_eq!(bytes.len(), HEADER_BYTES, "the layout of the header");
        bytes
    }

    /// Whether the end of a segment is missing, or may be: the file has not the length that its header
    /// names, or one that no segment has.
    pub(super) fn is_cut(file: &[u8]) -> bool {
        let named = file
            .get(..HEADER_BYTES)
            .filter(|bytes| bytes[CRC_AT..] == crc32c::crc32c(&bytes[..CRC_AT]).to_le_bytes());
        match named.map(|bytes| u64_at(bytes, 40)) {
            Some(length) => length != file.len() as u64,
            None => !(file.len() as u64).is_multiple_of(DATA_START),
        }
    }

    /// Reads the header of segment `number` of `cluster`, whose file is `file` whole.
    pub(super) fn check(file: &[u8], number: u64, cluster: ClusterId) -> Result<Self, BadHeader> {
        let Some(bytes) = file.get(..HEADER_BYTES) else {
            return Err(BadHeader::Damaged("the file is shorter than a header"));
        };
        if bytes[..8] != MAGIC {
            return Err(BadHeader::Damaged("the header does not begin as one"));
        }
        if u32_at(bytes, CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT]) {
            return Err(BadHeader::Damaged("the checksum of the header does not match"));
        }
        let version = u32_at(bytes, 8);
        if version != FORMAT_VERSION {
            let age = if version > FORMAT_VERSION { "newer" } else { "older" };
            return Err(BadHeader::Foreign(format!(
                "format version {version} is {age} than {FORMAT_VERSION}, the only one that this \
                 program reads; start the version that wrote it"
            )));
        }
        let found = ClusterId::from_slice(&bytes[16..32]).expect("a slice of sixteen bytes");
        if found != cluster {
            return Err(BadHeader::Foreign(format!(
                "it belongs to cluster {found}, this node to cluster {cluster}; use the directory \
                 of this cluster"
            )));
        }
        let recycled = u32_at(bytes, 12) != 0;
        let header =
            Self { cluster: found, number: u64_at(bytes, 32), bytes: u64_at(bytes, 40), recycled };
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

/// Path of a segment that was freed and waits for its next use.
pub(super) fn freed_path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{NAME_PREFIX}{number:016x}{FREED_SUFFIX}"))
}

/// Whether a name is that of a segment that was freed.
pub(super) fn is_freed(name: &str) -> bool {
    number_in(name, FREED_SUFFIX).is_some()
}

/// Whether a name is that of a file of a log, of whatever kind.
pub(super) fn is_ours(name: &str) -> bool {
    number_in(name, NAME_SUFFIX).is_some() || is_unfinished(name) || is_freed(name)
}

/// Numbers of the segments in a directory, ascending.
pub(super) fn numbers_in(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let names = disk.list(dir)?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| number_in(name, NAME_SUFFIX)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Numbers of the segments of a log, ascending and at least one.
///
/// # Errors
/// [`WalError::Io`], also when there is no log.
pub(super) fn numbers_of_log(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, WalError> {
    let numbers = numbers_in(disk, dir).map_err(WalError::io("list", dir))?;
    if numbers.is_empty() {
        let absent = io::Error::new(io::ErrorKind::NotFound, "there is no log");
        return Err(WalError::io("open the log in", dir)(absent));
    }
    Ok(numbers)
}

/// The number in a name; `None` unless the name is exactly what we would write.
fn number_in(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME_PREFIX)?.strip_suffix(suffix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (digits == format!("{number:016x}")).then_some(number)
}

/// Reads a whole segment, as far as the disk gives it, into memory that may have been used before.
///
/// # Errors
/// [`WalError::Io`] if the file cannot be opened at all.
pub(super) fn read_image(
    disk: &dyn Disk,
    path: &Path,
    mut bytes: Vec<u8>,
) -> Result<Image, WalError> {
    let file = disk.open(path, OpenMode::Read).map_err(WalError::io("open", path))?;
    let len = file.len().map_err(WalError::io("measure", path))?;
    let len = usize::try_from(len).map_err(|_| {
        WalError::damaged(path, 0, "the file is longer than the memory of this machine")
    })?;
    if bytes.capacity() < len {
        // Memory that is zero already costs nothing before it is used.
        bytes = vec![0; len];
    }
    bytes.resize(len, 0);
    if let Ok(count) = file.read_at(0, &mut bytes) {
        bytes.truncate(count);
        return Ok(Image { bytes, unreadable: Vec::new() });
    }
    let mut unreadable: Vec<(u64, u64)> = Vec::new();
    for from in (0..len).step_by(READ_PAGE_BYTES) {
        let to = (from + READ_PAGE_BYTES).min(len);
        if file.read_at(from as u64, &mut bytes[from..to]).is_ok() {
            continue;
        }
        bytes[from..to].fill(0);
        match unreadable.last_mut() {
            Some(last) if last.1 == from as u64 => last.1 = to as u64,
            Some(_) | None => unreadable.push((from as u64, to as u64)),
        }
    }
    Ok(Image { bytes, unreadable })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: ClusterId = ClusterId([7; 16]);

    fn file() -> Vec<u8> {
        let header = Header { cluster: OURS, number: 9, bytes: 8192, recycled: false };
        let mut file = header.encode();
        file.resize(8192, 0);
        file
    }

    #[test]
    fn headers_round_trip() {
        for recycled in [false, true] {
            let header = Header { cluster: OURS, number: 9, bytes: 8192, recycled };
            let mut file = header.encode();
            file.resize(8192, 0xee);
            assert_eq!(Header::check(&file, 9, OURS).unwrap(), header);
        }
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
        for (version, age) in [(1, "version 1 is older"), (3, "version 3 is newer")] {
            let mut other = file();
            other[8] = version;
            let crc = crc32c::crc32c(&other[..CRC_AT]);
            other[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
            let foreign = Header::check(&other, 9, OURS).unwrap_err();
            assert!(matches!(foreign, BadHeader::Foreign(why) if why.contains(age)));
        }
    }

    #[test]
    fn only_exact_names_are_segments() {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let segment = name(path_of(Path::new("/w"), 0x1f));
        assert_eq!(segment, "wal-000000000000001f.seg");
        assert_eq!(number_in(&segment, NAME_SUFFIX), Some(0x1f));
        assert!(is_unfinished(&name(unfinished_path_of(Path::new("/w"), 3))));
        assert!(is_freed(&name(freed_path_of(Path::new("/w"), 3))));
        for other in ["wal-1f.seg", "wal-000000000000001F.seg", "wal-+00000000000001f.seg", "x"] {
            assert_eq!(number_in(other, NAME_SUFFIX), None, "{other}");
        }
        assert!(!is_unfinished(&segment) && !is_freed(&segment) && is_ours(&segment));
    }
}
