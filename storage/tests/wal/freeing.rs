//! Segments that go, files that come back, and logs that begin with a hole.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use proto::{LogIndex, log};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use storage::disk::{Disk, OpenMode, Operation, SimDisk};
use storage::wal::{RECYCLED_MAX, SEGMENT_BYTES_MIN, Tail, Wal, WalError};

use crate::{
    DATA_START, GROUP, SECTOR, batches, content, create, dir, entries_frame, files, indexes, open,
    overwrite, segment_path, start_at, with_segments_of,
};

/// Appends entries from `first` on until that many segments were started; returns the last index.
fn fill(wal: &mut Wal, first: u64, segments: u64) -> u64 {
    let before = wal.stats().segments;
    for index in first.. {
        wal.append(&[entries_frame(index, 1, 2000)]);
        wal.sync().unwrap();
        if wal.stats().segments == before + segments {
            return index;
        }
    }
    unreachable!("indexes do not end")
}

fn names(disk: &SimDisk, suffix: &str) -> Vec<String> {
    let names = disk.list(&dir()).unwrap();
    names.into_iter().filter(|name| name.ends_with(suffix)).collect()
}

fn every_image(disk: &SimDisk) -> Vec<SimDisk> {
    disk.images(500, &mut ChaCha8Rng::seed_from_u64(8)).collect()
}

#[test]
fn a_segment_goes_once_all_its_entries_are_below_a_durable_start() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let last = fill(&mut wal, 1, 3);
    let in_first = batches(&disk).iter().filter(|batch| batch.path == segment_path(1)).count();
    let highest = in_first as u64 - 1;

    // One entry too few.
    start_at(&mut wal, highest - 1);
    wal.sync().unwrap();
    assert_eq!(wal.free().unwrap(), 0);
    // Enough, but not durable.
    start_at(&mut wal, highest);
    assert_eq!(wal.free().unwrap(), 0);
    assert!(names(&disk, ".seg").contains(&"wal-0000000000000001.seg".to_owned()));
    wal.sync().unwrap();
    assert_eq!(wal.free().unwrap(), SEGMENT_BYTES_MIN);
    assert_eq!(names(&disk, ".seg")[0], "wal-0000000000000002.seg");
    assert_eq!(names(&disk, ".old"), ["wal-0000000000000001.old"]);
    assert_eq!(wal.bytes_on_disk(), disk.used_bytes());

    let (mut wal, recovered) = open(&disk).unwrap();
    let group = &recovered.groups[&GROUP];
    assert_eq!((group.start_index, group.first_kept), (LogIndex(highest), LogIndex(highest + 1)));
    assert_eq!(indexes(&recovered), (highest + 1..=last).collect::<Vec<_>>());
    // What each segment holds is known again.
    assert_eq!(wal.free().unwrap(), 0);
    start_at(&mut wal, last);
    wal.sync().unwrap();
    assert_eq!(wal.free().unwrap(), 2 * SEGMENT_BYTES_MIN, "the current segment stays");
    assert_eq!(indexes(&open(&disk).unwrap().1), []);
}

#[test]
fn freed_files_become_segments_and_no_more_than_enough_are_kept() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let last = fill(&mut wal, 1, 5);
    start_at(&mut wal, last);
    wal.sync().unwrap();
    assert_eq!(wal.free().unwrap(), 5 * SEGMENT_BYTES_MIN);
    assert_eq!(names(&disk, ".old").len(), RECYCLED_MAX);
    let (mut wal, _) = open(&disk).unwrap();
    assert_eq!(names(&disk, ".old").len(), RECYCLED_MAX, "kept across a start");
    assert_eq!(wal.bytes_on_disk(), disk.used_bytes());

    // They need no room, and nothing of their earlier life counts.
    disk.set_quota_bytes(Some(disk.used_bytes()));
    let before = disk.used_bytes();
    let mut next = last;
    for _ in 0..RECYCLED_MAX {
        next = fill(&mut wal, next + 1, 1);
    }
    assert_eq!(disk.used_bytes(), before);
    assert!(names(&disk, ".old").is_empty());
    let newest = files(&disk).pop().unwrap();
    let stale = content(&disk, &newest);
    assert_eq!(stale[12], 1, "the header says so");
    assert!(stale[DATA_START + 16 * SECTOR..].iter().any(|byte| *byte != 0));
    let (wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.tail, Tail::Clean, "old bytes are no torn tail");
    assert_eq!(indexes(&recovered), (last + 1..=next).collect::<Vec<_>>());
    assert_eq!(wal.bytes_on_disk(), disk.used_bytes());
}

