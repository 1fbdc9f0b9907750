//! [`Wal`]: the open log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use proto::log::frame::Body;
use proto::{GroupId, log};

use super::batch::{OpenBatch, disk_bytes_of};
use super::error::WalError;
use super::free::{Older, raise};
use super::prepare::{Freed, Preparation, remove_if_present};
use super::segment::{Segment, numbers_in, path_of, unfinished_path_of};
use super::track::{GroupTrack, Holes, apply_frame};
use super::{FIRST_BATCH, FIRST_SEGMENT, WalOptions, WalStats};
use crate::disk::Disk;

/// The open log of a node.
///
/// Invariants:
/// - all batches before `next_batch` are synced; at most that one is being written;
/// - from `current.end` on, nothing in the current segment verifies as a batch of it, and nothing
///   in the next segment does;
/// - there is always room for a seal in the current segment if the last batch is none;
/// - `written` is the state after the last batch, `tip` the state after the open ones too;
/// - what is in `older` holds the entries that are not in `current`, oldest first.
#[derive(Debug)]
pub struct Wal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) options: WalOptions,
    pub(super) older: VecDeque<Older>,
    pub(super) current: Segment,
    pub(super) next: Next,
    /// Files for the next segments.
    pub(super) freed: Vec<Freed>,
    pub(super) next_batch: u64,
    pub(super) open: VecDeque<OpenBatch>,
    pub(super) written: BTreeMap<GroupId, log::GroupState>,
    pub(super) tip: BTreeMap<GroupId, GroupTrack>,
    pub(super) sealed: bool,
    pub(super) poisoned: bool,
    pub(super) stats: WalStats,
}

/// The segment after the current one.
#[derive(Debug)]
pub(super) enum Next {
    Absent,
    /// The last attempt failed; only asking for it starts another.
    Failed,
    Growing(Preparation),
    Ready(Segment),
}

