//! How often everything happened.

use super::operation::Operation;

/// Something worth counting that an operation may or may not come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
#[repr(usize)]
pub enum Event {
    Schedule,
    SiblingsTwo,
    SiblingsFour,
    RefusedObsolete,
    PendingLeft,
    ContextOfOther,
    SessionClosed,
    SessionFlagged,
    SessionRefused,
    SessionSpoiled,
    RecordVanished,
    WalkEqual,
    DroppedCertificate,
    DroppedContext,
    DroppedStable,
    Slept,
    Reactivated,
    Wiped,
    RolledBack,
    BatchesCut,
    Recovered,
    DamageFound,
    DamageRebuilt,
    StartedOver,
    RewrittenWithoutContext,
    KeptKnown,
    RetirementBegun,
    RetirementDone,
    RetiredLost,
    RefusedRetiring,
    Emptied,
    QuorumAcked,
    QuorumPartial,
    QuorumReadDone,
    QuorumRepaired,
    EpochRefused,
    MemberAdded,
    MemberRemoved,
    SessionServed,
    SessionNotYet,
    SessionLost,
    RetriedHere,
    RetriedAfterCrash,
    RetriedElsewhere,
    RetryUnknown,
    Expired,
    ExpiredBesideOthers,
    Collapsed,
    WinnerShown,
    WinnerIsDelete,
    BeatTaken,
    ClaimMade,
    EqualClocks,
    RecoveringRefused,
}

impl Event {
    /// Number of events.
    pub const COUNT: usize = Self::RecoveringRefused as usize + 1;

    /// All of them, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Schedule,
        Self::SiblingsTwo,
        Self::SiblingsFour,
        Self::RefusedObsolete,
        Self::PendingLeft,
        Self::ContextOfOther,
        Self::SessionClosed,
        Self::SessionFlagged,
        Self::SessionRefused,
        Self::SessionSpoiled,
        Self::RecordVanished,
        Self::WalkEqual,
        Self::DroppedCertificate,
        Self::DroppedContext,
        Self::DroppedStable,
        Self::Slept,
        Self::Reactivated,
        Self::Wiped,
        Self::RolledBack,
        Self::BatchesCut,
        Self::Recovered,
        Self::DamageFound,
        Self::DamageRebuilt,
        Self::StartedOver,
        Self::RewrittenWithoutContext,
        Self::KeptKnown,
        Self::RetirementBegun,
        Self::RetirementDone,
        Self::RetiredLost,
        Self::RefusedRetiring,
        Self::Emptied,
        Self::QuorumAcked,
        Self::QuorumPartial,
        Self::QuorumReadDone,
        Self::QuorumRepaired,
        Self::EpochRefused,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::SessionServed,
        Self::SessionNotYet,
        Self::SessionLost,
        Self::RetriedHere,
        Self::RetriedAfterCrash,
        Self::RetriedElsewhere,
        Self::RetryUnknown,
        Self::Expired,
        Self::ExpiredBesideOthers,
        Self::Collapsed,
        Self::WinnerShown,
        Self::WinnerIsDelete,
        Self::BeatTaken,
        Self::ClaimMade,
        Self::EqualClocks,
        Self::RecoveringRefused,
    ];
}

/// Counts of operations and events over many schedules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters {
    /// How often each kind of operation was drawn.
    pub operations: [u64; Operation::KINDS],
    events: [u64; Event::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self { operations: [0; Operation::KINDS], events: [0; Event::COUNT] }
    }
}

impl Counters {
    /// Counts an event.
    #[inline]
    pub fn count(&mut self, event: Event) {
        self.events[event as usize] += 1;
    }

    /// How often an event occurred.
    pub fn of(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.operations.iter_mut().zip(other.operations) {
            *mine += theirs;
        }
        for (mine, theirs) in self.events.iter_mut().zip(other.events) {
            *mine += theirs;
        }
    }

    /// All counts with their names, operations first.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let operations = Operation::NAMES
            .iter()
            .zip(self.operations)
            .map(|(name, count)| (format!("op {name}"), count));
        let events = Event::ALL.iter().map(|&event| (format!("{event:?}"), self.of(event)));
        operations.chain(events).collect()
    }
}
