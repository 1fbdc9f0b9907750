//! Reading a log back: which batches count, and whether what does not is torn or damaged.
//!
//! Batches are numbered without gaps and written one at a time: batch n + 1 is written only once
//! batch n is synced. So if the batch expected next, n, cannot be read:
//!
//! - a valid batch above n anywhere proves that n was synced: *damage*, and nothing is changed;
//! - otherwise n was at most being written: a *torn tail*, nobody was told of it, and it is cut.
//!
//! (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018. Damage to
//! the very last batch looks like a torn tail, unless a seal follows it.)
//!
//! Cutting means writing zeros over what is there of n and syncing, before anything else is
//! written. The disk is then byte for byte what it was before the write of n began, so the number
//! n can be used again, and no remnant can later pass for a part of another batch or for a batch
//! that was synced. A crash while cutting leaves fewer of its sectors: a torn tail again.
//!
//! Whether batch n belongs behind its predecessor or at the head of the next segment is not
//! recorded: it is where it is found.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use proto::log::frame::Body;
use proto::{ClusterId, GroupId, log};

use super::batch::{BatchView, SECTOR_BYTES, any_above};
use super::error::WalError;
use super::segment::{
    BadHeader, DATA_START, Header, is_unfinished, numbers_in, path_of, read_whole,
};
use super::track::{GroupTrack, LogEdit, apply_frame};
use crate::disk::{Disk, OpenMode};

/// One group as read back.
#[derive(Debug)]
pub(super) struct ScannedGroup {
    pub(super) state: log::GroupState,
    pub(super) entries: Vec<log::Entry>,
}

/// A segment as read back.
#[derive(Debug)]
pub(super) struct ScannedSegment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Where the next batch goes.
    pub(super) end: u64,
    /// Sectors `[from, to)` from `end` on that are not zero, to be cut.
    pub(super) stale: Option<(u64, u64)>,
    /// The last batch and where it stands; none in an unused segment.
    pub(super) last_batch: Option<(u64, Vec<u8>)>,
}

/// A whole log as read back. Nothing has been changed on disk.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) tracks: BTreeMap<GroupId, GroupTrack>,
    pub(super) groups: BTreeMap<GroupId, ScannedGroup>,
    /// The segment that holds the last batch.
    pub(super) current: ScannedSegment,
    /// The segment after it, prepared and not used.
    pub(super) spare: Option<ScannedSegment>,
    /// Number of the batch to be written next.
    pub(super) next_batch: u64,
    /// The last batch is a seal.
    pub(super) sealed: bool,
    /// Length of the segments before `current`.
    pub(super) older_bytes: u64,
    /// Files that are of no use.
    pub(super) garbage: Vec<PathBuf>,
}

/// Reads the whole log.
pub(super) fn scan(disk: &dyn Disk, dir: &Path, cluster: ClusterId) -> Result<Scan, WalError> {
    let numbers = numbers_in(disk, dir).map_err(WalError::io("list", dir))?;
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        let absent = io::Error::new(io::ErrorKind::NotFound, "there is no log");
        return Err(WalError::io("open the log in", dir)(absent));
    };
    if let Some(absent) = (*first..*last).zip(&numbers).find(|(number, found)| number != *found) {
        return Err(WalError::damaged(&path_of(dir, absent.0), 0, "the segment is missing"));
    }

    let mut reader = Reader::new(*first);
    for &number in &numbers {
        let path = path_of(dir, number);
        let file = disk.open(&path, OpenMode::Read).map_err(WalError::io("open", &path))?;
        let bytes = read_whole(file.as_ref(), &path)?;
        match Header::check(&bytes, number, cluster) {
            Ok(_) => reader.segment(number, &path, &bytes)?,
            Err(BadHeader::Foreign(why)) => return Err(WalError::Foreign { path, why }),
            Err(BadHeader::Damaged(why)) => {
                // The last segment may be a spare, of which nothing is lost.
                let unused = bytes.iter().skip(DATA_START as usize).all(|byte| *byte == 0);
                if number == *first || number != *last || !unused {
                    return Err(WalError::damaged(&path, 0, why));
                }
                reader.garbage.push(path);
            }
        }
    }
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
    let unfinished = names.iter().filter(|name| is_unfinished(name));
    reader.garbage.extend(unfinished.map(|name| dir.join(name)));
    Ok(reader.finish())
}

/// Follows the batches from segment to segment.
#[derive(Debug)]
struct Reader {
    tracks: BTreeMap<GroupId, GroupTrack>,
    entries: BTreeMap<GroupId, Vec<log::Entry>>,
    /// `None` before the first batch of a log whose first segments are gone.
    expected: Option<u64>,
    current: Option<ScannedSegment>,
    spare: Option<ScannedSegment>,
    sealed: bool,
    older_bytes: u64,
    garbage: Vec<PathBuf>,
}

impl Reader {
    fn new(first_segment: u64) -> Self {
        Self {
            tracks: BTreeMap::new(),
            entries: BTreeMap::new(),
            expected: (first_segment == super::FIRST_SEGMENT).then_some(super::FIRST_BATCH),
            current: None,
            spare: None,
            sealed: false,
            older_bytes: 0,
            garbage: Vec::new(),
        }
    }

