//! The write-ahead log on a simulated disk: power loss, damage, faults, and what it must give back.

mod bad_sectors;
mod damage;
mod faults;
mod freeing;
mod kept;
mod limits;
mod model;
mod power_loss;
mod repair;
mod script;
mod trace;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::{ClusterId, GroupId, log};
use storage::disk::{Disk, OpenMode, SimDisk};
use storage::wal::{Recovered, SEGMENT_BYTES_MIN, Wal, WalError, WalOptions};

/// Sectors of the disk, to which batches are aligned.
const SECTOR: usize = 512;
/// Where the first batch of a segment begins.
const DATA_START: usize = 4096;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
const GROUP: GroupId = GroupId(1);

fn dir() -> PathBuf {
    PathBuf::from("/node/wal")
}

/// Options with which everything is given back at a start.
fn options() -> WalOptions {
    with_segments_of(SEGMENT_BYTES_MIN)
}

fn with_segments_of(segment_bytes: u64) -> WalOptions {
    WalOptions { cluster: CLUSTER, segment_bytes, keep_bytes: u64::MAX }
}

fn open(disk: &SimDisk) -> Result<(Wal, Recovered), WalError> {
    Wal::open(Arc::new(disk.clone()), &dir(), options())
}

/// A log with one empty group.
fn create(disk: &SimDisk) -> Wal {
    let groups = [(GROUP, log::GroupState::default())].into();
    Wal::create(Arc::new(disk.clone()), &dir(), options(), groups).unwrap()
}

fn entries_frame(first: u64, count: u64, bytes: usize) -> log::Frame {
    let entries = (first..first + count)
        .map(|index| log::Entry {
            term: 1,
            index,
            data: vec![index as u8; bytes].into(),
            ..Default::default()
        })
        .collect();
    let body = log::frame::Body::Entries(log::Entries { entries });
    log::Frame { group: GROUP.get(), body: Some(body) }
}

/// Indexes of the recovered entries of [`GROUP`].
fn indexes(recovered: &Recovered) -> Vec<u64> {
    recovered.groups[&GROUP].entries.iter().map(|entry| entry.index).collect()
}

fn segment_path(number: u64) -> PathBuf {
    dir().join(format!("wal-{number:016x}.seg"))
}

/// Moves the beginning of the log of [`GROUP`] to this entry of term 1, which is committed.
fn start_at(wal: &mut Wal, index: u64) {
    let mut state = wal.group_state(GROUP).unwrap().clone();
    let hard_state = state.hard_state.get_or_insert_default();
    hard_state.commit = hard_state.commit.max(index);
    (hard_state.term, state.start_index, state.start_term) = (1, index, 1);
    state.checkpoint = state.checkpoint.max(index);
    let body = Some(log::frame::Body::GroupState(state));
    wal.append(&[log::Frame { group: GROUP.get(), body }]);
}

/// Paths of all files of the log.
fn files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.list(&dir()).unwrap().iter().map(|name| dir().join(name)).collect()
}

fn content(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

fn overwrite(disk: &SimDisk, path: &Path, offset: usize, bytes: &[u8]) {
    let mut file = disk.open(path, OpenMode::ReadWrite).unwrap();
    file.write_at(offset as u64, bytes).unwrap();
    file.sync_data().unwrap();
}

/// Where a batch stands on disk.
#[derive(Clone, Debug)]
struct Batch {
    number: u64,
    path: PathBuf,
    offset: usize,
    /// Length of header and frames, without padding.
    bytes: usize,
}

/// All batches of a log, in order, found by the documented layout.
fn batches(disk: &SimDisk) -> Vec<Batch> {
    let mut batches = Vec::new();
    let segments = files(disk).into_iter().filter(|path| path.extension().unwrap() == "seg");
    for path in segments {
        let bytes = content(disk, &path);
        let mut offset = DATA_START;
        let segment = u64::from_str_radix(&path.to_str().unwrap()[14..30], 16).unwrap();
        while offset + 32 <= bytes.len()
            && &bytes[offset..offset + 4] == b"kvwb"
            && bytes[offset + 8..offset + 16] == segment.to_le_bytes()
        {
            let number = u64::from_le_bytes(bytes[offset + 16..offset + 24].try_into().unwrap());
            let length = u32::from_le_bytes(bytes[offset + 24..offset + 28].try_into().unwrap());
            let length = 32 + length as usize;
            batches.push(Batch { number, path: path.clone(), offset, bytes: length });
            offset += length.next_multiple_of(SECTOR);
        }
    }
    let numbers: Vec<u64> = batches.iter().map(|batch| batch.number).collect();
    let first = numbers[0];
    let expected: Vec<u64> = (first..first + numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "no gap in a good log");
    batches
}
