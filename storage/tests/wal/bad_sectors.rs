//! A disk that cannot read some of its sectors.

use std::path::{Path, PathBuf};

use storage::disk::SimDisk;
use storage::wal::{SEGMENT_BYTES_MIN, WalError, salvage};

use crate::{
    GROUP, batches, create, dir, entries_frame, indexes, open, options, segment_path, start_at,
};

/// A copy of the disk on which reads that touch this byte fail.
fn worn(disk: &SimDisk, path: &Path, at: u64) -> SimDisk {
    let worn = disk.fork();
    worn.break_sector(path, at).unwrap();
    worn
}

/// Where the log is damaged, as far as opening it can tell.
fn damage(disk: &SimDisk) -> (PathBuf, u64) {
    match open(disk) {
        Err(WalError::Damaged { path, offset, .. }) => (path, offset),
        other => panic!("{:?}", other.map(|(_, recovered)| recovered)),
    }
}

#[test]
fn b51_a_sector_that_cannot_be_read_is_damage_of_its_place() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    for index in 1..=40 {
        wal.append(&[entries_frame(index, 1, 2000)]);
        wal.sync().unwrap();
    }
    wal.seal().unwrap();
    let all = batches(&disk);
    let (seal, others) = all.split_last().unwrap();
    let headers = (1..=4).map(|number| (segment_path(number), 0));
    let places = others.iter().map(|batch| (batch.path.clone(), batch.offset as u64));
    for (path, at) in headers.chain(places) {
        let worn = worn(&disk, &path, at);
        let (found, offset) = damage(&worn);
        assert_eq!(found, path);
        assert!((offset..offset + 4096).contains(&at), "{offset} for {at}");
        let salvaged = salvage(&worn, &dir(), &options()).unwrap();
        let group = &salvaged[&GROUP];
        assert_eq!(group.highest.get(), 40);
        // The seal says it all, unless it shares the page that cannot be read.
        let readable = path != seal.path || at / 4096 != seal.offset as u64 / 4096;
        assert_eq!(group.hard_state.is_some(), readable, "{path:?} at {at}");
    }

    // Behind the seal there may have been something, for all anybody knows.
    let at = SEGMENT_BYTES_MIN - 1;
    assert!(at / 4096 > seal.offset as u64 / 4096);
    let behind = worn(&disk, &seal.path, at);
    assert_eq!(damage(&behind).1, at / 4096 * 4096);
    let salvaged = salvage(&behind, &dir(), &options()).unwrap();
    assert_eq!(salvaged[&GROUP].hard_state, None);

    // What nobody needs may be unreadable.
    start_at(&mut wal, 39);
    wal.sync().unwrap();
    let (_, recovered) = open(&worn(&disk, &segment_path(1), 5000)).unwrap();
    assert_eq!(indexes(&recovered), [40]);
    assert_eq!(indexes(&open(&disk).unwrap().1), [40]);
}
