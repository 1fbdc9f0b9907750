//! Batches: what is written and synced as a whole.
//!
//! ```text
//! 0      4  magic
//! 4      4  CRC32C of bytes 8 to the end of the frames, seeded with both numbers
//! 8      8  number of the segment
//! 16     8  number of the batch
//! 24     4  length of the frames in bytes
//! 28     4  number of frames; the highest bit is set in a seal
//! 32        frames, each a varint length and a `kv.log.v1.Frame`
//!           zero up to the next sector
//! ```
//!
//! Batches begin at sectors and share none, so that writing a batch, torn or not, never touches
//! bytes that were synced before. A *seal* is a batch that holds the state of every group and
//! nothing else.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use proto::{GroupId, log};

use super::free::raise;
use super::outline::Outline;
use crate::numbers::{u32_at, u64_at};

/// What a disk writes as a whole; batches begin at multiples of it.
pub(super) const SECTOR_BYTES: u64 = 512;
/// Length of a batch's header.
pub(super) const BATCH_HEADER_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"kvwb";
/// Set in the number of frames of a seal.
const SEAL_BIT: u32 = 1 << 31;
const CRC_AT: usize = 4;
const COVERED_FROM: usize = 8;

/// A batch under construction: frames in memory behind room for the header.
#[derive(Debug)]
pub(super) struct OpenBatch {
    bytes: Vec<u8>,
    frames: u32,
    seal: bool,
    entries: u64,
    touched: BTreeSet<GroupId>,
    /// Highest index of the entries of each group.
    highest: BTreeMap<GroupId, u64>,
    /// State of the touched groups after this batch, once more batches follow it.
    after: Option<BTreeMap<GroupId, log::GroupState>>,
}

impl OpenBatch {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH_HEADER_BYTES],
            frames: 0,
            seal: false,
            entries: 0,
            touched: BTreeSet::new(),
            highest: BTreeMap::new(),
            after: None,
        }
    }

    /// A batch that says the state of every group.
    pub(super) fn of_states(groups: &BTreeMap<GroupId, log::GroupState>) -> Self {
        let mut batch = Self::new();
        for (group, state) in groups {
            let body = Some(log::frame::Body::GroupState(state.clone()));
            batch.push(&log::Frame { group: group.get(), body });
        }
        batch
    }

    /// Makes the batch a seal.
    pub(super) fn into_seal(mut self) -> Self {
        self.seal = true;
        self
    }

    /// Adds a frame.
    pub(super) fn push(&mut self, frame: &log::Frame) {
        assert!(self.after.is_none(), "no frame follows into a closed batch");
        frame.encode_length_delimited(&mut self.bytes).expect("a vector grows to hold every frame");
        self.frames += 1;
        if let Some(log::frame::Body::Entries(entries)) = &frame.body {
            self.entries += entries.entries.len() as u64;
            let last = entries.entries.last().map_or(0, |last| last.index);
            raise(&mut self.highest, GroupId(frame.group), last);
        }
        self.touched.insert(GroupId(frame.group));
    }

    /// Groups with a frame in this batch.
    pub(super) fn touched(&self) -> &BTreeSet<GroupId> {
        &self.touched
    }

    /// Ends the batch; `after` is the state of the touched groups at its end.
    pub(super) fn close(&mut self, after: BTreeMap<GroupId, log::GroupState>) {
        assert!(self.after.is_none(), "a batch is closed once");
        self.after = Some(after);
    }

    /// The state of the touched groups at the end of the batch, once it is closed.
    pub(super) fn after(&self) -> Option<&BTreeMap<GroupId, log::GroupState>> {
        self.after.as_ref()
    }

    /// The state that [`OpenBatch::close`] recorded.
    pub(super) fn take_after(&mut self) -> Option<BTreeMap<GroupId, log::GroupState>> {
        self.after.take()
    }

    /// Number of log entries in the frames.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Highest index of the entries of each group that has some here.
    pub(super) fn highest(&self) -> &BTreeMap<GroupId, u64> {
        &self.highest
    }

    /// Length of the frames.
    pub(super) fn frame_bytes(&self) -> usize {
        self.bytes.len() - BATCH_HEADER_BYTES
    }

    /// Length on disk: header, frames, and zeros up to the next sector.
    pub(super) fn disk_bytes(&self) -> u64 {
        padded(self.bytes.len())
    }

    /// The batch with the frames of `head` in front, ready to be written.
    pub(super) fn bytes_with(&self, head: &Self, segment: u64, batch: u64) -> Vec<u8> {
        let mut whole = Self::new();
        whole.bytes.extend_from_slice(&head.bytes[BATCH_HEADER_BYTES..]);
        whole.bytes.extend_from_slice(&self.bytes[BATCH_HEADER_BYTES..]);
        whole.frames = head.frames + self.frames;
        whole.finish(segment, batch);
        whole.bytes
    }

    /// Fills in the header and pads; the result is ready to be written. For the last use of a
    /// batch: no frame may follow.
    pub(super) fn finish(&mut self, segment: u64, batch: u64) -> &[u8] {
        let length = u32::try_from(self.frame_bytes()).expect("batches are far below 4 GiB");
        self.bytes[..4].copy_from_slice(&MAGIC);
        self.bytes[8..16].copy_from_slice(&segment.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&batch.to_le_bytes());
        self.bytes[24..28].copy_from_slice(&length.to_le_bytes());
        assert!(self.frames < SEAL_BIT, "a frame has more than one bit");
        let frames = self.frames | if self.seal { SEAL_BIT } else { 0 };
        self.bytes[28..32].copy_from_slice(&frames.to_le_bytes());
        let crc = checksum(&self.bytes[COVERED_FROM..], segment, batch);
        self.bytes[CRC_AT..COVERED_FROM].copy_from_slice(&crc.to_le_bytes());
        self.bytes.resize(padded(self.bytes.len()) as usize, 0);
        &self.bytes
    }
}