    /// Reads the next segment, whose header is good.
    fn segment(&mut self, number: u64, path: &Path, bytes: &[u8]) -> Result<(), WalError> {
        if let Some(spare) = &self.spare {
            // A segment is prepared only once the one before it is in use.
            let why = "the segment has a successor and no batch that can be read";
            return Err(WalError::damaged(&spare.path, DATA_START, why));
        }
        let mut end = DATA_START;
        let mut last_batch = None;
        while let Some(batch) = self.expected_batch(&bytes[end as usize..], number) {
            self.fold(&batch).map_err(|why| WalError::damaged(path, end, why))?;
            let next = end + batch.disk_bytes;
            last_batch = Some(end..next);
            end = next;
        }
        let last_batch = last_batch
            .map(|range| (range.start, bytes[range.start as usize..range.end as usize].to_vec()));
        let Some(expected) = self.expected else {
            return Err(WalError::damaged(path, end, "the first batch of the log cannot be read"));
        };
        let rest = &bytes[end as usize..];
        if any_above(rest, number, expected) {
            return Err(self.damaged_before(number, path, rest, end, expected));
        }
        let stale = nonzero_sectors(rest).map(|(from, to)| (end + from, end + to));
        let (path, length) = (path.to_owned(), bytes.len() as u64);
        let used = last_batch.is_some();
        let segment = ScannedSegment { number, path, bytes: length, end, stale, last_batch };
        if used {
            self.older_bytes += self.current.replace(segment).map_or(0, |older| older.bytes);
        } else if self.current.is_some() {
            self.spare = Some(segment);
        } else {
            let why = "the first batch of the log cannot be read";
            return Err(WalError::damaged(&segment.path, DATA_START, why));
        }
        Ok(())
    }

    /// The batch at the beginning of `bytes`, if it is the one expected next.
    fn expected_batch<'a>(&self, bytes: &'a [u8], segment: u64) -> Option<BatchView<'a>> {
        let batch = BatchView::read(bytes, segment)?;
        self.expected.is_none_or(|expected| batch.number == expected).then_some(batch)
    }

    /// Says where the expected batch should have been, given that a later one is in `rest`.
    fn damaged_before(
        &self,
        segment: u64,
        path: &Path,
        rest: &[u8],
        end: u64,
        expected: u64,
    ) -> WalError {
        let why = format!("batch {expected} cannot be read, and later ones can");
        match &self.current {
            Some(before) if end == DATA_START && BatchView::read(rest, segment).is_some() => {
                WalError::damaged(&before.path, before.end, why)
            }
            Some(_) | None => WalError::damaged(path, end, why),
        }
    }

    /// Takes the frames of a batch into the groups.
    fn fold(&mut self, batch: &BatchView<'_>) -> Result<(), String> {
        for frame in batch.decode()? {
            let edit = apply_frame(&mut self.tracks, &frame)?;
            let entries = self.entries.entry(GroupId(frame.group)).or_default();
            match edit {
                LogEdit::Keep => {}
                LogEdit::ReplaceFrom(index) => {
                    entries.truncate(entries.partition_point(|entry| entry.index < index));
                }
                LogEdit::DropThrough(index) => {
                    entries.drain(..entries.partition_point(|entry| entry.index <= index));
                }
                LogEdit::Clear => entries.clear(),
            }
            if let Some(Body::Entries(new)) = frame.body {
                entries.extend(new.entries);
            }
        }
        self.expected = Some(batch.number + 1);
        self.sealed = batch.frames == 0;
        Ok(())
    }

    fn finish(mut self) -> Scan {
        let current = self.current.expect("the first segment is read before anything else");
        let next_batch = self.expected.expect("the first segment holds a batch");
        let groups = self
            .tracks
            .iter()
            .map(|(group, track)| {
                let entries = self.entries.remove(group).unwrap_or_default();
                (*group, ScannedGroup { state: track.state().clone(), entries })
            })
            .collect();
        Scan {
            tracks: self.tracks,
            groups,
            current,
            spare: self.spare,
            next_batch,
            sealed: self.sealed,
            older_bytes: self.older_bytes,
            garbage: self.garbage,
        }
    }
}

/// The sectors `[from, to)` of `bytes` outside of which everything is zero.
fn nonzero_sectors(bytes: &[u8]) -> Option<(u64, u64)> {
    let first = bytes.iter().position(|byte| *byte != 0)? as u64;
    let last = bytes.iter().rposition(|byte| *byte != 0)? as u64;
    Some((first / SECTOR_BYTES * SECTOR_BYTES, (last + 1).next_multiple_of(SECTOR_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_bytes_are_found_by_sector() {
        let mut bytes = vec![0; 4096];
        assert_eq!(nonzero_sectors(&bytes), None);
        bytes[511] = 1;
        assert_eq!(nonzero_sectors(&bytes), Some((0, 512)));
        bytes[1024] = 1;
        assert_eq!(nonzero_sectors(&bytes), Some((0, 1536)));
        bytes[511] = 0;
        assert_eq!(nonzero_sectors(&bytes), Some((1024, 1536)));
    }
}
