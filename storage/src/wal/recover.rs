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
//! written, so that n can never verify later, when its number has been used again. In a segment
//! whose file was used before, bytes of the earlier life stand behind the end and are left alone:
//! n is cut if its first sector is there. If that was lost, n can never verify, and nothing tells
//! its other sectors from the old bytes. A crash while cutting leaves fewer of its sectors: a torn
//! tail again.
//!
//! Whether batch n belongs behind its predecessor or at the head of the next segment is not
//! recorded: it is where it is found.
//!
//! # Where the log begins
//!
//! Older segments are freed, so the first head may speak of entries that are in no segment: a
//! *hole*. It has to be covered by the end of the log, by a later state that begins behind it or by
//! entries that replace it. Since each segment begins with all that older ones say, except for
//! entries, damage in a segment does not matter if the segments behind it have no such hole: the
//! log then begins behind the damage, exactly as if the older segments had been freed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proto::{ClusterId, GroupId};

use super::batch::{BatchView, SECTOR_BYTES, any_above, begun};
use super::error::WalError;
use super::free::raise;
use super::outline::{Content, Outline};
use super::segment::{BadHeader, DATA_START, Header, Image, numbers_of_log, path_of, read_image};
use super::track::{GroupTrack, Holes, LogEdit, apply_outline};
use crate::disk::Disk;

/// A segment as read back.
#[derive(Debug)]
pub(super) struct ScannedSegment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Where the next batch goes.
    pub(super) end: u64,
    /// Remnants `[from, to)` of a torn batch from `end` on, to be cut.
    pub(super) torn: Option<(u64, u64)>,
    /// The last batch of the log and where it stands; none in other segments.
    pub(super) last_batch: Option<(u64, Vec<u8>)>,
    /// Highest index of the entries of each group that has some here.
    pub(super) highest: BTreeMap<GroupId, u64>,
}

/// A whole log as read back. Nothing has been changed on disk.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) tracks: BTreeMap<GroupId, GroupTrack>,
    /// The segments before `current`, ascending.
    pub(super) older: Vec<ScannedSegment>,
    /// The segment that holds the last batch.
    pub(super) current: ScannedSegment,
    /// The segment after it, prepared and not used.
    pub(super) spare: Option<ScannedSegment>,
    /// Number of the batch to be written next.
    pub(super) next_batch: u64,
    /// The last batch is a seal.
    pub(super) sealed: bool,
    /// Segments that are of no use, ascending.
    pub(super) garbage: Vec<PathBuf>,
}

/// Where a frame stands in a log: number of its batch, and its place there.
pub(super) type Position = (u64, usize);

/// What is to be kept of the frames of a log.
pub(super) trait Sink {
    /// Takes a frame that follows the rules, and what it does to the entries before it.
    fn frame(&mut self, position: Position, frame: Outline, edit: LogEdit);

    /// A segment has been read; the groups are as of its end. No frame may hold on to its memory any
    /// longer.
    fn segment_ends(&mut self, tracks: &BTreeMap<GroupId, GroupTrack>);
}

/// Why reading stopped.
enum Fault {
    Damage(Damage),
    Other(WalError),
}

/// A place that cannot be read.
struct Damage {
    /// Segments up to this one are of no use.
    segment: u64,
    path: PathBuf,
    offset: u64,
    why: String,
}

impl From<WalError> for Fault {
    fn from(error: WalError) -> Self {
        Self::Other(error)
    }
}

/// Reads the whole log, one segment in memory at a time, into a sink.
///
/// # Errors
/// [`WalError::Damaged`], [`WalError::Foreign`], [`WalError::Io`].
pub(super) fn walk<S: Sink>(
    disk: &dyn Disk,
    dir: &Path,
    cluster: ClusterId,
    new_sink: impl Fn() -> S,
) -> Result<(Walked, S), WalError> {
    let numbers = numbers_of_log(disk, dir)?;
    let mut begin = 0;
    let mut first_damage: Option<Damage> = None;
    loop {
        let mut walker = Walker::new(numbers[begin], begin > 0, new_sink());
        match walker.segments(disk, dir, cluster, &numbers[begin..]) {
            Ok(()) => {
                let (mut walked, sink) = walker.finish();
                let unneeded = numbers[..begin].iter().map(|number| path_of(dir, *number));
                walked.garbage.splice(0..0, unneeded);
                return Ok((walked, sink));
            }
            Err(Fault::Other(error)) => return Err(error),
            Err(Fault::Damage(damage)) => {
                // Behind the damage the log may be whole.
                begin = numbers.partition_point(|number| *number <= damage.segment);
                let Damage { path, offset, why, .. } = first_damage.get_or_insert(damage);
                if begin == numbers.len() {
                    return Err(WalError::damaged(path, *offset, why.as_str()));
                }
            }
        }
    }
}

