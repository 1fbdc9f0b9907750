//! Playing schedules: one, many, on several threads.

use super::counters::Counters;
use super::mutant::Mutant;
use super::operation::Operation;
use super::schedule::Schedule;
use super::violation::Violation;
use super::world::World;

/// A schedule that broke a promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Its seed.
    pub seed: u64,
    /// Steps until then; all of them if it was found by the heal.
    pub step: usize,
    /// What was broken.
    pub violation: Violation,
}

/// What many schedules came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Schedules that were played.
    pub schedules: u64,
    /// Those that broke a promise; at most [`Runner::FINDINGS_MAX`] are kept.
    pub findings: Vec<Finding>,
    /// How many broke one.
    pub broken: u64,
    /// How often everything happened.
    pub counters: Counters,
}

impl Outcome {
    /// Adds what other schedules came to.
    pub fn add(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.broken += other.broken;
        self.counters.add(&other.counters);
        self.findings.extend(other.findings);
        self.findings.sort_by_key(|finding| finding.seed);
        self.findings.truncate(Runner::FINDINGS_MAX);
    }
}

/// Plays schedules by their seeds in one world.
#[derive(Debug)]
pub struct Runner {
    world: World,
}

impl Runner {
    /// Findings that are kept; more are only counted.
    pub const FINDINGS_MAX: usize = 64;

    /// A runner of the rules, or of a broken variant.
    pub fn new(mutant: Option<Mutant>) -> Self {
        Self { world: World::new(mutant, Schedule::new(0).setting()) }
    }

    /// Plays one seed to its end and heals.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn play(&mut self, seed: u64) -> Result<(), Finding> {
        let mut schedule = Schedule::new(seed);
        self.world.reset(schedule.setting());
        let mut step = 0;
        while let Some(operation) = schedule.next_operation() {
            step += 1;
            self.world.step(operation).map_err(|violation| Finding { seed, step, violation })?;
        }
        self.world.heal().map_err(|violation| Finding { seed, step, violation })
    }

    /// Plays the seeds of a range, in order.
    pub fn play_all(&mut self, seeds: std::ops::Range<u64>) -> Outcome {
        let mut outcome = Outcome::default();
        self.world.counters = Counters::default();
        for seed in seeds {
            outcome.schedules += 1;
            if let Err(finding) = self.play(seed) {
                outcome.broken += 1;
                if outcome.findings.len() < Self::FINDINGS_MAX {
                    outcome.findings.push(finding);
                }
            }
        }
        outcome.counters = self.world.counters.clone();
        outcome
    }

    /// The first of some seeds that breaks a promise.
    pub fn first(&mut self, seeds: std::ops::Range<u64>) -> Option<Finding> {
        seeds.into_iter().find_map(|seed| self.play(seed).err())
    }

    /// Plays a list of operations, and heals.
    ///
    /// # Errors
    /// The first broken promise, with the number of the step, counted from 1.
    pub fn play_script(
        mutant: Option<Mutant>,
        setting: super::world::Setting,
        script: &[Operation],
    ) -> Result<(), Finding> {
        let mut world = World::new(mutant, setting);
        for (step, &operation) in script.iter().enumerate() {
            world.step(operation).map_err(|violation| Finding {
                seed: 0,
                step: step + 1,
                violation,
            })?;
        }
        world.heal().map_err(|violation| Finding { seed: 0, step: script.len(), violation })
    }

    /// Every step of a seed up to the broken promise if there is one, with what it made of each
    /// replica. For reading.
    pub fn trace(mutant: Option<Mutant>, seed: u64) -> String {
        Self::trace_without(mutant, seed, &[])
    }

    /// The same without some kinds of operations.
    pub fn trace_without(mutant: Option<Mutant>, seed: u64, without: &[usize]) -> String {
        use std::fmt::Write as _;
        let mut schedule = Schedule::with(seed, without);
        let mut world = World::new(mutant, schedule.setting());
        let mut text = format!("seed {seed}: {:?}\n", schedule.setting());
        let mut step = 0;
        let mut ended = Ok(());
        while let Some(operation) = schedule.next_operation() {
            step += 1;
            let before = (world.replicas, world.truth.count);
            ended = world.step(operation);
            let _ = writeln!(text, "{step:4} {operation:?}");
            for dot in before.1..world.truth.count {
                let write = world.truth.write(dot as u8);
                let _ = writeln!(text, "       write {dot}: {write:?}");
            }
            for (at, replica) in world.replicas.iter().enumerate() {
                if *replica != before.0[at] {
                    let _ = writeln!(
                        text,
                        "       {at}: clock {:?} stored {:?} contexts {:?} pending {:?} horizon {:?}{}",
                        replica.clock,
                        replica.stored,
                        replica.contexts & replica.stored,
                        replica.pending,
                        replica.horizon,
                        if replica.recovering { " recovering" } else { "" },
                    );
                }
            }
            if ended.is_err() {
                break;
            }
        }
        if ended.is_ok() {
            ended = world.heal();
            let _ = writeln!(text, "heal");
            for (at, replica) in world.replicas.iter().enumerate() {
                let _ = writeln!(text, "       {at}: {replica:?}");
            }
        }
        let _ = writeln!(text, "{ended:?}");
        text
    }
}
