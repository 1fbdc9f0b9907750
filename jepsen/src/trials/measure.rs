//! One figure of many runs.

use serde::Serialize;

/// What a model on paper says about a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Theory {
    /// What it should be.
    pub value: f64,
    /// Which model says so.
    pub by: &'static str,
}

impl Theory {
    /// A prediction and its reason.
    #[must_use]
    pub const fn new(value: f64, by: &'static str) -> Self {
        Self { value, by }
    }
}

/// A figure over all runs, beside what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// Mean over the runs that have the figure.
    pub mean: f64,
    /// Standard error of the mean; none of a single run.
    pub error: Option<f64>,
    /// The least value that 99 of 100 runs do not exceed.
    pub p99: f64,
    /// How many runs have the figure.
    pub runs: usize,
    /// What a model on paper says, where there is one.
    pub theory: Option<Theory>,
}

/// The values of one figure, one for each run that has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Takes the value of one more run.
    ///
    /// # Panics
    ///
    /// If the value is not finite.
    pub fn add(&mut self, value: f64) {
        assert!(value.is_finite(), "a figure of a run is {value}");
        self.0.push(value);
    }

    /// The values, in the order of the runs.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// Mean of the values, if there are any.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }

    /// What the values come to; nothing without any.
    #[must_use]
    pub fn measure(&self, theory: Option<Theory>) -> Option<Measure> {
        let mean = self.mean()?;
        let runs = self.0.len();
        let squares: f64 = self.0.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (runs > 1).then(|| (squares / (runs - 1) as f64 / runs as f64).sqrt());
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (runs * 99).div_ceil(100);
        Some(Measure { mean, error, p99: sorted[rank - 1], runs, theory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_error_and_rank_of_a_known_sample() {
        let mut sample = Sample::default();
        assert_eq!(sample.measure(None), None);
        (1..=200).for_each(|value| sample.add(f64::from(value)));
        let measure = sample.measure(Some(Theory::new(100.0, "a guess"))).unwrap();
        assert!((measure.mean - 100.5).abs() < 1e-9);
        // Deviation of 1..=n is sqrt(n (n + 1) / 12).
        let deviation = (200.0_f64 * 201.0 / 12.0).sqrt();
        assert!((measure.error.unwrap() - deviation / 200.0_f64.sqrt()).abs() < 1e-9);
        assert_eq!(measure.p99, 198.0);
        assert_eq!(measure.runs, 200);

        let mut single = Sample::default();
        single.add(7.0);
        let measure = single.measure(None).unwrap();
        assert_eq!((measure.mean, measure.error, measure.p99), (7.0, None, 7.0));
    }
}
