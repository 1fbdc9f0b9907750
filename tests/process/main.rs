//! Real processes on loopback: kill -9, bad input, floods, the command line; members that come and go,
//! backup and recovery, damage, and the page for operators.

mod apart;
mod backup;
mod bad_input;
mod command_line;
mod convergence;
mod damage;
mod eventual;
mod eventual_backup;
mod fleet;
mod flood;
mod keyspaces;
mod kill;
mod lab;
mod leaving;
mod membership;
mod operations;
mod programs;
mod secrets;
mod starts;
