//! Chunks: records that are verified together.
//!
//! ```text
//! 0      4  magic
//! 4      4  CRC32C of the seed of the export and bytes 8 to the end of the records
//! 8      8  number of the chunk, counted from 0
//! 16     4  length of the records in bytes, at least 1
//! 20        records, each a varint length and a `kv.log.v1.ExportRecord`
//! ```

use prost::Message;
use proto::log;

use super::writer::RECORD_BYTES_MAX;
use crate::numbers::{u32_at, u64_at};

/// Up to this many bytes of records are put into one chunk.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Length of a chunk's header.
pub(super) const CHUNK_HEADER_BYTES: usize = 20;
/// Most bytes of records in a chunk: one record of the largest size with its length.
pub(super) const PAYLOAD_BYTES_MAX: usize = RECORD_BYTES_MAX + 4;

const MAGIC: [u8; 4] = *b"kvec";
const CRC_AT: usize = 4;
const COVERED_FROM: usize = 8;

/// A chunk under construction: records behind room for the header.
#[derive(Debug)]
pub(super) struct OpenChunk {
    bytes: Vec<u8>,
    records: u64,
}

impl OpenChunk {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; CHUNK_HEADER_BYTES], records: 0 }
    }

    /// Whether `record` has to go into the next chunk.
    pub(super) fn is_full_for(&self, record: &log::ExportRecord) -> bool {
        let length = record.encoded_len();
        let bytes = length + prost::length_delimiter_len(length);
        self.records > 0 && self.bytes.len() - CHUNK_HEADER_BYTES + bytes > CHUNK_BYTES
    }

    pub(super) fn push(&mut self, record: &log::ExportRecord) {
        record.encode_length_delimited(&mut self.bytes).expect("a vector grows to hold a record");
        self.records += 1;
    }

    /// How many records it holds.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Fills in the header; the result is ready to be written.
    pub(super) fn finish(&mut self, seed: u32, number: u64) -> &[u8] {
        let length = self.bytes.len() - CHUNK_HEADER_BYTES;
        assert!((1..=PAYLOAD_BYTES_MAX).contains(&length), "a chunk of {length} bytes");
        self.bytes[..4].copy_from_slice(&MAGIC);
        self.bytes[8..16].copy_from_slice(&number.to_le_bytes());
        self.bytes[16..20].copy_from_slice(&(length as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &self.bytes[COVERED_FROM..]);
        self.bytes[CRC_AT..COVERED_FROM].copy_from_slice(&crc.to_le_bytes());
        &self.bytes
    }

    /// Forgets the records and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.truncate(CHUNK_HEADER_BYTES);
        self.records = 0;
    }
}

/// Length of the chunk that begins with this header; not verified yet.
pub(super) fn length_in(header: &[u8; CHUNK_HEADER_BYTES]) -> Result<usize, &'static str> {
    if header[..4] != MAGIC {
        return Err("no chunk begins here");
    }
    let length = u32_at(header, 16) as usize;
    if (1..=PAYLOAD_BYTES_MAX).contains(&length) {
        Ok(CHUNK_HEADER_BYTES + length)
    } else {
        Err("no chunk has the length that this one names")
    }
}

/// Verifies a chunk, `bytes` being as long as [`length_in`] says, and decodes its records.
pub(super) fn decode(
    bytes: &[u8],
    seed: u32,
    number: u64,
) -> Result<Vec<log::ExportRecord>, String> {
    if u32_at(bytes, CRC_AT) != crc32c::crc32c_append(seed, &bytes[COVERED_FROM..]) {
        return Err("the checksum of the chunk does not match".to_owned());
    }
    let found = u64_at(bytes, 8);
    if found != number {
        return Err(format!("chunk {found} stands in the place of chunk {number}"));
    }
    // Owned bytes: a record may outlive the others, and must not keep them all in memory.
    let mut rest = &bytes[CHUNK_HEADER_BYTES..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let record = log::ExportRecord::decode_length_delimited(&mut rest)
            .map_err(|error| format!("a record does not decode: {error}"))?;
        if record.body.is_none() {
            return Err("a record has no known content".to_owned());
        }
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(index: u64) -> log::ExportRecord {
        let outcome = log::OutcomeState { index, record: vec![index as u8; 9].into() };
        log::ExportRecord { body: Some(log::export_record::Body::Outcome(outcome)) }
    }

    fn written(records: &[log::ExportRecord], seed: u32, number: u64) -> Vec<u8> {
        let mut open = OpenChunk::new();
        records.iter().for_each(|record| open.push(record));
        open.finish(seed, number).to_vec()
    }

    #[test]
    fn a_chunk_holds_for_one_place_in_one_export() {
        let bytes = written(&[record(1)], 5, 3);
        assert_eq!(decode(&bytes, 5, 3), Ok(vec![record(1)]));
        assert!(decode(&bytes, 6, 3).is_err());
        assert!(decode(&bytes, 5, 2).is_err());
        let mut moved = bytes;
        moved[8] = 2;
        assert!(decode(&moved, 5, 2).is_err(), "the number is covered by the checksum");
    }

    #[test]
    fn a_record_without_content_is_refused() {
        let bytes = written(&[record(1), log::ExportRecord { body: None }], 5, 0);
        assert!(decode(&bytes, 5, 0).is_err());
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_noticed(
            indexes in prop::collection::vec(any::<u64>(), 1..40),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let records: Vec<_> = indexes.iter().map(|index| record(*index)).collect();
            let bytes = written(&records, 7, 9);
            prop_assert_eq!(decode(&bytes, 7, 9), Ok(records));
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            let read = length_in(flipped.first_chunk().unwrap())
                .map_err(str::to_owned)
                .and_then(|length| flipped.get(..length).ok_or_else(|| "cut".to_owned()))
                .and_then(|bytes| decode(bytes, 7, 9));
            prop_assert!(read.is_err());
        }
    }
}
