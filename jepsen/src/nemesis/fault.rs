//! What was done to a cluster, for the report.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::kind::NemesisKind;

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Who did it.
    pub nemesis: NemesisKind,
    /// What was done, such as `kill leader`.
    pub what: &'static str,
    /// To which nodes.
    pub nodes: Vec<String>,
    /// Where: the process, the proxies, a file.
    pub place: String,
    /// When it began, in nanoseconds of the history's clock.
    pub begin_ns: u64,
    /// When the nodes had recovered; `None` if the run ended first.
    pub end_ns: Option<u64>,
    /// How often it had an effect, such as connections that were cut; `None` where nobody can tell.
    pub effects: Option<u64>,
}

/// All faults of a run, also while it runs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    all: Arc<Mutex<Vec<Fault>>>,
}

impl Faults {
    fn with<T>(&self, change: impl FnOnce(&mut Vec<Fault>) -> T) -> T {
        // A poisoned lock only means that some task panicked between two changes.
        change(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds one and returns its number.
    pub fn begin(&self, fault: Fault) -> usize {
        self.with(|all| {
            all.push(fault);
            all.len() - 1
        })
    }

    /// Says when it ended and what it did.
    ///
    /// # Panics
    ///
    /// If there is no such fault.
    pub fn end(&self, number: usize, end_ns: u64, effects: Option<u64>) {
        self.with(|all| {
            all[number].end_ns = Some(end_ns);
            all[number].effects = effects;
        });
    }

    /// Replaces the place, once it is known better.
    ///
    /// # Panics
    ///
    /// If there is no such fault.
    pub fn place(&self, number: usize, place: String) {
        self.with(|all| all[number].place = place);
    }

    /// Those so far, in the order in which they began.
    #[must_use]
    pub fn list(&self) -> Vec<Fault> {
        self.with(|all| all.clone())
    }

    /// What is in force now, in a few words; empty when nothing is.
    #[must_use]
    pub fn in_force(&self) -> String {
        self.with(|all| {
            let open = all.iter().filter(|fault| fault.end_ns.is_none());
            let words: Vec<String> =
                open.map(|fault| format!("{} {}", fault.what, fault.nodes.join(" "))).collect();
            words.join(", ")
        })
    }
}
