//! How fast the write-ahead log is on this machine.
//!
//! ```text
//! cargo run --release -p storage --example wal_throughput [directory]
//! ```
//!
//! Writes batches of different sizes to a log in a temporary directory below the given one (the
//! working directory if none is given; its file system is what is measured) and prints how many
//! batches and entries became durable per second and how long a sync took. The next segment is
//! prepared between batches, outside of the time of a sync but inside of that of the run.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::{ClusterId, GroupId, log};
use storage::disk::RealDisk;
use storage::wal::{Wal, WalOptions};

const ENTRY_BYTES: usize = 128;
const RUN: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    println!("entries of {ENTRY_BYTES} bytes, below {parent}");
    println!("entries/batch   batches/s    entries/s   sync p50 us   sync p99 us   segments");
    for entries in [1, 16, 128, 1024] {
        let temp = tempfile::tempdir_in(&parent)?;
        measure(&temp.path().join("wal"), entries)?;
    }
    Ok(())
}

fn measure(dir: &Path, entries: u64) -> Result<(), Box<dyn Error>> {
    let options = WalOptions::new(ClusterId([1; 16]));
    let groups = [(GroupId::DATA, log::GroupState::default())].into();
    let mut wal = Wal::create(Arc::new(RealDisk), dir, options, groups)?;
    let mut next = 1;
    let mut syncs = Vec::new();
    let started = Instant::now();
    while started.elapsed() < RUN {
        wal.append(&[frame(next, entries)]);
        next += entries;
        let before = Instant::now();
        wal.sync()?;
        syncs.push(before.elapsed());
        wal.prepare_step()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    syncs.sort_unstable();
    let at = |percent: usize| syncs[(syncs.len() - 1) * percent / 100].as_micros();
    println!(
        "{entries:>13} {:>11.0} {:>12.0} {:>13} {:>13} {:>10}",
        syncs.len() as f64 / seconds,
        wal.stats().entries as f64 / seconds,
        at(50),
        at(99),
        wal.stats().segments,
    );
    Ok(())
}

fn frame(first: u64, count: u64) -> log::Frame {
    let entries = (first..first + count)
        .map(|index| log::Entry {
            term: 1,
            index,
            data: vec![7; ENTRY_BYTES].into(),
            ..Default::default()
        })
        .collect();
    let body = log::frame::Body::Entries(log::Entries { entries });
    log::Frame { group: GroupId::DATA.get(), body: Some(body) }
}
