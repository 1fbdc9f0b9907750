//! Sessions: how one replica brings another up to its own position.
//!
//! ```text
//! R -> S   Hello       R's clock, horizon, root
//! S -> R   Opening     whether the session is flagged
//! S -> R   Records     what R lacks of the position, in the order of the dots
//! S -> R   Entry       a whole key, to be used at the close
//!          (flagged: R walks the tree and asks for each key that differs)
//! S -> R   End         clock of the position, horizon and highest stamp of now; R closes
//! ```
//!
//! Push-pull is two of these, one each way. [`Serving`] is S, [`Taking`] is R. What travels is a
//! [`Part`] with the session's number and its own, so a part that was lost is noticed. Hellos and parts have bytes of
//! their own ([`Hello::encode`], [`Part::encode`]); the walk of the tree has none yet.
//!
//! # Guarantees
//! - Clock, horizon and the list of dots are of one position, fixed in one call. Records are read when
//!   their turn comes.
//! - A listed write that is gone by then is told by the whole present entry of its key and eff(k): what
//!   has a context as records, the rest staged for the close. So is one whose context was dropped: on
//!   an aborted session it would have no meaning, and R's clock would hide it from the next one.
//! - A session does not close if a record of it was not applied, a part was lost, R started or minted
//!   since its Hello, or it is flagged and the tree was not walked.
//! - It does not close either if S dropped something meanwhile that R had not said to have. The
//!   horizon of the position does not tell of that, and R would claim a dot whose write it never saw.
//!   A sender that forgets only what the receivers of its open sessions have keeps this rare.
//! - Before a whole key leaves, and before one is used, its leaf is verified. Who is found to be damaged neither
//!   serves nor drops anything: what is missing there was never said to be obsolete.
//! - What was applied stays applied. A session that is run again skips it.

mod codec;
mod parcel;
mod serving;
mod taking;

use proto::NodeId;

pub use codec::MESSAGE_BYTES_MAX;
pub(crate) use parcel::clock_bytes;
pub use serving::{ASKED_MAX, Serving};
pub use taking::{Ended, NotClosed, Taken, Taking};

use crate::actor::ActorId;
use crate::clock::{Clock, FoldNumber};
use crate::dot::Dot;
use crate::hlc::Stamp;
use crate::horizon::Horizon;
use crate::position::Leaving;
use crate::record::Record;
use crate::replica::{Replica, Staged};

/// How far a member had issued dots at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The member.
    pub node: NodeId,
    /// The last dots of all of its actors that are not folded.
    pub last: Vec<Dot>,
    /// How long ago that was, as far as the sender can prove, in milliseconds.
    pub age_ms: u64,
}

/// What each side says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Names the session; the asker never uses a number twice with one actor.
    pub session: u64,
    /// Which data this is: a replica of other data is not met.
    pub epoch: u64,
    /// The actor of the speaker. Two nodes with one actor share a copied disk.
    pub actor: ActorId,
    /// The clock of the speaker.
    pub clock: Clock,
    /// Its horizon.
    pub horizon: Horizon,
    /// Up to which fold it knows all of them: what bytes for it may name.
    pub folds: FoldNumber,
    /// Up to which round it knows the actors that retire: since then it takes nothing of them but in sessions.
    pub retiring: u64,
    /// It is to leave the group, and takes no writes of clients any more: its own actor issues nothing but collapses.
    pub leaves: bool,
    /// The root of its tree, without removed keyspaces.
    pub root: u128,
    /// What it knows of the members' counters.
    pub beats: Vec<Beat>,
}

impl Hello {
    /// What the replica says now.
    ///
    /// # Panics
    /// Before the first start of the replica.
    #[must_use]
    pub fn of(replica: &Replica, session: u64, epoch: u64, beats: Vec<Beat>) -> Leaving<Self> {
        let state = replica.state();
        let hello = Self {
            session,
            epoch,
            actor: state.actor().expect("a replica that speaks was started"),
            clock: state.clock().clone(),
            horizon: state.horizon().clone(),
            folds: state.folds().through(),
            retiring: replica.retiring().round,
            leaves: replica.leaves() && replica.kept().is_empty(),
            root: replica.root(),
            beats,
        };
        Leaving { after: replica.position(), what: hello }
    }
}

/// What a Hello tells the replica that hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// Both have the same.
    Same,
    /// There may be something to send.
    Differs,
    /// The clocks are equal and the roots are not: one of the two is damaged. Both scrub, and nobody
    /// drops anything meanwhile. Or this replica knows that it is damaged, and serves nobody.
    Damaged,
    /// The other knows dots of this replica's actor that were never issued here, or has the same actor.
    /// Mint, raise the alarm, and meet again.
    OwnActorAhead,
    /// The other is of other data.
    OtherData,
}

/// Judges a Hello.
#[must_use]
pub fn meet(replica: &Replica, epoch: u64, hello: &Hello) -> Meeting {
    let state = replica.state();
    if hello.epoch != epoch {
        Meeting::OtherData
    } else if !replica.damage().is_empty() {
        Meeting::Damaged
    } else if state.actor() == Some(hello.actor) || replica.is_ahead(&hello.clock) {
        Meeting::OwnActorAhead
    } else if !state.clock().same_dots(&hello.clock) {
        Meeting::Differs
    } else if replica.root() == hello.root {
        Meeting::Same
    } else {
        Meeting::Damaged
    }
}

/// One part of a session, from its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The number of the session.
    pub session: u64,
    /// Counts the parts, from that of the opening on.
    pub number: u64,
    /// What it says.
    pub body: PartBody,
}

/// What a part says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartBody {
    /// The first part.
    Opening {
        /// Records alone do not tell everything: the receiver walks the tree as well.
        is_flagged: bool,
    },
    /// Writes.
    Records(Vec<Record>),
    /// What is said of a key, after those of its writes that have a context.
    Entry(Staged),
    /// All was sent.
    End {
        /// K of the position.
        clock: Clock,
        /// F of now.
        horizon: Horizon,
        /// The highest stamp of now.
        highest: Stamp,
    },
    /// The sender dropped something meanwhile; the session is to be run again.
    Void,
    /// The sender has lost something of a key that it was about to tell, so nothing that it lacks means anything. It
    /// serves nobody until it was rebuilt.
    Damaged,
}

#[cfg(test)]
mod tests;
