//! Power loss at every operation of the disk.
//!
//! The crash points are all places between two operations that change something, in every part of
//! the log; what is done next names them:
//!
//! | part    | operations                                                                      |
//! |---------|---------------------------------------------------------------------------------|
//! | create  | create directory wal, create new, write new, sync new, rename new to seg, sync directory wal |
//! | write   | write seg, sync seg; a seal is the same                                         |
//! | roll    | the first write seg of a segment, sync seg                                      |
//! | prepare | create new, write new (slices, header), sync new, rename new to seg, sync directory wal |
//! | recycle | rename old to new, sync directory wal, write new (header), sync new, rename new to seg, sync directory wal |
//! | free    | rename seg to old, or remove seg when enough are kept; sync directory wal after each |
//! | recover | write seg (last batch, cut), sync seg, remove what is of no use, rename seg to new and new to seg (spare), sync directory wal |
//!
//! The test counts how often each was the next operation when the power went, and requires all
//! thirteen of [`POINTS`]. With the four more of a replacement, whose table is in `repair.rs`, that
//! makes seventeen kinds of points.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::log;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::disk::SimDisk;
use storage::wal::{Tail, Wal};

use crate::model::Model;
use crate::script::{End, Run, initial, random_frame, run};
use crate::trace::Traced;
use crate::{GROUP, content, create, dir, entries_frame, open, options, segment_path};

/// Runs.
const SEEDS: u64 = 4;
/// Steps of a run: enough for several segments.
const STEPS: usize = 260;
/// Disks tried per operation at which the power was lost.
const IMAGES_MAX: usize = 48;
/// Chance crashes, which tear pages, tried per operation.
const CRASHES: usize = 3;

/// Operations before which the power must have gone.
const POINTS: [&str; 13] = [
    "create directory wal",
    "create new",
    "remove new",
    "remove seg",
    "rename new to seg",
    "rename old to new",
    "rename seg to new",
    "rename seg to old",
    "sync directory wal",
    "sync new",
    "sync seg",
    "write new",
    "write seg",
];

/// How often the interesting things happened.
#[derive(Debug, Default)]
struct Seen {
    points: BTreeMap<String, u64>,
    disks: u64,
    torn_tails: u64,
    torn_tails_in_recycled: u64,
    torn_pages: u64,
    lost_writes: u64,
    absent_logs: u64,
    crashes_in_recovery: u64,
    segments: u64,
    freed: u64,
}

/// Every acknowledged frame survives, nothing is invented, and the log goes on: B03 and B27 for
/// one node, B19 and B26 for files in the making, B40 for entries that replace others.
#[test]
fn b03_b26_b27_b40_power_loss_at_every_operation_loses_nothing_acknowledged() {
    let mut seen = Seen::default();
    for seed in 0..SEEDS {
        let whole = Traced::default();
        let full = run(seed, STEPS, End::ManyFreed, Arc::new(whole.clone()));
        assert!(full.error.is_none(), "{:?}", full.error);
        seen.segments = seen.segments.max(full.segments);
        seen.freed = seen.freed.max(full.freed);
        for (operation, name) in (0..).zip(whole.names()) {
            *seen.points.entry(name).or_default() += 1;
            lose_power_at(seed, operation, &mut seen);
        }
    }
    println!("{seen:#?}");
    for point in POINTS {
        assert!(seen.points.contains_key(point), "{point} in {:?}", seen.points);
    }
    assert!(seen.segments >= 8 && seen.freed > 0, "{seen:?}");
    assert!(seen.torn_tails > 100 && seen.torn_tails_in_recycled > 100, "{seen:?}");
    assert!(seen.torn_pages > 100, "{seen:?}");
    assert!(seen.lost_writes > 1000 && seen.absent_logs > 10, "{seen:?}");
    assert!(seen.crashes_in_recovery > 1000, "{seen:?}");
}

