//! What is simulated, and which plans make no sense.

use super::Sabotage;

/// Fewest members.
pub const NODES_MIN: usize = 2;
/// Most members.
pub const NODES_MAX: usize = 50;
/// Most keys.
pub const KEYS_MAX: usize = 1_000;
/// Most steps of a schedule.
pub const STEPS_MAX: usize = 1_000_000;

/// Random schedules, one for each seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many members; drawn for each seed if nothing is said.
    pub nodes: Option<usize>,
    /// How many keys; drawn for each seed if nothing is said.
    pub keys: Option<usize>,
    /// What happens in a schedule before it is healed, in steps.
    pub steps: usize,
    /// Of a hundred messages so many are lost; drawn for each seed if nothing is said.
    pub loss: Option<u32>,
    /// The first seed.
    pub first: u64,
    /// The seed behind the last one.
    pub after: u64,
    /// Play the same schedules on replicas that drop certificates by age.
    pub time_based: bool,
    /// Break something on purpose.
    pub broken: Option<Sabotage>,
}

/// Why a plan makes no sense. Nothing was simulated; the caller changes the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A number is outside its range.
    #[error("{what} is {value}: takes {least} to {most}")]
    Range {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: usize,
        /// Least that is taken.
        least: usize,
        /// Most that is taken.
        most: usize,
    },
    /// There is no seed.
    #[error("seeds {first}..{after} are none: the second number is behind the last seed")]
    NoSeeds {
        /// The first one.
        first: u64,
        /// The one behind the last one.
        after: u64,
    },
}

impl Plan {
    /// Whether it makes sense.
    ///
    /// # Errors
    ///
    /// The first thing that does not.
    pub fn validate(&self) -> Result<(), PlanError> {
        let loss = self.loss.map(|loss| loss as usize);
        for (what, value, least, most) in [
            ("the number of nodes", self.nodes, NODES_MIN, NODES_MAX),
            ("the number of keys", self.keys, 1, KEYS_MAX),
            ("the number of steps", Some(self.steps), 1, STEPS_MAX),
            ("the loss in percent", loss, 0, 90),
        ] {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                return Err(PlanError::Range { what, value, least, most });
            }
        }
        if self.first >= self.after {
            return Err(PlanError::NoSeeds { first: self.first, after: self.after });
        }
        Ok(())
    }
}
