//! What happens, drawn from a seed.

use gossip::group::KEEP_MS;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Plan;

/// Time between two looks at the clock.
pub const TICK_MS: u64 = 50;
/// Time that [`Step::Hour`] takes: more than what is not stable is kept for.
pub const HOUR_MS: u64 = KEEP_MS + 60_000;

/// What a client writes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// All that the member holds.
    Held,
    /// Nothing.
    Nothing,
    /// What a client has read before, perhaps at another member.
    Seen,
}

/// When a member is killed that has just taken a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// Before anything of it is durable.
    BeforeSync,
    /// Once it is durable, and before anybody hears of it.
    AfterSync,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A client writes.
    Write { at: usize, key: usize, delete: bool, over: Over, killed: Option<Killed> },
    /// A client reads, and remembers what it saw.
    Read { at: usize, key: usize },
    /// Time passes, and messages arrive.
    Run { ms: u64 },
    /// So much time passes at once that certificates are dropped which not all have heard of.
    Hour,
    /// A member loses its links.
    CutOff { at: usize },
    /// Two members lose their link.
    CutPair { one: usize, other: usize },
    /// All links are there again.
    Mend,
    /// A member is killed, and starts from its disk.
    Restart { at: usize },
    /// A member is killed, and starts with an empty disk. It may have written to a key just before, which nobody has heard of.
    LoseDisk { at: usize, last: Option<usize> },
    /// Somebody copies a member's disk.
    CopyDisk { at: usize },
    /// A member is killed, and starts from the copy of its disk.
    RollBack { at: usize },
    /// A message of long ago arrives.
    FromThePast { pick: usize },
    /// It is decided, by what a member knows, which actors retire and are folded.
    Decide { at: usize },
    /// A member hears of what was decided.
    Hear { at: usize },
}

/// A schedule. The same seed and plan give the same.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The seed, for all further chance.
    pub seed: u64,
    /// Members.
    pub nodes: usize,
    /// Keys.
    pub keys: usize,
    /// Of a hundred messages so many are lost.
    pub lost: u32,
    /// So many come twice.
    pub doubled: u32,
    /// So many come later than those after them.
    pub delayed: u32,
    /// No write says what its client had seen, so siblings pile up.
    pub blind: bool,
    /// How far the wall clock of each member is ahead, in milliseconds.
    pub ahead_ms: Vec<i64>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// Weights of the steps: writes, reads, time, hours, cuts of a member, cuts of pairs, mends, restarts, lost, copied
/// and rolled back disks, messages of long ago, decisions about actors, and members that hear of them.
type Weights = [u32; 14];

impl Schedule {
    /// The schedule of a seed.
    #[must_use]
    pub fn new(plan: &Plan, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // More than 8 members do not mail their writes but push them to one after the other.
        let few = if rng.random_range(0..12) == 0 { 10 } else { rng.random_range(2..6) };
        let (keys, loss) = (rng.random_range(1..5), [0, 5, 30][rng.random_range(0..3)]);
        let mut schedule = Self {
            seed,
            nodes: plan.nodes.unwrap_or(few),
            keys: plan.keys.unwrap_or(keys),
            lost: plan.loss.unwrap_or(loss),
            doubled: [0, 5, 20][rng.random_range(0..3)],
            delayed: [0, 5, 30][rng.random_range(0..3)],
            blind: rng.random_range(0..10) == 0,
            ahead_ms: Vec::new(),
            steps: Vec::new(),
        };
        let is_skewed = rng.random_range(0..3) == 0;
        for _ in 0..schedule.nodes {
            let ahead = if is_skewed { rng.random_range(-3_600_000..3_600_000) } else { 0 };
            schedule.ahead_ms.push(ahead);
        }
        let often: Weights = [30, 12, 20, 2, 3, 3, 4, 3, 1, 1, 1, 2, 3, 6];
        let weights = often.map(|weight| weight * rng.random_range(0..4));
        for _ in 0..plan.steps {
            let step = schedule.step(&weights, &mut rng);
            schedule.steps.push(step);
        }
        schedule
    }

    fn step(&self, weights: &Weights, rng: &mut ChaCha8Rng) -> Step {
        let at = rng.random_range(0..self.nodes);
        let key = rng.random_range(0..self.keys);
        // Without any weight nothing but time would be left; there is always some writing.
        let all = 1 + weights.iter().sum::<u32>();
        let mut left = rng.random_range(0..all);
        let mut place = 0;
        while place < weights.len() && left >= weights[place] {
            left -= weights[place];
            place += 1;
        }
        match place {
            0 | 14 => {
                let delete = rng.random_range(0..3) == 0;
                let over = [Over::Held, Over::Held, Over::Nothing, Over::Seen, Over::Seen];
                let over =
                    if self.blind { Over::Nothing } else { over[rng.random_range(0..over.len())] };
                let killed = match rng.random_range(0..40) {
                    0 => Some(Killed::BeforeSync),
                    1 => Some(Killed::AfterSync),
                    _ => None,
                };
                Step::Write { at, key, delete, over, killed }
            }
            1 => Step::Read { at, key },
            2 => Step::Run { ms: [50, 200, 1_000, 3_000][rng.random_range(0..4)] },
            3 => Step::Hour,
            4 => Step::CutOff { at },
            5 => {
                let other = (at + rng.random_range(1..self.nodes)) % self.nodes;
                Step::CutPair { one: at, other }
            }
            6 => Step::Mend,
            7 => Step::Restart { at },
            8 => Step::LoseDisk { at, last: rng.random_bool(0.5).then_some(key) },
            9 => Step::CopyDisk { at },
            10 => Step::RollBack { at },
            11 => Step::FromThePast { pick: rng.random_range(0..1_000) },
            12 => Step::Decide { at },
            _ => Step::Hear { at },
        }
    }
}