#[test]
fn a_torn_tail_in_a_file_used_before_is_cut_and_the_rest_left_alone() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let first = fill(&mut wal, 1, 2);
    start_at(&mut wal, first);
    wal.sync().unwrap();
    assert!(wal.free().unwrap() > 0);
    // Two segments: the first was prepared before there was a file to use again.
    let last = fill(&mut wal, first + 1, 2);
    wal.append(&[entries_frame(last + 1, 1, 1200)]);
    wal.sync().unwrap();
    drop(wal);
    let batch = batches(&disk).pop().unwrap();
    let before = content(&disk, &batch.path);
    assert_eq!(before[12], 1);
    let sectors = batch.bytes.div_ceil(SECTOR);
    let end = batch.offset + sectors * SECTOR;
    assert!(before[end..].iter().any(|byte| *byte != 0), "bytes of the earlier life");
    for kept in 0..(1_u32 << sectors) - 1 {
        let torn = disk.fork();
        for sector in (0..sectors).filter(|sector| kept >> sector & 1 == 0) {
            overwrite(&torn, &batch.path, batch.offset + sector * SECTOR, &[0x5a; SECTOR]);
        }
        let (mut wal, recovered) = open(&torn).unwrap();
        assert_eq!(indexes(&recovered).last(), Some(&last));
        // Without its first sector, nothing tells it from older bytes, and nothing can make it
        // valid again.
        assert_eq!(recovered.tail != Tail::Clean, kept & 1 == 1, "{kept:b}");
        let cut = content(&torn, &batch.path);
        assert_eq!(cut[end..], before[end..]);
        if kept & 1 == 1 {
            assert!(cut[batch.offset..end].iter().all(|byte| *byte == 0));
        }
        wal.append(&[entries_frame(last + 1, 1, 700)]);
        wal.sync().unwrap();
        // The lost sectors of the old batch appear: it does not come back.
        let late = batch.offset + 2 * SECTOR;
        overwrite(&torn, &batch.path, late, &before[late..end]);
        let (_, recovered) = open(&torn).unwrap();
        assert_eq!(recovered.groups[&GROUP].entries.last().unwrap().data.len(), 700);
    }
}

#[test]
fn any_error_while_preparing_from_a_freed_file_is_survived() {
    for operation in [Operation::Rename, Operation::SyncDir, Operation::Write, Operation::Sync] {
        let disk = SimDisk::new();
        let mut wal = create(&disk);
        let mut last = fill(&mut wal, 1, 3);
        while !wal.prepare_step().unwrap() {}
        start_at(&mut wal, last);
        wal.sync().unwrap();
        assert_eq!(wal.free().unwrap(), 3 * SEGMENT_BYTES_MIN);
        // The segment that is ready now was prepared before.
        last = fill(&mut wal, last + 1, 1);
        disk.fail_next(operation, ErrorKind::Other);
        let failed = std::iter::repeat_with(|| wal.prepare_step()).find(|step| !is_step(step));
        assert!(matches!(failed, Some(Err(WalError::Full { .. }))), "{operation:?}");
        assert_eq!(wal.bytes_on_disk(), disk.used_bytes(), "{operation:?}");
        for image in every_image(&disk) {
            open(&image).unwrap();
        }
        for _ in 0..3 {
            last = fill(&mut wal, last + 1, 1);
            for image in every_image(&disk) {
                let (_, recovered) = open(&image).unwrap();
                assert_eq!(indexes(&recovered).last(), Some(&last), "{operation:?}");
            }
        }
    }
}

#[test]
fn files_of_another_length_are_not_used_again() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let last = fill(&mut wal, 1, 3);
    start_at(&mut wal, last);
    wal.sync().unwrap();
    wal.free().unwrap();
    assert_eq!(names(&disk, ".old").len(), 2);
    drop(wal);
    let longer = with_segments_of(2 * SEGMENT_BYTES_MIN);
    let shared = Arc::new(disk.clone());
    let (mut wal, _) = Wal::open(shared, &dir(), longer).unwrap();
    assert!(names(&disk, ".old").is_empty());
    assert_eq!(wal.bytes_on_disk(), disk.used_bytes());
    // The next ones to go are short as well, and are removed.
    let last = fill(&mut wal, last + 1, 1);
    start_at(&mut wal, last);
    wal.sync().unwrap();
    assert!(wal.free().unwrap() > 0);
    assert!(names(&disk, ".old").is_empty());
    assert_eq!(indexes(&open(&disk).unwrap().1), []);
}

