//! Client ids that are used once and never again: the exactly-once table must stay bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{KeyspaceId, Revision, Term, log, v1};
use storage::mvcc::{CheckpointProgress, HistoryClock, Machine, MachineOptions};
use storage::state::{MemoryStore, StateStore};
use tests::measure::{Attempt, Failed, MIB, Memory, Place, Promises, Single, leader_soon};
use tokio::task::JoinSet;

/// Keys that the writes go to.
const KEYS: u64 = 1_000;
/// Writes between two checkpoints.
const CHECKPOINT_WRITES: u64 = 100_000;
/// Writes between two looks at the history.
const COMPACTION_WRITES: u64 = 5_000;
/// How much more memory may be in use at the end than when the table was first full.
const GROWTH_MAX_MIB: u64 = 64;
/// Share of the writes, in tenths, after which everything is taken to be full.
const FULL_TENTHS: u64 = 2;
/// Writes at once through RPC.
const IN_FLIGHT: usize = 128;
/// Connections that carry them.
const CONNECTIONS: usize = 4;
/// A client id that is born long before its write may be refused, so writers ask this often.
const BORN_WRITES: u64 = 100;
/// How long a write waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most memory that a node may gain by so many client ids: the table and what it costs around it.
const NODE_GROWTH_MAX_MIB: u64 = 256;

/// Applies so many writes to a state machine, each under an id of its own.
///
/// The store is in memory too, so its growth would show.
pub fn apply(ids: u64, promises: &mut Promises) -> Result<(), Failed> {
    println!("\n{ids} client ids, each used once, applied to a state machine");
    let options = MachineOptions::default();
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    let mut machine = Machine::open(Arc::clone(&store), options)?;
    let mut history = HistoryClock::default();
    let (mut when_full, mut most_kept) = (0, 0);
    println!("{:>12} {:>10} {:>12} {:>10}", "ids", "kept", "floor", "MiB");
    let (begin, row) = (Instant::now(), (ids / 10).max(1));
    for number in 0..ids {
        let born = machine.applied().get();
        apply_one(&mut machine, write(number, born))?;
        most_kept = most_kept.max(machine.outcomes_kept());
        if number % COMPACTION_WRITES == 0 {
            compact(&mut machine, &mut history, number)?;
        }
        if number % CHECKPOINT_WRITES == CHECKPOINT_WRITES - 1 {
            checkpoint(&mut machine, &*store)?;
        }
        if (number + 1) % row == 0 {
            let memory = Memory::of_self()?.now;
            let (kept, floor) = (machine.outcomes_kept(), machine.outcomes_floor());
            println!("{:>12} {kept:>10} {:>12} {:>10}", number + 1, floor.get(), memory / MIB);
            if (number + 1) / row == FULL_TENTHS {
                when_full = memory;
            }
        }
    }
    let grown = Memory::of_self()?.now.saturating_sub(when_full) / MIB;
    promises
        .figure("writes applied/s", format!("{:.0}", ids as f64 / begin.elapsed().as_secs_f64()));
    promises.at_most("outcomes kept at any time", most_kept, options.outcomes_max, "");
    let what = format!("memory gained since {FULL_TENTHS} tenths of the writes");
    promises.at_most(&what, grown, GROWTH_MAX_MIB, "MiB");
    Ok(())
}

fn apply_one(machine: &mut Machine, body: log::command::Body) -> Result<(), Failed> {
    let command = log::Command { body: Some(body) };
    let outcome = machine.apply(machine.applied().next(), Term(1), Some(&command))?;
    let refused = outcome.map_or(0, |outcome| outcome.refused);
    if refused == 0 { Ok(()) } else { Err(format!("a write was refused with {refused}").into()) }
}

