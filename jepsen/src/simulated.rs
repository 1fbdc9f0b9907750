//! Histories of simulated registers, for testing and measuring checkers.
//!
//! Clients run operations one after another; each takes effect at a random moment between its call
//! and its return, on one real register a key. Writes are given revisions as in a keyspace, reads
//! name the ones they saw. Everything follows from the seed. Without a [`Flaw`] the history is
//! linearizable.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::operation::{Call, Function, Operation, Outcome};
use crate::value::Value;

/// Which values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Each write has a value of its own.
    Unique,
    /// One of this many values.
    Few(u32),
}

/// What is wrong with the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// In the last quarter of the run, one read in this many returns a value that was replaced
    /// before.
    StaleReads(u32),
    /// In the last quarter of the run, one write in this many is acknowledged and has no effect.
    LostWrites(u32),
}

/// Parameters of a simulation. Shares are in per cent; what remains are plain writes.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    /// Seed of all chance.
    pub seed: u64,
    /// Operations in total.
    pub operations: usize,
    /// Clients that run at the same time.
    pub clients: usize,
    /// Keys; each operation takes one at random.
    pub keys: usize,
    /// Values that are written.
    pub values: Values,
    /// Share of reads.
    pub reads: u32,
    /// Share of cas; each expects a value that its client saw or wrote last.
    pub cas: u32,
    /// Share of deletes.
    pub deletes: u32,
    /// Share of operations whose outcome stays unknown.
    pub crashes: u32,
    /// What is wrong.
    pub flaw: Flaw,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            seed: 0,
            operations: 1_000,
            clients: 5,
            keys: 1,
            values: Values::Unique,
            reads: 50,
            cas: 0,
            deletes: 0,
            crashes: 0,
            flaw: Flaw::None,
        }
    }
}

/// Mean duration of an operation.
const DURATION_NS: u64 = 1_000_000;

/// An event of the simulation; they are taken in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The client calls its next operation.
    Call { client: usize },
    /// The operation takes effect.
    Effect { client: usize, operation: usize },
    /// The operation returns.
    Return { client: usize, operation: usize },
}

impl Simulation {
    /// Runs the simulation; operations are ordered by their calls.
    #[must_use]
    pub fn run(self) -> Vec<Operation> {
        Run::new(self).run()
    }
}

/// A value and the revision that wrote it.
#[derive(Clone, Debug, Default)]
struct Held {
    value: Option<Value>,
    revision: Option<u64>,
}

struct Run {
    parameters: Simulation,
    rng: ChaCha8Rng,
    /// Events by time; the number keeps equal times apart.
    events: BTreeMap<(u64, u64), Event>,
    event_count: u64,
    operations: Vec<Operation>,
    /// What each key holds, and what it held before.
    registers: BTreeMap<String, [Held; 2]>,
    /// Revision of the keyspace.
    revision: u64,
    /// What each client knows of its last key.
    known: Vec<BTreeMap<String, Option<Value>>>,
    processes: Vec<u64>,
    next_process: u64,
    next_value: u64,
}

impl Run {
    fn new(parameters: Simulation) -> Self {
        let processes: Vec<u64> = (0..).take(parameters.clients).collect();
        let mut run = Self {
            parameters,
            rng: ChaCha8Rng::seed_from_u64(parameters.seed),
            events: BTreeMap::new(),
            event_count: 0,
            operations: Vec::with_capacity(parameters.operations),
            registers: BTreeMap::new(),
            revision: 1,
            known: vec![BTreeMap::new(); parameters.clients],
            next_process: (0..).nth(parameters.clients).unwrap_or_default(),
            processes,
            next_value: 0,
        };
        for client in 0..parameters.clients {
            run.after(0, DURATION_NS, Event::Call { client });
        }
        run
    }

    fn run(mut self) -> Vec<Operation> {
        while let Some(((now, _), event)) = self.events.pop_first() {
            match event {
                Event::Call { client } if self.operations.len() < self.parameters.operations => {
                    self.call(now, client);
                }
                Event::Call { .. } => {}
                Event::Effect { client, operation } => self.effect(now, client, operation),
                Event::Return { client, operation } => self.returned(now, client, operation),
            }
        }
        self.operations
    }

