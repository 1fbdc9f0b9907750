//! Whole clusters under test.
//!
//! - [`sim`]: deterministic simulation of the shipped node core.
//! - [`apart`]: eventual keyspaces on real nodes that are cut off from each other.
//! - [`measure`]: what the programs share that measure real processes.
//! - `process/`: real processes on loopback.
//! - `house.rs`: rules of the house that no lint expresses.

pub mod apart;
pub mod measure;
pub mod sim;
