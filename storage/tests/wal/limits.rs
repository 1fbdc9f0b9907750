//! Sizes, segments and the shape of what is written.

use std::sync::Arc;

use proptest::prelude::*;
use proto::log;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use storage::disk::{RealDisk, SimDisk};
use storage::wal::{SEGMENT_BYTES_MIN, Tail, Wal};

use crate::model::Model;
use crate::script::{initial, random_frame};
use crate::{GROUP, batches, create, dir, entries_frame, indexes, open, options, with_segments_of};

fn with_segments(disk: &SimDisk, segment_bytes: u64) -> (Wal, storage::wal::Recovered) {
    Wal::open(Arc::new(disk.clone()), &dir(), with_segments_of(segment_bytes)).unwrap()
}

#[test]
fn a_sync_is_one_write_and_one_fdatasync() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    while !wal.prepare_step().unwrap() {}
    let before = disk.counters();
    wal.append(&[entries_frame(1, 3, 10)]);
    wal.append(&[entries_frame(4, 3, 10)]);
    assert!(wal.pending_bytes() > 60);
    wal.sync().unwrap();
    let after = disk.counters();
    assert_eq!((after.operations - before.operations, after.syncs - before.syncs), (2, 1));
    wal.sync().unwrap();
    assert_eq!(disk.counters(), after, "nothing to do");
    assert_eq!((wal.stats().syncs, wal.stats().entries), (1, 6));
}

#[test]
fn a_long_open_batch_becomes_several() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let frames: Vec<_> = (0..60).map(|n| entries_frame(2 * n + 1, 2, 900)).collect();
    wal.append(&frames);
    // The state at the head of a segment in between must not know of this commit yet.
    let hard_state = log::HardState { term: 1, vote: 1, commit: 120 };
    let body = Some(log::frame::Body::HardState(hard_state));
    wal.append(&[log::Frame { group: GROUP.get(), body }]);
    wal.sync().unwrap();
    assert!(wal.stats().segments >= 3);
    let longest = batches(&disk).iter().map(|batch| batch.bytes).max().unwrap();
    assert!(longest as u64 > SEGMENT_BYTES_MIN / 4, "{longest}");
    assert!(longest as u64 <= SEGMENT_BYTES_MIN * 3 / 4, "{longest}");
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(indexes(&recovered), (1..=120).collect::<Vec<_>>());
    assert_eq!(recovered.groups[&GROUP].hard_state, hard_state);
}

#[test]
fn a_seal_always_finds_room() {
    // The second batch ends everywhere around the end of the segment.
    for bytes in (11_000..16_000).step_by(100) {
        let disk = SimDisk::new();
        let mut wal = create(&disk);
        wal.append(&[entries_frame(1, 1, 14_000)]);
        wal.sync().unwrap();
        wal.append(&[entries_frame(2, 1, bytes)]);
        wal.sync().unwrap();
        wal.seal().unwrap();
        assert_eq!(wal.stats().seals, 1);
        assert_eq!(indexes(&open(&disk).unwrap().1), [1, 2]);
    }
}

#[test]
fn a_long_frame_of_entries_is_divided_between_them() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    wal.append(&[entries_frame(1, 200, 700)]);
    wal.sync().unwrap();
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(indexes(&recovered), (1..=200).collect::<Vec<_>>());
}

#[test]
fn entries_up_to_the_limit_fit_and_longer_ones_are_refused() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    let limit = SEGMENT_BYTES_MIN as usize / 2;
    for index in 1..6 {
        wal.append(&[entries_frame(index, 1, limit - 30)]);
        wal.sync().unwrap();
        wal.seal().unwrap();
    }
    assert_eq!(indexes(&open(&disk).unwrap().1), [1, 2, 3, 4, 5]);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wal.append(&[entries_frame(6, 1, limit)]);
    }));
    assert!(refused.is_err());
}

#[test]
#[should_panic(expected = "a frame contradicts the log: group 1: entries from 3")]
fn a_gap_is_refused_when_it_is_appended() {
    let mut wal = create(&SimDisk::new());
    wal.append(&[entries_frame(1, 1, 1), entries_frame(3, 1, 1)]);
}

#[test]
#[should_panic(expected = "commit 1 beyond the last entry 0")]
fn a_commit_goes_after_its_entry() {
    let mut wal = create(&SimDisk::new());
    let hard_state = log::HardState { term: 1, vote: 1, commit: 1 };
    let body = Some(log::frame::Body::HardState(hard_state));
    wal.append(&[log::Frame { group: GROUP.get(), body }, entries_frame(1, 1, 1)]);
}

