//! How much the clients of a workload do.

use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::register::ReadLevel;

/// Parameters of all workloads.
#[derive(Clone, Debug)]
pub struct Load {
    /// Seed of the choices of all processes.
    pub seed: u64,
    /// Processes that run at the same time.
    pub clients: usize,
    /// Keys (or counters, lists in use; two more accounts); the fewer, the more contention.
    pub keys: usize,
    /// Operations after which all processes stop.
    pub operations_max: usize,
    /// Most time that one operation may take; after it its outcome is unknown.
    pub timeout: Duration,
    /// Time between two operations of a process. It bounds how much there is to check.
    pub think: Duration,
    /// The level at which the processes read. All but the default may well be found invalid: that
    /// is what they do not promise.
    pub level: ReadLevel,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            seed: 0,
            clients: 6,
            keys: 3,
            operations_max: 200_000,
            timeout: Duration::from_millis(1_500),
            think: Duration::from_millis(2),
            level: ReadLevel::Linearizable,
        }
    }
}

impl Load {
    /// The choices of the process with this number.
    pub(super) fn rng_of(&self, number: usize) -> ChaCha8Rng {
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64);
        ChaCha8Rng::seed_from_u64(seed)
    }

    /// The endpoints of the process with this number: every other one stays at one node, and they begin
    /// at different ones.
    pub(super) fn endpoints_of(number: usize, mut endpoints: Vec<String>) -> Vec<String> {
        let first = number / 2 % endpoints.len();
        endpoints.rotate_left(first);
        if number.is_multiple_of(2) {
            endpoints.truncate(1);
        }
        endpoints
    }
}
