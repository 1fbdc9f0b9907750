//! What an operation changed.

mod codec;

pub use codec::{decode, encode};

use crate::actor::ActorId;
use crate::clock::{Clock, Fold};
use crate::dot::Dot;
use crate::entry::Sibling;
use crate::hlc::Stamp;
use crate::record::EntryKey;

/// One change of a replica's state.
///
/// An operation answers with all of its changes, in order. They become durable together, in one batch
/// of the write-ahead log, before anything that tells of them leaves the node. Replayed in order onto
/// the state before, they give the state after; an operation itself does no more than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A fresh actor issues dots from now on; the former one is sealed at its last counter.
    Started {
        /// The fresh actor.
        actor: ActorId,
    },
    /// The replica's actor issued the next dot.
    Issued {
        /// The dot.
        dot: Dot,
    },
    /// A dot from elsewhere is known from now on.
    Learned {
        /// The dot.
        dot: Dot,
    },
    /// A write is stored; of one that was stored already, its context was dropped.
    Put {
        /// Its key.
        key: EntryKey,
        /// Its name.
        dot: Dot,
        /// What is stored.
        sibling: Sibling,
    },
    /// A write is stored no longer, or sleeps no longer.
    Removed {
        /// Its key.
        key: EntryKey,
        /// Its name.
        dot: Dot,
    },
    /// A stored certificate sleeps from now on.
    Slept {
        /// Its key.
        key: EntryKey,
        /// Its name.
        dot: Dot,
    },
    /// A certificate that slept is stored again.
    Woke {
        /// Its key.
        key: EntryKey,
        /// Its name.
        dot: Dot,
    },
    /// What is remembered of a key beside its writes. Goes with the entry, when that is empty.
    Header {
        /// The key.
        key: EntryKey,
        /// What is pending from now on.
        pending: Clock,
        /// The highest stamp from now on.
        stamp: Stamp,
    },
    /// The horizon reaches this dot.
    Raised {
        /// The dot.
        dot: Dot,
    },
    /// The highest stamp that was seen and moved the clock is this one.
    Stamped {
        /// The stamp.
        stamp: Stamp,
    },
    /// A session was closed: these dots are known from now on.
    Joined {
        /// The dots that were not known.
        clock: Clock,
    },
    /// The catalogue has folded an actor. Bytes may name the fold from now on.
    FoldLearned {
        /// The fold.
        fold: Fold,
    },
    /// The clock names an actor by its fold.
    Folded {
        /// The fold.
        fold: Fold,
    },
}
