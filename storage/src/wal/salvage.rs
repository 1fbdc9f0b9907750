//! What is left of a log that does not open because it is damaged.
//!
//! A node that repairs itself from its peers must know what it may have promised: its term, its
//! vote and the highest entry it may have acknowledged. Any of these may stand in the batch that
//! cannot be read. So the log is read in order, before and behind the damage, and each place that
//! is lost forgets what was known until then:
//!
//! - a batch is missing between two others (batches are numbered without gaps), or does not decode;
//! - a segment is missing between two others;
//! - the disk fails to read a page outside of the batches that verify;
//! - the header of a segment cannot be read, and no batch in it can;
//! - the end of a segment is cut off.
//!
//! Only what whole batches say behind the last such place counts: a seal or the head of a segment
//! says it all, and after 20 ms of silence a seal is the last thing in a log. What looks like a torn
//! tail is no such place, as for recovery: it was at most being written.
//!
//! Highest indexes are never forgotten; too high is safe.

use std::collections::BTreeMap;
use std::path::Path;

use proto::log::frame::Body;
use proto::{GroupId, LogIndex, log};

use super::batch::{BATCH_HEADER_BYTES, BatchView, SECTOR_BYTES};
use super::error::WalError;
use super::segment::{BadHeader, DATA_START, Header, Image, numbers_of_log, path_of, read_image};
use super::{FIRST_BATCH, FIRST_SEGMENT, WalOptions};
use crate::disk::Disk;

/// What is left of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SalvagedGroup {
    /// Term, vote and commit at the end of the log. `None` unless whole batches behind all damage
    /// say term and vote, and where the log of the group ends: then a vote, or an entry above
    /// `highest`, may have been promised and forgotten.
    pub hard_state: Option<log::HardState>,
    /// No entry above this one was ever acknowledged, provided that there is a `hard_state`.
    pub highest: LogIndex,
    /// Members by the newest state that can be read.
    pub conf_state: log::ConfState,
    /// `conf_state` carries out the membership changes up to this one.
    pub change: u64,
    /// Directory of the group's state by the newest state that can be read.
    pub state_dir: String,
}

/// Reads everything that verifies in a log that [`Wal::open`](super::Wal::open) has found damaged,
/// before and behind the damage, one segment in memory at a time. Changes nothing on disk. A group
/// that only lost batches speak of is missing.
///
/// # Errors
/// - [`WalError::Foreign`]: some segment is of another cluster or format.
/// - [`WalError::Io`]: there is no log, or a file cannot be opened.
pub fn salvage(
    disk: &dyn Disk,
    dir: &Path,
    options: &WalOptions,
) -> Result<BTreeMap<GroupId, SalvagedGroup>, WalError> {
    let numbers = numbers_of_log(disk, dir)?;
    let mut survey = Survey::new(numbers[0]);
    let mut memory = Vec::new();
    for (place, &number) in numbers.iter().enumerate() {
        if place > 0 && numbers[place - 1] + 1 != number {
            survey.lose();
        }
        let path = path_of(dir, number);
        let image = read_image(disk, &path, std::mem::take(&mut memory))?;
        let known = match Header::check(&image.bytes, number, options.cluster) {
            Ok(_) => true,
            Err(BadHeader::Damaged(_)) => false,
            Err(BadHeader::Foreign(why)) => return Err(WalError::Foreign { path, why }),
        };
        let batches = survey.segment(number, &image);
        if !known && (batches == 0 || Header::is_cut(&image.bytes)) {
            survey.lose();
        }
        memory = image.bytes;
    }
    Ok(survey.finish())
}

/// What is known of one group so far.
#[derive(Debug, Default)]
struct Known {
    group: SalvagedGroup,
    /// Said since the last place that is lost.
    hard_state: Option<log::HardState>,
    /// A batch since then says where the log ends.
    ends: bool,
    /// Highest term ever said, and a vote in it.
    promised: (u64, u64),
}

