//! What is left of a damaged log, and another one in its place.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::log::frame::Body;
use proto::{GroupId, log};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::disk::{Disk, DiskFile, OpenMode, Operation, RealDisk, SimDisk};
use storage::wal::{Recovered, SEGMENT_BYTES_MIN, SalvagedGroup, Wal, WalError, salvage};

use crate::model::last_of;
use crate::script::{End, run};
use crate::trace::Traced;
use crate::{
    GROUP, SECTOR, batches, content, create, dir, entries_frame, files, indexes, open, options,
    overwrite, segment_path,
};

fn salvaged(disk: &SimDisk) -> BTreeMap<GroupId, SalvagedGroup> {
    salvage(disk, &dir(), &options()).unwrap()
}

fn hard_state_frame(term: u64, vote: u64, commit: u64) -> log::Frame {
    let body = Some(Body::HardState(log::HardState { term, vote, commit }));
    log::Frame { group: GROUP.get(), body }
}

/// Makes batch `number` unreadable.
fn lose(disk: &SimDisk, number: u64) {
    let batch = batches(disk).into_iter().find(|batch| batch.number == number).unwrap();
    overwrite(disk, &batch.path, batch.offset, &vec![0; batch.bytes.next_multiple_of(SECTOR)]);
}

/// A vote in batch 4, then what `then` appends, one batch each.
fn with_vote(then: &[log::Frame]) -> SimDisk {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let frames = [
        entries_frame(1, 3, 10),
        hard_state_frame(4, 1, 2),
        hard_state_frame(5, 3, 2),
        entries_frame(4, 6, 10),
    ];
    for frame in frames.iter().chain(then) {
        wal.append(std::slice::from_ref(frame));
        wal.sync().unwrap();
    }
    disk
}

#[test]
fn b28_a_vote_that_may_be_lost_is_not_made_up() {
    // Batches 2 to 5; the vote is in 4.
    let disk = with_vote(&[]);
    lose(&disk, 4);
    let group = salvaged(&disk).remove(&GROUP).unwrap();
    assert_eq!(group.hard_state, None, "nothing behind the damage says it");
    assert_eq!(group.highest.get(), 9);

    // Said again behind the damage, with the end of the log.
    let disk = with_vote(&[hard_state_frame(5, 3, 7)]);
    lose(&disk, 4);
    let group = salvaged(&disk).remove(&GROUP).unwrap();
    assert_eq!(group.hard_state, Some(log::HardState { term: 5, vote: 3, commit: 7 }));
    assert_eq!(group.highest.get(), 9);
}

/// Everything behind the cut is lost, also where batches before it can be read.
#[test]
fn b28_a_vote_in_the_end_of_a_segment_that_is_cut_off_is_not_made_up() {
    let disk = with_vote(&[]);
    let vote = batches(&disk).into_iter().find(|batch| batch.number == 4).unwrap();
    disk.truncate(&vote.path, vote.offset as u64).unwrap();
    let group = salvaged(&disk).remove(&GROUP).unwrap();
    assert_eq!(group.hard_state, None, "the vote of term 5 was behind the cut");
}

#[test]
fn b28_entries_that_may_be_lost_are_not_forgotten() {
    // Batch 5 holds entries 4 to 9, which may have been acknowledged. Behind it stands a vote, and
    // nothing about them.
    let disk = with_vote(&[hard_state_frame(6, 2, 2)]);
    lose(&disk, 5);
    let group = salvaged(&disk).remove(&GROUP).unwrap();
    assert_eq!((group.hard_state, group.highest.get()), (None, 3));

    // A seal says where the log ended.
    let disk = with_vote(&[hard_state_frame(6, 2, 2)]);
    let (mut wal, _) = open(&disk).unwrap();
    wal.seal().unwrap();
    lose(&disk, 5);
    let group = salvaged(&disk).remove(&GROUP).unwrap();
    assert_eq!(group.hard_state, Some(log::HardState { term: 6, vote: 2, commit: 2 }));
    assert_eq!(group.highest.get(), 9);
}

