//! Makes an invalid part of a history small enough to look at.
//!
//! Only that is left out whose absence cannot make a good history look bad: what was called after the
//! contradiction was complete; what only mattered before some put, or before a moment at which a lock
//! was surely free; reads; and whole values (see `values`). So what is invalid after leaving out was
//! invalid before.

use super::part::{Broken, Found, Part};
use super::{LinearizableChecker, Sequential};
use crate::checker::compete::Patience;
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// Operations that all checks of one minimization may walk through together.
const WORK_MAX: usize = 2_000_000;

/// Configurations that each of them may visit.
const STATES_MAX: u64 = 50_000;

/// Reduces a part that is invalid. The sentence is about the operations that remain.
pub(super) fn minimize(
    checker: &LinearizableChecker,
    history: &[Operation],
    places: &[u32],
    broken: Broken,
) -> (Vec<Operation>, String) {
    let mut shrink = Shrink { checker, work: WORK_MAX };
    let mut pieces: Vec<Operation> = places
        .iter()
        .map(|&place| &history[place as usize])
        .filter(|operation| operation.outcome != Outcome::Fail)
        .cloned()
        .collect();
    pieces.sort_by_key(|operation| operation.invoke_ns);
    let end = history[broken.place as usize].end_ns();
    if let Some(cut) = shrink.first_contradiction(&pieces, end) {
        pieces = cut;
    }
    let anchor;
    (pieces, anchor) = shrink.start_late(pieces);
    // A pass can make room for another one; two are enough in practice.
    for _ in 0..2 {
        let before = pieces.len();
        pieces = shrink.leave_out_values(pieces, anchor);
        pieces = shrink.leave_out_reads(pieces);
        if pieces.len() == before {
            break;
        }
    }
    let patience = Patience::states(STATES_MAX);
    let whole: Vec<u32> = (0..).take(pieces.len()).collect();
    let part = Part::new(checker, &pieces, &whole);
    let why = match part.map(|part| part.decide(patience, false, false)) {
        Ok(Found::Invalid(smallest)) => smallest.why,
        _ => broken.why,
    };
    (pieces, why)
}

struct Shrink<'c> {
    checker: &'c LinearizableChecker,
    work: usize,
}

