//! Opening a log: reading it back, and making true on disk what was read.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::{GroupId, LogIndex, Term, log};

use super::error::WalError;
use super::free::Older;
use super::outline::{Content, EntryOutline, Outline};
use super::prepare::{Freed, remove_if_present};
use super::recover::{Position, ScannedSegment, Sink, Walked, walk};
use super::segment::{Segment, is_freed, is_unfinished, unfinished_path_of};
use super::track::{GroupTrack, LogEdit};
use super::writer::{Next, Wal};
use super::{RECYCLED_MAX, Recovered, RecoveredGroup, Tail, WalOptions, WalStats};
use crate::disk::{Disk, OpenMode};

impl Wal {
    /// Opens a log and reads it back, one segment in memory at a time. A torn tail is cut.
    /// Everything returned is durable, even if it was written by a process that died before it
    /// could sync.
    ///
    /// Of the entries that a checkpoint covers, only the last [`WalOptions::keep_bytes`] of a group
    /// are returned; [`replay`](super::replay) reads the others.
    ///
    /// # Errors
    /// [`WalError::Damaged`] and [`WalError::Foreign`], with nothing changed on disk;
    /// [`WalError::Io`].
    ///
    /// # Panics
    /// If the options contradict themselves.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
    ) -> Result<(Self, Recovered), WalError> {
        options.check();
        let keep_bytes = options.keep_bytes;
        let (walked, kept) = walk(disk.as_ref(), dir, options.cluster, || Kept::new(keep_bytes))?;
        let groups = kept.into_groups(&walked.tracks).map_err(|error| {
            WalError::damaged(dir, 0, format!("an entry does not decode: {error}"))
        })?;
        let tail = tail_of(&walked);
        let Walked { tracks, older, current, spare, next_batch, sealed, mut garbage } = walked;
        let current = reopen(disk.as_ref(), current)?;
        let mut next = Next::Absent;
        match spare {
            // Batches are made to fit into segments of the length in the options.
            Some(short) if short.bytes < options.segment_bytes => garbage.push(short.path),
            Some(spare) => next = Next::Ready(reopen(disk.as_ref(), spare)?),
            None => {}
        }
        let freed = sort_out(disk.as_ref(), dir, &options, &mut garbage)?;
        for path in &garbage {
            remove_if_present(disk.as_ref(), path).map_err(WalError::io("remove", path))?;
        }
        if let Next::Ready(spare) = &next {
            rename_again(disk.as_ref(), dir, spare)?;
        }
        disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;

        let written = tracks.iter().map(|(group, track)| (*group, track.state().clone())).collect();
        let wal = Self {
            disk,
            dir: dir.to_owned(),
            options,
            older: older.into_iter().map(older_of).collect(),
            current,
            next,
            freed,
            next_batch,
            open: VecDeque::new(),
            written,
            tip: tracks,
            sealed,
            poisoned: false,
            stats: WalStats::default(),
        };
        Ok((wal, Recovered { groups, tail }))
    }
}

/// The entries to be returned, while the log is read.
struct Kept {
    keep_bytes: u64,
    entries: BTreeMap<GroupId, VecDeque<EntryOutline>>,
}

impl Kept {
    fn new(keep_bytes: u64) -> Self {
        Self { keep_bytes, entries: BTreeMap::new() }
    }

    fn into_groups(
        mut self,
        tracks: &BTreeMap<GroupId, GroupTrack>,
    ) -> Result<BTreeMap<GroupId, RecoveredGroup>, prost::DecodeError> {
        let mut groups = BTreeMap::new();
        for (group, track) in tracks {
            let outlines = self.entries.remove(group).unwrap_or_default().into_iter();
            let entries = outlines.map(EntryOutline::decode).collect::<Result<_, _>>()?;
            groups.insert(*group, recovered_group(track, entries));
        }
        Ok(groups)
    }
}

impl Sink for Kept {
    fn frame(&mut self, _position: Position, frame: Outline, edit: LogEdit) {
        let entries = self.entries.entry(frame.group).or_default();
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
        if let Content::Entries(new) = frame.body {
            entries.extend(new);
        }
    }

