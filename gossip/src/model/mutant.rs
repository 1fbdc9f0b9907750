//! Broken variants of the rules.

/// A rule broken on purpose. Each has to be found by the invariants, else they prove nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// A record's context goes into the clock when the record is applied.
    ContextIntoClock,
    /// What a context names and has not arrived yet is forgotten.
    PendingNotStored,
    /// A token names the siblings that were read, not what they superseded.
    TokenOfSiblings,
    /// A token names the clock up to the first hole of each actor, and the siblings.
    TokenWithoutExceptions,
    /// A token names the clock and not what is pending for the key.
    ClockAsToken,
    /// Dropping a certificate or a context does not raise the horizon.
    HorizonNotRaised,
    /// A session does not tell that what it carries was dropped.
    FlagIgnored,
    /// What is pending goes with the certificate.
    PendingLostWithCertificate,
    /// A closed session passes on the clock and not the horizon.
    HorizonNotInherited,
    /// A session carries the store as it is, and closes with the clock as it is then.
    LiveRead,
    /// A replica that was rolled back goes on with its actor.
    DotReused,
    /// What a peer lacks is dropped when it is seen, not when the session closes.
    DropsBeforeClose,
    /// What is known and not stored is taken again: certificates alone decide.
    NoClockRule,
    /// Rumors carry an entry and its sender's clock in place of each write's context.
    SenderClockAsContext,
    /// A session closes although a record of it was refused.
    RefusedButClosed,
    /// A leaf that lost entries is served as if nothing was the matter.
    DamagedLeafServed,
    /// A damaged replica that starts over forgets what it can read without a context.
    KeptForgotten,
    /// The number of a start is read from the disk.
    IncarnationFromDisk,
    /// A rollback is noticed only when a peer knows more of one's own writes.
    RollbackByHandshake,
    /// One session ends the recovery.
    GateAfterOneSession,
    /// A retired actor's writes count as known as soon as its retirement is heard of.
    RetireWhenHeard,
    /// A quorum read repairs with a record of an actor that retires.
    RepairOfRetiring,
    /// A former actor of a living node is folded at the counter on that node's disk.
    FoldAtSeal,
    /// A write is repeated at another replica as a write over what that one holds.
    RetryElsewhere,
    /// A write is repeated at a replica that lost its disk since.
    RetryAfterLoss,
    /// The last writer wins among live siblings only.
    LwwWithoutCollapse,
    /// Where the last writer wins, a certificate goes when it is stable, lost disks or not.
    LwwStableOnly,
    /// Where the last writer wins, a replica that lost its disk takes writes before it has caught up
    /// with the stamps of others.
    LwwWritesAtOnce,
    /// A collapse has a stamp of its own, not the place of the delete that it stands for.
    CollapseRankedAnew,
    /// An expiry covers all that its writer holds.
    ExpiryOfAll,
    /// An expiry covers the write that expired and not what that one superseded.
    ExpiryOfOne,
    /// A flagged session looks at keys that differ, and passes on nothing pending.
    WalkOfDiffering,
    /// A flagged session drops what the sender lacks, and the horizon stays where the sender did not
    /// know what that had superseded.
    WalkDropWithoutHorizon,
    /// A certificate leaves the stream for its dormant sites, and the horizon stays.
    DormantWithoutHorizon,
    /// A record that is gone since the session began is left out.
    VanishedSkipped,
    /// A record that is gone since the session began is replaced by the present siblings.
    VanishedBySiblings,
    /// What left the sender's store during a session does not count against the session.
    DropDuringSession,
    /// A beat names its node's present actor only.
    BeatOfOneActor,
    /// A replica that lost its disk beats as soon as it is no longer recovering.
    BeatAfterGate,
    /// A freshness claim asks nothing of members that were removed.
    DepartedForgotten,
    /// Members change again before the last change has been adopted by a majority.
    EpochNotAdopted,
    /// A member leaves once each of its writes is held by one other.
    DrainToOne,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 42] = [
        Self::ContextIntoClock,
        Self::PendingNotStored,
        Self::TokenOfSiblings,
        Self::TokenWithoutExceptions,
        Self::ClockAsToken,
        Self::HorizonNotRaised,
        Self::FlagIgnored,
        Self::PendingLostWithCertificate,
        Self::HorizonNotInherited,
        Self::LiveRead,
        Self::DotReused,
        Self::DropsBeforeClose,
        Self::NoClockRule,
        Self::SenderClockAsContext,
        Self::RefusedButClosed,
        Self::DamagedLeafServed,
        Self::KeptForgotten,
        Self::IncarnationFromDisk,
        Self::RollbackByHandshake,
        Self::GateAfterOneSession,
        Self::RetireWhenHeard,
        Self::RepairOfRetiring,
        Self::FoldAtSeal,
        Self::RetryElsewhere,
        Self::RetryAfterLoss,
        Self::LwwWithoutCollapse,
        Self::LwwStableOnly,
        Self::LwwWritesAtOnce,
        Self::CollapseRankedAnew,
        Self::ExpiryOfAll,
        Self::ExpiryOfOne,
        Self::WalkOfDiffering,
        Self::WalkDropWithoutHorizon,
        Self::DormantWithoutHorizon,
        Self::VanishedSkipped,
        Self::VanishedBySiblings,
        Self::DropDuringSession,
        Self::BeatOfOneActor,
        Self::BeatAfterGate,
        Self::DepartedForgotten,
        Self::EpochNotAdopted,
        Self::DrainToOne,
    ];
}
