//! How fast a machine applies, reads and takes checkpoints, on one core.
//!
//! ```text
//! cargo run --release -p storage --example apply_throughput [WRITES] [KEYS]
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use proto::{KeyspaceId, LogIndex, Term, log, v1};
use storage::mvcc::{CheckpointProgress, Machine, MachineOptions, RangeQuery};
use storage::state::{SledStore, StateStore};

const VALUE_BYTES: usize = 256;
const CLIENTS: u64 = 128;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let writes: u64 = arguments.next().map_or(Ok(300_000), |text| text.parse())?;
    let keys: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let dir = std::env::temp_dir().join(format!("apply-throughput-{}", std::process::id()));
    let result = measure(Arc::new(SledStore::open(&dir)?), writes, keys);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(store: Arc<dyn StateStore>, writes: u64, keys: u64) -> Result<(), Box<dyn Error>> {
    let mut machine = Machine::open(Arc::clone(&store), MachineOptions::default())?;
    println!("{writes} writes of {VALUE_BYTES} B to {keys} random keys, {CLIENTS} clients");
    for round in ["empty store", "keys in the settled layer"] {
        let entries: Vec<Bytes> = (0..writes).map(|n| entry(n, machine.applied(), keys)).collect();
        apply(&mut machine, round, entries)?;
        reads(&machine, "from the layer", keys)?;
        let bytes = machine.layer_bytes();
        let start = Instant::now();
        let mut job = machine.begin_checkpoint().ok_or("there is something to write")?;
        println!("begin a checkpoint of {} MiB: {:?}", bytes >> 20, start.elapsed());
        let start = Instant::now();
        while job.step(&*store)? == CheckpointProgress::Continue {}
        report("checkpoint", writes, start.elapsed());
        let index = job.index();
        drop(job);
        let start = Instant::now();
        machine.finish_checkpoint(index);
        println!("finish the checkpoint: {:?}", start.elapsed());
        reads(&machine, "from the settled layer", keys)?;
    }
    let mut machine = Machine::open(Arc::clone(&store), MachineOptions::default())?;
    reads(&machine, "from the store", keys)?;
    let entries: Vec<Bytes> = (0..writes).map(|n| entry(n, machine.applied(), keys)).collect();
    apply(&mut machine, "keys in the store", entries)?;
    let start = Instant::now();
    machine.digest()?;
    report("digest", writes * 3, start.elapsed());
    let start = Instant::now();
    machine.verify()?;
    report("verify", writes * 2, start.elapsed());
    println!("the store takes {} MiB", store.size_bytes() >> 20);
    Ok(())
}

fn apply(machine: &mut Machine, place: &str, entries: Vec<Bytes>) -> Result<(), Box<dyn Error>> {
    let writes = entries.len() as u64;
    let start = Instant::now();
    for entry in entries {
        let command = log::Command::decode(entry)?;
        let outcome = machine.apply(machine.applied().next(), Term(1), Some(&command))?;
        assert!(outcome.is_some_and(|outcome| outcome.refused == 0));
    }
    report(&format!("apply, {place}"), writes, start.elapsed());
    Ok(())
}

fn reads(machine: &Machine, place: &str, keys: u64) -> Result<(), Box<dyn Error>> {
    const READS: u64 = 200_000;
    for (what, spread) in [("one hot key", 1), ("random keys", keys)] {
        let names: Vec<Bytes> = (0..READS).map(|n| key(n, spread)).collect();
        let start = Instant::now();
        let mut found = 0;
        for name in &names {
            found += u64::from(machine.get(KeyspaceId::DEFAULT, name, None)?.is_some());
        }
        report(&format!("get {what} {place} ({found} found)"), READS, start.elapsed());
    }
    let start = Instant::now();
    let mut query = RangeQuery { count_only: true, ..Default::default() };
    let mut count = 0;
    loop {
        let page = machine.range(KeyspaceId::DEFAULT, &query)?;
        count += page.count;
        if !page.more {
            break;
        }
        query.from = page.next;
    }
    report(&format!("count {place}"), count, start.elapsed());
    Ok(())
}

fn key(n: u64, keys: u64) -> Bytes {
    // Multiplying by an odd number scatters; the high bits are the random ones.
    let scattered = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    Bytes::from(format!("bench/{:012}", scattered % keys))
}

fn entry(n: u64, applied: LogIndex, keys: u64) -> Bytes {
    let put = v1::PutOp { key: key(n, keys), value: vec![7; VALUE_BYTES].into(), prev: false };
    let seq = 1 + (applied.get() + n) / CLIENTS;
    let write = log::Write {
        keyspace: KeyspaceId::DEFAULT.get(),
        id: Some(v1::WriteId {
            client_id: Bytes::from([[7; 8], (n % CLIENTS).to_be_bytes()].concat()),
            seq,
            first_open: seq,
            born: 0,
        }),
        then_ops: vec![v1::Op { op: Some(v1::op::Op::Put(put)) }],
        ..Default::default()
    };
    log::Command { body: Some(log::command::Body::Write(write)) }.encode_to_vec().into()
}

fn report(what: &str, count: u64, elapsed: Duration) {
    let rate = count as f64 / elapsed.as_secs_f64();
    println!("{what:<50} {:>9.0}/s  {:>7.0} ns each", rate, 1e9 / rate);
}
