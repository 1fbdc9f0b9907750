//! Whole clusters under test.
//!
//! - [`sim`]: deterministic simulation of the shipped node core.
//! - `process/`: real processes on loopback.
//! - `house.rs`: rules of the house that no lint expresses.

pub mod sim;