/// A put under the client id of this number, which nobody else has.
fn write(number: u64, born: u64) -> log::command::Body {
    let put = v1::PutOp {
        key: format!("one-shot/{:04}", number % KEYS).into(),
        value: Bytes::from_static(b"used once"),
        prev: false,
    };
    let client_id = [number.to_be_bytes(), [7; 8]].concat().into();
    log::command::Body::Write(log::Write {
        keyspace: KeyspaceId::DEFAULT.get(),
        id: Some(v1::WriteId { client_id, seq: 1, first_open: 1, born }),
        then_ops: vec![v1::Op { op: Some(v1::op::Op::Put(put)) }],
        ..log::Write::default()
    })
}

/// Compacts as a leader does.
fn compact(machine: &mut Machine, history: &mut HistoryClock, now: u64) -> Result<(), Failed> {
    while let Some(to) = machine.compaction_due(KeyspaceId::DEFAULT, history, now) {
        let Revision(revision) = to;
        let compact = log::Compact { keyspace: KeyspaceId::DEFAULT.get(), revision };
        apply_one(machine, log::command::Body::Compact(compact))?;
    }
    Ok(())
}

fn checkpoint(machine: &mut Machine, store: &dyn StateStore) -> Result<(), Failed> {
    let mut job = machine.begin_checkpoint().ok_or("there is something to write")?;
    while job.step(store)? == CheckpointProgress::Continue {}
    let index = job.index();
    drop(job);
    machine.finish_checkpoint(index);
    Ok(())
}

/// Sends so many writes to a cluster, each under an id of its own.
pub async fn send(place: &Place, ids: u64, promises: &mut Promises) -> Result<(), Failed> {
    println!("\n{ids} client ids, each used once, sent to a cluster");
    let mut cluster = place.boot("one-shot").await?;
    let client = Place::connect(&cluster, PATIENCE, 1)?;
    let leader = leader_soon(&cluster, &client, PATIENCE).await?.node;
    let single = Single::connect(&cluster, leader, CONNECTIONS).await?;
    let memory = |cluster: &jepsen::cluster::Cluster| -> Result<Vec<u64>, Failed> {
        let nodes = 0..cluster.len();
        nodes.map(|node| Ok(Memory::of_node(cluster, node)?.now / MIB)).collect()
    };
    let before = memory(&cluster)?;
    let (begin, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut slots = JoinSet::new();
    for slot in 0..IN_FLIGHT {
        slots.spawn(send_some(single.clone(), slot, Arc::clone(&next), ids));
    }
    let mut acknowledged = 0;
    while let Some(slot) = slots.join_next().await {
        acknowledged += slot??;
    }
    let rate = ids as f64 / begin.elapsed().as_secs_f64();
    cluster.check_alive()?;
    promises.figure("writes/s", format!("{rate:.0}"));
    promises.at_least("acknowledged", acknowledged, ids, "");
    for (node, (before, after)) in before.into_iter().zip(memory(&cluster)?).enumerate() {
        let what = format!("{}: memory gained, from {before} MiB", cluster.name(node));
        promises.at_most(&what, after.saturating_sub(before), NODE_GROWTH_MAX_MIB, "MiB");
    }
    Ok(())
}

async fn send_some(
    single: Single,
    slot: usize,
    next: Arc<AtomicU64>,
    ids: u64,
) -> Result<u64, Failed> {
    let (mut acknowledged, mut born) = (0, 0);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= ids {
            return Ok(acknowledged);
        }
        if acknowledged % BORN_WRITES == 0 {
            born = single.born().await?;
        }
        let client_id = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
        let id = v1::WriteId { client_id, seq: 1, first_open: 1, born };
        let key = format!("one-shot/{:04}", number % KEYS).into();
        match single.put(slot, id, key, Bytes::from_static(b"used once"), PATIENCE).await {
            Attempt::Acknowledged => acknowledged += 1,
            Attempt::Refused(failure) => return Err(failure.to_string().into()),
            Attempt::Untyped(why) => return Err(why.into()),
            Attempt::Silent => return Err("a write was not answered".into()),
        }
    }
}
