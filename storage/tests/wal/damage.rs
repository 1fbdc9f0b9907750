//! Damage to what was synced, and tails that only look like it.

use std::collections::BTreeMap;

use proto::log;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::disk::{Disk, SimDisk};
use storage::wal::{Tail, Wal, WalError};

use crate::{
    Batch, DATA_START, SECTOR, batches, content, create, dir, entries_frame, files, indexes, open,
    overwrite, segment_path,
};

/// Entries of the log that most tests damage.
const ENTRIES: u64 = 40;

/// A log of several segments, a batch per entry, without a seal.
fn written() -> (SimDisk, Wal) {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    for index in 1..=ENTRIES {
        wal.append(&[entries_frame(index, 1, 100 * (index as usize % 30))]);
        wal.sync().unwrap();
    }
    assert!(wal.stats().segments >= 3, "{:?}", wal.stats());
    while !wal.prepare_step().unwrap() {}
    (disk, wal)
}

/// Opens a damaged log; it must say where, and leave every byte as it is.
fn assert_damaged(disk: &SimDisk, batch: &Batch, what: &str) {
    let bytes = |disk: &SimDisk| -> BTreeMap<_, _> {
        files(disk).into_iter().map(|path| (path.clone(), content(disk, &path))).collect()
    };
    let before = bytes(disk);
    match open(disk) {
        Err(WalError::Damaged { path, offset, why }) => {
            assert_eq!((path, offset), (batch.path.clone(), batch.offset as u64), "{what}: {why}");
        }
        Err(error) => panic!("{what}: {error}"),
        Ok((_, recovered)) => panic!("{what}: opened with {:?}", indexes(&recovered)),
    }
    assert!(bytes(disk) == before, "{what}: recovery changed a damaged log");
}

#[test]
fn b51_a_flipped_bit_in_any_batch_but_the_last_is_damage() {
    let (disk, _) = written();
    let mut rng = ChaCha8Rng::seed_from_u64(51);
    let batches = batches(&disk);
    let (_, but_last) = batches.split_last().unwrap();
    for batch in but_last {
        let header = (0..32).step_by(3);
        let anywhere: Vec<usize> = (0..20).map(|_| rng.random_range(0..batch.bytes)).collect();
        for at in header.chain(anywhere) {
            let broken = disk.fork();
            let bit = rng.random_range(0..8);
            broken.flip_bit(&batch.path, (batch.offset + at) as u64, bit).unwrap();
            assert_damaged(&broken, batch, &format!("batch {}, byte {at}", batch.number));
        }
    }
}

#[test]
fn b51_a_lost_batch_is_damage() {
    let (disk, _) = written();
    let batches = batches(&disk);
    let (_, but_last) = batches.split_last().unwrap();
    for batch in but_last {
        let broken = disk.fork();
        let zeros = vec![0; batch.bytes.next_multiple_of(SECTOR)];
        overwrite(&broken, &batch.path, batch.offset, &zeros);
        assert_damaged(&broken, batch, &format!("batch {} never written", batch.number));
    }
}

#[test]
fn b51_damage_to_the_last_batch_shows_once_it_is_sealed() {
    let (disk, mut wal) = written();
    let last = batches(&disk).pop().unwrap();
    let flip = |disk: &SimDisk| disk.flip_bit(&last.path, last.offset as u64 + 33, 0).unwrap();

    // Without a seal it cannot be told from a batch that was never synced.
    let unsealed = disk.fork();
    flip(&unsealed);
    let (_, recovered) = open(&unsealed).unwrap();
    assert_eq!(indexes(&recovered), (1..ENTRIES).collect::<Vec<_>>());
    assert!(matches!(recovered.tail, Tail::Torn { offset, .. } if offset == last.offset as u64));

    wal.seal().unwrap();
    assert_eq!(wal.stats().seals, 1);
    wal.seal().unwrap();
    assert_eq!(wal.stats().seals, 1, "a sealed log needs no second seal");
    let sealed = disk.fork();
    flip(&sealed);
    assert_damaged(&sealed, &last, "the last batch, sealed");
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.tail, Tail::Clean);
    wal.seal().unwrap();
    assert_eq!(wal.stats().seals, 0, "the seal is still there after a start");
}