#[test]
fn an_idle_group_keeps_its_vote_in_every_segment() {
    let disk = SimDisk::new();
    let mut wal = Wal::create(Arc::new(disk.clone()), &dir(), options(), initial()).unwrap();
    let vote = log::HardState { term: 7, vote: 3, commit: 0 };
    wal.append(&[log::Frame { group: 0, body: Some(log::frame::Body::HardState(vote)) }]);
    let mut index = 0;
    while wal.stats().segments < 4 {
        index += 1;
        wal.append(&[entries_frame(index, 1, 3000)]);
        wal.sync().unwrap();
    }
    let heads: Vec<_> = batches(&disk).into_iter().filter(|b| b.offset == 4096).collect();
    assert_eq!(heads.len(), 4);
    for head in &heads[1..] {
        let bytes = crate::content(&disk, &head.path);
        let mut frames = &bytes[head.offset + 32..head.offset + head.bytes];
        let state: log::Frame = prost::Message::decode_length_delimited(&mut frames).unwrap();
        let Some(log::frame::Body::GroupState(state)) = state.body else { panic!("{state:?}") };
        assert_eq!(state.hard_state, Some(vote));
    }
}

#[test]
fn preparing_never_stalls_a_sync() {
    let disk = SimDisk::new();
    drop(create(&disk));
    // Left alone, each sync takes at most the steps that its own bytes demand.
    let (mut wal, _) = with_segments(&disk, 1024 * 1024);
    let mut longest = 0;
    for index in 1..=2000 {
        wal.append(&[entries_frame(index, 1, 2000)]);
        let before = disk.counters().operations;
        wal.sync().unwrap();
        if wal.stats().segments >= 2 {
            longest = longest.max(disk.counters().operations - before);
        }
    }
    assert!(wal.stats().segments >= 4 && wal.stats().late_steps > 0, "{:?}", wal.stats());
    assert!(longest <= 8, "a sync took {longest} operations");

    // With steps in between, a sync is a write and an fdatasync, also across segments.
    let (mut wal, _) = with_segments(&disk, 1024 * 1024);
    for index in 2001..=4000 {
        wal.prepare_step().unwrap();
        wal.append(&[entries_frame(index, 1, 2000)]);
        let before = disk.counters().operations;
        wal.sync().unwrap();
        assert_eq!(disk.counters().operations - before, 2);
    }
    assert!(wal.stats().segments >= 3);
    assert_eq!(wal.stats().late_steps, 0);
}

#[test]
fn segments_may_change_their_length() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    while !wal.prepare_step().unwrap() {}
    drop(wal);
    let mut next = 1;
    for segment_bytes in [4, 1, 8, 2].map(|factor| factor * SEGMENT_BYTES_MIN) {
        let (mut wal, recovered) = with_segments(&disk, segment_bytes);
        assert_eq!(indexes(&recovered), (1..next).collect::<Vec<_>>());
        while wal.stats().segments < 2 {
            let bytes = segment_bytes as usize / 2 - 100;
            wal.append(&[entries_frame(next, 1, bytes)]);
            wal.sync().unwrap();
            next += 1;
        }
        while !wal.prepare_step().unwrap() {}
        assert_eq!(wal.bytes_on_disk(), disk.used_bytes());
    }
}

#[test]
fn the_log_lives_on_real_files() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("node/wal");
    let options = options();
    let groups = [(GROUP, log::GroupState::default())].into();
    let disk = Arc::new(RealDisk);
    assert!(!Wal::exists(disk.as_ref(), &dir).unwrap());
    let mut wal = Wal::create(disk.clone(), &dir, options.clone(), groups).unwrap();
    for index in 1..=50 {
        wal.append(&[entries_frame(index, 1, 2000)]);
        wal.sync().unwrap();
    }
    assert!(wal.stats().segments >= 3);
    let bytes = wal.bytes_on_disk();
    drop(wal);
    assert!(Wal::exists(disk.as_ref(), &dir).unwrap());
    let (wal, recovered) = Wal::open(disk, &dir, options).unwrap();
    assert_eq!(indexes(&recovered), (1..=50).collect::<Vec<_>>());
    assert_eq!(recovered.tail, Tail::Clean);
    assert!(wal.bytes_on_disk() <= bytes, "an unfinished segment is thrown away");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever frames come, in whatever batches, they come back as they were.
    #[test]
    fn random_frames_come_back(
        seed in any::<u64>(),
        batches in prop::collection::vec(1..12_usize, 1..40),
        pages in 8..64_u64,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = SimDisk::new();
        let options = with_segments_of(pages * 4096);
        let shared = Arc::new(disk.clone());
        let mut wal = Wal::create(shared.clone(), &dir(), options.clone(), initial()).unwrap();
        let mut model = Model::new(&initial());
        for frames in batches {
            for _ in 0..frames {
                let frame = random_frame(&model, &mut rng);
                model.apply(&frame);
                wal.append(&[frame]);
            }
            wal.sync().unwrap();
            if frames % 3 == 0 {
                wal.seal().unwrap();
            }
        }
        disk.crash(&mut rng);
        let (_, recovered) = Wal::open(shared, &dir(), options).unwrap();
        prop_assert!(recovered.groups == model.groups);
        prop_assert_eq!(recovered.tail, Tail::Clean);
    }
}
