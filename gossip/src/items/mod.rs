//! What a replica remembers, as items of a store.
//!
//! A replica gives out what has changed as items that are put or removed ([`Replica::take_items`](
//! crate::Replica::take_items)), and is rebuilt from all items together ([`restore`]). An item says what is, not what
//! became of it: so a store that keeps the newest value of each key is all that is needed, and items
//! of several operations that become durable together need each key once.
//!
//! ```text
//! key of an item                              value
//! "a"                                         the replica's actor
//! "c"                                         clock
//! "e" keyspace 8 B | key                      entry, with its values of up to 1 KiB
//! "f" number 4 B                              fold: actor | last counter
//! "h"                                         horizon, where it is not that of folds
//! "k" keyspace 8 B | key | actor 16 B | counter 8 B     a write that waits beside the replica
//! "n"                                         the sums of all others
//! "s" actor 16 B                              last counter of a former actor of this replica
//! "t"                                         highest stamp
//! "v" keyspace 8 B | key | actor 16 B | counter 8 B     a larger value
//! "x" keyspace 8 B | key | number 4 B         a further piece of an entry of more than 1 MiB
//! ```
//!
//! # Guarantees
//! - The items of a replica, in any order, give the same replica, but for contexts that were dropped: they
//!   come back if nothing of their key was written since. A context that is known does no harm, and that
//!   its dot is at or below the horizon is durable before anybody hears of it.
//! - An item that is missing, or is not what was written last, is an error and never a delete: what all of them come
//!   to is an item as well (`sum.rs`). What can be read all the same is [`Salvaged`].

mod codec;
mod dirty;
mod restore;
mod salvage;
pub(crate) mod stored;
mod sum;

pub use restore::{Restored, restore};
pub use salvage::Salvaged;
pub use stored::StoreHas;

pub(crate) use dirty::Dirty;

use bytes::Bytes;
use proto::limits::ITEM_VALUE_BYTES_MAX;

use crate::clock::Fold;
use crate::error::DecodeError;

/// Values of more bytes are items of their own, so that an entry is not large when another of its
/// siblings changes.
pub const INLINE_BYTES_MAX: usize = 1024;

/// An entry of more bytes is divided among several items: members may bring so many siblings and certificates of a key
/// together that no single item could hold them, and what a peer says is never refused for its size.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

// What a piece begins with is a few bytes.
const _: () = assert!(PIECE_BYTES_MAX + 64 <= ITEM_VALUE_BYTES_MAX);

/// One item that a store is to put or to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its key.
    pub key: Bytes,
    /// What to put; `None` removes it.
    pub value: Option<Bytes>,
}

/// What another replica that begins with the items of this one has in place of an item. `None`: the item says which
/// actors are this replica's own, and is left out. The clock still has all that they issued.
#[must_use]
pub fn handed_over(key: &Bytes, value: Bytes) -> Option<Bytes> {
    match codec::about(key) {
        Some(codec::About::Actor | codec::About::Sealed(_)) => None,
        Some(codec::About::Sums) => Some(sum::Sums::without_own(&value)),
        _ => Some(value),
    }
}

/// Whether it is the key of an item, of whatever replica.
#[must_use]
pub fn is_item(key: &Bytes) -> bool {
    codec::about(key).is_some()
}

/// Whether it is the key of the item that says what all others come to. A store without it is whole where the others are.
#[must_use]
pub fn is_sums(key: &Bytes) -> bool {
    matches!(codec::about(key), Some(codec::About::Sums))
}

/// The fold that an item says, if it says one.
#[must_use]
pub fn fold_of(key: &Bytes, value: &[u8]) -> Option<Fold> {
    let Some(codec::About::Fold(number)) = codec::about(key) else { return None };
    codec::read_fold(number, value).ok()
}

/// Why items give no replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemsDamaged {
    /// An item is not what was written.
    #[error("item {key:?}: {cause}")]
    Item {
        /// Its key.
        key: Bytes,
        /// What is wrong with it.
        cause: DecodeError,
    },
    /// There is no such kind of item.
    #[error("item {0:?} is of no known kind")]
    UnknownKind(Bytes),
    /// An entry refers to a value that is not there.
    #[error("the value of item {0:?} is missing")]
    ValueMissing(Bytes),
    /// A value to which no entry refers.
    #[error("no entry refers to item {0:?}")]
    ValueLeft(Bytes),
    /// An entry lacks one of its pieces.
    #[error("item {0:?} is missing, a piece of an entry")]
    PieceMissing(Bytes),
    /// A piece of no entry.
    #[error("item {0:?} is a piece of no entry")]
    PieceLeft(Bytes),
    /// What is there is not all, or not the newest.
    #[error("the items are not those that were written last: their sum is another one")]
    Sum,
    /// The entries do not fit the clock, or each other.
    #[error("the entries contradict each other: {0}")]
    Contradiction(String),
}

#[cfg(test)]
mod tests;
