//! Counters to which numbers are added (model `counter`): O(n log n).
//!
//! Each key is a counter, 0 at first. What was added for certain before a read is what
//! acknowledged adds that returned before its call added; what may have been added as well is what
//! other adds did that did not fail and were called before its return. A read lies between the
//! least and the greatest sum that these allow. Adds may be negative. An absent counter is 0.
//!
//! Reads are judged one by one: two that contradict each other within their bounds are not found.

use super::set::by_key;
use super::stop::Stop;
use super::{Checker, Verdict};
use crate::operation::{Function, Operation, Outcome};

/// Checks that counters lie within their bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CounterChecker;

impl Checker for CounterChecker {
    fn model(&self) -> &'static str {
        "counter"
    }

    /// Unknown if something that is no whole number is added or read, or if a counter with
    /// acknowledged adds is never read.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &[Function::Add, Function::Read]) {
            return unknown;
        }
        let judged = by_key(history).into_iter().try_for_each(|(key, places)| {
            let counter = Counter::new(history, &places)?;
            counter.check(key, history, &places)
        });
        Stop::verdict(judged, history)
    }
}

/// Sums of numbers, positive and negative ones apart.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    above: i128,
    below: i128,
}

impl Sums {
    fn plus(self, number: i64) -> Self {
        let number = i128::from(number);
        Self { above: self.above + number.max(0), below: self.below + number.min(0) }
    }
}

/// Sums of what happened until certain moments.
#[derive(Debug, Default)]
struct Running(Vec<(u64, Sums)>);

impl Running {
    fn new(mut adds: Vec<(u64, i64)>) -> Self {
        adds.sort_unstable();
        let mut sums = Sums::default();
        Self(
            adds.into_iter()
                .map(|(moment, number)| {
                    sums = sums.plus(number);
                    (moment, sums)
                })
                .collect(),
        )
    }

    /// The sums of what happened at moments that are `early`.
    fn until(&self, early: impl Fn(u64) -> bool) -> Sums {
        let count = self.0.partition_point(|&(moment, _)| early(moment));
        count.checked_sub(1).map_or(Sums::default(), |last| self.0[last].1)
    }
}

struct Counter {
    /// By return, what was acknowledged.
    certain: Running,
    /// By call, all that may have been added.
    possible: Running,
}

impl Counter {
    fn new(history: &[Operation], places: &[usize]) -> Result<Self, Stop> {
        let (mut certain, mut possible) = (Vec::new(), Vec::new());
        for &place in places {
            let operation = &history[place];
            if operation.function != Function::Add || operation.outcome == Outcome::Fail {
                continue;
            }
            let number = number(operation)?;
            possible.push((operation.invoke_ns, number));
            if operation.outcome == Outcome::Ok {
                certain.push((operation.end_ns(), number));
            }
        }
        Ok(Self { certain: Running::new(certain), possible: Running::new(possible) })
    }

    fn check(&self, key: &str, history: &[Operation], places: &[usize]) -> Result<(), Stop> {
        let mut is_read = false;
        for &place in places {
            let read = &history[place];
            if read.function != Function::Read || read.outcome != Outcome::Ok {
                continue;
            }
            is_read = true;
            let value = i128::from(number(read)?);
            let certain = self.certain.until(|end| end < read.invoke_ns);
            let possible = self.possible.until(|call| call <= read.end_ns());
            // What is certain is among what is possible.
            let most = possible.above + certain.below;
            let least = certain.above + possible.below;
            let (bound, limit) = if value > most {
                ("at most", most)
            } else if value < least {
                ("at least", least)
            } else {
                continue;
            };
            let why = format!("counter {key:?}: {read}, but {bound} {limit} can have been added");
            let part = part(history, places, place, value > most)?;
            return Err(Stop::broken(key, why, part));
        }
        if !is_read && !self.certain.0.is_empty() {
            return Err(Stop::Unjudged(format!("the counter {key:?} is never read")));
        }
        Ok(())
    }
}

/// A read and the adds that make it too high (or too low): all that may have helped it, and all
/// those against it that are certain.
fn part(
    history: &[Operation],
    places: &[usize],
    read: usize,
    high: bool,
) -> Result<Vec<usize>, Stop> {
    let at = &history[read];
    let mut part = vec![read];
    for &place in places {
        let add = &history[place];
        if add.function != Function::Add || add.outcome == Outcome::Fail {
            continue;
        }
        let helps = (number(add)? > 0) == high;
        let certain = add.outcome == Outcome::Ok && add.end_ns() < at.invoke_ns;
        if if helps { add.invoke_ns <= at.end_ns() } else { certain } {
            part.push(place);
        }
    }
    Ok(part)
}

/// The number that was added or read.
fn number(operation: &Operation) -> Result<i64, Stop> {
    let Some(value) = &operation.value else { return Ok(0) };
    value.as_number().ok_or_else(|| Stop::Unjudged(format!("no whole number: {operation}")))
}