/// Reads in order whatever verifies.
struct Survey {
    expected: Option<u64>,
    groups: BTreeMap<GroupId, Known>,
}

impl Survey {
    fn new(first_segment: u64) -> Self {
        let expected = (first_segment == FIRST_SEGMENT).then_some(FIRST_BATCH);
        Self { expected, groups: BTreeMap::new() }
    }

    /// Something is lost here: it may have said more than what is known.
    fn lose(&mut self) {
        for known in self.groups.values_mut() {
            known.hard_state = None;
            known.ends = false;
        }
    }

    /// Takes the batches of the next segment; returns how many.
    fn segment(&mut self, number: u64, image: &Image) -> usize {
        let bytes = &image.bytes;
        let mut batches = 0;
        let (mut at, mut seen) = (DATA_START, DATA_START);
        while at + BATCH_HEADER_BYTES as u64 <= bytes.len() as u64 {
            let batch = BatchView::read(&bytes[at as usize..], number)
                .filter(|batch| self.expected.is_none_or(|expected| batch.number >= expected));
            let Some(batch) = batch else {
                at += SECTOR_BYTES;
                continue;
            };
            let skipped = self.expected.is_some_and(|expected| batch.number > expected);
            if skipped || image.is_unreadable(seen, at) {
                self.lose();
            }
            self.take(&batch);
            batches += 1;
            at += batch.disk_bytes;
            seen = at;
        }
        if image.is_unreadable(seen, u64::MAX) {
            self.lose();
        }
        batches
    }

    fn take(&mut self, batch: &BatchView<'_>) {
        self.expected = Some(batch.number + 1);
        match batch.decode() {
            Ok(frames) => frames.into_iter().for_each(|frame| {
                let known = self.groups.entry(GroupId(frame.group)).or_default();
                frame.body.into_iter().for_each(|body| known.take(body));
            }),
            Err(_) => self.lose(),
        }
    }

    fn finish(self) -> BTreeMap<GroupId, SalvagedGroup> {
        self.groups.into_iter().map(|(group, known)| (group, known.finish())).collect()
    }
}

impl Known {
    fn take(&mut self, body: Body) {
        match body {
            Body::Entries(entries) => {
                for entry in entries.entries {
                    self.raise(entry.index);
                    self.ends = true;
                }
            }
            Body::HardState(hard_state) => self.promise(hard_state),
            Body::CheckpointDone(done) => self.raise(done.index),
            Body::GroupState(state) => {
                self.raise(state.last_index);
                self.raise(state.start_index);
                self.raise(state.checkpoint);
                self.ends = true;
                self.promise(state.hard_state.unwrap_or_default());
                self.group.conf_state = state.conf_state.unwrap_or_default();
                self.group.change = state.change;
                self.group.state_dir = state.state_dir;
            }
            Body::LogStart(start) => {
                self.raise(start.index);
                self.group.conf_state = start.conf_state.unwrap_or_default();
                self.group.change = start.change;
            }
            Body::Installed(installed) => {
                self.raise(installed.index);
                self.ends = true;
                self.group.conf_state = installed.conf_state.unwrap_or_default();
                self.group.change = installed.change;
                self.group.state_dir = installed.state_dir;
            }
            Body::StateMoved(moved) => self.group.state_dir = moved.state_dir,
        }
    }

    fn raise(&mut self, index: u64) {
        self.group.highest = self.group.highest.max(LogIndex(index));
    }

    fn promise(&mut self, hard_state: log::HardState) {
        self.raise(hard_state.commit);
        self.hard_state = Some(hard_state);
        self.promised = self.promised.max((hard_state.term, hard_state.vote));
    }

    fn finish(self) -> SalvagedGroup {
        // A log in which term or vote go back is not one log; nothing in it can be relied on.
        let holds = |hard_state: &log::HardState| {
            self.ends && self.promised == (hard_state.term, hard_state.vote)
        };
        SalvagedGroup { hard_state: self.hard_state.filter(holds), ..self.group }
    }
}
