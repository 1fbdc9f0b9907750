//! Following many schedules.

use super::{Difference, Follower};
use crate::model::{Mutant, Operation, Schedule, Setting, Violation, World};

/// What came of a schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Followed {
    /// Core and model were the same to the end.
    Same,
    /// They were not, in this step; all steps if the heal showed it.
    Differs(usize, Difference),
    /// The model broke a promise, and until then they were the same.
    Broken(usize, Violation),
    /// They were the same until something happened that is not followed.
    Lost(usize),
    /// They were the same until the core raised a horizon and the model did not.
    Stricter(usize),
}

/// What came of many schedules.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    /// Schedules that were the same to the end.
    pub same: u64,
    /// Schedules in which a promise was broken.
    pub broken: u64,
    /// Schedules that were not followed to the end.
    pub lost: u64,
    /// Schedules in which the core raised a horizon and the model did not.
    pub stricter: u64,
    /// Batches that were compared.
    pub compared: u64,
    /// Seeds of schedules with a difference; at most [`Outcome::DIFFERENCES_MAX`] are kept.
    pub differences: Vec<(u64, usize, Difference)>,
    /// How many schedules had one.
    pub differing: u64,
}

impl Outcome {
    /// Differences that are kept; more are only counted.
    pub const DIFFERENCES_MAX: usize = 32;

    /// Adds what other schedules came to.
    pub fn add(&mut self, other: Self) {
        self.same += other.same;
        self.broken += other.broken;
        self.lost += other.lost;
        self.stricter += other.stricter;
        self.compared += other.compared;
        self.differing += other.differing;
        self.differences.extend(other.differences);
        self.differences.sort_by_key(|difference| difference.0);
        self.differences.truncate(Self::DIFFERENCES_MAX);
    }

    fn note(&mut self, seed: u64, followed: Followed) {
        match followed {
            Followed::Same => self.same += 1,
            Followed::Broken(..) => self.broken += 1,
            Followed::Lost(_) => self.lost += 1,
            Followed::Stricter(_) => self.stricter += 1,
            Followed::Differs(step, difference) => {
                self.differing += 1;
                if self.differences.len() < Self::DIFFERENCES_MAX {
                    self.differences.push((seed, step, difference));
                }
            }
        }
    }
}

/// Plays schedules by their seeds, and follows them.
#[derive(Debug)]
pub struct Runner {
    world: World<Follower>,
}

impl Runner {
    /// A runner that follows the rules, or a broken variant: then the two have to differ.
    #[must_use]
    pub fn new(mutant: Option<Mutant>) -> Self {
        let setting = Schedule::new(0).setting();
        Self { world: World::followed(mutant, setting, Follower::new()) }
    }

    /// Plays a list of operations, and heals.
    pub fn play_script(&mut self, setting: Setting, script: &[Operation]) -> Followed {
        self.world.reset(setting);
        for (step, &operation) in script.iter().enumerate() {
            let played = self.world.step(operation);
            if let Some(followed) = self.judge(step + 1, played) {
                return followed;
            }
        }
        let healed = self.world.heal();
        self.judge(script.len(), healed).unwrap_or(Followed::Same)
    }

    /// Plays one seed to its end, and heals.
    pub fn play(&mut self, seed: u64) -> Followed {
        let mut schedule = Schedule::with(seed, &Follower::NOT_FOLLOWED);
        self.world.reset(schedule.setting());
        let mut step = 0;
        while let Some(operation) = schedule.next_operation() {
            step += 1;
            let played = self.world.step(operation);
            if let Some(followed) = self.judge(step, played) {
                return followed;
            }
        }
        let healed = self.world.heal();
        self.judge(step, healed).unwrap_or(Followed::Same)
    }

    fn judge(&mut self, step: usize, played: Result<(), Violation>) -> Option<Followed> {
        self.world.follow.step_done(&self.world.truth);
        if let Some(difference) = self.world.follow.difference.take() {
            Some(Followed::Differs(step, difference))
        } else if let Err(violation) = played {
            Some(Followed::Broken(step, violation))
        } else if self.world.follow.is_lost {
            Some(Followed::Lost(step))
        } else if self.world.follow.is_stricter {
            Some(Followed::Stricter(step))
        } else {
            None
        }
    }

    /// Plays the seeds of a range, in order. A panic of the core is a difference; it leaves the world as it is, and
    /// the next seed begins anew.
    pub fn play_all(&mut self, seeds: std::ops::Range<u64>) -> Outcome {
        let mut outcome = Outcome::default();
        let before = self.world.follow.compared;
        for seed in seeds {
            let played = std::panic::AssertUnwindSafe(|| self.play(seed));
            let followed = std::panic::catch_unwind(played).unwrap_or_else(|cause| {
                let text = cause.downcast_ref::<String>().cloned();
                let text = text.or_else(|| cause.downcast_ref::<&str>().map(|&s| s.to_owned()));
                let detail = text.unwrap_or_default();
                Followed::Differs(0, Difference { at: 0, what: "panic", detail })
            });
            outcome.note(seed, followed);
        }
        outcome.compared = self.world.follow.compared - before;
        outcome
    }
}
