//! Whether a figure grows over time.

/// The medians of the first and of the last third of a series.
///
/// Medians of thirds see steady growth and do not see single peaks, such as a moment in which the
/// old and the new export lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trend {
    /// Median of the first third.
    pub first: u64,
    /// Median of the last third.
    pub last: u64,
}

impl Trend {
    /// The trend of a series in the order of time; `None` with fewer than 9 samples, which say too
    /// little.
    #[must_use]
    pub fn of(series: &[u64]) -> Option<Self> {
        let third = series.len() / 3;
        if third < 3 {
            return None;
        }
        let (first, last) = (median(&series[..third]), median(&series[series.len() - third..]));
        Some(Self { first, last })
    }

    /// By how many per cent the last third lies above the first one; below 0 when it shrank.
    #[must_use]
    pub fn growth_per_cent(&self) -> f64 {
        (self.last as f64 / self.first.max(1) as f64 - 1.0) * 100.0
    }
}

fn median(series: &[u64]) -> u64 {
    let mut sorted = series.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_shows_and_a_peak_does_not() {
        let growing: Vec<u64> = (100..130).collect();
        let trend = Trend::of(&growing).unwrap();
        assert_eq!(trend, Trend { first: 105, last: 125 });
        assert!((trend.growth_per_cent() - 19.05).abs() < 0.01);
        let mut flat = [100; 30];
        flat[29] = 10_000;
        assert_eq!(Trend::of(&flat).unwrap().growth_per_cent(), 0.0);
        assert_eq!(Trend::of(&[1; 8]), None);
    }
}
