//! The scale of an axis.

/// From values to shares of an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    least: f64,
    most: f64,
    /// Distance of marks; nothing on a logarithmic axis, which has one at each power of ten.
    step: Option<f64>,
}

/// Marks that an axis should have, about.
const MARKS: f64 = 6.0;
/// Most powers of ten on an axis; smaller values stand at its end.
const DECADES_MAX: f64 = 9.0;

impl Scale {
    /// From zero to the highest value, in round steps.
    pub fn linear(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / MARKS;
        let power = 10_f64.powf(rough.log10().floor());
        let round = [1.0, 2.0, 5.0, 10.0].into_iter().find(|one| one * power >= rough * 0.999);
        let step = round.unwrap_or(10.0) * power;
        Self { least: 0.0, most, step: Some(step) }
    }

    /// From a power of ten to another, around the values, which are positive.
    pub fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .map(f64::log10)
            .fold((f64::MAX, f64::MIN), |(low, high), one| (low.min(one), high.max(one)));
        if low > high {
            return Self { least: -1.0, most: 0.0, step: None };
        }
        let most = high.ceil();
        let least = low.floor().max(most - DECADES_MAX).min(most - 1.0);
        Self { least, most, step: None }
    }

    /// Where a value stands: 0 at the beginning, 1 at the end.
    pub fn share(&self, value: f64) -> f64 {
        let value = if self.step.is_some() { value } else { value.log10() };
        ((value - self.least) / (self.most - self.least)).clamp(0.0, 1.0)
    }

    /// Values that are marked, with their names.
    pub fn marks(&self) -> Vec<(f64, String)> {
        let mut marks = Vec::new();
        match self.step {
            Some(step) => {
                let digits = (-step.log10().floor()).max(0.0) as usize;
                let count = (self.most / step * 1.000_001).floor() as u32;
                for place in 0..=count {
                    let value = f64::from(place) * step;
                    marks.push((value, format!("{value:.digits$}")));
                }
            }
            None => {
                let (least, most) = (self.least as i32, self.most as i32);
                for power in least..=most {
                    let value = 10_f64.powi(power);
                    let name = if power < -3 { format!("1e{power}") } else { format!("{value}") };
                    marks.push((value, name));
                }
            }
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scale: &Scale) -> Vec<String> {
        scale.marks().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn marks_are_round_and_within_the_axis() {
        let scale = Scale::linear([3.0, 11.0].into_iter());
        assert_eq!(names(&scale), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!((scale.share(0.0), scale.share(11.0)), (0.0, 1.0));
        let scale = Scale::linear([1.0].into_iter());
        assert_eq!(names(&scale), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(Scale::linear(std::iter::empty()).share(1.0), 1.0);
    }

    #[test]
    fn powers_of_ten_surround_the_values() {
        let scale = Scale::logarithmic([0.9, 0.002].into_iter());
        assert_eq!(names(&scale), ["0.001", "0.01", "0.1", "1"]);
        assert!((scale.share(0.1) - 2.0 / 3.0).abs() < 1e-9);
        let scale = Scale::logarithmic([1.0, 1e-30].into_iter());
        assert_eq!(names(&scale).first().unwrap(), "1e-9");
        assert_eq!(scale.share(1e-30), 0.0);
        assert_eq!(names(&Scale::logarithmic(std::iter::empty())), ["0.1", "1"]);
    }
}
