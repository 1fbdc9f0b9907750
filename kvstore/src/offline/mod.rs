//! What is done to files while no node runs: `kvstore snapshot` and `kvstore recover`.
//!
//! - [`verify`]: reads a backup or an export whole and says what it is.
//! - [`restore`]: puts a backup where a node of a new cluster starts from it.
//! - [`recover`]: makes such an export of what is left of a node, when no majority is.
//!
//! A restored or recovered cluster is a new one: see `durable/seed.rs` for how it begins. Of eventual keyspaces it has
//! what a backup holds of them, or what `recover` could read of one node's replica.

mod cut;
mod error;
pub mod recover;
pub mod restore;
mod seed_file;
pub mod verify;

pub use error::OfflineError;

use std::process::ExitCode;

/// Prints what a command came to, and returns its exit code.
pub fn finish(result: Result<String, OfflineError>, json: bool) -> ExitCode {
    match result {
        Ok(text) => crate::cli::print(&text),
        Err(error) => {
            crate::cli::complain(&if json { error.to_json() } else { error.describe() });
            ExitCode::from(error.exit())
        }
    }
}
