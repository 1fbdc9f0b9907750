//! Power loss at every operation of the disk.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::disk::SimDisk;
use storage::wal::{Tail, Wal};

use crate::model::Model;
use crate::script::{Run, initial, random_frame, run};
use crate::{dir, open, options};

/// Steps of a run: enough for several segments.
const STEPS: usize = 180;
/// Disks tried per operation at which the power was lost.
const IMAGES_MAX: usize = 48;
/// Chance crashes, which tear pages, tried per operation.
const CRASHES: usize = 3;

/// How often the interesting things happened.
#[derive(Debug, Default)]
struct Seen {
    points: u64,
    disks: u64,
    torn_tails: u64,
    torn_pages: u64,
    lost_writes: u64,
    absent_logs: u64,
    crashes_in_recovery: u64,
    segments: u64,
}

/// Every acknowledged frame survives, nothing is invented, and the log goes on: B03 and B27 for
/// one node, B19 and B26 for files in the making.
#[test]
fn b03_b27_power_loss_at_every_operation_loses_nothing_acknowledged() {
    let mut seen = Seen::default();
    for seed in 0..4 {
        let whole = SimDisk::new();
        let full = run(seed, STEPS, &whole);
        assert!(full.error.is_none(), "{:?}", full.error);
        seen.segments = seen.segments.max(full.segments);
        for operation in 0..whole.counters().operations {
            lose_power_at(seed, operation, &mut seen);
        }
    }
    println!("{seen:?}");
    assert!(seen.segments >= 4, "{seen:?}");
    assert!(seen.torn_tails > 100 && seen.torn_pages > 100, "{seen:?}");
    assert!(seen.lost_writes > 1000 && seen.absent_logs > 10, "{seen:?}");
    assert!(seen.crashes_in_recovery > 1000, "{seen:?}");
}

fn lose_power_at(seed: u64, operation: u64, seen: &mut Seen) {
    let place = format!("seed {seed}, operation {operation}");
    let disk = SimDisk::new();
    disk.halt_at(operation);
    let run = run(seed, STEPS, &disk);
    assert_eq!(disk.counters().operations, operation, "{place}: the power was not lost there");
    let mut rng = ChaCha8Rng::seed_from_u64(seed << 32 | operation);
    seen.points += 1;
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
    seen.torn_tails += u64::from(recovered.tail != Tail::Clean);

    // What was returned is durable, and the log goes on from there.
    let mut model = Model { groups: recovered.groups };
    for _ in 0..3 {
        let frame = random_frame(&model, rng);
        model.apply(&frame);
        wal.append(&[frame]);
    }
    wal.sync().unwrap();
    disk.crash(rng);
    let (_, again) = open(disk).unwrap_or_else(|error| panic!("{place}: no second boot: {error}"));
    assert!(again.groups == model.groups, "{place}: what was returned has changed");
    assert_eq!(again.tail, Tail::Clean, "{place}");
}
