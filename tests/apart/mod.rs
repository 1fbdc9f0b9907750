//! Eventual keyspaces on real nodes that are cut off from each other: what they answer meanwhile, how soon they come to
//! the same, and whether anything was lost or came back.
//!
//! Every call is recorded, with its dot and its token, and the convergence checker of the lab judges the whole. The
//! clients write with the token of what they have just read, so the history says exactly what each write replaces:
//! the siblings that are there in the end have to be those that are truly concurrent, no more and no less.
//!
//! - [`trials`]: what is done, step by step. `field`: the cluster, its keys, and what happens to all nodes. `worker`: a
//!   client of one node. `calls`: single calls, recorded. `latencies`: what the calls took.

mod calls;
mod field;
mod latencies;
pub mod trials;
mod worker;

pub use field::{ApartOptions, Field, READY_MAX};
pub use latencies::Latencies;
pub use worker::Work;
