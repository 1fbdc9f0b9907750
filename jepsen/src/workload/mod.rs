//! Workloads: what clients do to a cluster while it is being disturbed.

pub mod register;

pub use register::{ReadLevel, RegisterSummary, RegisterWorkload};