/// A batch as read back, verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchView<'a> {
    pub(super) number: u64,
    /// Number of frames.
    pub(super) frames: u32,
    /// It is a seal.
    pub(super) seal: bool,
    /// The frames.
    pub(super) payload: &'a [u8],
    /// Length on disk.
    pub(super) disk_bytes: u64,
}

impl<'a> BatchView<'a> {
    /// The batch at the beginning of `bytes`, if a valid one of this segment is there.
    pub(super) fn read(bytes: &'a [u8], segment: u64) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<BATCH_HEADER_BYTES>()?;
        if header[..4] != MAGIC {
            return None;
        }
        if u64_at(header, 8) != segment {
            return None;
        }
        let number = u64_at(header, 16);
        let length = u32_at(header, 24) as usize;
        let payload = rest.get(..length)?;
        let covered = &bytes[COVERED_FROM..BATCH_HEADER_BYTES + length];
        if u32_at(header, CRC_AT) != checksum(covered, segment, number) {
            return None;
        }
        let disk_bytes = padded(BATCH_HEADER_BYTES + length);
        let (frames, seal) = (u32_at(header, 28) & !SEAL_BIT, u32_at(header, 28) & SEAL_BIT != 0);
        Some(Self { number, frames, seal, payload, disk_bytes })
    }

    /// Reads the frames, and leaves their entries encoded. `image` is what the batch was read from, whose memory they share.
    pub(super) fn outline(&self, image: &Bytes) -> Result<Vec<Outline>, String> {
        let mut rest = image.slice_ref(self.payload);
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let frame = prost::decode_length_delimiter(&mut rest)
                .ok()
                .filter(|length| *length <= rest.len())
                .map(|length| Outline::decode(rest.split_to(length)))
                .ok_or_else(|| "a frame has no valid length".to_owned())?
                .map_err(|error| format!("a frame does not decode: {error}"))?;
            frames.push(frame);
        }
        self.check_count(frames.len())?;
        Ok(frames)
    }

    /// Decodes the frames.
    pub(super) fn decode(&self) -> Result<Vec<log::Frame>, String> {
        let mut rest = self.payload;
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let frame = log::Frame::decode_length_delimited(&mut rest)
                .map_err(|error| format!("a frame does not decode: {error}"))?;
            frames.push(frame);
        }
        self.check_count(frames.len())?;
        Ok(frames)
    }

    fn check_count(&self, found: usize) -> Result<(), String> {
        if found == self.frames as usize {
            return Ok(());
        }
        Err(format!("{found} frames instead of {}", self.frames))
    }
}

/// Whether a valid batch with a number above `number` stands at any sector of `bytes`.
pub(super) fn any_above(bytes: &[u8], segment: u64, number: u64) -> bool {
    (0..bytes.len())
        .step_by(SECTOR_BYTES as usize)
        .filter_map(|at| BatchView::read(&bytes[at..], segment))
        .any(|batch| batch.number > number)
}

/// Length on disk of the batch that was begun at the beginning of `bytes` in this life of the
/// segment, whole or torn; `None` if there is none, or its first sector never reached the disk. A
/// length that cannot be is taken for one sector.
pub(super) fn begun(bytes: &[u8], segment: u64) -> Option<u64> {
    let header = bytes.get(..BATCH_HEADER_BYTES)?;
    if header[..4] != MAGIC || header[8..16] != segment.to_le_bytes() {
        return None;
    }
    let disk_bytes = padded(BATCH_HEADER_BYTES + u32_at(header, 24) as usize);
    Some(if disk_bytes <= bytes.len() as u64 { disk_bytes } else { SECTOR_BYTES })
}

/// Length on disk of a batch with frames of this length.
pub(super) fn disk_bytes_of(frame_bytes: u64) -> u64 {
    padded(BATCH_HEADER_BYTES + frame_bytes as usize)
}

/// Checksum of a batch. The seed makes bytes of another segment or another batch fail.
fn checksum(covered: &[u8], segment: u64, batch: u64) -> u32 {
    let seed = crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), &batch.to_le_bytes());
    crc32c::crc32c_append(seed, covered)
}

