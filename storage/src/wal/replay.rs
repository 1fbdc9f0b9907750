//! Reading the entries of one group from disk once more, for a rebuild of its state.
//!
//! An index may stand in the log several times: a new leader replaces what an older one left. Which
//! of them is final is known only at the end of the log, so it is read twice. The first pass keeps,
//! instead of entries, *runs*: from which frame to which frame the log grew without a break, and up
//! to which index that is still valid. A frame that replaces entries cuts the runs before it and
//! begins another. The second pass visits, in each run, the entries within its bounds; there each
//! index stands once, and the runs ascend by index and by place alike.
//!
//! In memory are one segment, one batch of it, and as many runs as there were replacements.

use std::collections::BTreeMap;
use std::path::Path;

use proto::log::frame::Body;
use proto::{GroupId, LogIndex, log};

use super::WalOptions;
use super::batch::BatchView;
use super::error::{ReplayError, WalError};
use super::outline::{Content, Outline};
use super::recover::{Position, ScannedSegment, Sink, Walked, walk};
use super::segment::{DATA_START, read_image};
use super::track::{GroupTrack, LogEdit};
use crate::disk::Disk;

/// Streams the final entries of a group from disk: all after `from` up to and including `to`,
/// ascending without gaps. Nothing may write to the log or free its segments meanwhile, and what
/// was never synced counts as well: call it between [`Wal::open`](super::Wal::open) and the first
/// write, or for entries that are committed.
///
/// # Errors
/// - [`ReplayError::Absent`]: the log does not hold these entries.
/// - [`ReplayError::Visit`]: `visit` failed; it is called no more.
/// - [`ReplayError::Wal`]: the log cannot be read.
pub fn replay<E>(
    disk: &dyn Disk,
    dir: &Path,
    options: &WalOptions,
    group: GroupId,
    from: LogIndex,
    to: LogIndex,
    visit: &mut dyn FnMut(log::Entry) -> Result<(), E>,
) -> Result<(), ReplayError<E>> {
    if from >= to {
        return Ok(());
    }
    let (walked, runs) = walk(disk, dir, options.cluster, || Runs::new(group))?;
    let (start, last) = walked.tracks.get(&group).map_or((0, 0), |track| {
        let state = track.state();
        (state.start_index, state.last_index)
    });
    if from.get() < start || to.get() > last {
        let (start, last) = (LogIndex(start), LogIndex(last));
        return Err(ReplayError::Absent { group, start, last });
    }
    let (next, to) = (from.get() + 1, to.get());
    let mut second = SecondPass { group, runs: runs.runs, next, to, memory: Vec::new() };
    let Walked { older, current, .. } = walked;
    for segment in older.iter().chain([&current]) {
        let has_more = segment.highest.get(&group).is_some_and(|highest| *highest >= second.next);
        if has_more && second.next <= second.to {
            second.segment(disk, segment, visit)?;
        }
    }
    assert_eq!(second.next, to + 1, "the first pass saw all entries up to {to}");
    Ok(())
}

/// Entries that were appended without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Its first and last valid index.
    first: u64,
    last: u64,
    /// Places of its first and last frame.
    from: Position,
    to: Position,
}

/// The first pass: which entries are final.
struct Runs {
    group: GroupId,
    runs: Vec<Run>,
}

impl Runs {
    fn new(group: GroupId) -> Self {
        Self { group, runs: Vec::new() }
    }

    /// Cuts everything from `index` on; `true` if there was something.
    fn cut(&mut self, index: u64) -> bool {
        let cuts = self.runs.last().is_some_and(|run| run.last >= index);
        self.runs.retain(|run| run.first < index);
        if let Some(run) = self.runs.last_mut() {
            run.last = run.last.min(index - 1);
        }
        cuts
    }
}

impl Sink for Runs {
    fn frame(&mut self, position: Position, frame: Outline, edit: LogEdit) {
        if frame.group != self.group {
            return;
        }
        match edit {
            LogEdit::Keep => {}
            LogEdit::Clear => self.runs.clear(),
            LogEdit::DropThrough(index) => {
                self.runs.retain(|run| run.last > index);
                self.runs.iter_mut().for_each(|run| run.first = run.first.max(index + 1));
            }
            LogEdit::ReplaceFrom(index) => {
                let Content::Entries(new) = &frame.body else {
                    panic!("only entries replace entries");
                };
                let last = index + new.len() as u64 - 1;
                // Behind a cut, the places of a run hold entries that are not valid any more.
                let begins = self.cut(index);
                match self.runs.last_mut() {
                    Some(run) if !begins => (run.last, run.to) = (last, position),
                    Some(_) | None => {
                        self.runs.push(Run { first: index, last, from: position, to: position });
                    }
                }
            }
        }
    }

    fn segment_ends(&mut self, _tracks: &BTreeMap<GroupId, GroupTrack>) {}
}

/// The second pass: visits what is final.
struct SecondPass {
    group: GroupId,
    runs: Vec<Run>,
    /// The entry to be visited next, and the last one.
    next: u64,
    to: u64,
    /// Memory for the next segment.
    memory: Vec<u8>,
}

impl SecondPass {
    fn segment<E>(
        &mut self,
        disk: &dyn Disk,
        segment: &ScannedSegment,
        visit: &mut dyn FnMut(log::Entry) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        let image = read_image(disk, &segment.path, std::mem::take(&mut self.memory))?;
        let mut at = DATA_START;
        while at < segment.end && self.next <= self.to {
            let changed = |why: String| WalError::damaged(&segment.path, at, why);
            let bytes = image.bytes.get(at as usize..).unwrap_or_default();
            let Some(batch) = BatchView::read(bytes, segment.number) else {
                return Err(changed("what could be read before cannot be read".to_owned()).into());
            };
            for (place, frame) in batch.decode().map_err(changed)?.into_iter().enumerate() {
                if let Some(Body::Entries(entries)) = frame.body
                    && frame.group == self.group.get()
                {
                    self.entries((batch.number, place), entries.entries, visit)?;
                }
            }
            at += batch.disk_bytes;
        }
        self.memory = image.bytes;
        Ok(())
    }

    fn entries<E>(
        &mut self,
        position: Position,
        entries: Vec<log::Entry>,
        visit: &mut dyn FnMut(log::Entry) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        let Some(run) = self.runs.get(self.runs.partition_point(|run| run.to < position)) else {
            return Ok(());
        };
        let (valid, to) = (position >= run.from, run.last.min(self.to));
        for entry in entries {
            if valid && entry.index == self.next && entry.index <= to {
                visit(entry).map_err(ReplayError::Visit)?;
                self.next += 1;
            }
        }
        Ok(())
    }
}
