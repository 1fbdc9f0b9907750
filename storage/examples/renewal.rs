//! How a state store grows under checkpoints that overwrite the same keys, with and without renewal.
//!
//! ```text
//! cargo run -p storage --example renewal [ROUNDS] [WRITES] [KEYS] [VALUE_BYTES]
//! ```
//!
//! Each round overwrites keys at random, keeps the default history, and takes a checkpoint. With renewal
//! the store is copied when it takes more than three times what lives in it, and 64 MiB, as a node does by
//! default; what lives is taken to be what the last copy came to.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{KeyspaceId, Term, log, v1};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::mvcc::{
    CheckpointProgress, HISTORY_REVISIONS, Machine, MachineOptions, RenewProgress,
};
use storage::state::{SledStore, StateStore};

const STORE_TIMES: u64 = 3;
const STORE_SLACK_BYTES: u64 = 64 << 20;
/// Rounds between two lines.
const SHOWN_EVERY: u64 = 5;

struct Load {
    rounds: u64,
    writes: u64,
    keys: u64,
    value_bytes: usize,
}

/// A machine over sled, with the directories that its stores were in.
struct Churned {
    machine: Machine,
    root: PathBuf,
    renewals: u32,
    /// The store, and its copy, at the last renewal, and how long it took.
    last: Option<(u64, u64, Duration)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let load = Load {
        rounds: number(40)?,
        writes: number(100_000)?,
        keys: number(30_000)?,
        value_bytes: usize::try_from(number(256)?)?,
    };
    let root = std::env::temp_dir().join(format!("renewal-{}", std::process::id()));
    let result = measure(&root, &load);
    std::fs::remove_dir_all(&root)?;
    result
}

fn measure(root: &Path, load: &Load) -> Result<(), Box<dyn Error>> {
    let mut kept = Churned::begin(root.join("kept"))?;
    let mut renewed = Churned::begin(root.join("renewed"))?;
    let Load { writes, keys, value_bytes, .. } = load;
    println!("{writes} writes of {value_bytes} B to {keys} keys a round");
    for round in 1..=load.rounds {
        kept.churn(load, round)?;
        renewed.churn(load, round)?;
        renewed.renew()?;
        if round.is_multiple_of(SHOWN_EVERY) {
            println!(
                "round {round}: {} MiB without renewal, {} MiB with {} renewals",
                kept.machine.store_bytes() >> 20,
                renewed.machine.store_bytes() >> 20,
                renewed.renewals,
            );
        }
    }
    if let Some((before, after, took)) = renewed.last {
        println!("the last renewal: {} MiB to {} MiB in {took:?}", before >> 20, after >> 20);
    }
    let equal = kept.machine.digest()? == renewed.machine.digest()?;
    println!("both hold the same: {equal}");
    Ok(())
}

impl Churned {
    fn begin(root: PathBuf) -> Result<Self, Box<dyn Error>> {
        std::fs::create_dir_all(&root)?;
        let store = SledStore::open(&root.join("0"))?;
        let machine = Machine::open(Arc::new(store), MachineOptions::default())?;
        Ok(Self { machine, root, renewals: 0, last: None })
    }

    fn churn(&mut self, load: &Load, round: u64) -> Result<(), Box<dyn Error>> {
        let mut rng = ChaCha8Rng::seed_from_u64(round);
        for _ in 0..load.writes {
            let mut value = vec![0; load.value_bytes];
            rng.fill(&mut value[..]);
            self.apply(put(rng.random_range(0..load.keys), value))?;
        }
        let newest = self.machine.revision(KeyspaceId::DEFAULT).get();
        let revision = newest.saturating_sub(HISTORY_REVISIONS).max(1);
        let compact = log::Compact { keyspace: KeyspaceId::DEFAULT.get(), revision };
        self.apply(log::Command { body: Some(log::command::Body::Compact(compact)) })?;
        let mut job = self.machine.begin_checkpoint().ok_or("there is something to write")?;
        let store = self.machine.store();
        while job.step(&*store)? == CheckpointProgress::Continue {}
        self.machine.finish_checkpoint(job.index());
        Ok(())
    }

    fn renew(&mut self) -> Result<(), Box<dyn Error>> {
        let before = self.machine.store_bytes();
        let copied = self.last.map_or(0, |(_, after, _)| after);
        if before <= STORE_TIMES * copied.max(live_bytes(&self.machine)) + STORE_SLACK_BYTES {
            return Ok(());
        }
        let begun = Instant::now();
        let dir = self.root.join((self.renewals + 1).to_string());
        let copy: Arc<dyn StateStore> = Arc::new(SledStore::open(&dir)?);
        let mut job = self.machine.begin_renewal().ok_or("a checkpoint is finished")?;
        let store = self.machine.store();
        while job.step(&*store, &*copy)? == RenewProgress::Continue {}
        drop(store);
        drop(self.machine.end_renewal(Some(copy)));
        std::fs::remove_dir_all(self.root.join(self.renewals.to_string()))?;
        self.renewals += 1;
        self.last = Some((before, self.machine.store_bytes(), begun.elapsed()));
        Ok(())
    }

    fn apply(&mut self, command: log::Command) -> Result<(), Box<dyn Error>> {
        let index = self.machine.applied().next();
        self.machine.apply(index, Term(1), Some(&command))?;
        Ok(())
    }
}

fn live_bytes(machine: &Machine) -> u64 {
    machine.keyspaces().map(|info| info.live_bytes).sum()
}

fn put(key: u64, value: Vec<u8>) -> log::Command {
    let put = v1::PutOp { key: Bytes::from(format!("{key:08}")), value: value.into(), prev: false };
    let op = v1::Op { op: Some(v1::op::Op::Put(put)) };
    let keyspace = KeyspaceId::DEFAULT.get();
    let write = log::Write { keyspace, then_ops: vec![op], ..Default::default() };
    log::Command { body: Some(log::command::Body::Write(write)) }
}
