//! The counters of one actor.

use std::cmp::{max, min};

use crate::dot::Dot;

/// Counters from `first` to `last`, both inclusive, `1 <= first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The lowest counter.
    pub first: u64,
    /// The highest counter.
    pub last: u64,
}

/// A set of counters of one actor: all up to a base, and spans above it.
///
/// Invariants:
/// - `above` is sorted, and between two spans, and between the base and the first span, at least one
///   counter is missing. So a set has one form, and equal sets are equal.
/// - No counter is 0 or above [`Dot::COUNTER_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    base: u64,
    above: Vec<Span>,
}

impl Track {
    /// All counters from 1 to `base`.
    ///
    /// # Panics
    /// When `base` is above [`Dot::COUNTER_MAX`].
    #[must_use]
    pub fn up_to(base: u64) -> Self {
        assert!(base <= Dot::COUNTER_MAX, "counter {base} is above the largest");
        Self { base, above: Vec::new() }
    }

    /// The counters of spans in the order of their first counters; they may overlap and touch.
    pub(crate) fn from_sorted(spans: impl IntoIterator<Item = Span>) -> Self {
        let mut track = Self::default();
        for span in spans {
            track.push(span);
        }
        track
    }

    /// Adds a span that begins nowhere before the last one.
    fn push(&mut self, span: Span) {
        assert!(1 <= span.first, "counters begin at 1");
        assert!(span.first <= span.last, "an empty span {span:?}");
        assert!(span.last <= Dot::COUNTER_MAX, "counter {} is above the largest", span.last);
        match self.above.last_mut() {
            None if span.first <= self.base + 1 => self.base = max(self.base, span.last),
            Some(end) if span.first <= end.last + 1 => end.last = max(end.last, span.last),
            _ => self.above.push(span),
        }
    }

    /// The highest counter up to which none is missing; 0 if the first is.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// What is held above the base, in ascending order.
    #[must_use]
    pub fn above(&self) -> &[Span] {
        &self.above
    }

    /// The highest counter; 0 if there is none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.above.last().map_or(self.base, |span| span.last)
    }

    /// No counter is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.base == 0 && self.above.is_empty()
    }

    /// The set as spans, in ascending order, with at least one counter missing between two.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        let head = (self.base > 0).then_some(Span { first: 1, last: self.base });
        head.into_iter().chain(self.above.iter().copied())
    }

    /// Whether `counter` is in the set.
    #[must_use]
    pub fn contains(&self, counter: u64) -> bool {
        if counter <= self.base {
            return counter > 0;
        }
        let after = self.above.partition_point(|span| span.first <= counter);
        after > 0 && counter <= self.above[after - 1].last
    }

    /// Adds `counter`; false if it was there.
    pub(crate) fn add(&mut self, counter: u64) -> bool {
        assert!((1..=Dot::COUNTER_MAX).contains(&counter), "counter {counter}");
        if self.contains(counter) {
            return false;
        }
        if counter == self.base + 1 {
            self.base = counter;
            if self.above.first().is_some_and(|span| span.first == counter + 1) {
                self.base = self.above.remove(0).last;
            }
            return true;
        }
        let at = self.above.partition_point(|span| span.first < counter);
        let joins_left = at > 0 && self.above[at - 1].last + 1 == counter;
        let joins_right = self.above.get(at).is_some_and(|span| span.first == counter + 1);
        match (joins_left, joins_right) {
            (true, true) => self.above[at - 1].last = self.above.remove(at).last,
            (true, false) => self.above[at - 1].last = counter,
            (false, true) => self.above[at].first = counter,
            (false, false) => self.above.insert(at, Span { first: counter, last: counter }),
        }
        true
    }

    /// The counters of either.
    pub(crate) fn union(&self, other: &Self) -> Self {
        if self.above.is_empty() && other.above.is_empty() {
            return Self::up_to(max(self.base, other.base));
        }
        let mut left = self.spans().peekable();
        let mut right = other.spans().peekable();
        let mut both = Self::default();
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a.first <= b.first => left.next(),
                (_, Some(_)) => right.next(),
                (_, None) => left.next(),
            };
            let Some(span) = next else { return both };
            both.push(span);
        }
    }

    /// Whether all counters of `other` are here.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if other.above.is_empty() {
            return other.base <= self.base;
        }
        let mut mine = self.spans();
        let mut held = mine.next();
        for span in other.spans() {
            while held.is_some_and(|mine| mine.last < span.first) {
                held = mine.next();
            }
            if !held.is_some_and(|mine| mine.first <= span.first && span.last <= mine.last) {
                return false;
            }
        }
        true
    }

    /// The counters that are here and not in `other`.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        if other.covers(self) {
            return rest;
        }
        let theirs: Vec<Span> = other.spans().collect();
        let mut at = 0;
        for span in self.spans() {
            let mut from = span.first;
            while at < theirs.len() && theirs[at].last < from {
                at += 1;
            }
            let mut next = at;
            while from <= span.last {
                let Some(taken) = theirs.get(next).filter(|taken| taken.first <= span.last) else {
                    rest.push(Span { first: from, last: span.last });
                    break;
                };
                if from < taken.first {
                    rest.push(Span { first: from, last: taken.first - 1 });
                }
                from = max(from, taken.last + 1);
                next += 1;
            }
        }
        rest
    }

    /// The counters up to `last` only.
    pub(crate) fn cut(&self, last: u64) -> Self {
        let spans = self.spans().take_while(|span| span.first <= last);
        Self::from_sorted(spans.map(|span| Span { last: min(span.last, last), ..span }))
    }
}