    /// Drops what is covered by now. What follows can only cover more.
    fn segment_ends(&mut self, tracks: &BTreeMap<GroupId, GroupTrack>) {
        for (group, entries) in &mut self.entries {
            let checkpoint = tracks.get(group).map_or(0, |track| track.state().checkpoint);
            let covered = entries.partition_point(|entry| entry.index <= checkpoint);
            let mut bytes = 0;
            let kept = entries.range(..covered).rev().take_while(|entry| {
                bytes += entry.bytes();
                bytes <= self.keep_bytes
            });
            let dropped = covered - kept.count();
            entries.drain(..dropped);
            // Those of earlier segments were kept before.
            entries.iter_mut().rev().take_while(|entry| !entry.is_kept()).for_each(|e| e.keep());
        }
    }
}

fn recovered_group(track: &GroupTrack, entries: Vec<log::Entry>) -> RecoveredGroup {
    let state = track.state().clone();
    let first_kept = entries.first().map_or(state.last_index + 1, |entry| entry.index);
    let kept_term = track.term_of(first_kept - 1).expect("the log has no hole and holds the entry");
    RecoveredGroup {
        hard_state: state.hard_state.unwrap_or_default(),
        conf_state: state.conf_state.unwrap_or_default(),
        change: state.change,
        start_index: LogIndex(state.start_index),
        start_term: Term(state.start_term),
        first_kept: LogIndex(first_kept),
        kept_term: Term(kept_term),
        entries,
        checkpoint: LogIndex(state.checkpoint),
        state_dir: state.state_dir,
    }
}

/// How the log ended, before it is repaired.
fn tail_of(walked: &Walked) -> Tail {
    let torn = [Some(&walked.current), walked.spare.as_ref()]
        .into_iter()
        .flatten()
        .find(|segment| segment.torn.is_some());
    match torn {
        Some(segment) => Tail::Torn { segment: segment.number, offset: segment.end },
        None => Tail::Clean,
    }
}

/// Decides about the files that are no segments: which of those freed are kept for their next
/// use; everything else becomes garbage.
fn sort_out(
    disk: &dyn Disk,
    dir: &Path,
    options: &WalOptions,
    garbage: &mut Vec<PathBuf>,
) -> Result<Vec<Freed>, WalError> {
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
    let mut freed = Vec::new();
    for name in names {
        let path = dir.join(&name);
        if is_unfinished(&name) {
            garbage.push(path);
        } else if is_freed(&name) {
            let bytes = disk.open(&path, OpenMode::Read).and_then(|file| file.len());
            match bytes {
                Ok(bytes) if bytes == options.segment_bytes && freed.len() < RECYCLED_MAX => {
                    freed.push(Freed { path, bytes });
                }
                Ok(_) | Err(_) => garbage.push(path),
            }
        }
    }
    Ok(freed)
}

/// Opens a segment for writing and makes it durable as it was read.
///
/// The last batch may never have reached the disk: its writer was killed before the sync, or the
/// sync failed and the system only shows what it could not write. So it is written once more.
fn reopen(disk: &dyn Disk, scanned: ScannedSegment) -> Result<Segment, WalError> {
    let path = scanned.path;
    let mut file = disk.open(&path, OpenMode::ReadWrite).map_err(WalError::io("open", &path))?;
    if let Some((offset, batch)) = &scanned.last_batch {
        file.write_at(*offset, batch).map_err(WalError::io("write", &path))?;
    }
    if let Some((from, to)) = scanned.torn {
        let zeros = vec![0; (to - from) as usize];
        file.write_at(from, &zeros).map_err(WalError::io("cut", &path))?;
    }
    file.sync_data().map_err(WalError::io("sync", &path))?;
    Ok(Segment {
        number: scanned.number,
        path,
        file,
        bytes: scanned.bytes,
        end: scanned.end,
        highest: scanned.highest,
    })
}

fn older_of(scanned: ScannedSegment) -> Older {
    let ScannedSegment { number, path, bytes, highest, .. } = scanned;
    Older { number, path, bytes, highest }
}

/// Gives a spare segment its name once more, in case an earlier sync of the directory failed.
fn rename_again(disk: &dyn Disk, dir: &Path, spare: &Segment) -> Result<(), WalError> {
    let unfinished = unfinished_path_of(dir, spare.number);
    disk.rename(&spare.path, &unfinished)
        .and_then(|()| disk.rename(&unfinished, &spare.path))
        .map_err(WalError::io("rename", &spare.path))
}
