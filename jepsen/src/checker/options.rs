//! How a model is to be read, and what judging may cost.

use std::time::{Duration, Instant};

use crate::value::Value;

/// What a successful read of nothing says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Nil {
    /// The key was absent.
    #[default]
    Absent,
    /// Nobody knows what the read returned.
    Unknown,
}

/// Longest time that judging one history takes, if not told otherwise.
pub const TIME_DEFAULT: Duration = Duration::from_secs(120);

/// Memory that all searches together take, if not told otherwise.
pub const MEMORY_BYTES_DEFAULT: u64 = 2 << 30;

/// What judging one history may cost. At a limit the verdict is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for the whole history.
    pub time: Duration,
    /// Memory for what searches remember; about, and not counting the history itself.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: TIME_DEFAULT, memory_bytes: MEMORY_BYTES_DEFAULT }
    }
}

impl Limits {
    /// The moment at which the time is over, counted from now.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline(Instant::now().checked_add(self.time))
    }
}

/// A moment after which searches give up; `None`: never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// No such moment.
    pub(super) const NEVER: Self = Self(None);

    /// Whether it has passed.
    pub(super) fn is_over(self) -> bool {
        self.0.is_some_and(|moment| Instant::now() >= moment)
    }
}

/// How a model is to be read. Models take from it what concerns them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelOptions {
    /// What every key holds at the beginning; `None` is absence.
    pub initial: Option<Value>,
    /// What a successful read of nothing says.
    pub nil: Nil,
    /// What judging may cost.
    pub limits: Limits,
}
