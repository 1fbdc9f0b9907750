//! Deterministic simulation of whole clusters.
//!
//! [`run`] executes one seed: the shipped node core ([`kvstore::node::Node`]) with the shipped log
//! and state machine on simulated disks, behind a simulated network, used by simulated clients,
//! under faults; everything on one thread and in virtual time, so that a seed replays byte for
//! byte. A *safety* phase injects faults while clients work; then all faults end and the cluster
//! must converge (*liveness*); at the end the [`oracle`] holds every answer against the committed
//! log, and all nodes must show the same state.
//!
//! [`Counters`] say how often each event occurred. [`Mutant`]s are bugs planted around the node;
//! each must be found.

mod apart;
mod catalogue;
mod counters;
mod faults;
mod full_disks;
mod host;
mod items;
mod model;
mod mutant;
mod network;
mod operation;
mod operator;
pub mod oracle;
mod patient;
mod process;
mod scripted;
mod unsynced;
mod watch;
mod world;

pub use counters::{Counters, Event};
pub use faults::Emphasis;
pub use full_disks::Trio;
pub use mutant::Mutant;
pub use scripted::{Cut, Reference, Script};
pub use world::World;

/// What a seed runs.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// Operations of all clients together.
    pub operations: u32,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Which faults it has more of.
    pub emphasis: Emphasis,
    /// A planted bug.
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// The plan of the default run: three nodes, sometimes five.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let nodes = if seed.is_multiple_of(10) { 5 } else { 3 };
        Self { seed, operations: OPERATIONS, nodes, emphasis: Emphasis::Mixed, mutant: None }
    }
}

/// Client operations of a seed.
pub const OPERATIONS: u32 = 1_000;

/// Fewest faults of a seed.
pub const FAULTS_MIN: u64 = 10;

/// What a seed came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was violated; empty when all is well.
    pub violations: Vec<String>,
    /// How often each event occurred.
    pub counters: Counters,
    /// Digest of everything that happened, in order.
    pub trace: u64,
}

/// Runs one seed. A panic, in a node or in the world, is a violation like any other.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    let seed = plan.seed;
    std::panic::catch_unwind(|| World::new(plan).run()).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        let why = why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Outcome {
            seed,
            violations: vec![format!("panicked: {why}")],
            counters: Counters::default(),
            trace: 0,
        }
    })
}

/// Runs the seeds `first..first + count` on `threads` threads; outcomes come in the order of the
/// seeds.
#[must_use]
pub fn run_many(first: u64, count: u64, threads: u64, mutant: Option<Mutant>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    let mine = (first + worker..first + count).step_by(threads as usize);
                    mine.map(|seed| run(Plan { mutant, ..Plan::new(seed) })).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().expect("a seed panicked")).collect()
    });
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}