#[test]
fn b51_no_flipped_bit_shortens_a_sealed_log() {
    let (disk, mut wal) = written();
    wal.seal().unwrap();
    drop(wal);
    let mut rng = ChaCha8Rng::seed_from_u64(52);
    let (mut damaged, mut harmless) = (0, 0);
    // The seal itself is the last batch; losing it loses nothing.
    for path in files(&disk) {
        let len = content(&disk, &path).len() as u64;
        for _ in 0..500 {
            let broken = disk.fork();
            let at = rng.random_range(0..len);
            broken.flip_bit(&path, at, rng.random_range(0..8)).unwrap();
            match open(&broken) {
                Ok((_, recovered)) => {
                    assert_eq!(indexes(&recovered).len() as u64, ENTRIES, "{path:?} at {at}");
                    harmless += 1;
                }
                Err(WalError::Damaged { .. }) => damaged += 1,
                Err(error) => panic!("{path:?} at {at}: {error}"),
            }
        }
    }
    assert!(damaged > 100 && harmless > 100, "{damaged} damaged, {harmless} harmless");
}

#[test]
fn damaged_headers_and_missing_segments_are_damage() {
    let (disk, _) = written();
    let last_used = batches(&disk).pop().unwrap().path;
    for path in files(&disk) {
        let broken = disk.fork();
        broken.flip_bit(&path, 20, 1).unwrap();
        if path > last_used {
            // The spare holds nothing; another one takes its place.
            let (mut wal, recovered) = open(&broken).unwrap();
            assert_eq!(indexes(&recovered).len() as u64, ENTRIES);
            assert!(!broken.list(&dir()).unwrap().contains(&name(&path)));
            while !wal.prepare_step().unwrap() {}
            assert!(broken.list(&dir()).unwrap().contains(&name(&path)));
        } else {
            let header = Batch { number: 0, path, offset: 0, bytes: 0 };
            assert_damaged(&broken, &header, "header");
        }
    }
    // Without a spare behind it, a used segment is still no spare.
    let broken = disk.fork();
    broken.remove_file(files(&disk).last().unwrap()).unwrap();
    broken.flip_bit(&last_used, 20, 1).unwrap();
    let header = Batch { number: 0, path: last_used, offset: 0, bytes: 0 };
    assert_damaged(&broken, &header, "header of the last segment");

    let broken = disk.fork();
    broken.remove_file(&segment_path(2)).unwrap();
    let missing = Batch { number: 0, path: segment_path(2), offset: 0, bytes: 0 };
    assert_damaged(&broken, &missing, "segment 2");
}

