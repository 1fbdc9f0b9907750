//! What a measurement found.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use proto::{Applied, Code};

use super::plan::Operation;
use crate::error::ClientError;

/// Counts and times of one kind of operation.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Operations that were started and ended.
    pub sent: u64,
    /// Answered.
    pub ok: u64,
    /// Failed, and certainly not applied.
    pub fail: u64,
    /// Writes that may have been applied.
    pub unknown: u64,
    /// How often each error code occurred.
    pub errors: BTreeMap<Code, u64>,
    /// Microseconds of those that were answered.
    times: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let times = Histogram::new(3).expect("3 significant digits are allowed");
        Self { sent: 0, ok: 0, fail: 0, unknown: 0, errors: BTreeMap::new(), times }
    }
}

impl Tally {
    pub(super) fn answered(&mut self, took: Duration) {
        self.sent += 1;
        self.ok += 1;
        self.times += u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    }

    pub(super) fn failed(&mut self, error: &ClientError) {
        self.sent += 1;
        match error.applied() {
            Some(Applied::Unknown) => self.unknown += 1,
            Some(Applied::No | Applied::Yes) | None => self.fail += 1,
        }
        *self.errors.entry(error.code()).or_default() += 1;
    }

    /// Takes another tally in.
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.fail += other.fail;
        self.unknown += other.unknown;
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
        self.times += &other.times;
    }

    /// The time within which this share of the answers came; zero without answers.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.times.value_at_quantile(share))
    }

    /// The longest time of an answer; zero without answers.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.times.max())
    }
}

/// What a measurement found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// From the first start to the end of the schedule, or until it was stopped.
    pub elapsed: Duration,
    /// Per kind of operation, those that occur.
    pub tallies: Vec<(Operation, Tally)>,
    /// Scheduled operations that were not started, because too many were open.
    pub missed: u64,
}

impl Report {
    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for (_, tally) in &self.tallies {
            total.add(tally);
        }
        total
    }

    /// Answers per second.
    #[must_use]
    pub fn per_second(&self, tally: &Tally) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate is shown with few digits")]
        let ok = tally.ok as f64;
        ok / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Failure;

    #[test]
    fn outcomes_are_told_apart() {
        let failure = |code, applied| {
            ClientError::Refused(Box::new(Failure::new(code, "", "").applied(applied)))
        };
        let mut tally = Tally::default();
        for millis in 1..=100 {
            tally.answered(Duration::from_millis(millis));
        }
        tally.failed(&failure(Code::WriteTimedOut, Applied::Unknown));
        tally.failed(&failure(Code::NoQuorum, Applied::No));
        let mut total = Tally::default();
        total.add(&tally);
        assert_eq!((total.sent, total.ok, total.fail, total.unknown), (102, 100, 1, 1));
        let close = |found: Duration, millis: u64| {
            let expected = Duration::from_millis(millis);
            assert!(found.abs_diff(expected) < expected / 500, "{found:?} is not {expected:?}");
        };
        close(total.quantile(0.5), 50);
        close(total.quantile(0.99), 99);
        close(total.max(), 100);
        assert_eq!(total.errors[&Code::NoQuorum], 1);
    }
}