impl Shrink<'_> {
    /// Whether some operations are invalid by themselves; false as well once the work is spent.
    fn is_invalid(&mut self, pieces: &[Operation]) -> bool {
        let Some(left) = self.work.checked_sub(pieces.len().max(1)) else { return false };
        self.work = left;
        let whole: Vec<u32> = (0..).take(pieces.len()).collect();
        let part = Part::new(self.checker, pieces, &whole);
        let patience = Patience::states(STATES_MAX);
        part.is_ok_and(|part| matches!(part.decide(patience, false, true), Found::Invalid(_)))
    }

    /// The operations until the first moment, at `latest`, at which they contradict one another.
    fn first_contradiction(&mut self, pieces: &[Operation], latest: u64) -> Option<Vec<Operation>> {
        let mut ends: Vec<u64> = pieces.iter().map(Operation::end_ns).collect();
        ends.retain(|&end| end <= latest && end < u64::MAX);
        ends.sort_unstable();
        // Cutting earlier only takes away constraints, so the moment can be found by halving.
        let (mut low, mut high) = (0, ends.len().checked_sub(1)?);
        if !self.is_invalid(&cut(pieces, ends[high])) {
            return None;
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.is_invalid(&cut(pieces, ends[middle])) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(cut(pieces, ends[high]))
    }

    /// The operations from the latest moment on from which they are still invalid, of those moments
    /// at which what came before does not matter any more. If that is due to a put, its name: it must
    /// stay, for nothing else shows why what came before is not there.
    fn start_late(&mut self, pieces: Vec<Operation>) -> (Vec<Operation>, Option<(u64, u64)>) {
        let starts: Vec<(Vec<Operation>, _)> = match self.checker.sequential {
            Sequential::Mutex => {
                free_moments(&pieces).into_iter().map(|start| (start, None)).collect()
            }
            Sequential::Kv | Sequential::Registers => {
                // The further back, the larger the steps.
                let puts: Vec<&Operation> = pieces.iter().filter(|o| is_put(o)).collect();
                let mut back = 1;
                let mut starts = Vec::new();
                while let Some(place) = puts.len().checked_sub(back) {
                    let start = from_put(&pieces, puts[place]);
                    starts.extend(start.map(|start| (start, Some(name(puts[place])))));
                    back += back.div_ceil(8);
                }
                starts
            }
        };
        for (start, anchor) in starts {
            if start.len() < pieces.len() && self.is_invalid(&start) {
                return (start, anchor);
            }
        }
        (pieces, None)
    }

    /// Tries to leave out halves of the values, then quarters and so on, but nothing that would take
    /// `anchor` along.
    fn leave_out_values(
        &mut self,
        mut pieces: Vec<Operation>,
        anchor: Option<(u64, u64)>,
    ) -> Vec<Operation> {
        if self.checker.sequential == Sequential::Mutex {
            return pieces;
        }
        let whole = pieces.clone();
        let all: Vec<u32> = (0..).take(whole.len()).collect();
        let Ok(part) = Part::new(self.checker, &whole, &all) else { return pieces };
        let traces = part.traces();
        let anchored = |&place: &u32| Some(name(&whole[place as usize])) == anchor;
        let anchor = part.places().iter().position(anchored);
        let mut values = traces.values(anchor);
        // What was left out stays out.
        let mut gone = Vec::new();
        let mut size = values.len().div_ceil(2);
        while size > 0 && !values.is_empty() {
            let mut kept = Vec::new();
            for chunk in values.chunks(size) {
                let (remains, work) = traces.without(&[&gone, chunk].concat(), anchor);
                self.work = self.work.saturating_sub(work);
                let smaller = remains.map(|remains| {
                    let mut stays = vec![true; whole.len()];
                    for (&place, remains) in part.places().iter().zip(remains) {
                        stays[place as usize] = remains;
                    }
                    let stays = whole.iter().zip(stays).filter(|(_, stays)| *stays);
                    stays.map(|(operation, _)| operation.clone()).collect::<Vec<_>>()
                });
                match smaller {
                    Some(smaller) if smaller.len() < pieces.len() && self.is_invalid(&smaller) => {
                        pieces = smaller;
                        gone.extend_from_slice(chunk);
                    }
                    _ => kept.extend_from_slice(chunk),
                }
            }
            values = kept;
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        pieces
    }

    /// Tries to leave out halves of the reads, then quarters and so on.
    fn leave_out_reads(&mut self, mut pieces: Vec<Operation>) -> Vec<Operation> {
        let mut reads: Vec<(u64, u64)> =
            pieces.iter().filter(|o| only_reads(o)).map(name).collect();
        let mut size = reads.len().div_ceil(2);
        while size > 0 && !reads.is_empty() {
            let mut kept = Vec::new();
            for chunk in reads.chunks(size) {
                let stays = |o: &&Operation| !only_reads(o) || !chunk.contains(&name(o));
                let smaller: Vec<Operation> = pieces.iter().filter(stays).cloned().collect();
                if self.is_invalid(&smaller) {
                    pieces = smaller;
                } else {
                    kept.extend_from_slice(chunk);
                }
            }
            reads = kept;
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        pieces
    }
}

/// What tells an operation from others: a process does one at a time.
fn name(operation: &Operation) -> (u64, u64) {
    (operation.process, operation.invoke_ns)
}

/// Whether it changes nothing: a read, or a transaction of reads.
fn only_reads(operation: &Operation) -> bool {
    match (operation.function, &operation.value) {
        (Function::Read, _) => true,
        (Function::Txn, Some(Value::List(steps))) => steps.iter().all(|step| {
            let step = step.as_ref().and_then(Value::as_list).unwrap_or_default();
            step.first().is_some_and(|f| f.as_ref().and_then(Value::as_text) == Some("r"))
        }),
        _ => false,
    }
}

/// The operations called until a moment. What has not returned by then counts as crashed.
fn cut(pieces: &[Operation], moment: u64) -> Vec<Operation> {
    pieces
        .iter()
        .filter(|o| o.invoke_ns <= moment)
        .filter(|o| o.function != Function::Read || o.end_ns() <= moment)
        .cloned()
        .map(|mut operation| {
            if operation.end_ns() > moment {
                operation.outcome = Outcome::Info;
            }
            operation
        })
        .collect()
}

/// Whether it sets a single key and is sure to have done so.
fn is_put(operation: &Operation) -> bool {
    operation.outcome == Outcome::Ok
        && matches!(operation.function, Function::Write | Function::Delete)
}

/// The operations that can take effect after a put, and the put; `None` if what may have come before
/// it cannot be left out, since what it did depends on what was there.
fn from_put(pieces: &[Operation], put: &Operation) -> Option<Vec<Operation>> {
    let mut kept = Vec::new();
    for operation in pieces {
        let only_before = operation.end_ns() < put.invoke_ns;
        let perhaps_before =
            operation.invoke_ns <= put.end_ns() && operation.outcome != Outcome::Info;
        match operation.function {
            _ if operation.function == Function::Txn || operation.key != put.key => return None,
            _ if only_before => {}
            Function::Read if perhaps_before => {}
            Function::Append | Function::Cas if perhaps_before => return None,
            _ => kept.push(operation.clone()),
        }
    }
    Some(kept)
}

/// The operations after each moment at which a lock was surely free: nothing was open, nothing had
/// crashed, and it was released as often as acquired. The latest first.
fn free_moments(pieces: &[Operation]) -> Vec<Vec<Operation>> {
    let mut starts = Vec::new();
    let mut latest_end = 0;
    let mut held = 0_i64;
    for (place, operation) in pieces.iter().enumerate() {
        if place > 0 && latest_end < operation.invoke_ns && held == 0 {
            starts.push(pieces[place..].to_vec());
        }
        latest_end = latest_end.max(operation.end_ns());
        held += if operation.function == Function::Acquire { 1 } else { -1 };
    }
    starts.reverse();
    starts
}
