//! A load generator: operations on random keys, closed loop or on schedule, with honest times.
//!
//! A [`Plan`] says what is done, [`load`] writes the keys, [`Running`] does it, a [`Report`] says what
//! was found and [`Assertion`] checks it. On a schedule ([`Pace::Open`]) times count from the scheduled
//! start: an operation that waits behind a stall waited, whether or not it had been sent
//! ("coordinated omission").

mod assertion;
mod load;
mod plan;
mod report;

pub use assertion::Assertion;
pub use load::{Progress, Running, load};
pub use plan::{Mix, Operation, Pace, Plan};
pub use report::{Report, Tally};
