//! Groups that talk to each other over a network and disks in memory: scripts of single behaviours,
//! random schedules, and peers that lie.

mod determinism;
mod harness;
mod history;
mod hostile;
mod print;
mod random;
mod scripts;
