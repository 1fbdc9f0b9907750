//! The kvstore server.

pub mod consistency;
pub mod node;
pub mod replication;