fn lose_power_at(seed: u64, operation: u64, seen: &mut Seen) {
    let place = format!("seed {seed}, operation {operation}");
    let disk = SimDisk::new();
    disk.halt_at(operation);
    let run = run(seed, STEPS, End::ManyFreed, Arc::new(disk.clone()));
    assert_eq!(disk.counters().operations, operation, "{place}: the power was not lost there");
    let mut rng = ChaCha8Rng::seed_from_u64(seed << 32 | operation);
    for image in disk.images(IMAGES_MAX, &mut rng) {
        restart(&run, &image, &mut rng, seen, &place);
    }
    for _ in 0..CRASHES {
        let torn = disk.fork();
        torn.crash(&mut rng);
        seen.torn_pages += torn.counters().torn_pages;
        seen.lost_writes += torn.counters().lost_writes;
        restart(&run, &torn, &mut rng, seen, &place);
    }
}

/// Boots from what the power loss left, perhaps with another one inside recovery, and goes on.
fn restart(run: &Run, disk: &SimDisk, rng: &mut ChaCha8Rng, seen: &mut Seen, place: &str) {
    seen.disks += 1;
    if rng.random_bool(0.5) {
        disk.halt_at(disk.counters().operations + rng.random_range(0..6));
        if Wal::exists(disk, &dir()).unwrap() && open(disk).is_err() {
            seen.crashes_in_recovery += 1;
        }
        disk.crash(rng);
    }
    if !Wal::exists(disk, &dir()).unwrap() {
        assert!(!run.created, "{place}: the log is gone");
        seen.absent_logs += 1;
        Wal::create(Arc::new(disk.clone()), &dir(), options(), initial()).unwrap();
    }
    let (mut wal, recovered) =
        open(disk).unwrap_or_else(|error| panic!("{place}: no boot: {error}"));
    assert!(run.allows(&recovered.groups), "{place}: acknowledged frames are gone");
    if let Tail::Torn { segment, .. } = recovered.tail {
        seen.torn_tails += 1;
        let recycled = content(disk, &segment_path(segment))[12] == 1;
        seen.torn_tails_in_recycled += u64::from(recycled);
    }
    assert_eq!(wal.bytes_on_disk(), disk.used_bytes(), "{place}: files that nobody counts");

    // What was returned is durable, and the log goes on from there.
    let mut model = Model { groups: recovered.groups };
    for _ in 0..3 {
        let frame = random_frame(&model, rng);
        model.apply(&frame);
        wal.append(&[frame]);
    }
    wal.sync().unwrap();
    wal.free().unwrap();
    disk.crash(rng);
    let (_, again) = open(disk).unwrap_or_else(|error| panic!("{place}: no second boot: {error}"));
    assert!(again.groups == model.groups, "{place}: what was returned has changed");
    assert_eq!(again.tail, Tail::Clean, "{place}");
}

/// Entries that replace others are one frame: there is no moment at which the old ones are gone and
/// the new ones are not there.
#[test]
fn b40_a_replaced_suffix_is_the_old_one_or_the_new_one() {
    let terms = |disk: &SimDisk| -> Vec<(u64, u64)> {
        let (_, recovered) = open(disk).unwrap();
        let entries = &recovered.groups[&GROUP].entries;
        entries.iter().map(|entry| (entry.index, entry.term)).collect()
    };
    let old: Vec<_> = (1..=10).map(|index| (index, 1)).collect();
    let new: Vec<_> =
        (1..=5).map(|index| (index, 1)).chain((6..=8).map(|index| (index, 2))).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(40);
    let (mut with_old, mut with_new) = (0, 0);
    for operation in 0..3 {
        let disk = SimDisk::new();
        let mut wal = create(&disk);
        wal.append(&[entries_frame(1, 10, 600)]);
        wal.sync().unwrap();
        let mut frame = entries_frame(6, 3, 600);
        if let Some(log::frame::Body::Entries(entries)) = &mut frame.body {
            entries.entries.iter_mut().for_each(|entry| entry.term = 2);
        }
        wal.append(&[frame]);
        disk.halt_at(disk.counters().operations + operation);
        let synced = wal.sync().is_ok();
        for image in disk.images(200, &mut rng) {
            let found = terms(&image);
            assert!(found == new || !synced && found == old, "{found:?}");
            *(if found == new { &mut with_new } else { &mut with_old }) += 1;
        }
    }
    assert!(with_old > 5 && with_new > 1, "{with_old} old, {with_new} new");
}
