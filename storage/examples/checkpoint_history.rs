//! What checkpoints cost when history keeps old versions: keys that are overwritten many times
//! between two checkpoints.
//!
//! ```text
//! cargo run --release -p storage --example checkpoint_history [ROUNDS] [WRITES] [KEYS] [VALUE_BYTES]
//! ```
//!
//! Each round applies `WRITES` puts to `KEYS` keys, compacts as a leader with the default history
//! does, and takes a checkpoint. Costs are processor time of the whole process, sled's threads
//! included.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{KeyspaceId, Revision, Term, log, v1};
use storage::mvcc::{CheckpointProgress, HistoryClock, Machine, MachineOptions};
use storage::state::{SledStore, StateStore};

/// Puts between two looks at whether a compaction is due.
const COMPACTION_EVERY: u64 = 1_000;

/// Clock ticks of `/proc/self/stat` in a second, on Linux everywhere.
const TICKS_PER_SECOND: u64 = 100;

struct Load {
    writes: u64,
    keys: u64,
    value_bytes: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let rounds = number(6)?;
    let (writes, keys) = (number(370_000)?, number(10_000)?);
    let load = Load { writes, keys, value_bytes: usize::try_from(number(256)?)? };
    let dir = std::env::temp_dir().join(format!("checkpoint-history-{}", std::process::id()));
    let result = measure(&dir, rounds, &load);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(dir: &Path, rounds: u64, load: &Load) -> Result<(), Box<dyn Error>> {
    let store = Arc::new(SledStore::open(dir)?);
    let mut machine = Machine::open(Arc::clone(&store) as Arc<dyn StateStore>, options())?;
    let mut clock = HistoryClock::new();
    println!("{} writes of {} B to {} keys a round", load.writes, load.value_bytes, load.keys);
    for round in 1..=rounds {
        let start = processor_time()?;
        for n in 0..load.writes {
            apply(&mut machine, put(load, n))?;
            if n % COMPACTION_EVERY == 0 {
                compact(&mut machine, &mut clock)?;
            }
        }
        let applied = processor_time()? - start;
        let (begun, start) = (Instant::now(), processor_time()?);
        let mut job = machine.begin_checkpoint().ok_or("there is something to write")?;
        while job.step(&*store)? == CheckpointProgress::Continue {}
        machine.finish_checkpoint(job.index());
        let taken = processor_time()? - start;
        println!(
            "round {round}: apply {}, checkpoint {} an entry ({:?}, took {:?}), \
             {} old versions, {} MiB",
            each(applied, load.writes),
            each(taken, load.writes),
            taken,
            begun.elapsed(),
            machine.superseded_versions(),
            store.size_bytes() >> 20,
        );
    }
    reads(&machine, load)?;
    let digest = machine.digest()?;
    drop((machine, store));
    let store = Arc::new(SledStore::open(dir)?);
    let start = processor_time()?;
    let machine = Machine::open(Arc::clone(&store) as Arc<dyn StateStore>, options())?;
    println!("open the machine: {:?}", processor_time()? - start);
    reads(&machine, load)?;
    assert_eq!(machine.digest()?, digest, "the same after it was opened again");
    Ok(())
}

/// Reads keys at their newest revision, and in the middle of what history keeps.
fn reads(machine: &Machine, load: &Load) -> Result<(), Box<dyn Error>> {
    const READS: u64 = 100_000;
    let id = KeyspaceId::DEFAULT;
    let (oldest, newest) = (machine.compacted(id).get(), machine.revision(id).get());
    for (what, at) in [("now", newest), ("in history", oldest + (newest - oldest) / 2)] {
        let start = processor_time()?;
        for n in 0..READS {
            machine.get(id, &key(n, load.keys), Some(Revision(at)))?.ok_or("a key is missing")?;
        }
        println!("get {what}: {}", each(processor_time()? - start, READS));
    }
    Ok(())
}

fn compact(machine: &mut Machine, clock: &mut HistoryClock) -> Result<(), Box<dyn Error>> {
    let due = machine.compaction_due(KeyspaceId::DEFAULT, clock, 0);
    let Some(revision) = due else { return Ok(()) };
    let compact = log::Compact { keyspace: KeyspaceId::DEFAULT.get(), revision: revision.get() };
    apply(machine, log::Command { body: Some(log::command::Body::Compact(compact)) })
}

fn apply(machine: &mut Machine, command: log::Command) -> Result<(), Box<dyn Error>> {
    let index = machine.applied().next();
    let outcome = machine.apply(index, Term(1), Some(&command))?;
    assert!(outcome.is_some_and(|outcome| outcome.refused == 0), "entry {index}");
    Ok(())
}

fn put(load: &Load, n: u64) -> log::Command {
    let (key, value) = (key(n, load.keys), vec![n as u8; load.value_bytes].into());
    let put = v1::Op { op: Some(v1::op::Op::Put(v1::PutOp { key, value, prev: false })) };
    let keyspace = KeyspaceId::DEFAULT.get();
    let write = log::Write { keyspace, then_ops: vec![put], ..Default::default() };
    log::Command { body: Some(log::command::Body::Write(write)) }
}

fn key(n: u64, keys: u64) -> Bytes {
    // Multiplying by an odd number scatters; the high bits are the random ones.
    let scattered = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    Bytes::from(format!("bench/{:012}", scattered % keys))
}

fn options() -> MachineOptions {
    MachineOptions::default()
}

/// What all threads of this process have taken of the processors, to 10 ms.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
    // The 14th and 15th field of the line: time in user and in system mode.
    let ticks: Result<u64, _> =
        fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum();
    Ok(Duration::from_millis(ticks? * (1_000 / TICKS_PER_SECOND)))
}

fn each(time: Duration, count: u64) -> String {
    format!("{:.1} us", time.as_secs_f64() * 1e6 / count as f64)
}
