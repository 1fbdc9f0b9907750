//! Errors of the disk, a full disk, and files of others.

use std::io::ErrorKind;
use std::sync::Arc;

use proto::{ClusterId, log};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use storage::disk::{Disk, Operation, SimDisk};
use storage::wal::{Wal, WalError, WalOptions};

use crate::{
    GROUP, content, create, dir, entries_frame, files, indexes, open, options, overwrite,
    segment_path,
};

/// Appends and syncs entries until something fails; returns the last synced index.
fn fill(wal: &mut Wal, first: u64) -> (u64, WalError) {
    for index in first..first + 1000 {
        wal.append(&[entries_frame(index, 1, 2000)]);
        if let Err(error) = wal.sync() {
            return (index - 1, error);
        }
    }
    panic!("nothing failed");
}

fn every_image(disk: &SimDisk) -> Vec<SimDisk> {
    disk.images(500, &mut ChaCha8Rng::seed_from_u64(7)).collect()
}

#[test]
fn b50_an_error_while_writing_or_syncing_poisons_the_log() {
    for operation in [Operation::Write, Operation::Sync] {
        let disk = SimDisk::new();
        let mut wal = create(&disk);
        wal.append(&[entries_frame(1, 1, 2000)]);
        wal.sync().unwrap();
        wal.append(&[entries_frame(2, 1, 2000)]);
        disk.fail_next(operation, ErrorKind::Other);
        assert!(matches!(wal.sync(), Err(WalError::Io { .. })), "{operation:?}");

        let operations = disk.counters().operations;
        wal.append(&[entries_frame(3, 1, 2000)]);
        assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
        assert!(matches!(wal.seal(), Err(WalError::Poisoned)));
        assert!(matches!(wal.prepare_step(), Err(WalError::Poisoned)));
        assert_eq!(disk.counters().operations, operations, "a failed sync is never retried");

        for image in every_image(&disk) {
            let (_, recovered) = open(&image).unwrap();
            let found = indexes(&recovered);
            assert!([vec![1], vec![1, 2]].contains(&found), "{found:?}");
        }
    }
}

#[test]
fn b50_an_error_while_sealing_poisons_the_log() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    disk.fail_next(Operation::Sync, ErrorKind::Other);
    assert!(matches!(wal.seal(), Err(WalError::Io { .. })));
    assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
}

/// After a failed sync the system shows bytes that it never wrote, and later syncs succeed
/// without them. Whoever starts from what it reads must first make it true.
#[test]
fn b50_a_restart_after_a_failed_sync_makes_durable_what_it_read() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    wal.append(&[entries_frame(1, 1, 2000)]);
    disk.fail_next(Operation::Sync, ErrorKind::Other);
    assert!(wal.sync().is_err());
    drop(wal);
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(indexes(&recovered), [1], "the cache shows the batch");
    for image in every_image(&disk) {
        assert_eq!(indexes(&open(&image).unwrap().1), [1], "and so does the medium now");
    }
}

#[test]
fn b50_a_restart_after_a_failed_sync_of_the_directory_keeps_what_follows() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    disk.fail_next(Operation::SyncDir, ErrorKind::Other);
    assert!(matches!(prepare(&mut wal), Err(WalError::Full { .. })));
    drop(wal);
    let (mut wal, _) = open(&disk).unwrap();
    let mut index = 0;
    while wal.stats().segments == 0 {
        index += 1;
        wal.append(&[entries_frame(index, 1, 2000)]);
        wal.sync().unwrap();
    }
    for image in every_image(&disk) {
        assert_eq!(indexes(&open(&image).unwrap().1), (1..=index).collect::<Vec<_>>());
    }
}

#[test]
fn a_full_disk_stops_the_log_and_loses_nothing() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    disk.set_quota_bytes(Some(disk.used_bytes() + 3000));
    let (synced, error) = fill(&mut wal, 1);
    assert!(matches!(&error, WalError::Full { path, .. } if *path == segment_path(2)), "{error}");
    assert_eq!(files(&disk), [segment_path(1)], "the room of the attempt is given back");
    let pending = wal.pending_bytes();
    assert!(pending >= 2000);

    // It stays so while there is no room, and takes what comes.
    wal.append(&[entries_frame(synced + 2, 2, 2000)]);
    for _ in 0..3 {
        assert!(matches!(wal.sync(), Err(WalError::Full { .. })));
        assert!(matches!(prepare(&mut wal), Err(WalError::Full { .. })));
    }
    assert!(wal.pending_bytes() > pending);
    wal.seal().unwrap();
    for image in every_image(&disk) {
        assert_eq!(indexes(&open(&image).unwrap().1), (1..=synced).collect::<Vec<_>>());
    }

    disk.set_quota_bytes(None);
    wal.sync().unwrap();
    assert_eq!(wal.pending_bytes(), 0);
    for image in every_image(&disk) {
        assert_eq!(indexes(&open(&image).unwrap().1), (1..=synced + 3).collect::<Vec<_>>());
    }
}

