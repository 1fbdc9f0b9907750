//! What the programs share that measure a cluster of real processes.
//!
//! Each program starts three servers on loopback, does something to them, and prints what it found
//! beside what is promised. It ends with exit code 1 when a promise was not kept.
//!
//! - `place`: where the cluster lies, and clients of it. `usage`: memory and disk of a node.
//! - `promises`: figures with their bounds. `trend`: whether something grows.
//! - `gaps`: a writer that notes how long it had to wait. `single`: attempts that nobody repeats.
//! - `replace`: a node that has lost everything joins again.

mod gaps;
mod place;
mod promises;
mod replace;
mod single;
mod trend;
mod usage;

pub use gaps::{GapWriter, Gaps};
pub use place::{Leader, Place, READY_MAX, leader, leader_soon};
pub use promises::Promises;
pub use replace::replace;
pub use single::{Attempt, Single};
pub use trend::Trend;
pub use usage::{MIB, Memory, Usage, processor_seconds};

/// Why a measurement could not be made.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;