/// A disk that only seemed to sync loses the newest batches; whatever of them is lost, a seal that
/// is left tells that they were there, and how far the log reached.
#[test]
fn b28_a_lost_synced_tail_is_told_from_a_log_that_ended_earlier() {
    let disk = with_vote(&[hard_state_frame(6, 2, 8)]);
    let (mut wal, _) = open(&disk).unwrap();
    wal.seal().unwrap();
    drop(wal);
    let last = batches(&disk).len() as u64;
    for from in 1..last {
        let lossy = disk.fork();
        for number in (from..last).rev() {
            let batch = batches(&disk).into_iter().find(|batch| batch.number == number).unwrap();
            overwrite(&lossy, &batch.path, batch.offset, &[0; SECTOR]);
        }
        assert!(matches!(open(&lossy), Err(WalError::Damaged { .. })), "from batch {from}");
        let group = salvaged(&lossy).remove(&GROUP).unwrap();
        assert_eq!(group.hard_state, Some(log::HardState { term: 6, vote: 2, commit: 8 }));
        assert_eq!(group.highest.get(), 9);
    }
}

#[test]
fn missing_segments_count_as_damage_of_their_place() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    wal.append(&[hard_state_frame(3, 2, 0)]);
    let mut index = 0;
    while wal.stats().segments < 4 {
        index += 1;
        wal.append(&[entries_frame(index, 1, 3000)]);
        wal.sync().unwrap();
    }
    while !wal.prepare_step().unwrap() {}
    for missing in 2..=4 {
        let broken = disk.fork();
        broken.remove_file(&segment_path(missing)).unwrap();
        let Err(WalError::Damaged { path, .. }) = open(&broken.fork()) else {
            panic!("segment {missing} is missing");
        };
        assert_eq!(path, segment_path(missing));
        let found = salvaged(&broken);
        // Only the spare is behind the last segment; it says nothing.
        let vote = (missing < 4).then_some(log::HardState { term: 3, vote: 2, commit: 0 });
        assert_eq!(found[&GROUP].hard_state, vote, "segment {missing}");
    }
}

/// How often the flips of the next test had which effect.
#[derive(Debug, Default)]
struct Flips {
    harmless: u64,
    damaged: u64,
    with_vote: u64,
    recycled: u64,
}

/// A log of several segments, some of them in files used before, closed by a seal.
fn closed(seed: u64) -> (SimDisk, Recovered) {
    let disk = SimDisk::new();
    let run = run(seed, 200, End::ManyFreed, Arc::new(disk.clone()));
    assert!(run.error.is_none());
    let (mut wal, recovered) = open(&disk).unwrap();
    let (last, term) = last_of(&recovered.groups[&GROUP]);
    for index in last + 1..=last + 30 {
        wal.append(&[of_term(term, entries_frame(index, 1, 3000))]);
        wal.sync().unwrap();
    }
    wal.seal().unwrap();
    while !wal.prepare_step().unwrap() {}
    drop(wal);
    let (_, recovered) = open(&disk).unwrap();
    (disk, recovered)
}

/// The same entries, of another term.
fn of_term(term: u64, mut frame: log::Frame) -> log::Frame {
    if let Some(Body::Entries(entries)) = &mut frame.body {
        entries.entries.iter_mut().for_each(|entry| entry.term = term);
    }
    frame
}

#[test]
fn b51_no_flipped_bit_goes_unnoticed_or_makes_up_a_vote() {
    let mut rng = ChaCha8Rng::seed_from_u64(53);
    let mut flips = Flips::default();
    for seed in 0..4 {
        let (disk, whole) = closed(seed);
        let all = files(&disk);
        let lengths: Vec<u64> = all.iter().map(|path| content(&disk, path).len() as u64).collect();
        let batches = batches(&disk);
        for round in 0..500 {
            // Anywhere, or in a batch.
            let (path, at) = if round % 2 == 0 {
                let file = rng.random_range(0..all.len());
                (&all[file], rng.random_range(0..lengths[file]))
            } else {
                let batch = &batches[rng.random_range(0..batches.len())];
                (&batch.path, (batch.offset + rng.random_range(0..batch.bytes)) as u64)
            };
            let broken = disk.fork();
            broken.flip_bit(path, at, rng.random_range(0..8)).unwrap();
            flips.recycled += u64::from(content(&disk, path)[12] == 1);
            match open(&broken.fork()) {
                Ok((_, recovered)) => {
                    assert_eq!(recovered.groups, whole.groups, "{path:?} at {at}");
                    flips.harmless += 1;
                }
                Err(WalError::Damaged { .. }) => {
                    flips.damaged += 1;
                    assert_safe(&salvaged(&broken), &whole, &mut flips);
                }
                Err(error) => panic!("{path:?} at {at}: {error}"),
            }
        }
    }
    println!("{flips:?}");
    assert!(flips.harmless > 300 && flips.damaged > 300, "{flips:?}");
    assert!(flips.with_vote > 300 && flips.recycled > 200, "{flips:?}");
}

