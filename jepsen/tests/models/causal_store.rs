//! Histories of a simulated causal store: each process has a replica of its own, and a write
//! reaches the others after what its process knew when it wrote.

use std::collections::BTreeMap;

use jepsen::{Call, Function, Operation, Outcome, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// What the store is made of.
#[derive(Clone, Copy)]
pub struct Store {
    pub processes: usize,
    pub keys: usize,
    pub operations: usize,
    /// Only process `key % processes` writes a key.
    pub single_writer: bool,
    /// Concurrent writes are settled by their numbers, the same at all replicas; else by arrival.
    pub converges: bool,
    /// Writes in a thousand whose outcome stays unknown.
    pub crashes: u32,
}

struct Write {
    key: usize,
    process: usize,
    value: u64,
    /// How many writes of each process must have arrived before.
    needs: Vec<usize>,
}

#[derive(Clone)]
struct Replica {
    /// Writes of each process that arrived.
    arrived: Vec<usize>,
    /// The write that each key shows.
    shows: BTreeMap<usize, usize>,
}

impl Store {
    /// A history that is causally consistent; with `converges` it is causally convergent, else it
    /// is causal memory.
    pub fn run(&self, rng: &mut ChaCha8Rng) -> Vec<Operation> {
        let replica = Replica { arrived: vec![0; self.processes], shows: BTreeMap::new() };
        let mut replicas = vec![replica; self.processes];
        let mut writes: Vec<Write> = Vec::new();
        let mut by_process: Vec<Vec<usize>> = vec![Vec::new(); self.processes];
        // The client at each replica; one that crashed is replaced.
        let mut names: Vec<u64> = (0..self.processes as u64).collect();
        let mut history = Vec::new();
        for number in 0..self.operations {
            let process = rng.random_range(0..self.processes);
            for _ in 0..rng.random_range(0..=2) {
                let other = rng.random_range(0..self.processes);
                self.deliver(&mut replicas[process], other, &writes, &by_process);
            }
            let mut key = rng.random_range(0..self.keys);
            let mut writing = rng.random_bool(0.4);
            if writing && self.single_writer {
                let own: Vec<usize> =
                    (0..self.keys).filter(|key| key % self.processes == process).collect();
                writing = !own.is_empty();
                key = if writing { own[rng.random_range(0..own.len())] } else { key };
            }
            let call = if writing {
                Call::write(key.to_string(), (number as i64) + 1)
            } else {
                Call::read(key.to_string())
            };
            let mut operation = Operation::invoked(names[process], call, number as u64 * 10);
            operation.return_ns = Some(number as u64 * 10 + 5);
            operation.outcome = Outcome::Ok;
            let crashed = writing && !self.single_writer && rng.random_ratio(self.crashes, 1000);
            if crashed {
                operation.outcome = Outcome::Info;
                names[process] += self.processes as u64;
            }
            if writing && !(crashed && rng.random_bool(0.5)) {
                let needs = replicas[process].arrived.clone();
                by_process[process].push(writes.len());
                writes.push(Write { key, process, value: number as u64 + 1, needs });
                self.deliver(&mut replicas[process], process, &writes, &by_process);
            } else if !writing {
                let shown = replicas[process].shows.get(&key);
                operation.value = shown.map(|&write| Value::from(writes[write].value as i64));
            }
            history.push(operation);
        }
        history
    }

    /// Delivers the next write of a process, if all that it needs has arrived.
    fn deliver(&self, to: &mut Replica, from: usize, writes: &[Write], by: &[Vec<usize>]) {
        let Some(&number) = by[from].get(to.arrived[from]) else { return };
        let write = &writes[number];
        assert_eq!(write.process, from);
        if write.needs.iter().zip(&to.arrived).any(|(needs, arrived)| needs > arrived) {
            return;
        }
        to.arrived[from] += 1;
        let shown = to.shows.entry(write.key).or_insert(number);
        if !self.converges || *shown < number {
            *shown = number;
        }
    }
}

/// Changes the value of some reads to another one of their key, or to absence.
pub fn disturb(history: &mut [Operation], rng: &mut ChaCha8Rng, times: usize) {
    for _ in 0..times {
        let place = rng.random_range(0..history.len());
        if history[place].function != Function::Read {
            continue;
        }
        let mut values: Vec<Option<Value>> = history
            .iter()
            .filter(|operation| operation.function == Function::Write)
            .filter(|operation| operation.key == history[place].key)
            .map(|operation| operation.value.clone())
            .collect();
        values.push(None);
        history[place].value = values.swap_remove(rng.random_range(0..values.len()));
    }
}
