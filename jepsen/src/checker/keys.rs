//! A history taken apart by keys, and keys judged on all cores.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::hash::QuickMap;
use crate::operation::Operation;

/// Operations from which on more than one core is worth its while.
const PARALLEL_OPERATIONS_MIN: usize = 20_000;

/// Parts that a thread takes at one time, at most.
const TAKEN_AT_ONCE_MAX: usize = 64;

/// The operations of each part of a history, as places in it. Parts are in the order of their first operation.
#[derive(Debug)]
pub struct Parts {
    /// All places, part by part.
    places: Vec<u32>,
    /// Where each part begins in `places`, and where the last one ends.
    begins: Vec<u32>,
}

impl Parts {
    /// One part for each key.
    pub fn by_key(history: &[Operation]) -> Self {
        let mut numbers: QuickMap<&str, u32> = QuickMap::default();
        let mut parts = Vec::with_capacity(history.len());
        for operation in history {
            let fresh = u32::try_from(numbers.len()).expect("a history has fewer than 2^32 keys");
            parts.push(*numbers.entry(&operation.key).or_insert(fresh));
        }
        Self::new(parts.iter().copied(), numbers.len())
    }

    /// Parts from the part of each operation, below `count`.
    pub fn new(part_of: impl ExactSizeIterator<Item = u32> + Clone, count: usize) -> Self {
        assert!(u32::try_from(part_of.len()).is_ok(), "a history has fewer than 2^32 operations");
        let mut places = vec![0; part_of.len()];
        let mut begins = vec![0_u32; count + 1];
        for part in part_of.clone() {
            begins[part as usize + 1] += 1;
        }
        for part in 0..count {
            begins[part + 1] += begins[part];
        }
        let mut next = begins.clone();
        for (place, part) in (0..).zip(part_of) {
            places[next[part as usize] as usize] = place;
            next[part as usize] += 1;
        }
        Self { places, begins }
    }

    /// Number of parts.
    pub fn len(&self) -> usize {
        self.begins.len() - 1
    }

    /// The places of a part, ascending.
    pub fn part(&self, part: usize) -> &[u32] {
        &self.places[self.begins[part] as usize..self.begins[part + 1] as usize]
    }
}

/// Threads that are worth their while for so many operations in so many parts, of those allowed
/// (`None`: all cores).
pub fn threads(operations: usize, parts: usize, allowed: Option<NonZeroUsize>) -> NonZeroUsize {
    if operations < PARALLEL_OPERATIONS_MIN {
        return NonZeroUsize::MIN;
    }
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let parts = NonZeroUsize::new(parts).unwrap_or(NonZeroUsize::MIN);
    allowed.unwrap_or_else(cores).min(parts)
}

/// The first of so many parts of which `judge` says something and `is_final` agrees that it settles
/// all; else the first of which it says something. Parts behind a final one may be left out.
///
/// Each thread has a desk of its own, on which `judge` can leave what it wants to use again.
pub fn first<T: Send, D: Default>(
    parts: usize,
    threads: NonZeroUsize,
    judge: impl Fn(&mut D, usize) -> Option<T> + Sync,
    is_final: impl Fn(&T) -> bool + Sync,
) -> Option<T> {
    let step = (parts / threads.get() / 4).clamp(1, TAKEN_AT_ONCE_MAX);
    let next = AtomicUsize::new(0);
    // The part at which something final was found.
    let end = AtomicUsize::new(parts);
    let found: Mutex<Option<(bool, usize, T)>> = Mutex::new(None);
    let work = || {
        let mut desk = D::default();
        loop {
            let begin = next.fetch_add(step, Ordering::Relaxed);
            if begin >= end.load(Ordering::Relaxed) {
                return;
            }
            for part in begin..(begin + step).min(parts) {
                let Some(said) = judge(&mut desk, part) else { continue };
                let is_final = is_final(&said);
                if is_final {
                    end.fetch_min(part, Ordering::Relaxed);
                }
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                let comes_first = |(known_final, known, _): &(bool, usize, T)| {
                    (!is_final, part) < (!known_final, *known)
                };
                if found.as_ref().is_none_or(comes_first) {
                    *found = Some((is_final, part, said));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get() {
            scope.spawn(work);
        }
        work();
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner).map(|(_, _, said)| said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Call;

    #[test]
    fn the_first_final_part_wins_on_any_number_of_threads() {
        let history: Vec<Operation> = (0..1_000_u64)
            .map(|n| Operation::invoked(n, Call::read((n % 100).to_string()), n))
            .collect();
        let parts = Parts::by_key(&history);
        assert_eq!((parts.len(), parts.part(7)[..3].to_vec()), (100, vec![7, 107, 207]));
        for threads in 1..=4 {
            let threads = NonZeroUsize::new(threads).unwrap();
            let said = |final_from: usize| {
                let judge = |(): &mut (), part: usize| (parts.part(part)[0] >= 20).then_some(part);
                first(parts.len(), threads, judge, |&part| part >= final_from)
            };
            assert_eq!((said(60), said(1_000)), (Some(60), Some(20)));
            assert_eq!(first(parts.len(), threads, |(): &mut (), _| None::<()>, |()| true), None);
        }
    }
}
