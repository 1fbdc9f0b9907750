//! The header of an export.
//!
//! ```text
//! 0      8  magic
//! 8      4  format version
//! 12     4  length of the header, n
//! 16    16  cluster id
//! 32     8  data epoch
//! 40     8  group
//! 48     8  log index
//! 56     8  term of that index
//! 64     8  number of the membership change that the members include
//! 72        members, a `kv.log.v1.ConfState`
//! n - 4  4  CRC32C of bytes 0 to n - 5
//! ```
//!
//! Numbers are little-endian. Magic, version, length and checksum stay where they are in every later
//! version, so that an older program can tell a newer export from a damaged one.

use prost::Message;
use proto::{ClusterId, GroupId, LogIndex, Term, log};
use sha2::{Digest, Sha256};

use crate::numbers::{u32_at, u64_at};

/// Version of the format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// How much of a file tells the length of the header.
pub(super) const PREFIX_BYTES: usize = 16;
/// Longest header: room for some thousand members.
pub(super) const HEADER_BYTES_MAX: usize = 64 * 1024;

const MAGIC: [u8; 8] = *b"kvst-exp";
const CONF_AT: usize = 72;
const CRC_BYTES: usize = 4;

/// Whose state an export holds, and as of when.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportHeader {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The data epoch of that cluster: one higher with every restore or recovery.
    pub epoch: u64,
    /// The group whose state this is.
    pub group: GroupId,
    /// The last log entry that the state includes.
    pub index: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// The members of the group as of `index`.
    pub conf_state: log::ConfState,
    /// `conf_state` carries out the membership changes of group 0 up to this one.
    pub change: u64,
}

/// Why a header is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    Newer(u32),
}

impl ExportHeader {
    /// The bytes of the header.
    ///
    /// # Panics
    /// When the members do not fit into a header, which no configuration of ours comes near.
    pub(super) fn encode(&self) -> Vec<u8> {
        let conf = self.conf_state.encode_to_vec();
        let length = CONF_AT + conf.len() + CRC_BYTES;
        assert!(length <= HEADER_BYTES_MAX, "a header of {length} bytes");
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        bytes.extend_from_slice(&self.cluster.0);
        for number in [self.epoch, self.group.get(), self.index.get(), self.term.get(), self.change]
        {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(bytes.len(), CONF_AT, "the layout of the header");
        bytes.extend_from_slice(&conf);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// The length of the header whose first bytes these are; not verified yet.
    pub(super) fn length_in(prefix: &[u8; PREFIX_BYTES]) -> Result<usize, BadHeader> {
        if prefix[..8] != MAGIC {
            return Err(BadHeader::Damaged("it does not begin as an export does"));
        }
        let length = u32_at(prefix, 12) as usize;
        if (PREFIX_BYTES + CRC_BYTES..=HEADER_BYTES_MAX).contains(&length) {
            Ok(length)
        } else {
            Err(BadHeader::Damaged("no header has the length that it names"))
        }
    }

    /// Reads a header; `bytes` is as long as [`ExportHeader::length_in`] says.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let covered = bytes.len() - CRC_BYTES;
        if u32_at(bytes, covered) != crc32c::crc32c(&bytes[..covered]) {
            return Err(BadHeader::Damaged("the checksum of the header does not match"));
        }
        let format = u32_at(bytes, 8);
        if format > FORMAT_VERSION {
            return Err(BadHeader::Newer(format));
        }
        if format == 0 || covered < CONF_AT {
            return Err(BadHeader::Damaged("no header of ours has this form"));
        }
        let conf_state = log::ConfState::decode(&bytes[CONF_AT..covered])
            .map_err(|_| BadHeader::Damaged("the members do not decode"))?;
        Ok(Self {
            cluster: ClusterId::from_slice(&bytes[16..32]).expect("a slice of sixteen bytes"),
            epoch: u64_at(bytes, 32),
            group: GroupId(u64_at(bytes, 40)),
            index: LogIndex(u64_at(bytes, 48)),
            term: Term(u64_at(bytes, 56)),
            change: u64_at(bytes, 64),
            conf_state,
        })
    }
}

/// What the checksums of chunks and trailer begin with, so that those of another export fail.
///
/// Not the checksum of the header itself: over bytes that end in their own checksum, CRC32C is the
/// same for all headers.
pub(super) fn seed_of(header: &[u8]) -> u32 {
    crc32c::crc32c(&Sha256::digest(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> ExportHeader {
        ExportHeader {
            cluster: ClusterId([7; 16]),
            epoch: 2,
            group: GroupId(1),
            index: LogIndex(300),
            term: Term(4),
            conf_state: log::ConfState {
                voters: vec![u64::MAX, 2, 3],
                learners: vec![4],
                voters_outgoing: vec![5],
                learners_next: vec![6],
                auto_leave: true,
            },
            change: 9,
        }
    }

    fn read(bytes: &[u8]) -> Result<ExportHeader, BadHeader> {
        let length = ExportHeader::length_in(bytes.first_chunk().unwrap())?;
        let bytes = bytes.get(..length).ok_or(BadHeader::Damaged("too short"))?;
        ExportHeader::decode(bytes)
    }

    #[test]
    fn headers_round_trip() {
        assert_eq!(read(&header().encode()), Ok(header()));
        let plain = ExportHeader { conf_state: log::ConfState::default(), ..header() };
        assert_eq!(read(&plain.encode()), Ok(plain));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_damage() {
        let bytes = header().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&flipped), Err(BadHeader::Damaged(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_header_is_told_from_a_damaged_one() {
        // Only what every later version keeps: magic, version, length and checksum.
        let mut newer = MAGIC.to_vec();
        newer.extend_from_slice(&7_u32.to_le_bytes());
        newer.extend_from_slice(&24_u32.to_le_bytes());
        newer.extend_from_slice(b"else");
        newer.extend_from_slice(&crc32c::crc32c(&newer).to_le_bytes());
        assert_eq!(read(&newer), Err(BadHeader::Newer(7)));
    }

    #[test]
    fn seeds_differ_with_every_field() {
        let ours = seed_of(&header().encode());
        let others = [
            ExportHeader { cluster: ClusterId([8; 16]), ..header() },
            ExportHeader { epoch: 3, ..header() },
            ExportHeader { group: GroupId(2), ..header() },
            ExportHeader { index: LogIndex(301), ..header() },
            ExportHeader { term: Term(5), ..header() },
            ExportHeader { change: 10, ..header() },
            ExportHeader { conf_state: log::ConfState::default(), ..header() },
        ];
        for other in others {
            assert_ne!(seed_of(&other.encode()), ours, "{other:?}");
        }
    }
}
