//! Nemeses: what is done to a cluster while clients use it.

pub mod kill;

pub use kill::{Kill, KillNemesis};

use serde::Serialize;

/// One thing that was done, for the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What was done, such as `kill leader`.
    pub what: String,
    /// To which nodes.
    pub nodes: Vec<String>,
    /// When it began, in nanoseconds of the history's clock.
    pub begin_ns: u64,
    /// When the nodes had recovered; `None` if the run ended first.
    pub end_ns: Option<u64>,
}
