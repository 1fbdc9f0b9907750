//! The head of a backup.
//!
//! ```text
//! 0      8  magic
//! 8      4  format version
//! 12     4  length of the head, n
//! 16        a `kv.log.v1.BackupHead`
//! n - 4  4  CRC32C of bytes 0 to n - 5
//! ```
//!
//! Numbers are little-endian. Magic, version, length and checksum stay where they are in every later version.

use prost::Message;
use proto::{ClusterId, log};

use crate::numbers::u32_at;

/// Version of the format that this program writes, and the newest that it reads.
pub const BACKUP_VERSION: u32 = 1;

/// How much of a file tells whether it has a head, and the length of it.
pub(super) const PREFIX_BYTES: usize = 16;
/// Longest head: room for the names of some thousand members.
const HEAD_BYTES_MAX: usize = 256 * 1024;

const MAGIC: [u8; 8] = *b"kvst-bak";
const CRC_BYTES: usize = 4;

/// Why a head is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    Damaged(&'static str),
    Newer(u32),
}

/// The bytes of a head, which come before the parts.
///
/// # Panics
/// When the names of the members do not fit into a head, which no cluster of ours comes near.
#[must_use]
pub fn encode_head(head: &log::BackupHead) -> Vec<u8> {
    let body = head.encode_to_vec();
    let length = PREFIX_BYTES + body.len() + CRC_BYTES;
    assert!(length <= HEAD_BYTES_MAX, "a head of {length} bytes");
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&BACKUP_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// Whether a file that begins so has a head.
pub(super) fn is_head(prefix: &[u8; PREFIX_BYTES]) -> bool {
    prefix[..8] == MAGIC
}

/// The length of the head whose first bytes these are; not verified yet.
pub(super) fn length_in(prefix: &[u8; PREFIX_BYTES]) -> Result<usize, BadHead> {
    let length = u32_at(prefix, 12) as usize;
    if (PREFIX_BYTES + CRC_BYTES..=HEAD_BYTES_MAX).contains(&length) {
        Ok(length)
    } else {
        Err(BadHead::Damaged("no head of a backup has the length that it names"))
    }
}

/// Reads a head; `bytes` is as long as [`length_in`] says.
pub(super) fn decode(bytes: &[u8]) -> Result<log::BackupHead, BadHead> {
    let covered = bytes.len() - CRC_BYTES;
    if u32_at(bytes, covered) != crc32c::crc32c(&bytes[..covered]) {
        return Err(BadHead::Damaged("the checksum of the head does not match"));
    }
    let format = u32_at(bytes, 8);
    if format > BACKUP_VERSION {
        return Err(BadHead::Newer(format));
    }
    let head = log::BackupHead::decode(&bytes[PREFIX_BYTES..covered])
        .map_err(|_| BadHead::Damaged("the head does not decode"))?;
    let has_form = format > 0
        && ClusterId::from_slice(&head.cluster).is_some()
        && !head.parts.is_empty()
        && head.parts.is_sorted_by(|one, next| one.group < next.group)
        && head.parts.iter().all(|part| part.sha256.len() == 32);
    if has_form { Ok(head) } else { Err(BadHead::Damaged("no head of ours has this form")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> log::BackupHead {
        let part = |group| log::BackupPart { group, bytes: 9, sha256: vec![7; 32].into() };
        log::BackupHead {
            cluster: vec![1; 16].into(),
            epoch: 3,
            node: "n1".into(),
            parts: vec![part(0), part(1), part(2)],
            covered: vec!["n1".into(), "n2".into()],
            missing: vec!["n3".into()],
        }
    }

    fn read(bytes: &[u8]) -> Result<log::BackupHead, BadHead> {
        let prefix = bytes.first_chunk().unwrap();
        if !is_head(prefix) {
            return Err(BadHead::Damaged("it has none"));
        }
        let length = length_in(prefix)?;
        decode(bytes.get(..length).ok_or(BadHead::Damaged("too short"))?)
    }

    #[test]
    fn heads_come_back_and_every_flipped_bit_is_noticed() {
        let bytes = encode_head(&head());
        assert_eq!(read(&bytes), Ok(head()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&flipped), Err(BadHead::Damaged(_))), "bit {bit}");
        }
    }

    #[test]
    fn what_no_head_of_ours_says_is_refused() {
        let mut unordered = head();
        unordered.parts.swap(0, 1);
        let mut without_parts = head();
        without_parts.parts.clear();
        let mut short_hash = head();
        short_hash.parts[1].sha256 = vec![7; 31].into();
        let mut foreign = head();
        foreign.cluster = vec![1; 15].into();
        for bad in [unordered, without_parts, short_hash, foreign] {
            assert!(matches!(read(&encode_head(&bad)), Err(BadHead::Damaged(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_newer_head_is_told_from_a_damaged_one() {
        let mut newer = MAGIC.to_vec();
        newer.extend_from_slice(&7_u32.to_le_bytes());
        newer.extend_from_slice(&24_u32.to_le_bytes());
        newer.extend_from_slice(b"else");
        newer.extend_from_slice(&crc32c::crc32c(&newer).to_le_bytes());
        assert_eq!(read(&newer), Err(BadHead::Newer(7)));
    }
}
