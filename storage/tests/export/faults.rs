//! A full disk and failing operations: the export that was there stays, and a later attempt works.

use std::io::ErrorKind;
use std::sync::Arc;

use proto::LogIndex;
use storage::disk::{Operation, SimDisk};
use storage::export::{
    ChunkReader, ExportError, ExportWriter, PartFile, exports_in, prune, sweep, verify,
};

use crate::{GROUP, dir, header, path, records, write};

fn base() -> SimDisk {
    let disk = SimDisk::new();
    write(&disk, 10, &records(10, 50_000)).unwrap();
    disk
}

/// The old export is whole, and the new one as well if it is there.
fn assert_kept(disk: &SimDisk, what: &str) {
    let there = exports_in(disk, &dir()).unwrap();
    assert!(there.iter().any(|(_, index, _)| *index == LogIndex(10)), "{what}: {there:?}");
    for (_, _, path) in there {
        verify(disk, &path).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[test]
fn b33_a_disk_that_fills_up_at_any_operation_costs_only_the_new_export() {
    let new = records(20, 700_000);
    let whole = base();
    let start = whole.counters().operations;
    write(&whole, 20, &new).unwrap();
    let mut full = 0;
    for operation in start..whole.counters().operations {
        let disk = base();
        disk.set_full_at(Some(operation));
        let what = format!("full at operation {operation}");
        match write(&disk, 20, &new) {
            Ok(_) => {}
            Err(ExportError::Full { .. }) => full += 1,
            Err(error) => panic!("{what}: {error}"),
        }
        assert_kept(&disk, &what);
        // Boot, on a disk that is still full.
        sweep(&disk, &dir()).unwrap();
        assert_kept(&disk, &what);
        disk.set_full_at(None);
        write(&disk, 20, &new).unwrap();
        assert_eq!(prune(&disk, &dir(), GROUP, LogIndex(20)).unwrap(), 1);
        verify(&disk, &path(20)).unwrap();
    }
    assert!(full >= 5, "{full} of {} operations", whole.counters().operations - start);
}

#[test]
fn every_failing_operation_of_writing_is_an_error_and_ends_the_export() {
    use Operation::{Create, CreateDir, Remove, Rename, Sync, SyncDir, Write};
    let new = records(20, 300_000);
    for (operation, kind) in [
        (Create, ErrorKind::Other),
        (CreateDir, ErrorKind::Other),
        (Remove, ErrorKind::PermissionDenied),
        (Rename, ErrorKind::Other),
        (Sync, ErrorKind::Other),
        (SyncDir, ErrorKind::Other),
        (Write, ErrorKind::Other),
        (Sync, ErrorKind::StorageFull),
        (Write, ErrorKind::QuotaExceeded),
    ] {
        let disk = base();
        disk.fail_next(operation, kind);
        let error = write(&disk, 20, &new).unwrap_err();
        let full = matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        assert_eq!(matches!(error, ExportError::Full { .. }), full, "{operation:?}: {error}");
        assert_kept(&disk, &format!("{operation:?}"));
        write(&disk, 20, &new).unwrap();
    }
}

#[test]
fn a_writer_that_failed_stays_failed() {
    let disk = base();
    let mut writer = ExportWriter::create(Arc::new(disk.clone()), &path(20), header(20)).unwrap();
    disk.fail_next(Operation::Write, ErrorKind::StorageFull);
    let failed = records(1, 2_000_000).iter().find_map(|record| writer.push(record).err());
    assert!(matches!(failed, Some(ExportError::Full { .. })), "{failed:?}");
    assert!(matches!(writer.push(&records(1, 10)[0]), Err(ExportError::Io { .. })));
    assert!(matches!(writer.finish(), Err(ExportError::Io { .. })));
    assert_kept(&disk, "after a failed write");
    assert_eq!(exports_in(&disk, &dir()).unwrap().len(), 1);
}

#[test]
fn b33_a_transfer_waits_for_room_and_goes_on() {
    let source = SimDisk::new();
    let offered = write(&source, 20, &records(20, 900_000)).unwrap();
    let reader = ChunkReader::open(&source, &offered.path).unwrap();
    let disk = base();
    let room = disk.used_bytes() + 300_000;
    disk.set_quota_bytes(Some(room));
    let mut part =
        PartFile::create(Arc::new(disk.clone()), &path(20), offered.bytes, offered.sha256).unwrap();
    let mut refused = 0;
    while !part.is_complete() {
        let before = part.received();
        match part.write_at(before, &reader.read(before).unwrap()) {
            Ok(received) => assert!(received > before),
            Err(ExportError::Full { .. }) => {
                assert_eq!(part.received(), before, "the piece is not counted");
                refused += 1;
                disk.set_quota_bytes(None);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 1);
    part.finish().unwrap();
    verify(&disk, &path(20)).unwrap();
}

#[test]
fn a_transfer_whose_sync_failed_is_given_up() {
    let source = SimDisk::new();
    let offered = write(&source, 20, &records(20, 100_000)).unwrap();
    let reader = ChunkReader::open(&source, &offered.path).unwrap();
    let disk = base();
    let mut part =
        PartFile::create(Arc::new(disk.clone()), &path(20), offered.bytes, offered.sha256).unwrap();
    part.write_at(0, &reader.read(0).unwrap()).unwrap();
    disk.fail_next(Operation::Sync, ErrorKind::Other);
    assert!(part.finish().is_err());
    assert!(part.finish().is_err(), "the next sync would succeed without the bytes");
    part.discard().unwrap();
    assert_kept(&disk, "after a failed sync");
}
