//! What a measurement does.

use std::num::NonZeroU32;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads a random key.
    Get,
    /// Writes a random key.
    Put,
}

impl Operation {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 2] = [Self::Get, Self::Put];

    /// The name in mixes and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
        }
    }
}

/// The shares of the operations. At least one is above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    gets: u32,
    puts: u32,
}

impl Mix {
    /// Only this operation.
    #[must_use]
    pub const fn only(operation: Operation) -> Self {
        match operation {
            Operation::Get => Self { gets: 1, puts: 0 },
            Operation::Put => Self { gets: 0, puts: 1 },
        }
    }

    /// Reads `get=90,put=10`; what is left out is 0.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut mix = Self { gets: 0, puts: 0 };
        for part in text.split(',') {
            let (name, share) = part.split_once('=').ok_or("a mix is get=90,put=10")?;
            let share = share
                .trim()
                .parse()
                .ok()
                .filter(|share| *share <= 1_000_000)
                .ok_or_else(|| format!("{share:?} is no share"))?;
            match name.trim() {
                "get" => mix.gets = share,
                "put" => mix.puts = share,
                other => return Err(format!("{other:?} is no operation; there are get and put")),
            }
        }
        if mix.gets + mix.puts == 0 { Err("all shares are 0".into()) } else { Ok(mix) }
    }

    /// Whether the operation occurs.
    #[must_use]
    pub const fn has(self, operation: Operation) -> bool {
        match operation {
            Operation::Get => self.gets > 0,
            Operation::Put => self.puts > 0,
        }
    }

    pub(super) fn draw(self, rng: &mut StdRng) -> Operation {
        let at = rng.random_range(0..self.gets + self.puts);
        if at < self.gets { Operation::Get } else { Operation::Put }
    }
}

/// When operations start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many at once, each started when one was answered. Shows capacity; hides how long callers
    /// of an overloaded cluster would wait.
    Closed {
        /// Operations at once.
        in_flight: NonZeroU32,
    },
    /// So many per second, started on schedule whether or not earlier ones were answered. Times count
    /// from the scheduled start, so that a stall of the cluster is seen by all operations that it
    /// delays.
    Open {
        /// Operations per second.
        rate: NonZeroU32,
        /// Most operations that are open; beyond that they start late.
        in_flight: NonZeroU32,
    },
}

impl Pace {
    /// Most operations at once.
    #[must_use]
    pub const fn in_flight(self) -> NonZeroU32 {
        match self {
            Self::Closed { in_flight } | Self::Open { in_flight, .. } => in_flight,
        }
    }
}

/// A measurement. Equal plans do the same operations, in the same order per worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is done.
    pub mix: Mix,
    /// When.
    pub pace: Pace,
    /// How long operations are started.
    pub duration: Duration,
    /// Number of keys, `bench/00000000` and on; at least 1.
    pub keys: u64,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Seed of keys, values and the order of operations.
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn mixes_are_read_and_kept() {
        let mix = Mix::parse("get=90,put=10").unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let gets = (0..1_000).filter(|_| mix.draw(&mut rng) == Operation::Get).count();
        assert!((850..950).contains(&gets), "{gets}");
        assert_eq!(Mix::parse("put=1").unwrap(), Mix::only(Operation::Put));
        for text in ["", "get", "get=x", "cas=1", "get=0,put=0", "get=-1"] {
            assert!(Mix::parse(text).is_err(), "{text}");
        }
    }
}
