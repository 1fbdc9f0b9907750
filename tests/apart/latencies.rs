//! How long calls took.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What takes longer counts as this, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// Of one or several clients.
#[derive(Debug)]
pub struct Latencies {
    /// Reads, in microseconds.
    gets: Histogram<u64>,
    /// Puts and deletes, in microseconds.
    writes: Histogram<u64>,
    /// Deletes among the writes.
    pub deletes: u64,
    /// Calls that were not answered as they should be.
    pub failed: u64,
    /// What the first of them said.
    pub failure: Option<String>,
}

impl Default for Latencies {
    fn default() -> Self {
        let empty =
            || Histogram::new_with_bounds(1, LONGEST_US, 3).expect("these bounds are possible");
        Self { gets: empty(), writes: empty(), deletes: 0, failed: 0, failure: None }
    }
}

impl Latencies {
    /// Notes a read.
    pub fn read(&mut self, took: Duration) {
        self.gets.saturating_record(micros(took));
    }

    /// Notes a put or a delete.
    pub fn wrote(&mut self, took: Duration) {
        self.writes.saturating_record(micros(took));
    }

    /// Notes a call that failed.
    pub fn fail(&mut self, why: impl FnOnce() -> String) {
        self.failed += 1;
        self.failure.get_or_insert_with(why);
    }

    /// Adds those of another client.
    pub fn add(&mut self, other: &Self) {
        self.gets.add(&other.gets).expect("both have the same bounds");
        self.writes.add(&other.writes).expect("both have the same bounds");
        self.deletes += other.deletes;
        self.failed += other.failed;
        if self.failure.is_none() {
            self.failure.clone_from(&other.failure);
        }
    }

    /// Reads that were answered.
    #[must_use]
    pub fn gets(&self) -> u64 {
        self.gets.len()
    }

    /// Writes that were acknowledged.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.len()
    }

    /// The 99th percentile of the reads.
    #[must_use]
    pub fn get_p99(&self) -> Duration {
        Duration::from_micros(self.gets.value_at_quantile(0.99))
    }

    /// The 99th percentile of the writes.
    #[must_use]
    pub fn write_p99(&self) -> Duration {
        Duration::from_micros(self.writes.value_at_quantile(0.99))
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_is_said_to_have_taken_long() {
        let (mut all, mut one) = (Latencies::default(), Latencies::default());
        for _ in 0..98 {
            one.read(Duration::from_micros(80));
            one.wrote(Duration::from_millis(3));
        }
        for _ in 0..2 {
            one.read(Duration::from_secs(2));
            one.wrote(Duration::from_secs(3));
        }
        all.add(&one);
        assert_eq!((all.gets(), all.writes()), (100, 100));
        let near = |took: Duration, wanted: u64| {
            took.as_millis().abs_diff(wanted.into()) <= u128::from(wanted) / 500
        };
        assert!(near(all.get_p99(), 2_000), "{:?}", all.get_p99());
        assert!(near(all.write_p99(), 3_000), "{:?}", all.write_p99());
    }
}