/// Follows the batches from segment to segment.
struct Walker<S> {
    sink: S,
    tracks: BTreeMap<GroupId, GroupTrack>,
    /// `None` before the first batch of a log whose first segments are gone.
    expected: Option<u64>,
    older: Vec<ScannedSegment>,
    current: Option<ScannedSegment>,
    spare: Option<ScannedSegment>,
    sealed: bool,
    garbage: Vec<PathBuf>,
    /// Memory for the next segment.
    memory: Vec<u8>,
}

impl<S: Sink> Walker<S> {
    fn new(first: u64, behind_damage: bool, sink: S) -> Self {
        let whole = first == super::FIRST_SEGMENT && !behind_damage;
        Self {
            sink,
            tracks: BTreeMap::new(),
            expected: whole.then_some(super::FIRST_BATCH),
            older: Vec::new(),
            current: None,
            spare: None,
            sealed: false,
            garbage: Vec::new(),
            memory: Vec::new(),
        }
    }

    /// Reads these segments, at least one: all of the log from the first of them on.
    fn segments(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        cluster: ClusterId,
        numbers: &[u64],
    ) -> Result<(), Fault> {
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        for (expected, &number) in (first..).zip(numbers) {
            let path = path_of(dir, expected);
            if number != expected {
                return Err(damage(expected, &path, 0, "the segment is missing"));
            }
            self.segment(disk, &path, cluster, number, number == last)?;
        }
        self.check_holes(last)
    }

    /// Reads the next segment.
    fn segment(
        &mut self,
        disk: &dyn Disk,
        path: &Path,
        cluster: ClusterId,
        number: u64,
        is_last: bool,
    ) -> Result<(), Fault> {
        let image = read_image(disk, path, std::mem::take(&mut self.memory))?;
        let header = match Header::check(&image.bytes, number, cluster) {
            Ok(header) => Ok(header),
            Err(BadHeader::Damaged(why)) => Err(why),
            Err(BadHeader::Foreign(why)) => {
                return Err(Fault::Other(WalError::Foreign { path: path.to_owned(), why }));
            }
        };
        if let Some((from, _)) = image.unreadable.first() {
            return Err(damage(number, path, *from, "the disk cannot read it"));
        }
        match header {
            Ok(header) => {
                let bytes = Bytes::from(image.bytes);
                self.batches(number, path, &bytes, header.recycled)?;
                // Its only owner by now, so nothing is copied.
                self.memory = bytes.into();
                Ok(())
            }
            // The last segment may be a spare, of which nothing is lost. One that is cut off may have been
            // in use: a file has its name only while it has its whole length.
            Err(_) if is_last && self.is_whole(&image) && is_unused(&image, number) => {
                self.garbage.push(path.to_owned());
                Ok(())
            }
            Err(why) => Err(damage(number, path, 0, why)),
        }
    }

    /// Whether a file whose header cannot be read is as long as the segment before it.
    fn is_whole(&self, image: &Image) -> bool {
        self.current.as_ref().is_some_and(|current| current.bytes == image.bytes.len() as u64)
    }

    /// Reads the batches of the next segment, whose header is good.
    fn batches(
        &mut self,
        number: u64,
        path: &Path,
        bytes: &Bytes,
        recycled: bool,
    ) -> Result<(), Fault> {
        if let Some(spare) = &self.spare {
            // A segment is prepared only once the one before it is in use.
            let why = "the segment has a successor and no batch that can be read";
            return Err(damage(spare.number, &spare.path, DATA_START, why));
        }
        let mut end = DATA_START;
        let mut last_batch = None;
        let mut highest = BTreeMap::new();
        while let Some(batch) = self.expected_batch(&bytes[end as usize..], number) {
            self.fold(&batch, bytes, &mut highest).map_err(|why| damage(number, path, end, why))?;
            let next = end + batch.disk_bytes;
            last_batch = Some(end as usize..next as usize);
            end = next;
        }
        let last_batch =
            last_batch.map(|range| (range.start as u64, bytes[range.clone()].to_vec()));
        let Some(expected) = self.expected else {
            return Err(damage(number, path, end, "the first batch of the log cannot be read"));
        };
        let rest = &bytes[end as usize..];
        if any_above(rest, number, expected) {
            return Err(self.damage_before(number, path, rest, end, expected));
        }
        self.sink.segment_ends(&self.tracks);
        let torn = torn_in(rest, number, recycled).map(|(from, to)| (end + from, end + to));
        let used = last_batch.is_some();
        let segment = ScannedSegment {
            number,
            path: path.to_owned(),
            bytes: bytes.len() as u64,
            end,
            torn,
            last_batch,
            highest,
        };
        if used {
            let mut older = self.current.replace(segment);
            older.iter_mut().for_each(|older| older.last_batch = None);
            self.older.extend(older);
        } else if self.current.is_some() {
            self.spare = Some(segment);
        } else {
            let why = "the first batch of the log cannot be read";
            return Err(damage(number, path, DATA_START, why));
        }
        Ok(())
    }

