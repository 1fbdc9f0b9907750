//! What happened in schedules, counted.

use std::ops::AddAssign;

/// Something that happened. All of them should, in many schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    Put,
    Delete,
    OverNothing,
    OverSeen,
    WriteRefused,
    Read,
    ReadRefused,
    Sibling,
    Message,
    MessageLost,
    MessageDoubled,
    MessageDelayed,
    MessageFromThePast,
    CutOff,
    CutPair,
    Restart,
    CrashBeforeSync,
    CrashAfterSync,
    DiskLost,
    DiskCopied,
    DiskRolledBack,
    HourPassed,
    ActorRetired,
    ActorFolded,
    RetiringRefused,
    Exchange,
    Closed,
    Flagged,
    NotClosed,
    Forgotten,
    ForgottenByAge,
    Looked,
    WriteLost,
}

impl Event {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 33] = [
        Self::Put,
        Self::Delete,
        Self::OverNothing,
        Self::OverSeen,
        Self::WriteRefused,
        Self::Read,
        Self::ReadRefused,
        Self::Sibling,
        Self::Message,
        Self::MessageLost,
        Self::MessageDoubled,
        Self::MessageDelayed,
        Self::MessageFromThePast,
        Self::CutOff,
        Self::CutPair,
        Self::Restart,
        Self::CrashBeforeSync,
        Self::CrashAfterSync,
        Self::DiskLost,
        Self::DiskCopied,
        Self::DiskRolledBack,
        Self::HourPassed,
        Self::ActorRetired,
        Self::ActorFolded,
        Self::RetiringRefused,
        Self::Exchange,
        Self::Closed,
        Self::Flagged,
        Self::NotClosed,
        Self::Forgotten,
        Self::ForgottenByAge,
        Self::Looked,
        Self::WriteLost,
    ];

    /// Its name, for people and for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "puts",
            Self::Delete => "deletes",
            Self::OverNothing => "writes_over_nothing",
            Self::OverSeen => "writes_with_a_token",
            Self::WriteRefused => "writes_refused",
            Self::Read => "reads",
            Self::ReadRefused => "reads_refused",
            Self::Sibling => "reads_of_siblings",
            Self::Message => "messages",
            Self::MessageLost => "messages_lost",
            Self::MessageDoubled => "messages_doubled",
            Self::MessageDelayed => "messages_delayed",
            Self::MessageFromThePast => "messages_replayed",
            Self::CutOff => "members_cut_off",
            Self::CutPair => "pairs_cut",
            Self::Restart => "restarts",
            Self::CrashBeforeSync => "crashes_before_sync",
            Self::CrashAfterSync => "crashes_after_sync",
            Self::DiskLost => "disks_lost",
            Self::DiskCopied => "disks_copied",
            Self::DiskRolledBack => "disks_rolled_back",
            Self::HourPassed => "hours_passed",
            Self::ActorRetired => "actors_retired",
            Self::ActorFolded => "actors_folded",
            Self::RetiringRefused => "late_writes_of_former_actors",
            Self::Exchange => "exchanges",
            Self::Closed => "sessions_closed",
            Self::Flagged => "sessions_flagged",
            Self::NotClosed => "sessions_not_closed",
            Self::Forgotten => "forgotten_once_stable",
            Self::ForgottenByAge => "forgotten_by_age",
            Self::Looked => "looks_of_the_oracle",
            Self::WriteLost => "writes_lost_with_their_disks",
        }
    }
}

/// How often each thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts([u64; Event::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Event::ALL.len()])
    }
}

impl Counts {
    /// It happened once more.
    pub const fn count(&mut self, event: Event) {
        self.add(event, 1);
    }

    /// It happened so many times more.
    pub const fn add(&mut self, event: Event, times: u64) {
        self.0[event as usize] += times;
    }

    /// How often it happened.
    #[must_use]
    pub const fn of(&self, event: Event) -> u64 {
        self.0[event as usize]
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}