impl Wal {
    /// Whether a directory holds a log.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn exists(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
        Ok(!numbers_in(disk, dir)?.is_empty())
    }

    /// Makes a log that holds the states of these groups, durable on return. After a crash inside,
    /// [`Wal::exists`] says no, or the log is complete.
    ///
    /// # Errors
    /// [`WalError::Io`], also when there is a log already.
    ///
    /// # Panics
    /// If the options or a state contradict themselves.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
        groups: BTreeMap<GroupId, log::GroupState>,
    ) -> Result<Self, WalError> {
        options.check();
        let failed = || WalError::io("create the log in", dir);
        disk.create_dir_all(dir).map_err(failed())?;
        if Self::exists(disk.as_ref(), dir).map_err(failed())? {
            return Err(failed()(io::ErrorKind::AlreadyExists.into()));
        }

        let tip: BTreeMap<GroupId, GroupTrack> = groups
            .iter()
            .map(|(group, state)| match GroupTrack::new(state, Holes::Refused) {
                Ok(track) => (*group, track),
                Err(why) => panic!("the first state of group {group} is invalid: {why}"),
            })
            .collect();
        let written = tip.iter().map(|(group, track)| (*group, track.state().clone())).collect();
        let mut head = all_states(&written, &options);
        let first_batch = head.finish(FIRST_SEGMENT, FIRST_BATCH);
        let (cluster, bytes) = (options.cluster, options.segment_bytes);
        let current = Preparation::begin(disk.as_ref(), dir, cluster, FIRST_SEGMENT, bytes)
            .and_then(|mut preparation| {
                while !preparation.is_filled() {
                    preparation.step()?;
                }
                preparation.finish(disk.as_ref(), dir, first_batch)
            })
            .map_err(|error| {
                // A log whose name may vanish must not be found by the next start.
                let _ = remove_if_present(disk.as_ref(), &path_of(dir, FIRST_SEGMENT));
                failed()(error)
            })?;
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            options,
            older: VecDeque::new(),
            current,
            next: Next::Absent,
            freed: Vec::new(),
            next_batch: FIRST_BATCH + 1,
            open: VecDeque::new(),
            written,
            tip,
            sealed: false,
            poisoned: false,
            stats: WalStats { segments: 1, ..WalStats::default() },
        })
    }

    /// Adds frames to the open batch, in memory. They become durable in this order; a crash may
    /// keep the first of them and lose the rest, so entries go before the hard state that commits
    /// them. A group begins with a `GroupState` frame.
    ///
    /// # Panics
    /// If a frame contradicts what was appended before: entries that do not follow or replace
    /// committed ones, a term, vote or commit that goes back, a group without state; or if one
    /// entry is longer than [`WalOptions::frame_bytes_max`].
    pub fn append(&mut self, frames: &[log::Frame]) {
        let bytes_max = self.options.frame_bytes_max();
        for frame in frames {
            match &frame.body {
                Some(Body::Entries(entries)) if frame_bytes(frame) > bytes_max => {
                    self.append_divided(frame.group, entries);
                }
                _ => self.append_one(frame),
            }
        }
    }

    /// Appends a long frame of entries as several shorter ones, which mean the same.
    fn append_divided(&mut self, group: u64, entries: &log::Entries) {
        for entry in &entries.entries {
            let body = Body::Entries(log::Entries { entries: vec![entry.clone()] });
            self.append_one(&log::Frame { group, body: Some(body) });
        }
    }

    fn append_one(&mut self, frame: &log::Frame) {
        let (bytes, bytes_max) = (frame_bytes(frame), self.options.frame_bytes_max());
        assert!(bytes <= bytes_max, "a frame of {bytes} bytes; at most {bytes_max} can be logged");
        match self.open.back_mut() {
            Some(batch) if batch.frame_bytes() as u64 + bytes <= bytes_max => {}
            Some(full) => {
                full.close(states_of(full.touched(), &self.tip));
                self.open.push_back(OpenBatch::new());
            }
            None => self.open.push_back(OpenBatch::new()),
        }
        if let Err(why) = apply_frame(&mut self.tip, frame, Holes::Refused) {
            panic!("a frame contradicts the log: {why}");
        }
        self.open.back_mut().expect("there is an open batch").push(frame);
    }

    /// The state of a group after everything appended, durable or not, with the end of its log.
    /// `None` if the log has no such group.
    #[must_use]
    pub fn group_state(&self, group: GroupId) -> Option<&log::GroupState> {
        self.tip.get(&group).map(GroupTrack::state)
    }

    /// Bytes of frames that are not durable yet.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.open.iter().map(OpenBatch::frame_bytes).sum()
    }

    /// Makes all appended frames durable: as a rule one write and one fdatasync. Nothing happens
    /// if there are none.
    ///
    /// # Errors
    /// - [`WalError::Full`]: the next segment is needed and cannot be prepared. What is not
    ///   durable stays open; call again later.
    /// - [`WalError::Io`]: the log is poisoned, and it is unknown what is durable.
    /// - [`WalError::Poisoned`]: it was poisoned before.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.check_poison()?;
        while let Some(batch) = self.open.front() {
            // Behind the batch there has to be room for a seal.
            let bytes = batch.disk_bytes() + self.seal_bytes_after(batch);
            if self.current.end + bytes <= self.current.bytes {
                self.write_open_batch()?;
            } else {
                self.finish_next()?;
                self.write_open_batch_to_next()?;
            }
        }
        self.catch_up();
        Ok(())
    }

    /// Makes damage to the last batch visible to later starts, by a batch behind it that says once
    /// more where each group stands. To be called after a silence; nothing happens if the log is
    /// sealed or frames are open.
    ///
    /// # Errors
    /// [`WalError::Io`], [`WalError::Poisoned`], as for [`Wal::sync`].
    pub fn seal(&mut self) -> Result<(), WalError> {
        self.check_poison()?;
        if self.sealed || !self.open.is_empty() {
            return Ok(());
        }
        let mut seal = all_states(&self.written, &self.options).into_seal();
        self.write_and_sync(seal.finish(self.current.number, self.next_batch))?;
        self.sealed = true;
        self.stats.seals += 1;
        Ok(())
    }

    /// Takes one short step towards the next segment; `true` once it is ready. To be called
    /// while nothing waits for a sync.
    ///
    /// # Errors
    /// - [`WalError::Full`]: the step failed; the next call starts over.
    /// - [`WalError::Poisoned`]: the log needs no segment any more.
    pub fn prepare_step(&mut self) -> Result<bool, WalError> {
        self.check_poison()?;
        self.advance_next()
    }

    /// Bytes from the oldest segment to the end of the last batch: what a start reads.
    #[must_use]
    pub fn bytes_in_use(&self) -> u64 {
        self.older.iter().map(|segment| segment.bytes).sum::<u64>() + self.current.end
    }

    /// Whether the last attempt to prepare the next segment has failed. What is appended from now on has
    /// the rest of the current one, at least an eighth of a segment if this is asked after each sync.
    #[must_use]
    pub fn lacks_next(&self) -> bool {
        matches!(self.next, Next::Failed)
    }

    /// Length of all files of the log, those included that wait for their next use.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        let next = match &self.next {
            Next::Absent | Next::Failed => 0,
            Next::Growing(preparation) => preparation.filled(),
            Next::Ready(segment) => segment.bytes,
        };
        let older: u64 = self.older.iter().map(|segment| segment.bytes).sum();
        let freed: u64 = self.freed.iter().map(|file| file.bytes).sum();
        older + self.current.bytes + next + freed
    }

    /// What the log has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        self.stats
    }

    pub(super) fn check_poison(&self) -> Result<(), WalError> {
        if self.poisoned { Err(WalError::Poisoned) } else { Ok(()) }
    }

    /// Writes the oldest open batch behind the last one.
    fn write_open_batch(&mut self) -> Result<(), WalError> {
        let mut batch = self.open.pop_front().expect("the caller saw an open batch");
        let bytes = batch.finish(self.current.number, self.next_batch);
        self.write_and_sync(bytes)?;
        self.wrote(batch);
        Ok(())
    }

    /// Writes the oldest open batch to the head of the next segment, which is ready.
    fn write_open_batch_to_next(&mut self) -> Result<(), WalError> {
        let Next::Ready(next) = std::mem::replace(&mut self.next, Next::Absent) else {
            panic!("the next segment is finished before it is used");
        };
        self.older.push_back(Older::of(std::mem::replace(&mut self.current, next)));
        self.stats.segments += 1;

        let batch = self.open.pop_front().expect("the caller saw an open batch");
        let head = all_states(&self.written, &self.options);
        let bytes = batch.bytes_with(&head, self.current.number, self.next_batch);
        self.write_and_sync(&bytes)?;
        self.wrote(batch);
        Ok(())
    }

    /// Writes one batch and syncs it. After an error nothing is known any more.
    fn write_and_sync(&mut self, bytes: &[u8]) -> Result<(), WalError> {
        let (segment, length) = (&mut self.current, bytes.len() as u64);
        assert!(segment.end + length <= segment.bytes, "a batch stays inside its segment");
        let outcome = match segment.file.write_at(segment.end, bytes) {
            Ok(()) => segment.file.sync_data().map_err(WalError::io("sync", &segment.path)),
            Err(error) => Err(WalError::io("write", &segment.path)(error)),
        };
        if outcome.is_err() {
            self.poisoned = true;
            return outcome;
        }
        segment.end += length;
        self.next_batch += 1;
        self.sealed = false;
        self.stats.syncs += 1;
        self.stats.bytes += length;
        Ok(())
    }

    fn wrote(&mut self, mut batch: OpenBatch) {
        self.stats.entries += batch.entries();
        for (group, index) in batch.highest() {
            raise(&mut self.current.highest, *group, *index);
        }
        let after = batch.take_after().unwrap_or_else(|| states_of(batch.touched(), &self.tip));
        self.written.extend(after);
    }

    /// Length of a seal behind an open batch.
    fn seal_bytes_after(&self, batch: &OpenBatch) -> u64 {
        let frames = self.tip.iter().filter_map(|(group, tip)| {
            let state = match batch.after() {
                None => tip.state(),
                Some(after) => after.get(group).or_else(|| self.written.get(group))?,
            };
            Some(state_bytes(*group, state))
        });
        disk_bytes_of(frames.sum())
    }

    /// Finishes the next segment, however long it takes.
    fn finish_next(&mut self) -> Result<(), WalError> {
        while !matches!(self.next, Next::Ready(_)) {
            self.stats.late_steps += 1;
            self.advance_next()?;
        }
        Ok(())
    }

    /// Prepares as much of the next segment as the fill of the current one demands, so that
    /// nobody ever waits for a whole one: nothing in its first quarter, all by its third.
    ///
    /// A failure here is no failure of the sync before it; it shows once the segment is needed.
    fn catch_up(&mut self) {
        loop {
            let (filled, complete) = match &self.next {
                Next::Failed | Next::Ready(_) => return,
                Next::Absent => (0, false),
                Next::Growing(preparation) => (preparation.filled(), preparation.is_filled()),
            };
            let quarter = self.current.bytes / 4;
            let demanded = 2 * self.current.end.saturating_sub(quarter);
            let late = if complete { self.current.end >= 3 * quarter } else { filled < demanded };
            if !late || self.advance_next().is_err() {
                return;
            }
            self.stats.late_steps += 1;
        }
    }

    /// Takes one step towards the next segment; `true` once it is ready.
    fn advance_next(&mut self) -> Result<bool, WalError> {
        let number = self.current.number + 1;
        let disk = self.disk.as_ref();
        let step = match std::mem::replace(&mut self.next, Next::Failed) {
            Next::Ready(segment) => Ok(Next::Ready(segment)),
            Next::Growing(preparation) if preparation.is_filled() => {
                preparation.finish(disk, &self.dir, &[]).map(Next::Ready)
            }
            Next::Growing(mut preparation) => {
                preparation.step().map(|()| Next::Growing(preparation))
            }
            Next::Absent | Next::Failed => {
                let (dir, cluster) = (&self.dir, self.options.cluster);
                match self.freed.pop() {
                    Some(freed) => Preparation::reuse(disk, dir, cluster, number, &freed)
                        .inspect_err(|_| {
                            let _ = remove_if_present(disk, &freed.path);
                        }),
                    None => {
                        let bytes = self.options.segment_bytes;
                        Preparation::begin(disk, dir, cluster, number, bytes)
                    }
                }
                .map(Next::Growing)
            }
        };
        match step {
            Ok(next) => {
                self.next = next;
                Ok(matches!(self.next, Next::Ready(_)))
            }
            Err(source) => {
                // Gives the room back to whoever else needs it. If that fails too, the next
                // attempt or the next start removes the file.
                let _ = remove_if_present(disk, &unfinished_path_of(&self.dir, number));
                Err(WalError::Full { path: path_of(&self.dir, number), source })
            }
        }
    }
}

