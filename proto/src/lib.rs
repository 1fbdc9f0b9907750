//! The wire of kvstore: what clients and nodes say, and the names both use.
//!
//! - [`v1`]: the services of clients (`kv.v1`).
//! - [`log`]: entries, commands and frames of the write-ahead log (`kv.log.v1`).
//! - [`peer`]: what nodes say to each other (`kv.peer.v1`).
//! - [`dot`]: writes of eventual keyspaces, named in text.
//! - [`ids`]: identifiers as newtypes, so that an index is never taken for a term.
//! - [`limits`]: every limit of a request, with the check that enforces it.
//! - [`error`]: the catalogue of stable error codes (`KVnnnn`) and [`Failure`], the error that
//!   crosses the wire and says whether a write was applied.
//!
//! This crate does no I/O. Messages on the wire and on disk are ours alone; the types of the
//! consensus library never appear in them.

pub mod dot;
pub mod error;
pub mod ids;
pub mod limits;

mod generated;
mod secret_reply;

pub use error::{Applied, Code, Failure};
pub use generated::log::v1 as log;
pub use generated::peer::v1 as peer;
pub use generated::v1;
pub use ids::{
    ClientId, ClusterId, GroupId, Hex, KeyspaceId, LogIndex, NodeId, Revision, Term, WriteSeq,
};