/// What was salvaged claims no term or vote but the newest, and no entry was above `highest`.
fn assert_safe(found: &BTreeMap<GroupId, SalvagedGroup>, whole: &Recovered, flips: &mut Flips) {
    for (id, group) in &whole.groups {
        let left = &found[id];
        if let Some(hard_state) = left.hard_state {
            flips.with_vote += 1;
            assert_eq!(hard_state, group.hard_state);
            assert!(left.highest.get() >= last_of(group).0);
            assert_eq!((&left.conf_state, left.change), (&group.conf_state, group.change));
            assert_eq!(left.state_dir, group.state_dir);
        }
    }
}

fn data_dir() -> PathBuf {
    PathBuf::from("/node")
}

fn replacement() -> BTreeMap<GroupId, log::GroupState> {
    let state = log::GroupState {
        hard_state: Some(log::HardState { term: 6, vote: 2, commit: 50 }),
        start_index: 50,
        start_term: 5,
        last_index: 50,
        last_term: 5,
        checkpoint: 50,
        state_dir: "1-1".to_owned(),
        ..Default::default()
    };
    [(GROUP, state)].into()
}

/// A damaged log on this disk.
fn damaged(disk: &Arc<dyn Disk>, dir: &Path) {
    let groups = [(GROUP, log::GroupState::default())].into();
    let mut wal = Wal::create(disk.clone(), dir, options(), groups).unwrap();
    for index in 1..=3 {
        wal.append(&[entries_frame(index, 1, 10)]);
        wal.sync().unwrap();
    }
    let first = dir.join("wal-0000000000000001.seg");
    let mut file = disk.open(&first, OpenMode::ReadWrite).unwrap();
    file.write_at(4096 + 512, &[0xff; 100]).unwrap();
    file.sync_data().unwrap();
}

/// The log of a node after a start: the damaged one, or the new one, which takes entries.
fn boot(disk: &SimDisk) -> bool {
    Wal::finish_replace(disk, &data_dir()).unwrap();
    match open(disk) {
        Err(WalError::Damaged { .. }) => false,
        Err(error) => panic!("{error}"),
        Ok((mut wal, recovered)) => {
            let group = &recovered.groups[&GROUP];
            assert_eq!((group.start_index.get(), group.hard_state.vote), (50, 2));
            wal.append(&[of_term(6, entries_frame(51, 1, 10))]);
            wal.sync().unwrap();
            assert_eq!(indexes(&open(disk).unwrap().1), [51]);
            true
        }
    }
}

/// The crash points of a replacement, by what is done next:
///
/// | part   | operations                                                                       |
/// |--------|----------------------------------------------------------------------------------|
/// | build  | create directory wal.new, then those of creating a log                           |
/// | swap   | rename wal to wal.damaged-1, sync directory node, rename wal.new to wal, sync directory node |
/// | finish | remove seg, remove new (of a `wal.new` that nobody needs), or the second half of the swap |
#[test]
fn power_loss_at_every_operation_of_a_replacement_leaves_the_old_log_or_the_new_one() {
    let traced = Traced::default();
    let shared: Arc<dyn Disk> = Arc::new(traced.clone());
    damaged(&shared, &dir());
    let begin = traced.names().len();
    drop(Wal::replace(shared, &data_dir(), options(), replacement()).unwrap());
    let names = traced.names()[begin..].to_vec();
    for point in [
        "create directory wal.new",
        "rename new to seg",
        "rename wal to wal.damaged-1",
        "rename wal.new to wal",
        "sync directory node",
    ] {
        assert!(names.iter().any(|name| name == point), "{point} in {names:?}");
    }

    let mut rng = ChaCha8Rng::seed_from_u64(31);
    let (mut old, mut new) = (0, 0);
    for (operation, name) in (0..).zip(&names) {
        let disk = SimDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        damaged(&shared, &dir());
        disk.halt_at(begin as u64 + operation);
        assert!(Wal::replace(shared, &data_dir(), options(), replacement()).is_err());
        for image in disk.images(100, &mut rng) {
            // A second one while the first is made up for.
            for halt in 0..6 {
                let image = image.fork();
                image.halt_at(image.counters().operations + halt);
                let _ = Wal::finish_replace(&image, &data_dir());
                image.crash(&mut rng);
                if boot(&image) {
                    new += 1;
                    continue;
                }
                old += 1;
                let shared = Arc::new(image.clone());
                drop(Wal::replace(shared, &data_dir(), options(), replacement()).unwrap());
                image.crash(&mut rng);
                assert!(boot(&image), "before {name}");
            }
        }
    }
    assert!(old > 100 && new > 10, "{old} old, {new} new");
}

