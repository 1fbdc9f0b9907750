//! The write-ahead log on a simulated disk: power loss, damage, faults, and what it must give back.

mod damage;
mod faults;
mod limits;
mod model;
mod power_loss;
mod script;

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

fn options() -> WalOptions {
    WalOptions { cluster: CLUSTER, segment_bytes: SEGMENT_BYTES_MIN }
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
    for path in files(disk) {
        let bytes = content(disk, &path);
        let mut offset = DATA_START;
        while offset + 32 <= bytes.len() && &bytes[offset..offset + 4] == b"kvwb" {
            let number = u64::from_le_bytes(bytes[offset + 16..offset + 24].try_into().unwrap());
            let length = u32::from_le_bytes(bytes[offset + 24..offset + 28].try_into().unwrap());
            let length = 32 + length as usize;
            batches.push(Batch { number, path: path.clone(), offset, bytes: length });
            offset += length.next_multiple_of(SECTOR);
        }
    }
    let numbers: Vec<u64> = batches.iter().map(|batch| batch.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no gap in a good log");
    batches
}