/// Length of a frame with its prefix.
fn frame_bytes(frame: &log::Frame) -> u64 {
    let bytes = frame.encoded_len();
    (prost::length_delimiter_len(bytes) + bytes) as u64
}

/// The present states of some groups.
fn states_of(
    groups: &BTreeSet<GroupId>,
    tracks: &BTreeMap<GroupId, GroupTrack>,
) -> BTreeMap<GroupId, log::GroupState> {
    groups
        .iter()
        .map(|group| {
            let track = tracks.get(group).expect("a group with a frame has a track");
            (*group, track.state().clone())
        })
        .collect()
}

/// The batch that a segment begins with and that a seal is.
pub(super) fn all_states(
    groups: &BTreeMap<GroupId, log::GroupState>,
    options: &WalOptions,
) -> OpenBatch {
    let states = OpenBatch::of_states(groups);
    let (bytes, bytes_max) = (states.frame_bytes() as u64, options.state_bytes_max());
    assert!(bytes <= bytes_max, "the states of all groups take {bytes} bytes, over {bytes_max}");
    states
}

/// Length of a frame with the state of a group, with its prefix.
fn state_bytes(group: GroupId, state: &log::GroupState) -> u64 {
    let body = Some(Body::GroupState(state.clone()));
    frame_bytes(&log::Frame { group: group.get(), body })
}