    /// The batch at the beginning of `bytes`, if it is the one expected next.
    fn expected_batch<'a>(&self, bytes: &'a [u8], segment: u64) -> Option<BatchView<'a>> {
        let batch = BatchView::read(bytes, segment)?;
        self.expected.is_none_or(|expected| batch.number == expected).then_some(batch)
    }

    /// Says where the expected batch should have been, given that a later one is in `rest`.
    fn damage_before(
        &self,
        segment: u64,
        path: &Path,
        rest: &[u8],
        end: u64,
        expected: u64,
    ) -> Fault {
        let why = format!("batch {expected} cannot be read, and later ones can");
        match &self.current {
            Some(before) if end == DATA_START && BatchView::read(rest, segment).is_some() => {
                damage(before.number, &before.path, before.end, why)
            }
            Some(_) | None => damage(segment, path, end, why),
        }
    }

    /// Takes the frames of a batch.
    fn fold(
        &mut self,
        batch: &BatchView<'_>,
        image: &Bytes,
        highest: &mut BTreeMap<GroupId, u64>,
    ) -> Result<(), String> {
        let holes = if self.expected.is_none() { Holes::Allowed } else { Holes::Refused };
        for (place, frame) in batch.outline(image)?.into_iter().enumerate() {
            let edit = apply_outline(&mut self.tracks, &frame, holes)?;
            if let Content::Entries(entries) = &frame.body
                && let Some(last) = entries.last()
            {
                raise(highest, frame.group, last.index);
            }
            self.sink.frame((batch.number, place), frame, edit);
        }
        self.expected = Some(batch.number + 1);
        self.sealed = batch.seal;
        Ok(())
    }

    /// Checks that entries are missing from no group, once all is read.
    fn check_holes(&self, last: u64) -> Result<(), Fault> {
        let hole = self.tracks.iter().find_map(|(group, track)| Some((group, track.hole()?)));
        let Some((group, (from, to))) = hole else { return Ok(()) };
        let first = self.older.first().or(self.current.as_ref());
        let first = first.expect("where there is a group there is a segment");
        let why = format!("entries ({from}, {to}] of group {group} are in no segment");
        // No later beginning can bring them back.
        Err(damage(last, &first.path, DATA_START, why))
    }

    fn finish(self) -> (Walked, S) {
        let walked = Walked {
            tracks: self.tracks,
            older: self.older,
            current: self.current.expect("the first segment is read before anything else"),
            spare: self.spare,
            next_batch: self.expected.expect("the first segment holds a batch"),
            sealed: self.sealed,
            garbage: self.garbage,
        };
        (walked, self.sink)
    }
}

fn damage(segment: u64, path: &Path, offset: u64, why: impl Into<String>) -> Fault {
    Fault::Damage(Damage { segment, path: path.to_owned(), offset, why: why.into() })
}

/// Whether nothing was ever written behind the header, which cannot be read.
fn is_unused(image: &Image, segment: u64) -> bool {
    let data = image.bytes.get(DATA_START as usize..).unwrap_or_default();
    begun(data, segment).is_none() && !any_above(data, segment, 0)
}

/// What there is of a torn batch behind the last whole one: sectors `[from, to)` of `bytes`.
fn torn_in(bytes: &[u8], segment: u64, recycled: bool) -> Option<(u64, u64)> {
    if recycled { begun(bytes, segment).map(|length| (0, length)) } else { nonzero_sectors(bytes) }
}

/// The sectors `[from, to)` of `bytes` outside of which everything is zero.
fn nonzero_sectors(bytes: &[u8]) -> Option<(u64, u64)> {
    const ZEROS: [u8; SECTOR_BYTES as usize] = [0; SECTOR_BYTES as usize];
    // Whole sectors at a time: a spare segment is long.
    let in_use = |sector: &[u8]| *sector != ZEROS[..sector.len()];
    let mut sectors = bytes.chunks(ZEROS.len());
    let first = sectors.position(in_use)?;
    let last = sectors.rposition(in_use).map_or(first, |position| first + 1 + position);
    Some((first as u64 * SECTOR_BYTES, (last as u64 + 1) * SECTOR_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remnants_are_found_by_sector() {
        let mut bytes = vec![0; 4096];
        assert_eq!(nonzero_sectors(&bytes), None);
        bytes[511] = 1;
        assert_eq!(nonzero_sectors(&bytes), Some((0, 512)));
        bytes[1024] = 1;
        assert_eq!(nonzero_sectors(&bytes), Some((0, 1536)));
        bytes[511] = 0;
        assert_eq!(nonzero_sectors(&bytes), Some((1024, 1536)));
    }

    #[test]
    fn bytes_of_an_earlier_life_are_no_torn_tail() {
        let mut bytes = vec![0xab; 4096];
        assert_eq!(torn_in(&bytes, 7, true), None);
        assert_eq!(torn_in(&bytes, 7, false), Some((0, 4096)));
        bytes[..4].copy_from_slice(b"kvwb");
        bytes[8..16].copy_from_slice(&7_u64.to_le_bytes());
        bytes[24..28].copy_from_slice(&1000_u32.to_le_bytes());
        assert_eq!(torn_in(&bytes, 7, true), Some((0, 1536)));
        assert_eq!(torn_in(&bytes, 8, true), None);
    }
}
