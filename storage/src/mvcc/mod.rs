//! The state machine of a data group: versioned keys, transactions, exactly-once writes.
//!
//! # Data model
//!
//! Each keyspace counts its own revisions from 1; a transaction that writes at least one key adds
//! one. A transaction that changes nothing (a failed condition without an else branch, the delete
//! of an absent key) adds none. A key's *versions* are immutable: each carries the revision that
//! wrote it, the revision that created the key and the number of changes since; a delete is a
//! tombstone version, and the next put creates the key anew. All versions are kept, so every
//! revision from [`compacted`](Machine::compacted) on can be read.
//!
//! Every write is a transaction, see `transaction.rs`; writes with an id run once, see `session.rs`.
//!
//! # Layers
//!
//! [`Machine::apply`] writes into the *active* layer in memory (`layer.rs`). A checkpoint freezes
//! it, moves it into the [`StateStore`](crate::StateStore) and drops it; meanwhile a new active
//! layer takes the writes. The newest version of a key is therefore the first one found in: active
//! layer, frozen layer, store (`view.rs`). At most one layer is frozen. Its content is in the store
//! when the checkpoint is finished; the layer is kept until the next one begins, as a cache for
//! reads of single keys.
//!
//! # Checkpoints
//!
//! The store is updated in place and a crash may keep any part of an unfinished checkpoint. What a
//! reader may see is decided by one small record, written last (`checkpoint.rs`): it names the log
//! index A that the store covers and the revision of each keyspace at A. The rules:
//!
//! 1. Every other record is immutable and carries its place in time in its key: a version its
//!    revision, an outcome of the exactly-once table its log index. So a checkpoint only adds.
//! 2. A version in the store is visible when its revision is at most the keyspace's revision in
//!    the checkpoint record. Revisions rise with the log, so this is the same as "was written at
//!    or before A" and needs no sweep when the store opens: what a lost checkpoint left behind is
//!    skipped by the bound of the search, at no cost. An outcome is visible when its index is at
//!    most A.
//! 3. Replay from A + 1 is deterministic and writes the same records again, byte for byte.
//! 4. Records are deleted only after the checkpoint that no longer needs them is durable.
//!
//! Each version also carries the log index that wrote it; where that contradicts rule 2, the store
//! is damaged and says so.
//!
//! # Determinism
//!
//! Apply is a function of the log alone: it never reads a clock, a random number or an old
//! revision (etcd-io/etcd#18667). What it refuses, it refuses on every replica alike, as a code in
//! the outcome. The limits it checks ([`proto::limits`]) are part of this function; changing one
//! needs a step that all replicas take at the same index. A [`StateError`](crate::state::StateError)
//! is local: nothing was applied, the store is given up, and the log is replayed into another one.

mod checkpoint;
mod cursor;
mod digest;
mod error;
mod key;
mod layer;
mod machine;
mod outcome;
mod range;
mod session;
mod transaction;
mod version;
mod view;

pub use checkpoint::{CheckpointJob, CheckpointProgress};
pub use error::ReadError;
pub use machine::{DEFAULT_KEYSPACE, Machine, MachineOptions};
pub use range::{RangePage, RangeQuery};

#[cfg(test)]
mod tests;