/// Cut down to where nothing was ever written, it looks like a segment that was only prepared.
#[test]
fn b51_the_segment_in_use_is_missed_however_short_it_was_cut() {
    let (disk, wal) = written();
    drop(wal);
    let last = batches(&disk).pop().unwrap();
    for spare in files(&disk).into_iter().filter(|path| *path > last.path) {
        disk.remove_file(&spare).unwrap();
    }
    let first = batches(&disk).into_iter().find(|batch| batch.path == last.path).unwrap();
    let lengths = [0, 10, 63, 512, DATA_START - 1, DATA_START, DATA_START + 4, first.offset + 512];
    for length in lengths {
        let broken = disk.fork();
        broken.truncate(&last.path, length as u64).unwrap();
        let place = Batch { offset: 0, path: last.path.clone(), ..last };
        assert_damaged(&broken, &place, &format!("{length} bytes are left"));
    }
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_torn_tail_is_cut_wherever_it_was_torn() {
    let (disk, wal) = written();
    drop(wal);
    let last = batches(&disk).pop().unwrap();
    let whole = content(&disk, &last.path);
    let sectors = last.bytes.div_ceil(SECTOR);
    assert!(sectors >= 2, "a batch that can be torn");
    for kept in 0..(1_u32 << sectors) - 1 {
        let torn = disk.fork();
        for sector in (0..sectors).filter(|sector| kept >> sector & 1 == 0) {
            overwrite(&torn, &last.path, last.offset + sector * SECTOR, &[0; SECTOR]);
        }
        let (mut wal, recovered) = open(&torn).unwrap();
        assert_eq!(indexes(&recovered), (1..ENTRIES).collect::<Vec<_>>());
        assert_eq!(recovered.tail != Tail::Clean, kept != 0);
        let cut = content(&torn, &last.path);
        assert_eq!(cut[..last.offset], whole[..last.offset]);
        assert!(cut[last.offset..].iter().all(|byte| *byte == 0), "nothing is left of it");

        // The number is used again, with other contents.
        wal.append(&[entries_frame(ENTRIES, 1, 5)]);
        wal.sync().unwrap();
        assert_eq!(batches(&torn).pop().unwrap().number, last.number);
        let (_, recovered) = open(&torn).unwrap();
        assert_eq!(recovered.groups[&crate::GROUP].entries.last().unwrap().data.len(), 5);
        assert_eq!(recovered.tail, Tail::Clean);
    }
}

#[test]
fn a_batch_torn_at_the_head_of_a_segment_leaves_the_segment_unused() {
    let (disk, wal) = written();
    drop(wal);
    // The first batch of the last used segment, as if nothing had followed it.
    let all = batches(&disk);
    let segment = all.last().unwrap().path.clone();
    let first = all.iter().find(|batch| batch.path == segment).unwrap();
    let spare = files(&disk).pop().unwrap();
    assert!(spare > segment);
    disk.remove_file(&spare).unwrap();
    let rest = first.offset + SECTOR;
    let len = content(&disk, &segment).len();
    overwrite(&disk, &segment, rest, &vec![0; len - rest]);
    overwrite(&disk, &segment, first.offset, &[0; 4]);

    let (mut wal, recovered) = open(&disk).unwrap();
    let before: u64 = all.iter().filter(|batch| batch.number < first.number).count() as u64 - 1;
    assert_eq!(indexes(&recovered), (1..=before).collect::<Vec<_>>());
    assert!(matches!(recovered.tail, Tail::Torn { offset: 4096, .. }));
    assert!(content(&disk, &segment)[DATA_START..].iter().all(|byte| *byte == 0));
    wal.append(&[entries_frame(before + 1, 1, 3000)]);
    wal.sync().unwrap();
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(indexes(&recovered), (1..=before + 1).collect::<Vec<_>>());
}

#[test]
fn bytes_of_an_earlier_life_never_count() {
    let (disk, wal) = written();
    drop(wal);
    let old = content(&disk, &segment_path(1));
    let last = batches(&disk).pop().unwrap();
    let end = last.offset + last.bytes.next_multiple_of(SECTOR);
    let spare = files(&disk).pop().unwrap();

    // A file that was used before is used again, with the remains of its first life in it.
    overwrite(&disk, &spare, DATA_START, &old[DATA_START..]);
    overwrite(&disk, &last.path, end, &old[end..]);
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(indexes(&recovered), (1..=ENTRIES).collect::<Vec<_>>());
    for index in ENTRIES + 1..=2 * ENTRIES {
        wal.append(&[entries_frame(index, 1, 2000)]);
        wal.sync().unwrap();
    }
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(indexes(&recovered), (1..=2 * ENTRIES).collect::<Vec<_>>());
    assert_eq!(recovered.tail, Tail::Clean);
}

#[test]
fn a_frame_that_contradicts_the_log_is_damage() {
    // A checksum that fits does not make a gap in the entries acceptable: both segments below are
    // good, but they are of two different logs.
    let (disk, other) = (SimDisk::new(), SimDisk::new());
    for (disk, gap) in [(&disk, 0), (&other, 3)] {
        let mut wal = create(disk);
        let mut state = log::GroupState::default();
        if gap > 0 {
            (state.start_index, state.last_index) = (gap, gap);
            let body = Some(log::frame::Body::GroupState(state));
            wal.append(&[log::Frame { group: crate::GROUP.get(), body }]);
        }
        wal.append(&[entries_frame(gap + 1, 1, 700)]);
        wal.sync().unwrap();
        wal.append(&[entries_frame(gap + 2, 1, 10)]);
        wal.sync().unwrap();
    }
    let (ours, theirs) = (batches(&disk), batches(&other));
    assert_eq!(ours[2].offset, theirs[2].offset, "the batches can be exchanged");
    let bytes = content(&other, &theirs[2].path);
    let from = theirs[2].offset;
    overwrite(&disk, &ours[2].path, from, &bytes[from..from + SECTOR]);
    assert_damaged(&disk, &ours[2], "entries with a gap");
}