fn prepare(wal: &mut Wal) -> Result<(), WalError> {
    while !wal.prepare_step()? {}
    Ok(())
}

#[test]
fn any_error_while_preparing_is_survived() {
    use Operation::{Create, Rename, Sync, SyncDir, Write};
    for operation in [Create, Write, Sync, Rename, SyncDir] {
        let disk = SimDisk::new();
        let mut wal = create(&disk);
        disk.fail_next(operation, ErrorKind::Other);
        assert!(matches!(prepare(&mut wal), Err(WalError::Full { .. })), "{operation:?}");
        for image in every_image(&disk) {
            open(&image).unwrap();
        }
        prepare(&mut wal).unwrap();
        let mut index = 0;
        while wal.stats().segments < 3 {
            index += 1;
            wal.append(&[entries_frame(index, 1, 2000)]);
            wal.sync().unwrap();
        }
        for image in every_image(&disk) {
            let found = indexes(&open(&image).unwrap().1);
            assert_eq!(found, (1..=index).collect::<Vec<_>>(), "{operation:?}");
        }
    }
}

#[test]
fn errors_while_creating_leave_no_log() {
    use Operation::{Create, CreateDir, Rename, Sync, SyncDir, Write};
    for operation in [CreateDir, Create, Write, Sync, Rename, SyncDir] {
        let disk = SimDisk::new();
        disk.fail_next(operation, ErrorKind::Other);
        let groups = [(GROUP, log::GroupState::default())].into();
        let failed = Wal::create(Arc::new(disk.clone()), &dir(), options(), groups);
        assert!(matches!(failed, Err(WalError::Io { .. })), "{operation:?}");
        assert!(!Wal::exists(&disk, &dir()).unwrap(), "{operation:?}");
        drop(create(&disk));
        assert_eq!(indexes(&open(&disk).unwrap().1), []);
    }
}

#[test]
fn a_log_is_created_once() {
    let disk = SimDisk::new();
    assert!(matches!(open(&disk), Err(WalError::Io { source, .. })
        if source.kind() == ErrorKind::NotFound));
    drop(create(&disk));
    let again = Wal::create(Arc::new(disk.clone()), &dir(), options(), [].into());
    assert!(matches!(again, Err(WalError::Io { source, .. })
        if source.kind() == ErrorKind::AlreadyExists));
}

#[test]
fn logs_of_other_clusters_and_newer_formats_are_refused() {
    let disk = SimDisk::new();
    drop(create(&disk));
    let other = WalOptions { cluster: ClusterId([0xdd; 16]), ..options() };
    match Wal::open(Arc::new(disk.clone()), &dir(), other) {
        Err(WalError::Foreign { path, why }) => {
            assert_eq!(path, segment_path(1));
            assert!(why.contains("c1c1") && why.contains("dddd"), "{why}");
        }
        other => panic!("{other:?}"),
    }

    // Version and checksum stand where every version has them.
    let before = content(&disk, &segment_path(1));
    for (version, age) in [(1_u32, "version 1 is older"), (3, "version 3 is newer")] {
        let mut header = before[..48].to_vec();
        header[8..12].copy_from_slice(&version.to_le_bytes());
        let crc = crc32c::crc32c(&header).to_le_bytes();
        header.extend_from_slice(&crc);
        overwrite(&disk, &segment_path(1), 0, &header);
        match open(&disk) {
            Err(WalError::Foreign { why, .. }) => assert!(why.contains(age), "{why}"),
            other => panic!("{other:?}"),
        }
        let salvaged = storage::wal::salvage(&disk, &dir(), &options());
        assert!(matches!(salvaged, Err(WalError::Foreign { .. })));
    }
    let after = content(&disk, &segment_path(1));
    assert_eq!(after[52..], before[52..], "a refused log is left alone");
}

#[test]
fn files_of_others_in_the_directory_are_left_alone() {
    let disk = SimDisk::new();
    drop(create(&disk));
    let stranger = dir().join("wal-notes.seg");
    drop(disk.open(&stranger, storage::disk::OpenMode::CreateNew).unwrap());
    let unfinished = dir().join("wal-0000000000000002.new");
    drop(disk.open(&unfinished, storage::disk::OpenMode::CreateNew).unwrap());
    open(&disk).unwrap();
    assert_eq!(files(&disk), [segment_path(1), stranger]);
}
