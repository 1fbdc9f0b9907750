//! Promises that a schedule can break.

use super::dots::Dot;

/// A broken promise, with the replica and the write that show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Violation {
    /// One dot stands for two writes.
    DotReused { at: u8 },
    /// I1: a value that was obsolete here is stored again.
    Returned { at: u8, dot: Dot },
    /// I2: a value is live although a superseding write is known here.
    Zombie { at: u8, dot: Dot },
    /// Two live siblings, of which one's dot is in the other's context.
    FalseSibling { at: u8, dot: Dot },
    /// I3: a value is known and not stored, and nothing known here supersedes it.
    Vanished { at: u8, dot: Dot },
    /// I4: equal clocks and unequal live siblings.
    StoresDiffer { at: u8, other: u8 },
    /// Sessions alone did not make all members agree.
    NoAgreement { at: u8, other: u8 },
    /// After the heal nobody knows a write that was on a disk which survived.
    Lost { dot: Dot },
    /// A quorum write is on no disk although few enough disks failed.
    QuorumLost { dot: Dot },
    /// A quorum read misses a quorum write that was acknowledged before it.
    QuorumMissed { dot: Dot },
    /// The answer of a quorum read lacks a value, or has one that is obsolete.
    QuorumAnswer { dot: Dot },
    /// A session sees something again that was gone, or misses its own write.
    SessionBackwards { client: u8, at: u8 },
    /// A replica claims to be as fresh as it is not.
    NotFresh { at: u8, dot: Dot },
    /// A key of the last writer shows another value than the last one.
    WrongWinner { key: u8 },
    /// An expiry ended a value that had not expired.
    ExpiredOther { at: u8, dot: Dot },
    /// A repeated write went over a write that superseded its first execution.
    RetriedOver { dot: Dot },
    /// A retirement declares a value lost that a member holds.
    RetiredHeld { at: u8, dot: Dot },
}