    /// Plans an event within `span` nanoseconds from `now`.
    fn after(&mut self, now: u64, span: u64, event: Event) {
        let time = now + self.rng.random_range(1..=span);
        self.event_count += 1;
        self.events.insert((time, self.event_count), event);
    }

    fn call(&mut self, now: u64, client: usize) {
        let call = self.choose(client);
        let operation = self.operations.len();
        self.operations.push(Operation::invoked(self.processes[client], call, now));
        if self.rng.random_ratio(self.parameters.crashes, 100) {
            // Never, soon, or much later.
            match self.rng.random_range(0..3) {
                0 => {}
                1 => self.after(now, DURATION_NS, Event::Effect { client: usize::MAX, operation }),
                _ => {
                    self.after(
                        now,
                        40 * DURATION_NS,
                        Event::Effect { client: usize::MAX, operation },
                    );
                }
            }
            self.operations[operation].error = Some("timeout".to_owned());
            self.processes[client] = self.next_process;
            self.next_process += 1;
            self.after(now, 2 * DURATION_NS, Event::Call { client });
        } else {
            self.after(now, DURATION_NS, Event::Effect { client, operation });
        }
    }

    fn choose(&mut self, client: usize) -> Call {
        let key = format!("k{}", self.rng.random_range(0..self.parameters.keys));
        let Simulation { reads, cas, deletes, .. } = self.parameters;
        let dice = self.rng.random_range(0..100);
        if dice < reads {
            Call::read(key)
        } else if dice < reads + cas {
            let expected = match self.parameters.values {
                Values::Few(count) => Some(self.rng.random_range(1..=count).to_string().into()),
                Values::Unique => self.known[client].get(&key).cloned().flatten(),
            };
            let value = self.value();
            Call::cas(key, expected, value)
        } else if dice < reads + cas + deletes {
            Call::delete(key)
        } else {
            let value = self.value();
            Call::write(key, value)
        }
    }

    fn value(&mut self) -> String {
        match self.parameters.values {
            Values::Few(count) => self.rng.random_range(1..=count).to_string(),
            Values::Unique => {
                self.next_value += 1;
                self.next_value.to_string()
            }
        }
    }

    fn effect(&mut self, now: u64, client: usize, place: usize) {
        let late = place >= self.parameters.operations * 3 / 4;
        let (stale, lost) = match self.parameters.flaw {
            Flaw::StaleReads(one_in) if late => (self.rng.random_ratio(1, one_in), false),
            Flaw::LostWrites(one_in) if late => (false, self.rng.random_ratio(1, one_in)),
            Flaw::None | Flaw::StaleReads(_) | Flaw::LostWrites(_) => (false, false),
        };
        let operation = &mut self.operations[place];
        let register = self.registers.entry(operation.key.clone()).or_default();
        let mut outcome = Outcome::Ok;
        match operation.function {
            Function::Read => {
                let Held { value, revision } = register[usize::from(stale)].clone();
                (operation.value, operation.revision) = (value, revision);
                operation.at_revision = Some(self.revision);
            }
            Function::Cas if register[0].value != operation.expected => outcome = Outcome::Fail,
            Function::Delete if register[0].value.is_none() => {
                operation.at_revision = Some(self.revision);
            }
            _ => {
                self.revision += 1;
                operation.revision = Some(self.revision);
                if !lost {
                    let value = operation.value.clone();
                    let revision = value.is_some().then_some(self.revision);
                    register.swap(0, 1);
                    register[0] = Held { value, revision };
                }
            }
        }
        if client == usize::MAX {
            // Nobody hears of it.
            if operation.function == Function::Read {
                operation.value = None;
            }
            (operation.revision, operation.at_revision) = (None, None);
            return;
        }
        operation.outcome = outcome;
        if outcome == Outcome::Ok {
            self.known[client].insert(operation.key.clone(), operation.value.clone());
        }
        // Filled in for good when it returns.
        operation.return_ns = Some(now);
        self.after(now, DURATION_NS, Event::Return { client, operation: place });
    }

    fn returned(&mut self, now: u64, client: usize, operation: usize) {
        self.operations[operation].return_ns = Some(now);
        self.after(now, DURATION_NS / 2, Event::Call { client });
    }
}