fn padded(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(SECTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(group: u64, index: u64) -> log::Frame {
        let body = log::frame::Body::CheckpointDone(log::CheckpointDone { index, term: 1 });
        log::Frame { group, body: Some(body) }
    }

    fn written(frames: &[log::Frame], segment: u64, batch: u64) -> Vec<u8> {
        let mut open = OpenBatch::new();
        frames.iter().for_each(|frame| open.push(frame));
        open.finish(segment, batch).to_vec()
    }

    #[test]
    fn a_seal_says_the_state_of_every_group() {
        let state = |term| log::GroupState { start_term: term, ..Default::default() };
        let states = [(GroupId(0), state(3)), (GroupId(1), state(4))].into();
        let bytes = OpenBatch::of_states(&states).into_seal().finish(1, 2).to_vec();
        assert_eq!(bytes.len() as u64, SECTOR_BYTES);
        let view = BatchView::read(&bytes, 1).unwrap();
        assert_eq!((view.number, view.frames, view.seal), (2, 2, true));
        let frames = view.decode().unwrap();
        assert_eq!((frames[0].group, frames[1].group), (0, 1));
        assert_eq!(frames[1].body, Some(log::frame::Body::GroupState(state(4))));
        // The same frames in a batch of the caller are no seal.
        let bytes = OpenBatch::of_states(&states).finish(1, 2).to_vec();
        assert!(!BatchView::read(&bytes, 1).unwrap().seal);
    }

    #[test]
    fn a_begun_batch_is_known_by_its_first_sector() {
        let mut bytes = written(&(0..80).map(|n| frame(1, n)).collect::<Vec<_>>(), 7, 9);
        let whole = bytes.len();
        assert!(whole as u64 > SECTOR_BYTES);
        bytes.resize(whole + 4096, 0xaa);
        bytes[SECTOR_BYTES as usize..whole].fill(0xaa);
        assert!(BatchView::read(&bytes, 7).is_none());
        assert_eq!(begun(&bytes, 7), Some(whole as u64));
        assert_eq!(begun(&bytes, 8), None, "of an earlier life");
        let cut = &bytes[..SECTOR_BYTES as usize];
        assert_eq!(begun(cut, 7), Some(SECTOR_BYTES), "a length that cannot be");
        bytes[..SECTOR_BYTES as usize].fill(0xaa);
        assert_eq!(begun(&bytes, 7), None);
    }

    #[test]
    fn head_frames_come_first() {
        let (mut head, mut tail) = (OpenBatch::new(), OpenBatch::new());
        head.push(&frame(1, 1));
        tail.push(&frame(1, 2));
        let bytes = tail.bytes_with(&head, 3, 4);
        assert_eq!(bytes.len() as u64, SECTOR_BYTES);
        let view = BatchView::read(&bytes, 3).unwrap();
        assert_eq!(view.decode().unwrap(), [frame(1, 1), frame(1, 2)]);
    }

    #[test]
    fn bytes_of_an_earlier_life_never_verify() {
        let bytes = written(&[frame(1, 1)], 7, 9);
        assert!(BatchView::read(&bytes, 7).is_some());
        assert!(BatchView::read(&bytes, 8).is_none());
        // Not even when both numbers in the header are made to fit: the checksum is seeded.
        let mut moved = bytes.clone();
        moved[8..16].copy_from_slice(&8_u64.to_le_bytes());
        assert!(BatchView::read(&moved, 8).is_none());
        let mut renumbered = bytes;
        renumbered[16..24].copy_from_slice(&10_u64.to_le_bytes());
        assert!(BatchView::read(&renumbered, 7).is_none());
    }

    #[test]
    fn later_batches_are_found_at_sectors_only() {
        let batch = written(&[frame(1, 1)], 7, 9);
        let mut area = vec![0xff; 1024];
        area.extend_from_slice(&batch);
        assert!(any_above(&area, 7, 8));
        assert!(!any_above(&area, 7, 9));
        assert!(!any_above(&area, 6, 8));
        area.remove(0);
        assert!(!any_above(&area, 7, 8));
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_noticed(
            indexes in prop::collection::vec(any::<u64>(), 0..40),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let frames: Vec<_> = indexes.iter().map(|index| frame(1, *index)).collect();
            let bytes = written(&frames, 7, 9);
            let view = BatchView::read(&bytes, 7).unwrap();
            prop_assert_eq!(view.decode().unwrap(), frames);
            let covered = BATCH_HEADER_BYTES + view.payload.len();
            let mut flipped = bytes.clone();
            flipped[at.index(covered)] ^= 1 << bit;
            prop_assert!(BatchView::read(&flipped, 7).is_none());
        }

        #[test]
        fn random_bytes_are_never_a_batch(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut bytes = bytes;
            if bytes.len() > 16 {
                bytes[..4].copy_from_slice(&MAGIC);
                bytes[8..16].copy_from_slice(&7_u64.to_le_bytes());
            }
            prop_assert!(BatchView::read(&bytes, 7).is_none());
        }
    }
}
