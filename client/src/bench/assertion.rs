//! Conditions on a report, such as `p99<10ms,fail=0`.

use std::fmt;
use std::time::Duration;

use super::report::Report;

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    metric: Metric,
    relation: Relation,
    bound: Bound,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Quantile(f64),
    Max,
    Sent,
    Ok,
    Fail,
    Unknown,
    Missed,
    Rate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Relation {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Time(Duration),
    Number(f64),
}

/// The relations; longer signs first.
const RELATIONS: [(&str, Relation); 5] = [
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("<", Relation::Less),
    (">", Relation::More),
    ("=", Relation::Equal),
];

impl Assertion {
    /// Reads a list of conditions separated by commas.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(|part| Self::parse(part.trim())).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let found = RELATIONS.iter().find_map(|(sign, relation)| {
            text.split_once(sign).map(|(metric, bound)| (metric.trim(), *relation, bound.trim()))
        });
        let Some((name, relation, bound)) = found else {
            return Err(format!("{text:?} is no condition such as p99<10ms"));
        };
        let metric = match name {
            "p50" => Metric::Quantile(0.5),
            "p99" => Metric::Quantile(0.99),
            "p99.9" => Metric::Quantile(0.999),
            "max" => Metric::Max,
            "sent" => Metric::Sent,
            "ok" => Metric::Ok,
            "fail" => Metric::Fail,
            "unknown" => Metric::Unknown,
            "missed" => Metric::Missed,
            "rate" => Metric::Rate,
            _ => {
                let known = "p50, p99, p99.9, max, sent, ok, fail, unknown, missed, rate";
                return Err(format!("{name:?} is not among {known}"));
            }
        };
        let bound = match metric {
            Metric::Quantile(_) | Metric::Max => Bound::Time(
                humantime::parse_duration(bound)
                    .map_err(|_| format!("{bound:?} is no duration such as 10ms"))?,
            ),
            Metric::Sent
            | Metric::Ok
            | Metric::Fail
            | Metric::Unknown
            | Metric::Missed
            | Metric::Rate => Bound::Number(
                bound
                    .parse()
                    .ok()
                    .filter(|number: &f64| number.is_finite())
                    .ok_or_else(|| format!("{bound:?} is no number"))?,
            ),
        };
        Ok(Self { metric, relation, bound, text: text.to_owned() })
    }

    /// Whether it holds for all operations of a report together. A time holds only if there were
    /// answers.
    #[must_use]
    pub fn holds(&self, report: &Report) -> bool {
        let total = report.total();
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let number = |count: u64| count as f64;
        let (found, bound) = match (self.metric, self.bound) {
            (Metric::Quantile(_) | Metric::Max, _) if total.ok == 0 => return false,
            (Metric::Quantile(share), Bound::Time(bound)) => {
                (total.quantile(share).as_secs_f64(), bound.as_secs_f64())
            }
            (Metric::Max, Bound::Time(bound)) => (total.max().as_secs_f64(), bound.as_secs_f64()),
            (Metric::Sent, Bound::Number(bound)) => (number(total.sent), bound),
            (Metric::Ok, Bound::Number(bound)) => (number(total.ok), bound),
            (Metric::Fail, Bound::Number(bound)) => (number(total.fail), bound),
            (Metric::Unknown, Bound::Number(bound)) => (number(total.unknown), bound),
            (Metric::Missed, Bound::Number(bound)) => (number(report.missed), bound),
            (Metric::Rate, Bound::Number(bound)) => (report.per_second(&total), bound),
            (_, Bound::Time(_) | Bound::Number(_)) => {
                unreachable!("the bound was read for its metric")
            }
        };
        match self.relation {
            Relation::Less => found < bound,
            Relation::AtMost => found <= bound,
            Relation::Equal => (found - bound).abs() < f64::EPSILON,
            Relation::AtLeast => found >= bound,
            Relation::More => found > bound,
        }
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::Operation;
    use crate::bench::report::Tally;

    fn report() -> Report {
        let mut tally = Tally::default();
        for millis in 1..=1_000 {
            tally.answered(Duration::from_millis(millis));
        }
        let elapsed = Duration::from_secs(10);
        Report { elapsed, tallies: vec![(Operation::Get, tally)], missed: 3 }
    }

    #[test]
    fn conditions_are_checked_against_the_total() {
        for (text, holds) in [
            ("p99<1s,fail=0", true),
            ("p99<10ms", false),
            ("p50>400ms", true),
            ("p99.9<=1s", true),
            ("max<1s", false),
            ("ok>=1000", true),
            ("ok>1000", false),
            ("rate>=100,rate<=100", true),
            ("missed=0", false),
            ("unknown=0,sent=1000", true),
        ] {
            let all = Assertion::parse_list(text).unwrap();
            assert_eq!(all.iter().all(|one| one.holds(&report())), holds, "{text}");
        }
    }

    #[test]
    fn no_answers_are_not_fast_answers() {
        let fast = Assertion::parse_list("p99<10ms").unwrap();
        assert!(!fast[0].holds(&Report::default()));
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["", "p99", "p98<1ms", "p99<10", "fail=x", "p99<10ms,,", "rate>inf"] {
            assert!(Assertion::parse_list(text).is_err(), "{text}");
        }
    }
}
