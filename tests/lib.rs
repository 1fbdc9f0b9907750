//! Whole clusters under test.
//!
//! - [`sim`]: deterministic simulation of the shipped node core.
//! - [`measure`]: what the programs share that measure real processes.
//! - `process/`: real processes on loopback.
//! - `house.rs`: rules of the house that no lint expresses.

pub mod measure;
pub mod sim;
