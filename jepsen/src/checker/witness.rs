//! Makes the invalid part of a history small enough to look at.
//!
//! Only such operations are left out whose absence cannot make a good history look bad: what was
//! called after the contradiction was complete; what only mattered before some write; reads; and
//! *whole values*: all reads of a value with all acts that write it, unless a cas that stays needs
//! it. Each of these turns a linearization into a linearization. So what is invalid after leaving
//! out was invalid before, and what remains shows why.

use std::collections::BTreeSet;

use super::acts::{Act, Conflict, Effect, Finding, NEVER, Register, Value};

/// Acts that all checks of one minimization may walk through together.
const WORK_MAX: usize = 4_000_000;

/// An engine that decides small registers.
pub type Engine = fn(&Register<'_>) -> Finding;

/// Reduces a conflict to few acts of the register, ordered by their starts. The engine decides quickly
/// whether a part is invalid.
pub fn minimize(register: &Register<'_>, conflict: &Conflict, engine: Engine) -> Vec<Act> {
    let mut shrink = Shrink { register, engine, work: WORK_MAX };
    let mut acts: Vec<Act> = conflict.acts.iter().map(|&act| register.acts[act as usize]).collect();
    acts.sort_by_key(|act| (act.start, act.operation));
    acts.dedup();
    if let Some(cut) = shrink.first_contradiction(&acts) {
        acts = cut;
    }
    // The write must stay: only it makes what came before it irrelevant.
    let anchor;
    (acts, anchor) = shrink.start_from_write(acts);
    // A pass can make room for another one; two are enough in practice.
    for _ in 0..2 {
        let before = acts.len();
        acts = shrink.leave_out_values(acts, anchor);
        acts = shrink.leave_out_reads(acts);
        if acts.len() == before {
            break;
        }
    }
    register.with_acts(acts).acts
}

struct Shrink<'r, 'h> {
    register: &'r Register<'h>,
    engine: Engine,
    work: usize,
}

impl Shrink<'_, '_> {
    /// Whether some acts are invalid by themselves; false as well once the work is spent.
    fn is_invalid(&mut self, acts: &[Act]) -> bool {
        let Some(left) = self.work.checked_sub(acts.len().max(1)) else { return false };
        self.work = left;
        matches!((self.engine)(&self.register.with_acts(acts.to_vec())), Finding::Invalid(_))
    }

    /// The acts until the first moment at which they contradict one another. What has not returned
    /// by then counts as crashed.
    fn first_contradiction(&mut self, acts: &[Act]) -> Option<Vec<Act>> {
        let mut ends: Vec<u64> =
            acts.iter().map(|act| act.end).filter(|&end| end < NEVER).collect();
        ends.sort_unstable();
        // Cutting earlier only takes away constraints, so the moment can be found by halving.
        let (mut low, mut high) = (0, ends.len().checked_sub(1)?);
        if !self.is_invalid(&cut(acts, ends[high])) {
            return None;
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.is_invalid(&cut(acts, ends[middle])) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(cut(acts, ends[high]))
    }

    /// The acts from the latest write on from which they are still invalid, and that write's value.
    fn start_from_write(&mut self, acts: Vec<Act>) -> (Vec<Act>, Option<Value>) {
        let writes: Vec<Act> = acts
            .iter()
            .filter(|act| act.effect == Effect::Write && !act.crashed())
            .copied()
            .collect();
        // Contradictions are mostly near the end; the further back, the larger the steps.
        let mut back = 1;
        while let Some(place) = writes.len().checked_sub(back) {
            if let Some(later) = from_write(&acts, &writes[place])
                && later.len() < acts.len()
                && self.is_invalid(&later)
            {
                return (later, Some(writes[place].value));
            }
            back += back.div_ceil(8);
        }
        (acts, None)
    }

    fn leave_out_values(&mut self, acts: Vec<Act>, except: Option<Value>) -> Vec<Act> {
        let mut values: BTreeSet<Value> = acts.iter().map(|act| act.value).collect();
        if let Some(value) = except {
            values.remove(&value);
        }
        self.leave_out(acts, values.into_iter().collect(), without_values)
    }

    fn leave_out_reads(&mut self, acts: Vec<Act>) -> Vec<Act> {
        let reads = acts.iter().filter(|act| act.effect == Effect::Read);
        let reads = reads.map(|act| act.operation).collect();
        self.leave_out(acts, reads, |acts, reads| {
            let kept = |act: &&Act| act.effect != Effect::Read || !reads.contains(&act.operation);
            acts.iter().filter(kept).copied().collect()
        })
    }

    /// Tries to leave out halves of `parts`, then quarters and so on (after Zeller and Hildebrandt,
    /// Simplifying and Isolating Failure-Inducing Input, 2002).
    fn leave_out(
        &mut self,
        mut acts: Vec<Act>,
        mut parts: Vec<u32>,
        without: fn(&[Act], &BTreeSet<u32>) -> Vec<Act>,
    ) -> Vec<Act> {
        let mut size = parts.len().div_ceil(2);
        while size > 0 && !parts.is_empty() {
            let mut kept = Vec::new();
            for chunk in parts.chunks(size) {
                let smaller = without(&acts, &chunk.iter().copied().collect());
                if smaller.len() < acts.len() && self.is_invalid(&smaller) {
                    acts = smaller;
                } else {
                    kept.extend_from_slice(chunk);
                }
            }
            parts = kept;
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        acts
    }
}

/// The acts called until a moment.
fn cut(acts: &[Act], moment: u64) -> Vec<Act> {
    acts.iter()
        .filter(|act| act.start <= moment)
        .filter(|act| act.effect != Effect::Read || act.end <= moment)
        .map(|act| Act { end: if act.end <= moment { act.end } else { NEVER }, ..*act })
        .collect()
}

/// The acts that can take effect after a write, and the write; `None` if a cas that may have come
/// before it cannot be left out.
///
/// Take a linearization of all acts. What precedes the write in it and stays is either another
/// write, which needs nothing before it, or has crashed, so that it may be left out as well. What
/// follows the write sees nothing that came before it.
fn from_write(acts: &[Act], write: &Act) -> Option<Vec<Act>> {
    let mut kept = Vec::new();
    for act in acts {
        let only_before = act.end < write.start;
        let perhaps_before = act.start <= write.end && !act.crashed();
        match act.effect {
            _ if only_before => {}
            Effect::Read if perhaps_before => {}
            Effect::Cas if perhaps_before => return None,
            Effect::Read | Effect::Write | Effect::Cas => kept.push(*act),
        }
    }
    Some(kept)
}

/// The acts without some values, as far as no remaining cas needs them.
fn without_values(acts: &[Act], values: &BTreeSet<Value>) -> Vec<Act> {
    let mut values = values.clone();
    loop {
        let needed = acts.iter().find(|act| {
            act.effect == Effect::Cas
                && values.contains(&act.expected)
                && !values.contains(&act.value)
        });
        match needed {
            Some(act) => values.remove(&act.expected),
            None => break,
        };
    }
    acts.iter().filter(|act| !values.contains(&act.value)).copied().collect()
}
