//! Power loss at every operation of writing and of receiving an export.

use std::sync::Arc;

use proto::{LogIndex, log};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use storage::Disk;
use storage::disk::SimDisk;
use storage::export::{
    ChunkReader, ExportError, ExportFile, PartFile, TRANSFER_CHUNK_BYTES, exports_in, prune, sweep,
    verify,
};

use crate::{GROUP, dir, path, read, records, write};

/// Disks tried per operation at which the power was lost.
const IMAGES_MAX: usize = 40;
/// Chance crashes, which tear pages, tried per operation.
const CRASHES: usize = 20;
/// Small enough that a run has some dozen sectors per chunk, large enough for several chunks.
const EXPORT_BYTES: usize = 700_000;

/// What happened over a sweep.
#[derive(Debug, Default)]
struct Seen {
    points: u64,
    disks: u64,
    swept: u64,
    old_only: u64,
    new_there: u64,
    torn_pages: u64,
}

/// Loses the power at every operation of `step`, which makes the export at 20 while the one at 10
/// exists, and starts again from what is left.
fn sweep_through(step: impl Fn(&SimDisk) -> Result<(), ExportError>) -> Seen {
    let base = SimDisk::new();
    let old = records(10, 50_000);
    write(&base, 10, &old).unwrap();
    let start = base.counters().operations;
    let whole = base.fork();
    step(&whole).unwrap();
    let mut seen = Seen::default();
    for operation in start..whole.counters().operations {
        let disk = base.fork();
        disk.halt_at(operation);
        assert!(step(&disk).is_err(), "operation {operation} is one of the run");
        seen.points += 1;
        let mut rng = ChaCha8Rng::seed_from_u64(operation);
        for image in disk.images(IMAGES_MAX, &mut rng) {
            restart(&image, &old, &step, &mut seen, operation);
        }
        for _ in 0..CRASHES {
            let torn = disk.fork();
            torn.crash(&mut rng);
            seen.torn_pages += torn.counters().torn_pages;
            restart(&torn, &old, &step, &mut seen, operation);
        }
    }
    // Once the call has returned, no power loss takes the new one away.
    for image in whole.images(IMAGES_MAX, &mut ChaCha8Rng::seed_from_u64(1)) {
        assert_eq!(exports_in(&image, &dir()).unwrap(), [(GROUP, LogIndex(20), path(20))]);
        verify(&image, &path(20)).unwrap();
    }
    seen
}

/// Every export that is there after a start is whole, there is one, and the step can be done again.
fn restart(
    disk: &SimDisk,
    old: &[log::ExportRecord],
    step: &impl Fn(&SimDisk) -> Result<(), ExportError>,
    seen: &mut Seen,
    operation: u64,
) {
    seen.disks += 1;
    seen.swept += sweep(disk, &dir()).unwrap() as u64;
    let there = exports_in(disk, &dir()).unwrap();
    let indexes: Vec<u64> = there.iter().map(|(_, index, _)| index.get()).collect();
    assert_eq!(disk.list(&dir()).unwrap().len(), there.len(), "operation {operation}: leftovers");
    for (_, index, path) in &there {
        verify(disk, path).unwrap_or_else(|error| panic!("operation {operation}: {error}"));
        if *index == LogIndex(10) {
            assert!(read(disk, path).0 == old);
        }
    }
    match indexes[..] {
        [10] => seen.old_only += 1,
        [10, 20] | [20] => seen.new_there += 1,
        _ => panic!("operation {operation}: left with {indexes:?}"),
    }
    if indexes != [20] {
        step(disk).unwrap_or_else(|error| panic!("operation {operation}: not again: {error}"));
        verify(disk, &path(20)).unwrap();
    }
}

#[test]
fn b26_power_loss_at_every_step_of_writing_an_export() {
    let new = records(20, EXPORT_BYTES);
    let seen = sweep_through(|disk| {
        write(disk, 20, &new)?;
        prune(disk, &dir(), GROUP, LogIndex(20)).map(drop)
    });
    println!("{seen:?}");
    assert!(seen.points >= 8 && seen.disks > 300, "{seen:?}");
    assert!(seen.swept > 50 && seen.torn_pages > 50, "{seen:?}");
    assert!(seen.old_only > 50 && seen.new_there > 5, "{seen:?}");
}

#[test]
fn b19_power_loss_at_every_step_of_receiving_an_export() {
    let source = SimDisk::new();
    let offered = write(&source, 20, &records(20, EXPORT_BYTES)).unwrap();
    let seen = sweep_through(|disk| {
        receive(&source, &offered, disk)?;
        prune(disk, &dir(), GROUP, LogIndex(20)).map(drop)
    });
    println!("{seen:?}");
    assert!(seen.points >= 8 && seen.disks > 300, "{seen:?}");
    assert!(seen.swept > 50 && seen.torn_pages > 50, "{seen:?}");
    assert!(seen.old_only > 50 && seen.new_there > 5, "{seen:?}");
}

fn receive(source: &SimDisk, offered: &ExportFile, disk: &SimDisk) -> Result<(), ExportError> {
    let reader = ChunkReader::open(source, &offered.path)?;
    let mut part =
        PartFile::create(Arc::new(disk.clone()), &path(20), offered.bytes, offered.sha256)?;
    while !part.is_complete() {
        let piece = reader.read(part.received())?;
        assert!((1..=TRANSFER_CHUNK_BYTES).contains(&piece.len()));
        part.write_at(part.received(), &piece)?;
    }
    part.finish().map(drop)
}
