//! Causal consistency in three strengths (models `causal`, `causal-convergence` and
//! `causal-memory`), by bad patterns, after Bouajjani, Enea, Guerraoui and Hamza, On Verifying
//! Causal Consistency, POPL 2017.
//!
//! A process's own operations are ordered by their calls; a read comes after the write of its
//! value. Causal order is the transitive closure of both. Real time does not count.
//!
//! - `causal` (CC): causal order has no cycle; no read returns what nobody wrote; none returns a
//!   value (or absence) although another write of that key lies causally after that value's write
//!   (or after nothing) and before the read.
//! - `causal-convergence` (CCv): CC, and causal order stays free of cycles together with: w1
//!   before w2 wherever a read returns w2's value and w1, of the same key, is causally before it.
//! - `causal-memory` (CM): CC, and for each process there is one order of what is in its causal
//!   past that explains all its reads. The edges of CCv are added for the reads of that process
//!   alone, until nothing changes; then there must be no cycle, and no read of absence may have a
//!   write of its key before it. Taking a process's last operation is enough: what is added for
//!   earlier ones is added for it too.
//!
//! Writes of one key must have different values, and deletes are not judged, as absence would have
//! several writers: unknown. Writes with an unknown outcome count once they are read.
//!
//! With p processes and n operations: causal order is kept as one clock of p numbers a read that
//! learned something, of which there may be [`CLOCK_NUMBERS_MAX`] in all. CC and CCv cost O(n p);
//! CM costs that for each process and each of at most [`ROUNDS_MAX`] rounds. Beyond a bound:
//! unknown.

mod act;
mod clocks;
mod memory;
mod witness;

pub use clocks::CLOCK_NUMBERS_MAX;
pub use memory::ROUNDS_MAX;

use self::act::{Acts, Reads};
use self::clocks::Clocks;
use self::witness::{Link, Order};
use super::stop::Stop;
use super::{Checker, Verdict};
use crate::operation::{Function, Operation};

/// How strong the promise is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Causal consistency (CC).
    Consistency,
    /// Causal convergence (CCv): concurrent writes are seen in one order.
    Convergence,
    /// Causal memory (CM): each process sees one order of its own.
    Memory,
}

/// Checks causal consistency of registers whose written values are unique.
#[derive(Clone, Copy, Debug)]
pub struct CausalChecker {
    /// How strong the promise is.
    pub strength: Strength,
}

impl Checker for CausalChecker {
    fn model(&self) -> &'static str {
        match self.strength {
            Strength::Consistency => "causal",
            Strength::Convergence => "causal-convergence",
            Strength::Memory => "causal-memory",
        }
    }

    /// Unknown if values are not unique, or if there are too many processes for the memory.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &[Function::Read, Function::Write]) {
            return unknown;
        }
        Stop::verdict(self.judge(history), history)
    }
}

impl CausalChecker {
    fn judge(&self, history: &[Operation]) -> Result<(), Stop> {
        let acts = Acts::new(history)?;
        let order = Order::new(&acts, Vec::new());
        let Some(sorted) = order.graph.sorted() else {
            return Err(order.cycle("the order of processes and of what they read has a cycle"));
        };
        let clocks = Clocks::new(&acts, &sorted, &[])?;
        consistency(&acts, &order, &clocks)?;
        match self.strength {
            Strength::Consistency => Ok(()),
            Strength::Convergence => convergence(&acts, &clocks),
            Strength::Memory => memory::check(&acts, &clocks),
        }
    }
}

/// No read returns what was overwritten in its causal past.
fn consistency(acts: &Acts<'_>, order: &Order<'_, '_>, clocks: &Clocks) -> Result<(), Stop> {
    for (read, from) in acts.reads() {
        for overwrite in acts.newest_writes(read, |session| clocks.before(acts, read, session)) {
            let hidden = match from {
                Reads::Absence => true,
                Reads::From(write) => {
                    write != overwrite && clocks.is_before(acts, write, overwrite)
                }
            };
            if hidden {
                return Err(order.overwritten(read, from, overwrite));
            }
        }
    }
    Ok(())
}

/// All that was overwritten in the past of some read was overwritten for all.
fn convergence(acts: &Acts<'_>, clocks: &Clocks) -> Result<(), Stop> {
    let mut links = Vec::new();
    for (read, from) in acts.reads() {
        let Reads::From(write) = from else { continue };
        for before in acts.newest_writes(read, |session| clocks.before(acts, read, session)) {
            if before != write && !clocks.is_before(acts, before, write) {
                links.push(Link { before, after: write, read, round: 1 });
            }
        }
    }
    let order = Order::new(acts, links);
    match order.graph.sorted() {
        Some(_) => Ok(()),
        None => Err(order.cycle("what processes read puts concurrent writes into no common order")),
    }
}
