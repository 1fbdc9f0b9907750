//! The kvstore server.
//!
//! # From a request to its reply
//!
//! ```text
//!            TLS, HTTP/2             checks, admission         channel
//!  client ---------------> tls, rpc ------------------> shell ---------> node
//!                                                         |                | replication
//!  peers  <--------------------------- peer <-------------+                v
//!                                                         |            consensus, storage
//!  disk   <---------- log, store and transfer threads ----+
//! ```
//!
//! - [`node`] is the synchronous core: inputs in, effects out. It owns the order of everything
//!   that matters and runs in the simulator as it is. [`replication`] and [`consistency`] are its
//!   parts.
//! - [`shell`] drives a node: threads, ticks, channels, and no decisions.
//! - [`tls`], [`peer`], [`identity`] and [`forming`] make sure who speaks, and bring a cluster
//!   into being.
//! - [`rpc`] is what clients see, [`admin`] what probes and scrapers see ([`metrics`]).
//! - [`server`] puts one node with its listeners together; [`serve`] is that as a process and
//!   [`dev`] several of them in one process, for trying things out.
//! - [`durable`] brings the files of a node together, [`offline`] works on them while no node runs;
//!   [`secrets`] are the keys that all members share.
//! - [`config`], [`cli`], [`logging`], [`lines`] and [`shutdown`] are the edges of the process.
//!
//! The feature `lab`, never a default, adds a module `lab`: faults that the server does to itself.
//!
//! # Two programs in one
//!
//! The binary is the server `kvstore`. Started under the name `kv` it is the command line client,
//! so that `kvstore dev` can offer `kv` without a second file.
//!
//! # Left out so far
//!
//! Access rules (every client certificate of the CA is admin), leases, watches, reloading of
//! certificates, the web console.

pub mod admin;
pub mod cli;
pub mod config;
pub mod consistency;
pub mod dev;
pub mod durable;
pub mod forming;
pub mod identity;
#[cfg(feature = "lab")]
pub mod lab;
pub mod lines;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod offline;
pub mod peer;
pub mod replication;
pub mod rpc;
pub mod secrets;
pub mod serve;
pub mod server;
pub mod shell;
pub mod shutdown;
pub mod tls;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

/// Runs the program under whose name this process was started.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.first().is_some_and(|name| is_client(name)) {
        return ExitCode::from(client::cli::main(args));
    }
    cli::run(args)
}

/// Whether the name of the program says that the command line client is wanted.
fn is_client(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == "kv")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_chooses_the_program() {
        let cases = [("kv", true), ("/x/bin/kv", true), ("kvstore", false), ("/kv/kvstore", false)];
        for (name, client) in cases {
            assert_eq!(is_client(OsStr::new(name)), client, "{name}");
        }
    }
}
