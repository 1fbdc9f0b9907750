//! The client library of kvstore and the `kv` command.
//!
//! [`Client`] talks to a cluster over mutual TLS. Any node takes any call; the client remembers the
//! leader, goes on to the next endpoint when one does not answer, and repeats what is safe to repeat:
//! reads always, writes under one id, so that they execute exactly once (in an eventual keyspace at the node
//! that first took them alone), changes of the cluster itself
//! only while they were certainly not applied. What cannot be answered in
//! time ends in a [`ClientError`] that says whether a write was applied: no, or unknown.
//!
//! - `client`: the calls. `retry`: attempts and certainty. `routes`: which endpoint.
//!   `connection`: HTTP/2 over TLS. `tls`: who is trusted. `write_ids`: exactly once.
//! - `siblings`: the values of a key of an eventual keyspace, and how they are merged. `contexts`: what
//!   was read of such keys. `kinds`: which keyspaces are such.
//! - [`Pages`]: a range, page by page, at one revision.
//! - [`Members`], [`Keyspaces`], [`NodeClient`], [`SnapshotParts`]: what operators need.
//! - [`pki`]: certificates; the server uses it too.
//! - [`version`]: which build this is.
//! - [`cli`]: the `kv` command. [`bench`](mod@bench): its load generator.

pub mod bench;
pub mod cli;
pub mod pki;
pub mod version;

mod calls;
mod client;
mod config;
mod connection;
mod contexts;
mod durability;
mod error;
mod keyspaces;
mod kinds;
mod members;
mod node;
mod pages;
mod retry;
mod routes;
mod siblings;
mod snapshot;
mod tls;
mod write_ids;

pub use client::Client;
pub use config::{
    CONNECTIONS_MAX, CallOptions, Config, DEFAULT_KEYSPACE, DEFAULT_TIMEOUT, Retry, TIMEOUT_MAX,
};
pub use error::{ClientError, Unreached, UnreachedReason, exit};
pub use keyspaces::Keyspaces;
pub use members::Members;
pub use node::NodeClient;
pub use pages::{Pages, prefix_end};
pub use siblings::Siblings;
pub use snapshot::{SaveError, SnapshotParts};
