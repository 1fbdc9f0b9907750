//! The state machine of a data group: versioned keys, transactions, exactly-once writes.
//!
//! # Data model
//!
//! Each keyspace counts its own revisions from 1; a transaction that writes at least one key adds
//! one. A transaction that changes nothing (a failed condition without an else branch, the delete
//! of an absent key) adds none. A key's *versions* are immutable: each carries the revision that
//! wrote it, the revision that created the key and the number of changes since; a delete is a
//! tombstone version, and the next put creates the key anew. Every revision from
//! [`compacted`](Machine::compacted) to the current one can be read.
//!
//! Every write is a transaction, see `transaction.rs`; writes with an id run once, see `session.rs`.
//!
//! # Keyspaces
//!
//! Keyspaces are opened, altered and closed by entries of the log (`directory.rs`). An id is used
//! once: what is closed stays closed. Apply keeps count of the keys and bytes that live in each and
//! refuses what would exceed its limits (`keyspace.rs`).
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
//! reader may see is decided by one small record, written last (`cover.rs`, `checkpoint.rs`): it
//! names the log index A that the store covers and makes the records of the keyspaces at A valid,
//! with the revision of each. The rules:
//!
//! 1. Every other record is immutable and carries its place in time in its key: a version its
//!    revision (several in one item the lowest of them), an outcome of the exactly-once table its
//!    log index, the record of a keyspace the index of its checkpoint. So a checkpoint only adds.
//! 2. A version in the store is visible when its revision is at most the keyspace's revision at A.
//!    Revisions rise with the log, so this is the same as "was written at or before A": what a lost
//!    checkpoint left behind is skipped by the bound of the search. An outcome is visible when its
//!    index is at most A.
//! 3. What a lost checkpoint left behind is found when the store opens (`survey.rs`) and deleted
//!    before the next checkpoint writes. Replay writes most of it again, byte for byte; but what a
//!    compaction has made superfluous by then is not written, and must not come to light instead.
//! 4. Records are deleted only after the checkpoint that no longer needs them is durable, and
//!    tombstones only after what they hide (`garbage.rs`).
//! 5. A version may be deleted in several batches, and reads go on between them. So no reader looks
//!    at a version that is dead: a layer that has a newer one is asked first, and the history of a
//!    key is read down to the version that the compacted revision shows and no further.
//!
//! Each version also carries the log index that wrote it; where that contradicts rule 2, the store
//! is damaged and says so. Each item carries a checksum (`item.rs`), and each checkpoint a sum over
//! the versions of each keyspace; opening a store verifies all of them.
//!
//! # Packs
//!
//! A store pays for items, and a key that is overwritten often leaves many versions that history
//! keeps. So of the versions of a key in a frozen layer a checkpoint writes the newest, every
//! tombstone and every value that is too large as items of their own: they *stand alone*. Runs of
//! versions between those are written together as *packs* (`pack.rs`), each under the key of the
//! lowest revision in it. Why that is sound:
//!
//! 1. *Search.* The items of a key hold runs of its versions that do not overlap, and lie newest
//!    first, as the lowest revisions in them do. Reading at R finds the first item whose lowest
//!    revision is at most R. In the items before it every revision is above R; in this one at least
//!    the lowest is not; in those behind it every version is older than that. So it holds the
//!    newest version that is not newer than R.
//! 2. *Visibility.* The versions of a pack were in one layer, so one checkpoint wrote them, and all
//!    of them are newer than the checkpoint before: they are visible or invisible together. A
//!    reader that finds a visible lowest revision checks the newest one as well. A checkpoint that
//!    was lost may have cut its packs elsewhere than the next one does, since a compaction came in
//!    between; by rule 3 above none of them is left when those of the next one become visible.
//! 3. *Deletion.* What is older than a dead version of its key is dead too. So a pack is superfluous
//!    when its newest version is dead, and everything behind it in the key's range with it
//!    (`dead_packs.rs`). Until then it keeps what is dead in it, which readers pass over: this is so
//!    of at most one pack of each key. A tombstone stands alone because it hides older versions
//!    and has to go last (`garbage.rs`), when what is newer stays.
//! 4. *What needs no search.* The newest version of a key stands alone, so a write of a later layer
//!    replaces one that stands alone. Such a version is deleted by its name when it dies; a version
//!    that was replaced in its own layer is looked for (`Replacement::packed`). Opening a store
//!    checks that the first visible item of each key is no pack.
//!
//! # Compaction
//!
//! A compaction entry raises the oldest revision of a keyspace that can be read. Versions that no
//! revision shows any more are *dead* (`liveness.rs`): they count in no sum and no digest from this
//! entry on. They are found in a list in memory (`superseded.rs`), not in the store; those in the
//! active layer are freed at once, those in the store by the next checkpoint, except for those in a
//! pack that is still needed. What is due is decided by the leader, see
//! [`Machine::compaction_due`].
//!
//! # Items
//!
//! What a node remembers by itself is put and removed as *items* of keyspace 1 of a machine of its own
//! (`machine/items.rs`). Nobody reads an older revision of them, so the entry that replaces an item also
//! compacts to its own revision: there is no history, and no compaction is proposed.
//!
//! # Exports
//!
//! [`Machine::begin_export`] gives the state of the last finished checkpoint as records
//! (`export.rs`); an [`ImportJob`] builds a store from them. Both work in bounded steps and can be
//! dropped at any of them. How records become a file, [`export`](crate::export) says.
//!
//! # Renewal
//!
//! A store may take several times the room of what lives in it. [`Machine::begin_renewal`] gives a
//! job that copies it into an empty one, and [`Machine::end_renewal`] puts that in its place
//! (`renew.rs` says why nothing else changes). Neither a checkpoint nor an export runs meanwhile.
//!
//! # When the store fails
//!
//! A [`StateError`](crate::state::StateError) from apply or a read: the store is given up, and the
//! log is replayed into another one. From a checkpoint: [`Machine::abandon_checkpoint`] keeps the
//! machine in service until it can be replaced. From an export: the receiver's error leaves the
//! machine as it was; one of the store is as one from a read. So it is with a renewal, where the new
//! store stands for the receiver.
//!
//! # Determinism
//!
//! Apply is a function of the log alone: it never reads a clock, a random number or an old
//! revision (etcd-io/etcd#18667). What it refuses, it refuses on every replica alike, as a code in
//! the outcome. The limits it checks ([`proto::limits`]) are part of this function; changing one
//! needs a step that all replicas take at the same index. A [`StateError`](crate::state::StateError)
//! is local: nothing was applied, the store is given up, and the log is replayed into another one.

mod checkpoint;
mod cover;
mod cursor;
mod dead_packs;
mod digest;
mod directory;
mod error;
mod export;
mod garbage;
mod held;
mod history;
mod import;
mod item;
mod key;
mod keyspace;
mod layer;
mod liveness;
mod machine;
mod outcome;
mod pack;
mod range;
mod recall;
mod renew;
mod retention;
mod retired;
mod session;
mod superseded;
mod survey;
mod transaction;
mod version;
mod view;

pub use checkpoint::{CheckpointJob, CheckpointProgress};
pub use directory::DEFAULT_KEYSPACE;
pub use error::ReadError;
pub use export::{ExportJob, ExportProgress, ExportStepError};
pub use history::HistoryPage;
pub use import::{ImportError, ImportJob};
pub use keyspace::KeyspaceInfo;
pub use machine::{Machine, MachineOptions};
pub use range::{RangePage, RangeQuery, SCAN_ENTRIES_MAX};
pub use recall::Recall;
pub use renew::{RenewError, RenewJob, RenewProgress};
pub use retention::{
    COMPACTION_REVISIONS_MAX, COMPACTION_VERSIONS_MAX, HISTORY_REVISIONS, HistoryClock,
};

#[cfg(test)]
mod tests;
