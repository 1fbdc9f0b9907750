//! Eventual keyspaces: writes that are accepted anywhere, and replicas that agree in the end.
//!
//! This version holds the [`model`]: the rules of the replicas as plain data and plain functions,
//! an oracle that knows what is true, and a search for schedules in which the rules break a promise.
#![deny(missing_docs)]

pub mod model;
