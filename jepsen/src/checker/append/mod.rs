//! Transactions that append to lists and read them (models `list-append`, `list-append-process`
//! and `list-append-strict`): serializable, in the order of processes, and in real time.
//!
//! The approach is that of Kingsbury and Alvaro, Elle: Inferring Isolation Anomalies from
//! Experimental Observations, 2020. As each element is appended once, a list that was read says who
//! wrote what in which order, and so which transaction must come before which. What is looked for,
//! in this order, the first one found being reported:
//!
//! 1. In one transaction: **internal** (a read contradicts what the transaction itself read or
//!    appended before), **duplicate elements** and **unexpected elements** in a list, an **aborted
//!    read** (G1a), a **dirty update** (something was appended after an element that a failed
//!    transaction left), an **intermediate read** (G1b: the list ends with an append which its own
//!    transaction followed by another one).
//! 2. **Incompatible orders**: of two lists of one key neither is the beginning of the other; and
//!    **wrong order**: a list shows the appends of one transaction in another order than its own.
//! 3. Cycles of transactions that must come before one another: by writes (ww: appended next), by
//!    reads (wr: read the other's element) and by what was not yet there (rw: the other appended
//!    what a read did not show). **G0** has ww alone, **G1c** ww and wr, **G-single** one rw (a
//!    **lost update** if both appended to the key), **G2-item** several rw. Cycles which need the
//!    order of processes or real time are named so, and looked for only by the stricter models.
//!
//! Appends that no read saw come after those that were seen, in an order that stays open. So what
//! is reported is a violation; what is not, may be one that nobody observed. A transaction with an
//! unknown outcome took place if an element of it was read. An element appended twice: unknown.
//!
//! All is O(n) in the micro-operations and in the elements read, but for the search for a short
//! cycle in a history that has one, which is bounded: a longer cycle is reported then, and a
//! G-single may be called G2-item after [`cycles::SINGLE_WORK_MAX`] steps. The failing part holds
//! the transactions of the cycle and the reads that show the orders, without the appends of other
//! elements in them.

pub mod cycles;

mod lists;
mod txn;

use self::lists::Lists;
use self::txn::Transactions;
use super::stop::Stop;
use super::{Checker, Verdict};
use crate::operation::{Function, Operation};

/// Which orders a serialization must respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Respects {
    /// None: serializability.
    Nothing,
    /// That of each process: strong session serializability.
    Processes,
    /// That of real time: strict serializability.
    RealTime,
}

/// Checks transactions of appends to and reads of lists.
#[derive(Clone, Copy, Debug)]
pub struct ListAppendChecker {
    /// Which orders a serialization must respect.
    pub respects: Respects,
}

impl Checker for ListAppendChecker {
    fn model(&self) -> &'static str {
        match self.respects {
            Respects::Nothing => "list-append",
            Respects::Processes => "list-append-process",
            Respects::RealTime => "list-append-strict",
        }
    }

    /// Unknown if an element is appended twice or a transaction cannot be read.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &[Function::Txn]) {
            return unknown;
        }
        let judged = Transactions::new(history).and_then(|txns| {
            let lists = Lists::new(&txns)?;
            cycles::check(&txns, &lists, self.respects)
        });
        Stop::verdict(judged, history)
    }
}