#[test]
fn an_idle_group_pins_no_segment_and_one_with_entries_does() {
    let disk = SimDisk::new();
    let idle = proto::GroupId(7);
    let groups = [(GROUP, log::GroupState::default()), (idle, log::GroupState::default())].into();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut wal = Wal::create(shared, &dir(), crate::options(), groups).unwrap();
    let vote = log::HardState { term: 9, vote: 3, commit: 0 };
    wal.append(&[log::Frame { group: 7, body: Some(log::frame::Body::HardState(vote)) }]);
    let last = fill(&mut wal, 1, 2);
    start_at(&mut wal, last);
    wal.sync().unwrap();
    assert_eq!(wal.free().unwrap(), 2 * SEGMENT_BYTES_MIN);
    assert_eq!(open(&disk).unwrap().1.groups[&idle].hard_state, vote);

    let mut entry = entries_frame(1, 1, 5);
    entry.group = 7;
    wal.append(&[entry]);
    wal.sync().unwrap();
    let last = fill(&mut wal, last + 1, 2);
    start_at(&mut wal, last);
    wal.sync().unwrap();
    assert_eq!(wal.free().unwrap(), 0, "the entry of the other group is needed");
    assert_eq!(open(&disk).unwrap().1.groups[&idle].entries.len(), 1);
}

#[test]
fn an_entry_that_was_replaced_holds_its_segment_until_its_index_is_covered() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let last = fill(&mut wal, 1, 1);
    // A new leader replaces everything from 5 on, in the second segment.
    let mut replaced = entries_frame(5, 1, 10);
    if let Some(log::frame::Body::Entries(entries)) = &mut replaced.body {
        entries.entries[0].term = 2;
    }
    wal.append(&[replaced]);
    let mut state = wal.group_state(GROUP).unwrap().clone();
    assert_eq!((state.last_index, state.last_term), (5, 2));
    state.hard_state = Some(log::HardState { term: 2, vote: 0, commit: 5 });
    (state.start_index, state.start_term) = (4, 1);
    wal.append(&[log::Frame {
        group: GROUP.get(),
        body: Some(log::frame::Body::GroupState(state)),
    }]);
    wal.sync().unwrap();
    assert!(last > 5);
    assert_eq!(wal.free().unwrap(), 0, "entries above the start were in it");
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(indexes(&recovered), [5]);
    // Were it gone, the log would still be whole: the replacement covers the hole.
    disk.remove_file(&segment_path(1)).unwrap();
    let (_, again) = open(&disk).unwrap();
    assert_eq!(again.groups, recovered.groups);
}

#[test]
fn b51_a_hole_that_nothing_covers_is_damage() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let last = fill(&mut wal, 1, 3);
    disk.remove_file(&segment_path(1)).unwrap();
    match open(&disk) {
        Err(WalError::Damaged { path, why, .. }) => {
            assert_eq!(path, segment_path(2));
            assert!(why.contains("are in no segment"), "{why}");
        }
        other => panic!("{:?}", other.map(|(_, recovered)| recovered)),
    }
    start_at(&mut wal, last);
    wal.sync().unwrap();
    assert_eq!(indexes(&open(&disk).unwrap().1), []);
}

#[test]
fn b51_damage_to_what_nobody_needs_is_harmless() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let kept = fill(&mut wal, 1, 3);
    start_at(&mut wal, kept - 1);
    wal.sync().unwrap();
    drop(wal);
    let (_, whole) = open(&disk.fork()).unwrap();
    let all = batches(&disk);
    let needed = all.last().unwrap().path.clone();
    for batch in all.iter().filter(|batch| batch.path != needed) {
        let broken = disk.fork();
        broken.flip_bit(&batch.path, batch.offset as u64 + 40, 3).unwrap();
        let (wal, recovered) = open(&broken).unwrap();
        assert_eq!(recovered, whole, "batch {}", batch.number);
        assert_eq!(wal.bytes_on_disk(), broken.used_bytes(), "what lies before it is removed");
    }
    for missing in 1..3 {
        let broken = disk.fork();
        broken.remove_file(&segment_path(missing)).unwrap();
        assert_eq!(open(&broken).unwrap().1, whole);
    }
}

#[test]
fn b50_an_error_while_freeing_poisons_the_log_and_loses_nothing() {
    for operation in [Operation::Rename, Operation::SyncDir] {
        let disk = SimDisk::new();
        let mut wal = create(&disk);
        let last = fill(&mut wal, 1, 2);
        start_at(&mut wal, last);
        wal.sync().unwrap();
        disk.fail_next(operation, ErrorKind::Other);
        assert!(matches!(wal.free(), Err(WalError::Io { .. })), "{operation:?}");
        assert!(matches!(wal.free(), Err(WalError::Poisoned)));
        assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
        drop(wal);
        for image in every_image(&disk) {
            assert_eq!(indexes(&open(&image).unwrap().1), []);
        }
        // The system shows names that the medium never gets, and the files are used again.
        let (mut wal, _) = open(&disk).unwrap();
        let mut next = last;
        for _ in 0..4 {
            next = fill(&mut wal, next + 1, 1);
            start_at(&mut wal, next);
            wal.sync().unwrap();
            wal.free().unwrap();
            for image in every_image(&disk) {
                let (_, recovered) = open(&image).unwrap();
                assert_eq!(recovered.groups[&GROUP].start_index, LogIndex(next));
            }
        }
    }
}

