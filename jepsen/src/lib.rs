//! The lab: runs workloads and faults against a cluster, and checks what the clients saw.
//!
//! - [`operation`], [`value`], [`history`], [`recorder`]: what clients did, in memory and on disk.
//! - [`checker`]: judges of histories; they know nothing of kvstore. [`judgement`]: what they say,
//!   as it is printed.
//! - [`cluster`]: real processes. [`network`]: the proxies between them. [`target`]: what clients
//!   talk to. [`workload`]: what they do. [`nemesis`]: what else is done to the cluster. [`run`]: all of
//!   it together, into one directory. [`report`]: the page about it. [`matrix`]: many runs and their table.
//! - [`spread`]: how one update reaches all nodes, simulated. [`detect`]: how crashes are found, simulated.
//!   [`trials`]: figures of many runs. [`converge`]: replicas of eventual keyspaces in random schedules, simulated.
//! - [`simulated`]: histories of simulated registers, for testing and measuring checkers.
//! - [`cli`]: the command `kv-lab`.
//!
//! Left out so far: workloads of watches and locks.

pub mod checker;
pub mod cli;
pub mod cluster;
pub mod converge;
pub mod detect;
pub mod error;
pub mod history;
pub mod judgement;
pub mod matrix;
pub mod nemesis;
pub mod network;
pub mod operation;
pub mod recorder;
pub mod report;
pub mod run;
pub mod simulated;
pub mod spread;
pub mod target;
pub mod trials;
pub mod value;
pub mod workload;

mod hash;
mod seed;
mod wire;

pub use checker::{Checker, Verdict, Violation};
pub use error::LabError;
pub use operation::{Call, Causal, Function, Operation, Outcome};
pub use recorder::Recorder;
pub use value::Value;
