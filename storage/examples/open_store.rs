//! How long a store takes to open, to be exported and to be imported, and what the exactly-once
//! table takes in memory.
//!
//! ```text
//! cargo run --release -p storage --example open_store [KEYS] [VALUE_BYTES] [DIR]
//! ```
//!
//! A DIR is kept. When it is there already, opening the store in it is all that is done, so that a
//! profile shows nothing else.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{KeyspaceId, Term, log, v1};
use storage::mvcc::{CheckpointProgress, ExportProgress, ImportJob, Machine, MachineOptions};
use storage::state::{MemoryStore, SledStore, StateStore};

const KEYS_PER_WRITE: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let keys: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let value_bytes: usize = arguments.next().map_or(Ok(128), |text| text.parse())?;
    if let Some(root) = arguments.next() {
        let root = Path::new(&root);
        return if root.exists() { open(root) } else { measure(root, keys, value_bytes) };
    }
    table()?;
    let root = std::env::temp_dir().join(format!("open-store-{}", std::process::id()));
    let result = measure(&root, keys, value_bytes);
    std::fs::remove_dir_all(&root)?;
    result
}

fn open(root: &Path) -> Result<(), Box<dyn Error>> {
    let (start, before) = (Instant::now(), processor_time()?);
    let store = Arc::new(SledStore::open(&root.join("1-0"))?);
    println!("open sled: {:?}, processor {:?}", start.elapsed(), processor_time()? - before);
    let (start, before) = (Instant::now(), processor_time()?);
    let machine = Machine::open(store, options())?;
    println!("open the machine: {:?}, processor {:?}", start.elapsed(), processor_time()? - before);
    println!("{} superseded, {} MiB", machine.superseded_versions(), resident_bytes()? >> 20);
    Ok(())
}

fn measure(root: &Path, keys: u64, value_bytes: usize) -> Result<(), Box<dyn Error>> {
    println!("{keys} keys of {value_bytes} B, a tenth of them written twice");
    let dir = root.join("1-0");
    let store = Arc::new(SledStore::open(&dir)?);
    let mut machine = Machine::open(Arc::clone(&store) as Arc<dyn StateStore>, options())?;
    for first in (0..keys + keys / 10).step_by(KEYS_PER_WRITE as usize) {
        let names = (first..first + KEYS_PER_WRITE).map(|n| format!("bench/{:012}", n % keys));
        let puts = names.map(|name| put(name.into(), vec![7; value_bytes].into()));
        apply(&mut machine, log::Write { then_ops: puts.collect(), ..write() })?;
    }
    let start = Instant::now();
    let mut job = machine.begin_checkpoint().ok_or("there is something to write")?;
    println!("begin a checkpoint: {:?}", start.elapsed());
    while job.step(&*store)? == CheckpointProgress::Continue {}
    machine.finish_checkpoint(job.index());
    println!("checkpoint: {:?}", start.elapsed());
    let digest = machine.digest()?;
    drop((job, machine, store));

    let start = Instant::now();
    let store = Arc::new(SledStore::open(&dir)?);
    println!("open sled: {:?}", start.elapsed());
    let start = Instant::now();
    let mut machine = Machine::open(Arc::clone(&store) as Arc<dyn StateStore>, options())?;
    println!("open the machine, everything read: {:?}", start.elapsed());
    let superseded = machine.superseded_versions();

    let imported = Arc::new(SledStore::open(&root.join("1-1"))?);
    let start = Instant::now();
    let mut job = machine.begin_export().ok_or("a checkpoint is finished")?;
    let mut import = ImportJob::new(job.index(), job.term(), log::ConfState::default(), 0);
    let mut give = |record: &log::ExportRecord| import.push(&*imported, record.clone());
    while job.step(&*store, &mut give)? == ExportProgress::Continue {}
    import.finish(&*imported)?;
    println!("export and import: {:?}", start.elapsed());
    machine.end_export();
    assert_eq!(Machine::open(imported, options())?.digest()?, digest);

    let revision = machine.revision(KeyspaceId::DEFAULT).get();
    let compact = log::Compact { keyspace: KeyspaceId::DEFAULT.get(), revision };
    let compact = log::Command { body: Some(log::command::Body::Compact(compact)) };
    let start = Instant::now();
    machine.apply(machine.applied().next(), Term(1), Some(&compact))?;
    println!("compact {superseded} versions away: {:?}", start.elapsed());
    Ok(())
}

/// Fills the exactly-once table with clients that write once each.
fn table() -> Result<(), Box<dyn Error>> {
    let mut machine = Machine::open(Arc::new(MemoryStore::new()), options())?;
    let before = resident_bytes()?;
    for n in 0..600_000_u64 {
        let id = v1::WriteId {
            client_id: Bytes::from(
                [n.wrapping_mul(0x9e37_79b9_7f4a_7c15); 2].map(u64::to_be_bytes).concat(),
            ),
            seq: 1,
            first_open: 1,
            born: n,
        };
        apply(&mut machine, log::Write { id: Some(id), ..write() })?;
    }
    let (kept, bytes) = (machine.outcomes_kept(), resident_bytes()? - before);
    println!("{kept} outcomes of clients that wrote once take {} MiB", bytes >> 20);
    Ok(())
}

fn apply(machine: &mut Machine, write: log::Write) -> Result<(), Box<dyn Error>> {
    let command = log::Command { body: Some(log::command::Body::Write(write)) };
    let index = machine.applied().next();
    let outcome = machine.apply(index, Term(1), Some(&command))?;
    assert!(outcome.is_some_and(|outcome| outcome.refused == 0), "entry {index}");
    Ok(())
}

fn write() -> log::Write {
    log::Write { keyspace: KeyspaceId::DEFAULT.get(), ..Default::default() }
}

fn put(key: Bytes, value: Bytes) -> v1::Op {
    v1::Op { op: Some(v1::op::Op::Put(v1::PutOp { key, value, prev: false })) }
}

fn options() -> MachineOptions {
    MachineOptions::default()
}

/// Processor time of this process, as Linux counts it: in ticks of 10 ms.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let behind_name = stat.rsplit(')').next().ok_or("no name in stat")?;
    let ticks: Result<Vec<u64>, _> =
        behind_name.split_whitespace().skip(11).take(2).map(str::parse).collect();
    Ok(Duration::from_millis(10 * ticks?.iter().sum::<u64>()))
}

/// Memory of this process, as Linux counts it.
fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    const PAGE_BYTES: usize = 4096;
    let counts = std::fs::read_to_string("/proc/self/statm")?;
    let pages = counts.split_whitespace().nth(1).ok_or("no second number in statm")?;
    Ok(pages.parse::<usize>()? * PAGE_BYTES)
}