fn is_step(step: &Result<bool, WalError>) -> bool {
    matches!(step, Ok(false))
}

#[test]
fn b33_a_full_disk_at_every_step_of_a_start_loses_nothing() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let first = fill(&mut wal, 1, 3);
    start_at(&mut wal, first);
    wal.sync().unwrap();
    wal.free().unwrap();
    let last = fill(&mut wal, first + 1, 2);
    drop(wal);
    // A torn tail to cut, and files that are of no use.
    let end = batches(&disk).pop().unwrap();
    let end_of = end.offset + end.bytes.next_multiple_of(SECTOR);
    let mut torn = content(&disk, &end.path)[end.offset..end.offset + SECTOR].to_vec();
    torn[16] += 1;
    overwrite(&disk, &end.path, end_of, &torn);
    let unfinished = dir().join("wal-00000000000000ff.new");
    drop(disk.open(&unfinished, OpenMode::CreateNew).unwrap());
    disk.sync_dir(&dir()).unwrap();
    let expected: Vec<u64> = (first + 1..=last).collect();

    // Nothing in a start needs room.
    let full = disk.fork();
    full.set_quota_bytes(Some(full.used_bytes()));
    let (mut wal, recovered) = open(&full).unwrap();
    assert_eq!(indexes(&recovered), expected);
    assert!(recovered.tail != Tail::Clean);
    // Preparing fails long before the end of the segment. Behind an export the log may begin
    // later, and what is freed gives it room.
    let mut index = last;
    let error = loop {
        index += 1;
        wal.append(&[entries_frame(index, 1, 500)]);
        wal.sync().unwrap();
        let prepared = std::iter::repeat_with(|| wal.prepare_step()).find(|step| !is_step(step));
        if let Some(Err(error)) = prepared {
            break error;
        }
        assert!(index < last + 1000);
    };
    assert!(matches!(error, WalError::Full { .. }), "{error}");
    drop(wal);
    let (mut wal, recovered) = open(&full).unwrap();
    assert_eq!(indexes(&recovered), (first + 1..=index).collect::<Vec<_>>());
    start_at(&mut wal, index - 1);
    wal.sync().unwrap();
    assert!(wal.free().unwrap() > 0);
    while !wal.prepare_step().unwrap() {}
    let next = fill(&mut wal, index + 1, 1);
    assert_eq!(indexes(&open(&full).unwrap().1), (index..=next).collect::<Vec<_>>());

    // And where the system says so all the same, the next start finds everything.
    for operation in [Operation::Write, Operation::Sync, Operation::Remove, Operation::SyncDir] {
        let full = disk.fork();
        full.fail_next(operation, ErrorKind::StorageFull);
        assert!(matches!(open(&full), Err(WalError::Io { .. })), "{operation:?}");
        for image in every_image(&full) {
            assert_eq!(indexes(&open(&image).unwrap().1), expected, "{operation:?}");
        }
        assert_eq!(indexes(&open(&full).unwrap().1), expected, "{operation:?}");
    }
}

/// Where a freed file may be after a power loss.
fn without_power(disk: &SimDisk) -> Vec<Vec<PathBuf>> {
    every_image(disk).iter().map(files).collect()
}

#[test]
fn segments_go_one_by_one() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let last = fill(&mut wal, 1, 4);
    start_at(&mut wal, last);
    wal.sync().unwrap();
    let operations = disk.counters().operations;
    for operation in 0..8 {
        let disk = SimDisk::new();
        let mut wal = create(&disk);
        fill(&mut wal, 1, 4);
        start_at(&mut wal, last);
        wal.sync().unwrap();
        assert_eq!(disk.counters().operations, operations);
        disk.halt_at(operations + operation);
        assert!(wal.free().is_err());
        for files in without_power(&disk) {
            let segments = files.iter().filter(|path| path.extension().unwrap() == "seg");
            let segments: Vec<_> = segments.cloned().collect();
            let without_gap = 6 - segments.len() as u64..6;
            assert_eq!(segments, without_gap.map(segment_path).collect::<Vec<_>>());
        }
    }
    assert_eq!(wal.free().unwrap(), 4 * SEGMENT_BYTES_MIN);
}
