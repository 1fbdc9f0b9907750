//! The trailer: the last bytes of an export.
//!
//! ```text
//! 0      8  number of chunks
//! 8      8  number of records
//! 16    32  SHA-256 of all bytes of the file before this field
//! 48     4  CRC32C of the seed of the export and bytes 0 to 47
//! 52     8  magic
//! ```

use sha2::{Digest, Sha256};

use crate::numbers::u64_at;

/// Length of the trailer.
pub(super) const TRAILER_BYTES: usize = 60;

const MAGIC: [u8; 8] = *b"kvst-end";
const SHA_AT: usize = 16;
const CRC_AT: usize = 48;
const MAGIC_AT: usize = 52;

/// What stands in the trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) chunks: u64,
    pub(super) records: u64,
    pub(super) sha256: [u8; 32],
}

impl Trailer {
    /// The trailer of a file; `before` has been fed all that stands in front of it.
    pub(super) fn new(chunks: u64, records: u64, before: &Sha256) -> Self {
        let mut hash = before.clone();
        hash.update(chunks.to_le_bytes());
        hash.update(records.to_le_bytes());
        Self { chunks, records, sha256: hash.finalize().into() }
    }

    pub(super) fn encode(&self, seed: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_BYTES);
        bytes.extend_from_slice(&self.chunks.to_le_bytes());
        bytes.extend_from_slice(&self.records.to_le_bytes());
        bytes.extend_from_slice(&self.sha256);
        bytes.extend_from_slice(&crc32c::crc32c_append(seed, &bytes).to_le_bytes());
        bytes.extend_from_slice(&MAGIC);
        assert_eq!(bytes.len(), TRAILER_BYTES, "the layout of the trailer");
        bytes
    }

    /// Reads a trailer; whether it belongs to the content in front of it is left to the caller.
    pub(super) fn decode(bytes: &[u8; TRAILER_BYTES], seed: u32) -> Result<Self, &'static str> {
        if bytes[MAGIC_AT..] != MAGIC {
            return Err("it does not end as an export does");
        }
        let crc = crc32c::crc32c_append(seed, &bytes[..CRC_AT]).to_le_bytes();
        if bytes[CRC_AT..MAGIC_AT] != crc {
            return Err("the checksum of the trailer does not match");
        }
        let sha256 = bytes[SHA_AT..CRC_AT].try_into().expect("a slice of 32 bytes");
        Ok(Self { chunks: u64_at(bytes, 0), records: u64_at(bytes, 8), sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_round_trip_and_notice_every_flipped_bit() {
        let trailer = Trailer::new(3, 900, &Sha256::new_with_prefix(b"before"));
        let bytes: [u8; TRAILER_BYTES] = trailer.encode(5).try_into().unwrap();
        assert_eq!(Trailer::decode(&bytes, 5), Ok(trailer));
        assert!(Trailer::decode(&bytes, 6).is_err(), "of another export");
        for bit in 0..TRAILER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::decode(&flipped, 5).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_hash_covers_content_and_counts() {
        let hashes = [(3, 900, b"a"), (4, 900, b"a"), (3, 901, b"a"), (3, 900, b"b")].map(
            |(chunks, records, before)| {
                Trailer::new(chunks, records, &Sha256::new_with_prefix(before)).sha256
            },
        );
        for (n, hash) in hashes.iter().enumerate() {
            assert!(!hashes[n + 1..].contains(hash));
        }
    }
}
