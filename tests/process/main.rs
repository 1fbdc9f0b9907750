//! Real processes on loopback: kill -9, bad input, floods, the command line.

mod bad_input;
mod command_line;
mod flood;
mod kill;
mod programs;
