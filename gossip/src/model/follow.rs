//! What a world tells whoever follows it: each change of a replica, as it is made.

use super::dots::{Dot, Dots};
use super::operation::Basis;
use super::replica::Replica;
use super::session::Sent;
use super::truth::Truth;
use super::world::Setting;

/// Follows a world, to do the same with something else and to compare.
///
/// A change of a replica is first told as an [`Effect`], and then, once all that belongs to it is done,
/// [`Follow::settled`]: what lies between two of these is one batch of that replica's log.
pub trait Follow {
    /// A schedule begins with these replicas.
    fn begin(&mut self, _setting: &Setting, _replicas: &[Replica]) {}

    /// Something happens. Only what it says is true already; the replica may not be changed yet.
    fn effect(&mut self, _truth: &Truth, _effect: Effect) {}

    /// A change of a replica is complete.
    fn settled(&mut self, _truth: &Truth, _at: u8, _replica: &Replica) {}
}

/// Nobody follows.
impl Follow for () {}

/// What a replica begins on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disk {
    /// Its own, as it was.
    Same,
    /// Its own, without the last so many batches, of which nobody was told.
    Cut(usize),
    /// The copy that was made of it.
    Image,
    /// An empty one.
    Empty,
}

/// Why a write was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A client asked, with this as its context.
    Client(Basis),
    /// A client asked again, and the replica had lost the first with its last batches.
    Again(Dot),
    /// This value was past its deadline.
    Expiry(Dot),
    /// This certificate met values that lose to it.
    Collapse(Dot),
    /// This value waited without its context, and nobody knew of it.
    Rewrite(Dot),
}

/// What happens in a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Effect {
    /// A replica begins, with a new actor.
    Started { at: u8, actor: u8, disk: Disk },
    /// A replica is no member any more.
    Left { at: u8 },
    /// A copy of a disk is made.
    Imaged { at: u8 },
    /// A replica makes a write.
    Made { at: u8, dot: Dot, cause: Cause, now: u16 },
    /// A record arrives.
    Applied { at: u8, dot: Dot },
    /// A certificate is dropped; with `stable` all members have it and no lost disk can bring back what it ended.
    ForgotCertificate { at: u8, dot: Dot, stable: bool },
    /// The context of a value is dropped.
    ForgotContext { at: u8, dot: Dot },
    /// A certificate goes to sleep.
    Slept { at: u8, dot: Dot, stable: bool },
    /// Dormant certificates wake, because an obsolete copy of this write showed up.
    Woke { at: u8, dot: Dot },
    /// A client keeps the token of a read.
    Read { at: u8, key: u8, slot: u8 },
    /// A client asks with a session token that has seen this much.
    Session { client: u8, at: u8, seen: Dots, covered: bool },
    /// A client's session has seen all that a replica knows, or a write of its own.
    Saw { client: u8, at: u8, own: Option<Dot> },
    /// A session begins.
    Began { slot: u8, from: u8, to: u8, flagged: bool },
    /// A session sends something; with `refused` its records are not taken.
    Sent { slot: u8, sent: Sent, refused: bool },
    /// A session is over, at its end.
    Ended { slot: u8, closed: bool },
    /// A session is cut off.
    Cut { slot: u8 },
    /// A quorum read begins.
    Asked { slot: u8, key: u8 },
    /// A replica answers a quorum read.
    Answered { slot: u8, at: u8 },
    /// The answers of a quorum read are joined; a client keeps the token.
    Joined { slot: u8, answer: Dots, seen: Dots },
    /// A replica takes from a quorum read what it lacks.
    Repaired { slot: u8, at: u8, dot: Dot },
    /// Part of a disk is lost, and the replica does not know it. What it was is in the replica that settles.
    Damaged { at: u8 },
    /// What was lost was found, and is mended.
    Rebuilt { at: u8 },
    /// The clock of a disk is lost, which shows at once.
    ClockLost { at: u8 },
    /// A replica is damaged, or holds what was declared lost, and is about to begin with an empty disk. What it takes
    /// back follows as records that arrive.
    StartedOver { at: u8 },
    /// What a replica that started over could read without a context waits beside it from now on.
    Kept { at: u8 },
    /// What waited is known by now.
    LetGo { at: u8, dot: Dot },
    /// Some dots were declared lost.
    Retired,
}