#[test]
fn b50_errors_while_replacing_leave_the_old_log_or_the_new_one() {
    use Operation::{Create, CreateDir, Rename, Sync, SyncDir, Write};
    let (mut old, mut new) = (0, 0);
    for operation in [CreateDir, Create, Write, Sync, Rename, SyncDir] {
        let disk = SimDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        damaged(&shared, &dir());
        disk.fail_next(operation, ErrorKind::Other);
        let failed = Wal::replace(shared, &data_dir(), options(), replacement());
        assert!(matches!(failed, Err(WalError::Io { .. })), "{operation:?}");
        for image in disk.images(200, &mut ChaCha8Rng::seed_from_u64(9)).chain([disk]) {
            assert!(!boot(&image), "{operation:?}: nothing was renamed yet");
        }
    }
    // Each of the syncs of the data directory fails: the system shows a name that the medium may
    // never get.
    for syncs in [2, 3] {
        let disk = SimDisk::new();
        let failing = SyncDirFails { disk: disk.clone(), after: Arc::new(syncs.into()) };
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        damaged(&shared, &dir());
        let failed = Wal::replace(Arc::new(failing), &data_dir(), options(), replacement());
        assert!(matches!(failed, Err(WalError::Io { .. })));
        assert!(disk.list(&data_dir()).unwrap().contains(&"wal.damaged-1".to_owned()));
        for image in disk.images(200, &mut ChaCha8Rng::seed_from_u64(9)) {
            *(if boot(&image) { &mut new } else { &mut old }) += 1;
        }
        // Without a power loss, and with one behind it.
        assert!(boot(&disk));
        for image in disk.images(200, &mut ChaCha8Rng::seed_from_u64(10)) {
            assert!(boot_again(&image), "what was written to the new log is gone");
        }
    }
    assert!(old > 0 && new > 0, "{old} old, {new} new");
}

/// A start after [`boot`] wrote to the new log.
fn boot_again(disk: &SimDisk) -> bool {
    Wal::finish_replace(disk, &data_dir()).unwrap();
    indexes(&open(disk).unwrap().1) == [51]
}

/// A disk on which the nth sync of a directory fails.
#[derive(Debug)]
struct SyncDirFails {
    disk: SimDisk,
    after: Arc<AtomicU64>,
}

impl Disk for SyncDirFails {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path, mode)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.after.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.disk.fail_next(Operation::SyncDir, ErrorKind::Other);
        }
        self.disk.sync_dir(dir)
    }
}

#[test]
fn damaged_logs_are_kept_under_new_names() {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    damaged(&shared, &dir());
    let before = content(&disk, &segment_path(1));
    for number in 1..=3 {
        let wal = Wal::replace(shared.clone(), &data_dir(), options(), replacement()).unwrap();
        assert_eq!(wal.bytes_on_disk(), SEGMENT_BYTES_MIN);
        let names = disk.list(&data_dir()).unwrap();
        assert_eq!(names.len(), number + 1, "{names:?}");
        assert!(names.contains(&format!("wal.damaged-{number}")) && names.contains(&"wal".into()));
    }
    let kept = data_dir().join("wal.damaged-1/wal-0000000000000001.seg");
    assert_eq!(content(&disk, &kept), before);
    assert!(!Wal::finish_replace(&disk, &data_dir()).unwrap());
}

#[test]
fn a_log_is_replaced_on_real_files_and_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("wal");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    damaged(&disk, &dir);
    let opened = Wal::open(disk.clone(), &dir, options());
    assert!(matches!(opened, Err(WalError::Damaged { .. })));
    let found = salvage(disk.as_ref(), &dir, &options()).unwrap();
    assert_eq!(found[&GROUP].highest.get(), 3);
    let mut wal = Wal::replace(disk.clone(), temp.path(), options(), replacement()).unwrap();
    for index in 51..=90 {
        wal.append(&[of_term(6, entries_frame(index, 1, 2000))]);
        wal.sync().unwrap();
    }
    assert!(wal.stats().segments >= 3);
    drop(wal);
    assert!(!Wal::finish_replace(disk.as_ref(), temp.path()).unwrap());
    let (_, recovered) = Wal::open(disk, &dir, options()).unwrap();
    assert_eq!(recovered.groups[&GROUP].entries.len(), 40);
}
