//! Flipped bits in the store of a state machine whose versions lie in packs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proto::{KeyspaceId, LogIndex, Revision, Term, log, v1};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::StateStore;
use storage::mvcc::{CheckpointProgress, Machine, MachineOptions};
use storage::state::{SledStore, StateError};

use crate::image::Image;
use crate::scratch;
use crate::verdict::guarded;

const FLIPS: usize = 600;
const CHECKPOINTS: u64 = 4;
const WRITES: u64 = 300;
const KEYS: u64 = 4;

/// What a machine says about itself: its index, its digest, and each readable revision of its keys.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    applied: LogIndex,
    digest: [u8; 32],
    values: BTreeMap<(u64, Revision), Option<v1::Item>>,
}

impl Told {
    fn by(machine: &Machine) -> Result<Self, StateError> {
        let id = KeyspaceId::DEFAULT;
        let mut values = BTreeMap::new();
        for at in machine.compacted(id).get()..=machine.revision(id).get() {
            for key in 0..KEYS {
                let read = machine.get(id, &name(key), Some(Revision(at)));
                let item = read.expect("what opened whole is read");
                values.insert((key, Revision(at)), item);
            }
        }
        Ok(Self { applied: machine.applied(), digest: machine.digest()?, values })
    }
}

fn name(key: u64) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

fn open(dir: &Path) -> Result<Machine, StateError> {
    Machine::open(Arc::new(SledStore::open(dir)?), MachineOptions::default())
}

fn apply(machine: &mut Machine, body: log::command::Body) {
    let index = machine.applied().next();
    let command = log::Command { body: Some(body) };
    let outcome = machine.apply(index, Term(1), Some(&command)).unwrap();
    assert!(outcome.is_some_and(|outcome| outcome.refused == 0));
}

/// A closed store, and what its machine told at each of its checkpoints.
fn closed_store(dir: &Path) -> Vec<Told> {
    let store = Arc::new(SledStore::open(dir).unwrap());
    let shared = Arc::clone(&store) as Arc<dyn StateStore>;
    let mut machine = Machine::open(shared, MachineOptions::default()).unwrap();
    let mut told = vec![Told::by(&machine).unwrap()];
    let keyspace = KeyspaceId::DEFAULT.get();
    for round in 1..=CHECKPOINTS {
        for n in 0..WRITES {
            let value = vec![(n + round) as u8; 40 + n as usize].into();
            let put = v1::PutOp { key: name(n % KEYS).into(), value, prev: false };
            let then_ops = vec![v1::Op { op: Some(v1::op::Op::Put(put)) }];
            let write = log::Write { keyspace, then_ops, ..Default::default() };
            apply(&mut machine, log::command::Body::Write(write));
        }
        let revision = machine.revision(KeyspaceId::DEFAULT).get() - WRITES / 2;
        apply(&mut machine, log::command::Body::Compact(log::Compact { keyspace, revision }));
        let mut job = machine.begin_checkpoint().unwrap();
        while job.step(&*store).unwrap() == CheckpointProgress::Continue {}
        machine.finish_checkpoint(job.index());
        told.push(Told::by(&machine).unwrap());
    }
    let versions = machine.superseded_versions();
    let items = store.scan(&1_u64.to_be_bytes(), &2_u64.to_be_bytes()).count();
    assert!(items * 3 < versions, "{versions} versions are packed, {items} items");
    told
}

/// A machine that opens tells what it told at one of its checkpoints, to the last value.
#[test]
fn s06_a_flipped_bit_in_a_pack_is_refused_or_harmless() {
    let scratch = scratch();
    let origin = scratch.path().join("origin");
    let told = Arc::new(closed_store(&origin));
    // Opened once more, so that there is a snapshot of it.
    drop(SledStore::open(&origin).unwrap());
    let whole = Image::of(&origin);
    let values = inside_values(&whole.files["db"]);
    let dir = scratch.path().join("s");
    let mut rng = ChaCha8Rng::seed_from_u64(60);
    let (mut refused, mut harmless, mut rolled_back) = (0, 0, 0);
    for n in 0..FLIPS {
        let mut content = whole.files["db"].clone();
        let anywhere = rng.random_range(0..content.len());
        let at = if n % 4 == 0 { anywhere } else { values[rng.random_range(0..values.len())] };
        let bit = rng.random_range(0..8);
        content[at] ^= 1 << bit;
        let known = Arc::clone(&told);
        let verdict = guarded(&whole.with("db", content), &dir, move |dir| {
            let found = Told::by(&open(dir)?)?;
            Ok::<_, StateError>(known.iter().position(|told| *told == found))
        });
        match verdict {
            Ok(Some(checkpoint)) if checkpoint as u64 == CHECKPOINTS => harmless += 1,
            Ok(Some(_)) => rolled_back += 1,
            Ok(None) => panic!("byte {at}, bit {bit}: the machine tells what never was"),
            Err(_) => refused += 1,
        }
    }
    println!("{refused} refused, {rolled_back} rolled back, {harmless} harmless");
    assert!(refused > FLIPS / 20 && harmless > FLIPS / 20, "{refused} {harmless}");
}

/// The places in a file that lie in values of this load: runs of one byte that is not zero.
fn inside_values(file: &[u8]) -> Vec<usize> {
    let runs = file.chunk_by(|a, b| a == b);
    let mut places = Vec::new();
    let mut start = 0;
    for run in runs {
        if run.len() >= 40 && run[0] != 0 {
            places.extend(start..start + run.len());
        }
        start += run.len();
    }
    places
}
