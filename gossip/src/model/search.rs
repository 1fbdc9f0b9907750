//! All schedules of a small setting, in breadth: two replicas, one key, three writes.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::mutant::Mutant;
use super::operation::{Basis, Operation};
use super::violation::Violation;
use super::world::{REPLICAS_MAX, Setting, World};

/// Writes that a schedule makes at most.
const WRITES: usize = 3;
/// Actors that a schedule uses at most: two replicas and one new beginning.
const ACTORS: usize = 3;

/// A search in breadth that visits each state once.
#[derive(Debug)]
pub struct Search {
    mutant: Option<Mutant>,
    setting: Setting,
    states_max: usize,
    disks_fail: bool,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Reached {
    /// States that were seen, each once.
    pub states: usize,
    /// Steps after which every state had been seen when the search ended.
    pub depth: usize,
    /// Whether there were no states left.
    pub is_exhausted: bool,
    /// The shortest schedule that breaks a promise, if one was found.
    pub finding: Option<(Vec<Operation>, Violation)>,
}

impl Search {
    /// A search that ends after `states_max` states at the latest. Without restarts and disks that
    /// fail there are fewer states, so it gets deeper.
    pub fn new(mutant: Option<Mutant>, disks_fail: bool, states_max: usize) -> Self {
        let setting =
            Setting { replicas: 2, keys: 1, members: 0b11, lww: 0, skew: [0; REPLICAS_MAX] };
        Self { mutant, setting, states_max, disks_fail }
    }

    /// Visits states in the order of their distance from the beginning. Every one of them is also
    /// healed.
    pub fn run(&self) -> Reached {
        let mut seen = HashSet::new();
        let mut frontier: Vec<Vec<Operation>> = vec![Vec::new()];
        let mut reached = Reached { states: 1, depth: 0, is_exhausted: false, finding: None };
        loop {
            let mut next = Vec::new();
            for path in &frontier {
                let world = self.replay(path);
                for operation in self.operations(&world) {
                    let mut after = world.clone();
                    let mut result = after.step(operation);
                    if result.is_ok() {
                        if !seen.insert(Self::fingerprint(&after)) {
                            continue;
                        }
                        reached.states += 1;
                        result = after.clone().heal();
                    }
                    let mut longer = path.clone();
                    longer.push(operation);
                    if let Err(violation) = result {
                        reached.finding = Some((longer, violation));
                        return reached;
                    }
                    if reached.states >= self.states_max {
                        return reached;
                    }
                    next.push(longer);
                }
            }
            if next.is_empty() {
                reached.is_exhausted = true;
                return reached;
            }
            reached.depth += 1;
            frontier = next;
        }
    }

    /// A world after a path that was played before. Paths are kept in place of worlds: they are small.
    fn replay(&self, path: &[Operation]) -> World {
        let mut world = World::new(self.mutant, self.setting);
        for &operation in path {
            world.step(operation).expect("a path that was kept breaks no promise");
        }
        world
    }

    /// Every step that can have an effect.
    fn operations(&self, world: &World) -> Vec<Operation> {
        let mut all = Vec::new();
        for at in 0..2 {
            if world.truth.count < WRITES {
                for delete in [false, true] {
                    for basis in [Basis::Local, Basis::Token(0), Basis::Empty] {
                        let (key, expires, mail) = (0, false, true);
                        all.push(Operation::Write { at, key, delete, expires, mail, basis });
                    }
                }
            }
            let replica = &world.replicas[usize::from(at)];
            let certificates = (replica.stored & replica.contexts & world.truth.tombs).len() as u8;
            let values = (replica.contexts - world.truth.tombs).len() as u8;
            all.push(Operation::Read { at, key: 0, slot: 0 });
            all.extend(
                (0..world.truth.count as u8).map(|pick| Operation::Deliver { to: at, pick }),
            );
            all.extend((0..certificates).map(|pick| Operation::DropCertificate { at, pick }));
            all.extend((0..certificates).map(|pick| Operation::Sleep { at, pick }));
            all.extend((0..values).map(|pick| Operation::DropContext { at, pick }));
            if world.open_sessions() == 0 {
                all.push(Operation::Begin { from: at, to: 1 - at });
            }
            if self.disks_fail {
                all.push(Operation::Image { at });
            }
            if self.disks_fail && world.truth.actors < ACTORS {
                all.push(Operation::Restart { at });
                all.push(Operation::Wipe { at });
                all.push(Operation::Rollback { at });
            }
        }
        if world.open_sessions() > 0 {
            all.push(Operation::Stream { slot: 0, count: 1, refuse: false });
            all.push(Operation::Close { slot: 0 });
            all.push(Operation::Abort { slot: 0 });
        }
        all
    }

    /// What tells states apart: all that decides what can follow. Two hashes of 64 bits each.
    fn fingerprint(world: &World) -> u128 {
        let part = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            world.hash_state(&mut hasher);
            u128::from(hasher.finish())
        };
        part(0) << 64 | part(1)
    }
}
